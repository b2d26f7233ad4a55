//! The name servers that the system names in `/etc/resolv.conf`, how far they are trusted, and the keys of the root.

use hickory_resolver::config::{NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::proto::dnssec::TrustAnchors;
use hickory_resolver::system_conf::parse_resolv_conf;
use mox_base::LookupError;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

/// Where the system keeps its name servers.
pub(super) const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Names a file of DNSKEY records that are trusted instead of the root's own keys: for networks with a root of their own.
const ANCHORS: &str = "MOX_DNS_ANCHORS";

/// More servers than these aren't asked, as in the C library.
const MAX_SERVERS: usize = 3;

/// Keys of the root.
#[derive(Clone)]
pub(super) struct Anchors(pub(super) Arc<TrustAnchors>);

impl std::fmt::Debug for Anchors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Anchors({})", self.0.len())
    }
}

/// What is known of the system's name servers.
#[derive(Clone, Debug)]
pub(super) struct System {
    pub(super) config: ResolverConfig,
    pub(super) options: ResolverOpts,
    /// Whether the administrator vouches for what they say about DNSSEC.
    pub(super) trusted: bool,
    /// Ask over TCP only.
    pub(super) tcp_only: bool,
    /// The keys of the root; none for the world's.
    pub(super) anchors: Option<Anchors>,
}

impl System {
    /// What a `resolv.conf` says; those on this machine when it names no name servers.
    pub(super) fn parse(text: &str) -> Self {
        let (config, options) = parse_resolv_conf(text).unwrap_or_else(|error| {
            tracing::info!(%error, "no usable resolv.conf, asking name servers on this machine");
            let local = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
            let servers = local.into_iter().map(NameServerConfig::udp_and_tcp).collect();
            (ResolverConfig::from_parts(None, Vec::new(), servers), ResolverOpts::default())
        });
        let says = |option: &str| {
            let mut lines = text.lines().map(str::split_whitespace);
            lines.any(|mut words| words.next() == Some("options") && words.any(|word| word == option))
        };
        // RFC 6698 §A.3: what answers on this machine can be trusted, as nobody is between it and us.
        let local = config.name_servers().iter().all(|server| server.ip.is_loopback());
        Self { trusted: says("trust-ad") || local, tcp_only: says("use-vc"), config, options, anchors: None }
    }

    /// These name servers.
    pub(super) fn servers(servers: &[SocketAddr], trusted: bool) -> Self {
        let servers = servers.iter().map(|addr| {
            let mut server = NameServerConfig::udp_and_tcp(addr.ip());
            server.connections.iter_mut().for_each(|c| c.port = addr.port());
            server
        });
        let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
        Self { config, options: ResolverOpts::default(), trusted, tcp_only: false, anchors: None }
    }

    /// Where the name servers listen.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        let servers = self.config.name_servers().iter().take(MAX_SERVERS);
        servers.map(|s| SocketAddr::new(s.ip, s.connections.first().map_or(53, |c| c.port))).collect()
    }
}

/// The keys that the environment wants trusted instead of the root's.
///
/// # Errors
/// When there are none in the file.
pub(super) fn anchors() -> Result<Option<Anchors>, LookupError> {
    let Some(path) = std::env::var_os(ANCHORS) else { return Ok(None) };
    let path = Path::new(&path);
    let failed =
        |why: String| LookupError::Temporary(format!("reading keys of the root in {}, which {ANCHORS} names: {why}", path.display()));
    let anchors = TrustAnchors::from_file(path).map_err(|e| failed(e.to_string()))?;
    if anchors.is_empty() {
        return Err(failed("no key".to_owned()));
    }
    Ok(Some(Anchors(Arc::new(anchors))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_trusted() {
        for (text, trusted, tcp_only) in [
            ("nameserver 192.0.2.1\n", false, false),
            ("nameserver 127.0.0.1\nnameserver ::1\n", true, false),
            ("nameserver 127.0.0.1\nnameserver 192.0.2.1\n", false, false),
            ("nameserver 192.0.2.1\noptions edns0 trust-ad\noptions use-vc\n", true, true),
            ("nameserver 192.0.2.1\n# options trust-ad\n", false, false),
            ("", true, false),
        ] {
            let system = System::parse(text);
            assert_eq!((system.trusted, system.tcp_only), (trusted, tcp_only), "{text}");
        }
        let many = System::parse("nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\nnameserver 192.0.2.4\n");
        assert_eq!(many.addresses().len(), 3);
        assert_eq!(many.addresses()[0], "192.0.2.1:53".parse().unwrap());
    }
}
