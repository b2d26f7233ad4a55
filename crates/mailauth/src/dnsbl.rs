//! Block lists in DNS, RFC 5782.

use mox_base::dns::reverse_name;
use mox_base::{Domain, Lookup, LookupError, Record, RecordKind};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

/// Answers 127.255.255.x mean that a list doesn't want to be asked: through an open resolver, too often, or at all.
const REFUSED: [u8; 3] = [127, 255, 255];

/// Whether an address is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnsblStatus {
    /// It isn't.
    Pass,
    /// It is; with what the list says about it, which may be nothing.
    Fail(String),
    /// DNS failed.
    Temperror(String),
}

impl DnsblStatus {
    /// As in output.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail(_) => "fail",
            Self::Temperror(_) => "temperror",
        }
    }
}

impl fmt::Display for DnsblStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a list can't be relied upon, RFC 5782 §5.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unhealthy {
    /// It lists everything.
    #[error("127.0.0.1 is listed, but must not be")]
    ListsAll,
    /// It lists nothing.
    #[error("127.0.0.2 is not listed, but must be")]
    ListsNothing,
    /// DNS failed, which says nothing about the list.
    #[error("looking up test address: {0}")]
    Dns(String),
}

/// Asks a list about an address.
pub async fn check(lookup: &dyn Lookup, zone: &Domain, ip: IpAddr) -> DnsblStatus {
    let reverse = reverse_name(ip.to_canonical());
    let digits = reverse.trim_end_matches(".in-addr.arpa").trim_end_matches(".ip6.arpa");
    let name = format!("{digits}.{}", zone.ascii());
    match lookup.query(&name, RecordKind::A).await {
        Ok(answer) => {
            let listed = |record: &Record| matches!(record, Record::A(ip) if ip.is_loopback() && ip.octets()[..3] != REFUSED);
            // Anything else isn't an answer of a list, RFC 5782 §2.1, but of one that refuses us, or of whoever owns the name now.
            if !answer.records.iter().any(listed) {
                let answers: Vec<String> =
                    answer.records.iter().filter_map(|r| if let Record::A(ip) = r { Some(ip.to_string()) } else { None }).collect();
                return DnsblStatus::Temperror(format!("unexpected answer {}", answers.join(", ")));
            }
        }
        Err(LookupError::NotFound { .. }) => return DnsblStatus::Pass,
        Err(e) => return DnsblStatus::Temperror(e.to_string()),
    }
    // What it says is only for people.
    let texts = lookup.query(&name, RecordKind::Txt).await.map(|answer| answer.records).unwrap_or_default();
    let texts = texts.iter().filter_map(|r| if let Record::Txt(text) = r { Some(String::from_utf8_lossy(text)) } else { None });
    DnsblStatus::Fail(texts.collect::<Vec<_>>().join("; "))
}

/// Whether a list works: one that lists everything or nothing was shut down.
///
/// # Errors
/// See [`Unhealthy`].
pub async fn check_health(lookup: &dyn Lookup, zone: &Domain) -> Result<(), Unhealthy> {
    match check(lookup, zone, IpAddr::V4(Ipv4Addr::new(127, 0, 0, 1))).await {
        DnsblStatus::Pass => {}
        DnsblStatus::Fail(_) => return Err(Unhealthy::ListsAll),
        DnsblStatus::Temperror(e) => return Err(Unhealthy::Dns(e)),
    }
    match check(lookup, zone, IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2))).await {
        DnsblStatus::Fail(_) => Ok(()),
        DnsblStatus::Pass => Err(Unhealthy::ListsNothing),
        DnsblStatus::Temperror(e) => Err(Unhealthy::Dns(e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mox_testkit::Zone;

    fn ready<T>(future: impl Future<Output = T>) -> T {
        let mut future = std::pin::pin!(future);
        match future.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
            std::task::Poll::Ready(value) => value,
            std::task::Poll::Pending => panic!("a zone answers at once"),
        }
    }

    #[test]
    fn lists() {
        let list: Domain = "bl.example".parse().unwrap();
        let zone = Zone::new()
            .a("2.0.0.127.bl.example", "127.0.0.2")
            .a("1.2.0.192.bl.example", "127.0.0.3")
            .txt("1.2.0.192.bl.example", "spam")
            .txt("1.2.0.192.bl.example", "more spam")
            .a("1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.bl.example", "127.0.0.3")
            .a("7.2.0.192.bl.example", "127.255.255.254")
            .a("8.2.0.192.bl.example", "203.0.113.1")
            .temporary("9.2.0.192.bl.example", None);
        let at = |ip: &str| ready(check(&zone, &list, ip.parse().unwrap()));
        assert_eq!(at("192.0.2.1"), DnsblStatus::Fail("spam; more spam".to_owned()));
        assert_eq!(at("192.0.2.2"), DnsblStatus::Pass);
        assert_eq!(at("2001:db8::1"), DnsblStatus::Fail(String::new()));
        for ip in ["192.0.2.7", "192.0.2.8", "192.0.2.9"] {
            assert!(matches!(at(ip), DnsblStatus::Temperror(_)), "{ip}");
        }
        assert_eq!(ready(check_health(&zone, &list)), Ok(()));
        assert_eq!(ready(check_health(&Zone::new(), &list)), Err(Unhealthy::ListsNothing));
        let all = zone.clone().a("1.0.0.127.bl.example", "127.0.0.2");
        assert_eq!(ready(check_health(&all, &list)), Err(Unhealthy::ListsAll));
    }
}
