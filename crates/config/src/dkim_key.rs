//! The private keys of DKIM selectors, read with the configuration: what kind they are, and their bytes for signing.

use crate::domain::DkimHash;
use crate::pem;
use mox_base::Secret;
use std::path::Path;

/// A private key for signing.
#[derive(Clone, Debug)]
pub struct DkimKey {
    /// What kind of key.
    pub algorithm: DkimAlgorithm,
    /// The key, as PKCS#8 in DER.
    pub pkcs8: Secret<Vec<u8>>,
}

/// The kind of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DkimAlgorithm {
    /// RSA, with the bits of its modulus.
    Rsa {
        /// Bits of the modulus.
        bits: usize,
    },
    /// RFC 8463.
    Ed25519,
}

/// Why a key can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DkimKeyError {
    /// The file can't be read.
    #[error("reading private key file: {0}")]
    Read(#[from] std::io::Error),
    /// No PEM in it.
    #[error("private key file: {0}")]
    Pem(#[from] pem::PemError),
    /// No `PRIVATE KEY` block.
    #[error("private key file has no PKCS#8 private key (PEM block \"PRIVATE KEY\")")]
    NoKey,
    /// Broken DER, or neither RSA nor Ed25519.
    #[error("private key is neither RSA nor Ed25519 in PKCS#8")]
    Unknown,
    /// RFC 8301 §3.2: signers must use at least 1024 bits.
    #[error("rsa key of {0} bits, at least 1024 are needed")]
    TooShort(usize),
    /// RFC 8463 §3 defines it with SHA-256 only.
    #[error("ed25519 keys are only possible with sha256")]
    Ed25519Sha1,
}

/// OID 1.2.840.113549.1.1.1.
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
/// OID 1.3.101.112.
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const NULL: u8 = 0x05;
const OBJECT_IDENTIFIER: u8 = 0x06;
const SEQUENCE: u8 = 0x30;

impl DkimKey {
    /// Reads a key file.
    ///
    /// # Errors
    /// See [`DkimKeyError`].
    pub fn read(path: &Path, hash: DkimHash) -> Result<Self, DkimKeyError> {
        let text = std::fs::read(path)?;
        Self::from_pem(&String::from_utf8_lossy(&text), hash)
    }

    /// A key from the text of its file.
    ///
    /// # Errors
    /// See [`DkimKeyError`].
    pub fn from_pem(text: &str, hash: DkimHash) -> Result<Self, DkimKeyError> {
        let block = pem::blocks(text)?.into_iter().find(|b| b.label == "PRIVATE KEY").ok_or(DkimKeyError::NoKey)?;
        let algorithm = algorithm(&block.bytes).ok_or(DkimKeyError::Unknown)?;
        match algorithm {
            DkimAlgorithm::Rsa { bits } if bits < 1024 => return Err(DkimKeyError::TooShort(bits)),
            DkimAlgorithm::Ed25519 if hash == DkimHash::Sha1 => return Err(DkimKeyError::Ed25519Sha1),
            DkimAlgorithm::Rsa { .. } | DkimAlgorithm::Ed25519 => {}
        }
        Ok(Self { algorithm, pkcs8: Secret::new(block.bytes) })
    }
}

impl DkimKey {
    /// The public key of an RSA key as SubjectPublicKeyInfo, RFC 5280 §4.1, which DNS records have. None for other keys,
    /// whose public half has to be computed.
    pub fn rsa_public_key(&self) -> Option<Vec<u8>> {
        let (info, _) = element(self.pkcs8.expose(), SEQUENCE)?;
        let (_version, rest) = element(info, INTEGER)?;
        let (identifier, rest) = element(rest, SEQUENCE)?;
        if element(identifier, OBJECT_IDENTIFIER)?.0 != RSA {
            return None;
        }
        let (key, _) = element(rest, OCTET_STRING)?;
        let (fields, _) = element(key, SEQUENCE)?;
        let (_version, rest) = element(fields, INTEGER)?;
        let (modulus, rest) = element(rest, INTEGER)?;
        let (exponent, _) = element(rest, INTEGER)?;
        let public = encode(SEQUENCE, &[encode(INTEGER, modulus)?, encode(INTEGER, exponent)?].concat())?;
        // A bit string starts with the number of unused bits.
        let bits = encode(BIT_STRING, &[&[0], public.as_slice()].concat())?;
        let identifier = encode(SEQUENCE, &[encode(OBJECT_IDENTIFIER, RSA)?, vec![NULL, 0]].concat())?;
        encode(SEQUENCE, &[identifier, bits].concat())
    }
}

/// `PrivateKeyInfo`, RFC 5208 §5: version, algorithm, and the key as an octet string.
fn algorithm(pkcs8: &[u8]) -> Option<DkimAlgorithm> {
    let (info, _) = element(pkcs8, SEQUENCE)?;
    let (_version, rest) = element(info, INTEGER)?;
    let (identifier, rest) = element(rest, SEQUENCE)?;
    let (oid, _parameters) = element(identifier, OBJECT_IDENTIFIER)?;
    let (key, _attributes) = element(rest, OCTET_STRING)?;
    match oid {
        ED25519 => {
            // RFC 8410 §7: an octet string in the octet string, of 32 bytes.
            let (seed, _) = element(key, OCTET_STRING)?;
            (seed.len() == 32).then_some(DkimAlgorithm::Ed25519)
        }
        RSA => {
            // RSAPrivateKey, RFC 8017 §A.1.2: version, modulus, …
            let (fields, _) = element(key, SEQUENCE)?;
            let (_version, rest) = element(fields, INTEGER)?;
            let (modulus, _) = element(rest, INTEGER)?;
            let zeros = modulus.iter().take_while(|b| **b == 0).count();
            let significant = modulus.get(zeros..)?;
            let first = significant.first()?;
            let bits = significant.len().checked_mul(8)?.checked_sub(first.leading_zeros() as usize)?;
            Some(DkimAlgorithm::Rsa { bits })
        }
        _ => None,
    }
}

/// The content of a DER element with a tag, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&first, rest) = der.split_first()?;
    if first != tag {
        return None;
    }
    let (&length, rest) = rest.split_first()?;
    let (length, rest) = if length < 0x80 {
        (usize::from(length), rest)
    } else {
        let count = usize::from(length & 0x7f);
        if count == 0 || count > 4 {
            return None;
        }
        let (bytes, rest) = rest.split_at_checked(count)?;
        (bytes.iter().fold(0, |n, b| n << 8 | usize::from(*b)), rest)
    };
    rest.split_at_checked(length)
}

/// A DER element.
fn encode(tag: u8, content: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(content.len()).ok()?.to_be_bytes();
    let head: &[u8] = match length {
        [0, short @ 0..0x80] => &[tag, short],
        [0, long] => &[tag, 0x81, long],
        [high, low] => &[tag, 0x82, high, low],
    };
    Some([head, content].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A key made for these tests.
    const ED25519_PEM: &str = "-----BEGIN PRIVATE KEY-----\nNote: ed25519 dkim private key, generated for tests\n\nMC4CAQAwBQYDK2VwBCIEIEzvQqUQzUcZqzuJVYJ2dr0Dgav3m3HvI6jyoNOBf0mG\n-----END PRIVATE KEY-----\n";

    #[test]
    fn ed25519() {
        let key = DkimKey::from_pem(ED25519_PEM, DkimHash::Sha256).unwrap();
        assert_eq!(key.algorithm, DkimAlgorithm::Ed25519);
        assert!(format!("{key:?}").contains("Secret(…)"));
        assert!(matches!(DkimKey::from_pem(ED25519_PEM, DkimHash::Sha1), Err(DkimKeyError::Ed25519Sha1)));
    }

    /// A PKCS#8 frame around a modulus of some bytes; no real key, but all that is looked at.
    fn rsa(modulus_len: u8) -> Vec<u8> {
        fn wrap(tag: u8, content: &[u8]) -> Vec<u8> {
            let len = u16::try_from(content.len()).unwrap().to_be_bytes();
            [&[tag, 0x82, len[0], len[1]], content].concat()
        }
        let mut modulus = vec![0xff; usize::from(modulus_len)];
        modulus.insert(0, 0);
        let key = wrap(SEQUENCE, &[wrap(INTEGER, &[0]), wrap(INTEGER, &modulus), wrap(INTEGER, &[1, 0, 1])].concat());
        let identifier = wrap(SEQUENCE, &wrap(OBJECT_IDENTIFIER, RSA));
        wrap(SEQUENCE, &[wrap(INTEGER, &[0]), identifier, wrap(OCTET_STRING, &key)].concat())
    }

    #[test]
    fn rsa_bits() {
        assert_eq!(algorithm(&rsa(128)), Some(DkimAlgorithm::Rsa { bits: 1024 }));
        assert_eq!(algorithm(&rsa(100)), Some(DkimAlgorithm::Rsa { bits: 800 }));
    }

    #[test]
    fn rsa_public_key_of_the_private_one() {
        let key = DkimKey { algorithm: DkimAlgorithm::Rsa { bits: 1024 }, pkcs8: Secret::new(rsa(128)) };
        let public = key.rsa_public_key().unwrap();
        // The well-known start of any RSA key of 1024 bits with exponent 65537, and its end.
        let start = [
            0x30, 0x81, 0x9f, 0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00, 0x03, 0x81, 0x8d,
            0x00, 0x30, 0x81, 0x89, 0x02, 0x81, 0x81, 0x00,
        ];
        assert!(public.starts_with(&start) && public.ends_with(&[0x02, 0x03, 0x01, 0x00, 0x01]));
        assert_eq!(DkimKey::from_pem(ED25519_PEM, DkimHash::Sha256).unwrap().rsa_public_key(), None);
    }

    #[test]
    fn broken_der_is_no_key() {
        let der = rsa(128);
        for end in 0..der.len() {
            assert_eq!(algorithm(&der[..end]), None);
        }
        assert!(matches!(DkimKey::from_pem("-----BEGIN EC KEY-----\n-----END EC KEY-----\n", DkimHash::Sha256), Err(DkimKeyError::NoKey)));
    }
}
