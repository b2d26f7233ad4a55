//! Password hashes as text: argon2id in the PHC form, bcrypt in its own.

use argon2::{Algorithm, Argon2, Block, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use mox_base::Random;
use subtle::ConstantTimeEq as _;

/// KiB of memory, passes and lanes: the first choice of OWASP's recommendations for argon2id with little memory.
const MEMORY: u32 = 19 << 10;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// Bytes of what is compared.
const OUTPUT: usize = 32;

/// KiB from which glibc maps an allocation by itself, and gives it back when it is freed. Less would stay with the thread's arena:
/// after logins on many threads that was hundreds of MiB. What isn't touched of it takes no memory.
const MAPPED: usize = 33 << 10;

/// argon2id of a password; none if the parameters or lengths are beyond the algorithm's bounds.
fn derive(password: &[u8], salt: &[u8], (memory, passes, lanes): (u32, u32, u32), out: &mut [u8]) -> Option<()> {
    let params = Params::new(memory, passes, lanes, Some(out.len())).ok()?;
    let blocks = params.block_count();
    let mut work: Vec<Block> = Vec::with_capacity(blocks.max(MAPPED));
    work.resize(blocks, Block::new());
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params).hash_password_into_with_memory(password, salt, out, &mut work[..]).ok()
}

/// Hashes a prepared password, as argon2id. Takes some 20 ms and 19 MiB: not in a task.
pub fn hash_password(password: &[u8], random: &dyn Random) -> String {
    let mut salt = [0; 16];
    random.fill(&mut salt);
    let mut out = [0; OUTPUT];
    // Password and salt have lengths that the algorithm accepts. An empty hash matches nothing.
    if derive(password, &salt, (MEMORY, PASSES, LANES), &mut out).is_none() {
        return String::new();
    }
    format!("{}{}${}", current(), BASE64.encode(salt), BASE64.encode(out))
}

/// What new hashes begin with, in the PHC form.
fn current() -> String {
    format!("$argon2id$v=19$m={MEMORY},t={PASSES},p={LANES}$")
}

/// Whether a hash, argon2id or bcrypt, is of this prepared password. Not in a task.
pub fn verify_hash(hash: &str, password: &[u8]) -> bool {
    if is_bcrypt(hash) { bcrypt::verify(password, hash).unwrap_or(false) } else { verify_argon2id(hash, password).unwrap_or(false) }
}

fn verify_argon2id(hash: &str, password: &[u8]) -> Option<bool> {
    let (params, rest) = hash.strip_prefix("$argon2id$v=19$m=")?.split_once('$')?;
    let (memory, rest_of_params) = params.split_once(",t=")?;
    let (passes, lanes) = rest_of_params.split_once(",p=")?;
    let params = (memory.parse().ok()?, passes.parse().ok()?, lanes.parse().ok()?);
    let (salt, expected) = rest.split_once('$')?;
    let (salt, expected) = (BASE64.decode(salt).ok()?, BASE64.decode(expected).ok()?);
    let mut out = vec![0; expected.len()];
    derive(password, &salt, params, &mut out)?;
    Some(out.ct_eq(&expected).into())
}

fn is_bcrypt(hash: &str) -> bool {
    ["$2a$", "$2b$", "$2x$", "$2y$"].iter().any(|prefix| hash.starts_with(prefix))
}

/// Whether a hash is as new ones are.
pub(super) fn is_current(hash: &str) -> bool {
    hash.starts_with(&current())
}

/// The work of verifying, for nothing.
pub(super) fn same_effort(password: &[u8]) {
    let mut out = [0; OUTPUT];
    std::hint::black_box(derive(password, &[0; 16], (MEMORY, PASSES, LANES), &mut out));
    std::hint::black_box(out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use mox_testkit::SeededRandom;

    #[test]
    fn argon2id() {
        let hash = hash_password(b"correct horse", &SeededRandom::new(1));
        assert!(is_current(&hash), "{hash}");
        assert!(verify_hash(&hash, b"correct horse"));
        assert!(!verify_hash(&hash, b"correct hors"));
        for rotten in ["$argon2id$v=19$m=1,t=0,p=9$$", "$argon2id$v=19$m=19456,t=2,p=1$!$!", "$argon2id$v=19$m=19456"] {
            assert!(!verify_hash(rotten, b"correct horse"), "{rotten}");
        }
    }

    #[test]
    fn argon2id_of_others() {
        // A vector of the reference implementation's tests.
        let hash = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        assert!(verify_hash(hash, b"password"));
        assert!(!verify_hash(hash, b"passwore"));
    }

    #[test]
    fn bcrypt_of_others() {
        // A vector that OpenBSD's and Go's implementations share.
        let hash = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";
        assert!(verify_hash(hash, b"U*U"));
        assert!(!verify_hash(hash, b"U*V"));
        assert!(!is_current(hash));
        assert!(!verify_hash("", b"x"));
        assert!(!verify_hash("$2a$rotten", b"x"));
    }
}
