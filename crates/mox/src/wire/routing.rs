//! From the configuration to the transports and routes of the queue.

use mox_base::{Host, Lookup};
use mox_config::{Dynamic, Mechanism, Method, RouteDomain, SmtpAuth, Static, TransportSmtp};
use mox_delivery::outbound::{Direct, DomainPattern, Relay, RelayTls, Route, Routing, Transport};
use mox_net::{Dial, SocksDial, SocksLogin};
use mox_sasl::client::Credentials;
use mox_sasl::scram::Hash;
use mox_smtp::client::Auth;
use std::sync::Arc;

/// How proxies are reached.
#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) lookup: Arc<dyn Lookup>,
    pub(super) dial: Arc<dyn Dial>,
}

/// Transports, and routes of accounts, domains and for all.
pub(super) fn routing(fixed: &Static, dynamic: &Dynamic, world: &World) -> Routing {
    let of_accounts = dynamic.accounts.iter().filter(|(_, account)| !account.routes.is_empty());
    let of_domains = dynamic.domains.iter().filter(|(_, domain)| !domain.routes.is_empty());
    Routing {
        transports: fixed.transports.iter().map(|(name, config)| (name.clone(), transport(config, world))).collect(),
        of_accounts: of_accounts.map(|(name, account)| (name.clone(), routes(&account.routes))).collect(),
        of_domains: of_domains.map(|(name, domain)| (name.domain().clone(), routes(&domain.routes))).collect(),
        global: routes(&dynamic.routes),
    }
}

fn routes(configs: &[mox_config::Route]) -> Vec<Route> {
    let route = |config: &mox_config::Route| Route {
        minimum_attempts: config.minimum_attempts,
        from: config.from_domain.iter().map(pattern).collect(),
        to: config.to_domain.iter().map(pattern).collect(),
        transport: config.transport.clone(),
    };
    configs.iter().map(route).collect()
}

fn pattern(config: &RouteDomain) -> DomainPattern {
    match config {
        RouteDomain::Exact(domain) => DomainPattern::Exact(domain.clone()),
        RouteDomain::Within(domain) => DomainPattern::Within(domain.clone()),
        RouteDomain::Null => DomainPattern::None,
    }
}

fn transport(config: &mox_config::Transport, world: &World) -> Transport {
    match config.method() {
        Method::Normal => Transport::Direct(Box::default()),
        Method::Direct(direct) => Transport::Direct(Box::new(Direct {
            ipv4: !direct.disable_ipv4,
            ipv6: !direct.disable_ipv6,
            from: direct.outgoing_ips.clone(),
            hostname: direct.hostname.as_ref().map(|name| name.domain().clone()),
        })),
        Method::Submissions(smtp) => Transport::Relay(Box::new(relay(smtp, (465, "submissions"), RelayTls::Immediate))),
        Method::Submission(smtp) => Transport::Relay(Box::new(relay(smtp, (587, "submission"), starttls(smtp)))),
        Method::Smtp(smtp) => Transport::Relay(Box::new(relay(smtp, (25, "smtp"), starttls(smtp)))),
        Method::Socks(socks) => {
            // `config test` has seen that it is host:port; an IPv6 address is in brackets.
            let (host, port) = socks.address.rsplit_once(':').unwrap_or((&socks.address, ""));
            let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
            let through = Arc::clone(&world.dial);
            let login = socks.auth.as_ref().map(|auth| SocksLogin { user: auth.username.clone(), password: auth.password.clone() });
            let dial = SocksDial { through, lookup: Arc::clone(&world.lookup), host, port: port.parse().unwrap_or(1080), login };
            Transport::Socks { dial: Arc::new(dial), hostname: socks.remote_hostname.clone() }
        }
        Method::Fail(fail) => Transport::Fail { code: fail.code(), text: fail.smtp_message.as_ref().map(|text| text.as_str().to_owned()) },
    }
}

const fn starttls(config: &TransportSmtp) -> RelayTls {
    match (config.no_starttls, config.starttls_insecure_skip_verify) {
        (true, _) => RelayTls::Plain,
        (false, true) => RelayTls::RequiredUnverified,
        (false, false) => RelayTls::Required,
    }
}

fn relay(config: &TransportSmtp, (default_port, service): (u16, &'static str), tls: RelayTls) -> Relay {
    Relay {
        host: Host::Domain(config.host.clone()),
        port: config.port_or(default_port),
        srv: config.srv.then_some(service),
        tls,
        auth: config.auth.as_ref().map(auth),
    }
}

fn auth(config: &SmtpAuth) -> Auth {
    Auth {
        credentials: Credentials { user: config.username.clone(), password: config.password.clone() },
        mechanisms: config.effective_mechanisms().iter().map(|m| mechanism(*m)).collect(),
    }
}

const fn mechanism(config: Mechanism) -> mox_sasl::Mechanism {
    match config {
        Mechanism::ScramSha256Plus => mox_sasl::Mechanism::Scram { hash: Hash::Sha256, plus: true },
        Mechanism::ScramSha256 => mox_sasl::Mechanism::Scram { hash: Hash::Sha256, plus: false },
        Mechanism::ScramSha1Plus => mox_sasl::Mechanism::Scram { hash: Hash::Sha1, plus: true },
        Mechanism::ScramSha1 => mox_sasl::Mechanism::Scram { hash: Hash::Sha1, plus: false },
        Mechanism::CramMd5 => mox_sasl::Mechanism::CramMd5,
        Mechanism::Plain => mox_sasl::Mechanism::Plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mox_config::sconf::parse;

    #[test]
    fn what_transports_become() {
        let fixed = "DataDir: ../data\nLogLevel: info\nHostname: mx.example.org\nListeners:\nPostmaster:\n\tAccount: ann\n\tMailbox: Postmaster\nTransports:\n\tnone: nil\n\tv6:\n\t\tDirect:\n\t\t\tDisableIPv4: true\n\t\t\tOutgoingIPs:\n\t\t\t\t- 2001:db8::1\n\t\t\tHostname: v6.example\n\ts:\n\t\tSubmissions:\n\t\t\tHost: x.example\n\t\t\tAuth:\n\t\t\t\tUsername: u\n\t\t\t\tPassword: p\n\tp:\n\t\tSMTP:\n\t\t\tHost: x.example\n\t\t\tPort: 2525\n\t\t\tNoSTARTTLS: true\n\tf:\n\t\tFail:\n\t\t\tSMTPMessage: no\n\tk:\n\t\tSocks:\n\t\t\tAddress: 127.0.0.1:1080\n\t\t\tRemoteIPs:\n\t\t\t\t- 198.51.100.7\n\t\t\tRemoteHostname: p.example\n";
        let dynamic = "Domains:\n\texample.org:\n\t\tRoutes:\n\t\t\t-\n\t\t\t\tTransport: f\nAccounts:\n\tann:\n\t\tDomain: example.org\nRoutes:\n\t-\n\t\tFromDomain:\n\t\t\t- .\n\t\tToDomain:\n\t\t\t- .example\n\t\tMinimumAttempts: 2\n\t\tTransport: s\n";
        let fixed: Static = parse("mox.conf", fixed.as_bytes()).unwrap().value;
        let dynamic: Dynamic = parse("domains.conf", dynamic.as_bytes()).unwrap().value;
        let world = World { lookup: Arc::new(mox_testkit::Zone::new()), dial: Arc::new(mox_net::TcpDial::default()) };
        let routing = routing(&fixed, &dynamic, &world);
        assert!(matches!(&routing.transports["none"], Transport::Direct(d) if **d == Direct::default()));
        let v6 = Direct {
            ipv4: false,
            from: vec!["2001:db8::1".parse().unwrap()],
            hostname: Some("v6.example".parse().unwrap()),
            ..Direct::default()
        };
        assert!(matches!(&routing.transports["v6"], Transport::Direct(d) if **d == v6));
        assert!(
            matches!(&routing.transports["s"], Transport::Relay(r) if (r.port, r.tls) == (465, RelayTls::Immediate) && r.auth.as_ref().unwrap().mechanisms.len() == 5)
        );
        assert!(matches!(&routing.transports["p"], Transport::Relay(r) if (r.port, r.tls) == (2525, RelayTls::Plain) && r.auth.is_none()));
        assert!(matches!(&routing.transports["f"], Transport::Fail { code: 554, text: Some(text) } if text == "no"));
        assert!(matches!(&routing.transports["k"], Transport::Socks { hostname, .. } if hostname.ascii() == "p.example"));
        let to = "a.example".parse().unwrap();
        assert_eq!(routing.choose("ann", 2, None, Some(&to)), Some("s"));
        assert_eq!(routing.choose("ann", 1, None, Some(&to)), None);
        let from = "example.org".parse().unwrap();
        assert_eq!(routing.choose("ann", 0, Some(&from), Some(&to)), Some("f"));
    }
}
