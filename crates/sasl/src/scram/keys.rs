//! The arithmetic of SCRAM: hashes, the salted password, and the keys made from it. RFC 5802 §3.

use hmac::{Hmac, KeyInit as _, Mac};
use mox_base::Secret;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// The hash function of a SCRAM mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hash {
    /// SHA-1.
    Sha1,
    /// SHA-256.
    Sha256,
}

/// What a server keeps of a password: enough to verify a client, not enough to be one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// Random per password.
    pub salt: Vec<u8>,
    /// Rounds of PBKDF2.
    pub iterations: u32,
    /// H(ClientKey).
    pub stored_key: Secret<Vec<u8>>,
    /// HMAC(SaltedPassword, "Server Key").
    pub server_key: Secret<Vec<u8>>,
}

/// Rounds of PBKDF2 that the server uses for new passwords, and shows for users who don't exist.
pub const ITERATIONS: u32 = 15_000;

impl Hash {
    pub(super) fn hash(self, data: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha1 => Sha1::digest(data).to_vec(),
            Self::Sha256 => Sha256::digest(data).to_vec(),
        }
    }

    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
    pub(super) fn hmac(self, key: &[u8], data: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha1 => mac(Hmac::<Sha1>::new_from_slice(key).expect("any key"), data),
            Self::Sha256 => mac(Hmac::<Sha256>::new_from_slice(key).expect("any key"), data),
        }
    }

    /// `Hi()`, RFC 5802 §2.2: PBKDF2 with one block. The password is prepared by the caller.
    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
    pub fn salted_password(self, password: &[u8], salt: &[u8], iterations: u32) -> Vec<u8> {
        match self {
            Self::Sha1 => hi(&Hmac::<Sha1>::new_from_slice(password).expect("any key"), salt, iterations),
            Self::Sha256 => hi(&Hmac::<Sha256>::new_from_slice(password).expect("any key"), salt, iterations),
        }
    }
}

fn mac(mut mac: impl Mac, data: &[u8]) -> Vec<u8> {
    mac.update(data);
    mac.finalize().into_bytes().to_vec()
}

fn hi<M: Mac + Clone>(keyed: &M, salt: &[u8], iterations: u32) -> Vec<u8> {
    let mut first = keyed.clone();
    first.update(salt);
    first.update(&1u32.to_be_bytes());
    let mut u = first.finalize().into_bytes();
    let mut result = u.to_vec();
    for _ in 1..iterations {
        let mut next = keyed.clone();
        next.update(&u);
        u = next.finalize().into_bytes();
        for (r, b) in result.iter_mut().zip(u.iter()) {
            *r ^= b;
        }
    }
    result
}

impl Keys {
    /// The keys of a prepared password.
    pub fn from_password(hash: Hash, password: &str, salt: Vec<u8>, iterations: u32) -> Self {
        let salted = hash.salted_password(password.as_bytes(), &salt, iterations);
        Self::from_salted_password(hash, &salted, salt, iterations)
    }

    /// The keys of a salted password, as Go mox kept them.
    pub fn from_salted_password(hash: Hash, salted: &[u8], salt: Vec<u8>, iterations: u32) -> Self {
        let client_key = hash.hmac(salted, b"Client Key");
        Self {
            salt,
            iterations,
            stored_key: Secret::new(hash.hash(&client_key)),
            server_key: Secret::new(hash.hmac(salted, b"Server Key")),
        }
    }

    /// Keys for a user who doesn't exist: always the same for a name, so that asking twice tells nothing, and matching no
    /// password. `secret` belongs to the installation.
    pub fn fake(hash: Hash, secret: &Secret<Vec<u8>>, user: &str) -> Self {
        let derive = |what: &str| hash.hmac(secret.expose(), format!("{what}\0{user}").as_bytes());
        let mut salt = derive("salt");
        salt.truncate(12);
        Self { salt, iterations: ITERATIONS, stored_key: Secret::new(derive("stored key")), server_key: Secret::new(derive("server key")) }
    }

    /// Whether a client's proof for an exchange is right: it recovers a ClientKey whose hash is kept.
    pub(super) fn verify(&self, hash: Hash, auth_message: &[u8], proof: &[u8]) -> bool {
        let signature = hash.hmac(self.stored_key.expose(), auth_message);
        if signature.len() != proof.len() {
            return false;
        }
        let client_key: Vec<u8> = signature.iter().zip(proof).map(|(a, b)| a ^ b).collect();
        hash.hash(&client_key).ct_eq(self.stored_key.expose()).into()
    }
}
