//! Connections whose certificate is verified by TLSA records: to one server, and to the mail hosts of a domain as delivery would.

use crate::session::{self, Hello, SessionError};
use mox_base::{Domain, Host, Lookup, LookupError, Random, Tlsa};
use mox_delivery::outbound::{Destinations, Failure, addresses, destinations};
use mox_mailauth::dane::{self, Base, Gathered};
use mox_net::tls::{Check, DaneCheck, Findings, Severity};
use mox_net::{ClientTls, Dial, HandshakeError, Stream};
use mox_smtp::client::TlsMode;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// For each step of an SMTP session.
const PATIENCE: Duration = Duration::from_secs(60);

const SMTP_PORT: u16 = 25;

/// What connections are made with.
#[derive(Clone, Debug)]
pub struct Ports {
    /// DNS.
    pub lookup: Arc<dyn Lookup>,
    /// Connections.
    pub dial: Arc<dyn Dial>,
    /// TLS, whose authorities are those of usages pkix-ta and pkix-ee.
    pub tls: ClientTls,
    /// Chance, for the order of hosts.
    pub random: Arc<dyn Random>,
}

/// A connection with a verified certificate.
#[derive(Debug)]
pub struct Verified {
    /// The connection.
    pub stream: Stream,
    /// The record that matched; none where there are records but none that can be used, which asks only for encryption.
    pub record: Option<Tlsa>,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum DaneError {
    /// DNS doesn't tell.
    #[error("{0}")]
    Host(String),
    /// The addresses aren't authentic.
    #[error("the addresses of {0} are not protected by dnssec, so its tlsa records mean nothing")]
    NotAuthentic(String),
    /// There are no records.
    #[error("no tlsa records, with dnssec, at {0}")]
    NoRecords(String),
    /// None has a usage that is wanted.
    #[error("none of the tlsa records has an allowed usage")]
    NoUsage,
    /// DNS fails for them.
    #[error("looking up tlsa records: {0}")]
    Lookup(#[from] LookupError),
    /// No address can be connected to.
    #[error("connecting: {0}")]
    Dial(String),
    /// No TLS, or not that certificate.
    #[error("starting tls: {}", .0.describe())]
    Handshake(#[from] HandshakeError),
    /// TLS can't be set up.
    #[error("setting up tls: {0}")]
    Setup(#[from] mox_net::tls::Error),
    /// No SMTP session.
    #[error("{0}")]
    Session(#[from] SessionError),
    /// All hosts were tried.
    #[error("no remaining destinations")]
    NoneLeft,
}

impl From<Failure> for DaneError {
    fn from(failure: Failure) -> Self {
        Self::Host(failure.text)
    }
}

/// Connects to a server and starts TLS, with one of the usages. RFC 6698, RFC 7671.
///
/// # Errors
/// See [`DaneError`].
pub async fn dial(ports: &Ports, host: &Domain, port: u16, usages: &[u8]) -> Result<Verified, DaneError> {
    let found = addresses(&*ports.lookup, &Host::Domain(host.clone()), &[], true).await.map_err(Failure::from)?;
    if !found.authentic {
        return Err(DaneError::NotAuthentic(host.ascii().to_owned()));
    }
    let base = Base { host, expanded: found.expanded.as_ref() };
    let gathered = dane::gather(&*ports.lookup, base, port).await?;
    let gathered = gathered.ok_or_else(|| DaneError::NoRecords(format!("_{port}._tcp.{}", host.ascii())))?;
    let records: Vec<Tlsa> = gathered.records.iter().filter(|record| usages.contains(&record.usage)).cloned().collect();
    if records.is_empty() {
        return Err(DaneError::NoUsage);
    }
    let names = dane::names(&gathered, host, None);
    let (tls, findings, sni) = checked(ports, host, names, records)?;
    let mut stream = connect(ports, &found.ips, port).await?;
    stream.connect_tls(&tls, &sni).await?;
    Ok(Verified { stream, record: findings.dane().and_then(Result::ok) })
}

/// TLS that wants a record to match, and the name to ask for.
fn checked(ports: &Ports, host: &Domain, names: Vec<Domain>, records: Vec<Tlsa>) -> Result<(ClientTls, Findings, String), DaneError> {
    let sni = names.first().unwrap_or(host).ascii().to_owned();
    let check = Check { dane: Some(DaneCheck { records, names, severity: Severity::Refuse }), ..Check::default() };
    let (tls, findings) = ports.tls.checking(check)?;
    Ok((tls, findings, sni))
}

async fn connect(ports: &Ports, ips: &[IpAddr], port: u16) -> Result<Stream, DaneError> {
    let mut failed = "no addresses".to_owned();
    for ip in ips {
        match ports.dial.dial(SocketAddr::new(*ip, port), None).await {
            Ok(stream) => return Ok(stream),
            Err(e) => failed = format!("{ip}: {e}"),
        }
    }
    Err(DaneError::Dial(failed))
}

/// Whose mail hosts to try.
#[derive(Clone, Debug)]
pub struct MailDomain {
    /// The domain.
    pub domain: Domain,
    /// The only host to try, which must be one of the domain's.
    pub only: Option<Domain>,
    /// Our name.
    pub ehlo: Host,
}

/// Tries the mail hosts of a domain in order, until one has STARTTLS with a certificate that its TLSA records verify. RFC 7672. What is
/// done and found on the way is told, a line each.
///
/// # Errors
/// See [`DaneError`].
pub async fn dial_mx(ports: &Ports, wanted: &MailDomain, tell: &mut (dyn FnMut(&str) + Send)) -> Result<Verified, DaneError> {
    let next_hop = Host::Domain(wanted.domain.clone());
    let found = destinations(&*ports.lookup, &*ports.random, &next_hop, false).await?;
    let list = found.hosts.iter().map(Host::to_string).collect::<Vec<_>>().join(", ");
    tell(&format!(
        "mail hosts of {}: {list} ({})",
        wanted.domain.ascii(),
        protection(found.original_authentic && found.expanded_authentic)
    ));
    if !found.original_authentic || !found.expanded_authentic {
        tell("the way to the hosts is not protected by dnssec, so delivery would not look for tlsa records");
        return Err(DaneError::NoneLeft);
    }
    for host in found.hosts.iter().filter_map(Host::domain) {
        if wanted.only.as_ref().is_some_and(|only| only != host) {
            continue;
        }
        match try_host(ports, wanted, &found, host, tell).await {
            Ok(verified) => return Ok(verified),
            Err(e) => tell(&format!("{}: {e}", host.ascii())),
        }
    }
    Err(DaneError::NoneLeft)
}

const fn protection(authentic: bool) -> &'static str {
    if authentic { "with dnssec" } else { "without dnssec" }
}

async fn try_host(
    ports: &Ports,
    wanted: &MailDomain,
    found: &Destinations,
    host: &Domain,
    tell: &mut (dyn FnMut(&str) + Send),
) -> Result<Verified, DaneError> {
    let at = addresses(&*ports.lookup, &Host::Domain(host.clone()), &[], true).await.map_err(Failure::from)?;
    let ips = at.ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    tell(&format!("{}: addresses {ips} ({})", host.ascii(), protection(at.authentic)));
    if !at.authentic {
        return Err(DaneError::NotAuthentic(host.ascii().to_owned()));
    }
    let gathered = dane::gather(&*ports.lookup, Base { host, expanded: at.expanded.as_ref() }, SMTP_PORT).await?;
    let gathered = gathered.ok_or_else(|| DaneError::NoRecords(format!("_{SMTP_PORT}._tcp.{}", host.ascii())))?;
    for text in gathered.texts() {
        tell(&format!("{}: tlsa record {text}", host.ascii()));
    }
    let (tls, findings, name) = tls_of(ports, wanted, found, host, &gathered)?;
    if findings.is_none() {
        tell(&format!("{}: none of the records can be used for smtp: starttls is required, the certificate isn't verified", host.ascii()));
    }
    let hello = Hello { ehlo: wanted.ehlo.clone(), mode: TlsMode::Required, tls, name, patience: PATIENCE };
    let mut failed = DaneError::Dial("no addresses".to_owned());
    for ip in &at.ips {
        let stream = match connect(ports, &[*ip], SMTP_PORT).await {
            Ok(stream) => stream,
            Err(e) => {
                failed = e;
                continue;
            }
        };
        tell(&format!("{}: connected to {ip}", host.ascii()));
        match session::open(stream, &hello, Arc::clone(&ports.random)).await {
            Ok(stream) => return Ok(Verified { stream, record: findings.and_then(|f| f.dane()).and_then(Result::ok) }),
            Err(e) => failed = e.into(),
        }
    }
    Err(failed)
}

fn tls_of(
    ports: &Ports,
    wanted: &MailDomain,
    found: &Destinations,
    host: &Domain,
    gathered: &Gathered,
) -> Result<(ClientTls, Option<Findings>, String), DaneError> {
    let records = gathered.usable();
    if records.is_empty() {
        // RFC 7672 §2.2.
        return Ok((ClientTls::opportunistic()?, None, host.ascii().to_owned()));
    }
    let names = dane::names(gathered, host, Some((&wanted.domain, found.name.as_ref().unwrap_or(&wanted.domain))));
    let (tls, findings, sni) = checked(ports, host, names, records)?;
    Ok((tls, Some(findings), sni))
}

#[cfg(test)]
mod tests {
    use super::*;
    use mox_net::memory::World;
    use mox_net::tls::{Certificates, KeyCert, ServerTlsOptions, TlsaSubject, read_roots};
    use mox_net::{Listener, ServerTls};
    use mox_testkit::{SeededRandom, Zone};
    use rcgen::{CertificateParams, KeyPair};
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

    struct Served {
        ports: Ports,
        _serving: tokio::task::JoinSet<()>,
    }

    /// A host at 192.0.2.1 with mail at port 25 and something else at 993, and TLSA records of these usages for its key; 0xff is a
    /// record that matches nothing.
    fn served(usages: &[u8], zone: fn(Zone) -> Zone) -> Served {
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::new(vec!["mx.example".to_owned()]).unwrap().self_signed(&key).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        std::fs::write(&file, cert.pem()).unwrap();
        let roots = read_roots(false, &[file]).unwrap();
        let spki = TlsaSubject::from_pem(cert.pem().as_bytes()).unwrap().spki;
        let cert = KeyCert::from_pem(cert.pem().as_bytes(), key.serialize_pem().as_bytes()).unwrap();
        let tls = ServerTls::new(Arc::new(Certificates::new(vec![cert]).unwrap()), ServerTlsOptions::default()).unwrap();
        let world = World::new();
        let mut serving = tokio::task::JoinSet::new();
        serving.spawn(mail(world.listen("192.0.2.1:25".parse().unwrap()), tls.clone()));
        serving.spawn(other(world.listen("192.0.2.1:993".parse().unwrap()), tls));
        let mut names = Zone::new().mx("a.example", 10, "mx.example").mx("b.example", 5, "none.example").mx("b.example", 10, "mx.example");
        names = names.a("mx.example", "192.0.2.1").a("none.example", "192.0.2.2");
        for usage in usages {
            let record = match usage {
                0xff => Tlsa { usage: 3, selector: 1, matching: 1, data: vec![1; 32] },
                _ => Tlsa { usage: *usage, selector: 1, matching: 0, data: spki.clone() },
            };
            names = names.tlsa("_25._tcp.mx.example", record.clone()).tlsa("_993._tcp.mx.example", record);
        }
        let ports = Ports {
            lookup: Arc::new(zone(names.signed())),
            dial: Arc::new(world),
            tls: ClientTls::verified(roots).unwrap(),
            random: Arc::new(SeededRandom::default()),
        };
        Served { ports, _serving: serving }
    }

    async fn other(mut listener: Listener, tls: ServerTls) {
        while let Ok(mut stream) = listener.accept().await {
            if stream.start_tls(&tls, &[]).await.is_ok() {
                stream.close().await;
            }
        }
    }

    async fn mail(mut listener: Listener, tls: ServerTls) {
        while let Ok(stream) = listener.accept().await {
            let mut stream = BufReader::new(stream);
            stream.get_mut().write_all(b"220 hi\r\n").await.unwrap();
            let mut line = String::new();
            while stream.read_line(&mut line).await.unwrap_or(0) > 0 {
                if line.starts_with("STARTTLS") {
                    stream.get_mut().write_all(b"220 go on\r\n").await.unwrap();
                    if stream.get_mut().start_tls(&tls, &[]).await.is_err() {
                        break;
                    }
                } else {
                    stream.get_mut().write_all(b"250-mx.example\r\n250 STARTTLS\r\n").await.unwrap();
                }
                line.clear();
            }
        }
    }

    async fn dialed(records: &[u8], usages: &[u8], zone: fn(Zone) -> Zone) -> String {
        let served = served(records, zone);
        match dial(&served.ports, &"mx.example".parse().unwrap(), 993, usages).await {
            Ok(verified) => format!("usage {}", verified.record.unwrap().usage),
            Err(e) => e.to_string(),
        }
    }

    #[tokio::test]
    async fn one_server() {
        let all = [0, 1, 2, 3];
        let same: fn(Zone) -> Zone = |zone| zone;
        assert_eq!(dialed(&[3], &all, same).await, "usage 3");
        assert_eq!(dialed(&[1], &all, same).await, "usage 1");
        assert_eq!(dialed(&[0xff, 3], &all, same).await, "usage 3");
        assert_eq!(dialed(&[3], &[0, 1], same).await, "none of the tlsa records has an allowed usage");
        assert_eq!(dialed(&[0xff], &all, same).await, "starting tls: certificate: no TLSA record matches the certificate");
        assert_eq!(dialed(&[], &all, same).await, "no tlsa records, with dnssec, at _993._tcp.mx.example");
        let insecure: fn(Zone) -> Zone = |zone| zone.insecure("example");
        assert!(dialed(&[3], &all, insecure).await.starts_with("the addresses of mx.example are not protected by dnssec"));
        let bogus: fn(Zone) -> Zone = |zone| zone.bogus("_993._tcp.mx.example", None);
        assert!(dialed(&[3], &all, bogus).await.starts_with("looking up tlsa records: DNSSEC validation failed"));
    }

    async fn mail_dialed(domain: &str, only: Option<&str>, records: &[u8], zone: fn(Zone) -> Zone) -> (String, Vec<String>) {
        let served = served(records, zone);
        let wanted = MailDomain {
            domain: domain.parse().unwrap(),
            only: only.map(|host| host.parse().unwrap()),
            ehlo: Host::Domain("localhost".parse().unwrap()),
        };
        let mut told = Vec::new();
        let result = dial_mx(&served.ports, &wanted, &mut |line| told.push(line.to_owned())).await;
        let shown = match result {
            Ok(verified) => verified.record.map_or_else(|| "unverified".to_owned(), |record| format!("usage {}", record.usage)),
            Err(e) => e.to_string(),
        };
        (shown, told)
    }

    #[tokio::test]
    async fn mail_hosts() {
        let same: fn(Zone) -> Zone = |zone| zone;
        let (result, told) = mail_dialed("a.example", None, &[3], same).await;
        assert_eq!(result, "usage 3");
        assert_eq!(told[0], "mail hosts of a.example: mx.example (with dnssec)");
        assert_eq!(told.last().unwrap(), "mx.example: connected to 192.0.2.1");
        // A host without records is left out.
        let (result, told) = mail_dialed("b.example", None, &[3], same).await;
        assert_eq!(result, "usage 3");
        assert!(told.iter().any(|line| line == "none.example: no tlsa records, with dnssec, at _25._tcp.none.example"), "{told:?}");
        assert_eq!(mail_dialed("b.example", Some("none.example"), &[3], same).await.0, "no remaining destinations");
        // Records that can't be used for SMTP want encryption only.
        assert_eq!(mail_dialed("a.example", None, &[1], same).await.0, "unverified");
        let (result, told) = mail_dialed("a.example", None, &[0xff], same).await;
        assert_eq!(result, "no remaining destinations");
        assert!(told.last().unwrap() == "mx.example: starttls: certificate: no TLSA record matches the certificate", "{told:?}");
        let insecure: fn(Zone) -> Zone = |zone| zone.insecure("a.example");
        assert_eq!(mail_dialed("a.example", None, &[3], insecure).await.0, "no remaining destinations");
    }
}
