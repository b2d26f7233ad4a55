//! Where a domain's reports go, and whether they may: RFC 7489 §7.1, RFC 9990 §4.
//!
//! Who takes reports of other organizations says so in DNS, or anybody could have them sent to anybody.

use mox_base::{Address, Domain, Lookup};
use mox_mailauth::dmarc::{DmarcRecord, LookupProblem, ReportUri, report_destination};
use mox_mailauth::suffix::organizational_domain;

/// Addresses looked at, of those that a domain names.
const MAX_ADDRESSES: usize = 10;

/// What a domain names, and where that leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportAddress {
    /// As in the record.
    pub uri: ReportUri,
    /// Where it leads.
    pub found: Result<Destination, DestinationProblem>,
}

/// Where reports may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The addresses, each with the largest report wanted: usually the one that was named, or those that its host wants instead.
    pub addresses: Vec<(Address, Option<u64>)>,
    /// Whether it is in the domain's own organization, so that nobody had to be asked.
    pub own: bool,
    /// The records in which its host says that it takes them.
    pub records: Vec<String>,
}

/// Why reports don't go there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DestinationProblem {
    /// Not a `mailto:` URI.
    #[error("not a mail address, skipped")]
    Scheme,
    /// No address in it.
    #[error("invalid mail address")]
    Address,
    /// Its host doesn't take reports of the domain.
    #[error("{host} does not accept reports about the domain: {problem}")]
    Refused {
        /// The host of the address.
        host: Domain,
        /// What is missing.
        problem: LookupProblem,
    },
    /// Its host wants them at some other host.
    #[error("{0} wants reports at another host")]
    OtherHost(Domain),
    /// DNS doesn't tell now.
    #[error("looking up whether {host} accepts reports: {problem}")]
    Unknown {
        /// The host of the address.
        host: Domain,
        /// What went wrong.
        problem: LookupProblem,
    },
}

/// Finds out where the addresses in a domain's record lead.
pub async fn report_addresses(dns: &dyn Lookup, policy_domain: &Domain, uris: &[ReportUri]) -> Vec<ReportAddress> {
    let mut found = Vec::new();
    for uri in uris.iter().take(MAX_ADDRESSES) {
        found.push(ReportAddress { uri: uri.clone(), found: destination(dns, policy_domain, uri).await });
    }
    found
}

async fn destination(dns: &dyn Lookup, policy_domain: &Domain, uri: &ReportUri) -> Result<Destination, DestinationProblem> {
    if !uri.uri.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("mailto:")) {
        return Err(DestinationProblem::Scheme);
    }
    let address = address(uri).ok_or(DestinationProblem::Address)?;
    let named = vec![(address.clone(), uri.max_bytes())];
    if organizational_domain(&address.domain) == organizational_domain(policy_domain) {
        return Ok(Destination { addresses: named, own: true, records: Vec::new() });
    }
    let host = address.domain;
    let records = match report_destination(dns, policy_domain, &host).await.0 {
        Ok(records) => records,
        Err(problem @ LookupProblem::Dns(_)) => return Err(DestinationProblem::Unknown { host, problem }),
        Err(problem) => return Err(DestinationProblem::Refused { host, problem }),
    };
    let texts = records.iter().map(|(_, text)| text.clone()).collect();
    let instead: Vec<&ReportUri> = records.iter().flat_map(|(record, _): &(DmarcRecord, _)| &record.aggregate_reports).collect();
    if instead.is_empty() {
        return Ok(Destination { addresses: named, own: false, records: texts });
    }
    // RFC 9990 §4: one at yet another host means that neither gets any.
    let addresses: Option<Vec<_>> =
        instead.iter().map(|uri| Some((address_at(uri, &host)?, uri.max_bytes()))).take(MAX_ADDRESSES).collect();
    match addresses {
        Some(addresses) => Ok(Destination { addresses, own: false, records: texts }),
        None => Err(DestinationProblem::OtherHost(host)),
    }
}

fn address(uri: &ReportUri) -> Option<Address> {
    uri.mail_address()?.parse().ok()
}

fn address_at(uri: &ReportUri, host: &Domain) -> Option<Address> {
    address(uri).filter(|address| address.domain == *host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mox_testkit::Zone;

    #[tokio::test]
    async fn who_takes_reports() {
        let zone = Zone::new()
            .txt("x.example._report._dmarc.yes.example", "v=DMARC1")
            .txt("x.example._report._dmarc.any.example", "v=DMARC1;")
            .txt("x.example._report._dmarc.moved.example", "v=DMARC1; rua=mailto:other@moved.example!1k")
            .txt("x.example._report._dmarc.away.example", "v=DMARC1; rua=mailto:other@victim.example")
            .txt("x.example._report._dmarc.odd.example", "something else")
            .txt("x.example._report._dmarc.mixed.example", "v=DMARC1; adkim=x")
            .txt("x.example._report._dmarc.mixed.example", "v=DMARC1")
            .txt("sub.x.example._report._dmarc.sub.example", "v=DMARC1")
            .temporary("x.example._report._dmarc.down.example", None);
        for (uri, want) in [
            ("mailto:r@x.example!10m", "r@x.example 10485760 own"),
            ("mailto:r%2Bq@sub.x.example", "r+q@sub.x.example own"),
            ("mailto:r@yes.example", "r@yes.example"),
            ("mailto:r@any.example", "r@any.example"),
            ("mailto:r@moved.example!5m", "other@moved.example 1024"),
            ("mailto:r@mixed.example", "r@mixed.example"),
            ("mailto:r@away.example", "away.example wants reports at another host"),
            ("mailto:r@odd.example", "odd.example does not accept reports about the domain: no dmarc record"),
            ("mailto:r@no.example", "no.example does not accept reports about the domain: no dmarc record"),
            ("mailto:r@sub.example", "sub.example does not accept reports about the domain: no dmarc record"),
            (
                "mailto:r@down.example",
                "looking up whether down.example accepts reports: looking up dmarc record: temporary DNS failure: planned, for x.example._report._dmarc.down.example",
            ),
            ("https://x.example/", "not a mail address, skipped"),
            ("mailto:x.example", "invalid mail address"),
        ] {
            let domain = "x.example".parse().unwrap();
            let found = report_addresses(&zone, &domain, &[uri.parse().unwrap()]).await.remove(0).found;
            let shown = found.map_or_else(
                |problem| problem.to_string(),
                |to| {
                    let limit = |limit: Option<u64>| limit.map(|n| format!(" {n}")).unwrap_or_default();
                    let addresses = to.addresses.iter().map(|(address, max)| format!("{address}{}", limit(*max)));
                    addresses.collect::<String>() + if to.own { " own" } else { "" }
                },
            );
            assert_eq!(shown, want, "{uri}");
        }
    }
}
