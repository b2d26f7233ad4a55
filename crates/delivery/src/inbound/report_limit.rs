//! How many reports of others are kept from whom, so that nobody fills the store or keeps us unpacking.
//!
//! An honest reporter sends a report for each of its hosts and each of our domains, at most every hour. It is known by the organization
//! that vouches for its mail, so a limit is nobody else's; messages nobody vouches for have one together.

use mox_base::{Domain, Timestamp};
use mox_mailauth::suffix::organizational_domain;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Reports of one reporter that are unpacked in an hour.
const READ: u32 = 1000;
/// Reports of one reporter about one domain that are kept in a day.
const KEPT: u32 = 200;
/// What is counted at once; more, in the same time, is refused.
const MAX_KEYS: usize = 20_000;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Counts reports.
#[derive(Debug, Default)]
pub(super) struct ReportLimits {
    read: Mutex<Window<Option<Domain>>>,
    kept: Mutex<Window<(Domain, Domain)>>,
}

/// Counts in a fixed window of time.
#[derive(Debug)]
struct Window<K> {
    current: i64,
    counts: HashMap<K, u32>,
}

impl<K> Default for Window<K> {
    fn default() -> Self {
        Self { current: 0, counts: HashMap::new() }
    }
}

impl<K: Eq + Hash> Window<K> {
    /// Counts one more, if that is within the limit; says whether it is.
    fn add(&mut self, key: K, limit: u32, length: Duration, now: Timestamp) -> bool {
        let index = now.secs().div_euclid(i64::try_from(length.as_secs()).unwrap_or(i64::MAX).max(1));
        if index != self.current {
            *self = Self { current: index, counts: HashMap::new() };
        }
        if self.counts.len() >= MAX_KEYS && !self.counts.contains_key(&key) {
            return false;
        }
        let count = self.counts.entry(key).or_insert(0);
        let within = *count < limit;
        *count = count.saturating_add(u32::from(within));
        within
    }
}

impl ReportLimits {
    /// Whether one more of a reporter's messages may be unpacked; without a domain, one of those nobody vouches for.
    pub(super) fn may_read(&self, from: Option<&Domain>, now: Timestamp) -> bool {
        self.read.lock().unwrap_or_else(PoisonError::into_inner).add(from.map(organizational_domain), READ, HOUR, now)
    }

    /// Whether one more of its reports about a domain may be kept.
    pub(super) fn may_keep(&self, from: &Domain, about: &Domain, now: Timestamp) -> bool {
        let key = (organizational_domain(from), about.clone());
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).add(key, KEPT, DAY, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reporter_has_its_own() {
        let d = |name: &str| name.parse::<Domain>().unwrap();
        let limits = ReportLimits::default();
        let noon = Timestamp::from_secs(1_700_000_000);
        for n in 0..READ {
            assert!(limits.may_read(Some(&d(&format!("h{n}.reporter.example"))), noon), "{n}");
        }
        assert!(!limits.may_read(Some(&d("reporter.example")), noon), "its hosts count together");
        assert!(limits.may_read(Some(&d("other.example")), noon));
        assert!((0..READ).all(|_| limits.may_read(None, noon)) && !limits.may_read(None, noon));
        assert!(limits.may_read(Some(&d("reporter.example")), noon.after(HOUR)));
        for n in 0..KEPT {
            assert!(limits.may_keep(&d("reporter.example"), &d("a.example"), noon), "{n}");
        }
        assert!(!limits.may_keep(&d("reporter.example"), &d("a.example"), noon.after(HOUR)));
        assert!(limits.may_keep(&d("reporter.example"), &d("b.example"), noon));
        assert!(limits.may_keep(&d("other.example"), &d("a.example"), noon));
        assert!(limits.may_keep(&d("reporter.example"), &d("a.example"), noon.after(DAY)));
    }

    #[test]
    fn what_is_counted_is_bounded() {
        let mut window = Window::default();
        let now = Timestamp::from_secs(0);
        assert!((0..MAX_KEYS).all(|n| window.add(n, 2, DAY, now)));
        assert!(!window.add(MAX_KEYS, 2, DAY, now));
        assert!(window.add(0, 2, DAY, now) && !window.add(0, 2, DAY, now));
    }
}
