//! When delivery is tried again: 7.5 minutes after the first attempt, then each time twice as long; or as configured, RFC 5321
//! §4.5.4.1.

use mox_base::{Random, Timestamp};
use mox_store::queue::Entry;
use std::time::Duration;

/// The first interval without configuration, before it is varied.
const BASE: Duration = Duration::from_secs(450);

/// Attempts without configuration.
const ATTEMPTS: u32 = mox_store::queue::DEFAULT_MAX_ATTEMPTS;

/// Intervals don't grow beyond this many doublings; with the default number of attempts there are seven.
const MAX_DOUBLINGS: u32 = 10;

/// The sender is told that delivery takes longer after the first attempt that fails so long after the first.
const DELAY: Duration = Duration::from_secs(3600);

/// The intervals between attempts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    /// Empty for the default.
    intervals: Vec<Duration>,
}

/// By how much intervals are varied for once: 1.1 percent less to 0.9 percent more, so that what failed together isn't tried
/// together for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variation {
    /// In 450ths.
    parts: u32,
}

impl Variation {
    /// None.
    pub const NONE: Self = Self { parts: 450 };

    /// By chance.
    pub fn random(random: &dyn Random) -> Self {
        Self { parts: 445u32.saturating_add(u32::try_from(random.below(10)).unwrap_or(0)) }
    }
}

impl Schedule {
    /// With these intervals, of which there is one for each failed attempt but the last; none for the default.
    pub const fn new(intervals: Vec<Duration>) -> Self {
        Self { intervals }
    }

    /// How many attempts an entry has.
    pub fn attempts_allowed(&self, entry: &Entry) -> u32 {
        match (entry.max_attempts, self.intervals.len()) {
            (0, 0) => ATTEMPTS,
            (0, intervals) => u32::try_from(intervals).unwrap_or(u32::MAX).saturating_add(1),
            (max, _) => max,
        }
    }

    fn interval(&self, attempts_before: u32) -> Duration {
        let at = usize::try_from(attempts_before).unwrap_or(usize::MAX);
        // Entries may be allowed more attempts than there are intervals.
        let configured = self.intervals.get(at).or(self.intervals.last());
        configured.copied().unwrap_or_else(|| BASE.saturating_mul(1 << attempts_before.min(MAX_DOUBLINGS)))
    }

    /// How long after an attempt begins the next is due, given the number of attempts before it.
    pub fn backoff(&self, variation: Variation, attempts_before: u32) -> Duration {
        self.interval(attempts_before).saturating_mul(variation.parts) / Variation::NONE.parts
    }

    /// Whether the sender is told after this attempt, the nth, that delivery takes longer.
    pub fn tells_delay(&self, attempts: u32) -> bool {
        let after =
            |attempts: u32| (1..attempts).map(|n| self.interval(n.saturating_sub(1))).fold(Duration::ZERO, Duration::saturating_add);
        after(attempts) >= DELAY && after(attempts.saturating_sub(1)) < DELAY
    }

    /// Until when delivery will be tried, given the attempts made and allowed, and when the next is due. None when that
    /// was the last.
    pub fn retry_until(&self, attempts: u32, allowed: u32, next: Timestamp) -> Option<Timestamp> {
        if attempts >= allowed {
            return None;
        }
        let after_next = (attempts..allowed.saturating_sub(1)).map(|done| self.backoff(Variation::NONE, done));
        Some(after_next.fold(next, Timestamp::after))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mox_testkit::SeededRandom;

    #[test]
    fn eight_attempts_in_sixteen_hours() {
        let schedule = Schedule::default();
        let mut at = Duration::ZERO;
        let mut times = Vec::new();
        for attempts_before in 0..8 {
            times.push(at.as_secs() / 30);
            at += schedule.backoff(Variation::NONE, attempts_before);
        }
        // 0, 7m30s, 22m30s, 52m30s, 1h52m30s, 3h52m30s, 7h52m30s, 15h52m30s, in half minutes.
        assert_eq!(times, [0, 15, 45, 105, 225, 465, 945, 1905]);
        assert!(schedule.backoff(Variation::NONE, u32::MAX) > schedule.backoff(Variation::NONE, 8));
        let told: Vec<u32> = (1..=8).filter(|n| schedule.tells_delay(*n)).collect();
        assert_eq!(told, [5]);
    }

    #[test]
    fn as_configured() {
        let hours = |hours: u64| Duration::from_secs(hours * 3600);
        let schedule = Schedule::new(vec![Duration::from_secs(1800), hours(1), hours(24), hours(24)]);
        let times: Vec<Duration> = (0..6).map(|n| schedule.backoff(Variation::NONE, n)).collect();
        assert_eq!(times[..4], [Duration::from_secs(1800), hours(1), hours(24), hours(24)]);
        assert_eq!(times[4..], [hours(24), hours(24)], "for who may try more often");
        let told: Vec<u32> = (1..=8).filter(|n| schedule.tells_delay(*n)).collect();
        assert_eq!(told, [3]);
        let next = Timestamp::from_secs(0);
        assert_eq!(schedule.retry_until(3, 5, next), Some(next.after(hours(24))));
    }

    #[test]
    fn varies_little() {
        let random = SeededRandom::new(3);
        for _ in 0..200 {
            let first = Schedule::default().backoff(Variation::random(&random), 0);
            assert!((445..=454).contains(&first.as_secs()) && first.subsec_nanos() == 0);
        }
    }

    #[test]
    fn the_delay_dsn_tells_the_truth() {
        // After attempt 5, in 2 hours the sixth; then after 4 and 8 hours the seventh and eighth.
        let (schedule, next) = (Schedule::default(), Timestamp::from_secs(7200));
        assert_eq!(schedule.retry_until(5, 8, next), Some(Timestamp::from_secs(14 * 3600)));
        assert_eq!(schedule.retry_until(7, 8, next), Some(next));
        assert_eq!(schedule.retry_until(8, 8, next), None);
    }
}
