//! Ids of connections, shown to the outside in a form that only we can read.
//!
//! Inside, a connection has a number that counts up, found in the logs. Outside, in `Received` and in error replies, it is
//! encrypted, so that nobody learns how many connections there are: one AES-128 block of eight random bytes, fixed for an
//! installation, and the number. A command turns such an id back into the number.

use aws_lc_rs::cipher::{AES_128, DecryptingKey, DecryptionContext, EncryptingKey, UnboundCipherKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mox_base::Timestamp;
use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};

/// Makes ids.
pub struct ConnectionIds {
    encrypt: EncryptingKey,
    decrypt: DecryptingKey,
    padding: [u8; 8],
    next: AtomicI64,
}

impl fmt::Debug for ConnectionIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionIds").field("next", &self.next).finish_non_exhaustive()
    }
}

/// The key can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("key for received ids can't be used")]
pub struct BadKey;

/// Why a text is no id of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadId {
    /// Not 22 characters of base64url.
    #[error("not an id")]
    Malformed,
    /// Made with another key.
    #[error("id is not from this server")]
    Foreign,
}

impl ConnectionIds {
    /// With the installation's key (16 bytes of key, 8 of padding). Numbers start at the process' start in milliseconds,
    /// so that they go on after a restart.
    ///
    /// # Errors
    /// See [`BadKey`]; doesn't happen with keys of this length.
    pub fn new(key: &[u8; 24], start: Timestamp) -> Result<Self, BadKey> {
        let (aes, padding) = key.split_at(16);
        let bound = || UnboundCipherKey::new(&AES_128, aes).map_err(|_| BadKey);
        Ok(Self {
            encrypt: EncryptingKey::ecb(bound()?).map_err(|_| BadKey)?,
            decrypt: DecryptingKey::ecb(bound()?).map_err(|_| BadKey)?,
            padding: padding.try_into().map_err(|_| BadKey)?,
            next: AtomicI64::new(start.micros().div_euclid(1000)),
        })
    }

    /// The next number.
    pub fn next(&self) -> i64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// A number as shown outside: 22 characters.
    pub fn shown(&self, number: i64) -> String {
        let mut block = [0; 16];
        let (padding, counter) = block.split_at_mut(8);
        padding.copy_from_slice(&self.padding);
        counter.copy_from_slice(&number.to_be_bytes());
        match self.encrypt.encrypt(&mut block) {
            Ok(_) => URL_SAFE_NO_PAD.encode(block),
            // Doesn't happen; an id that says nothing is better than no mail.
            Err(_) => URL_SAFE_NO_PAD.encode([0; 16]),
        }
    }

    /// The number of a shown id.
    ///
    /// # Errors
    /// See [`BadId`].
    pub fn number(&self, shown: &str) -> Result<i64, BadId> {
        let mut block = URL_SAFE_NO_PAD.decode(shown).map_err(|_| BadId::Malformed)?;
        if block.len() != 16 {
            return Err(BadId::Malformed);
        }
        self.decrypt.decrypt(&mut block, DecryptionContext::None).map_err(|_| BadId::Malformed)?;
        let (padding, counter) = block.split_at(8);
        if padding != self.padding {
            return Err(BadId::Foreign);
        }
        Ok(i64::from_be_bytes(counter.try_into().map_err(|_| BadId::Malformed)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_by_their_maker_only() {
        let ids = ConnectionIds::new(&[7; 24], Timestamp::from_secs(1000)).unwrap();
        assert_eq!((ids.next(), ids.next()), (1_000_000, 1_000_001));
        let shown = ids.shown(1_000_001);
        assert_eq!((shown.len(), ids.number(&shown)), (22, Ok(1_000_001)));
        let other = ConnectionIds::new(&[8; 24], Timestamp::EPOCH).unwrap();
        assert_eq!(other.number(&shown), Err(BadId::Foreign));
        assert_eq!(ids.number("x"), Err(BadId::Malformed));
    }
}
