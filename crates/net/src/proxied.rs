//! The PROXY protocol, versions 1 and 2: by a header in front of everything else, a proxy in front of us says who its client is.
//!
//! <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>, sections as of that text. Only proxies of the administrator's choice are
//! believed, and from them a connection without the header is refused: guessing would let clients pretend to be somebody else (§2).
//! A header that tells of no client (`LOCAL`, `UNKNOWN`, other families), as proxies send to see whether we live, leaves the connection
//! as it is.

use crate::stream::Stream;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::io::AsyncReadExt as _;

/// How long a proxy may take for the header. §2.1 and §2.2 want at least 3 seconds, for packets that are lost.
const PATIENCE: Duration = Duration::from_secs(10);

/// §2.1: the longest line of version 1, with its end.
const MAX_LINE: usize = 107;

/// §2.2: what version 2 begins with.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// The most that may follow the fixed part of version 2: the addresses, and more about the connection, which is skipped.
const MAX_REST: usize = 4096;

/// Why a connection of a proxy can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// It doesn't begin as it has to.
    #[error("no PROXY header, or a malformed one")]
    Malformed,
    /// The header doesn't come.
    #[error("timeout waiting for the PROXY header")]
    Timeout,
    /// The connection ended or failed.
    #[error("reading PROXY header: {0}")]
    Io(#[from] io::Error),
}

/// What a header says: whose connection it is, and where that was made to. None where it says nothing about a client.
pub type Ends = Option<(SocketAddr, SocketAddr)>;

/// A header at the start of some bytes, and its length; none while it isn't complete.
///
/// # Errors
/// [`ProxyError::Malformed`], as early as possible.
pub fn parse(bytes: &[u8]) -> Result<Option<(Ends, usize)>, ProxyError> {
    let begins = |with: &[u8]| bytes.iter().zip(with).all(|(a, b)| a == b);
    if begins(SIGNATURE) {
        return version_2(bytes);
    }
    if !begins(b"PROXY ") {
        return Err(ProxyError::Malformed);
    }
    let line = bytes.get(..bytes.len().min(MAX_LINE)).unwrap_or_default();
    match line.windows(2).position(|end| end == b"\r\n") {
        Some(end) => {
            let text = line.get(..end).and_then(|line| std::str::from_utf8(line).ok()).ok_or(ProxyError::Malformed)?;
            Ok(Some((version_1(text)?, end.saturating_add(2))))
        }
        None if bytes.len() < MAX_LINE => Ok(None),
        None => Err(ProxyError::Malformed),
    }
}

/// §2.1: `PROXY TCP4 192.0.2.1 192.0.2.2 1024 25`.
fn version_1(line: &str) -> Result<Ends, ProxyError> {
    let mut words = line.split(' ');
    let mut word = || words.next().ok_or(ProxyError::Malformed);
    word()?;
    let family = word()?;
    if family == "UNKNOWN" {
        return Ok(None);
    }
    let (from, to, from_port, to_port) = (word()?, word()?, word()?, word()?);
    let ip = |text: &str| -> Result<IpAddr, ProxyError> {
        let ip: IpAddr = text.parse().map_err(|_| ProxyError::Malformed)?;
        if (family == "TCP4" && ip.is_ipv4()) || (family == "TCP6" && ip.is_ipv6()) { Ok(ip) } else { Err(ProxyError::Malformed) }
    };
    let port = |text: &str| -> Result<u16, ProxyError> {
        let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
        text.parse().ok().filter(|_| plain).ok_or(ProxyError::Malformed)
    };
    let ends = (end(ip(from)?, port(from_port)?), end(ip(to)?, port(to_port)?));
    if words.next().is_some() { Err(ProxyError::Malformed) } else { Ok(Some(ends)) }
}

/// §2.2: signature, version and command, family and protocol, length of the rest, addresses and ports.
fn version_2(bytes: &[u8]) -> Result<Option<(Ends, usize)>, ProxyError> {
    let Some((fixed, rest)) = bytes.split_first_chunk::<16>() else { return Ok(None) };
    let [.., command, family, high, low] = *fixed;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > MAX_REST {
        return Err(ProxyError::Malformed);
    }
    let proxied = match command {
        0x20 => false,
        0x21 => true,
        _ => return Err(ProxyError::Malformed),
    };
    let Some(rest) = rest.get(..length) else { return Ok(None) };
    let ends = match family {
        _ if !proxied => None,
        0x11 => Some(addresses::<4>(rest, |octets| Ipv4Addr::from(octets).into())?),
        0x21 => Some(addresses::<16>(rest, |octets| Ipv6Addr::from(octets).into())?),
        // Datagrams, and sockets of the proxy's machine: nobody that we could know by an address.
        0x00 | 0x12 | 0x22 | 0x31 | 0x32 => None,
        _ => return Err(ProxyError::Malformed),
    };
    Ok(Some((ends, fixed.len().saturating_add(length))))
}

fn addresses<const N: usize>(rest: &[u8], ip: fn([u8; N]) -> IpAddr) -> Result<(SocketAddr, SocketAddr), ProxyError> {
    let read = || {
        let (from, rest) = rest.split_first_chunk::<N>()?;
        let (to, rest) = rest.split_first_chunk::<N>()?;
        let (from_port, rest) = rest.split_first_chunk::<2>()?;
        let (to_port, _) = rest.split_first_chunk::<2>()?;
        Some((end(ip(*from), u16::from_be_bytes(*from_port)), end(ip(*to), u16::from_be_bytes(*to_port))))
    };
    read().ok_or(ProxyError::Malformed)
}

const fn end(ip: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(ip.to_canonical(), port)
}

impl Stream {
    /// Reads the header of a proxy, after which this is the connection of its client. What follows the header stays to be read.
    ///
    /// # Errors
    /// See [`ProxyError`]; the connection is then of no use.
    pub async fn proxied(self) -> Result<Self, ProxyError> {
        tokio::time::timeout(PATIENCE, self.read_header()).await.unwrap_or(Err(ProxyError::Timeout))
    }

    async fn read_header(mut self) -> Result<Self, ProxyError> {
        let mut header = Vec::new();
        loop {
            let mut piece = [0; 512];
            let n = self.read(&mut piece).await?;
            if n == 0 {
                return Err(ProxyError::Io(io::ErrorKind::UnexpectedEof.into()));
            }
            header.extend_from_slice(piece.get(..n).unwrap_or_default());
            if let Some((ends, length)) = parse(&header)? {
                self.resume_as(ends, header.get(length..).unwrap_or_default());
                return Ok(self);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tokio::io::AsyncWriteExt as _;

    fn show(bytes: &[u8]) -> String {
        match parse(bytes) {
            Ok(Some((Some((from, to)), length))) => format!("{from} to {to}, {length}"),
            Ok(Some((None, length))) => format!("nobody, {length}"),
            Ok(None) => "more".to_owned(),
            Err(_) => "bad".to_owned(),
        }
    }

    fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [SIGNATURE.as_slice(), &[command, family], &length, rest].concat()
    }

    #[test]
    fn lines() {
        for (line, want) in [
            ("PROXY TCP4 192.0.2.1 198.51.100.2 1024 25\r\nEHLO", "192.0.2.1:1024 to 198.51.100.2:25, 43"),
            ("PROXY TCP6 2001:db8::1 2001:db8::2 65535 0\r\n", "[2001:db8::1]:65535 to [2001:db8::2]:0, 44"),
            ("PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n", "192.0.2.1:1 to [::1]:2, 37"),
            ("PROXY UNKNOWN\r\n", "nobody, 15"),
            ("PROXY UNKNOWN a b c d\r\n", "nobody, 23"),
            ("", "more"),
            ("PRO", "more"),
            ("PROXY TCP4 192.0.2.1 198.51.100.2 1024 25\r", "more"),
            ("EHLO x\r\n", "bad"),
            ("PROXYTCP4", "bad"),
            ("PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n", "bad"),
            ("PROXY TCP4 192.0.2.1 198.51.100.2 1024 65536\r\n", "bad"),
            ("PROXY TCP4 192.0.2.1 198.51.100.2 1024 +25\r\n", "bad"),
            ("PROXY TCP4 192.0.2.1 198.51.100.2 1024 025\r\n", "bad"),
            ("PROXY TCP4 192.0.2.1 198.51.100.2 1024 25 x\r\n", "bad"),
            ("PROXY TCP4 192.0.2.1  198.51.100.2 1024 25\r\n", "bad"),
            ("PROXY TCP4 192.0.2.1\r\n", "bad"),
            ("PROXY UDP4 192.0.2.1 198.51.100.2 1024 25\r\n", "bad"),
            ("PROXY TCP4 192.0.2.1 198.51.100.2 1024 25\n", "more"),
        ] {
            assert_eq!(show(line.as_bytes()), want, "{line:?}");
        }
        assert_eq!(show(format!("PROXY UNKNOWN {}", "x".repeat(200)).as_bytes()), "bad");
    }

    #[test]
    fn binary_headers() {
        let four = [192, 0, 2, 1, 198, 51, 100, 2, 4, 0, 0, 25];
        let six: Vec<u8> = [[0; 15].as_slice(), &[1], &[0; 15], &[2], &[0, 80, 1, 187]].concat();
        // With more about the connection behind the addresses, §2.2.3.
        let more = [&four[..], &[4, 0, 1, 0]].concat();
        for (header, want) in [
            (binary(0x21, 0x11, &four), "192.0.2.1:1024 to 198.51.100.2:25, 28"),
            (binary(0x21, 0x11, &more), "192.0.2.1:1024 to 198.51.100.2:25, 32"),
            (binary(0x21, 0x21, &six), "[::1]:80 to [::2]:443, 52"),
            (binary(0x20, 0x11, &four), "nobody, 28"),
            (binary(0x20, 0, &[]), "nobody, 16"),
            (binary(0x21, 0x31, &[0; 216]), "nobody, 232"),
            (binary(0x21, 0x11, &four[..11]), "bad"),
            (binary(0x21, 0x13, &four), "bad"),
            (binary(0x22, 0x11, &four), "bad"),
            (binary(0x11, 0x11, &four), "bad"),
            (binary(0x21, 0x11, &[0; 5000]), "bad"),
        ] {
            assert_eq!(show(&header), want, "{header:?}");
            if want != "bad" {
                assert!((0..header.len()).all(|n| show(&header[..n]) == "more"), "{header:?}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_connection_is_the_clients() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let pair = || Stream::pair(at("10.0.0.1:4000"), at("10.0.0.2:25"));
        let (mut proxy, stream) = pair();
        let (sent, stream) = tokio::join!(
            async {
                for piece in ["PROXY TCP4 192.0.2.1 198.5", "1.100.2 1024 25\r\nEHLO ", "x\r\n"] {
                    proxy.write_all(piece.as_bytes()).await?;
                    tokio::task::yield_now().await;
                }
                proxy.shutdown().await
            },
            stream.proxied()
        );
        sent.unwrap();
        let mut stream = stream.unwrap();
        assert_eq!((stream.remote_addr(), stream.local_addr()), (at("192.0.2.1:1024"), at("198.51.100.2:25")));
        let mut rest = String::new();
        stream.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "EHLO x\r\n");

        let (mut proxy, stream) = pair();
        proxy.write_all(b"PROXY UNKNOWN\r\n").await.unwrap();
        assert_eq!(stream.proxied().await.unwrap().remote_addr(), at("10.0.0.1:4000"));
        let (mut proxy, stream) = pair();
        proxy.write_all(b"EHLO x\r\n").await.unwrap();
        assert!(matches!(stream.proxied().await, Err(ProxyError::Malformed)));
        let (proxy, stream) = pair();
        assert!(matches!(stream.proxied().await, Err(ProxyError::Timeout)));
        drop(proxy);
    }

    proptest! {
        #[test]
        fn anything(mut bytes in prop::collection::vec(any::<u8>(), 0..300), begin in 0..3) {
            let start: &[u8] = match begin {
                0 => b"",
                1 => b"PROXY TCP4 ",
                _ => SIGNATURE,
            };
            bytes.splice(0..0, start.iter().copied());
            let whole = parse(&bytes);
            // However it is cut: the same in the end, and nothing sooner.
            for n in 0..bytes.len() {
                match (parse(&bytes[..n]), &whole) {
                    (Ok(None), _) | (Err(_), Err(_)) => {}
                    (Ok(part), Ok(whole)) => prop_assert_eq!(&part, whole),
                    (part, whole) => prop_assert!(false, "{:?} {:?}", part, whole),
                }
            }
        }

        #[test]
        fn what_proxies_write(from: SocketAddr, to: SocketAddr, binary_form: bool) {
            prop_assume!(from.is_ipv4() == to.is_ipv4());
            let header = if binary_form {
                let octets = |ip: IpAddr| match ip {
                    IpAddr::V4(ip) => ip.octets().to_vec(),
                    IpAddr::V6(ip) => ip.octets().to_vec(),
                };
                let ports = [from.port().to_be_bytes(), to.port().to_be_bytes()].concat();
                binary(0x21, if from.is_ipv4() { 0x11 } else { 0x21 }, &[octets(from.ip()), octets(to.ip()), ports].concat())
            } else {
                let family = if from.is_ipv4() { "TCP4" } else { "TCP6" };
                format!("PROXY {family} {} {} {} {}\r\n", from.ip(), to.ip(), from.port(), to.port()).into_bytes()
            };
            let (ends, length) = parse(&header).unwrap().unwrap();
            let plain = |at: SocketAddr| end(at.ip(), at.port());
            prop_assert_eq!((ends, length), (Some((plain(from), plain(to))), header.len()));
        }
    }
}
