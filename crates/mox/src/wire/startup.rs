//! What has to be done before serving, while there is one thread and we may still be root: reading the configuration and
//! private keys, and binding sockets.

use super::listeners::{Endpoint, endpoints};
use super::{acme, storage, tls};
use crate::cli::Globals;
use crate::log::Log;
use mox_config::{Live, Outside, Paths, Static};
use mox_net::tls::Certificates;
use mox_net::{OfflineDns, Sockets};
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::User;
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How this server differs from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// A server for the world.
    Serve,
    /// A server for one machine, that delivers everything to itself.
    Localserve {
        /// Whether the system chooses the ports.
        any_ports: bool,
    },
}

/// What was prepared.
pub(crate) struct Startup {
    pub(super) mode: Mode,
    pub(super) live: Arc<Live>,
    pub(super) log: Log,
    pub(super) pedantic: bool,
    pub(super) data_dir: PathBuf,
    pub(super) storage: mox_store::Settings,
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) sockets: Sockets,
    pub(super) certs: BTreeMap<String, Arc<Certificates>>,
    /// What checks of incoming mail ask instead of the system's name servers.
    pub(crate) checks_ask: Option<OfflineDns>,
    /// Intervals between attempts of the queue and of webhooks, instead of those in the configuration.
    pub(crate) retry: Option<Vec<Duration>>,
    pub(super) acme: BTreeMap<String, mox_net::acme::Settings>,
}

/// Why serving can't begin; for the operator.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// The configuration, or a file that it names, is wrong.
    #[error("{0}")]
    Configuration(String),
    /// An address can't be served at: it is in use, say.
    #[error("{0}")]
    Socket(String),
}

impl From<String> for LoadError {
    fn from(text: String) -> Self {
        Self::Configuration(text)
    }
}

impl Startup {
    /// Reads the configuration and binds the sockets.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub(crate) fn load(globals: &Globals, mode: Mode, log: Log) -> Result<Self, LoadError> {
        raise_descriptor_limit();
        let live = open(&globals.config, true)?;
        let fixed = live.settings();
        let paths = live.paths();
        match globals.log_level {
            Some(level) => log.levels.replace(level, BTreeMap::new()),
            None => log.levels.replace(fixed.log_level, fixed.package_log_levels.clone()),
        }
        let certs = tls::certificates(fixed, paths.config_dir()).map_err(|e| e.to_string())?;
        let mut storage = storage::settings(fixed, paths)?;
        if globals.check_consistency {
            storage.check_on_close = Some(inconsistent);
        }
        let mut endpoints = endpoints(fixed);
        if mode != Mode::Serve {
            leave_out_ipv6(&mut endpoints, is_absent);
        }
        let acme = acme::settings(fixed, paths, &endpoints)?;
        let mut sockets = Sockets::new();
        if mode == (Mode::Localserve { any_ports: true }) {
            endpoints.iter_mut().for_each(|e| e.addr = SocketAddr::new(e.addr.ip(), 0));
        } else {
            for endpoint in &endpoints {
                let prepared = sockets.prepare(endpoint.addr);
                prepared.map_err(|e| LoadError::Socket(format!("{} for {}: {e}", endpoint.service, endpoint.listener)))?;
            }
        }
        for feature in mox_config::inactive_features(fixed, &live.snapshot().dynamic) {
            tracing::warn!(feature, "configured, but not supported by this version");
        }
        let pedantic = globals.pedantic || fixed.pedantic;
        let data_dir = paths.data_dir().to_owned();
        Ok(Self {
            mode,
            pedantic,
            data_dir,
            storage,
            live: Arc::new(live),
            log,
            endpoints,
            sockets,
            certs,
            checks_ask: None,
            retry: None,
            acme,
        })
    }

    /// The static configuration.
    pub(crate) fn settings(&self) -> &Static {
        self.live.settings()
    }

    /// Where its files are.
    pub(crate) fn paths(&self) -> &Paths {
        self.live.paths()
    }
}

/// A machine for testing may well have no IPv6, as containers often don't: it is tested over IPv4 then. Not where the configuration has
/// nothing else, or if an address is merely in use.
fn leave_out_ipv6(endpoints: &mut Vec<Endpoint>, is_absent: impl Fn(IpAddr) -> bool) {
    let absent: BTreeSet<IpAddr> = endpoints.iter().map(|e| e.addr.ip()).filter(|ip| ip.is_ipv6() && is_absent(*ip)).collect();
    if absent.is_empty() || endpoints.iter().all(|e| absent.contains(&e.addr.ip())) {
        return;
    }
    for ip in &absent {
        tracing::warn!(%ip, "not listening on an address that this machine doesn't have");
    }
    endpoints.retain(|e| !absent.contains(&e.addr.ip()));
}

/// Whether nothing can be bound to an address, because the machine doesn't have it or its family.
fn is_absent(ip: IpAddr) -> bool {
    let unsupported = |e: &std::io::Error| e.raw_os_error() == Some(Errno::EAFNOSUPPORT as i32);
    TcpListener::bind((ip, 0)).is_err_and(|e| e.kind() == ErrorKind::AddrNotAvailable || unsupported(&e))
}

/// Ends the process at once: what comes after can't be trusted.
fn inconsistent(what: &str, problems: &[String]) {
    for problem in problems {
        tracing::error!(what, problem, "inconsistent data");
    }
    std::process::abort();
}

/// As many descriptors as we may have: each connection takes one, and the usual default is for programs that use `select`.
fn raise_descriptor_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, most)| setrlimit(Resource::RLIMIT_NOFILE, most, most));
    if let Err(error) = raised {
        tracing::warn!(%error, "raising limit of open files");
    }
}

/// Reads and checks both files, logging what looks wrong.
pub(super) fn open(config: &Path, read_tls_keys: bool) -> Result<Live, String> {
    let outside = Outside { user_known: &user_known, read_tls_keys };
    let (live, warnings) = Live::open(config, &outside).map_err(|problems| problems.to_string())?;
    for warning in warnings {
        tracing::warn!(problem = %warning, "configuration");
    }
    Ok(live)
}

fn user_known(name: &str) -> bool {
    User::from_name(name).is_ok_and(|user| user.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Service;

    #[test]
    fn without_ipv6() {
        let left = |addresses: &[&str], absent: &str| {
            let endpoint = |addr: &&str| {
                let addr: SocketAddr = addr.parse().unwrap();
                Endpoint { listener: "local".to_owned(), service: Service::Smtp, addr, port: addr.port() }
            };
            let mut endpoints = addresses.iter().map(endpoint).collect();
            leave_out_ipv6(&mut endpoints, |ip| absent.split(' ').any(|a| a == ip.to_string()));
            endpoints.iter().map(|e| e.addr.to_string()).collect::<Vec<_>>().join(" ")
        };
        let both = ["127.0.0.1:1025", "[::1]:1025", "127.0.0.1:1143", "[::1]:1143"];
        assert_eq!(left(&both, "::1"), "127.0.0.1:1025 127.0.0.1:1143");
        assert_eq!(left(&both, ""), both.join(" "));
        // Asked for by name, or IPv4: that is an error.
        assert_eq!(left(&["[::1]:1025"], "::1"), "[::1]:1025");
        assert_eq!(left(&both, "127.0.0.1"), both.join(" "));
        assert!(!is_absent("127.0.0.1".parse().unwrap()));
    }
}
