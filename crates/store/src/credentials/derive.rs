//! What is kept of a password besides its hash: keys for mechanisms in which it doesn't travel.

use super::hash::hash_password;
use super::password::Prepared;
use hmac::{Hmac, KeyInit as _, Mac};
use md5::{Digest as _, Md5, block_api::compress};
use mox_base::{Random, Secret};
use sha1::Sha1;
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

/// All that is made from a new password.
#[derive(Debug)]
pub(super) struct Forms {
    pub(super) hash: String,
    pub(super) cram_md5: Secret<Vec<u8>>,
    pub(super) sha1: Scram,
    pub(super) sha256: Scram,
}

impl Forms {
    /// Takes tens of milliseconds.
    pub(super) fn of(password: &Prepared, random: &dyn Random) -> Self {
        Self::with_hash(hash_password(password.expose(), random), password, random)
    }

    /// With a hash that there is already.
    pub(super) fn with_hash(hash: String, password: &Prepared, random: &dyn Random) -> Self {
        let salt = || {
            let mut salt = vec![0; 12];
            random.fill(&mut salt);
            salt
        };
        Self {
            hash,
            cram_md5: Secret::new(CramMd5::of(password.expose()).to_bytes()),
            sha1: Scram::of(ScramHash::Sha1, password.expose(), salt()),
            sha256: Scram::of(ScramHash::Sha256, password.expose(), salt()),
        }
    }
}

/// The hash function of a SCRAM mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScramHash {
    /// SCRAM-SHA-1, RFC 5802.
    Sha1,
    /// SCRAM-SHA-256, RFC 7677.
    Sha256,
}

/// SCRAM's keys: enough to verify a client, not enough to be one, which the salted password would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scram {
    /// Random per password.
    pub salt: Vec<u8>,
    /// Rounds of PBKDF2.
    pub iterations: u32,
    /// H(ClientKey).
    pub stored_key: Secret<Vec<u8>>,
    /// HMAC(SaltedPassword, "Server Key").
    pub server_key: Secret<Vec<u8>>,
}

/// Rounds of PBKDF2 for new keys, more than three times what RFC 7677 §4 wants at least. Clients do that work at each login, slow phones
/// included; the server does it once for a password. `mox_sasl::scram::ITERATIONS`, for users who don't exist, is the same.
pub const SCRAM_ITERATIONS: u32 = 15_000;

impl Scram {
    /// New keys of a prepared password, RFC 5802 §3.
    pub fn of(hash: ScramHash, password: &[u8], salt: Vec<u8>) -> Self {
        Self::with_iterations(hash, password, salt, SCRAM_ITERATIONS)
    }

    /// The keys of a prepared password with any number of iterations.
    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
    pub(super) fn with_iterations(hash: ScramHash, password: &[u8], salt: Vec<u8>, iterations: u32) -> Self {
        match hash {
            ScramHash::Sha1 => Self::derive(
                |key| Hmac::<Sha1>::new_from_slice(key).expect("any key"),
                |d| Sha1::digest(d).to_vec(),
                password,
                salt,
                iterations,
            ),
            ScramHash::Sha256 => Self::derive(
                |key| Hmac::<Sha256>::new_from_slice(key).expect("any key"),
                |d| Sha256::digest(d).to_vec(),
                password,
                salt,
                iterations,
            ),
        }
    }

    fn derive<M: Mac + Clone>(
        hmac: impl Fn(&[u8]) -> M,
        hash: impl Fn(&[u8]) -> Vec<u8>,
        password: &[u8],
        salt: Vec<u8>,
        iterations: u32,
    ) -> Self {
        let mac = |mut m: M, data: &[u8]| {
            m.update(data);
            m.finalize().into_bytes().to_vec()
        };
        // Hi(), RFC 5802 §2.2: PBKDF2 with one block.
        let keyed = hmac(password);
        let mut first = keyed.clone();
        first.update(&salt);
        first.update(&1u32.to_be_bytes());
        let mut u = first.finalize().into_bytes();
        let mut salted = u.to_vec();
        for _ in 1..iterations {
            let mut next = keyed.clone();
            next.update(&u);
            u = next.finalize().into_bytes();
            salted.iter_mut().zip(&u).for_each(|(s, b)| *s ^= b);
        }
        let client_key = mac(hmac(&salted), b"Client Key");
        Self { salt, iterations, stored_key: Secret::new(hash(&client_key)), server_key: Secret::new(mac(hmac(&salted), b"Server Key")) }
    }
}

/// The two states of HMAC-MD5 after its key blocks: the key itself can't be had from them, RFC 2195 §4.
#[derive(Clone, Debug)]
pub struct CramMd5 {
    inner: [u32; 4],
    outer: [u32; 4],
}

/// RFC 1321 §3.3.
const MD5_START: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
const BLOCK: usize = 64;

impl CramMd5 {
    /// The states for a prepared password, RFC 2104 §2.
    pub fn of(password: &[u8]) -> Self {
        let hashed;
        let key = if password.len() > BLOCK {
            hashed = Md5::digest(password);
            hashed.as_slice()
        } else {
            password
        };
        let state = |pad: u8| {
            let mut block = [pad; BLOCK];
            block.iter_mut().zip(key).for_each(|(b, k)| *b ^= k);
            let mut state = MD5_START;
            compress(&mut state, &[block]);
            state
        };
        Self { inner: state(0x36), outer: state(0x5c) }
    }

    fn to_bytes(&self) -> Vec<u8> {
        self.inner.iter().chain(&self.outer).flat_map(|word| word.to_le_bytes()).collect()
    }

    /// The states from what [`Self::to_bytes`] gave.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let words: Vec<u32> = bytes.chunks(4).map(|c| Some(u32::from_le_bytes(c.try_into().ok()?))).collect::<Option<_>>()?;
        let (inner, outer) = words.split_at_checked(4)?;
        Some(Self { inner: inner.try_into().ok()?, outer: outer.try_into().ok()? })
    }

    /// Whether this is the digest of a challenge.
    pub fn verify(&self, challenge: &[u8], digest: &[u8; 16]) -> bool {
        finish(self.outer, &finish(self.inner, challenge)).ct_eq(digest).into()
    }
}

/// Goes on hashing after one block, to the end, RFC 1321 §3.1 and §3.2.
fn finish(mut state: [u32; 4], data: &[u8]) -> [u8; 16] {
    let bits = u64::try_from(data.len().saturating_add(BLOCK)).unwrap_or(u64::MAX).wrapping_mul(8);
    let mut padded = data.to_vec();
    padded.push(0x80);
    while padded.len() % BLOCK != BLOCK - 8 {
        padded.push(0);
    }
    padded.extend_from_slice(&bits.to_le_bytes());
    let (blocks, _) = padded.as_chunks::<BLOCK>();
    compress(&mut state, blocks);
    let mut out = [0; 16];
    for (to, from) in out.iter_mut().zip(state.iter().flat_map(|word| word.to_le_bytes())) {
        *to = from;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
    }

    #[test]
    fn cram_md5() {
        // RFC 2195 §2.
        let keys = CramMd5::of(b"tanstaaftanstaaf");
        let challenge = b"<1896.697170952@postoffice.reston.mci.net>";
        let digest: [u8; 16] = hex("b913a602c7eda7a495b4e6e7334d3890").try_into().unwrap();
        assert!(keys.verify(challenge, &digest));
        assert!(CramMd5::from_bytes(&keys.to_bytes()).unwrap().verify(challenge, &digest));
        assert!(!keys.verify(b"other", &digest));
        assert!(CramMd5::from_bytes(&[0; 31]).is_none());
        // Of long passwords and challenges it is the same as HMAC.
        for (password, challenge) in
            [(vec![1; 64], vec![2; 55]), (vec![1; 65], vec![2; 56]), (vec![1; 200], vec![2; 1000]), (vec![], vec![])]
        {
            let mut mac = Hmac::<Md5>::new_from_slice(&password).unwrap();
            mac.update(&challenge);
            assert!(CramMd5::of(&password).verify(&challenge, &mac.finalize().into_bytes().into()));
        }
    }

    #[test]
    fn scram_sha_256() {
        // RFC 7677 §3: the server's signature of the example is made with these keys.
        let salt = hex("5b6d99689d12358eeca04b141236fa81");
        let keys = Scram::with_iterations(ScramHash::Sha256, b"pencil", salt, 4096);
        let auth = "n=user,r=rOprNGfwEbeRWgbNEkqO,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let mut mac = Hmac::<Sha256>::new_from_slice(keys.server_key.expose()).unwrap();
        mac.update(auth.as_bytes());
        // v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=
        assert_eq!(mac.finalize().into_bytes().to_vec(), hex("eabae24d1062db75a9451ff0b6ea7e98c8546549ff741e672d3251b2397de46e"));
    }
}
