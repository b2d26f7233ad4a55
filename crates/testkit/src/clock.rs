//! A clock that only moves when told to.

use mox_base::{Clock, Timestamp};
use std::sync::Arc;
use std::sync::atomic::{AtomicI16, AtomicI64, Ordering};
use std::time::Duration;

/// A clock for tests. Clones share the time.
#[derive(Clone, Debug)]
pub struct VirtualClock {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Microseconds since the epoch.
    now: AtomicI64,
    /// Microseconds that passed; not changed by setting the time of day.
    passed: AtomicI64,
    /// The server's zone, in minutes east of UTC.
    zone: AtomicI16,
}

impl VirtualClock {
    /// A clock that shows this time.
    #[must_use]
    pub fn at(now: Timestamp) -> Self {
        Self { shared: Arc::new(Shared { now: AtomicI64::new(now.micros()), passed: AtomicI64::new(0), zone: AtomicI16::new(0) }) }
    }

    /// Lets time pass, on both the time of day and the monotonic clock.
    pub fn advance(&self, by: Duration) {
        let micros = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        self.shared.now.fetch_add(micros, Ordering::SeqCst);
        self.shared.passed.fetch_add(micros, Ordering::SeqCst);
    }

    /// Sets the time of day, as an administrator or NTP would, also backwards; the monotonic clock doesn't notice.
    pub fn set(&self, now: Timestamp) {
        self.shared.now.store(now.micros(), Ordering::SeqCst);
    }

    /// Sets the server's time zone, in minutes east of UTC; UTC at first.
    pub fn set_zone(&self, offset_minutes: i16) {
        self.shared.zone.store(offset_minutes, Ordering::SeqCst);
    }
}

/// 2026-01-02 03:04:05 UTC.
impl Default for VirtualClock {
    fn default() -> Self {
        Self::at(Timestamp::from_secs(1_767_323_045))
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.shared.now.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_micros(u64::try_from(self.shared.passed.load(Ordering::SeqCst)).unwrap_or(0))
    }

    fn offset_minutes(&self, _at: Timestamp) -> i16 {
        self.shared.zone.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setting_the_time_does_not_move_the_monotonic_clock() {
        let clock = VirtualClock::default();
        assert_eq!(clock.now().rfc3339(), "2026-01-02T03:04:05Z");
        let other = clock.clone();
        clock.advance(Duration::from_secs(2));
        clock.set(Timestamp::EPOCH);
        assert_eq!((other.now(), other.monotonic()), (Timestamp::EPOCH, Duration::from_secs(2)));
    }
}
