//! What is known of one certificate: itself, the order for it, and what went wrong.

use super::provider::AcmeError;
use super::schedule;
use crate::tls::{HostKey, KeyCert, KeyKind};
use mox_base::{Random, Timestamp};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How far our clock may be behind the provider's.
const CLOCK_SKEW: Duration = Duration::from_secs(3600);

/// A host, by its A-labels, and a kind of keys.
pub(super) type Wanted = (String, KeyKind);

/// A certificate with its key.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) cert: KeyCert,
    pub(super) key: HostKey,
    /// When it is due, if the provider suggests nothing else.
    pub(super) renew_at: Timestamp,
}

impl Held {
    /// From a key and the chain of its certificate in PEM; the certificate has to be for the host and of this key.
    pub(super) fn new(host: &str, key: HostKey, chain: &str, before: Option<Duration>, random: &dyn Random) -> Result<Self, AcmeError> {
        let cert =
            KeyCert::from_pem(chain.as_bytes(), key.traditional_pem().as_bytes()).map_err(|e| AcmeError::Certificate(e.to_string()))?;
        if !cert.names().iter().any(|name| name == host) {
            return Err(AcmeError::Certificate(format!("it is for {:?}, not for {host}", cert.names())));
        }
        let renew_at = schedule::renew_at(cert.validity(), before, random);
        Ok(Self { cert, key, renew_at })
    }

    /// Whether it can be used. Our clock may be a little behind the provider's.
    pub(super) fn is_valid(&self, now: Timestamp) -> bool {
        let (not_before, not_after) = self.cert.validity();
        not_before.before(CLOCK_SKEW) <= now && now <= not_after
    }
}

/// When the provider wants a certificate to be renewed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Suggestion {
    pub(super) window: (Timestamp, Timestamp),
    /// Our moment of it.
    pub(super) at: Timestamp,
}

#[derive(Debug, Default)]
pub(super) struct Entry {
    pub(super) held: Option<Held>,
    /// Becomes true, or loses its sender, when the order that is going on ends.
    pub(super) ordering: Option<watch::Receiver<bool>>,
    /// Failures in a row.
    pub(super) failures: u32,
    /// After a failure, or a success: not before.
    pub(super) retry_at: Option<Timestamp>,
    pub(super) last_error: Option<Arc<str>>,
    pub(super) suggestion: Option<Suggestion>,
    /// When the provider is asked for a suggestion again.
    pub(super) ask_at: Option<Timestamp>,
}

impl Entry {
    pub(super) fn valid(&self, now: Timestamp) -> Option<&Held> {
        self.held.as_ref().filter(|held| held.is_valid(now))
    }

    /// The order that is going on.
    pub(super) fn ordering(&self) -> Option<watch::Receiver<bool>> {
        // An order that panicked has no sender any more.
        self.ordering.as_ref().filter(|ordering| ordering.has_changed().is_ok()).cloned()
    }

    pub(super) fn is_pausing(&self, now: Timestamp) -> bool {
        self.retry_at.is_some_and(|at| at > now)
    }

    /// When the certificate is due; none without one.
    pub(super) fn due(&self, configured: bool) -> Option<Timestamp> {
        let held = self.held.as_ref()?;
        let (_, not_after) = held.cert.validity();
        let due = match self.suggestion.filter(|s| s.at < not_after) {
            Some(suggestion) if configured => suggestion.at.min(held.renew_at),
            Some(suggestion) => suggestion.at,
            None => held.renew_at,
        };
        Some(self.retry_at.map_or(due, |retry| retry.max(due)))
    }

    /// A new certificate. Nothing is ordered or asked again at once, whatever it says and the provider suggests: one that always gives a
    /// certificate that is due already, or calls every one due, would be asked for another each second.
    pub(super) fn succeeded(&mut self, held: Held, now: Timestamp) {
        let (_, not_after) = held.cert.validity();
        let pause = schedule::after_success(not_after.since(now));
        let (retry_at, ask_at) = (Some(now.after(pause)), Some(now.after(schedule::ASK)));
        *self = Self { held: Some(held), retry_at, ask_at, ..Self::default() };
    }

    pub(super) fn failed(&mut self, error: &AcmeError, now: Timestamp, random: &dyn Random) {
        self.failures = self.failures.saturating_add(1);
        let pause = match self.valid(now) {
            Some(_) => schedule::after_failed_renewal(random),
            None => schedule::after_failures(self.failures),
        };
        self.retry_at = Some(now.after(pause));
        self.last_error = Some(error.to_string().into());
        self.ordering = None;
    }
}
