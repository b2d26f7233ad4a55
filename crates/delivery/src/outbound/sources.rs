//! From which of our addresses a host is connected to.
//!
//! Addresses are configured, best first: for all mail, or for a transport, which routes choose by account and domain. Receivers look up the address of
//! who connects in block lists; one that is refused for that is avoided for some hours, if there is another: for the domain that refused it, or for all
//! once several have. What a receiver says is its own choice, so one alone can't make us change addresses for others. Nothing is remembered over a
//! restart: the next refusal teaches it again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How long an address is avoided after a refusal.
const AVOIDED: Duration = Duration::from_secs(6 * 3600);

/// So many domains that refuse an address make others avoid it, too.
const ENOUGH: usize = 3;

/// Refusals remembered; of more, the oldest are forgotten.
const REMEMBERED: usize = 10_000;

/// Addresses of ours, best first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceIps {
    /// The addresses.
    pub ips: Vec<IpAddr>,
    /// Whether a family without an address isn't used; else the system chooses one.
    pub only: bool,
}

impl SourceIps {
    /// Whether hosts with addresses of this family can be connected to.
    pub(super) fn has_family_of(&self, to: IpAddr) -> bool {
        !self.only || self.ips.iter().any(|ip| ip.is_ipv4() == to.is_ipv4())
    }
}

/// An address of ours that was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) ip: IpAddr,
    /// Whether there is another of the family that isn't avoided.
    pub(super) replaceable: bool,
}

/// What is known about refusals.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<BTreeMap<(IpAddr, String), Duration>>);

impl Refusals {
    /// The best address for connecting to another; none leaves it to the system. If all are avoided, the best is used nevertheless.
    pub(super) fn choose(&self, ours: &SourceIps, to: IpAddr, domain: &str, now: Duration) -> Option<Source> {
        let of_family: Vec<IpAddr> = ours.ips.iter().copied().filter(|ip| ip.is_ipv4() == to.is_ipv4()).collect();
        let mut good = of_family.iter().copied().filter(|ip| !self.is_avoided(*ip, domain, now));
        match good.next() {
            Some(ip) => Some(Source { ip, replaceable: good.next().is_some() }),
            None => of_family.first().map(|ip| Source { ip: *ip, replaceable: false }),
        }
    }

    fn is_avoided(&self, ip: IpAddr, domain: &str, now: Duration) -> bool {
        let refusals = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_ip = refusals.range((ip, String::new())..).take_while(|((of, _), _)| *of == ip).filter(|(_, until)| **until > now);
        let domains: BTreeSet<&str> = of_ip.map(|((_, by), _)| by.as_str()).collect();
        domains.contains(domain) || domains.len() >= ENOUGH
    }

    /// A domain's host has refused mail because of our address.
    pub(super) fn note(&self, ip: IpAddr, domain: &str, now: Duration) {
        let mut refusals = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if refusals.len() >= REMEMBERED {
            let mut ends: Vec<Duration> = refusals.values().copied().collect();
            ends.sort_unstable();
            let middle = ends.get(ends.len() / 2).copied().unwrap_or(now);
            refusals.retain(|_, until| *until > middle.max(now));
        }
        refusals.insert((ip, domain.to_owned()), now.saturating_add(AVOIDED));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_best_that_was_not_refused() {
        let ours = SourceIps { ips: ["192.0.2.1", "2001:db8::1", "192.0.2.2"].map(ip).to_vec(), only: true };
        let refusals = Refusals::default();
        let at = Duration::from_secs;
        let choose =
            |to: &str, domain: &str, now| refusals.choose(&ours, ip(to), domain, at(now)).map(|s| (s.ip.to_string(), s.replaceable));
        let first = |replaceable| Some(("192.0.2.1".to_owned(), replaceable));
        let second = |replaceable| Some(("192.0.2.2".to_owned(), replaceable));
        assert_eq!(choose("198.51.100.1", "a", 0), first(true));
        assert_eq!(choose("2001:db8::99", "a", 0), Some(("2001:db8::1".to_owned(), false)));
        refusals.note(ip("192.0.2.1"), "a", at(0));
        assert_eq!(choose("198.51.100.1", "a", 1), second(false));
        assert_eq!(choose("198.51.100.1", "b", 1), first(true), "others don't know");
        // All refused: the best.
        refusals.note(ip("192.0.2.2"), "a", at(0));
        assert_eq!(choose("198.51.100.1", "a", 1), first(false));
        // After three domains, all avoid it; for a while.
        refusals.note(ip("192.0.2.1"), "b", at(10));
        assert_eq!(choose("198.51.100.1", "d", 11), first(true));
        refusals.note(ip("192.0.2.1"), "c", at(20));
        assert_eq!(choose("198.51.100.1", "d", 21), second(false));
        assert_eq!(choose("198.51.100.1", "d", 6 * 3600), first(true), "the first refusal is forgotten");
        assert_eq!(choose("198.51.100.1", "c", 6 * 3600 + 19), second(false));
        // A family without an address.
        let v4 = SourceIps { ips: vec![ip("192.0.2.1")], only: true };
        assert!(v4.has_family_of(ip("198.51.100.1")) && !v4.has_family_of(ip("2001:db8::9")));
        assert!(SourceIps { only: false, ..v4.clone() }.has_family_of(ip("2001:db8::9")));
        assert_eq!(refusals.choose(&SourceIps::default(), ip("198.51.100.1"), "a", at(0)), None);
    }

    #[test]
    fn few_refusals_are_remembered() {
        let refusals = Refusals::default();
        for n in 0..25_000u64 {
            refusals.note(ip("192.0.2.1"), &format!("d{n}"), Duration::from_millis(n));
        }
        assert!(refusals.0.lock().unwrap().len() <= REMEMBERED);
        assert!(refusals.is_avoided(ip("192.0.2.1"), "d24999", Duration::from_secs(30)));
    }
}
