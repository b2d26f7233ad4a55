//! When a webhook is called again: a minute after the first attempt, then at growing intervals, for about 32 hours.

use mox_base::{Random, Timestamp};
use std::time::Duration;

/// How often a webhook is called.
pub const MAX_ATTEMPTS: u32 = 12;

/// Seconds from an attempt to the next.
const INTERVALS: [u64; 11] = [60, 120, 240, 450, 900, 1800, 3600, 7200, 14400, 28800, 57600];

/// The longest that a receiver can make us wait.
const MAX_PATIENCE: Duration = Duration::from_secs(24 * 3600);

/// By how much intervals are varied: −1 % to almost +1 %, in ten thousandths.
pub(super) fn jitter(random: &dyn Random) -> u64 {
    9900_u64.saturating_add(random.below(200))
}

/// How long after an attempt the next is due, given the number of attempts before it. After the last, when it is seen that
/// the server ended during it.
pub(super) fn backoff(jitter: u64, attempts_before: u32) -> Duration {
    let index = usize::try_from(attempts_before).unwrap_or(usize::MAX);
    let seconds = INTERVALS.get(index).copied().unwrap_or(300);
    // Ten thousandths of a second are hundred microseconds.
    Duration::from_micros(seconds.saturating_mul(jitter).saturating_mul(100))
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
        let total: Duration = (0..MAX_ATTEMPTS - 1).map(|before| backoff(10_000, before)).sum();
        assert_eq!(total, Duration::from_secs(31 * 3600 + 59 * 60 + 30));
        assert_eq!(backoff(10_000, 0), Duration::from_secs(60));
        assert_eq!(backoff(10_000, 11), Duration::from_secs(300));
    }

    #[test]
    fn varies_by_a_percent() {
        let random = SeededRandom::new(5);
        for _ in 0..500 {
            let interval = backoff(jitter(&random), 0);
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
