//! The TLS of one listening socket.
//!
//! The client's first message is read before the rest is decided: certificates from a provider may have to be got first, the
//! provider's own questions get their answer, and a client whose name isn't ours is told so.

use super::certs::Certificates;
use super::host_key::KeyKind;
use super::info::{HandshakeError, Refusal};
use super::provider;
use super::tickets::TicketKeys;
use super::verify::AnyCert;
use crate::acme::Acme;
use mox_base::Domain;
use rustls::server::{
    Acceptor, ClientHello, NoServerSessionStorage, ResolvesServerCert, ServerConfig, ServerSessionMemoryCache, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{AlertDescription, CipherSuite, NamedGroup, SignatureScheme};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

/// The protocol that a provider of certificates asks in, RFC 8737 §6.2.
pub const ACME_ALPN: &str = "acme-tls/1";

/// How long a peer may take to accept an alert.
const ALERT_TIMEOUT: Duration = Duration::from_secs(5);

/// What a client gets that asks for a name we have no certificate for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnknownSni {
    /// Our first certificate: for port 25, and for certificates from files.
    #[default]
    Fallback,
    /// A refused handshake (`unrecognized_name`).
    Refuse,
}

/// What a client gets from a provider that asks for no name, or for one that isn't ours, RFC 9325 §3.7. Nothing means a refused
/// handshake (`unrecognized_name`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AcmeFallback {
    /// Nothing: for HTTPS. Such sockets also answer the provider's questions.
    Nothing,
    /// Without a name the certificate of this host, with an unknown one nothing: for mail clients.
    WithoutName(Domain),
    /// The certificate of this host: for port 25, where names are often missing or odd, and encryption is better than none.
    Always(Domain),
}

/// The oldest version of TLS spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MinVersion {
    /// TLS 1.2 and 1.3.
    #[default]
    Tls12,
    /// TLS 1.3 only.
    Tls13,
}

/// How a socket does TLS.
#[derive(Clone, Copy, Debug)]
pub struct ServerTlsOptions {
    /// The oldest version.
    pub min_version: MinVersion,
    /// Whether to ask for a client certificate. It is never required, and not judged here: see [`super::TlsInfo::client`].
    pub client_auth: bool,
    /// Whether sessions can be resumed.
    pub tickets: bool,
    /// For names that certificates from files aren't for.
    pub unknown_sni: UnknownSni,
}

impl Default for ServerTlsOptions {
    fn default() -> Self {
        Self { min_version: MinVersion::default(), client_auth: false, tickets: true, unknown_sni: UnknownSni::default() }
    }
}

/// The TLS of one listening socket. Make one per socket: each has its own ticket keys unless it is given some, so that a session of
/// one service can't be resumed at another. Clones are the same one.
#[derive(Clone, Debug)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
    source: Source,
}

/// Where certificates come from.
#[derive(Clone, Debug)]
enum Source {
    Files { certs: Arc<Certificates>, refuse_unknown: bool },
    Acme { acme: Acme, fallback: AcmeFallback },
}

/// What to go on with.
enum Choice {
    /// This certificate.
    Given(Arc<CertifiedKey>),
    /// The answer to a provider's question.
    Answer(Arc<CertifiedKey>),
    /// A certificate to be asked for.
    Ask(Acme, String, KeyKind),
}

impl ServerTls {
    /// TLS with these certificates.
    ///
    /// # Errors
    /// When the options can't be had together, or ticket keys can't be made.
    pub fn new(certs: Arc<Certificates>, options: ServerTlsOptions) -> Result<Self, rustls::Error> {
        let source = Source::Files { certs, refuse_unknown: options.unknown_sni == UnknownSni::Refuse };
        Ok(Self { config: Arc::new(config(options)?), source })
    }

    /// TLS with certificates from a provider.
    ///
    /// # Errors
    /// When the options can't be had together, or ticket keys can't be made.
    pub fn with_acme(acme: Acme, fallback: AcmeFallback, options: ServerTlsOptions) -> Result<Self, rustls::Error> {
        Ok(Self { config: Arc::new(config(options)?), source: Source::Acme { acme, fallback } })
    }

    /// The same, offering protocols by name, RFC 7301. A client that names none of them is refused, one that names nothing isn't.
    #[must_use]
    pub fn with_alpn(mut self, protocols: &[&str]) -> Self {
        Arc::make_mut(&mut self.config).alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        self
    }

    /// The same, with tickets of keys that others have too, and that outlive us: for a service, at which alone they count. Without, keys
    /// are this socket's own. Nothing where the options have no tickets.
    #[must_use]
    pub fn with_ticket_keys(mut self, keys: &TicketKeys, service: &str) -> Self {
        if self.config.ticketer.enabled() {
            Arc::make_mut(&mut self.config).ticketer = keys.of_service(service);
        }
        self
    }

    /// The server's side of a handshake: gives the stream, and the certificate it was made with, since rustls doesn't tell. The
    /// limit is for what the client does, not for the time in which a certificate is got.
    pub(crate) async fn accept<IO>(&self, io: IO, limit: Duration) -> Result<(TlsStream<IO>, Arc<CertifiedKey>), HandshakeError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let hello = timeout(limit, LazyConfigAcceptor::new(Acceptor::default(), io)).await.map_err(|_| HandshakeError::Timeout)?;
        let mut start = hello.map_err(|e| HandshakeError::from_io(&e))?;
        let choice = self.choose(&start.client_hello());
        let chosen = match choice {
            Ok(Choice::Given(cert)) => Ok((cert, false)),
            Ok(Choice::Answer(cert)) => Ok((cert, true)),
            Ok(Choice::Ask(acme, name, kind)) => match acme.certificate(&name, kind).await {
                Ok(cert) => Ok((cert, false)),
                Err(error) => Err(Refusal::Unavailable { name, why: error.to_string() }),
            },
            Err(refusal) => Err(refusal),
        };
        let (cert, answer) = match chosen {
            Ok(chosen) => chosen,
            Err(refusal) => {
                // A client that doesn't listen learns as much from the closed connection.
                drop(timeout(ALERT_TIMEOUT, send_alert(&mut start.io, refusal.alert())).await);
                return Err(refusal.into());
            }
        };
        let stream = start.into_stream(self.with_certificate(&cert, answer));
        let stream = timeout(limit, stream).await.map_err(|_| HandshakeError::Timeout)?.map_err(|e| HandshakeError::from_io(&e))?;
        Ok((stream, cert))
    }

    fn choose(&self, hello: &ClientHello<'_>) -> Result<Choice, Refusal> {
        let name = hello.server_name().map(|name| name.trim_end_matches('.').to_ascii_lowercase());
        let (acme, fallback) = match &self.source {
            Source::Files { certs, refuse_unknown } => {
                let cert = certs.choose(hello, *refuse_unknown);
                return cert.map(Choice::Given).ok_or_else(|| Refusal::UnknownName(name.unwrap_or_default()));
            }
            Source::Acme { acme, fallback } => (acme, fallback),
        };
        if *fallback == AcmeFallback::Nothing && hello.alpn().is_some_and(|mut alpn| alpn.any(|p| p == ACME_ALPN.as_bytes())) {
            let answer = name.as_ref().and_then(|name| acme.tls_answer(name));
            return answer.map(Choice::Answer).ok_or_else(|| Refusal::UnknownName(name.unwrap_or_default()));
        }
        // A name without a dot is nobody's on the internet.
        let ours = name.as_ref().filter(|name| name.contains('.') && acme.allows(name));
        let host = match (ours, fallback, name.as_ref()) {
            (Some(name), _, _) => name.clone(),
            (None, AcmeFallback::Always(host), _) | (None, AcmeFallback::WithoutName(host), None) => host.ascii().to_owned(),
            (None, AcmeFallback::Nothing, None) => {
                acme.metrics().missing_name.inc();
                return Err(Refusal::NoName);
            }
            (None, AcmeFallback::Nothing | AcmeFallback::WithoutName(_), Some(name)) => {
                acme.metrics().unknown_name.inc();
                return Err(Refusal::UnknownName(name.clone()));
            }
        };
        Ok(Choice::Ask(acme.clone(), host, key_kind(hello)))
    }

    /// The configuration for one connection.
    fn with_certificate(&self, cert: &Arc<CertifiedKey>, answer: bool) -> Arc<ServerConfig> {
        let mut config = ServerConfig::clone(&self.config);
        config.cert_resolver = Arc::new(Chosen(Arc::clone(cert)));
        if answer {
            config.alpn_protocols = vec![ACME_ALPN.as_bytes().to_vec()];
        }
        Arc::new(config)
    }
}

fn config(options: ServerTlsOptions) -> Result<ServerConfig, rustls::Error> {
    let versions: &[&rustls::SupportedProtocolVersion] = match options.min_version {
        MinVersion::Tls12 => &[&TLS13, &TLS12],
        MinVersion::Tls13 => &[&TLS13],
    };
    let client = if options.client_auth { Arc::new(AnyCert::new()) } else { WebPkiClientVerifier::no_client_auth() };
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)?
        .with_client_cert_verifier(client)
        .with_cert_resolver(Arc::new(Undecided));
    if options.tickets {
        // Until there are others: keys only in memory, renewed every six hours.
        config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
        config.session_storage = ServerSessionMemoryCache::new(64);
    } else {
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(config)
}

/// The kind of key that a client can verify: ECDSA, unless it shows that it can't.
fn key_kind(hello: &ClientHello<'_>) -> KeyKind {
    let signs = hello.signature_schemes().contains(&SignatureScheme::ECDSA_NISTP256_SHA256);
    let any = |suites: &[CipherSuite]| hello.cipher_suites().iter().any(|suite| suites.contains(suite));
    let tls13 =
        any(&[CipherSuite::TLS13_AES_128_GCM_SHA256, CipherSuite::TLS13_AES_256_GCM_SHA384, CipherSuite::TLS13_CHACHA20_POLY1305_SHA256]);
    let ecdsa = any(&[
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ]);
    // Before TLS 1.3 the groups were for certificates too, RFC 8422 §5.1.
    let group = hello.named_groups().is_none_or(|groups| groups.contains(&NamedGroup::secp256r1));
    if signs && (tls13 || ecdsa && group) { KeyKind::EcdsaP256 } else { KeyKind::Rsa2048 }
}

/// A fatal alert before any handshake message of ours, so in the clear, RFC 8446 §6 and §5.1.
async fn send_alert(io: &mut (impl AsyncWrite + Unpin), alert: AlertDescription) -> io::Result<()> {
    const ALERT: u8 = 21;
    const FATAL: u8 = 2;
    io.write_all(&[ALERT, 3, 3, 0, 2, FATAL, u8::from(alert)]).await?;
    io.flush().await?;
    io.shutdown().await
}

/// The certificate of a connection.
#[derive(Debug)]
struct Chosen(Arc<CertifiedKey>);

impl ResolvesServerCert for Chosen {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

/// In the configuration that those of connections are made from.
#[derive(Debug)]
struct Undecided;

impl ResolvesServerCert for Undecided {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        None
    }
}
