//! A request as services see it, and what its path, host and client are.

use hyper::body::Incoming;
use hyper::header::{HOST, HeaderMap, HeaderName, USER_AGENT};
use hyper::{Method, Uri};
use mox_base::Domain;
use mox_net::TlsInfo;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// A request for a service.
#[derive(Debug)]
pub struct Request {
    /// Its method.
    pub method: Method,
    /// Its header.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Incoming,
    /// The name that the request is addressed to, if it is to a name.
    pub host: Option<Domain>,
    /// The path below the service's own, starting with a slash; decoded and without dots or empty segments.
    pub path: String,
    /// The service's own path, ending in a slash.
    pub base: String,
    /// Who is at the other end of the connection.
    pub peer: Peer,
    /// The client's address: the peer's, or behind a reverse proxy what that says. None if it says nothing sensible.
    pub client_ip: Option<IpAddr>,
    /// A number for the log.
    pub id: i64,
}

/// The ends of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The peer's address.
    pub remote: SocketAddr,
    /// Our address.
    pub local: SocketAddr,
    /// What TLS agreed on.
    pub tls: Option<Arc<TlsInfo>>,
}

impl Request {
    /// What the client calls itself, or nothing.
    pub fn user_agent(&self) -> &str {
        text(&self.headers, &USER_AGENT)
    }
}

/// A header's value if it is text, else nothing.
pub(crate) fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> &'h str {
    headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
}

/// The first element of `X-Forwarded-For`, which is the client's when the proxy in front sets the header.
pub(crate) fn forwarded_for(headers: &HeaderMap) -> Option<IpAddr> {
    let value = headers.get("x-forwarded-for")?.to_str().ok()?;
    value.split(',').next()?.trim().parse().ok()
}

/// What a request is addressed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RequestHost {
    /// An address.
    Ip,
    /// A name.
    Name(Domain),
    /// Missing, or neither.
    None,
}

impl RequestHost {
    pub(crate) fn into_name(self) -> Option<Domain> {
        match self {
            Self::Name(name) => Some(name),
            Self::Ip | Self::None => None,
        }
    }
}

/// The host of a request: from its target if that has one (HTTP/2, and proxies' requests), else from `Host`, RFC 9112 §3.3.
pub(crate) fn host(uri: &Uri, headers: &HeaderMap) -> RequestHost {
    let authority = uri.authority().map_or_else(|| text(headers, &HOST), |a| a.as_str());
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    if let Some(literal) = authority.strip_prefix('[') {
        let ip = literal.split_once(']').and_then(|(ip, _)| ip.parse::<IpAddr>().ok());
        return ip.map_or(RequestHost::None, |_| RequestHost::Ip);
    }
    let name = authority.rsplit_once(':').map_or(authority, |(name, _)| name);
    if name.parse::<IpAddr>().is_ok() {
        return RequestHost::Ip;
    }
    Domain::parse_lax(name.strip_suffix('.').unwrap_or(name)).map_or(RequestHost::None, RequestHost::Name)
}

/// A path decoded, without `.`, `..` and empty segments; a slash at its end is kept.
pub(crate) fn clean(path: &str) -> String {
    let decoded = percent_decode(path);
    let mut segments: Vec<&str> = Vec::new();
    for segment in decoded.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    let mut cleaned = String::with_capacity(decoded.len().saturating_add(1));
    for segment in &segments {
        cleaned.push('/');
        cleaned.push_str(segment);
    }
    if segments.is_empty() || decoded.ends_with('/') {
        cleaned.push('/');
    }
    cleaned
}

/// `%41` becomes `A`; what isn't two digits stays, and what isn't UTF-8 becomes U+FFFD.
pub(crate) fn percent_decode(text: &str) -> String {
    if !text.contains('%') {
        return text.to_owned();
    }
    String::from_utf8_lossy(&percent_decode_bytes(text.as_bytes(), false)).into_owned()
}

/// As above, of bytes; with `plus`, as in forms, `+` is a space.
pub(crate) fn percent_decode_bytes(bytes: &[u8], plus: bool) -> Vec<u8> {
    let digit = |b: Option<&u8>| b.and_then(|b| char::from(*b).to_digit(16)).and_then(|d| u8::try_from(d).ok());
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'%' => match (digit(after.first()), digit(after.get(1))) {
                (Some(high), Some(low)) => {
                    out.push(high << 4 | low);
                    rest = after.get(2..).unwrap_or_default();
                }
                _ => out.push(b'%'),
            },
            b'+' if plus => out.push(b' '),
            other => out.push(*other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        for (path, want) in [
            ("", "/"),
            ("/", "/"),
            ("//", "/"),
            ("/webapi", "/webapi"),
            ("/webapi/", "/webapi/"),
            ("/webapi//v0/./Send", "/webapi/v0/Send"),
            ("/webapi/v0/../v0/x/", "/webapi/v0/x/"),
            ("/../../etc/passwd", "/etc/passwd"),
            ("/%77ebapi/%2e%2e/a%2Fb", "/a/b"),
            ("/a/..", "/"),
            ("/%zz%4", "/%zz%4"),
        ] {
            assert_eq!(clean(path), want, "{path}");
        }
    }

    #[test]
    fn hosts() {
        let of = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, value.parse().unwrap());
            host(&Uri::from_static("/"), &headers)
        };
        let name = |text: &str| RequestHost::Name(Domain::parse(text).unwrap());
        assert_eq!(of("localhost:1080"), name("localhost"));
        assert_eq!(of("MAIL.example"), name("mail.example"));
        assert_eq!(of("xn--bcher-kva.example:80"), name("bücher.example"));
        assert_eq!(of("127.0.0.1"), RequestHost::Ip);
        assert_eq!(of("127.0.0.1:1080"), RequestHost::Ip);
        assert_eq!(of("[::1]:1080"), RequestHost::Ip);
        assert_eq!(of("[::1"), RequestHost::None);
        assert_eq!(of("a b"), RequestHost::None);
        assert_eq!(host(&Uri::from_static("/"), &HeaderMap::new()), RequestHost::None);
    }

    #[test]
    fn clients_behind_a_proxy() {
        let of = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-forwarded-for", value.parse().unwrap());
            forwarded_for(&headers).map(|ip| ip.to_string())
        };
        assert_eq!(of("192.0.2.1").as_deref(), Some("192.0.2.1"));
        assert_eq!(of(" 2001:db8::1 , 192.0.2.1").as_deref(), Some("2001:db8::1"));
        assert_eq!(of("unknown, 192.0.2.1"), None);
        assert_eq!(forwarded_for(&HeaderMap::new()), None);
    }

    #[test]
    fn forms_have_plus_for_space() {
        assert_eq!(percent_decode_bytes(b"a+b%2B%", true), b"a b+%");
    }
}
