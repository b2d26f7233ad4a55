//! Finding a host's TLSA records, RFC 7672 §2.2, and the names that its certificate may have, §3.2.2 and §3.2.3.

use super::record::{is_usable, text};
use mox_base::{Domain, Lookup, LookupError, Tlsa};

/// A host whose TLSA records may be asked for: its address records are authentic, and so is all that led to it.
#[derive(Clone, Copy, Debug)]
pub struct Base<'a> {
    /// The host as MX, or as the recipient domain.
    pub host: &'a Domain,
    /// Where the host's aliases lead to, if it has some and all are authentic.
    pub expanded: Option<&'a Domain>,
}

/// Records of a host. At least one: DANE is required.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gathered {
    /// The TLSA base domain: where they were found.
    pub base: Domain,
    /// All of them, sorted.
    pub records: Vec<Tlsa>,
}

impl Gathered {
    /// Those that SMTP can use. Without any, STARTTLS is required but nothing verified, RFC 7672 §2.2.
    pub fn usable(&self) -> Vec<Tlsa> {
        self.records.iter().filter(|r| is_usable(r)).cloned().collect()
    }

    /// All records as texts, sorted, as TLS reports have them.
    pub fn texts(&self) -> Vec<String> {
        let mut texts: Vec<String> = self.records.iter().map(text).collect();
        texts.sort();
        texts
    }
}

/// Asks for the TLSA records of a host at a port; none when it surely has none, or none that are authentic.
///
/// # Errors
/// DNS doesn't tell, or its answer is bogus: then the host must not be used now, RFC 7672 §2.1.2.
pub async fn gather(lookup: &dyn Lookup, base: Base<'_>, port: u16) -> Result<Option<Gathered>, LookupError> {
    // RFC 7672 §2.2.3: first what the aliases lead to, then the name itself.
    for domain in base.expanded.into_iter().chain([base.host]) {
        match lookup.tlsa(&format!("_{port}._tcp.{}", domain.ascii())).await {
            Ok(answer) if answer.authentic => {
                let mut records = answer.records;
                records.sort();
                records.dedup();
                return Ok(Some(Gathered { base: domain.clone(), records }));
            }
            // Records that aren't signed say nothing, RFC 7672 §2.1.1.
            Ok(_) | Err(LookupError::NotFound { .. }) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(None)
}

/// The names that a certificate verified by a trust anchor may have; the first, the TLSA base domain, is also what SNI asks for.
///
/// `next_hop`: the recipient domain as given and as its aliases lead to, where the host is its MX. RFC 7672 §3.2.3.
pub fn names(gathered: &Gathered, host: &Domain, next_hop: Option<(&Domain, &Domain)>) -> Vec<Domain> {
    let mut names = vec![gathered.base.clone()];
    let more = next_hop.into_iter().flat_map(|(original, expanded)| [original, expanded]);
    for name in std::iter::once(host).chain(more) {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::super::record::parse;
    use super::*;
    use mox_base::RecordKind;
    use mox_testkit::Zone;

    fn record(usage: u8, octet: u8) -> Tlsa {
        parse(&format!("{usage} 1 1 {}", format!("{octet:02x}").repeat(32))).unwrap()
    }

    fn zone() -> Zone {
        Zone::new()
            .tlsa("_25._tcp.mx.example", record(3, 2))
            .tlsa("_25._tcp.mx.example", record(1, 1))
            .tlsa("_25._tcp.real.example", record(2, 3))
            .tlsa("_25._tcp.weak.example", record(3, 4))
            .cname("_25._tcp.alias.example", "shared.example")
            .tlsa("shared.example", record(3, 5))
            .cname("_25._tcp.weakalias.example", "weak.shared.example")
            .tlsa("weak.shared.example", record(3, 6))
            .temporary("_25._tcp.broken.example", Some(RecordKind::Tlsa))
            .bogus("_25._tcp.bogus.example", Some(RecordKind::Tlsa))
            .signed()
            .insecure("weak.example")
            .insecure("weak.shared.example")
    }

    async fn found(host: &str, expanded: Option<&str>) -> String {
        let host: Domain = host.parse().unwrap();
        let expanded: Option<Domain> = expanded.map(|e| e.parse().unwrap());
        match gather(&zone(), Base { host: &host, expanded: expanded.as_ref() }, 25).await {
            Ok(None) => "none".to_owned(),
            Ok(Some(g)) => format!("{} {} of {}", g.base, g.usable().len(), g.records.len()),
            Err(LookupError::Bogus(_)) => "bogus".to_owned(),
            Err(_) => "temporary".to_owned(),
        }
    }

    #[tokio::test]
    async fn finds_what_is_signed() {
        for (host, expanded, want) in [
            ("mx.example", None, "mx.example 1 of 2"),
            ("none.example", None, "none"),
            ("weak.example", None, "none"),
            ("alias.example", None, "alias.example 1 of 1"),
            ("weakalias.example", None, "none"),
            // First where aliases lead to, then the name itself.
            ("mx.example", Some("real.example"), "real.example 1 of 1"),
            ("mx.example", Some("none.example"), "mx.example 1 of 2"),
            // What can't be had is never nothing.
            ("broken.example", None, "temporary"),
            ("bogus.example", None, "bogus"),
            ("mx.example", Some("broken.example"), "temporary"),
        ] {
            assert_eq!(found(host, expanded).await, want, "{host} {expanded:?}");
        }
    }

    #[test]
    fn names_begin_with_the_base() {
        let d = |s: &str| s.parse::<Domain>().unwrap();
        let gathered = |base: &str| Gathered { base: d(base), records: vec![record(2, 1)] };
        let show = |names: Vec<Domain>| names.iter().map(Domain::ascii).collect::<Vec<_>>().join(" ");
        assert_eq!(show(names(&gathered("h.example"), &d("h.example"), None)), "h.example");
        assert_eq!(show(names(&gathered("x.example"), &d("h.example"), None)), "x.example h.example");
        assert_eq!(
            show(names(&gathered("x.example"), &d("mx.example"), Some((&d("a.example"), &d("b.example"))))),
            "x.example mx.example a.example b.example"
        );
        assert_eq!(
            show(names(&gathered("mx.example"), &d("mx.example"), Some((&d("a.example"), &d("a.example"))))),
            "mx.example a.example"
        );
    }
}
