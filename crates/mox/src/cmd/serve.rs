//! `mox serve`: binds ports and reads keys as root, then serves as an ordinary user.
//!
//! Privileges are dropped within the process, while it has one thread: user, group and supplementary groups are set,
//! and no program started later can gain any again.

mod permissions;

use crate::cli::{Command, Failure, Invocation, Outcome};
use crate::log::{Format, Log};
use crate::wire::{self, Mode, Startup};
use mox_config::LogLevel;
use nix::sys::stat::{Mode as FileMode, umask};
use nix::unistd::{Gid, Uid, User, geteuid, setgid, setgroups, setuid};

pub(super) const COMMANDS: &[Command] = &[Command {
    words: "serve",
    params: &[""],
    listed: true,
    help: "Run the mail server.\n\n\
        Meant for a service manager. Started as root, it binds the configured addresses and reads keys, then continues as the configured user for good. SIGTERM, SIGINT and \"mox stop\" end it in order: sessions are told, deliveries at work finish or are put back.\n\n\
        Names are resolved by the name servers of /etc/resolv.conf. They are believed about DNSSEC if they validate and are trusted: by the option trust-ad, or because all of them are on this machine. Otherwise the server validates itself, from the keys of the root, or from those in the file of DNSKEY records that the environment variable MOX_DNS_ANCHORS names.",
    flags: &[],
    args: 0..=0,
    run: serve,
}];

fn serve(invocation: &Invocation) -> Outcome {
    let log = Log::start(Format::Logfmt, LogLevel::Debug);
    if !geteuid().is_root() {
        return Err(Failure::Error(
            "mox should be started as root, so it can bind to privileged ports and read private keys, and then continues as user mox"
                .into(),
        ));
    }
    // Nothing we make is for others.
    let old = umask(FileMode::empty());
    umask(old | FileMode::from_bits_truncate(0o007));
    let startup = Startup::load(&invocation.globals, Mode::Serve, log).map_err(|e| Failure::Error(e.to_string()))?;
    let (uid, gid) = user(startup.settings().user())?;
    tracing::info!(version = super::version::VERSION, pid = std::process::id(), uid = uid.as_raw(), "starting");
    if !startup.settings().no_fix_permissions {
        permissions::repair(startup.paths(), uid, gid).map_err(|e| Failure::new("checking permissions", e))?;
    }
    drop_privileges(uid, gid).map_err(|e| Failure::new("dropping privileges", e))?;
    match wire::run(startup, |_| {}).map_err(Failure::Error)? {
        0 => Ok(()),
        status => Err(Failure::Exit(status)),
    }
}

/// The user of a name; of a number, with the same number as group.
fn user(name: &str) -> Result<(Uid, Gid), Failure> {
    if let Ok(id) = name.parse::<u32>() {
        return Ok((Uid::from_raw(id), Gid::from_raw(id)));
    }
    match User::from_name(name) {
        Ok(Some(user)) => Ok((user.uid, user.gid)),
        Ok(None) => Err(Failure::Error(format!("no such user: {name}"))),
        Err(e) => Err(Failure::new(format!("looking up user {name}"), e)),
    }
}

fn drop_privileges(uid: Uid, gid: Gid) -> nix::Result<()> {
    setgroups(&[])?;
    setgid(gid)?;
    setuid(uid)?;
    #[cfg(target_os = "linux")]
    nix::sys::prctl::set_no_new_privs()?;
    Ok(())
}
