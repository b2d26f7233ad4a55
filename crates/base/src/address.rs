//! Addresses: with a domain (configuration, headers) and SMTP paths, which may name a host by its IP.

use crate::domain::DomainError;
use crate::localpart::LocalpartError;
use crate::{Domain, Localpart};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// `localpart@domain`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// The part before the `@`, decoded.
    pub localpart: Localpart,
    /// The domain.
    pub domain: Domain,
}

/// Why a text is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// No `@`.
    #[error("no @ in address")]
    NoAt,
    /// The localpart is bad.
    #[error(transparent)]
    Localpart(#[from] LocalpartError),
    /// The domain is bad.
    #[error(transparent)]
    Domain(#[from] DomainError),
}

impl Address {
    /// An address from its parts.
    pub const fn new(localpart: Localpart, domain: Domain) -> Self {
        Self { localpart, domain }
    }

    /// Printed with the domain in the form that SMTPUTF8 or its absence asks for. The localpart is as it is: without
    /// SMTPUTF8, callers have checked that it is ASCII.
    pub fn for_smtputf8(&self, smtputf8: bool) -> String {
        format!("{}@{}", self.localpart, self.domain.for_smtputf8(smtputf8))
    }

    /// Whether sending to or from this address needs SMTPUTF8, RFC 6531 §3.2: only a localpart can't be converted.
    pub fn needs_smtputf8(&self) -> bool {
        !self.localpart.is_ascii()
    }

    /// For logs.
    pub fn log_form(&self) -> String {
        format!("{}@{}", self.localpart, self.domain.log_form())
    }
}

/// The Unicode form.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.localpart, self.domain)
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        // The last @: a quoted localpart may hold one.
        let (localpart, domain) = s.rsplit_once('@').ok_or(AddressError::NoAt)?;
        Ok(Self { localpart: localpart.parse()?, domain: domain.parse()? })
    }
}

/// A host as SMTP names it: by domain or by address literal, RFC 5321 §4.1.3.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// A domain name.
    Domain(Domain),
    /// An address literal.
    Ip(IpAddr),
}

impl Host {
    /// The domain, if it is one.
    pub const fn domain(&self) -> Option<&Domain> {
        match self {
            Self::Domain(domain) => Some(domain),
            Self::Ip(_) => None,
        }
    }

    /// In the form that SMTPUTF8 or its absence asks for; IPs as literals in brackets.
    pub fn for_smtputf8(&self, smtputf8: bool) -> String {
        match self {
            Self::Domain(domain) => domain.for_smtputf8(smtputf8).to_owned(),
            Self::Ip(IpAddr::V4(ip)) => format!("[{ip}]"),
            Self::Ip(IpAddr::V6(ip)) => format!("[IPv6:{ip}]"),
        }
    }
}

/// The Unicode form; IPs as literals in brackets.
impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.for_smtputf8(true))
    }
}

/// An address of an SMTP envelope, without its angle brackets and source route.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path {
    /// The part before the `@`, decoded.
    pub localpart: Localpart,
    /// Domain or address literal.
    pub host: Host,
}

impl Path {
    /// The address, unless the host is an IP.
    pub fn address(&self) -> Option<Address> {
        self.host.domain().map(|domain| Address::new(self.localpart.clone(), domain.clone()))
    }

    /// Printed without brackets, in the form that SMTPUTF8 or its absence asks for.
    pub fn for_smtputf8(&self, smtputf8: bool) -> String {
        format!("{}@{}", self.localpart, self.host.for_smtputf8(smtputf8))
    }

    /// Whether this path needs SMTPUTF8, RFC 6531 §3.2.
    pub fn needs_smtputf8(&self) -> bool {
        !self.localpart.is_ascii()
    }
}

impl From<Address> for Path {
    fn from(address: Address) -> Self {
        Self { localpart: address.localpart, host: Host::Domain(address.domain) }
    }
}

/// The Unicode form.
impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.localpart, self.host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_at_belongs_to_the_localpart() {
        let a: Address = "\"a@b\"@example.org".parse().unwrap();
        assert_eq!(a.localpart.as_str(), "a@b");
        assert_eq!(a.to_string(), "\"a@b\"@example.org");
    }

    #[test]
    fn refuses() {
        assert_eq!("x".parse::<Address>(), Err(AddressError::NoAt));
        assert_eq!("x@".parse::<Address>(), Err(AddressError::Domain(DomainError::Empty)));
        assert_eq!("@x".parse::<Address>(), Err(AddressError::Localpart(LocalpartError::Syntax)));
    }

    #[test]
    fn literals() {
        let host = Host::Ip("2001:db8::1".parse().unwrap());
        assert_eq!(host.to_string(), "[IPv6:2001:db8::1]");
    }
}
