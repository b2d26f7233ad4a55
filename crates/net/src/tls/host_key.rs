//! Private keys that outlive certificates, so that the TLSA records that name them stay valid over renewals.
//!
//! Two kinds, for two kinds of clients: ECDSA with P-256, and RSA of 2048 bits for those that don't know ECDSA. Read from any of the
//! three forms that files have (PKCS #8, PKCS #1, SEC1), and written as PKCS #8, or as Go's ACME cache has them.

use crate::pem;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, PublicKeyData as _};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::sync::Arc;

/// The longest common name, RFC 5280 appendix A.1 (ub-common-name).
const MAX_COMMON_NAME: usize = 64;

/// A kind of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyKind {
    /// ECDSA with P-256.
    EcdsaP256,
    /// RSA of 2048 bits.
    Rsa2048,
}

impl KeyKind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::EcdsaP256, Self::Rsa2048];
}

/// As in names of files.
impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EcdsaP256 => "ecdsap256",
            Self::Rsa2048 => "rsa2048",
        })
    }
}

/// Why a key is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostKeyError {
    /// There is none.
    #[error("no PEM private key")]
    NoKey,
    /// It is broken.
    #[error("parsing private key: {0}")]
    Malformed(String),
    /// It is neither of the two kinds.
    #[error("only ECDSA P-256 and RSA 2048 keys are used")]
    Kind,
    /// The library can't.
    #[error("private key: {0}")]
    Crypto(String),
}

/// A private key. Clones are cheap; `Debug` shows the kind only.
#[derive(Clone)]
pub struct HostKey {
    kind: KeyKind,
    /// PKCS #1 or SEC1, the latter with its curve.
    traditional: Vec<u8>,
    pair: Arc<KeyPair>,
}

impl HostKey {
    /// A new one. Takes up to a second for RSA.
    ///
    /// # Errors
    /// When the library can't.
    pub fn generate(kind: KeyKind) -> Result<Self, HostKeyError> {
        let algorithm = match kind {
            KeyKind::EcdsaP256 => &PKCS_ECDSA_P256_SHA256,
            KeyKind::Rsa2048 => &PKCS_RSA_SHA256,
        };
        let pair = KeyPair::generate_for(algorithm).map_err(|e| HostKeyError::Crypto(e.to_string()))?;
        let pkcs8 = PrivatePkcs8KeyDer::from(pair.serialize_der());
        Self::from_der(&pkcs8.into())
    }

    /// The first private key of a PEM text.
    ///
    /// # Errors
    /// See [`HostKeyError`].
    pub fn from_pem(text: &str) -> Result<Self, HostKeyError> {
        let key = pem::blocks(text).into_iter().find_map(|block| match block.label.as_str() {
            "PRIVATE KEY" => Some(PrivateKeyDer::from(PrivatePkcs8KeyDer::from(block.der))),
            "RSA PRIVATE KEY" => Some(PrivatePkcs1KeyDer::from(block.der).into()),
            "EC PRIVATE KEY" => Some(PrivateSec1KeyDer::from(block.der).into()),
            _ => None,
        });
        Self::from_der(&key.ok_or(HostKeyError::NoKey)?)
    }

    fn from_der(key: &PrivateKeyDer<'_>) -> Result<Self, HostKeyError> {
        let pair = KeyPair::try_from(key).map_err(|e| HostKeyError::Malformed(e.to_string()))?;
        let malformed = || HostKeyError::Malformed("unexpected structure".into());
        let inner = match key {
            PrivateKeyDer::Pkcs8(der) => pkcs8_inner(der.secret_pkcs8_der()).ok_or_else(malformed)?,
            other => other.secret_der(),
        };
        let (kind, traditional) = if pair.is_compatible(&PKCS_ECDSA_P256_SHA256) {
            let secret = sec1_secret(inner).ok_or_else(malformed)?;
            (KeyKind::EcdsaP256, sec1(&secret, pair.public_key_raw(), true))
        } else if pair.is_compatible(&PKCS_RSA_SHA256) && rsa_bits(inner) == Some(2048) {
            (KeyKind::Rsa2048, inner.to_vec())
        } else {
            return Err(HostKeyError::Kind);
        };
        Ok(Self { kind, traditional, pair: Arc::new(pair) })
    }

    /// Its kind.
    pub const fn kind(&self) -> KeyKind {
        self.kind
    }

    /// SHA-256 of its SubjectPublicKeyInfo: what a TLSA record `3 1 1` has.
    pub fn spki_digest(&self) -> [u8; 32] {
        Sha256::digest(self.pair.subject_public_key_info()).into()
    }

    /// In PKCS #8, for a file of its own.
    pub fn pkcs8_pem(&self) -> String {
        let (algorithm, inner): (&[u8], Vec<u8>) = match self.kind {
            KeyKind::EcdsaP256 => {
                let secret = sec1_secret(&self.traditional).unwrap_or_default();
                (EC_P256_ALGORITHM, sec1(&secret, self.pair.public_key_raw(), false))
            }
            KeyKind::Rsa2048 => (RSA_ALGORITHM, self.traditional.clone()),
        };
        let content = [tlv(INTEGER, &[0]), tlv(SEQUENCE, algorithm), tlv(OCTETS, &inner)].concat();
        pem::encode("PRIVATE KEY", &tlv(SEQUENCE, &content))
    }

    /// In PKCS #1 or SEC1, as caches of certificates have keys.
    pub(crate) fn traditional_pem(&self) -> String {
        let label = match self.kind {
            KeyKind::EcdsaP256 => "EC PRIVATE KEY",
            KeyKind::Rsa2048 => "RSA PRIVATE KEY",
        };
        pem::encode(label, &self.traditional)
    }

    /// A request for a certificate for one host, in DER, RFC 2986.
    pub(crate) fn request_for(&self, host: &str) -> Result<Vec<u8>, HostKeyError> {
        let fault = |e: rcgen::Error| HostKeyError::Crypto(e.to_string());
        let mut params = CertificateParams::new(vec![host.to_owned()]).map_err(fault)?;
        params.distinguished_name = DistinguishedName::new();
        if host.len() <= MAX_COMMON_NAME {
            params.distinguished_name.push(DnType::CommonName, host);
        }
        Ok(params.serialize_request(self.pair.as_ref()).map_err(fault)?.der().to_vec())
    }
}

impl fmt::Debug for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostKey({})", self.kind)
    }
}

const INTEGER: u8 = 0x02;
const BITS: u8 = 0x03;
const OCTETS: u8 = 0x04;
const SEQUENCE: u8 = 0x30;
const CURVE: u8 = 0xa0;
const PUBLIC: u8 = 0xa1;

/// `prime256v1`, as an object identifier.
const P256: &[u8] = &[0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];

/// `id-ecPublicKey`, `prime256v1`.
const EC_P256_ALGORITHM: &[u8] = &[0x06, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];

/// `rsaEncryption`, NULL.
const RSA_ALGORITHM: &[u8] = &[0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 0x05, 0];

/// An element of DER, with at most 64 KiB.
fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let len = content.len().to_be_bytes();
    let significant = len.iter().skip_while(|b| **b == 0).copied();
    let mut out = vec![tag];
    if content.len() < 128 {
        out.extend(len.last());
    } else {
        let octets: Vec<u8> = significant.collect();
        out.push(0x80 | u8::try_from(octets.len()).unwrap_or(0));
        out.extend(octets);
    }
    out.extend_from_slice(content);
    out
}

/// The first element: its tag, its content and what follows.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = der.split_first()?;
    let (first, mut rest) = rest.split_first()?;
    let mut len = usize::from(*first);
    if *first >= 0x80 {
        let octets = usize::from(first & 0x7f);
        let (length, after) = rest.split_at_checked(octets).filter(|_| (1..=4).contains(&octets))?;
        len = length.iter().fold(0, |len: usize, b| len << 8 | usize::from(*b));
        rest = after;
    }
    let (content, after) = rest.split_at_checked(len)?;
    Some((*tag, content, after))
}

/// The elements of a sequence, as long as they are well-formed.
fn sequence(der: &[u8]) -> Option<impl Iterator<Item = (u8, &[u8])>> {
    let (tag, mut rest, _) = element(der)?;
    let elements = std::iter::from_fn(move || {
        let (tag, content, after) = element(rest)?;
        rest = after;
        Some((tag, content))
    });
    (tag == SEQUENCE).then_some(elements)
}

/// The key in a `PrivateKeyInfo`, RFC 5208 §5.
fn pkcs8_inner(der: &[u8]) -> Option<&[u8]> {
    sequence(der)?.nth(2).filter(|(tag, _)| *tag == OCTETS).map(|(_, inner)| inner)
}

/// The number in an `ECPrivateKey`, RFC 5915 §3, for P-256: 32 octets, which some write without leading zeros.
fn sec1_secret(der: &[u8]) -> Option<[u8; 32]> {
    let (_, secret) = sequence(der)?.nth(1).filter(|(tag, _)| *tag == OCTETS)?;
    let mut out = [0; 32];
    let at = out.len().checked_sub(secret.len())?;
    out.get_mut(at..)?.copy_from_slice(secret);
    Some(out)
}

/// An `ECPrivateKey` for P-256, RFC 5915 §3; by itself it needs its curve.
fn sec1(secret: &[u8], public: &[u8], with_curve: bool) -> Vec<u8> {
    let mut content = [tlv(INTEGER, &[1]), tlv(OCTETS, secret)].concat();
    if with_curve {
        content.extend(tlv(CURVE, P256));
    }
    let bits = [&[0], public].concat();
    content.extend(tlv(PUBLIC, &tlv(BITS, &bits)));
    tlv(SEQUENCE, &content)
}

/// The size of an `RSAPrivateKey`, RFC 8017 appendix A.1.2.
fn rsa_bits(der: &[u8]) -> Option<usize> {
    let (_, modulus) = sequence(der)?.nth(1).filter(|(tag, _)| *tag == INTEGER)?;
    let digits: Vec<u8> = modulus.iter().copied().skip_while(|b| *b == 0).collect();
    let unused = usize::try_from(digits.first()?.leading_zeros()).ok()?;
    digits.len().checked_mul(8)?.checked_sub(unused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_reads_back_as_the_same_key() {
        for kind in KeyKind::ALL {
            let key = HostKey::generate(kind).unwrap();
            assert_eq!(key.kind(), kind);
            for text in [key.pkcs8_pem(), key.traditional_pem()] {
                let read = HostKey::from_pem(&text).unwrap();
                assert_eq!((read.kind(), read.spki_digest()), (kind, key.spki_digest()));
                assert_eq!((read.pkcs8_pem(), read.traditional_pem()), (key.pkcs8_pem(), key.traditional_pem()));
                // rustls reads them too.
                use rustls::pki_types::pem::PemObject as _;
                let der = PrivateKeyDer::from_pem_slice(text.as_bytes()).unwrap();
                assert!(crate::tls::provider().key_provider.load_private_key(der).is_ok());
            }
            assert_eq!(format!("{key:?}"), format!("HostKey({kind})"));
        }
    }

    #[test]
    fn other_keys_are_refused() {
        for algorithm in [&rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519] {
            let pem = KeyPair::generate_for(algorithm).unwrap().serialize_pem();
            assert_eq!(HostKey::from_pem(&pem).unwrap_err(), HostKeyError::Kind);
        }
        assert_eq!(HostKey::from_pem("nothing").unwrap_err(), HostKeyError::NoKey);
        assert!(matches!(HostKey::from_pem(&pem::encode("PRIVATE KEY", &[0x30, 0])), Err(HostKeyError::Malformed(_))));
    }

    /// Written by `openssl ecparam -name prime256v1 -genkey` and `openssl genrsa -traditional`, whose files have more in them.
    #[test]
    fn a_file_with_parameters_before_the_key() {
        let key = HostKey::generate(KeyKind::EcdsaP256).unwrap();
        let text = format!("{}{}", pem::encode("EC PARAMETERS", P256), key.traditional_pem());
        assert_eq!(HostKey::from_pem(&text).unwrap().spki_digest(), key.spki_digest());
    }

    #[test]
    fn hostile_lengths_are_no_elements() {
        for der in [&[][..], &[0x30], &[0x30, 0x80], &[0x30, 0x85, 1, 1, 1, 1, 1], &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff], &[0x30, 3, 2]] {
            assert!(element(der).is_none(), "{der:?}");
        }
    }
}
