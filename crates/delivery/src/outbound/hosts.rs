//! Which hosts take mail for a domain, and in which order their addresses are tried. RFC 5321 §5.1, RFC 7505.

use super::failure::Failure;
use mox_base::dns::{Record, RecordKind, Srv};
use mox_base::{Domain, ExtendedError, Host, Lookup, LookupError, Random};
use std::net::IpAddr;
use std::time::Duration;

/// Aliases followed from the recipient domain.
const MAX_ALIASES: usize = 16;

/// How long one lookup may take.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(30);

/// Where mail for a domain goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destinations {
    /// In the order in which they are tried.
    pub hosts: Vec<Host>,
    /// Where aliases of the recipient domain lead to: itself without any.
    pub name: Option<Domain>,
    /// Whether the recipient domain's own records were authentic.
    pub original_authentic: bool,
    /// Whether all records on the way to the hosts were.
    pub expanded_authentic: bool,
}

/// Finds the hosts of a recipient domain.
///
/// # Errors
/// Permanent when the domain takes no mail, temporary when DNS doesn't tell.
pub async fn destinations(lookup: &dyn Lookup, random: &dyn Random, host: &Host, pedantic: bool) -> Result<Destinations, Failure> {
    let Host::Domain(domain) = host else {
        return Ok(Destinations { hosts: vec![host.clone()], name: None, original_authentic: false, expanded_authentic: false });
    };
    let mut name = domain.clone();
    let mut seen = vec![name.clone()];
    let (mut original_authentic, mut expanded_authentic) = (true, true);
    loop {
        match timely(lookup.cname(name.ascii())).await {
            Ok(answer) => {
                original_authentic &= seen.len() > 1 || answer.authentic;
                expanded_authentic &= answer.authentic;
                let target = answer.records.unwrap_or_default();
                let target = parse_host(&target, pedantic)
                    .ok_or_else(|| Failure::temporary(format!("alias of {} leads to the invalid name {target:?}", name.ascii())))?;
                if seen.contains(&target) {
                    return Err(Failure::temporary(format!("aliases of {} lead back to {target}", domain.ascii())));
                }
                if seen.len() > MAX_ALIASES {
                    return Err(Failure::temporary(format!("too many aliases from {}", domain.ascii())));
                }
                seen.push(target.clone());
                name = target;
            }
            Err(LookupError::NotFound { authentic: proven }) => {
                original_authentic &= seen.len() > 1 || proven;
                expanded_authentic &= proven;
                break;
            }
            Err(e) => return Err(dns_failure("CNAME", &name, &e)),
        }
    }
    let mx = match timely(lookup.mx(name.ascii())).await {
        Ok(answer) => {
            original_authentic &= seen.len() > 1 || answer.authentic;
            expanded_authentic &= answer.authentic;
            answer.records
        }
        // RFC 5321 §5.1: without MX, the domain itself is the host.
        Err(LookupError::NotFound { authentic }) => {
            original_authentic &= seen.len() > 1 || authentic;
            return Ok(Destinations {
                hosts: vec![Host::Domain(name.clone())],
                name: Some(name),
                original_authentic,
                expanded_authentic: expanded_authentic && authentic,
            });
        }
        Err(e) => return Err(dns_failure("MX", &name, &e)),
    };
    if let [only] = mx.as_slice()
        && only.host.is_empty()
    {
        // RFC 7505 §3, §4.2.
        return Err(Failure {
            code: 556,
            secode: "1.10".to_owned(),
            ..Failure::permanent(format!("domain {domain} does not accept mail (null MX)"))
        });
    }
    let mut ranked: Vec<_> = mx.iter().filter_map(|mx| Some((mx.preference, random.u64(), parse_host(&mx.host, pedantic)?))).collect();
    if ranked.is_empty() {
        return Err(Failure::permanent(format!("domain {domain} has no valid MX hosts")));
    }
    // Equal preferences in random order, RFC 5321 §5.1.
    ranked.sort();
    let mut hosts: Vec<Host> = Vec::with_capacity(ranked.len());
    for (_, _, host) in ranked {
        if !hosts.iter().any(|h| h.domain() == Some(&host)) {
            hosts.push(Host::Domain(host));
        }
    }
    Ok(Destinations { hosts, name: Some(name), original_authentic, expanded_authentic })
}

fn parse_host(name: &str, pedantic: bool) -> Option<Domain> {
    if pedantic { Domain::parse(name).ok() } else { Domain::parse_lax(name).ok() }
}

fn dns_failure(kind: &str, name: &Domain, error: &LookupError) -> Failure {
    Failure::temporary(format!("looking up {kind} of {}: {error}", name.ascii()))
}

async fn timely<T>(lookup: impl Future<Output = Result<T, LookupError>>) -> Result<T, LookupError> {
    tokio::time::timeout(LOOKUP_TIMEOUT, lookup).await.unwrap_or_else(|_| Err(LookupError::timeout()))
}

/// A host's addresses in the order in which they are tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostAddresses {
    /// The addresses.
    pub ips: Vec<IpAddr>,
    /// Whether there are addresses of both families.
    pub dual_stack: bool,
    /// Whether the answer about the host itself was authentic: its addresses, or the alias it is.
    pub authentic: bool,
    /// Where the host's aliases lead to, if it has some and all that was found is authentic. Only looked for with `aliases`.
    pub expanded: Option<Domain>,
}

/// Why a host has no addresses: temporary, as what has none now may have one later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoAddresses {
    /// What is recorded.
    pub failure: Failure,
    /// Set if what was found is signed wrongly.
    pub bogus: Option<ExtendedError>,
}

impl From<NoAddresses> for Failure {
    fn from(none: NoAddresses) -> Self {
        none.failure
    }
}

impl From<Failure> for NoAddresses {
    fn from(failure: Failure) -> Self {
        Self { failure, bogus: None }
    }
}

/// Finds the addresses of a host. `aliases`: whether it matters by which aliases they are found.
///
/// # Errors
/// See [`NoAddresses`].
pub async fn addresses(lookup: &dyn Lookup, host: &Host, dialed: &[IpAddr], aliases: bool) -> Result<HostAddresses, NoAddresses> {
    let domain = match host {
        Host::Ip(ip) => return Ok(HostAddresses { ips: vec![*ip], dual_stack: false, authentic: false, expanded: None }),
        Host::Domain(domain) => domain,
    };
    let answer = timely(lookup.ips(domain.ascii())).await;
    let answer = answer.map_err(|e| NoAddresses {
        failure: Failure::temporary(format!("looking up addresses of {}: {e}", domain.ascii())),
        bogus: if let LookupError::Bogus(error) = e { Some(error) } else { None },
    })?;
    let (original, name) = if aliases { aliases_of(lookup, domain).await? } else { (None, domain.clone()) };
    let dual_stack = answer.records.iter().any(IpAddr::is_ipv4) && answer.records.iter().any(IpAddr::is_ipv6);
    Ok(HostAddresses {
        ips: alternate(&order(answer.records, dialed)),
        dual_stack,
        authentic: original.unwrap_or(answer.authentic),
        expanded: (answer.authentic && name != *domain).then_some(name),
    })
}

/// Whether the first alias is authentic, none if there is none; and where aliases lead to.
async fn aliases_of(lookup: &dyn Lookup, host: &Domain) -> Result<(Option<bool>, Domain), Failure> {
    let (mut original, mut name) = (None, host.clone());
    for _ in 0..MAX_ALIASES {
        match timely(lookup.cname(name.ascii())).await {
            Ok(answer) => {
                original = original.or(Some(answer.authentic));
                let target = answer.records.unwrap_or_default();
                name = Domain::parse_lax(&target)
                    .map_err(|_| Failure::temporary(format!("alias of {} leads to the invalid name {target:?}", name.ascii())))?;
            }
            Err(LookupError::NotFound { .. }) => return Ok((original, name)),
            Err(e) => return Err(dns_failure("CNAME", &name, &e)),
        }
    }
    Err(Failure::temporary(format!("too many aliases from {}", host.ascii())))
}

/// The order of addresses, given those that were connected to before: the family that wasn't tried last comes first;
/// within a family, the address tried last comes first if the family was tried exactly once, for greylisting. So
/// families alternate, and each is tried twice with the same address.
fn order(mut ips: Vec<IpAddr>, dialed: &[IpAddr]) -> Vec<IpAddr> {
    let Some(last) = dialed.last() else { return ips };
    let mut dialed_last_of_family = Vec::new();
    for v4 in [true, false] {
        let of_family: Vec<&IpAddr> = dialed.iter().filter(|ip| ip.is_ipv4() == v4).collect();
        if let [only] = of_family.as_slice() {
            dialed_last_of_family.push(**only);
        }
    }
    // Sorting is stable: otherwise DNS order is kept.
    ips.sort_by_key(|ip| (ip.is_ipv4() == last.is_ipv4(), !dialed_last_of_family.contains(ip)));
    ips
}

/// The same with families in turns, RFC 8305 §4: when one family doesn't work here, the second address does.
fn alternate(ips: &[IpAddr]) -> Vec<IpAddr> {
    let Some(first) = ips.first() else { return Vec::new() };
    let (mut same, mut other): (Vec<IpAddr>, Vec<IpAddr>) = ips.iter().rev().copied().partition(|ip| ip.is_ipv4() == first.is_ipv4());
    let mut turns = Vec::with_capacity(ips.len());
    while !same.is_empty() || !other.is_empty() {
        turns.extend(same.pop());
        turns.extend(other.pop());
    }
    turns
}

/// A server that takes submissions for a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Server {
    /// Its name.
    pub(super) host: Domain,
    /// Its port.
    pub(super) port: u16,
}

/// Finds servers of a service by SRV records, RFC 6186 §3.1, in the order of RFC 2782; and whether DNSSEC vouches for them.
///
/// # Errors
/// All temporary: the domain is in our own configuration, and mail must not bounce because of it.
pub(super) async fn servers(
    lookup: &dyn Lookup,
    random: &dyn Random,
    domain: &Domain,
    service: &str,
) -> Result<(Vec<Server>, bool), Failure> {
    let name = format!("_{service}._tcp.{}", domain.ascii());
    let answer = timely(lookup.query(&name, RecordKind::Srv)).await;
    let answer = answer.map_err(|e| Failure::temporary(format!("looking up SRV records {name}: {e}")))?;
    let mut left: Vec<Srv> = answer.records.into_iter().filter_map(|r| if let Record::Srv(srv) = r { Some(srv) } else { None }).collect();
    left.sort_by_key(|srv| (srv.priority, srv.weight));
    let mut servers = Vec::with_capacity(left.len());
    while let Some(priority) = left.first().map(|srv| srv.priority) {
        let chosen = by_weight(left.iter().take_while(|srv| srv.priority == priority).map(|srv| srv.weight), random);
        let srv = left.remove(chosen);
        // RFC 2782: a target of "." means that there is no such service.
        if let Ok(host) = Domain::parse_lax(&srv.target) {
            servers.push(Server { host, port: srv.port });
        }
    }
    if servers.is_empty() {
        return Err(Failure::temporary(format!("SRV records {name} name no server")));
    }
    Ok((servers, answer.authentic))
}

/// Chooses one by chance, in proportion to weights, RFC 2782; those that weigh nothing only rarely.
fn by_weight(weights: impl Iterator<Item = u16> + Clone, random: &dyn Random) -> usize {
    let total = weights.clone().fold(0u64, |sum, w| sum.saturating_add(u64::from(w)));
    let chosen = random.u64() % total.saturating_add(1);
    let mut sum: u64 = 0;
    for (place, weight) in weights.enumerate() {
        sum = sum.saturating_add(u64::from(weight));
        if sum >= chosen {
            return place;
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;
    use mox_testkit::{SeededRandom, Zone};

    #[tokio::test]
    async fn servers_by_priority_and_weight() {
        let srv = |priority, weight, port, target: &str| Record::Srv(Srv { priority, weight, port, target: target.to_owned() });
        let zone = Zone::new()
            .with("_submission._tcp.a.example", RecordKind::Srv, srv(20, 0, 587, "last.a.example"))
            .with("_submission._tcp.a.example", RecordKind::Srv, srv(10, 0, 587, "rare.a.example"))
            .with("_submission._tcp.a.example", RecordKind::Srv, srv(10, 30, 588, "often.a.example"))
            .with("_submission._tcp.none.example", RecordKind::Srv, srv(0, 0, 0, ""))
            .temporary("_submission._tcp.temp.example", None)
            .signed();
        let random = SeededRandom::default();
        let found = async |domain: &str| servers(&zone, &random, &domain.parse().unwrap(), "submission").await;
        let mut first = std::collections::BTreeMap::new();
        for _ in 0..200 {
            let (servers, authentic) = found("a.example").await.unwrap();
            assert!(authentic);
            let names: Vec<String> = servers.iter().map(|s| format!("{}:{}", s.host, s.port)).collect();
            assert_eq!((names.len(), names[2].as_str()), (3, "last.a.example:587"));
            *first.entry(names[0].clone()).or_insert(0) += 1;
        }
        assert!(first["often.a.example:588"] > 150 && first["rare.a.example:587"] > 0, "{first:?}");
        for (domain, want) in [
            ("none.example", "SRV records _submission._tcp.none.example name no server"),
            ("missing.example", "looking up SRV records _submission._tcp.missing.example: no such record (authentic)"),
            (
                "temp.example",
                "looking up SRV records _submission._tcp.temp.example: temporary DNS failure: planned, for _submission._tcp.temp.example",
            ),
        ] {
            let failure = found(domain).await.unwrap_err();
            assert_eq!((failure.permanent, failure.text.as_str()), (false, want));
        }
    }

    #[test]
    fn families_take_turns() {
        let ips = |texts: &[&str]| texts.iter().map(|t| t.parse().unwrap()).collect::<Vec<IpAddr>>();
        for (given, want) in [
            (vec!["192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1"], vec!["192.0.2.1", "2001:db8::1", "192.0.2.2", "192.0.2.3"]),
            (vec!["2001:db8::1", "192.0.2.1", "192.0.2.2"], vec!["2001:db8::1", "192.0.2.1", "192.0.2.2"]),
            (vec!["192.0.2.1", "192.0.2.2"], vec!["192.0.2.1", "192.0.2.2"]),
            (vec![], vec![]),
        ] {
            assert_eq!(alternate(&ips(&given)), ips(&want));
        }
    }

    fn zone() -> Zone {
        Zone::new()
            .mx("b.example", 20, "mx2.b.example")
            .mx("b.example", 10, "mx1.b.example")
            .mx("b.example", 10, "bad..name")
            .mx("b.example", 30, "under_score.b.example")
            .null_mx("null.example")
            .cname("alias.example", "b.example")
            .cname("loop.example", "loop2.example")
            .cname("loop2.example", "loop.example")
            .a("plain.example", "192.0.2.1")
            .temporary("temp.example", None)
            .bogus("bogus.example", None)
            .mx("onlybad.example", 1, "-.example")
            .signed()
    }

    async fn show(text: &str, pedantic: bool) -> String {
        let host = Host::Domain(text.parse().unwrap());
        match destinations(&zone(), &SeededRandom::default(), &host, pedantic).await {
            Ok(d) => d.hosts.iter().map(Host::to_string).collect::<Vec<_>>().join(" "),
            Err(e) => format!("{} {}", if e.permanent { "permanent" } else { "temporary" }, e.text),
        }
    }

    #[tokio::test]
    async fn finds_hosts() {
        for (domain, want) in [
            ("b.example", "mx1.b.example mx2.b.example under_score.b.example"),
            ("alias.example", "mx1.b.example mx2.b.example under_score.b.example"),
            ("plain.example", "plain.example"),
            ("unknown.example", "unknown.example"),
            ("null.example", "permanent domain null.example does not accept mail (null MX)"),
            ("loop.example", "temporary aliases of loop.example lead back to loop.example"),
            ("temp.example", "temporary looking up CNAME of temp.example: temporary DNS failure: planned, for temp.example"),
            (
                "bogus.example",
                "temporary looking up CNAME of bogus.example: DNSSEC validation failed: extended error 6 (DNSSEC bogus): planned, for bogus.example",
            ),
            ("onlybad.example", "permanent domain onlybad.example has no valid MX hosts"),
        ] {
            assert_eq!(show(domain, false).await, want, "{domain}");
        }
        assert_eq!(show("b.example", true).await, "mx1.b.example mx2.b.example");
    }

    #[tokio::test]
    async fn authenticity_of_original_and_expanded_name() {
        let host = Host::Domain("alias.example".parse().unwrap());
        let zone = zone().insecure("b.example");
        let d = destinations(&zone, &SeededRandom::default(), &host, false).await.unwrap();
        assert_eq!((d.original_authentic, d.expanded_authentic), (true, false));
    }

    #[tokio::test]
    async fn long_chains_end() {
        let zone = (0..40).fold(Zone::new(), |z, n| z.cname(&format!("n{n}.example"), &format!("n{}.example", n + 1)));
        let host = Host::Domain("n0.example".parse().unwrap());
        let e = destinations(&zone, &SeededRandom::default(), &host, false).await.unwrap_err();
        assert_eq!((e.permanent, e.text.as_str()), (false, "too many aliases from n0.example"));
    }

    #[test]
    fn families_alternate() {
        let ip = |s: &str| s.parse::<IpAddr>().unwrap();
        let all = ["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"].map(ip).to_vec();
        for (dialed, want) in [
            (vec![], "192.0.2.1"),
            (vec!["192.0.2.1"], "2001:db8::1"),
            // The last was IPv6; IPv4 was tried once: the same address again.
            (vec!["192.0.2.2", "2001:db8::1"], "192.0.2.2"),
            (vec!["192.0.2.2", "2001:db8::2", "192.0.2.2"], "2001:db8::2"),
            (vec!["192.0.2.2", "2001:db8::2", "192.0.2.2", "2001:db8::2"], "192.0.2.1"),
        ] {
            let dialed: Vec<IpAddr> = dialed.into_iter().map(ip).collect();
            assert_eq!(order(all.clone(), &dialed)[0], ip(want), "{dialed:?}");
        }
        // One family only: the same address once more, then DNS order.
        let one = ["192.0.2.1", "192.0.2.2"].map(ip).to_vec();
        assert_eq!(order(one.clone(), &[ip("192.0.2.2")])[0], ip("192.0.2.2"));
        assert_eq!(order(one, &[ip("192.0.2.2"), ip("192.0.2.2")])[0], ip("192.0.2.1"));
    }
}
