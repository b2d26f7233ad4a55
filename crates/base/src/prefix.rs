//! Ranges of IP addresses.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A range of addresses with the same first bits, as `10.0.0.0/8`. A lone address is a range of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IpPrefix {
    ip: IpAddr,
    bits: u8,
}

/// Why a text is no range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("want an IP address, optionally followed by / and the number of its leading bits that count")]
pub struct IpPrefixError;

impl IpPrefix {
    /// A range; none when the family has fewer bits. One of IPv4 addresses in IPv6 clothes is what it is.
    #[must_use]
    pub const fn new(ip: IpAddr, bits: u8) -> Option<Self> {
        if let (IpAddr::V6(v6), Some(bits @ ..=32)) = (ip, bits.checked_sub(96))
            && let Some(v4) = v6.to_ipv4_mapped()
        {
            return Some(Self { ip: IpAddr::V4(v4), bits });
        }
        let most = if ip.is_ipv4() { 32 } else { 128 };
        if bits > most { None } else { Some(Self { ip, bits }) }
    }

    /// Whether an address is in the range. An IPv4 address in IPv6 clothes counts as what it is.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        let bits = u32::from(self.bits);
        match (self.ip, ip.to_canonical()) {
            (IpAddr::V4(ours), IpAddr::V4(other)) => (ours.to_bits() ^ other.to_bits()).leading_zeros() >= bits,
            (IpAddr::V6(ours), IpAddr::V6(other)) => (ours.to_bits() ^ other.to_bits()).leading_zeros() >= bits,
            _ => false,
        }
    }
}

impl FromStr for IpPrefix {
    type Err = IpPrefixError;

    fn from_str(text: &str) -> Result<Self, IpPrefixError> {
        let (ip, bits) = match text.split_once('/') {
            Some((ip, bits)) if !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit()) => {
                (ip, Some(bits.parse().map_err(|_| IpPrefixError)?))
            }
            Some(_) => return Err(IpPrefixError),
            None => (text, None),
        };
        let ip: IpAddr = ip.parse().map_err(|_| IpPrefixError)?;
        let all = if ip.is_ipv4() { 32 } else { 128 };
        Self::new(ip, bits.unwrap_or(all)).ok_or(IpPrefixError)
    }
}

impl fmt::Display for IpPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_contain() {
        for (range, ip, want) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.1.2.3", "10.1.2.3", true),
            ("10.1.2.3", "10.1.2.2", false),
            ("0.0.0.0/0", "192.0.2.1", true),
            ("0.0.0.0/0", "::1", false),
            ("10.0.0.0/8", "::ffff:10.0.0.1", true),
            ("fc00::/7", "fd12::1", true),
            ("fc00::/7", "fe80::1", false),
            ("::1", "::1", true),
        ] {
            let range: IpPrefix = range.parse().unwrap();
            assert_eq!(range.contains(ip.parse().unwrap()), want, "{range} {ip}");
        }
    }

    #[test]
    fn only_ranges_are_read() {
        for text in ["", "10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/+8", "/8", "10.0.0/8", "example.org", "10.0.0.0/8/8"] {
            assert_eq!(text.parse::<IpPrefix>(), Err(IpPrefixError), "{text}");
        }
        assert_eq!("fe80::/10".parse::<IpPrefix>().unwrap().to_string(), "fe80::/10");
        assert_eq!("192.0.2.1".parse::<IpPrefix>().unwrap().to_string(), "192.0.2.1/32");
    }
}
