//! The background work of a provider: renewals, and certificates that should be there before anybody asks.

use super::entry::{Suggestion, Wanted};
use super::provider::{Acme, identifier};
use super::schedule;
use crate::tls::KeyKind;
use instant_acme::Error;
use mox_base::Timestamp;
use std::sync::PoisonError;
use std::time::Duration;

/// How long after the start the first look is.
const START: Duration = Duration::from_secs(1);

/// The longest time between two looks; clocks can be set.
const LOOK: Duration = Duration::from_secs(3600);

/// The shortest time between two looks.
const BREATH: Duration = Duration::from_secs(1);

/// The time between orders that nobody waits for, so that others' servers and limits are spared.
const SPACING: Duration = Duration::from_secs(10);

/// The most of these in an hour; the rest follows later.
const BATCH: usize = 10;

/// How often the provider is asked for suggestions, if it says how often.
const ASK_LEAST: Duration = Duration::from_secs(3600);
const ASK_MOST: Duration = Duration::from_secs(24 * 3600);

impl Acme {
    /// Does it until told to stop.
    pub async fn run(self) {
        let stop = self.inner.ports.stop.clone();
        let mut pause = START;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.inner.news.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
            // What it waits for ends when we stop.
            self.work().await;
            pause = self.next_look().since(self.now()).clamp(BREATH, LOOK);
        }
    }

    /// Does what is due now.
    pub async fn work(&self) {
        let mut ordered = 0_usize;
        for wanted in self.due() {
            self.ask(&wanted).await;
            if self.is_due(&wanted) {
                ordered = self.order_spaced(&wanted, ordered).await;
            }
        }
        let ensured = self.inner.ensured.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for host in ensured {
            let wanted = (host, KeyKind::EcdsaP256);
            let now = self.now();
            let missing = self.entries().get(&wanted).is_none_or(|entry| entry.valid(now).is_none() && !entry.is_pausing(now));
            if missing && ordered < BATCH {
                ordered = self.order_spaced(&wanted, ordered).await;
            }
        }
    }

    /// Orders one, after a while if it isn't the first, and waits for it. Gives how many there were.
    async fn order_spaced(&self, wanted: &Wanted, before: usize) -> usize {
        let stop = &self.inner.ports.stop;
        if before > 0 {
            tokio::select! {
                () = stop.cancelled() => return before,
                () = tokio::time::sleep(SPACING) => {}
            }
        }
        let ordering = {
            let now = self.now();
            let mut entries = self.entries();
            let entry = entries.entry(wanted.clone()).or_default();
            self.order(entry, wanted, now)
        };
        match ordering {
            Ok(mut ordering) => drop(ordering.wait_for(|ended| *ended).await),
            Err(error) => tracing::debug!(target: "autotls", %error, servername = wanted.0, "not requesting a certificate"),
        }
        before.saturating_add(1)
    }

    /// Certificates to look at: those due, and those whose provider is to be asked.
    fn due(&self) -> Vec<Wanted> {
        let now = self.now();
        let entries = self.entries();
        let due = entries.iter().filter(|((host, _), entry)| {
            entry.held.is_some() && self.allows(host) && entry.ask_at.is_none_or(|at| at <= now) || self.is_due_at(host, entry, now)
        });
        due.map(|(wanted, _)| wanted.clone()).collect()
    }

    fn is_due(&self, wanted: &Wanted) -> bool {
        let now = self.now();
        self.entries().get(wanted).is_some_and(|entry| self.is_due_at(&wanted.0, entry, now))
    }

    fn is_due_at(&self, host: &str, entry: &super::entry::Entry, now: Timestamp) -> bool {
        let Some(held) = entry.held.as_ref().filter(|_| self.allows(host)) else { return false };
        // The published TLSA records are of the configured key.
        let replaced = self.pinned(host, held.key.kind()).is_some_and(|key| key.spki_digest() != held.key.spki_digest());
        let due = entry.due(self.inner.settings.renew_before.is_some()).is_some_and(|at| at <= now);
        (due || replaced) && !entry.is_pausing(now)
    }

    /// When there may be something to do again.
    fn next_look(&self) -> Timestamp {
        let latest = self.now().after(LOOK);
        let configured = self.inner.settings.renew_before.is_some();
        let entries = self.entries();
        let times = entries.iter().filter(|((host, _), _)| self.allows(host)).filter_map(|(_, entry)| match &entry.held {
            Some(_) => entry.due(configured),
            None => entry.retry_at,
        });
        times.min().unwrap_or(latest).min(latest)
    }

    /// Asks the provider when it wants a certificate to be renewed, RFC 9773, if it is time for that.
    async fn ask(&self, wanted: &Wanted) {
        let now = self.now();
        let held = self.entries().get(wanted).filter(|entry| entry.ask_at.is_none_or(|at| at <= now)).and_then(|entry| entry.held.clone());
        let Some(held) = held else { return };
        let mut again = schedule::ASK;
        let mut suggested = None;
        if let Some(id) = identifier(&held) {
            let stop = &self.inner.ports.stop;
            let asked = tokio::select! {
                () = stop.cancelled() => return,
                asked = async { Ok(self.account().await?.renewal_info(&id).await) } => asked,
            };
            match asked {
                Ok(Ok((info, retry))) => {
                    let window = &info.suggested_window;
                    let time = Timestamp::from_secs;
                    let (start, end) = (time(window.start.unix_timestamp()), time(window.end.unix_timestamp()));
                    // RFC 9773 §4.2: another order is malformed, and then the client decides.
                    suggested = Some((start, end)).filter(|_| start < end);
                    again = retry.clamp(ASK_LEAST, ASK_MOST);
                }
                Ok(Err(Error::Unsupported(_))) => again = ASK_MOST,
                Ok(Err(error)) => tracing::debug!(target: "autotls", %error, servername = wanted.0, "asking for a suggested renewal"),
                Err::<_, super::AcmeError>(error) => {
                    tracing::debug!(target: "autotls", %error, servername = wanted.0, "asking for a suggested renewal");
                }
            }
        }
        let mut entries = self.entries();
        let Some(entry) = entries.get_mut(wanted) else { return };
        entry.ask_at = Some(now.after(again));
        // A moment once chosen stays while its window does.
        if let Some(window) = suggested.filter(|window| entry.suggestion.is_none_or(|s| s.window != *window)) {
            let at = schedule::within(window, self.inner.ports.random.as_ref());
            tracing::debug!(target: "autotls", servername = wanted.0, at = at.rfc3339(), "the acme provider suggests a time of renewal");
            entry.suggestion = Some(Suggestion { window, at });
        }
    }
}
