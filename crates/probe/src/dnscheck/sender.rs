//! Mail that goes out: who may send it, the keys that verify it, and what others do with what isn't ours.

use super::context::Context;
use super::{DmarcFound, PublishedKey, Section, SpfRecords};
use mox_base::{Address, Domain, LookupError};
use mox_config::{DkimAlgorithm, sending_ips};
use mox_mailauth::dkim::lookup_key;
use mox_mailauth::dmarc::{self, DmarcRecord, LookupProblem, Policy, ReportUri};
use mox_mailauth::spf::{self, SpfRecord, SpfResult};
use mox_mailauth::suffix::organizational_domain;
use std::net::IpAddr;

/// Whether mail from our addresses passes.
pub(super) async fn spf(cx: &Context<'_>) -> Section<SpfRecords> {
    let mut section: Section<SpfRecords> = Section::default();
    let (name, host) = (cx.domain(), cx.hostname());
    let all: Vec<IpAddr> = sending_ips(cx.input.fixed).into_iter().filter(|ip| !ip.is_loopback()).collect();
    if all.is_empty() {
        section.findings.warn(
            "mox.conf names no addresses that mail is sent from, only \"all of this machine\" or none, so they can't be compared with the record",
        );
    }
    section.data.domain = spf_of(cx, name, &all, &mut section).await;
    if name != host {
        // What leaves through proxies says hello with their names.
        let own: Vec<IpAddr> = all.iter().copied().filter(|ip| cx.own_ips.contains(ip)).collect();
        section.data.host = spf_of(cx, host, &own, &mut section).await;
    }
    section.findings.instruct("SPF says from which addresses mail of the domain comes:", &cx.records(name.ascii(), "TXT"));
    if name != host {
        let records = cx.records(host.ascii(), "TXT");
        section
            .findings
            .instruct("The machine itself sends messages about deliveries, and needs a record too, once for all domains:", &records);
    }
    section
}

async fn spf_of(cx: &Context<'_>, name: &Domain, ips: &[IpAddr], section: &mut Section<SpfRecords>) -> Option<(String, SpfRecord)> {
    let found = &mut section.findings;
    let texts = match cx.lookup().txt(name.ascii()).await {
        Ok(answer) => answer.records,
        Err(LookupError::NotFound { .. }) => Vec::new(),
        Err(e) => {
            found.error(format!("looking up the SPF record of {}: {e}", name.ascii()));
            return None;
        }
    };
    let meant: Vec<&Vec<u8>> = texts.iter().filter(|text| SpfRecord::is_meant(text)).collect();
    let text = match meant.as_slice() {
        [] => {
            found.error(format!("{} has no SPF record", name.ascii()));
            return None;
        }
        [text] => *text,
        _ => {
            found.error(format!("{} has several SPF records, which counts as none", name.ascii()));
            return None;
        }
    };
    let record = match SpfRecord::parse(text) {
        Ok(record) => record,
        Err(e) => {
            found.error(format!("the SPF record of {} can't be understood: {e}", name.ascii()));
            return None;
        }
    };
    for ip in ips {
        let (domain, helo) = (name.ascii(), cx.hostname().ascii());
        let query = spf::Query { ip: *ip, domain, localpart: "postmaster", helo, receiver: helo, now: cx.ports.clock.now() };
        let outcome = spf::check_host(cx.lookup(), &query).await;
        if outcome.result != SpfResult::Pass {
            let why = outcome.problem.or(outcome.mechanism).map(|why| format!(" ({why})")).unwrap_or_default();
            found.error(format!(
                "mail of {} from our address {ip} would get the SPF result {}{why}, not pass",
                name.ascii(),
                outcome.result
            ));
        }
    }
    Some((String::from_utf8_lossy(text).into_owned(), record))
}

/// Whether the published keys are those we sign with.
pub(super) async fn dkim(cx: &Context<'_>) -> Section<Vec<PublishedKey>> {
    let mut section: Section<Vec<PublishedKey>> = Section::default();
    let name = cx.domain();
    let selectors: Vec<_> = cx.input.dkim.iter().collect();
    if selectors.is_empty() {
        section.findings.error(format!("{} has no DKIM selectors in domains.conf: its mail isn't signed", name.ascii()));
    }
    let published = crate::together::all(selectors.iter().map(|(selector, _)| lookup_key(cx.lookup(), selector, name))).await;
    for ((selector, key), published) in selectors.iter().zip(published) {
        let at = format!("{}._domainkey.{}", selector.ascii(), name.ascii());
        let record = match published.record {
            Err(e) => {
                section.findings.error(format!("the DKIM key at {at}: {e}"));
                None
            }
            Ok((record, text)) => {
                let kind = if key.algorithm == DkimAlgorithm::Ed25519 { "ed25519" } else { "rsa" };
                if record.key.is_empty() {
                    section.findings.error(format!("the DKIM key at {at} is revoked: its record has an empty p="));
                } else if record.key_type != kind || record.key != key.bytes {
                    section.findings.error(format!("the DKIM key at {at} is another one than that in domains.conf"));
                }
                Some((text, record))
            }
        };
        section.data.push(PublishedKey { selector: selector.ascii().to_owned(), record });
    }
    let records: Vec<_> =
        selectors.iter().flat_map(|(s, _)| cx.records(&format!("{}._domainkey.{}", s.ascii(), name.ascii()), "TXT")).collect();
    if records.is_empty() {
        section.findings.instruct(
            "Add keys to DKIM of the domain in domains.conf, then publish the records that \"mox config dnsrecords\" prints.",
            &[],
        );
        return section;
    }
    section.findings.instruct(
        "Publish all keys, also those that aren't signed with yet: then one can be taken into use at once. The strings in parentheses are one \
         value; join them for a form on the web.",
        &records,
    );
    section
}

/// Whether others know what to do with mail that isn't ours, and tell us.
pub(super) async fn dmarc(cx: &Context<'_>) -> Section<DmarcFound> {
    let mut section: Section<DmarcFound> = Section::default();
    let name = cx.domain();
    let looked = dmarc::lookup(cx.lookup(), name).await;
    section.data.domain = looked.domain.ascii().to_owned();
    match looked.record {
        Err(LookupProblem::NotFound) => section.findings.error(format!("{} has no DMARC record", name.ascii())),
        Err(e) => section.findings.error(format!("the DMARC record of {}: {e}", name.ascii())),
        Ok((record, text)) => {
            judge_dmarc(cx, &looked.domain, &record, &mut section).await;
            section.data.record = Some((text, record));
        }
    }
    let records = cx.records(&format!("_dmarc.{}", name.ascii()), "TXT");
    section.findings.instruct(
        "With p=reject, others refuse mail that claims to be from the domain and isn't. If the domain is in use already, begin with p=none, read \
         the reports, and go on to quarantine and reject once all of its mail passes:",
        &records,
    );
    section
}

async fn judge_dmarc(cx: &Context<'_>, policy_domain: &Domain, record: &DmarcRecord, section: &mut Section<DmarcFound>) {
    let found = &mut section.findings;
    if record.policy == Policy::None {
        found.warn("the DMARC policy is p=none: others accept mail that isn't from the domain, though it claims to be");
    }
    if record.subdomain_policy == Some(Policy::None) {
        found.warn("the DMARC policy for subdomains is sp=none: others accept mail that claims to be from names below the domain");
    }
    let addresses: Vec<Address> = record.aggregate_reports.iter().filter_map(report_address).collect();
    if record.aggregate_reports.is_empty() {
        found.warn("the DMARC record has no rua: nobody sends reports");
    }
    for address in &addresses {
        if organizational_domain(&address.domain) == organizational_domain(policy_domain) {
            continue;
        }
        // RFC 7489 §7.1.
        let (permitted, _) = dmarc::report_destination(cx.lookup(), policy_domain, &address.domain).await;
        if let Err(e) = permitted {
            let at = format!("{}._report._dmarc.{}", policy_domain.ascii(), address.domain.ascii());
            found.error(format!("{} doesn't say that it takes the DMARC reports that go to {address}: {at}: {e}", address.domain.ascii()));
            found.instruct(
                "The domain that gets the reports must agree with the record:",
                &[Context::record(at, "TXT \"v=DMARC1\"".to_owned())],
            );
        }
    }
    if let Some(reports) = &cx.config.dmarc {
        let own = Address::new(reports.localpart().clone(), reports.domain.clone().unwrap_or_else(|| cx.domain().clone()));
        if !addresses.contains(&own) {
            found.error(format!("the address for DMARC reports in domains.conf, {own}, is not in the rua of the record"));
        }
    }
}

/// The address in a mailto URI.
fn report_address(uri: &ReportUri) -> Option<Address> {
    let (scheme, rest) = uri.uri.split_once(':')?;
    if !scheme.eq_ignore_ascii_case("mailto") {
        return None;
    }
    percent_decoded(rest.split('?').next().unwrap_or_default())?.parse().ok()
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let mut digit = || bytes.next().and_then(|b| char::from(b).to_digit(16));
            out.push(u8::try_from(digit()?.checked_mul(16)?.checked_add(digit()?)?).ok()?);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok()
}
