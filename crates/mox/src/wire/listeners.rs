//! Which addresses are listened on, and for what.

use mox_config::{Listener, Static, WebService};
use std::collections::BTreeSet;
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
    /// The web, without TLS.
    Http,
    /// The web, TLS from the start.
    Https,
    /// Metrics over HTTP, on a port without anything else.
    Metrics,
}

impl Service {
    /// In the order in which they are bound.
    const ALL: [Self; 8] =
        [Self::Smtp, Self::Submission, Self::Submissions, Self::Imap, Self::Imaps, Self::Http, Self::Https, Self::Metrics];

    /// Its ports at a listener.
    fn ports(self, config: &Static, listener: &Listener) -> BTreeSet<u16> {
        let one = |port: Option<u16>| port.into_iter().collect();
        match self {
            Self::Smtp => one(listener.enabled_smtp().map(mox_config::Smtp::port)),
            Self::Submission => one(listener.enabled_submission().map(mox_config::Submission::port)),
            Self::Submissions => one(listener.enabled_submissions().map(mox_config::Submissions::port)),
            Self::Imap => one(listener.enabled_imap().map(mox_config::Imap::port)),
            Self::Imaps => one(listener.enabled_imaps().map(mox_config::Imaps::port)),
            Self::Http => {
                let mut ports: BTreeSet<u16> = one(webapi(listener, false).map(|s| s.port(false)));
                ports.extend(listener.enabled_mtasts().filter(|s| s.non_tls).map(mox_config::PolicyService::port));
                if acme(config, listener).is_some() {
                    ports.extend(answering_ports(listener));
                }
                ports
            }
            Self::Https => {
                let mut ports: BTreeSet<u16> = one(webapi(listener, true).map(|s| s.port(true)));
                ports.extend(listener.enabled_mtasts().filter(|s| !s.non_tls).map(mox_config::PolicyService::port));
                ports.extend(acme(config, listener).filter(|_| uses_tls(listener)).map(mox_config::Acme::port));
                ports
            }
            Self::Metrics => {
                let shared = Self::Http.ports(config, listener);
                one(listener.enabled_metrics().map(mox_config::PlainService::metrics_port).filter(|port| !shared.contains(port)))
            }
        }
    }

    /// Whether TLS comes first.
    pub(crate) const fn is_immediate_tls(self) -> bool {
        matches!(self, Self::Submissions | Self::Imaps | Self::Https)
    }
}

/// The provider of a listener's certificates.
fn acme<'a>(config: &'a Static, listener: &Listener) -> Option<&'a mox_config::Acme> {
    config.acme.get(&listener.tls.as_ref()?.acme)
}

/// Whether a listener has a service that needs certificates, so that its provider may ask.
fn uses_tls(listener: &Listener) -> bool {
    listener.enabled_smtp().is_some_and(|smtp| !smtp.no_starttls)
        || listener.enabled_submissions().is_some()
        || listener.enabled_imaps().is_some()
        || listener.web_services().into_iter().any(|(_, tls, service)| tls && service.is_some_and(|s| s.enabled))
        || [listener.enabled_autoconfig(), listener.enabled_mtasts()].into_iter().flatten().any(|service| !service.non_tls)
        || listener.enabled_webserver(true).is_some()
}

/// The ports on which a provider's questions over plain HTTP are answered: those of all services with plain HTTP for the world, also
/// of those that aren't there yet.
fn answering_ports(listener: &Listener) -> BTreeSet<u16> {
    let services = listener.web_services().into_iter().filter(|(_, tls, service)| !tls && service.is_some_and(|s| s.enabled));
    let mut ports: BTreeSet<u16> = services.filter_map(|(_, _, service)| service).map(|service| service.port(false)).collect();
    ports.extend(listener.enabled_webserver(false).map(|server| server.port(false)));
    let policies = [listener.enabled_autoconfig(), listener.enabled_mtasts()].into_iter().flatten();
    ports.extend(policies.filter(|service| service.non_tls).map(mox_config::PolicyService::port));
    ports
}

/// The webapi of a listener, if it is enabled there.
pub(super) fn webapi(listener: &Listener, tls: bool) -> Option<&WebService> {
    if tls { listener.webapi_https.as_ref() } else { listener.webapi_http.as_ref() }.filter(|s| s.enabled)
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
            Self::Http => "http",
            Self::Https => "https",
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
    /// The configured port, also where the system chooses another.
    pub(crate) port: u16,
}

/// All sockets of a configuration: by kind of service, then by name of listener.
pub(crate) fn endpoints(config: &Static) -> Vec<Endpoint> {
    let mut all = Vec::new();
    for group in [&Service::ALL[..3], &Service::ALL[3..5], &Service::ALL[5..]] {
        for (name, listener) in &config.listeners {
            for service in group {
                for port in service.ports(config, listener) {
                    all.extend(listener.ips.iter().map(|ip| Endpoint {
                        listener: name.clone(),
                        service: *service,
                        addr: SocketAddr::new(*ip, port),
                        port,
                    }));
                }
            }
        }
    }
    all
}
