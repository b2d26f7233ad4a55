//! Limits on what one client, or one network of clients, may do: how often it connects, how many connections it holds, how
//! often it fails to authenticate.
//!
//! An address counts in three classes, itself and two networks around it, each with a limit of its own; a thing that would exceed
//! any of them is refused and not counted. Time is cut into fixed windows. What is kept is one number per class and
//! address seen in the current window.

use mox_base::Timestamp;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The most of something for an address, the network around it and the larger network around that.
pub type ClassLimits = [u32; 3];

/// A limit on things that happen.
#[derive(Debug)]
pub struct RateLimit {
    windows: Mutex<Vec<Window>>,
}

#[derive(Debug)]
struct Window {
    /// None: everything counts until it is released.
    length: Option<Duration>,
    limits: ClassLimits,
    current: i64,
    counts: HashMap<(u8, IpAddr), u32>,
}

impl RateLimit {
    /// A limit in each of several windows.
    pub fn new(windows: impl IntoIterator<Item = (Duration, ClassLimits)>) -> Self {
        let window = |(length, limits)| Window { length: Some(length), limits, current: 0, counts: HashMap::new() };
        Self { windows: Mutex::new(windows.into_iter().map(window).collect()) }
    }

    /// Failed authentications, one limit for SMTP submission, IMAP and the web: 10 per minute and 50 per day for an address,
    /// three and nine times that for its networks.
    pub fn failed_authentication() -> Self {
        let day = Duration::from_secs(24 * 60 * 60);
        Self::new([(Duration::from_secs(60), [10, 30, 90]), (day, [50, 150, 450])])
    }

    /// New connections to one service: 300 per minute for an address, three and nine times that for its networks.
    pub fn new_connections() -> Self {
        Self::new([(Duration::from_secs(60), [300, 900, 2700])])
    }

    /// Whether one more would be within the limits.
    pub fn allows(&self, ip: IpAddr, now: Timestamp) -> bool {
        self.locked().iter_mut().all(|w| w.allows(ip, now))
    }

    /// Counts one more, if that is within the limits; says whether it is.
    pub fn add(&self, ip: IpAddr, now: Timestamp) -> bool {
        let mut windows = self.locked();
        let allowed = windows.iter_mut().all(|w| w.allows(ip, now));
        if allowed {
            windows.iter_mut().for_each(|w| w.add(ip));
        }
        allowed
    }

    /// Forgets what the address did, and subtracts it from its networks.
    pub fn reset(&self, ip: IpAddr, now: Timestamp) {
        for window in self.locked().iter_mut() {
            window.roll(now);
            let [own, _, _] = keys(ip);
            if let Some(n) = window.counts.get(&own).copied() {
                window.subtract(ip, n);
            }
        }
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Vec<Window>> {
        // Counts are whole between statements.
        self.windows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Window {
    fn roll(&mut self, now: Timestamp) {
        let Some(length) = self.length else { return };
        let index = now.secs().div_euclid(i64::try_from(length.as_secs()).unwrap_or(i64::MAX).max(1));
        if index != self.current {
            self.current = index;
            self.counts = HashMap::new();
        }
    }

    fn allows(&mut self, ip: IpAddr, now: Timestamp) -> bool {
        self.roll(now);
        keys(ip).iter().zip(self.limits).all(|(key, limit)| self.counts.get(key).copied().unwrap_or(0) < limit)
    }

    fn add(&mut self, ip: IpAddr) {
        for key in keys(ip) {
            let count = self.counts.entry(key).or_default();
            *count = count.saturating_add(1);
        }
    }

    fn subtract(&mut self, ip: IpAddr, n: u32) {
        for key in keys(ip) {
            if let Some(count) = self.counts.get_mut(&key) {
                *count = count.saturating_sub(n);
                if *count == 0 {
                    self.counts.remove(&key);
                }
            }
        }
    }
}

/// A limit on connections open at the same time.
#[derive(Debug)]
pub struct OpenLimit {
    window: Mutex<Window>,
}

impl OpenLimit {
    /// A limit.
    pub fn new(limits: ClassLimits) -> Self {
        Self { window: Mutex::new(Window { length: None, limits, current: 0, counts: HashMap::new() }) }
    }

    /// Counts a connection, if that is within the limits. To be released when it closes.
    pub fn open(self: &std::sync::Arc<Self>, ip: IpAddr) -> Option<OpenGuard> {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if !window.allows(ip, Timestamp::EPOCH) {
            return None;
        }
        window.add(ip);
        Some(OpenGuard { limit: std::sync::Arc::clone(self), ip })
    }
}

/// A connection that counts as open until this is dropped.
#[derive(Debug)]
pub struct OpenGuard {
    limit: std::sync::Arc<OpenLimit>,
    ip: IpAddr,
}

impl Drop for OpenGuard {
    fn drop(&mut self) {
        self.limit.window.lock().unwrap_or_else(PoisonError::into_inner).subtract(self.ip, 1);
    }
}

/// The three classes of an address: IPv4 /32, /26, /21, IPv6 /64, /48, /32.
fn keys(ip: IpAddr) -> [(u8, IpAddr); 3] {
    match ip.to_canonical() {
        IpAddr::V4(v4) => {
            let masked = |bits: u32| IpAddr::V4(Ipv4Addr::from(v4.to_bits() & (u32::MAX << 32_u32.saturating_sub(bits).min(31))));
            [(1, IpAddr::V4(v4)), (2, masked(26)), (3, masked(21))]
        }
        IpAddr::V6(v6) => {
            let masked = |bits: u32| IpAddr::V6(Ipv6Addr::from(v6.to_bits() & (u128::MAX << 128_u32.saturating_sub(bits).min(127))));
            [(1, masked(64)), (2, masked(48)), (3, masked(32))]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn classes() {
        let text = |ip: &str| keys(ip.parse().unwrap()).map(|(_, ip)| ip.to_string());
        assert_eq!(text("192.0.2.77"), ["192.0.2.77", "192.0.2.64", "192.0.0.0"]);
        assert_eq!(text("2001:db8:1:2:3::4"), ["2001:db8:1:2::", "2001:db8:1::", "2001:db8::"]);
        assert_eq!(text("::ffff:192.0.2.77"), ["192.0.2.77", "192.0.2.64", "192.0.0.0"]);
    }

    #[test]
    fn windows_and_networks() {
        let limit = RateLimit::new([(Duration::from_secs(60), [2, 3, 100])]);
        let (t0, t1) = (Timestamp::from_secs(60), Timestamp::from_secs(120));
        let (a, b) = (ip("192.0.2.1"), ip("192.0.2.2"));
        let added = [a, a, a, b, b].map(|ip| limit.add(ip, t0));
        assert_eq!(added, [true, true, false, true, false], "the network allows three");
        limit.reset(a, t0);
        assert!(limit.allows(b, t0));
        assert!(limit.add(b, t0) && !limit.add(b, t0));
        assert!(limit.add(b, t1), "a new window");
    }

    #[test]
    fn open_connections_are_released() {
        let limit = Arc::new(OpenLimit::new([1, 2, 3]));
        let a = limit.open(ip("192.0.2.1"));
        assert!(a.is_some() && limit.open(ip("192.0.2.1")).is_none());
        drop(a);
        assert!(limit.open(ip("192.0.2.1")).is_some());
    }
}
