//! DNS as a port: answers say whether they were authentic, and a bogus answer is never "absent".

use crate::extended::ExtendedError;
use std::fmt;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::pin::Pin;
use std::time::Duration;

/// The kind of records asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordKind {
    /// IPv4 address.
    A,
    /// IPv6 address.
    Aaaa,
    /// Alias.
    Cname,
    /// Mail exchanger.
    Mx,
    /// Name server.
    Ns,
    /// Name of an address, below `in-addr.arpa` or `ip6.arpa`.
    Ptr,
    /// Text.
    Txt,
    /// TLS certificate association, RFC 6698.
    Tlsa,
    /// Where a service is, RFC 2782.
    Srv,
}

/// A mail exchanger, RFC 5321 §5.1.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mx {
    /// Lower is tried first.
    pub preference: u16,
    /// The host, absolute without trailing dot; empty for the null MX of RFC 7505.
    pub host: String,
}

/// A SRV record, RFC 2782.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Srv {
    /// Lower is tried first.
    pub priority: u16,
    /// The share among equal priorities.
    pub weight: u16,
    /// The port.
    pub port: u16,
    /// The host, absolute without trailing dot; empty where there is no such service.
    pub target: String,
}

/// A TLSA record, RFC 6698 §2.1.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tlsa {
    /// Certificate usage.
    pub usage: u8,
    /// What of the certificate is matched.
    pub selector: u8,
    /// How it is matched.
    pub matching: u8,
    /// The certificate association data.
    pub data: Vec<u8>,
}

/// One record's data. Names are absolute, without trailing dot, as the zone spells them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Record {
    /// IPv4 address.
    A(Ipv4Addr),
    /// IPv6 address.
    Aaaa(Ipv6Addr),
    /// Alias.
    Cname(String),
    /// Mail exchanger.
    Mx(Mx),
    /// Name server.
    Ns(String),
    /// Name of an address.
    Ptr(String),
    /// The strings of one TXT record joined, RFC 7208 §3.3.
    Txt(Vec<u8>),
    /// TLS certificate association.
    Tlsa(Tlsa),
    /// Where a service is.
    Srv(Srv),
}

/// Records and how far they can be trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer<T> {
    /// At least one record.
    pub records: T,
    /// Whether every record of the answer, CNAMEs followed included, was DNSSEC-validated.
    pub authentic: bool,
    /// How long the answer may be kept.
    pub ttl: Duration,
}

impl<T> Answer<T> {
    fn map<U>(self, f: impl FnOnce(T) -> U) -> Answer<U> {
        Answer { records: f(self.records), authentic: self.authentic, ttl: self.ttl }
    }
}

const TIMEOUT: &str = "timeout";

/// Why there are no records.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// The name, or records of this kind at it, don't exist.
    #[error("no such record{}", if *.authentic { " (authentic)" } else { "" })]
    NotFound {
        /// Whether DNSSEC proved the denial.
        authentic: bool,
    },
    /// Timeout, SERVFAIL, refused or unreachable: ask again later.
    #[error("temporary DNS failure: {0}")]
    Temporary(String),
    /// The same, and the resolver says why.
    #[error("temporary DNS failure: {0}")]
    Explained(ExtendedError),
    /// DNSSEC validation failed. Treated as temporary, never as absent, RFC 4035 §5.5.
    #[error("DNSSEC validation failed: {0}")]
    Bogus(ExtendedError),
    /// The name can't be looked up.
    #[error("bad DNS name: {0}")]
    BadName(String),
}

impl From<ExtendedError> for LookupError {
    fn from(error: ExtendedError) -> Self {
        if error.is_bogus() { Self::Bogus(error) } else { Self::Explained(error) }
    }
}

impl LookupError {
    /// Whether the records surely don't exist.
    pub const fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// Nobody answered in time.
    pub fn timeout() -> Self {
        Self::Temporary(TIMEOUT.to_owned())
    }

    /// Whether nobody answered in time.
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Temporary(why) if why == TIMEOUT)
    }

    /// The extended error, where there is one.
    pub const fn extended(&self) -> Option<&ExtendedError> {
        match self {
            Self::Explained(error) | Self::Bogus(error) => Some(error),
            Self::NotFound { .. } | Self::Temporary(_) | Self::BadName(_) => None,
        }
    }
}

/// What [`Lookup::query`] returns.
pub type LookupFuture<'a> = Pin<Box<dyn Future<Output = Result<Answer<Vec<Record>>, LookupError>> + Send + 'a>>;

/// A resolver. Names are given absolute, with or without trailing dot, in ASCII; no search list is applied.
///
/// CNAMEs are followed, except when asking for [`RecordKind::Cname`]. An `Ok` answer has at least one record of the
/// kind asked for and no other.
pub trait Lookup: Send + Sync + fmt::Debug {
    /// Asks for the records of a kind at a name.
    fn query<'a>(&'a self, name: &'a str, kind: RecordKind) -> LookupFuture<'a>;
}

impl dyn Lookup + '_ {
    /// The mail exchangers, in the order of the answer.
    ///
    /// # Errors
    /// See [`LookupError`].
    pub async fn mx(&self, name: &str) -> Result<Answer<Vec<Mx>>, LookupError> {
        Ok(self
            .query(name, RecordKind::Mx)
            .await?
            .map(|records| records.into_iter().filter_map(|r| if let Record::Mx(mx) = r { Some(mx) } else { None }).collect()))
    }

    /// The texts.
    ///
    /// # Errors
    /// See [`LookupError`].
    pub async fn txt(&self, name: &str) -> Result<Answer<Vec<Vec<u8>>>, LookupError> {
        Ok(self
            .query(name, RecordKind::Txt)
            .await?
            .map(|records| records.into_iter().filter_map(|r| if let Record::Txt(txt) = r { Some(txt) } else { None }).collect()))
    }

    /// The TLSA records.
    ///
    /// # Errors
    /// See [`LookupError`].
    pub async fn tlsa(&self, name: &str) -> Result<Answer<Vec<Tlsa>>, LookupError> {
        Ok(self
            .query(name, RecordKind::Tlsa)
            .await?
            .map(|records| records.into_iter().filter_map(|r| if let Record::Tlsa(tlsa) = r { Some(tlsa) } else { None }).collect()))
    }

    /// The alias at a name.
    ///
    /// # Errors
    /// See [`LookupError`].
    pub async fn cname(&self, name: &str) -> Result<Answer<Option<String>>, LookupError> {
        Ok(self
            .query(name, RecordKind::Cname)
            .await?
            .map(|records| records.into_iter().find_map(|r| if let Record::Cname(name) = r { Some(name) } else { None })))
    }

    /// The names of an address, RFC 1035 §3.5 and RFC 3596 §2.5.
    ///
    /// # Errors
    /// See [`LookupError`].
    pub async fn ptr(&self, ip: IpAddr) -> Result<Answer<Vec<String>>, LookupError> {
        Ok(self
            .query(&reverse_name(ip), RecordKind::Ptr)
            .await?
            .map(|records| records.into_iter().filter_map(|r| if let Record::Ptr(name) = r { Some(name) } else { None }).collect()))
    }

    /// The addresses of both families, IPv6 after IPv4. Authentic only when what was found of each family was; an
    /// absent family counts by its denial. One family failing temporarily fails the lookup only when the other is empty.
    ///
    /// # Errors
    /// See [`LookupError`].
    pub async fn ips(&self, name: &str) -> Result<Answer<Vec<IpAddr>>, LookupError> {
        let v4 = self.query(name, RecordKind::A).await;
        let v6 = self.query(name, RecordKind::Aaaa).await;
        let mut ips = Vec::new();
        let (mut authentic, mut ttl) = (true, Duration::MAX);
        let mut failure = None;
        for result in [v4, v6] {
            match result {
                Ok(answer) => {
                    authentic &= answer.authentic;
                    ttl = ttl.min(answer.ttl);
                    ips.extend(answer.records.into_iter().filter_map(|r| match r {
                        Record::A(ip) => Some(IpAddr::V4(ip)),
                        Record::Aaaa(ip) => Some(IpAddr::V6(ip)),
                        _ => None,
                    }));
                }
                Err(LookupError::NotFound { authentic: proven }) => authentic &= proven,
                Err(e) => failure = Some(e),
            }
        }
        match failure {
            Some(e) if ips.is_empty() => Err(e),
            // What one family's failure hides can't be called authentic.
            Some(_) => Ok(Answer { records: ips, authentic: false, ttl }),
            None if ips.is_empty() => Err(LookupError::NotFound { authentic }),
            None => Ok(Answer { records: ips, authentic, ttl }),
        }
    }
}

/// The name at which an address's PTR records are.
pub fn reverse_name(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(ip) => {
            let nibbles: Vec<String> = ip.octets().iter().rev().flat_map(|b| [b & 0xf, b >> 4]).map(|n| format!("{n:x}")).collect();
            format!("{}.ip6.arpa", nibbles.join("."))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reverse_names() {
        assert_eq!(reverse_name("192.0.2.1".parse().unwrap()), "1.2.0.192.in-addr.arpa");
        assert_eq!(
            reverse_name("2001:db8::1".parse().unwrap()),
            "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"
        );
    }
}
