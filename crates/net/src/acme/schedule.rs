//! When certificates are renewed, and when something that failed is tried again.

use mox_base::{Random, Timestamp};
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// How often the provider is asked for suggestions, unless it says.
pub(super) const ASK: Duration = Duration::from_secs(6 * 3600);

const DAYS_30: Duration = Duration::from_secs(30 * 24 * 3600);

/// When a certificate is due: a third of its lifetime before its end, at most 30 days, or as configured; a little later by chance, so
/// that not all come at once.
pub(super) fn renew_at(validity: (Timestamp, Timestamp), before: Option<Duration>, random: &dyn Random) -> Timestamp {
    let (not_before, not_after) = validity;
    let lifetime = not_after.since(not_before);
    // Whatever is configured, most of a certificate's lifetime is used.
    let most = DAYS_30.min(lifetime / 3 * 2);
    let before = before.filter(|b| !b.is_zero()).unwrap_or(lifetime / 3).min(most);
    not_after.before(before.saturating_sub(chance(random, HOUR.min(before / 10))))
}

/// A moment of the window that the provider suggests, RFC 9773 §4.2.
pub(super) fn within(window: (Timestamp, Timestamp), random: &dyn Random) -> Timestamp {
    let (start, end) = window;
    start.after(chance(random, end.since(start)))
}

/// The pause after a success, whatever is due: a third of the time that the certificate is good for, at most an hour.
pub(super) fn after_success(left: Duration) -> Duration {
    HOUR.min(left / 3)
}

/// The pause after a renewal failed: there is time.
pub(super) fn after_failed_renewal(random: &dyn Random) -> Duration {
    30 * MINUTE + chance(random, 30 * MINUTE)
}

/// The pause after so many failures in a row to get what isn't there: a minute, twice as long each time, at most an hour. Providers
/// count failures, and lock out who has too many.
pub(super) fn after_failures(failures: u32) -> Duration {
    MINUTE.saturating_mul(1 << failures.saturating_sub(1).min(6)).min(HOUR)
}

fn chance(random: &dyn Random, most: Duration) -> Duration {
    Duration::from_micros(random.below(u64::try_from(most.as_micros()).unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use mox_testkit::SeededRandom;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    #[test]
    fn renewed_before_the_end() {
        let start = Timestamp::from_secs(1_800_000_000);
        let random = SeededRandom::new(1);
        for (lifetime, configured, before) in [
            (90 * DAY, None, 30 * DAY),
            (47 * DAY, None, 47 * DAY / 3),
            (6 * DAY, None, 2 * DAY),
            (398 * DAY, None, 30 * DAY),
            (90 * DAY, Some(10 * DAY), 10 * DAY),
            (90 * DAY, Some(80 * DAY), 30 * DAY),
            (90 * DAY, Some(Duration::ZERO), 30 * DAY),
            (6 * DAY, Some(30 * DAY), 4 * DAY),
        ] {
            let end = start.after(lifetime);
            for _ in 0..100 {
                let left = end.since(renew_at((start, end), configured, &random));
                assert!(left <= before && left >= before - HOUR.min(before / 10), "{lifetime:?} {configured:?}: {left:?}");
            }
        }
    }

    #[test]
    fn pauses() {
        let minutes = |n| after_failures(n).as_secs() / 60;
        assert_eq!([after_success(90 * DAY), after_success(6 * MINUTE)], [HOUR, 2 * MINUTE]);
        assert_eq!([1, 2, 3, 6, 7, 8, u32::MAX].map(minutes), [1, 2, 4, 32, 60, 60, 60]);
        let random = SeededRandom::new(2);
        for _ in 0..100 {
            let pause = after_failed_renewal(&random);
            assert!((30 * MINUTE..=60 * MINUTE).contains(&pause));
        }
    }

    #[test]
    fn moments_of_a_window() {
        let start = Timestamp::from_secs(1_800_000_000);
        let random = SeededRandom::new(3);
        for _ in 0..100 {
            let at = within((start, start.after(DAY)), &random);
            assert!(at >= start && at < start.after(DAY));
        }
        assert_eq!(within((start, start), &random), start);
    }
}
