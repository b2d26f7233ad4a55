//! The commands, a file each, and the table of all of them in the order of the usage.

mod authentication;
mod cid;
mod clientconfig;
mod config;
mod config_addresses;
mod config_dns;
mod config_edit;
mod config_hostkeys;
mod config_tlskeys;
mod dial;
mod dkim;
mod dns;
mod dnscheck;
mod example;
mod help;
mod localserve;
mod loglevels;
mod passwords;
mod policies;
mod queue;
mod rdap;
mod reports;
mod serve;
mod stop;
mod version;
mod webapi;
mod webapi_keys;

pub(crate) use dnscheck::interfaces;

use crate::cli::{Command, Failure, Invocation};
use std::path::{Path, PathBuf};

/// Groups of commands, in the order of the list that usage prints; `queue` brings several groups of its own.
const COMMANDS: &[&[&[Command]]] = &[
    &[serve::COMMANDS],
    &[stop::COMMANDS],
    &[passwords::COMMANDS],
    &[loglevels::COMMANDS],
    queue::COMMANDS,
    &[localserve::COMMANDS],
    &[help::COMMANDS],
    &[config::COMMANDS],
    &[config_addresses::COMMANDS],
    &[config_edit::COMMANDS],
    &[config_tlskeys::COMMANDS],
    &[dnscheck::COMMANDS],
    &[config_dns::COMMANDS],
    &[config_hostkeys::COMMANDS],
    &[cid::COMMANDS],
    &[clientconfig::COMMANDS],
    &[dns::COMMANDS],
    &[dkim::COMMANDS],
    &[authentication::COMMANDS],
    &[policies::COMMANDS],
    &[dial::COMMANDS],
    &[rdap::COMMANDS],
    &[reports::COMMANDS],
    &[version::COMMANDS],
    &[webapi::COMMANDS],
    &[webapi_keys::COMMANDS],
    &[example::COMMANDS],
];

/// All commands.
pub(crate) fn all() -> impl Iterator<Item = &'static Command> {
    COMMANDS.iter().copied().flatten().copied().flatten()
}

/// The static configuration of an invocation, for commands that only need to know where things are.
pub(crate) fn static_config(invocation: &Invocation) -> Result<mox_config::Static, Failure> {
    let path = &invocation.globals.config;
    let text = std::fs::read(path).map_err(|e| Failure::new(format!("open {}", path.display()), e))?;
    mox_config::sconf::parse(&path.display().to_string(), &text).map(|parsed| parsed.value).map_err(|e| Failure::Error(e.to_string()))
}

/// The folder a configuration file is in.
pub(crate) fn config_dir(config: &Path) -> &Path {
    config.parent().unwrap_or(Path::new(""))
}

/// The data folder of an invocation's configuration.
pub(crate) fn data_dir(invocation: &Invocation) -> Result<PathBuf, Failure> {
    let config = static_config(invocation)?;
    Ok(config_dir(&invocation.globals.config).join(&config.data_dir))
}
