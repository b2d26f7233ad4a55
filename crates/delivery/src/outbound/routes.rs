//! Which transport an attempt takes: forced by an administrator, found by routes, or straight to the recipient's hosts.

use mox_base::{Domain, Host};
use mox_net::Dial;
use mox_sasl::Mechanism;
use mox_sasl::scram::Hash;
use mox_smtp::client::Auth;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

/// The text of a fail transport that has none.
const FAIL_TEXT: &str = "delivery fails explicitly as per configuration";

/// A way to deliver.
#[derive(Clone, Debug)]
pub enum Transport {
    /// To the recipient's own hosts.
    Direct(Box<Direct>),
    /// Through a host that relays for us.
    Relay(Box<Relay>),
    /// To the recipient's own hosts, through a proxy.
    Socks {
        /// Connects through the proxy.
        dial: Arc<dyn Dial>,
        /// What the proxy's address is called, in EHLO.
        hostname: Domain,
    },
    /// Not at all.
    Fail {
        /// 4xx or 5xx.
        code: u16,
        /// None for a default.
        text: Option<String>,
    },
}

impl Transport {
    /// The text of a fail transport.
    pub(super) fn fail_text(text: Option<&str>) -> &str {
        text.unwrap_or(FAIL_TEXT)
    }
}

/// How the recipient's own hosts are reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Direct {
    /// Over IPv4.
    pub ipv4: bool,
    /// Over IPv6.
    pub ipv6: bool,
    /// From these of our addresses only; none: as all mail.
    pub from: Vec<IpAddr>,
    /// What they are called, in EHLO, if it isn't the name of this server.
    pub hostname: Option<Domain>,
}

impl Default for Direct {
    fn default() -> Self {
        Self { ipv4: true, ipv6: true, from: Vec::new(), hostname: None }
    }
}

/// A host that relays for us.
#[derive(Clone, Debug)]
pub struct Relay {
    /// Where it is, and the name in its certificate.
    pub host: Host,
    /// Its port.
    pub port: u16,
    /// The service whose SRV records at the host tell of servers and ports, as `submission`, RFC 6186 §3.1.
    pub srv: Option<&'static str>,
    /// How TLS is used.
    pub tls: RelayTls,
    /// Who we are.
    pub auth: Option<Auth>,
}

/// How TLS is used with a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelayTls {
    /// From the first byte, verified.
    Immediate,
    /// STARTTLS, verified.
    Required,
    /// STARTTLS, without verifying the certificate.
    RequiredUnverified,
    /// STARTTLS if offered, unverified: our own listener in localserve.
    Opportunistic,
    /// None.
    Plain,
}

impl RelayTls {
    /// Whether the certificate is verified.
    pub(super) const fn is_verified(self) -> bool {
        matches!(self, Self::Immediate | Self::Required)
    }
}

/// The mechanisms for relays when the configuration names none, best first. PLAIN only if named.
pub const DEFAULT_MECHANISMS: [Mechanism; 5] = [
    Mechanism::Scram { hash: Hash::Sha256, plus: true },
    Mechanism::Scram { hash: Hash::Sha256, plus: false },
    Mechanism::Scram { hash: Hash::Sha1, plus: true },
    Mechanism::Scram { hash: Hash::Sha1, plus: false },
    Mechanism::CramMd5,
];

/// Chooses a transport for messages that match.
#[derive(Clone, Debug, Default)]
pub struct Route {
    /// At least so many attempts were made.
    pub minimum_attempts: u32,
    /// The sender's domain; empty matches all.
    pub from: Vec<DomainPattern>,
    /// The recipient's domain; empty matches all.
    pub to: Vec<DomainPattern>,
    /// The transport's name.
    pub transport: String,
}

/// What a route says about a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DomainPattern {
    /// This one.
    Exact(Domain),
    /// This one and those below it.
    Within(Domain),
    /// No domain: the null reverse-path, or an address literal.
    None,
}

impl DomainPattern {
    /// From the configured text: a domain, with a leading dot for those below it too; `.` for no domain.
    pub fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix('.') {
            Some("") => Some(Self::None),
            Some(domain) => domain.parse().ok().map(Self::Within),
            None => text.parse().ok().map(Self::Exact),
        }
    }

    fn matches(&self, domain: Option<&Domain>) -> bool {
        match (self, domain) {
            (Self::Exact(want), Some(domain)) => want == domain,
            (Self::Within(want), Some(domain)) => domain.is_within(want),
            (Self::None, domain) => domain.is_none(),
            (Self::Exact(_) | Self::Within(_), None) => false,
        }
    }
}

impl Route {
    fn matches(&self, attempts_before: u32, from: Option<&Domain>, to: Option<&Domain>) -> bool {
        let any = |patterns: &[DomainPattern], domain| patterns.is_empty() || patterns.iter().any(|p| p.matches(domain));
        attempts_before >= self.minimum_attempts && any(&self.from, from) && any(&self.to, to)
    }
}

/// The configured transports and routes.
#[derive(Clone, Debug, Default)]
pub struct Routing {
    /// By name.
    pub transports: BTreeMap<String, Transport>,
    /// Routes of accounts.
    pub of_accounts: BTreeMap<String, Vec<Route>>,
    /// Routes of sender domains.
    pub of_domains: BTreeMap<Domain, Vec<Route>>,
    /// Routes for all.
    pub global: Vec<Route>,
}

impl Routing {
    /// The name of the transport that routes choose; none for straight delivery.
    pub fn choose(&self, account: &str, attempts_before: u32, from: Option<&Domain>, to: Option<&Domain>) -> Option<&str> {
        let of_account = self.of_accounts.get(account).into_iter().flatten();
        let of_domain = from.and_then(|from| self.of_domains.get(from)).into_iter().flatten();
        let mut routes = of_account.chain(of_domain).chain(&self.global);
        routes.find(|route| route.matches(attempts_before, from, to)).map(|route| route.transport.as_str())
    }
}

/// The routing in effect. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct SharedRouting(Arc<RwLock<Arc<Routing>>>);

impl SharedRouting {
    /// Starts with a routing.
    pub fn new(routing: Routing) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(routing))))
    }

    /// The routing in effect now.
    pub fn current(&self) -> Arc<Routing> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts another into effect.
    pub fn replace(&self, routing: Routing) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(routing);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_match_of_account_domain_global() {
        let d = |s: &str| s.parse::<Domain>().unwrap();
        let to = |patterns: &[&str], transport: &str, minimum_attempts| Route {
            minimum_attempts,
            to: patterns.iter().map(|p| DomainPattern::parse(p).unwrap()).collect(),
            transport: transport.to_owned(),
            ..Route::default()
        };
        let routing = Routing {
            of_accounts: BTreeMap::from([("ann".to_owned(), vec![to(&["x.example"], "account", 0)])]),
            of_domains: BTreeMap::from([(d("a.example"), vec![to(&[".example"], "domain", 2)])]),
            global: vec![
                Route { from: vec![DomainPattern::None], ..to(&[], "bounces", 0) },
                to(&["."], "literal", 0),
                to(&["y.test"], "global", 0),
            ],
            ..Routing::default()
        };
        for (account, attempts, from, recipient, want) in [
            ("ann", 0, Some("a.example"), Some("x.example"), Some("account")),
            ("bob", 0, Some("a.example"), Some("x.example"), None),
            ("bob", 2, Some("a.example"), Some("x.example"), Some("domain")),
            ("ann", 2, Some("a.example"), Some("sub.x.example"), Some("domain")),
            ("bob", 9, Some("b.example"), Some("x.example"), None),
            ("bob", 0, None, Some("x.example"), Some("bounces")),
            ("bob", 0, Some("a.example"), None, Some("literal")),
            ("bob", 0, Some("a.example"), Some("y.test"), Some("global")),
            ("bob", 0, Some("a.example"), Some("sub.y.test"), None),
        ] {
            let (from, recipient) = (from.map(d), recipient.map(d));
            assert_eq!(
                routing.choose(account, attempts, from.as_ref(), recipient.as_ref()),
                want,
                "{account} {attempts} {from:?} {recipient:?}"
            );
        }
        assert_eq!(DomainPattern::parse("a b"), None);
    }
}
