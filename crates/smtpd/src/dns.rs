//! What DNS says of a client and of a sender: whether names exist, the verified name of an address, whether a domain can
//! receive mail.

use mox_base::{Domain, Lookup, LookupError};
use mox_smtp::Reply;
use std::future::Future;
use std::net::IpAddr;
use std::time::Duration;
use tokio::time::timeout;

/// How long one check may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The reverse lookup of an address, RFC 8601 §3: is a name of it one that leads back to it?
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Iprev {
    pub(crate) result: IprevResult,
    /// The verified name, else the first.
    pub(crate) name: Option<String>,
    pub(crate) authentic: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IprevResult {
    Pass,
    Fail,
    Temperror,
    Permerror,
}

impl IprevResult {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Temperror => "temperror",
            Self::Permerror => "permerror",
        }
    }
}

async fn patient<T>(lookup: impl Future<Output = Result<T, LookupError>>) -> Result<T, LookupError> {
    timeout(PATIENCE, lookup).await.unwrap_or_else(|_| Err(LookupError::timeout()))
}

/// Names of an address that are looked back up.
const MAX_NAMES: usize = 10;

/// The reverse lookup of a client, as long as there is patience.
pub(crate) async fn iprev(lookup: &dyn Lookup, ip: IpAddr, patience: Duration) -> Iprev {
    // RFC 6303 §4.2: these zones are local; asking the internet for them only takes time.
    if ip.to_canonical().is_loopback() {
        return Iprev { result: IprevResult::Pass, name: Some("localhost".to_owned()), authentic: false };
    }
    let check = async {
        let names = match lookup.ptr(ip).await {
            Ok(names) => names,
            Err(e) => {
                let result = if e.is_not_found() { IprevResult::Permerror } else { IprevResult::Temperror };
                return Iprev { result, name: None, authentic: false };
            }
        };
        let mut result = IprevResult::Fail;
        for name in names.records.iter().take(MAX_NAMES) {
            match lookup.ips(name).await {
                Ok(ips) if ips.records.contains(&ip) => {
                    let authentic = names.authentic && ips.authentic;
                    return Iprev { result: IprevResult::Pass, name: Some(name.clone()), authentic };
                }
                Err(e) if !e.is_not_found() => result = IprevResult::Temperror,
                Ok(_) | Err(_) => {}
            }
        }
        Iprev { result, name: names.records.into_iter().next(), authentic: names.authentic }
    };
    let unknown = Iprev { result: IprevResult::Temperror, name: None, authentic: false };
    timeout(patience, check).await.unwrap_or(unknown)
}

/// Whether the name in HELO exists; only a sure no is one.
pub(crate) async fn helo_exists(lookup: &dyn Lookup, name: &Domain) -> bool {
    !matches!(patient(lookup.ips(name.ascii())).await, Err(e) if e.is_not_found())
}

/// Why mail from a domain isn't taken: bounces to it could not be delivered.
pub(crate) async fn refusal_of_sender(lookup: &dyn Lookup, domain: &Domain) -> Option<Reply> {
    let refused = || Some(Reply::new(550, (5, 7, 27), "domain of mail from address cannot receive mail"));
    let later = || Some(Reply::new(451, (4, 4, 0), "looking up domain of mail from address"));
    let hosts = match patient(lookup.mx(domain.ascii())).await {
        Ok(mx) => mx.records,
        Err(e) if e.is_not_found() => {
            // RFC 5321 §5.1: without MX, the name itself.
            return match patient(lookup.ips(domain.ascii())).await {
                Ok(_) => None,
                Err(e) if e.is_not_found() => refused(),
                Err(LookupError::BadName(_)) => refused(),
                Err(_) => later(),
            };
        }
        Err(LookupError::BadName(_)) => return refused(),
        Err(_) => return later(),
    };
    // RFC 7505 §3: null MX.
    if hosts.iter().all(|mx| mx.host.is_empty()) {
        return refused();
    }
    let mut unsure = false;
    for mx in hosts.iter().filter(|mx| !mx.host.is_empty()) {
        match patient(lookup.ips(&mx.host)).await {
            Ok(_) => return None,
            Err(e) if e.is_not_found() => {}
            Err(LookupError::BadName(_)) => {}
            Err(_) => unsure = true,
        }
    }
    if unsure { later() } else { refused() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mox_base::RecordKind;
    use mox_testkit::Zone;

    async fn refusal(zone: Zone) -> Option<u16> {
        refusal_of_sender(&zone, &"x.example".parse().unwrap()).await.map(|reply| reply.code)
    }

    #[tokio::test]
    async fn senders_must_be_able_to_receive() {
        assert_eq!(refusal(Zone::new().mx("x.example", 10, "mx.x.example").a("mx.x.example", "192.0.2.1")).await, None);
        assert_eq!(refusal(Zone::new().a("x.example", "192.0.2.1")).await, None);
        assert_eq!(refusal(Zone::new()).await, Some(550));
        assert_eq!(refusal(Zone::new().null_mx("x.example").a("x.example", "192.0.2.1")).await, Some(550));
        assert_eq!(refusal(Zone::new().mx("x.example", 10, "mx.x.example")).await, Some(550));
        assert_eq!(refusal(Zone::new().temporary("x.example", Some(RecordKind::Mx))).await, Some(451));
        assert_eq!(refusal(Zone::new().bogus("x.example", Some(RecordKind::Mx))).await, Some(451));
        let half = Zone::new().mx("x.example", 10, "a.x.example").mx("x.example", 20, "b.x.example").temporary("a.x.example", None);
        assert_eq!(refusal(half.clone()).await, Some(451));
        assert_eq!(refusal(half.a("b.x.example", "192.0.2.1")).await, None);
    }

    #[tokio::test]
    async fn reverse_names() {
        let ip = "192.0.2.7".parse().unwrap();
        let named = |zone: Zone| zone.ptr("192.0.2.7", "a.example").ptr("192.0.2.7", "b.example");
        let check = async |zone: Zone| {
            let found = iprev(&zone, ip, PATIENCE).await;
            (found.result, found.name.unwrap_or_default())
        };
        assert_eq!(check(named(Zone::new().a("b.example", "192.0.2.7"))).await, (IprevResult::Pass, "b.example".to_owned()));
        assert_eq!(check(named(Zone::new().a("b.example", "192.0.2.8"))).await, (IprevResult::Fail, "a.example".to_owned()));
        assert_eq!(check(Zone::new()).await, (IprevResult::Permerror, String::new()));
        assert_eq!(iprev(&Zone::new(), "127.0.0.1".parse().unwrap(), PATIENCE).await.name.as_deref(), Some("localhost"));
    }
}
