//! What a TLSA record can be about: a certificate or a key, from a file.

use super::certs::CertError;
use super::provider;
use super::signature::spki;
use rustls::pki_types::pem::{PemObject as _, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A certificate, or only a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsaSubject {
    /// The certificate in DER, if there is one.
    pub certificate: Option<Vec<u8>>,
    /// The SubjectPublicKeyInfo in DER.
    pub spki: Vec<u8>,
}

impl TlsaSubject {
    /// From the first certificate, public key or private key in PEM.
    ///
    /// # Errors
    /// There is none, or it can't be understood.
    pub fn from_pem(pem: &[u8]) -> Result<Self, CertError> {
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(pem) {
            let (kind, der) = section.map_err(|e| CertError::Key(e.to_string()))?;
            let private = match kind {
                SectionKind::Certificate => {
                    let certificate = CertificateDer::from(der);
                    let key = spki(&certificate).map_err(|e| CertError::Certificate(e.to_string()))?.to_vec();
                    return Ok(Self { certificate: Some(certificate.to_vec()), spki: key });
                }
                SectionKind::PublicKey => return Ok(Self { certificate: None, spki: der }),
                SectionKind::PrivateKey => PrivateKeyDer::Pkcs8(der.into()),
                SectionKind::RsaPrivateKey => PrivateKeyDer::Pkcs1(der.into()),
                SectionKind::EcPrivateKey => PrivateKeyDer::Sec1(der.into()),
                _ => continue,
            };
            let key = provider().key_provider.load_private_key(private).map_err(|e| CertError::Key(e.to_string()))?;
            let public = key.public_key().ok_or_else(|| CertError::Key("kind of key without public half".to_owned()))?;
            return Ok(Self { certificate: None, spki: public.to_vec() });
        }
        Err(CertError::None)
    }
}
