//! When a webhook is called again: a minute after the first attempt, then at growing intervals, for about 32 hours; or as configured.

use mox_base::{Random, Timestamp};
use std::sync::Arc;
use std::time::Duration;

/// Seconds from an attempt to the next, without configuration.
const INTERVALS: [u64; 11] = [60, 120, 240, 450, 900, 1800, 3600, 7200, 14400, 28800, 57600];

/// The longest that a receiver can make us wait.
const MAX_PATIENCE: Duration = Duration::from_secs(24 * 3600);

/// By how much intervals are varied: −1 % to almost +1 %, in ten thousandths.
pub(super) fn jitter(random: &dyn Random) -> u64 {
    9900_u64.saturating_add(random.below(200))
}

/// How long after the last attempt it is seen that the server ended during it, at most.
const AFTER_LAST: Duration = Duration::from_secs(300);

/// The intervals between attempts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    intervals: Arc<[Duration]>,
}

impl Default for Schedule {
    fn default() -> Self {
        Self { intervals: INTERVALS.into_iter().map(Duration::from_secs).collect() }
    }
}

impl Schedule {
    /// With these intervals, one for each attempt but the last; none for the default.
    #[must_use]
    pub fn new(intervals: Vec<Duration>) -> Self {
        if intervals.is_empty() { Self::default() } else { Self { intervals: intervals.into() } }
    }

    /// How often a webhook is called.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        u32::try_from(self.intervals.len()).unwrap_or(u32::MAX).saturating_add(1)
    }

    /// How long after an attempt the next is due, given the number of attempts before it. After the last, when it is seen that
    /// the server ended during it.
    pub(super) fn backoff(&self, jitter: u64, attempts_before: u32) -> Duration {
        let index = usize::try_from(attempts_before).unwrap_or(usize::MAX);
        let last = || self.intervals.last().copied().unwrap_or(AFTER_LAST).min(AFTER_LAST);
        let interval = self.intervals.get(index).copied().unwrap_or_else(last);
        // Jitter is in ten thousandths.
        interval.saturating_mul(u32::try_from(jitter).unwrap_or(u32::MAX)) / 10_000
    }
}

/// When a receiver wants to be called again, by the value of its Retry-After header, RFC 9110 §10.2.3.
pub(super) fn retry_after(value: &str, now: Timestamp) -> Option<Timestamp> {
    let value = value.trim();
    let wait = if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        Duration::from_secs(value.parse().unwrap_or(u64::MAX))
    } else {
        http_date(value)?.since(now)
    };
    Some(now.after(wait.min(MAX_PATIENCE)))
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`, RFC 9110 §5.6.7. The obsolete forms aren't worth it.
fn http_date(text: &str) -> Option<Timestamp> {
    let rest = text.split_once(", ")?.1.strip_suffix(" GMT")?;
    let mut words = rest.split(' ');
    let day = words.next()?.parse().ok()?;
    let month = mox_base::time::month_number(words.next()?.as_bytes())?;
    let year = words.next()?.parse().ok()?;
    let mut clock = words.next()?.split(':');
    let mut part = || clock.next()?.parse().ok();
    let time = (part()?, part()?, part()?);
    if words.next().is_some() { None } else { Timestamp::from_civil((year, month, day), time, 0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mox_testkit::SeededRandom;

    #[test]
    fn twelve_attempts_in_32_hours() {
        let schedule = Schedule::default();
        assert_eq!(schedule.attempts(), 12);
        let total: Duration = (0..11).map(|before| schedule.backoff(10_000, before)).sum();
        assert_eq!(total, Duration::from_secs(31 * 3600 + 59 * 60 + 30));
        assert_eq!(schedule.backoff(10_000, 0), Duration::from_secs(60));
        assert_eq!(schedule.backoff(10_000, 11), Duration::from_secs(300));
    }

    #[test]
    fn as_configured() {
        let schedule = Schedule::new(vec![Duration::from_millis(50), Duration::from_secs(2)]);
        assert_eq!(schedule.attempts(), 3);
        let times: Vec<Duration> = (0..4).map(|before| schedule.backoff(10_000, before)).collect();
        assert_eq!(times, [50, 2000, 2000, 2000].map(Duration::from_millis));
        assert_eq!(Schedule::new(Vec::new()), Schedule::default());
    }

    #[test]
    fn varies_by_a_percent() {
        let random = SeededRandom::new(5);
        for _ in 0..500 {
            let interval = Schedule::default().backoff(jitter(&random), 0);
            assert!((Duration::from_millis(59_400)..=Duration::from_millis(60_594)).contains(&interval), "{interval:?}");
        }
    }

    #[test]
    fn receivers_say_when() {
        let now = Timestamp::parse_rfc3339("1994-11-06T08:49:00Z").unwrap();
        for (value, want) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("99999999999999999999999", Some(24 * 3600)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(37)),
            ("Sun, 06 Nov 1994 08:48:37 GMT", Some(0)),
            ("soon", None),
            ("", None),
            ("-1", None),
            ("Sun, 06 Nov 1994 GMT", None),
        ] {
            assert_eq!(retry_after(value, now), want.map(|s| now.after(Duration::from_secs(s))), "{value}");
        }
    }
}
