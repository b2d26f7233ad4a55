//! Proxies on the way to web servers, as the environment names them.
//!
//! `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`, or the same in lower case, mean what they mean to curl and to programs in Go: a proxy
//! for each kind of URL (`http://…` or `socks5://…`, the former if there is no scheme), and the hosts that are asked directly.
//! This machine itself always is. Through an HTTP proxy, names are looked up by the proxy.

use super::url::{Url, UrlHost};
use crate::stream::Stream;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mox_base::IpPrefix;
use std::io;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// The most bytes of a proxy's answer to CONNECT.
const MAX_ANSWER: usize = 16 * 1024;

/// A variable that isn't understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} isn't the URL of a proxy for http or socks5")]
pub struct ProxyError(&'static str);

/// Which requests go through which proxy.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    http: Option<Proxy>,
    https: Option<Proxy>,
    direct: Vec<Direct>,
}

/// A proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Proxy {
    pub(super) socks: bool,
    pub(super) url: Url,
}

/// Hosts that are asked directly, on one port or on all.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Direct {
    hosts: DirectHosts,
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum DirectHosts {
    All,
    Range(IpPrefix),
    /// A name with all below, or only what is below.
    Name {
        name: String,
        only_below: bool,
    },
}

impl Proxies {
    /// From variables, such as the environment's. An empty one is none.
    ///
    /// # Errors
    /// See [`ProxyError`].
    pub fn from_vars(var: impl Fn(&str) -> Option<String>) -> Result<Self, ProxyError> {
        let of = |upper: &'static str, lower: &str| (upper, var(upper).or_else(|| var(lower)).filter(|value| !value.trim().is_empty()));
        // Under CGI, clients set HTTP_PROXY with a header Proxy.
        let http = if var("REQUEST_METHOD").is_some() { ("HTTP_PROXY", var("http_proxy")) } else { of("HTTP_PROXY", "http_proxy") };
        let proxy = |(name, value): (&'static str, Option<String>)| {
            value.map(|value| Proxy::parse(value.trim()).ok_or(ProxyError(name))).transpose()
        };
        let (_, direct) = of("NO_PROXY", "no_proxy");
        let direct = direct.unwrap_or_default().split(',').filter_map(|entry| Direct::parse(entry.trim())).collect();
        Ok(Self { http: proxy(http)?, https: proxy(of("HTTPS_PROXY", "https_proxy"))?, direct })
    }

    /// The proxy for a URL.
    pub(super) fn of(&self, url: &Url) -> Option<&Proxy> {
        let proxy = if url.https { self.https.as_ref() } else { self.http.as_ref() };
        let is_here = match &url.host {
            UrlHost::Name(name) => name == "localhost" || name.ends_with(".localhost"),
            UrlHost::Ip(ip) => ip.to_canonical().is_loopback(),
        };
        proxy.filter(|_| !is_here && !self.direct.iter().any(|direct| direct.covers(url)))
    }
}

impl Proxy {
    fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let socks = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "socks5" | "socks5h" => true,
            _ => return None,
        };
        let mut url = Url::parse(&format!("http://{rest}")).ok()?;
        // RFC 1928 §3; 80 is what the parser took for an absent port.
        if socks && url.port == 80 {
            url.port = 1080;
        }
        Some(Self { socks, url })
    }

    /// The credentials as a header's value.
    pub(super) fn authorization(&self) -> Option<String> {
        let (user, password) = self.url.user.as_ref()?;
        Some(format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
    }
}

impl Direct {
    fn parse(entry: &str) -> Option<Self> {
        if entry == "*" {
            return Some(Self { hosts: DirectHosts::All, port: None });
        }
        let ranged = |text: &str| text.parse::<IpPrefix>().ok().map(DirectHosts::Range);
        if let Some(hosts) = ranged(entry.trim_start_matches('[').trim_end_matches(']')) {
            return Some(Self { hosts, port: None });
        }
        let (host, port) = match entry.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().ok()?)),
            None => (entry, None),
        };
        if let Some(hosts) = ranged(host.trim_start_matches('[').trim_end_matches(']')) {
            return Some(Self { hosts, port });
        }
        let host = host.strip_prefix('*').unwrap_or(host);
        let name = host.trim_start_matches('.').trim_end_matches('.').to_ascii_lowercase();
        let hosts = DirectHosts::Name { only_below: host.starts_with('.'), name };
        matches!(&hosts, DirectHosts::Name { name, .. } if !name.is_empty()).then_some(Self { hosts, port })
    }

    fn covers(&self, url: &Url) -> bool {
        let host = match (&self.hosts, &url.host) {
            (DirectHosts::All, _) => true,
            (DirectHosts::Range(range), UrlHost::Ip(ip)) => range.contains(*ip),
            (DirectHosts::Name { name, only_below }, UrlHost::Name(host)) => {
                let below = host.strip_suffix(name.as_str()).is_some_and(|rest| rest.ends_with('.'));
                below || (!only_below && host == name)
            }
            (DirectHosts::Range(_), UrlHost::Name(_)) | (DirectHosts::Name { .. }, UrlHost::Ip(_)) => false,
        };
        host && self.port.is_none_or(|port| port == url.port)
    }
}

/// Asks an HTTP proxy for a connection to a URL's host, RFC 9110 §9.3.6; from then on the stream is one.
pub(super) async fn tunnel(stream: &mut Stream, url: &Url, proxy: &Proxy) -> io::Result<()> {
    let host = match &url.host {
        UrlHost::Name(name) => name.clone(),
        UrlHost::Ip(ip) if ip.is_ipv6() => format!("[{ip}]"),
        UrlHost::Ip(ip) => ip.to_string(),
    };
    let authorization = proxy.authorization().map(|value| format!("Proxy-Authorization: {value}\r\n")).unwrap_or_default();
    let request = format!("CONNECT {host}:{0} HTTP/1.1\r\nHost: {host}:{0}\r\n{authorization}\r\n", url.port);
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    // What comes behind the head is the other host's.
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= MAX_ANSWER {
            return Err(io::Error::other("answer too long"));
        }
        head.push(stream.read_u8().await?);
    }
    let first = String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned();
    let status = first.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1)).unwrap_or_default();
    if status.len() == 3 && status.starts_with('2') { Ok(()) } else { Err(io::Error::other(format!("{first:?} to CONNECT"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(vars: &[(&str, &str)]) -> Result<Proxies, ProxyError> {
        Proxies::from_vars(|name| vars.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn by_the_kind_of_url() {
        let found = proxies(&[("HTTP_PROXY", "web:3128"), ("https_proxy", "socks5://[2001:db8::1]"), ("HTTPS_PROXY", "")]).unwrap();
        let of = |url: &str| found.of(&Url::parse(url).unwrap()).map(|p| (p.socks, p.url.authority()));
        assert_eq!(of("http://a.example/"), Some((false, "web:3128".to_owned())));
        assert_eq!(of("http://localhost:8080/"), None);
        assert_eq!(of("http://127.0.0.7/"), None);
        assert_eq!(of("http://[::1]/"), None);
        // An empty one is as good as none.
        assert_eq!(of("https://a.example/"), None);
        let found = proxies(&[("https_proxy", "socks5://[2001:db8::1]")]).unwrap();
        let proxy = found.of(&Url::parse("https://a.example/").unwrap()).unwrap();
        assert_eq!((proxy.socks, proxy.url.port), (true, 1080));
        assert_eq!(proxies(&[("HTTPS_PROXY", "ftp://x")]).unwrap_err(), ProxyError("HTTPS_PROXY"));
        // Whoever sends a header Proxy to a CGI program isn't to be believed.
        let found = proxies(&[("HTTP_PROXY", "evil"), ("REQUEST_METHOD", "GET")]).unwrap();
        assert!(found.of(&Url::parse("http://a.example/").unwrap()).is_none());
    }

    #[test]
    fn hosts_asked_directly() {
        for (list, url, direct) in [
            ("*", "http://a.example/", true),
            ("a.example", "http://a.example/", true),
            ("a.example", "http://b.a.example/", true),
            ("a.example", "http://ba.example/", false),
            (".a.example", "http://a.example/", false),
            (".A.example", "http://b.a.example/", true),
            ("*.a.example", "http://b.a.example/", true),
            ("x.example, a.example:81", "http://a.example:81/", true),
            ("a.example:81", "http://a.example/", false),
            ("10.0.0.0/8", "http://10.1.2.3/", true),
            ("10.0.0.0/8", "http://11.1.2.3/", false),
            ("10.1.2.3:80", "http://10.1.2.3/", true),
            ("10.1.2.3:81", "http://10.1.2.3/", false),
            ("2001:db8::1", "http://[2001:db8::1]/", true),
            ("[2001:db8::1]:81", "http://[2001:db8::1]:81/", true),
            (" , :80", "http://a.example/", false),
        ] {
            let found = proxies(&[("http_proxy", "http://proxy.example"), ("no_proxy", list)]).unwrap();
            assert_eq!(found.of(&Url::parse(url).unwrap()).is_none(), direct, "{list}: {url}");
        }
    }
}
