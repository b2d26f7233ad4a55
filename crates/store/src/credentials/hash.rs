//! Password hashes as text: argon2id in the PHC form, bcrypt in its own.

use argon2::{Algorithm, Argon2, Params, PasswordHasher as _, PasswordVerifier as _, Version};
use mox_base::Random;

/// KiB of memory, passes and lanes: the first choice of OWASP's recommendations for argon2id with little memory.
const MEMORY: u32 = 19 << 10;
const PASSES: u32 = 2;
const LANES: u32 = 1;

fn argon2() -> Argon2<'static> {
    // The numbers are within the bounds of the algorithm, whose defaults they are.
    let params = Params::new(MEMORY, PASSES, LANES, None).unwrap_or_default();
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

/// Hashes a prepared password, as argon2id. Takes some 20 ms and 19 MiB: not in a task.
pub fn hash_password(password: &[u8], random: &dyn Random) -> String {
    let mut salt = [0; 16];
    random.fill(&mut salt);
    // Password and salt have lengths that the algorithm accepts. An empty hash matches nothing.
    argon2().hash_password_with_salt(password, &salt).map(|hash| hash.to_string()).unwrap_or_default()
}

/// Whether a hash, argon2id or bcrypt, is of this prepared password. Not in a task.
pub fn verify_hash(hash: &str, password: &[u8]) -> bool {
    if is_bcrypt(hash) { bcrypt::verify(password, hash).unwrap_or(false) } else { argon2().verify_password(password, hash).is_ok() }
}

fn is_bcrypt(hash: &str) -> bool {
    ["$2a$", "$2b$", "$2x$", "$2y$"].iter().any(|prefix| hash.starts_with(prefix))
}

/// Whether a hash is as new ones are.
pub(super) fn is_current(hash: &str) -> bool {
    hash.starts_with(&format!("$argon2id$v=19$m={MEMORY},t={PASSES},p={LANES}$"))
}

/// The work of verifying, for nothing.
pub(super) fn same_effort(password: &[u8]) {
    let mut out = [0; 32];
    let _nothing = argon2().hash_password_into(password, &[0; 16], &mut out);
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
