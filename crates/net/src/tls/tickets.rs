//! Keys of session tickets, RFC 5077 §4 and RFC 8446 §4.6.1: which are kept elsewhere, so that sessions outlive a restart and can be
//! resumed at another node.
//!
//! A key is for a day: the newest encrypts, those before it only decrypt. Whoever has them puts others into effect with
//! [`TicketKeys::replace`]; a ticket of a key that is gone leads to a full handshake. No key is used as it is: each service derives
//! its own, so that a session of one can't be resumed at another.
//!
//! A ticket is the key's name, a nonce, and what rustls keeps of the session, encrypted with AES-256-GCM.

use super::provider;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Prk, Salt};
use mox_base::Secret;
use rustls::server::ProducesTickets;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

/// How long a client may keep a ticket: the most that RFC 8446 §4.6.1 allows, and as long as its key can be there.
const LIFETIME_SECS: u32 = 7 * 86_400;

/// By this a ticket says which key it is encrypted with.
const NAME_LEN: usize = 16;

/// Keys, the newest first. Clones are the same ones.
#[derive(Clone, Default)]
pub struct TicketKeys(Arc<RwLock<Arc<[TicketKey]>>>);

/// One key, as others are derived from it.
struct TicketKey {
    name: [u8; NAME_LEN],
    secret: Prk,
}

impl TicketKeys {
    /// With these, the newest first.
    pub fn new(keys: &[Secret<[u8; 32]>]) -> Self {
        let made = Self::default();
        made.replace(keys);
        made
    }

    /// Puts these into effect, the newest first.
    pub fn replace(&self, keys: &[Secret<[u8; 32]>]) {
        let keys: Vec<TicketKey> = keys.iter().filter_map(TicketKey::new).collect();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = keys.into();
    }

    fn current(&self) -> Arc<[TicketKey]> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What makes and reads tickets for a service.
    pub(super) fn of_service(&self, service: &str) -> Arc<dyn ProducesTickets> {
        Arc::new(ServiceTickets { keys: self.clone(), service: service.to_owned() })
    }
}

impl fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TicketKeys({})", self.current().len())
    }
}

impl TicketKey {
    fn new(secret: &Secret<[u8; 32]>) -> Option<Self> {
        let secret = Salt::new(HKDF_SHA256, b"mox session tickets").extract(secret.expose());
        let mut name = [0; NAME_LEN];
        secret.expand(&[b"name"], Length(NAME_LEN)).ok()?.fill(&mut name).ok()?;
        Some(Self { name, secret })
    }

    fn of_service(&self, service: &str) -> Option<LessSafeKey> {
        let mut key = [0; 32];
        self.secret.expand(&[b"service", service.as_bytes()], Length(key.len())).ok()?.fill(&mut key).ok()?;
        Some(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).ok()?))
    }
}

/// How many bytes are derived.
struct Length(usize);

impl aws_lc_rs::hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// The tickets of a service.
#[derive(Debug)]
struct ServiceTickets {
    keys: TicketKeys,
    service: String,
}

impl ProducesTickets for ServiceTickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        LIFETIME_SECS
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let keys = self.keys.current();
        let key = keys.first()?;
        // A random nonce of 96 bits is good for 2^32 tickets; a day has fewer.
        let mut nonce = [0; NONCE_LEN];
        provider().secure_random.fill(&mut nonce).ok()?;
        let mut sealed = plain.to_vec();
        let of_service = key.of_service(&self.service)?;
        of_service.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(key.name), &mut sealed).ok()?;
        Some([&key.name[..], &nonce, &sealed].concat())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_first_chunk::<NAME_LEN>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let keys = self.keys.current();
        let key = keys.iter().find(|key| key.name == *name)?;
        let mut opened = sealed.to_vec();
        let of_service = key.of_service(&self.service)?;
        let plain = of_service.open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(key.name), &mut opened).ok()?;
        Some(plain.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(n: u8) -> Secret<[u8; 32]> {
        Secret::new([n; 32])
    }

    #[test]
    fn the_newest_encrypts_and_all_decrypt() {
        let keys = TicketKeys::new(&[secret(1)]);
        let tickets = keys.of_service("public/imaps");
        let first = tickets.encrypt(b"session").unwrap();
        assert_eq!(tickets.decrypt(&first).as_deref(), Some(&b"session"[..]));
        assert_ne!(tickets.encrypt(b"session").unwrap(), first);
        keys.replace(&[secret(2), secret(1)]);
        let second = tickets.encrypt(b"session").unwrap();
        assert_ne!(first[..NAME_LEN], second[..NAME_LEN]);
        assert!(tickets.decrypt(&first).is_some() && tickets.decrypt(&second).is_some());
        keys.replace(&[secret(3), secret(2)]);
        assert!(tickets.decrypt(&first).is_none() && tickets.decrypt(&second).is_some());
        // As after a restart, or at another node.
        let elsewhere = TicketKeys::new(&[secret(3), secret(2)]).of_service("public/imaps");
        assert!(elsewhere.decrypt(&second).is_some());
        // Not at another service.
        assert!(keys.of_service("public/submissions").decrypt(&second).is_none());
        assert!(TicketKeys::default().of_service("public/imaps").encrypt(b"session").is_none());
        assert_eq!(format!("{keys:?}"), "TicketKeys(2)");
    }

    #[test]
    fn what_was_changed_is_no_ticket() {
        let tickets = TicketKeys::new(&[secret(1)]).of_service("a");
        let ticket = tickets.encrypt(b"session").unwrap();
        for n in 0..ticket.len() {
            assert!(tickets.decrypt(&ticket[..n]).is_none());
            let mut changed = ticket.clone();
            changed[n] ^= 1;
            assert!(tickets.decrypt(&changed).is_none(), "at {n}");
        }
    }
}
