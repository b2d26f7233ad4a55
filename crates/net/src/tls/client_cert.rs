//! Certificates of clients, of which only the key counts.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

/// The smallest RSA key that can be registered.
const MIN_RSA_BITS: usize = 2048;

/// A client's certificate. From a handshake, the client has proven to have the key; nothing else about it was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCert {
    /// The certificate.
    pub der: Vec<u8>,
    /// SHA-256 of its SubjectPublicKeyInfo, in base64url without padding.
    pub fingerprint: String,
}

/// Why a certificate can't be registered.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CertificateError {
    /// No certificate.
    #[error("not a certificate: {0}")]
    Malformed(String),
    /// RSA with less than 2048 bits.
    #[error("an RSA key of {0} bits is too weak, it needs at least {MIN_RSA_BITS}")]
    Weak(usize),
    /// Neither RSA, nor ECDSA with a curve of NIST's, nor Ed25519.
    #[error("keys of this kind are not supported, only RSA, ECDSA and Ed25519")]
    Kind,
}

impl ClientCert {
    /// Of a certificate in DER.
    ///
    /// # Errors
    /// [`CertificateError::Malformed`].
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateError> {
        let cert = parse(der)?;
        let fingerprint = URL_SAFE_NO_PAD.encode(Sha256::digest(cert.tbs_certificate.subject_pki.raw));
        Ok(Self { der: der.to_vec(), fingerprint })
    }

    /// Of the first certificate in PEM.
    ///
    /// # Errors
    /// [`CertificateError::Malformed`].
    pub fn from_pem(pem: &[u8]) -> Result<Self, CertificateError> {
        let der = CertificateDer::from_pem_slice(pem).map_err(|e| CertificateError::Malformed(e.to_string()))?;
        Self::from_der(&der)
    }

    /// The kind and size of its key: `rsa-2048`, `ecdsa-p256`, `ed25519` …
    ///
    /// # Errors
    /// When the key can't be registered.
    pub fn key_kind(&self) -> Result<String, CertificateError> {
        key_kind(&parse(&self.der)?.tbs_certificate.subject_pki)
    }

    /// The common name of its subject; without one, `serial` and its serial number.
    pub fn name(&self) -> String {
        let Ok(cert) = parse(&self.der) else { return String::new() };
        let common = cert.subject().iter_common_name().find_map(|cn| cn.as_str().ok()).filter(|name| !name.is_empty());
        let clean = |name: &str| name.chars().filter(|c| !c.is_control()).take(200).collect::<String>();
        common.map_or_else(|| format!("serial {:x}", cert.tbs_certificate.serial), clean)
    }
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, CertificateError> {
    let (_, cert) = X509Certificate::from_der(der).map_err(|e| CertificateError::Malformed(e.to_string()))?;
    Ok(cert)
}

fn key_kind(spki: &SubjectPublicKeyInfo<'_>) -> Result<String, CertificateError> {
    // RFC 8410 §3; it has no parameters.
    if spki.algorithm.algorithm.to_id_string() == "1.3.101.112" {
        return Ok("ed25519".to_owned());
    }
    match spki.parsed().map_err(|e| CertificateError::Malformed(e.to_string()))? {
        PublicKey::RSA(key) => {
            let digits: Vec<u8> = key.modulus.iter().copied().skip_while(|b| *b == 0).collect();
            let unused = digits.first().map_or(0, |b| b.leading_zeros());
            let bits = digits.len().saturating_mul(8).saturating_sub(usize::try_from(unused).unwrap_or(0));
            if bits < MIN_RSA_BITS { Err(CertificateError::Weak(bits)) } else { Ok(format!("rsa-{bits}")) }
        }
        // RFC 5480 §2.1.1.1.
        PublicKey::EC(_) => {
            let curve = spki.algorithm.parameters.as_ref().and_then(|p| p.as_oid().ok()).map(|oid| oid.to_id_string());
            let curve = match curve.as_deref() {
                Some("1.3.132.0.33") => "p224",
                Some("1.2.840.10045.3.1.7") => "p256",
                Some("1.3.132.0.34") => "p384",
                Some("1.3.132.0.35") => "p521",
                _ => return Err(CertificateError::Kind),
            };
            Ok(format!("ecdsa-{curve}"))
        }
        _ => Err(CertificateError::Kind),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair};

    #[test]
    fn kinds_and_names() {
        for (algorithm, kind) in [
            (&rcgen::PKCS_ECDSA_P256_SHA256, "ecdsa-p256"),
            (&rcgen::PKCS_ECDSA_P384_SHA384, "ecdsa-p384"),
            (&rcgen::PKCS_ED25519, "ed25519"),
        ] {
            let key = KeyPair::generate_for(algorithm).unwrap();
            let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
            params.distinguished_name.push(DnType::CommonName, "ann's phone");
            let cert = params.self_signed(&key).unwrap();
            let read = ClientCert::from_pem(cert.pem().as_bytes()).unwrap();
            assert_eq!(read, ClientCert::from_der(cert.der()).unwrap());
            assert_eq!((read.key_kind().as_deref(), read.name().as_str()), (Ok(kind), "ann's phone"));
            // 32 bytes without padding.
            assert_eq!(read.fingerprint.len(), 43);
        }
        assert!(matches!(ClientCert::from_pem(b"nothing"), Err(CertificateError::Malformed(_))));
        assert!(matches!(ClientCert::from_der(&[0x30, 0x00]), Err(CertificateError::Malformed(_))));
    }

    #[test]
    fn certificates_without_a_common_name_go_by_their_number() {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["x.example".to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.serial_number = Some(rcgen::SerialNumber::from(0x1abc_u64));
        let cert = params.self_signed(&key).unwrap();
        assert_eq!(ClientCert::from_der(cert.der()).unwrap().name(), "serial 1abc");
    }
}
