//! Mail that comes in: mail hosts, their TLS, and the TLSA records by which it is verified.

use super::context::Context;
use super::{CONNECTION_PATIENCE, MailHost, Section, domain};
use crate::session::{self, Hello};
use mox_base::{Host, LookupError, Mx, Tlsa};
use mox_mailauth::dane;
use mox_net::ClientTls;
use mox_net::tls::{Check, DaneCheck, Severity};
use mox_smtp::client::TlsMode;
use std::net::IpAddr;
use std::sync::Arc;

/// Connections that are tried at most; each takes a task of the peer.
const MAX_CONNECTIONS: usize = 20;

/// Addresses of another host whose certificates are compared with its TLSA records.
const MAX_COMPARED: usize = 4;

/// Whether mail for the domain comes to us.
pub(super) async fn mx(cx: &Context<'_>) -> Section<Vec<MailHost>> {
    let mut section: Section<Vec<MailHost>> = Section::default();
    let found = &mut section.findings;
    let name = cx.domain().ascii();
    let hosts: Vec<Mx> = match cx.lookup().mx(name).await {
        Ok(answer) => answer.records,
        Err(LookupError::NotFound { .. }) => {
            found.error(format!("{name} has no MX record: mail for it goes to the address of {name} itself, if at all"));
            Vec::new()
        }
        Err(e) => {
            found.error(format!("looking up the MX records of {name}: {e}"));
            Vec::new()
        }
    };
    let ips = crate::together::all(hosts.iter().map(|mx| cx.lookup().ips(&mx.host))).await;
    for (mx, answer) in hosts.iter().zip(ips) {
        let mut host = MailHost { host: mx.host.clone(), preference: mx.preference, ips: Vec::new() };
        if mx.host.is_empty() {
            // RFC 7505.
            found.error(format!("{name} has the MX record \".\", which says that it takes no mail"));
        } else {
            match answer {
                Err(e) => found.error(format!("looking up the addresses of mail host {}: {e}", mx.host)),
                Ok(answer) => {
                    cx.judge_ips(&format!("mail host {}", mx.host), &answer.records, found);
                    host.ips = answer.records;
                }
            }
        }
        section.data.push(host);
    }
    section.findings.instruct("Mail for the domain comes to this machine with the record:", &cx.records(name, "MX"));
    section
}

/// Mail hosts with their addresses; none where DNS doesn't tell, which the section about MX reports.
async fn reachable(cx: &Context<'_>) -> Vec<(String, IpAddr)> {
    let Ok(answer) = cx.lookup().mx(cx.domain().ascii()).await else { return Vec::new() };
    let hosts: Vec<Mx> = answer.records.into_iter().filter(|mx| !mx.host.is_empty()).collect();
    let ips = crate::together::all(hosts.iter().map(|mx| cx.lookup().ips(&mx.host))).await;
    let all = hosts.into_iter().zip(ips).filter_map(|(mx, ips)| Some((mx.host, ips.ok()?.records)));
    all.flat_map(|(host, ips)| ips.into_iter().map(move |ip| (host.clone(), ip))).take(MAX_CONNECTIONS).collect()
}

/// Whether mail hosts do TLS, with certificates that anyone trusts.
pub(super) async fn tls(cx: &Context<'_>) -> Section<()> {
    let mut section: Section<()> = Section::default();
    let hosts = reachable(cx).await;
    let tried = crate::together::all(hosts.iter().map(|(host, ip)| starttls(cx, host, *ip, &cx.ports.tls))).await;
    for ((host, ip), result) in hosts.iter().zip(tried) {
        if let Err(why) = result {
            section.findings.error(format!("STARTTLS at mail host {host}, address {ip}: {why}"));
        }
    }
    section.findings.instruct(
        "Mail hosts should offer STARTTLS with a certificate for their name from an authority that others trust, which MTA-STS also \
         needs. With ACME in the TLS section of the listener in mox.conf, certificates come by themselves. Port 25 must be reachable from \
         this machine too, for this check.",
        &[],
    );
    section
}

async fn starttls(cx: &Context<'_>, host: &str, ip: IpAddr, tls: &ClientTls) -> Result<(), String> {
    let stream = cx.connect(ip, 25).await?;
    let hello = Hello {
        ehlo: Host::Domain(cx.hostname().clone()),
        mode: TlsMode::Required,
        tls: tls.clone(),
        name: host.to_owned(),
        patience: CONNECTION_PATIENCE,
    };
    let opened = tokio::time::timeout(CONNECTION_PATIENCE, session::open(stream, &hello, Arc::clone(&cx.ports.random))).await;
    let stream = opened.map_err(|_| "timeout".to_owned())?.map_err(|e| e.to_string())?;
    stream.close().await;
    Ok(())
}

/// Whether the published keys are ours, and can be relied on.
pub(super) async fn dane(cx: &Context<'_>) -> Section<()> {
    let mut section: Section<()> = Section::default();
    let found = &mut section.findings;
    let keys: Vec<Tlsa> =
        cx.input.host_keys.iter().map(|key| Tlsa { usage: dane::DANE_EE, selector: 1, matching: 1, data: key.to_vec() }).collect();
    if keys.is_empty() {
        found.warn("the listener public in mox.conf has no HostPrivateKeyFiles, so there is no key for TLSA records that stays the same");
    }
    match cx.lookup().mx(cx.domain().ascii()).await {
        Err(e) => found.error(format!("looking up the MX records of {}, for the hosts with TLSA records: {e}", cx.domain().ascii())),
        Ok(answer) => {
            if !answer.authentic {
                found.warn(format!("the MX records of {} are not signed with DNSSEC, so nobody uses DANE", cx.domain().ascii()));
            }
            for mx in answer.records.iter().filter(|mx| !mx.host.is_empty()) {
                dane_of_host(cx, &mx.host, answer.authentic, &keys, &mut section).await;
            }
        }
    }
    let host = cx.hostname().ascii();
    let records = cx.records(&format!("_25._tcp.{host}"), "TLSA");
    if !records.is_empty() {
        section.findings.instruct(
            "With DNSSEC, and only with it, these records let others verify this machine's certificate by its key. They are the same for all \
             domains:",
            &records,
        );
    } else {
        section.findings.instruct(
            "Make keys with \"mox config ensureacmehostprivatekeys\", name them as HostPrivateKeyFiles of the listener public, and publish \
             the records that \"mox config dnsrecords\" then prints.",
            &[],
        );
    }
    section
}

async fn dane_of_host(cx: &Context<'_>, mx: &str, signed: bool, keys: &[Tlsa], section: &mut Section<()>) {
    let found = &mut section.findings;
    let name = format!("_25._tcp.{mx}");
    let ours = domain(mx).is_some_and(|host| host == *cx.hostname());
    let keys = if ours { keys } else { &[] };
    match cx.lookup().tlsa(&name).await {
        Err(LookupError::NotFound { .. }) => {
            // Without DNSSEC they would be of no use: that has a warning of its own.
            let usable = signed && cx.lookup().ips(mx).await.is_ok_and(|answer| answer.authentic);
            if usable && !keys.is_empty() {
                found.error(format!("mail host {mx} has no TLSA records at {name}, but has keys for them"));
            }
        }
        Err(e) => found.error(format!("looking up the TLSA records at {name}: {e}: others don't deliver until that works")),
        Ok(answer) if !answer.authentic => {
            found.error(format!("the TLSA records at {name} are not signed with DNSSEC, so others ignore them"));
        }
        Ok(answer) if ours => {
            let of = |records: &[Tlsa], others: &[Tlsa]| -> Vec<String> {
                records.iter().filter(|r| !others.contains(r)).map(dane::text).collect()
            };
            for missing in of(keys, &answer.records) {
                found.error(format!("missing TLSA record at {name}: {missing}: others refuse a certificate with this key"));
            }
            for extra in of(&answer.records, keys) {
                found.error(format!("TLSA record at {name} that is for none of this machine's keys: {extra}"));
            }
        }
        // Somebody else's keys: what counts is whether the host has one of them.
        Ok(answer) => {
            for why in compared(cx, mx, &answer.records).await {
                found.error(format!("{why}: others refuse the host because of its TLSA records at {name}"));
            }
        }
    }
}

/// What is wrong with the certificates that a host shows, by its TLSA records. Nothing is, where none of these can be used (RFC 7672
/// §2.2), or nobody answers, which the section about TLS reports.
async fn compared(cx: &Context<'_>, host: &str, records: &[Tlsa]) -> Vec<String> {
    let records: Vec<Tlsa> = records.iter().filter(|record| dane::is_usable(record)).cloned().collect();
    let (Some(name), Ok(answer)) = (domain(host), cx.lookup().ips(host).await) else { return Vec::new() };
    if records.is_empty() {
        return Vec::new();
    }
    let check = DaneCheck { records, names: vec![name, cx.domain().clone()], severity: Severity::Refuse };
    let Ok((tls, findings)) = cx.ports.tls.checking(Check { dane: Some(check), ..Check::default() }) else { return Vec::new() };
    let mut wrong = Vec::new();
    // One after the other: the findings are of the connection made last.
    for ip in answer.records.into_iter().take(MAX_COMPARED) {
        let result = starttls(cx, host, ip, &tls).await;
        match (result, findings.dane()) {
            (Err(why), Some(Err(_))) => wrong.push(format!("the certificate of mail host {host}, address {ip}: {why}")),
            (Err(why), None) if why.starts_with("starttls") => wrong.push(format!("mail host {host}, address {ip}: {why}")),
            (Ok(()) | Err(_), _) => {}
        }
    }
    wrong
}
