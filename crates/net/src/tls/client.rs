//! The TLS of connections we make.

use super::check::{Check, Checking, Findings};
use super::info::HandshakeError;
use super::provider;
use super::verify::AnyCert;
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why root certificates can't be used.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// The file can't be read, or isn't PEM.
    #[error("reading CA certificates in {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: rustls::pki_types::pem::Error,
    },
    /// The file has no certificate.
    #[error("no CA certificate in {0}")]
    Empty(PathBuf),
    /// A certificate that can't be a root.
    #[error("CA certificate: {0}")]
    Bad(#[from] rustls::Error),
}

/// Root certificates from PEM files, in addition to the system's if wanted.
///
/// # Errors
/// See [`RootsError`]. Roots of the system that can't be used are skipped.
pub fn read_roots(system: bool, files: &[PathBuf]) -> Result<RootCertStore, RootsError> {
    let mut roots = RootCertStore::empty();
    if system {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!(%error, "loading the system's CA certificates");
        }
        roots.add_parsable_certificates(found.certs);
    }
    for path in files {
        let before = roots.len();
        for cert in pem_file(path)? {
            roots.add(cert)?;
        }
        if roots.len() == before {
            return Err(RootsError::Empty(path.clone()));
        }
    }
    Ok(roots)
}

fn pem_file(path: &Path) -> Result<Vec<CertificateDer<'static>>, RootsError> {
    let read = || CertificateDer::pem_file_iter(path)?.collect::<Result<Vec<_>, _>>();
    read().map_err(|source| RootsError::Read { path: path.to_owned(), source })
}

/// How we do TLS as a client. Clones are the same one.
#[derive(Clone, Debug)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
    roots: Arc<RootCertStore>,
}

impl ClientTls {
    /// Encryption without verifying the peer, RFC 7435: better than nothing against who only listens.
    ///
    /// # Errors
    /// When the provider lacks what TLS needs.
    pub fn opportunistic() -> Result<Self, rustls::Error> {
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCert::new()))
            .with_no_client_auth();
        Ok(Self { config: Arc::new(config), roots: Arc::new(RootCertStore::empty()) })
    }

    /// Verification of chain and name against roots.
    ///
    /// # Errors
    /// When the provider lacks what TLS needs.
    pub fn verified(roots: RootCertStore) -> Result<Self, rustls::Error> {
        let roots = Arc::new(roots);
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(Arc::clone(&roots))
            .with_no_client_auth();
        Ok(Self { config: Arc::new(config), roots })
    }

    /// For one connection: a check of the certificate, with the roots of this one, and what it finds. No session is resumed,
    /// because that would skip the check.
    ///
    /// # Errors
    /// When the provider lacks what TLS needs.
    pub fn checking(&self, check: Check) -> Result<(Self, Findings), rustls::Error> {
        let findings = Findings::default();
        let verifier = Checking::new(check, Arc::clone(&self.roots), findings.clone());
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        Ok((Self { config: Arc::new(config), roots: Arc::clone(&self.roots) }, findings))
    }

    pub(super) fn from_parts(config: ClientConfig, roots: Arc<RootCertStore>) -> Self {
        Self { config: Arc::new(config), roots }
    }

    /// For drivers that do handshakes themselves.
    pub fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }

    pub(crate) fn server_name(&self, name: &str) -> Result<ServerName<'static>, HandshakeError> {
        ServerName::try_from(name.trim_end_matches('.').to_owned()).map_err(|_| HandshakeError::BadName(name.to_owned()))
    }
}
