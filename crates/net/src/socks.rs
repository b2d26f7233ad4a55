//! Dialling through a SOCKS5 proxy, RFC 1928, with user name and password where it wants them, RFC 1929.
//!
//! Only CONNECT to addresses: names are resolved by us, because what DNS says decides about TLS. The proxy's own address is
//! looked up for each connection, so that it may move.

use crate::dial::{Dial, DialError, DialFuture};
use crate::stream::Stream;
use mox_base::{Lookup, Secret};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Both replies of the proxy have to come within this time; connecting to the other host is part of it.
const TIMEOUT: Duration = Duration::from_secs(30);

const VERSION: u8 = 5;
const NO_AUTHENTICATION: u8 = 0;
const USER_NAME_AND_PASSWORD: u8 = 2;
/// The version of the exchange of user name and password, RFC 1929 §2.
const LOGIN_VERSION: u8 = 1;
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

/// Connects through a proxy.
#[derive(Clone, Debug)]
pub struct SocksDial {
    /// Connects to the proxy.
    pub through: Arc<dyn Dial>,
    /// For the proxy's name.
    pub lookup: Arc<dyn Lookup>,
    /// The proxy's name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Who we are, if it wants to know.
    pub login: Option<SocksLogin>,
}

/// A name and a password for a proxy, RFC 1929: each of 1 to 255 octets. They go over the wire as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocksLogin {
    /// The name.
    pub user: String,
    /// The password.
    pub password: Secret<String>,
}

impl Dial for SocksDial {
    /// `from` doesn't matter: the other host sees the proxy.
    fn dial(&self, to: SocketAddr, _from: Option<IpAddr>) -> DialFuture<'_> {
        Box::pin(async move {
            let mut stream = self.dial_proxy().await?;
            match tokio::time::timeout(TIMEOUT, connect(&mut stream, to, self.login.as_ref())).await {
                Ok(Ok(())) => Ok(stream),
                Ok(Err(e)) => Err(DialError::Io(e)),
                Err(_) => Err(DialError::Timeout),
            }
        })
    }
}

impl SocksDial {
    async fn dial_proxy(&self) -> Result<Stream, DialError> {
        let ips = match self.host.parse::<IpAddr>() {
            Ok(ip) => vec![ip],
            Err(_) => {
                let found = self.lookup.ips(&self.host).await;
                found.map_err(|e| io::Error::other(format!("looking up proxy {}: {e}", self.host)))?.records
            }
        };
        let mut last = DialError::Io(io::Error::other(format!("proxy {} has no address", self.host)));
        for ip in ips {
            match self.through.dial(SocketAddr::new(ip, self.port), None).await {
                Ok(stream) => return Ok(stream),
                Err(e) => last = DialError::Io(io::Error::other(format!("connecting to proxy {ip}: {e}"))),
            }
        }
        Err(last)
    }
}

/// Asks a proxy to connect to an address; from then on the stream is a connection to that.
async fn connect(stream: &mut Stream, to: SocketAddr, login: Option<&SocksLogin>) -> io::Result<()> {
    // RFC 1928 §3: the version, and the methods that we can.
    let methods: &[u8] = match login {
        None => &[VERSION, 1, NO_AUTHENTICATION],
        Some(_) => &[VERSION, 2, NO_AUTHENTICATION, USER_NAME_AND_PASSWORD],
    };
    stream.write_all(methods).await?;
    stream.flush().await?;
    match (stream.read_u8().await?, stream.read_u8().await?, login) {
        (VERSION, NO_AUTHENTICATION, _) => {}
        (VERSION, USER_NAME_AND_PASSWORD, Some(login)) => log_in(stream, login).await?,
        (VERSION, _, Some(_)) => return Err(io::Error::other("proxy wants another kind of authentication than user name and password")),
        (VERSION, _, None) => return Err(io::Error::other("proxy wants authentication")),
        _ => return Err(io::Error::other("not a SOCKS5 proxy")),
    }
    // RFC 1928 §4.
    let mut request = vec![VERSION, CONNECT, 0];
    match to.ip() {
        IpAddr::V4(ip) => {
            request.push(IPV4);
            request.extend(ip.octets());
        }
        IpAddr::V6(ip) => {
            request.push(IPV6);
            request.extend(ip.octets());
        }
    }
    request.extend(to.port().to_be_bytes());
    stream.write_all(&request).await?;
    stream.flush().await?;
    // RFC 1928 §6.
    let (version, reply, _reserved, kind) =
        (stream.read_u8().await?, stream.read_u8().await?, stream.read_u8().await?, stream.read_u8().await?);
    if version != VERSION {
        return Err(io::Error::other("not a SOCKS5 proxy"));
    }
    if reply != 0 {
        return Err(io::Error::other(format!("proxy: {}", meaning(reply))));
    }
    // The address at the proxy's end, which nobody needs.
    let length = match kind {
        IPV4 => 4,
        IPV6 => 16,
        NAME => usize::from(stream.read_u8().await?),
        _ => return Err(io::Error::other("proxy: reply with an unknown type of address")),
    };
    let mut bound = vec![0; length.saturating_add(2)];
    stream.read_exact(&mut bound).await?;
    Ok(())
}

/// RFC 1929 §2.
async fn log_in(stream: &mut Stream, login: &SocksLogin) -> io::Result<()> {
    let mut request = vec![LOGIN_VERSION];
    for text in [&login.user, login.password.expose()] {
        let length = u8::try_from(text.len()).ok().filter(|n| *n > 0);
        request.push(length.ok_or_else(|| io::Error::other("user name and password for a proxy have 1 to 255 octets"))?);
        request.extend_from_slice(text.as_bytes());
    }
    stream.write_all(&request).await?;
    stream.flush().await?;
    // Some proxies answer with the version of SOCKS instead; what counts is the second octet.
    let (_version, status) = (stream.read_u8().await?, stream.read_u8().await?);
    if status == 0 { Ok(()) } else { Err(io::Error::other("proxy refuses user name and password")) }
}

const fn meaning(reply: u8) -> &'static str {
    match reply {
        1 => "general failure",
        2 => "connection not allowed",
        3 => "network unreachable",
        4 => "host unreachable",
        5 => "connection refused",
        6 => "time to live expired",
        7 => "command not supported",
        8 => "type of address not supported",
        _ => "unknown failure",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::World;
    use mox_testkit::Mutator;

    /// A resolver that isn't asked.
    #[derive(Debug)]
    struct Unasked;

    impl Lookup for Unasked {
        fn query<'a>(&'a self, name: &'a str, _kind: mox_base::RecordKind) -> mox_base::LookupFuture<'a> {
            panic!("asked for {name}")
        }
    }

    /// A proxy that answers with these bytes, and what it was sent.
    async fn try_proxy(answers: Vec<&'static [u8]>, to: &str) -> (Result<String, String>, Vec<u8>) {
        try_proxy_as(None, answers, to).await
    }

    fn ann(password: &str) -> Option<SocksLogin> {
        Some(SocksLogin { user: "ann".to_owned(), password: Secret::new(password.to_owned()) })
    }

    #[expect(clippy::disallowed_methods, reason = "a peer of a test ends with the test's runtime")]
    async fn try_proxy_as(login: Option<SocksLogin>, answers: Vec<&'static [u8]>, to: &str) -> (Result<String, String>, Vec<u8>) {
        let world = World::new();
        let mut listener = world.listen("192.0.2.9:1080".parse().unwrap());
        let proxy = tokio::spawn(async move {
            let mut stream = listener.accept().await.unwrap();
            let mut heard = Vec::new();
            for answer in answers {
                let mut buffer = [0; 100];
                let n = stream.read(&mut buffer).await.unwrap();
                heard.extend_from_slice(&buffer[..n]);
                stream.write_all(answer).await.unwrap();
                stream.flush().await.unwrap();
            }
            heard
        });
        let dial = SocksDial { through: Arc::new(world), lookup: Arc::new(Unasked), host: "192.0.2.9".to_owned(), port: 1080, login };
        let result = match dial.dial(to.parse().unwrap(), None).await {
            Ok(mut stream) => {
                let mut text = String::new();
                stream.read_to_string(&mut text).await.unwrap();
                Ok(text)
            }
            Err(e) => Err(e.to_string()),
        };
        (result, proxy.await.unwrap())
    }

    #[tokio::test]
    async fn connects_to_addresses_of_both_families() {
        let (result, heard) = try_proxy(vec![&[5, 0], b"\x05\x00\x00\x01\x7f\x00\x00\x01\x12\x34220 hi\r\n"], "192.0.2.1:25").await;
        assert_eq!(result.as_deref(), Ok("220 hi\r\n"));
        assert_eq!(heard, [&[5, 1, 0][..], &[5, 1, 0, 1, 192, 0, 2, 1, 0, 25]].concat());
        let (result, heard) = try_proxy(vec![&[5, 0], b"\x05\x00\x00\x03\x04name\x12\x34ok"], "[2001:db8::1]:25").await;
        assert_eq!(result.as_deref(), Ok("ok"));
        assert_eq!(heard[3..], [&[5, 1, 0, 4, 0x20, 1, 0xd, 0xb8][..], &[0; 11], &[1, 0, 25]].concat());
    }

    #[tokio::test]
    async fn logs_in_where_the_proxy_wants_it() {
        let granted = b"\x05\x00\x00\x01\x7f\x00\x00\x01\x12\x34220 hi\r\n";
        let (result, heard) = try_proxy_as(ann("pw"), vec![&[5, 2], &[1, 0], granted], "192.0.2.1:25").await;
        assert_eq!(result.as_deref(), Ok("220 hi\r\n"));
        assert_eq!(heard, [&[5, 2, 0, 2][..], b"\x01\x03ann\x02pw", &[5, 1, 0, 1, 192, 0, 2, 1, 0, 25]].concat());
        // A proxy that doesn't ask isn't told.
        let (result, heard) = try_proxy_as(ann("pw"), vec![&[5, 0], granted], "192.0.2.1:25").await;
        assert!(result.is_ok() && !heard.windows(2).any(|w| w == b"pw"), "{result:?}");
        for (login, answers, want) in [
            (ann("wrong"), vec![&[5u8, 2][..], &[1, 1]], "proxy refuses user name and password"),
            (ann("pw"), vec![&[5, 0xff]], "proxy wants another kind of authentication than user name and password"),
            (ann("pw"), vec![&[5, 1]], "proxy wants another kind of authentication than user name and password"),
            (ann(""), vec![&[5, 2]], "user name and password for a proxy have 1 to 255 octets"),
            (ann(&"x".repeat(256)), vec![&[5, 2]], "user name and password for a proxy have 1 to 255 octets"),
            (None, vec![&[5, 2]], "proxy wants authentication"),
        ] {
            assert_eq!(try_proxy_as(login, answers, "192.0.2.1:25").await.0, Err(want.to_owned()));
        }
    }

    /// With a login and an address, and with neither and a name.
    const GRANTED: &[&[u8]] = &[b"\x05\x02\x01\x00\x05\x00\x00\x01\x7f\x00\x00\x01\x12\x34", b"\x05\x00\x05\x00\x00\x03\x04name\x12\x34"];

    /// Whatever a proxy answers, it ends, and never in a connection that isn't one.
    #[tokio::test(start_paused = true)]
    async fn broken_replies() {
        let world = World::new();
        let mut listener = world.listen("192.0.2.9:1080".parse().unwrap());
        let dial =
            SocksDial { through: Arc::new(world), lookup: Arc::new(Unasked), host: "192.0.2.9".to_owned(), port: 1080, login: ann("pw") };
        let mut connected = 0;
        for seed in 0..500 {
            let mutator = Mutator::new(seed);
            let said = mutator.bytes(mutator.one_of::<&[u8]>(GRANTED));
            let proxy = async {
                let mut stream = listener.accept().await.unwrap();
                stream.write_all(&said).await.unwrap();
                stream.flush().await.unwrap();
                // It says no more, and either stays or goes.
                (mutator.below(2) == 0).then_some(stream)
            };
            let (_proxy, result) = tokio::join!(proxy, dial.dial("192.0.2.1:25".parse().unwrap(), None));
            if result.is_ok() {
                // RFC 1928 §6: version 5, and success. Before that, the method that was chosen.
                assert!(said.len() >= 10 && said[0] == 5 && [0, 2].contains(&said[1]), "seed {seed}: {said:?}");
                let reply = if said[1] == 2 { &said[4..] } else { &said[2..] };
                assert_eq!(reply[..2], [5, 0], "seed {seed}: {said:?}");
                connected += 1;
            }
        }
        assert!((20..450).contains(&connected), "{connected}");
    }

    #[tokio::test]
    async fn refusals_and_garbage_are_errors() {
        for (answers, want) in [
            (vec![&[5u8, 0xff][..]], "proxy wants authentication"),
            (vec![b"HT"], "not a SOCKS5 proxy"),
            (vec![&[5, 0], &[5, 5, 0, 1, 0, 0, 0, 0, 0, 0]], "proxy: connection refused"),
            (vec![&[5, 0], &[5, 200, 0, 1]], "proxy: unknown failure"),
            (vec![&[5, 0], &[5, 0, 0, 9]], "proxy: reply with an unknown type of address"),
            (vec![&[5, 0], &[4, 0, 0, 1]], "not a SOCKS5 proxy"),
        ] {
            assert_eq!(try_proxy(answers, "192.0.2.1:25").await.0, Err(want.to_owned()));
        }
        let (result, _) = try_proxy(vec![&[5, 0], &[5, 0]], "192.0.2.1:25").await;
        assert!(result.is_err(), "{result:?}");
    }
}
