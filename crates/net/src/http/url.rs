//! Web addresses, as far as a client needs them.

use mox_base::Domain;
use std::fmt::{self, Write as _};
use std::net::{IpAddr, Ipv6Addr};

/// An absolute URL of http or https, RFC 3986. Fragments are dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// Whether it is https.
    pub https: bool,
    /// The host.
    pub host: UrlHost,
    /// The port, also when it isn't written.
    pub port: u16,
    /// Path and query, beginning with a slash, in ASCII.
    pub path: String,
    /// What is before an `@`, percent-decoded: user and password.
    pub user: Option<(String, String)>,
}

/// The host of a URL.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UrlHost {
    /// A name in ASCII.
    Name(String),
    /// An address.
    Ip(IpAddr),
}

impl fmt::Display for UrlHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Ip(ip) => ip.fmt(f),
        }
    }
}

/// Why a text is no URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Neither http nor https.
    #[error("url must start with http:// or https://")]
    Scheme,
    /// No host, or not one.
    #[error("url has no proper host")]
    Host,
    /// Not a port.
    #[error("url has a bad port")]
    Port,
    /// Spaces or control characters.
    #[error("url has a space or control character")]
    Character,
}

impl Url {
    /// Reads a URL. What isn't ASCII is encoded as browsers do.
    ///
    /// # Errors
    /// See [`UrlError`].
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        if text.chars().any(|c| c.is_control() || c == ' ') {
            return Err(UrlError::Character);
        }
        let (scheme, rest) = text.split_once("://").ok_or(UrlError::Scheme)?;
        let https = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(UrlError::Scheme),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(end).ok_or(UrlError::Host)?;
        let (user, host_port) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        let (host, port) = host_port_of(host_port)?;
        let port = match port {
            None | Some("") => {
                if https {
                    443
                } else {
                    80
                }
            }
            Some(port) if port.bytes().all(|b| b.is_ascii_digit()) => port.parse().map_err(|_| UrlError::Port)?,
            Some(_) => return Err(UrlError::Port),
        };
        Ok(Self { https, host, port, path: path_of(path), user: user.map(user_of) })
    }

    /// What the Host header says.
    #[must_use]
    pub fn authority(&self) -> String {
        let default = if self.https { 443 } else { 80 };
        let host = match &self.host {
            UrlHost::Name(name) => name.clone(),
            UrlHost::Ip(IpAddr::V4(ip)) => ip.to_string(),
            UrlHost::Ip(IpAddr::V6(ip)) => format!("[{ip}]"),
        };
        if self.port == default { host } else { format!("{host}:{}", self.port) }
    }
}

fn host_port_of(text: &str) -> Result<(UrlHost, Option<&str>), UrlError> {
    if let Some(rest) = text.strip_prefix('[') {
        let (ip, after) = rest.split_once(']').ok_or(UrlError::Host)?;
        let ip: Ipv6Addr = ip.parse().map_err(|_| UrlError::Host)?;
        return match after.strip_prefix(':') {
            Some(port) => Ok((UrlHost::Ip(ip.into()), Some(port))),
            None if after.is_empty() => Ok((UrlHost::Ip(ip.into()), None)),
            None => Err(UrlError::Host),
        };
    }
    let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok((UrlHost::Ip(ip), port));
    }
    let host = host.strip_suffix('.').unwrap_or(host);
    // Forms of addresses that only some programs understand: 0x7f.1, 2130706433.
    let last = host.rsplit('.').next().unwrap_or_default();
    if last.is_empty() || last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x") {
        return Err(UrlError::Host);
    }
    let name = Domain::parse_lax(host).map_err(|_| UrlError::Host)?;
    Ok((UrlHost::Name(name.ascii().to_owned()), port))
}

fn path_of(text: &str) -> String {
    let text = text.split('#').next().unwrap_or_default();
    let mut path = String::with_capacity(text.len() + 1);
    if !text.starts_with('/') {
        path.push('/');
    }
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && !matches!(byte, b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}') {
            path.push(char::from(byte));
        } else {
            // Writing to a String can't fail.
            let _written = write!(path, "%{byte:02X}");
        }
    }
    path
}

fn user_of(text: &str) -> (String, String) {
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    (percent_decoded(user), percent_decoded(password))
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let hex = (first == b'%').then(|| after.get(..2)).flatten().and_then(|hex| std::str::from_utf8(hex).ok());
        if let Some(byte) = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            bytes.push(byte);
            rest = after.get(2..).unwrap_or_default();
        } else {
            bytes.push(first);
            rest = after;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use mox_testkit::Mutator;

    #[test]
    fn parts() {
        for (text, want) in [
            ("http://a.example", "http a.example 80 / a.example"),
            ("HTTPS://A.example/x?y#z", "https a.example 443 /x?y a.example"),
            ("http://a.example:8080?q", "http a.example 8080 /?q a.example:8080"),
            ("http://[::1]:81/ä", "http ::1 81 /%C3%A4 [::1]:81"),
            ("https://127.0.0.1:443/%41|", "https 127.0.0.1 443 /%41%7C 127.0.0.1"),
            ("http://bücher.example./", "http xn--bcher-kva.example 80 / xn--bcher-kva.example"),
            ("http://localhost:1080/hook", "http localhost 1080 /hook localhost:1080"),
            ("http://my_app:1/", "http my_app 1 / my_app:1"),
        ] {
            let url = Url::parse(text).unwrap();
            let host = match &url.host {
                UrlHost::Name(name) => name.clone(),
                UrlHost::Ip(ip) => ip.to_string(),
            };
            let scheme = if url.https { "https" } else { "http" };
            assert_eq!(format!("{scheme} {host} {} {} {}", url.port, url.path, url.authority()), want, "{text}");
        }
        let url = Url::parse("http://me:p%40ss@a.example/").unwrap();
        assert_eq!(url.user, Some(("me".to_owned(), "p@ss".to_owned())));
    }

    /// What is taken for a URL is one: printed and read again it is the same, and nothing in it can end a line of a request.
    #[test]
    fn broken_urls() {
        let mut read = 0;
        for seed in 0..20_000 {
            let mutator = Mutator::new(seed);
            let text = *mutator.one_of(&[
                "https://me:p%40ss@a-b.example:8443/x/y?z=1&w=ä#f",
                "http://[2001:db8::1]:80/%41",
                "HTTP://xn--bcher-kva.example./?",
                "http://192.0.2.1/\\\"<>",
            ]);
            let broken = String::from_utf8_lossy(&mutator.bytes(text.as_bytes())).into_owned();
            let Ok(url) = Url::parse(&broken) else { continue };
            read += 1;
            assert!(url.path.starts_with('/') && url.path.bytes().all(|b| b.is_ascii_graphic()), "seed {seed}: {broken:?}");
            let authority = url.authority();
            assert!(authority.bytes().all(|b| b.is_ascii_graphic() && !b"/?#@\\".contains(&b)), "seed {seed}: {broken:?}");
            let printed = format!("http{}://{authority}{}", if url.https { "s" } else { "" }, url.path);
            assert_eq!(Url::parse(&printed), Ok(Url { user: None, ..url }), "seed {seed}: {broken:?}");
        }
        assert!(read > 4000, "{read}");
    }

    #[test]
    fn not_urls() {
        for (text, want) in [
            ("", UrlError::Scheme),
            ("ftp://a.example", UrlError::Scheme),
            ("http:/a.example", UrlError::Scheme),
            ("http://", UrlError::Host),
            ("http:///x", UrlError::Host),
            ("http://a..example", UrlError::Host),
            ("http://2130706433/", UrlError::Host),
            ("http://0x7f.0x1/", UrlError::Host),
            ("http://127.1/", UrlError::Host),
            ("http://[::1/", UrlError::Host),
            ("http://[::1]x/", UrlError::Host),
            ("http://a.example:x/", UrlError::Port),
            ("http://a.example:99999/", UrlError::Port),
            ("http://a.example/\r\nX: y", UrlError::Character),
            ("http://a.example/a b", UrlError::Character),
        ] {
            assert_eq!(Url::parse(text), Err(want), "{text}");
        }
    }
}
