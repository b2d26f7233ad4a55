//! When delivery is tried again: 7.5 minutes after the first attempt, then each time twice as long.

use mox_base::{Random, Timestamp};
use std::time::Duration;

/// The interval after the first attempt, before it is varied.
const BASE: u64 = 450;

/// After this attempt, if it failed, the sender is told that delivery takes longer.
pub const DELAY_DSN_AFTER: u32 = 5;

/// Intervals don't grow beyond this many doublings; with the default number of attempts there are seven.
const MAX_DOUBLINGS: u32 = 10;

/// The varied interval: 5 seconds less to 4 seconds more, so that what failed together isn't tried together for ever.
pub fn base_interval(random: &dyn Random) -> Duration {
    Duration::from_secs((BASE - 5).saturating_add(random.below(10)))
}

/// How long after an attempt begins the next is due, given the number of attempts before it.
pub fn backoff(base: Duration, attempts_before: u32) -> Duration {
    base.saturating_mul(1 << attempts_before.min(MAX_DOUBLINGS))
}

/// Until when delivery will be tried, given the attempts made and allowed, and when the next is due. None when that
/// was the last.
pub fn retry_until(attempts: u32, allowed: u32, next: Timestamp) -> Option<Timestamp> {
    if attempts >= allowed {
        return None;
    }
    let after_next = (attempts..allowed.saturating_sub(1)).map(|done| backoff(Duration::from_secs(BASE), done));
    Some(after_next.fold(next, Timestamp::after))
}

#[cfg(test)]
mod tests {
    use super::*;
    use mox_testkit::SeededRandom;

    #[test]
    fn eight_attempts_in_sixteen_hours() {
        let base = Duration::from_secs(450);
        let mut at = Duration::ZERO;
        let mut times = Vec::new();
        for attempts_before in 0..8 {
            times.push(at.as_secs() / 30);
            at += backoff(base, attempts_before);
        }
        // 0, 7m30s, 22m30s, 52m30s, 1h52m30s, 3h52m30s, 7h52m30s, 15h52m30s, in half minutes.
        assert_eq!(times, [0, 15, 45, 105, 225, 465, 945, 1905]);
        assert!(backoff(base, u32::MAX) > backoff(base, 8));
    }

    #[test]
    fn varies_little() {
        let random = SeededRandom::new(3);
        for _ in 0..200 {
            assert!((445..=454).contains(&base_interval(&random).as_secs()));
        }
    }

    #[test]
    fn the_delay_dsn_tells_the_truth() {
        // After attempt 5, in 2 hours the sixth; then after 4 and 8 hours the seventh and eighth.
        let next = Timestamp::from_secs(7200);
        assert_eq!(retry_until(5, 8, next), Some(Timestamp::from_secs(14 * 3600)));
        assert_eq!(retry_until(7, 8, next), Some(next));
        assert_eq!(retry_until(8, 8, next), None);
    }
}
