//! Policies and reports about TLS.

use super::context::Context;
use super::{MtaStsFound, Section, domain};
use mox_base::{Address, Domain, LookupError};
use mox_delivery::tls::FetchError;
use mox_mailauth::mtasts::{self, Mode, Pattern, Policy};
use mox_mailauth::tlsrpt;
use std::time::Duration;

/// Policies that are kept no longer protect little, RFC 8461 §10.2.
const SHORT_AGE: Duration = Duration::from_secs(24 * 3600);

/// Where others report about TLS to this machine, which DANE makes them do.
pub(super) async fn host_tlsrpt(cx: &Context<'_>) -> Section<Option<tlsrpt::Record>> {
    let host = cx.hostname();
    let address = cx.input.fixed.host_tlsrpt.as_ref().map(|reports| Address::new(reports.localpart().clone(), host.clone()));
    tlsrpt_of(cx, host, address, "HostTLSRPT in mox.conf").await
}

/// Where others report about TLS for the domain, which MTA-STS makes them do.
pub(super) async fn domain_tlsrpt(cx: &Context<'_>) -> Section<Option<tlsrpt::Record>> {
    let address = cx
        .config
        .tlsrpt
        .as_ref()
        .map(|reports| Address::new(reports.localpart().clone(), reports.domain.clone().unwrap_or_else(|| cx.domain().clone())));
    tlsrpt_of(cx, cx.domain(), address, "TLSRPT of the domain in domains.conf").await
}

async fn tlsrpt_of(cx: &Context<'_>, name: &Domain, address: Option<Address>, setting: &str) -> Section<Option<tlsrpt::Record>> {
    let mut section: Section<Option<tlsrpt::Record>> = Section::default();
    let found = &mut section.findings;
    let Some(address) = address else {
        section.data = tlsrpt::lookup(cx.lookup(), name).await.ok();
        found.error(format!("no address for reports about TLS is configured: {setting}"));
        found.instruct(&format!("Configure {setting}, then publish the record that \"mox config dnsrecords\" prints for it."), &[]);
        return section;
    };
    match tlsrpt::lookup(cx.lookup(), name).await {
        Err(e) => found.error(format!("the TLSRPT record at _smtp._tls.{}: {e}", name.ascii())),
        Ok(record) => {
            let published = record.addresses();
            if !published.iter().filter_map(|a| a.parse::<Address>().ok()).any(|a| a == address) {
                found.error(format!("the address for TLS reports in the configuration, {address}, is not in the rua of the record"));
            }
            section.data = Some(record);
        }
    }
    let records = cx.records(&format!("_smtp._tls.{}", name.ascii()), "TXT");
    section.findings.instruct("Others report once a day whether TLS worked when they delivered:", &records);
    section
}

/// Whether others insist on verified TLS, and with the right hosts.
pub(super) async fn mtasts(cx: &Context<'_>) -> Section<MtaStsFound> {
    let mut section: Section<MtaStsFound> = Section::default();
    let name = cx.domain();
    let found = &mut section.findings;
    let configured = cx.config.mtasts.is_some();
    if !configured {
        found.warn(format!("MTA-STS is not configured for {}: others don't insist on verified TLS, except with DANE", name.ascii()));
    }
    let (record, policy) = tokio::join!(mtasts::lookup(cx.lookup(), name), cx.ports.policies.fetch(name));
    match record {
        Ok(record) => {
            let id = cx.config.mtasts.as_ref().map(|policy| policy.policy_id.as_str());
            if id.is_some_and(|id| id != record.id) {
                found.warn(format!("the MTA-STS record has id {}, domains.conf has {}", record.id, id.unwrap_or_default()));
            }
            section.data.record = Some(record);
        }
        Err(mtasts::RecordError::Absent) if !configured => {}
        Err(e) => found.error(format!("the MTA-STS record at _mta-sts.{}: {e}", name.ascii())),
    }
    match policy {
        Ok(text) => match Policy::parse(&text) {
            Ok(policy) => {
                judge_policy(cx, &policy, &mut section).await;
                section.data.policy = Some((String::from_utf8_lossy(&text).into_owned(), policy));
            }
            Err(e) => found.error(format!("the MTA-STS policy of {}: {e}", name.ascii())),
        },
        Err(FetchError::NoPolicy) if !configured => {}
        Err(e) => found.error(format!("https://mta-sts.{}/.well-known/mta-sts.txt: {e}", name.ascii())),
    }
    if configured {
        let mut records = cx.records(&format!("mta-sts.{}", name.ascii()), "CNAME");
        records.extend(cx.records(&format!("_mta-sts.{}", name.ascii()), "TXT"));
        section.findings.instruct(
            "mox serves the policy where a listener has MTASTSHTTPS. When the policy changes, its id must change in domains.conf and in DNS:",
            &records,
        );
    } else {
        section.findings.instruct(
            "Configure MTASTS for the domain in domains.conf and MTASTSHTTPS for the listener public in mox.conf, at first with mode testing, \
             then publish the records that \"mox config dnsrecords\" prints for it.",
            &[],
        );
    }
    section
}

async fn judge_policy(cx: &Context<'_>, policy: &Policy, section: &mut Section<MtaStsFound>) {
    let found = &mut section.findings;
    match policy.mode {
        Mode::None => found.warn("the MTA-STS policy has mode none, which is as if there were no policy"),
        Mode::Testing => found.warn("the MTA-STS policy has mode testing: others only report; change it to enforce once reports are good"),
        Mode::Enforce => {}
    }
    if policy.max_age <= SHORT_AGE {
        let hours = policy.max_age.as_secs() / 3600;
        found.warn(format!("others keep the MTA-STS policy for {hours} hours only: with weeks, an attacker has to be patient"));
    }
    if !policy.allows(cx.hostname()) && policy.mode != Mode::None {
        found.warn(format!("the MTA-STS policy doesn't allow this machine, {}, as mail host", cx.hostname().ascii()));
    }
    let hosts = match cx.lookup().mx(cx.domain().ascii()).await {
        Ok(answer) => answer.records,
        // The section about MX tells of others.
        Err(LookupError::NotFound { .. }) => Vec::new(),
        Err(_) => return,
    };
    let mut names = Vec::new();
    for mx in hosts.iter().filter(|mx| !mx.host.is_empty()) {
        match domain(&mx.host) {
            None => found.warn(format!("the name of mail host {:?} is not valid", mx.host)),
            Some(host) => {
                if !policy.allows(&host) && policy.mode != Mode::None {
                    found.warn(format!("the MTA-STS policy doesn't allow the mail host {}", mx.host));
                }
                names.push(host);
            }
        }
    }
    for pattern in &policy.mx {
        if let Pattern::Host(host) = pattern
            && !names.contains(host)
        {
            found.warn(format!("the MTA-STS policy allows {}, which is not among the MX records", host.ascii()));
        }
    }
}
