//! The TLS of one listening socket.

use super::certs::Certificates;
use super::provider;
use super::verify::AnyClientCert;
use rustls::server::{
    ClientHello, NoServerSessionStorage, ResolvesServerCert, ServerConfig, ServerSessionMemoryCache, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use std::sync::{Arc, OnceLock};

/// What a client gets that asks for a name we have no certificate for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnknownSni {
    /// Our first certificate: for port 25, and for certificates from files.
    #[default]
    Fallback,
    /// A refused handshake (`unrecognized_name`).
    Refuse,
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
    /// For names we have no certificate for.
    pub unknown_sni: UnknownSni,
}

impl Default for ServerTlsOptions {
    fn default() -> Self {
        Self { min_version: MinVersion::default(), client_auth: false, tickets: true, unknown_sni: UnknownSni::default() }
    }
}

/// The TLS of one listening socket. Make one per socket: each has its own ticket keys, so that a session of one service
/// can't be resumed at another. Clones are the same one.
#[derive(Clone, Debug)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
}

impl ServerTls {
    /// TLS with these certificates.
    ///
    /// # Errors
    /// When the options can't be had together, or ticket keys can't be made.
    pub fn new(certs: Arc<Certificates>, options: ServerTlsOptions) -> Result<Self, rustls::Error> {
        let versions: &[&rustls::SupportedProtocolVersion] = match options.min_version {
            MinVersion::Tls12 => &[&TLS13, &TLS12],
            MinVersion::Tls13 => &[&TLS13],
        };
        let client = if options.client_auth { Arc::new(AnyClientCert::new()) } else { WebPkiClientVerifier::no_client_auth() };
        let resolver = BySni { certs, refuse_unknown: options.unknown_sni == UnknownSni::Refuse };
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)?
            .with_client_cert_verifier(client)
            .with_cert_resolver(Arc::new(resolver));
        if options.tickets {
            // Keys only in memory, renewed every six hours.
            config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
            config.session_storage = ServerSessionMemoryCache::new(64);
        } else {
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        Ok(Self { config: Arc::new(config) })
    }

    /// The configuration for one connection, and where it notes the certificate that it chose: rustls doesn't tell.
    pub(crate) fn for_connection(&self) -> (Arc<ServerConfig>, Arc<Noted>) {
        let noted = Arc::new(Noted { resolver: Arc::clone(&self.config.cert_resolver), chosen: OnceLock::new() });
        let mut config = ServerConfig::clone(&self.config);
        config.cert_resolver = Arc::clone(&noted) as Arc<dyn ResolvesServerCert>;
        (Arc::new(config), noted)
    }
}

impl ServerTls {
    /// The same, offering protocols by name, RFC 7301. A client that names none of them is refused, one that names nothing isn't.
    #[must_use]
    pub fn with_alpn(mut self, protocols: &[&str]) -> Self {
        Arc::make_mut(&mut self.config).alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        self
    }
}

/// The choice of a certificate for one connection.
#[derive(Debug)]
pub(crate) struct Noted {
    resolver: Arc<dyn ResolvesServerCert>,
    chosen: OnceLock<Arc<CertifiedKey>>,
}

impl Noted {
    /// The leaf of the certificate that was chosen, in DER.
    pub(crate) fn leaf(&self) -> Option<&[u8]> {
        self.chosen.get()?.cert.first().map(AsRef::as_ref)
    }
}

impl ResolvesServerCert for Noted {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let chosen = self.resolver.resolve(hello)?;
        Some(Arc::clone(self.chosen.get_or_init(|| chosen)))
    }
}

#[derive(Debug)]
struct BySni {
    certs: Arc<Certificates>,
    refuse_unknown: bool,
}

impl ResolvesServerCert for BySni {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.certs.choose(&hello, self.refuse_unknown)
    }
}
