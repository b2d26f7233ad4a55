//! How hard other hosts are pressed: few connections at once to each, and a pause for a destination that asks for one.
//!
//! A host that says 421 has enough for now. Entries that become due for it during the pause fail as if they had heard the
//! same, without a connection, so that their own schedules go on and nobody waits for ever; only last attempts are always
//! made. All of it is forgotten at a restart.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The first pause. Each further one, without a delivery in between, is twice as long.
const PAUSE: Duration = Duration::from_secs(60);

const MAX_DOUBLINGS: u32 = 5;

/// Destinations remembered; of more, those whose pause is over are forgotten.
const REMEMBERED: usize = 10_000;

/// What is known of hosts and destinations.
#[derive(Debug)]
pub(super) struct Pressure {
    per_host: usize,
    hosts: Mutex<BTreeMap<String, Weak<Semaphore>>>,
    pauses: Mutex<BTreeMap<String, Pause>>,
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
        Self { per_host: per_host.max(1), hosts: Mutex::default(), pauses: Mutex::default() }
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

    /// A destination asks for a pause.
    pub(super) fn pause(&self, destination: &str, reason: &str, now: Duration) {
        let mut pauses = lock(&self.pauses);
        if pauses.len() >= REMEMBERED {
            pauses.retain(|_, pause| pause.until > now);
        }
        let longest = PAUSE.saturating_mul(1 << MAX_DOUBLINGS);
        let length = pauses.get(destination).map_or(PAUSE, |before| before.length.saturating_mul(2).min(longest));
        pauses.insert(destination.to_owned(), Pause { until: now.saturating_add(length), length, reason: reason.to_owned() });
    }

    /// A destination takes mail again.
    pub(super) fn eased(&self, destination: &str) {
        lock(&self.pauses).remove(destination);
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
        pressure.pause("d", "busy", at(0));
        assert_eq!(pressure.paused("d", at(59)).as_deref(), Some("busy"));
        assert_eq!(pressure.paused("d", at(60)), None);
        assert_eq!(pressure.paused("e", at(1)), None);
        pressure.pause("d", "busy", at(100));
        assert!(pressure.paused("d", at(219)).is_some() && pressure.paused("d", at(220)).is_none());
        for _ in 0..20 {
            pressure.pause("d", "busy", at(1000));
        }
        assert!(pressure.paused("d", at(1000 + 1919)).is_some() && pressure.paused("d", at(1000 + 1920)).is_none());
        pressure.eased("d");
        pressure.pause("d", "busy", at(2000));
        assert!(pressure.paused("d", at(2060)).is_none());
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
