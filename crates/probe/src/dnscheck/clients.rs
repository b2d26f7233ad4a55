//! What mail clients look for: servers by SRV records, and hosts with settings.

use super::context::Context;
use super::{ClientHosts, Section};
use mox_base::{Domain, LookupError, Srv};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// What should be at a name.
struct Service {
    name: &'static str,
    /// None where the service isn't offered.
    port: Option<u16>,
}

/// The services of the domain, by what listeners offer.
fn services(cx: &Context<'_>) -> [Service; 6] {
    let listeners = || cx.input.fixed.listeners.values().filter(|l| l.tls.is_some());
    let submissions = listeners().any(|l| l.enabled_submissions().is_some());
    let imaps = listeners().any(|l| l.enabled_imaps().is_some());
    let offered = |is: bool, port: u16| is.then_some(port);
    [
        Service { name: "_submissions", port: offered(submissions, 465) },
        Service { name: "_submission", port: offered(!submissions, 587) },
        Service { name: "_imaps", port: offered(imaps, 993) },
        Service { name: "_imap", port: offered(!imaps, 143) },
        Service { name: "_pop3", port: None },
        Service { name: "_pop3s", port: None },
    ]
}

/// Whether mail clients find the servers, RFC 6186 and RFC 8314 §5.1.
pub(super) async fn srv(cx: &Context<'_>) -> Section<BTreeMap<String, Vec<Srv>>> {
    let mut section: Section<BTreeMap<String, Vec<Srv>>> = Section::default();
    let name = cx.domain().ascii();
    let host = cx.hostname();
    let client = cx.config.client_settings_domain.as_ref().unwrap_or(host);
    let services = services(cx);
    let names: Vec<String> = services.iter().map(|service| format!("{}._tcp.{name}", service.name)).collect();
    let looked = crate::together::all(names.iter().map(|name| cx.srv(name))).await;
    let mut needed = Vec::new();
    for ((service, at), looked) in services.iter().zip(&names).zip(looked) {
        let found = &mut section.findings;
        let target = if service.port.is_some() { format!("{}.", client.ascii()) } else { ".".to_owned() };
        let data = format!("SRV 0 {} {} {target}", u8::from(service.port.is_some()), service.port.unwrap_or(0));
        needed.push(Context::record(at.clone(), data));
        match (looked, service.port) {
            (Err(LookupError::NotFound { .. }), Some(_)) => found.error(format!("there is no SRV record at {at}")),
            (Err(LookupError::NotFound { .. }), None) => {
                found.warn(format!("there is no SRV record at {at} that says that the service isn't offered"));
            }
            (Err(e), _) => found.error(format!("looking up the SRV records at {at}: {e}")),
            (Ok(records), port) => {
                judge_srv(&records, port, &[client, host], at, found);
                section.data.insert(service.name.to_owned(), records);
            }
        }
    }
    section.findings.instruct("Mail clients find servers and ports, and what isn't offered, with the records:", &needed);
    section
}

fn judge_srv(records: &[Srv], port: Option<u16>, targets: &[&Domain], at: &str, found: &mut super::Findings) {
    let shown = || records.iter().map(|srv| format!("{}. port {}", srv.target, srv.port)).collect::<Vec<_>>().join(", ");
    match (records, port) {
        ([only], None) if only.target.is_empty() => {
            if only.port != 0 {
                found.warn(format!("the SRV record at {at} says that the service isn't offered, but has port {} instead of 0", only.port));
            }
        }
        (_, None) => found.error(format!("the service of {at} isn't offered, but its SRV records say so: {}", shown())),
        ([only], Some(port)) if only.port == port && targets.iter().any(|t| t.ascii().eq_ignore_ascii_case(&only.target)) => {}
        (_, Some(port)) => {
            let want = targets.first().map(|t| t.ascii()).unwrap_or_default();
            found.error(format!("the SRV records at {at} should be one, with target {want}. and port {port}, but are: {}", shown()));
        }
    }
}

/// The addresses of a host, judged.
async fn addresses<T>(cx: &Context<'_>, host: &str, section: &mut Section<T>) -> Vec<IpAddr> {
    match cx.lookup().ips(host).await {
        Err(e) => {
            section.findings.error(format!("looking up the addresses of {host}: {e}"));
            Vec::new()
        }
        Ok(answer) => {
            cx.judge_ips(host, &answer.records, &mut section.findings);
            answer.records
        }
    }
}

/// Whether mail clients get their settings.
pub(super) async fn autoconf(cx: &Context<'_>) -> Section<ClientHosts> {
    let mut section: Section<ClientHosts> = Section::default();
    let host = format!("autoconfig.{}", cx.domain().ascii());
    let mut records = Vec::new();
    if let Some(client) = &cx.config.client_settings_domain {
        section.data.client_settings = addresses(cx, client.ascii(), &mut section).await;
        records.extend(cx.records(client.ascii(), "CNAME"));
    }
    section.data.autoconfig = addresses(cx, &host, &mut section).await;
    let ips = section.data.autoconfig.clone();
    cx.all_https(&host, &ips, &mut section.findings).await;
    records.extend(cx.records(&host, "CNAME"));
    section.findings.instruct(
        "Mail clients such as Thunderbird get settings over HTTPS, which mox serves where a listener has AutoconfigHTTPS:",
        &records,
    );
    section
}

/// Whether Microsoft's mail clients get their settings.
pub(super) async fn autodiscover(cx: &Context<'_>) -> Section<Vec<(Srv, Vec<IpAddr>)>> {
    let mut section: Section<Vec<(Srv, Vec<IpAddr>)>> = Section::default();
    let at = format!("_autodiscover._tcp.{}", cx.domain().ascii());
    let records = match cx.srv(&at).await {
        Ok(records) => records,
        Err(e) => {
            section.findings.error(format!("looking up the SRV records at {at}: {e}"));
            Vec::new()
        }
    };
    if !records.is_empty() && !records.iter().any(|srv| srv.port == 443) {
        section.findings.error(format!("no SRV record at {at} has port 443"));
    }
    for srv in records {
        let ips = addresses(cx, &srv.target, &mut section).await;
        if srv.port == 443 {
            cx.all_https(&srv.target, &ips, &mut section.findings).await;
        }
        section.data.push((srv, ips));
    }
    section.findings.instruct("Mail clients such as Outlook ask the host of the record for settings:", &cx.records(&at, "SRV"));
    section
}
