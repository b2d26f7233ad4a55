//! To which addresses requests may go.
//!
//! URLs of webhooks and policies come from users and from other people's DNS. A name can lead to a service that trusts
//! whoever reaches it: on this host, in its network, or the metadata server of a cloud. So an address is judged after it was
//! looked up and right before the connection is made to it, and only public ones pass unless configured.

use mox_base::IpPrefix;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Which addresses may be connected to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressGuard {
    allowed: Vec<IpPrefix>,
}

impl AddressGuard {
    /// Public addresses only.
    #[must_use]
    pub const fn public_only() -> Self {
        Self { allowed: Vec::new() }
    }

    /// Public addresses, and those in these ranges.
    #[must_use]
    pub const fn public_and(allowed: Vec<IpPrefix>) -> Self {
        Self { allowed }
    }

    /// Public addresses, and those of this host's loopback.
    #[must_use]
    pub fn public_and_loopback() -> Self {
        let v4 = IpPrefix::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8);
        let v6 = IpPrefix::new(IpAddr::V6(Ipv6Addr::LOCALHOST), 128);
        Self { allowed: v4.into_iter().chain(v6).collect() }
    }

    /// All addresses: for URLs that only the operator gives.
    #[must_use]
    pub fn anywhere() -> Self {
        let v4 = IpPrefix::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        let v6 = IpPrefix::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0);
        Self { allowed: v4.into_iter().chain(v6).collect() }
    }

    /// Allows further ranges.
    #[must_use]
    pub fn with(mut self, ranges: impl IntoIterator<Item = IpPrefix>) -> Self {
        self.allowed.extend(ranges);
        self
    }

    /// Whether an address may be connected to.
    #[must_use]
    pub fn permits(&self, ip: IpAddr) -> bool {
        is_public(ip) || self.allowed.iter().any(|range| range.contains(ip))
    }
}

/// Whether an address is one host's in the whole internet, by the registries of special addresses, RFC 6890.
#[must_use]
pub fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    !(a == 0 // This network.
        || ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || (a == 100 && (64..128).contains(&b)) // RFC 6598: between provider and customer.
        || (a, b, c) == (192, 0, 0) // RFC 6890 §2.1: protocol assignments.
        || ip.is_documentation()
        || (a == 198 && (18..20).contains(&b)) // RFC 2544: benchmarks.
        || a >= 224) // Multicast, reserved, broadcast.
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let [a, b, c, d, e, f, g, h] = ip.segments();
    let v4 = |high: u16, low: u16| is_public_v4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    match (a, b, c, d, e, f) {
        // Unspecified, loopback, and the deprecated form that embeds IPv4.
        (0, 0, 0, 0, 0, 0) => false,
        // RFC 6052: translated to the IPv4 address at the end.
        (0x64, 0xff9b, 0, 0, 0, 0) => v4(g, h),
        // RFC 8215: translated within a network.
        (0x64, 0xff9b, ..) => false,
        // RFC 3056: tunnelled to an IPv4 address.
        (0x2002, high, low, ..) => v4(high, low),
        // RFC 4291 §2.4: global unicast is what isn't special, of which 2000::/3 is assigned. RFC 2928, 3849, 9637: but not
        // protocol assignments (Teredo is one) and documentation.
        (0x2001, b, ..) if b < 0x200 || b == 0xdb8 => false,
        (0x3fff, b, ..) if b < 0x1000 => false,
        (0x2000..=0x3fff, ..) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_addresses() {
        for ip in [
            "8.8.8.8",
            "192.0.1.1",
            "172.32.0.1",
            "100.128.0.1",
            "223.255.255.1",
            "2a00::1",
            "2001:4860::8888",
            "64:ff9b::8.8.8.8",
            "::ffff:8.8.8.8",
            "2002:808:808::1",
        ] {
            assert!(is_public(ip.parse().unwrap()), "{ip}");
        }
    }

    #[test]
    fn special_addresses() {
        for ip in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "127.255.255.255",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::8.8.8.8",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "fc00::1",
            "fd00::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(ip.parse().unwrap()), "{ip}");
        }
    }

    #[test]
    fn what_is_allowed_passes() {
        let guard = AddressGuard::public_and_loopback();
        for (ip, want) in [("127.1.2.3", true), ("::1", true), ("::ffff:127.0.0.1", true), ("10.0.0.1", false), ("8.8.8.8", true)] {
            assert_eq!(guard.permits(ip.parse().unwrap()), want, "{ip}");
        }
        let guard = guard.with(["10.0.0.0/8".parse().unwrap()]);
        assert!(guard.permits("10.0.0.1".parse().unwrap()));
        assert!(!AddressGuard::public_only().permits("127.0.0.1".parse().unwrap()));
    }
}
