//! Which addresses are listened on, and for what.

use mox_config::{Listener, Static};
use std::fmt;
use std::net::SocketAddr;

/// A service on a socket of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Service {
    /// Mail from other servers.
    Smtp,
    /// Mail from users, STARTTLS.
    Submission,
    /// Mail from users, TLS from the start.
    Submissions,
    /// Reading mail, STARTTLS.
    Imap,
    /// Reading mail, TLS from the start.
    Imaps,
    /// Metrics over HTTP.
    Metrics,
}

impl Service {
    /// In the order in which they are bound.
    const ALL: [Self; 6] = [Self::Smtp, Self::Submission, Self::Submissions, Self::Imap, Self::Imaps, Self::Metrics];

    /// Its port at a listener, if it is enabled there.
    fn port(self, listener: &Listener) -> Option<u16> {
        match self {
            Self::Smtp => listener.enabled_smtp().map(mox_config::Smtp::port),
            Self::Submission => listener.enabled_submission().map(mox_config::Submission::port),
            Self::Submissions => listener.enabled_submissions().map(mox_config::Submissions::port),
            Self::Imap => listener.enabled_imap().map(mox_config::Imap::port),
            Self::Imaps => listener.enabled_imaps().map(mox_config::Imaps::port),
            Self::Metrics => listener.enabled_metrics().map(mox_config::PlainService::metrics_port),
        }
    }

    /// Whether TLS comes first.
    pub(crate) const fn is_immediate_tls(self) -> bool {
        matches!(self, Self::Submissions | Self::Imaps)
    }
}

/// As in logs and listings.
impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Smtp => "smtp",
            Self::Submission => "submission",
            Self::Submissions => "submissions",
            Self::Imap => "imap",
            Self::Imaps => "imaps",
            Self::Metrics => "metrics",
        })
    }
}

/// A socket to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Name of the listener in the configuration.
    pub(crate) listener: String,
    /// What it is for.
    pub(crate) service: Service,
    /// Where.
    pub(crate) addr: SocketAddr,
}

/// All sockets of a configuration: by kind of service, then by name of listener.
pub(crate) fn endpoints(config: &Static) -> Vec<Endpoint> {
    let mut all = Vec::new();
    for group in [&Service::ALL[..3], &Service::ALL[3..5], &Service::ALL[5..]] {
        for (name, listener) in &config.listeners {
            for service in group {
                let Some(port) = service.port(listener) else { continue };
                all.extend(listener.ips.iter().map(|ip| Endpoint {
                    listener: name.clone(),
                    service: *service,
                    addr: SocketAddr::new(*ip, port),
                }));
            }
        }
    }
    all
}
