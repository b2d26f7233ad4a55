//! What users of a domain enter into their mail clients: hosts, ports and how TLS is used, by what listeners offer.

use crate::domain::DomainConfig;
use crate::fixed::Static;
use crate::listener::Listener;
use mox_base::Domain;

/// What a service is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientProtocol {
    /// Sending.
    Submission,
    /// Reading.
    Imap,
}

impl ClientProtocol {
    /// As people are told.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Submission => "Submission (SMTP)",
            Self::Imap => "IMAP",
        }
    }
}

/// How TLS is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientTlsUse {
    /// From the start.
    Immediate {
        /// Also at port 443, for clients that ask for it by ALPN.
        on_https: bool,
    },
    /// With STARTTLS.
    StartTls {
        /// Nothing goes without it.
        required: bool,
    },
    /// Not at all.
    Plain,
}

impl ClientTlsUse {
    /// As people are told.
    pub const fn note(self) -> &'static str {
        match self {
            Self::Immediate { on_https: false } => "with TLS",
            Self::Immediate { on_https: true } => "with TLS; also served on port 443 with TLS ALPN",
            Self::StartTls { required: true } => "with STARTTLS required",
            Self::StartTls { required: false } => "with STARTTLS optional",
            Self::Plain => "without TLS, all can be read on the way",
        }
    }
}

/// A service for mail clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientService {
    /// What it is for.
    pub protocol: ClientProtocol,
    /// Its host.
    pub host: Domain,
    /// Its port.
    pub port: u16,
    /// The listener that offers it.
    pub listener: String,
    /// How TLS is used.
    pub tls: ClientTlsUse,
}

/// The services for a domain's users: listeners by name, of each what is for sending first, and with TLS from the start first.
pub fn client_services(fixed: &Static, domain: &DomainConfig) -> Vec<ClientService> {
    fixed.listeners.iter().flat_map(|(name, listener)| of_listener(fixed, domain, name, listener)).collect()
}

fn of_listener(fixed: &Static, domain: &DomainConfig, name: &str, listener: &Listener) -> Vec<ClientService> {
    let own = listener.hostname.clone();
    let host = domain.client_settings_domain.clone().or(own).unwrap_or_else(|| fixed.hostname.domain().clone());
    let service = |protocol, port, tls| ClientService { protocol, host: host.clone(), port, listener: name.to_owned(), tls };
    let starttls = |optional: bool| match listener.tls {
        Some(_) => ClientTlsUse::StartTls { required: !optional },
        None => ClientTlsUse::Plain,
    };
    let submissions = listener
        .enabled_submissions()
        .map(|s| service(ClientProtocol::Submission, s.port(), ClientTlsUse::Immediate { on_https: s.enabled_on_https }));
    let imaps =
        listener.enabled_imaps().map(|s| service(ClientProtocol::Imap, s.port(), ClientTlsUse::Immediate { on_https: s.enabled_on_https }));
    let submission = listener.enabled_submission();
    let submission = submission.map(|s| service(ClientProtocol::Submission, s.port(), starttls(s.no_require_starttls)));
    let imap = listener.enabled_imap().map(|s| service(ClientProtocol::Imap, s.port(), starttls(s.no_require_starttls)));
    [submissions, imaps, submission, imap].into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dynamic;
    use crate::sconf;

    const STATIC: &str = "DataDir: ../data\nLogLevel: info\nHostname: mx.example.org\nListeners:\n\tpublic:\n\t\tIPs:\n\t\t\t- 0.0.0.0\n\t\tTLS:\n\t\t\tACME: le\n\t\tSubmissions:\n\t\t\tEnabled: true\n\t\t\tEnabledOnHTTPS: true\n\t\tSubmission:\n\t\t\tEnabled: true\n\t\tIMAPS:\n\t\t\tEnabled: true\n\t\t\tPort: 1993\n\t\tIMAP:\n\t\t\tEnabled: true\n\t\t\tNoRequireSTARTTLS: true\n\tinside:\n\t\tIPs:\n\t\t\t- 127.0.0.1\n\t\tHostname: localhost\n\t\tIMAP:\n\t\t\tEnabled: true\nPostmaster:\n\tAccount: ann\n\tMailbox: Postmaster\n";

    fn shown(domain: &str) -> Vec<String> {
        let fixed: Static = sconf::parse("mox.conf", STATIC.as_bytes()).unwrap().value;
        let dynamic: Dynamic =
            sconf::parse("domains.conf", format!("Domains:\n\texample.org:{domain}\nAccounts:\n").as_bytes()).unwrap().value;
        let services = client_services(&fixed, dynamic.domains.values().next().unwrap());
        services.iter().map(|s| format!("{} {} {} {} {}", s.protocol.name(), s.host, s.port, s.listener, s.tls.note())).collect()
    }

    #[test]
    fn services_of_listeners() {
        assert_eq!(
            shown(" nil"),
            [
                "IMAP localhost 143 inside without TLS, all can be read on the way",
                "Submission (SMTP) mx.example.org 465 public with TLS; also served on port 443 with TLS ALPN",
                "IMAP mx.example.org 1993 public with TLS",
                "Submission (SMTP) mx.example.org 587 public with STARTTLS required",
                "IMAP mx.example.org 143 public with STARTTLS optional",
            ]
        );
        assert!(shown("\n\t\tClientSettingsDomain: mail.example.org").iter().all(|line| line.contains(" mail.example.org ")));
    }
}
