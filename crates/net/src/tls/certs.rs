//! Our own certificates and keys: read from PEM, chosen by the name a client asks for, replaceable.

use super::provider;
use mox_base::Timestamp;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ClientHello;
use rustls::sign::CertifiedKey;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Why certificates or keys can't be used.
#[derive(Debug, thiserror::Error)]
pub enum CertError {
    /// The file can't be read.
    #[error("reading {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The certificate isn't PEM, or there is none.
    #[error("no usable PEM certificate: {0}")]
    Certificate(String),
    /// The key isn't PEM of PKCS #8, PKCS #1 or SEC1.
    #[error("no usable PEM private key: {0}")]
    Key(String),
    /// The key doesn't belong to the certificate, or is of a kind we can't sign with.
    #[error("certificate and key don't fit: {0}")]
    Mismatch(rustls::Error),
    /// No certificate was given.
    #[error("no certificate")]
    None,
}

/// A certificate chain, leaf first, with its key.
#[derive(Clone, Debug)]
pub struct KeyCert {
    key: Arc<CertifiedKey>,
    names: Vec<String>,
    validity: (Timestamp, Timestamp),
}

impl KeyCert {
    /// From PEM: a chain, leaf first, and a key in PKCS #8, PKCS #1 or SEC1.
    ///
    /// # Errors
    /// See [`CertError`].
    pub fn from_pem(cert: &[u8], key: &[u8]) -> Result<Self, CertError> {
        let chain: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(cert).collect::<Result<_, _>>().map_err(|e| CertError::Certificate(e.to_string()))?;
        let leaf = chain.first().ok_or_else(|| CertError::Certificate("none in file".into()))?;
        let (names, validity) = facts(leaf)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| CertError::Key(e.to_string()))?;
        let key = CertifiedKey::from_der(chain, key, &provider()).map_err(CertError::Mismatch)?;
        Ok(Self { key: Arc::new(key), names, validity })
    }

    /// From PEM files.
    ///
    /// # Errors
    /// See [`CertError`].
    pub fn read(cert: &Path, key: &Path) -> Result<Self, CertError> {
        let read = |path: &Path| std::fs::read(path).map_err(|source| CertError::Read { path: path.to_owned(), source });
        Self::from_pem(&read(cert)?, &read(key)?)
    }

    /// The DNS names it is for, in lower case; the first label may be `*`.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// From when to when it is valid.
    pub const fn validity(&self) -> (Timestamp, Timestamp) {
        self.validity
    }

    /// For a handshake.
    pub(crate) fn certified(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.key)
    }

    /// The chain, leaf first, in DER.
    pub fn chain(&self) -> impl Iterator<Item = &[u8]> {
        self.key.cert.iter().map(AsRef::as_ref)
    }

    fn is_for(&self, name: &str) -> bool {
        self.names.iter().any(|n| match n.strip_prefix("*.") {
            // RFC 6125 §6.4.3: a wildcard stands for one label.
            Some(parent) => name.split_once('.').is_some_and(|(_, rest)| rest == parent),
            None => n == name,
        })
    }

    fn works_with(&self, hello: &ClientHello<'_>) -> bool {
        self.key.key.choose_scheme(hello.signature_schemes()).is_some()
    }
}

/// The subject alternative names, or the common name when there are none; and the validity.
fn facts(leaf: &CertificateDer<'_>) -> Result<(Vec<String>, (Timestamp, Timestamp)), CertError> {
    let (_, cert) = X509Certificate::from_der(leaf).map_err(|e| CertError::Certificate(e.to_string()))?;
    let mut names: Vec<String> = Vec::new();
    if let Ok(Some(sans)) = cert.subject_alternative_name() {
        names.extend(sans.value.general_names.iter().filter_map(|n| match n {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        }));
    }
    if names.is_empty() {
        names.extend(cert.subject().iter_common_name().filter_map(|cn| cn.as_str().ok()).map(str::to_ascii_lowercase));
    }
    let validity = (cert.validity().not_before.timestamp(), cert.validity().not_after.timestamp());
    Ok((names, (Timestamp::from_secs(validity.0), Timestamp::from_secs(validity.1))))
}

/// The certificates of a listener, shared by its sockets. Replacing them affects handshakes from then on.
#[derive(Debug)]
pub struct Certificates {
    current: RwLock<Arc<[KeyCert]>>,
}

impl Certificates {
    /// From at least one certificate; the first is for clients that ask for no name.
    ///
    /// # Errors
    /// Without any certificate.
    pub fn new(certs: Vec<KeyCert>) -> Result<Self, CertError> {
        if certs.is_empty() {
            return Err(CertError::None);
        }
        Ok(Self { current: RwLock::new(certs.into()) })
    }

    /// Replaces the certificates; those in use stay when there are none.
    ///
    /// # Errors
    /// Without any certificate.
    pub fn replace(&self, certs: Vec<KeyCert>) -> Result<(), CertError> {
        if certs.is_empty() {
            return Err(CertError::None);
        }
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = certs.into();
        Ok(())
    }

    /// The certificates in use.
    pub fn current(&self) -> Arc<[KeyCert]> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The certificate for a client: one for the name, of a kind it can verify. Without such a name, the first it can
    /// verify, or none if unknown names are to be refused.
    pub(super) fn choose(&self, hello: &ClientHello<'_>, refuse_unknown: bool) -> Option<Arc<CertifiedKey>> {
        let certs = self.current();
        let name = hello.server_name().map(str::to_ascii_lowercase);
        if let Some(name) = &name {
            let named = || certs.iter().filter(|c| c.is_for(name));
            if let Some(cert) = named().find(|c| c.works_with(hello)).or_else(|| named().next()) {
                return Some(Arc::clone(&cert.key));
            }
            if refuse_unknown {
                return None;
            }
        }
        certs.iter().find(|c| c.works_with(hello)).or_else(|| certs.first()).map(|c| Arc::clone(&c.key))
    }
}
