//! The real clock and the real randomness.

use mox_base::{Clock, Random, Timestamp};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tz::TimeZone;

/// The system's clock.
#[derive(Debug)]
pub(crate) struct SystemClock {
    start: Instant,
    /// That of the environment variable TZ, or of /etc/localtime; none if neither says one.
    zone: Option<TimeZone>,
}

impl SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the real clock that everything else is handed")]
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), zone: TimeZone::local().ok() }
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the real clock that everything else is handed")]
    fn now(&self) -> Timestamp {
        // Before 1970 only on a machine whose clock was never set.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    fn offset_minutes(&self, at: Timestamp) -> i16 {
        let found = self.zone.as_ref().and_then(|zone| zone.find_local_time_type(at.secs()).ok());
        found.and_then(|local| i16::try_from(local.ut_offset() / 60).ok()).unwrap_or(0)
    }
}

/// The operating system's randomness.
#[derive(Debug)]
pub(crate) struct SystemRandom;

impl Random for SystemRandom {
    #[expect(clippy::disallowed_methods, reason = "this is the real randomness that everything else is handed")]
    fn fill(&self, buf: &mut [u8]) {
        // Ids and keys that can be guessed would be worse than no server.
        assert!(getrandom::fill(buf).is_ok(), "the operating system gives no randomness");
    }
}
