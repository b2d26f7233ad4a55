//! How hard other hosts are pressed: few connections at once to each, and a pause for a destination that asks for one.
//!
//! A host that says 421 has enough for now. Entries that become due for it during the pause fail as if they had heard the
//! same, without a connection, so that their own schedules go on and nobody waits for ever; only last attempts are always
//! made. Pauses outlive a restart: the queue notes them.

use mox_base::Timestamp;
use mox_store::queue::Pause as Noted;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The first pause. Each further one, without a delivery in between, is twice as long.
pub(super) const PAUSE: Duration = Duration::from_secs(60);

/// The first pause for a destination that doesn't want our address.
pub(super) const BLOCKED_PAUSE: Duration = Duration::from_secs(15 * 60);

const MAX_DOUBLINGS: u32 = 5;

/// Destinations remembered; of more, those whose pause is over are forgotten.
const REMEMBERED: usize = 10_000;

/// What is known of hosts and destinations.
#[derive(Debug)]
pub(super) struct Pressure {
    per_host: usize,
    hosts: Mutex<BTreeMap<String, Weak<Semaphore>>>,
    pauses: Mutex<BTreeMap<String, Pause>>,
    /// Pauses from before the start were read.
    remembered: AtomicBool,
}

#[derive(Clone, Debug)]
struct Pause {
    /// On the monotonic clock.
    until: Duration,
    length: Duration,
    /// What was said.
    reason: String,
}

impl Pressure {
    /// With so many connections at once to one host.
    pub(super) fn new(per_host: usize) -> Self {
        Self { per_host: per_host.max(1), hosts: Mutex::default(), pauses: Mutex::default(), remembered: AtomicBool::new(false) }
    }

    /// A place among the connections to a host, to be kept as long as the connection; waits until there is one.
    pub(super) async fn place(&self, host: &str) -> Option<OwnedSemaphorePermit> {
        let places = self.places(host);
        // None only if it was closed, which nobody does.
        places.acquire_owned().await.ok()
    }

    fn places(&self, host: &str) -> Arc<Semaphore> {
        let mut hosts = lock(&self.hosts);
        if let Some(places) = hosts.get(host).and_then(Weak::upgrade) {
            return places;
        }
        hosts.retain(|_, places| places.strong_count() > 0);
        let places = Arc::new(Semaphore::new(self.per_host));
        hosts.insert(host.to_owned(), Arc::downgrade(&places));
        places
    }

    /// What a destination that asked for a pause said, while it lasts.
    pub(super) fn paused(&self, destination: &str, now: Duration) -> Option<String> {
        lock(&self.pauses).get(destination).filter(|pause| pause.until > now).map(|pause| pause.reason.clone())
    }

    /// Whether pauses from before the start are still to be read; asked once.
    pub(super) fn must_remember(&self) -> bool {
        !self.remembered.swap(true, Ordering::AcqRel)
    }

    /// Goes on with pauses from before the start.
    pub(super) fn remember(&self, noted: Vec<Noted>, today: Timestamp, now: Duration) {
        let mut pauses = lock(&self.pauses);
        for Noted { destination, until, length, reason } in noted {
            // Not longer, should the clock have been set back.
            let left = until.since(today).min(length);
            pauses.entry(destination).or_insert(Pause { until: now.saturating_add(left), length, reason });
        }
    }

    /// A destination asks for a pause, or makes one advisable: how long it is now.
    pub(super) fn pause(&self, destination: &str, reason: &str, least: Duration, now: Duration) -> Duration {
        let mut pauses = lock(&self.pauses);
        if pauses.len() >= REMEMBERED {
            pauses.retain(|_, pause| pause.until > now);
        }
        let longest = least.saturating_mul(1 << MAX_DOUBLINGS);
        let length = pauses.get(destination).map_or(least, |before| before.length.saturating_mul(2).clamp(least, longest));
        pauses.insert(destination.to_owned(), Pause { until: now.saturating_add(length), length, reason: reason.to_owned() });
        length
    }

    /// A destination takes mail again; whether it had asked for a pause.
    pub(super) fn eased(&self, destination: &str) -> bool {
        lock(&self.pauses).remove(destination).is_some()
    }

    /// Forgets all pauses.
    pub(super) fn forget(&self) {
        lock(&self.pauses).clear();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Both maps are whole between statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end() {
        let pressure = Pressure::new(1);
        let at = Duration::from_secs;
        assert_eq!(pressure.paused("d", at(0)), None);
        pressure.pause("d", "busy", PAUSE, at(0));
        assert_eq!(pressure.paused("d", at(59)).as_deref(), Some("busy"));
        assert_eq!(pressure.paused("d", at(60)), None);
        assert_eq!(pressure.paused("e", at(1)), None);
        pressure.pause("d", "busy", PAUSE, at(100));
        assert!(pressure.paused("d", at(219)).is_some() && pressure.paused("d", at(220)).is_none());
        assert_eq!(pressure.pause("f", "blocked", BLOCKED_PAUSE, at(0)), at(900));
        assert_eq!(pressure.pause("f", "busy", PAUSE, at(0)), at(1800), "once blocked, it goes on from there, in its own limits");
        for _ in 0..20 {
            pressure.pause("d", "busy", PAUSE, at(1000));
        }
        assert!(pressure.paused("d", at(1000 + 1919)).is_some() && pressure.paused("d", at(1000 + 1920)).is_none());
        assert!(pressure.eased("d") && !pressure.eased("d"));
        assert_eq!(pressure.pause("d", "busy", PAUSE, at(2000)), at(60));
        assert!(pressure.paused("d", at(2060)).is_none());
    }

    #[test]
    fn pauses_from_before_the_start_go_on() {
        let pressure = Pressure::new(1);
        assert!(pressure.must_remember() && !pressure.must_remember());
        let at = Duration::from_secs;
        let noted = |destination: &str, until, length| Noted {
            destination: destination.to_owned(),
            until: Timestamp::from_secs(until),
            length: at(length),
            reason: "busy".to_owned(),
        };
        // The clock was set back by a year for the second.
        pressure.remember(vec![noted("d", 1100, 120), noted("e", 40_000_000, 120)], Timestamp::from_secs(1000), at(5));
        assert!(pressure.paused("d", at(104)).is_some() && pressure.paused("d", at(105)).is_none());
        assert!(pressure.paused("e", at(124)).is_some() && pressure.paused("e", at(125)).is_none());
        assert_eq!(pressure.pause("d", "busy", PAUSE, at(200)), at(240), "it goes on doubling");
    }

    #[tokio::test]
    async fn few_connections_to_one_host() {
        let pressure = Pressure::new(2);
        let first = pressure.place("h").await;
        let _second = pressure.place("h").await;
        assert!(tokio::time::timeout(Duration::from_millis(10), pressure.place("h")).await.is_err());
        let _other = pressure.place("other").await;
        drop(first);
        assert!(pressure.place("h").await.is_some());
    }
}
