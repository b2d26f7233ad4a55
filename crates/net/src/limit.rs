//! Limits on what one client, or one network of clients, may do: how often it connects, how many connections it holds, how
//! often it fails to authenticate.
//!
//! An address counts in three classes, itself and two networks around it, each with a limit of its own; a thing that would exceed
//! any of them is refused and not counted. What counts is what happened within a window of time that ends now and moves in tenths of
//! its length, so that nobody gets twice the limit around the turn of a minute. What is kept is one number per class, tenth and
//! address. Networks that an administrator names are spared: they are neither refused nor counted.

use mox_base::{IpPrefix, Timestamp};
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The most of something for an address, the network around it and the larger network around that.
pub type ClassLimits = [u32; 3];

/// A limit on things that happen.
#[derive(Debug)]
pub struct RateLimit {
    windows: Mutex<Vec<Window>>,
    spared: Vec<IpPrefix>,
}

/// How many of each address.
type Counts = HashMap<(u8, IpAddr), u32>;

#[derive(Debug)]
struct Window {
    /// Zero: everything counts until it is released.
    length: Duration,
    limits: ClassLimits,
    /// In all of the window.
    counts: Counts,
    /// By tenths, those that had something, ascending.
    tenths: VecDeque<(i64, Counts)>,
}

/// A window moves by this part of its length.
const TENTHS: u32 = 10;

impl RateLimit {
    /// A limit in each of several windows.
    pub fn new(windows: impl IntoIterator<Item = (Duration, ClassLimits)>) -> Self {
        let windows = windows.into_iter().map(|(length, limits)| Window::new(length, limits)).collect();
        Self { windows: Mutex::new(windows), spared: Vec::new() }
    }

    /// The limit, but not for these networks.
    #[must_use]
    pub fn sparing(self, networks: &[IpPrefix]) -> Self {
        Self { spared: networks.to_vec(), ..self }
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
        is_spared(&self.spared, ip) || self.locked().iter_mut().all(|w| w.allows(ip, now))
    }

    /// Counts one more, if that is within the limits; says whether it is.
    pub fn add(&self, ip: IpAddr, now: Timestamp) -> bool {
        if is_spared(&self.spared, ip) {
            return true;
        }
        let mut windows = self.locked();
        let allowed = windows.iter_mut().all(|w| w.allows(ip, now));
        if allowed {
            windows.iter_mut().for_each(|w| w.add(ip, now));
        }
        allowed
    }

    /// Forgets what the address did, and subtracts it from its networks.
    pub fn reset(&self, ip: IpAddr, now: Timestamp) {
        for window in self.locked().iter_mut() {
            window.roll(now);
            window.forget(ip);
        }
    }

    fn locked(&self) -> MutexGuard<'_, Vec<Window>> {
        // Counts are whole between statements.
        self.windows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_spared(networks: &[IpPrefix], ip: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(ip))
}

impl Window {
    fn new(length: Duration, limits: ClassLimits) -> Self {
        Self { length, limits, counts: Counts::new(), tenths: VecDeque::new() }
    }

    /// The tenth of a time. A clock that was set back makes the last one longer.
    fn tenth(&self, now: Timestamp) -> i64 {
        let tenth = i64::try_from((self.length / TENTHS).as_micros()).unwrap_or(i64::MAX).max(1);
        let last = self.tenths.back().map_or(i64::MIN, |(last, _)| *last);
        now.micros().div_euclid(tenth).max(last)
    }

    /// Forgets what has left the window.
    fn roll(&mut self, now: Timestamp) {
        if self.length.is_zero() {
            return;
        }
        let first = self.tenth(now).saturating_sub(i64::from(TENTHS));
        while let Some((_, counts)) = self.tenths.pop_front_if(|(tenth, _)| *tenth <= first) {
            #[expect(clippy::iter_over_hash_type, reason = "what is left doesn't depend on the order")]
            for (key, n) in counts {
                take(&mut self.counts, key, n);
            }
        }
    }

    fn allows(&mut self, ip: IpAddr, now: Timestamp) -> bool {
        self.roll(now);
        keys(ip).iter().zip(self.limits).all(|(key, limit)| self.counts.get(key).copied().unwrap_or(0) < limit)
    }

    fn add(&mut self, ip: IpAddr, now: Timestamp) {
        let tenth = if self.length.is_zero() { 0 } else { self.tenth(now) };
        if self.tenths.back().is_none_or(|(last, _)| *last != tenth) {
            self.tenths.push_back((tenth, Counts::new()));
        }
        let last = self.tenths.back_mut().map(|(_, counts)| counts);
        for counts in last.into_iter().chain([&mut self.counts]) {
            for key in keys(ip) {
                let count = counts.entry(key).or_default();
                *count = count.saturating_add(1);
            }
        }
    }

    /// Takes one away that was added before.
    fn release(&mut self, ip: IpAddr) {
        for counts in self.tenths.iter_mut().map(|(_, counts)| counts).chain([&mut self.counts]) {
            for key in keys(ip) {
                take(counts, key, 1);
            }
        }
    }

    fn forget(&mut self, ip: IpAddr) {
        let [own, ..] = keys(ip);
        for (_, counts) in &mut self.tenths {
            let Some(n) = counts.get(&own).copied() else { continue };
            for key in keys(ip) {
                take(counts, key, n);
                take(&mut self.counts, key, n);
            }
        }
    }
}

fn take(counts: &mut Counts, key: (u8, IpAddr), n: u32) {
    if let Some(count) = counts.get_mut(&key) {
        *count = count.saturating_sub(n);
        if *count == 0 {
            counts.remove(&key);
        }
    }
}

/// A limit on connections open at the same time.
#[derive(Debug)]
pub struct OpenLimit {
    window: Mutex<Window>,
    spared: Vec<IpPrefix>,
}

impl OpenLimit {
    /// A limit.
    pub fn new(limits: ClassLimits) -> Self {
        Self { window: Mutex::new(Window::new(Duration::ZERO, limits)), spared: Vec::new() }
    }

    /// The limit, but not for these networks.
    #[must_use]
    pub fn sparing(self, networks: &[IpPrefix]) -> Self {
        Self { spared: networks.to_vec(), ..self }
    }

    /// Counts a connection, if that is within the limits. To be released when it closes.
    pub fn open(self: &std::sync::Arc<Self>, ip: IpAddr) -> Option<OpenGuard> {
        if is_spared(&self.spared, ip) {
            return Some(OpenGuard { counted: None });
        }
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if !window.allows(ip, Timestamp::EPOCH) {
            return None;
        }
        window.add(ip, Timestamp::EPOCH);
        Some(OpenGuard { counted: Some((std::sync::Arc::clone(self), ip)) })
    }
}

/// A connection that counts as open until this is dropped.
#[derive(Debug)]
pub struct OpenGuard {
    counted: Option<(std::sync::Arc<OpenLimit>, IpAddr)>,
}

impl Drop for OpenGuard {
    fn drop(&mut self) {
        if let Some((limit, ip)) = &self.counted {
            limit.window.lock().unwrap_or_else(PoisonError::into_inner).release(*ip);
        }
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
        assert!(limit.add(b, t1), "a window later");
    }

    #[test]
    fn windows_move_in_tenths() {
        let minute = Duration::from_secs(60);
        let limit = RateLimit::new([(minute, [10, 30, 90])]);
        let a = ip("192.0.2.1");
        let at = |seconds| Timestamp::from_secs(seconds);
        // One each six seconds fills it, and then there is room for one each six seconds: never for ten at once.
        for n in 0..10 {
            assert!(limit.add(a, at(54 + 6 * n)), "{n}");
        }
        assert!(!limit.add(a, at(113)));
        for n in 0..100 {
            assert!(limit.add(a, at(114 + 6 * n)) && !limit.add(a, at(115 + 6 * n)), "{n}");
        }
        // A clock set back frees nothing, and a success everything.
        assert!(!limit.add(a, at(10)));
        limit.reset(a, at(714));
        assert!((0..10).all(|_| limit.add(a, at(714))) && !limit.add(a, at(714)));
        // In the end nothing is left in memory.
        assert!(limit.allows(a, at(10_000)));
        let windows = limit.locked();
        assert!(windows.iter().all(|window| window.counts.is_empty() && window.tenths.is_empty()));
    }

    #[test]
    fn some_networks_are_spared() {
        let networks = ["192.0.2.0/28".parse().unwrap(), "2001:db8::/32".parse().unwrap()];
        let limit = RateLimit::new([(Duration::from_secs(60), [1, 1, 1])]).sparing(&networks);
        let now = Timestamp::from_secs(60);
        for spared in ["192.0.2.1", "2001:db8::1", "::ffff:192.0.2.2"] {
            assert!((0..5).all(|_| limit.add(ip(spared), now)) && limit.allows(ip(spared), now), "{spared}");
        }
        // They don't count for their networks either.
        assert!(limit.add(ip("192.0.2.16"), now) && !limit.add(ip("192.0.2.16"), now));
        let open = Arc::new(OpenLimit::new([1, 1, 1]).sparing(&networks));
        let several: Vec<_> = (0..5).map(|_| open.open(ip("192.0.2.1"))).collect();
        assert!(several.iter().all(Option::is_some));
        let (first, second) = (open.open(ip("192.0.2.16")), open.open(ip("192.0.2.17")));
        assert!(first.is_some() && second.is_none());
        drop(several);
        drop(first);
        assert!(open.open(ip("192.0.2.17")).is_some());
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
