//! A short memory of verified passwords, so that a client that connects anew doesn't cost a hash each time.
//!
//! What is kept is an HMAC with a key that only this process has, over the account, the version and hash of its credential, and the
//! password: of no use to anybody who reads it, and void once the password is changed.

use super::password::Prepared;
use hmac::{Hmac, KeyInit as _, Mac as _};
use mox_base::AccountId;
use sha2::Sha256;
use std::collections::HashMap;
use std::time::Duration;

/// How long a verification is good for.
const TIME: Duration = Duration::from_secs(15 * 60);

/// The most kept; then expired ones go, and if there are none, all.
const MAX: usize = 50_000;

/// A verification.
pub(super) type Token = [u8; 32];

#[derive(Debug)]
pub(super) struct Remembered {
    key: [u8; 32],
    until: HashMap<Token, Duration>,
}

impl Remembered {
    pub(super) fn new(key: [u8; 32]) -> Self {
        Self { key, until: HashMap::new() }
    }

    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
    pub(super) fn token(&self, account: AccountId, version: i64, hash: &str, password: &Prepared) -> Token {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("any key");
        mac.update(&account.0.to_be_bytes());
        mac.update(&version.to_be_bytes());
        // A NUL between: neither a hash nor a password has one.
        mac.update(hash.as_bytes());
        mac.update(&[0]);
        mac.update(password.expose());
        mac.finalize().into_bytes().into()
    }

    pub(super) fn contains(&self, token: &Token, now: Duration) -> bool {
        self.until.get(token).is_some_and(|until| now < *until)
    }

    pub(super) fn insert(&mut self, token: Token, now: Duration) {
        if self.until.len() >= MAX {
            self.until.retain(|_, until| now < *until);
            if self.until.len() >= MAX {
                self.until.clear();
            }
        }
        self.until.insert(token, now.saturating_add(TIME));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bound_to_everything_and_to_time() {
        let mut r = Remembered::new([7; 32]);
        let (a, b) = (Prepared::new("password-a").unwrap(), Prepared::new("password-b").unwrap());
        let token = r.token(AccountId(1), 1, "h", &a);
        r.insert(token, Duration::ZERO);
        for other in [
            r.token(AccountId(2), 1, "h", &a),
            r.token(AccountId(1), 2, "h", &a),
            r.token(AccountId(1), 1, "g", &a),
            r.token(AccountId(1), 1, "h", &b),
            Remembered::new([8; 32]).token(AccountId(1), 1, "h", &a),
        ] {
            assert!(!r.contains(&other, Duration::ZERO));
        }
        assert!(r.contains(&token, Duration::from_secs(899)));
        assert!(!r.contains(&token, Duration::from_secs(900)));
    }
}
