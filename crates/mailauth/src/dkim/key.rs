//! Private keys of selectors.

use super::record::KeyRecord;
use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256};
use std::fmt;
use std::sync::Arc;

/// A private key that signs. Cheap to clone.
#[derive(Clone)]
pub enum SigningKey {
    /// RSA with SHA-256, RFC 6376 §3.3.1.
    Rsa(Arc<KeyPair>),
    /// Ed25519 with SHA-256, RFC 8463.
    Ed25519(Arc<Ed25519KeyPair>),
}

/// Why bytes are no key that can sign.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not PKCS#8 with a key of a kind and size that we can use: RSA of 2048 to 8192 bits, or Ed25519.
    #[error("not a usable RSA (2048 to 8192 bits) or Ed25519 private key: {0}")]
    Rejected(String),
}

impl SigningKey {
    /// A key from PKCS#8, as DER.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        if let Ok(key) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
            return Ok(Self::Ed25519(Arc::new(key)));
        }
        let key = KeyPair::from_pkcs8(der).map_err(|e| KeyError::Rejected(e.to_string()))?;
        Ok(Self::Rsa(Arc::new(key)))
    }

    /// The `a=` tag.
    pub const fn algorithm(&self) -> &'static str {
        match self {
            Self::Rsa(_) => "rsa-sha256",
            Self::Ed25519(_) => "ed25519-sha256",
        }
    }

    /// What is published of it. None if the crypto library fails, which it has no reason to.
    pub fn public_record(&self) -> Option<KeyRecord> {
        let (key_type, key) = match self {
            Self::Rsa(key) => {
                let der: PublicKeyX509Der<'_> = key.public_key().as_der().ok()?;
                ("rsa", der.as_ref().to_vec())
            }
            Self::Ed25519(key) => ("ed25519", key.public_key().as_ref().to_vec()),
        };
        Some(KeyRecord {
            hashes: Vec::new(),
            key_type: key_type.to_owned(),
            notes: String::new(),
            key,
            services: Vec::new(),
            flags: Vec::new(),
        })
    }

    /// Signs the canonical header. None if the crypto library fails, which it has no reason to.
    pub(crate) fn sign(&self, header: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                // PKCS#1 v1.5 isn't randomized; the source is only used for blinding.
                key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), header, &mut signature).ok()?;
                Some(signature)
            }
            // PureEdDSA over the hash, RFC 8463 §3.
            Self::Ed25519(key) => {
                let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, header);
                Some(key.sign(hash.as_ref()).as_ref().to_vec())
            }
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.algorithm())
    }
}
