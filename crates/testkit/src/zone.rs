//! DNS as a literal.
//!
//! ```
//! use mox_testkit::Zone;
//! let zone = Zone::new()
//!     .mx("remote.example", 10, "mx.remote.example")
//!     .a("mx.remote.example", "192.0.2.1")
//!     .signed();
//! ```
//!
//! Whether an answer is authentic, bogus or temporarily missing is part of the literal. A signed zone's answers and
//! denials are authentic, except at and below the names given to [`Zone::insecure`].

use mox_base::ExtendedError;
use mox_base::dns::{Answer, Lookup, LookupError, LookupFuture, Mx, Record, RecordKind, Tlsa, reverse_name};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How many aliases are followed, as real resolvers limit it.
const MAX_ALIASES: usize = 16;

/// Names and their records. Clones share the count of queries.
#[derive(Clone, Debug, Default)]
pub struct Zone {
    records: BTreeMap<(String, RecordKind), Vec<Record>>,
    failing: BTreeMap<(String, Option<RecordKind>), Failure>,
    insecure: BTreeSet<String>,
    silent: BTreeSet<String>,
    signed: bool,
    queries: Arc<AtomicUsize>,
}

#[derive(Clone, Copy, Debug)]
enum Failure {
    Temporary,
    Bogus,
}

impl Zone {
    /// A world without names.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a mail exchanger.
    #[must_use]
    pub fn mx(self, name: &str, preference: u16, host: &str) -> Self {
        let host = key(host);
        self.with(name, RecordKind::Mx, Record::Mx(Mx { preference, host }))
    }

    /// Adds the mail exchanger that says that the domain takes no mail, RFC 7505.
    #[must_use]
    pub fn null_mx(self, name: &str) -> Self {
        self.mx(name, 0, ".")
    }

    /// Adds an IPv4 address.
    ///
    /// # Panics
    /// If it is none.
    #[must_use]
    pub fn a(self, name: &str, ip: &str) -> Self {
        let Ok(ip) = ip.parse() else { panic!("not an IPv4 address: {ip}") };
        self.with(name, RecordKind::A, Record::A(ip))
    }

    /// Adds an IPv6 address.
    ///
    /// # Panics
    /// If it is none.
    #[must_use]
    pub fn aaaa(self, name: &str, ip: &str) -> Self {
        let Ok(ip) = ip.parse() else { panic!("not an IPv6 address: {ip}") };
        self.with(name, RecordKind::Aaaa, Record::Aaaa(ip))
    }

    /// Adds an alias.
    #[must_use]
    pub fn cname(self, name: &str, target: &str) -> Self {
        self.with(name, RecordKind::Cname, Record::Cname(key(target)))
    }

    /// Adds a text.
    #[must_use]
    pub fn txt(self, name: &str, text: &str) -> Self {
        self.with(name, RecordKind::Txt, Record::Txt(text.as_bytes().to_vec()))
    }

    /// Adds a TLSA record.
    #[must_use]
    pub fn tlsa(self, name: &str, tlsa: Tlsa) -> Self {
        self.with(name, RecordKind::Tlsa, Record::Tlsa(tlsa))
    }

    /// Adds a name of an address.
    ///
    /// # Panics
    /// If it is no IP address.
    #[must_use]
    pub fn ptr(self, ip: &str, name: &str) -> Self {
        let Ok(ip) = ip.parse::<IpAddr>() else { panic!("not an IP address: {ip}") };
        self.with(&reverse_name(ip), RecordKind::Ptr, Record::Ptr(key(name)))
    }

    /// Adds any record.
    #[must_use]
    pub fn with(mut self, name: &str, kind: RecordKind, record: Record) -> Self {
        self.records.entry((key(name), kind)).or_default().push(record);
        self
    }

    /// Makes answers and denials authentic.
    #[must_use]
    pub fn signed(mut self) -> Self {
        self.signed = true;
        self
    }

    /// Excepts a name, and names below it, from being signed.
    #[must_use]
    pub fn insecure(mut self, name: &str) -> Self {
        self.insecure.insert(key(name));
        self
    }

    /// Makes queries for a name fail temporarily: all of them, or those of one kind.
    #[must_use]
    pub fn temporary(mut self, name: &str, kind: Option<RecordKind>) -> Self {
        self.failing.insert((key(name), kind), Failure::Temporary);
        self
    }

    /// Makes validation fail for a name: for all queries, or those of one kind.
    #[must_use]
    pub fn bogus(mut self, name: &str, kind: Option<RecordKind>) -> Self {
        self.failing.insert((key(name), kind), Failure::Bogus);
        self
    }

    /// Makes queries for a name, and for names below it, stay without answer for ever.
    #[must_use]
    pub fn silent(mut self, name: &str) -> Self {
        self.silent.insert(key(name));
        self
    }

    /// How many queries were made.
    #[must_use]
    pub fn queries(&self) -> usize {
        self.queries.load(Ordering::SeqCst)
    }

    fn is_authentic(&self, name: &str) -> bool {
        self.signed && !is_below_any(name, &self.insecure)
    }

    fn resolve(&self, name: &str, kind: RecordKind) -> Result<Answer<Vec<Record>>, LookupError> {
        let mut name = key(name);
        let mut authentic = true;
        for _ in 0..=MAX_ALIASES {
            let failure = self.failing.get(&(name.clone(), Some(kind))).or_else(|| self.failing.get(&(name.clone(), None)));
            match failure {
                Some(Failure::Temporary) => {
                    return Err(LookupError::Temporary(format!("planned, for {name}")));
                }
                Some(Failure::Bogus) => {
                    return Err(LookupError::Bogus(ExtendedError::new(ExtendedError::BOGUS, &format!("planned, for {name}"))));
                }
                None => {}
            }
            authentic &= self.is_authentic(&name);
            if let Some(records) = self.records.get(&(name.clone(), kind)) {
                return Ok(Answer { records: records.clone(), authentic, ttl: Duration::from_secs(300) });
            }
            match self.records.get(&(name.clone(), RecordKind::Cname)).and_then(|aliases| aliases.first()) {
                Some(Record::Cname(target)) if kind != RecordKind::Cname => name.clone_from(target),
                _ => return Err(LookupError::NotFound { authentic }),
            }
        }
        Err(LookupError::Temporary("too many aliases".to_owned()))
    }
}

impl Lookup for Zone {
    fn query<'a>(&'a self, name: &'a str, kind: RecordKind) -> LookupFuture<'a> {
        self.queries.fetch_add(1, Ordering::SeqCst);
        if is_below_any(&key(name), &self.silent) {
            return Box::pin(std::future::pending());
        }
        Box::pin(std::future::ready(self.resolve(name, kind)))
    }
}

/// Whether a name is one of some, or below one.
fn is_below_any(name: &str, names: &BTreeSet<String>) -> bool {
    std::iter::successors(Some(name), |n| n.split_once('.').map(|(_, parent)| parent)).any(|suffix| names.contains(suffix))
}

/// Names compare without case and trailing dot.
fn key(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready<T>(future: impl Future<Output = T>) -> T {
        let mut future = std::pin::pin!(future);
        match future.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
            std::task::Poll::Ready(value) => value,
            std::task::Poll::Pending => panic!("a zone answers at once"),
        }
    }

    #[test]
    fn answers_follow_aliases_and_tell_their_security() {
        let zone = Zone::new()
            .mx("Remote.example", 10, "mx.remote.example.")
            .null_mx("null.example")
            .cname("alias.example", "remote.example")
            .cname("weak.example", "remote.example")
            .a("mx.remote.example", "192.0.2.1")
            .aaaa("mx.remote.example", "2001:db8::1")
            .ptr("192.0.2.1", "mx.remote.example")
            .signed()
            .insecure("weak.example");
        let lookup: &dyn Lookup = &zone;
        let mx = ready(lookup.mx("alias.example.")).unwrap();
        assert!(mx.authentic);
        assert_eq!(mx.records, [Mx { preference: 10, host: "mx.remote.example".to_owned() }]);
        assert!(!ready(lookup.mx("weak.example")).unwrap().authentic);
        assert_eq!(ready(lookup.mx("null.example")).unwrap().records[0].host, "");
        assert_eq!(ready(lookup.cname("alias.example")).unwrap().records.as_deref(), Some("remote.example"));
        assert_eq!(ready(lookup.ips("mx.remote.example")).unwrap().records.len(), 2);
        assert_eq!(ready(lookup.ptr("192.0.2.1".parse().unwrap())).unwrap().records, ["mx.remote.example"]);
        assert_eq!(ready(lookup.mx("none.example")), Err(LookupError::NotFound { authentic: true }));
        assert_eq!(ready(lookup.mx("a.weak.example")), Err(LookupError::NotFound { authentic: false }));
        assert_eq!(zone.queries(), 9);
    }

    #[test]
    fn planned_failures() {
        let zone = Zone::new()
            .a("a.example", "192.0.2.1")
            .temporary("a.example", Some(RecordKind::Mx))
            .bogus("b.example", None)
            .cname("l.example", "l.example");
        let lookup: &dyn Lookup = &zone;
        assert!(matches!(ready(lookup.mx("a.example")), Err(LookupError::Temporary(_))));
        assert!(ready(lookup.ips("a.example")).is_ok());
        assert!(matches!(ready(lookup.ips("b.example")), Err(LookupError::Bogus(_))));
        assert!(matches!(ready(lookup.mx("l.example")), Err(LookupError::Temporary(_))));
    }
}
