//! `mox config dnscheck`: what is published for a domain, against what its configuration wants.

use super::config::load;
use super::config_dns::{dkim_keys, host_keys};
use super::dns::with_resolver;
use crate::cli::{Command, Failure, Flag, Invocation, Outcome, print};
use crate::ports::{SystemClock, SystemRandom};
use mox_base::{Domain, Lookup};
use mox_config::{DnsInput, Fixed};
use mox_delivery::tls::WebPolicies;
use mox_net::http::{AddressGuard, Client};
use mox_net::tls::read_roots;
use mox_net::{ClientTls, Resolver, TcpDial};
use mox_probe::dnscheck::{self, Findings, Ports, Report};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub(super) const COMMANDS: &[Command] = &[Command {
    words: "config dnscheck",
    params: &["[-json] [-exitcode] domain"],
    listed: true,
    help: "Check what is published for a domain against the configuration.\n\n\
        Looks at DNS, at the mail hosts of the domain and at the hosts that mail clients ask, as others do: DNSSEC, names of addresses, MX, \
        STARTTLS, DANE, SPF, DKIM, DMARC, addresses for reports about TLS, MTA-STS, SRV records, and settings for mail clients. \
        For each of these with problems, prints the errors and warnings, then what to do about them, with the records to publish. \
        Without problems, nothing is printed. Takes at most 30 seconds.\n\n\
        Nothing is changed. The server needn't run, but is tried at its public addresses.",
    flags: &[
        Flag::bool("json", "print all sections as JSON, those without problems too"),
        Flag::bool("exitcode", "exit with status 1 if there are errors, for monitoring; without it, problems aren't a failure"),
    ],
    args: 1..=1,
    run: check,
}];

fn check(invocation: &Invocation) -> Outcome {
    let (fixed, snapshot) = load(invocation, true)?;
    let domain: Domain = invocation.arg(0).parse().map_err(|e| Failure::new("parsing domain", e))?;
    let (dkim, host_keys) = (dkim_keys(&snapshot, &domain)?, host_keys(&fixed)?);
    let tls = verified_tls(&fixed)?;
    let report = with_resolver(|resolver| async {
        let ports = ports(resolver, tls);
        let input = DnsInput {
            fixed: &fixed.settings,
            dynamic: &snapshot.dynamic,
            domain: &domain,
            dkim: &dkim,
            host_keys: &host_keys,
            signed: true,
            account_uri: None,
        };
        let report = dnscheck::check(&ports, &input).await;
        report.ok_or_else(|| Failure::Error(format!("domain {domain}: no such domain")))
    })?;
    print(&if invocation.flags.bool("json") { as_json(&report) } else { as_text(&report) })?;
    let failed = report.sections().iter().any(|(_, findings)| !findings.errors.is_empty());
    if failed && invocation.flags.bool("exitcode") { Err(Failure::Exit(1)) } else { Ok(()) }
}

/// TLS that trusts the authorities of the configuration.
pub(super) fn verified_tls(fixed: &Fixed) -> Result<ClientTls, Failure> {
    let ca = fixed.settings.tls.as_ref().and_then(|tls| tls.ca.as_ref());
    let files: Vec<PathBuf> = ca.map(|ca| ca.cert_files.iter().map(|file| fixed.paths.config(file)).collect()).unwrap_or_default();
    let roots = read_roots(ca.is_none_or(|ca| ca.additional_to_system), &files).map_err(|e| Failure::new("reading certificates", e))?;
    ClientTls::verified(roots).map_err(|e| Failure::new("setting up TLS", e))
}

fn ports(resolver: Resolver, tls: ClientTls) -> Ports {
    let lookup: Arc<dyn Lookup> = Arc::new(resolver);
    let dial = Arc::new(TcpDial { timeout: Duration::from_secs(10) });
    let client = Client::new(Arc::clone(&lookup), dial.clone(), tls.clone(), anywhere());
    Ports {
        lookup,
        dial,
        tls,
        policies: Arc::new(WebPolicies::new(client)),
        clock: Arc::new(SystemClock::new()),
        random: Arc::new(SystemRandom),
        interfaces: interfaces(),
    }
}

/// Whose domain and configuration it is runs the command, and they may lead into a private network.
pub(super) fn anywhere() -> AddressGuard {
    let all = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
    AddressGuard::public_and(all.into_iter().filter_map(|ip| mox_base::IpPrefix::new(ip, 0)).collect())
}

/// The addresses of this machine that others may reach it at.
pub(crate) fn interfaces() -> Vec<IpAddr> {
    let Ok(all) = nix::ifaddrs::getifaddrs() else { return Vec::new() };
    let ips = all.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
    });
    ips.filter(|ip| !ip.is_loopback() && !ip.is_multicast() && !is_link_local(*ip)).collect()
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

fn as_text(report: &Report) -> String {
    let mut out = String::new();
    for (name, findings) in report.sections().into_iter().filter(|(_, findings)| !findings.is_ok()) {
        let separator = if out.is_empty() { "" } else { "\n" };
        out.push_str(&format!("{separator}# {name}\n"));
        out.extend(findings.errors.iter().map(|text| format!("error: {text}\n")));
        out.extend(findings.warnings.iter().map(|text| format!("warning: {text}\n")));
        out.extend(findings.instructions.iter().map(|text| format!("\n{text}\n")));
    }
    out
}

fn as_json(report: &Report) -> String {
    let section = |findings: &Findings| serde_json::json!({ "Errors": findings.errors, "Warnings": findings.warnings, "Instructions": findings.instructions });
    let sections: serde_json::Map<String, serde_json::Value> =
        report.sections().into_iter().map(|(name, findings)| (name.replace(' ', ""), section(findings))).collect();
    format!("{:#}\n", serde_json::Value::Object(sections))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_printed() {
        let mut report = Report::default();
        assert_eq!(as_text(&report), "");
        report.mx.findings.errors.push("no mail".to_owned());
        report.mx.findings.instructions.push("Publish:\n\ta. MX 10 b.".to_owned());
        report.host_tlsrpt.findings.warnings.push("hm".to_owned());
        report.srv.findings.instructions.push("not shown".to_owned());
        assert_eq!(as_text(&report), "# MX\nerror: no mail\n\nPublish:\n\ta. MX 10 b.\n\n# Host TLSRPT\nwarning: hm\n");
        let json: serde_json::Value = serde_json::from_str(&as_json(&report)).unwrap();
        assert_eq!(json["MX"]["Errors"], serde_json::json!(["no mail"]));
        assert_eq!(json.as_object().unwrap().len(), 14);
        assert_eq!(json["HostTLSRPT"]["Warnings"], serde_json::json!(["hm"]));
    }
}
