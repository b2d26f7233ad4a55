//! This machine's name and addresses, and whether DNS can be relied on.

use super::context::Context;
use super::{ReverseNames, Section, domain};
use mox_base::{Domain, LookupError, RecordKind};
use mox_config::Method;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Whether answers are validated, and the domain's are signed.
pub(super) async fn dnssec(cx: &Context<'_>) -> Section<()> {
    let mut section: Section<()> = Section::default();
    let found = &mut section.findings;
    let name = cx.domain().ascii();
    let (top, mx) = tokio::join!(cx.lookup().query("com.", RecordKind::Ns), cx.lookup().query(name, RecordKind::Mx));
    match &top {
        Err(e) => found.error(format!("looking up the name servers of com., to see whether DNS works at all: {e}")),
        Ok(answer) if !answer.authentic => found.warn(
            "the name servers that this machine asks don't pass on what validation with DNSSEC needs: mail to others goes without DANE",
        ),
        Ok(_) => {}
    }
    let signed = match &mx {
        Ok(answer) => answer.authentic,
        Err(LookupError::NotFound { authentic }) => *authentic,
        // The section about MX tells.
        Err(_) => true,
    };
    // Without validation nothing is known of the domain.
    if !signed && top.is_ok_and(|answer| answer.authentic) {
        found.warn(format!("{name} is not signed with DNSSEC: others can't verify its records, and can't use DANE for mail to it"));
    }
    found.instruct(
        "To have a domain signed, turn DNSSEC on with whoever runs its name servers, and give the DS record to the registrar if that is \
         somebody else. For a resolver that passes on DNSSEC records, install unbound on this machine and have /etc/resolv.conf name it:",
        &[],
    );
    if let Some(last) = found.instructions.last_mut() {
        last.push_str("\n\tnameserver 127.0.0.1\n\toptions trust-ad");
    }
    section
}

/// Whether the names of our addresses are the name that we say hello with.
pub(super) async fn iprev(cx: &Context<'_>) -> Section<ReverseNames> {
    let host = cx.hostname();
    let mut section = Section { data: ReverseNames { hostname: host.ascii().to_owned(), names: BTreeMap::new() }, ..Section::default() };
    let found = &mut section.findings;
    // Each address with the name it should have.
    let mut wanted: BTreeMap<IpAddr, Domain> = BTreeMap::new();
    match cx.lookup().ips(host.ascii()).await {
        Err(e) => found.error(format!("looking up the addresses of this machine's name {}: {e}", host.ascii())),
        Ok(answer) => {
            let (loopback, others): (Vec<IpAddr>, Vec<IpAddr>) = answer.records.into_iter().partition(|ip| ip.to_canonical().is_loopback());
            if !loopback.is_empty() {
                found.error(format!("{} leads to this machine's loopback address, which others can't reach", host.ascii()));
            }
            wanted.extend(others.into_iter().map(|ip| (ip, host.clone())));
        }
    }
    for listener in cx.input.fixed.listeners.values().filter(|l| l.enabled_smtp().is_some()) {
        let own = if !listener.nat_ips.is_empty() {
            listener.nat_ips.as_slice()
        } else if cx.nat {
            &[]
        } else {
            listener.ips.as_slice()
        };
        wanted.extend(own.iter().filter(|ip| !ip.is_unspecified() && !ip.is_loopback()).map(|ip| (*ip, host.clone())));
    }
    for transport in cx.input.fixed.transports.values() {
        match transport.method() {
            Method::Socks(socks) => wanted.extend(socks.remote_ips.iter().map(|ip| (*ip, socks.remote_hostname.clone()))),
            Method::Direct(direct) if !cx.nat => {
                let name = direct.hostname.as_ref().map_or(host, |name| name.domain());
                wanted.extend(direct.outgoing_ips.iter().map(|ip| (*ip, name.clone())));
            }
            _ => {}
        }
    }
    if !cx.nat {
        let plain = cx.input.fixed.outgoing_ips.iter().filter(|ip| !ip.is_loopback());
        for ip in plain {
            wanted.entry(*ip).or_insert_with(|| host.clone());
        }
    }
    let names = crate::together::all(wanted.keys().map(|ip| cx.lookup().ptr(*ip))).await;
    for ((ip, want), names) in wanted.iter().zip(names) {
        let names = match names {
            Err(e) => {
                found.error(format!("looking up the name of address {ip}: {e}"));
                continue;
            }
            Ok(answer) => answer.records,
        };
        let mut matches = false;
        for name in &names {
            match domain(name) {
                Some(name) => matches |= name == *want,
                None => found.error(format!("the name of address {ip}, {name:?}, is no valid host name")),
            }
        }
        if !matches && !cx.nat && want == host {
            found.warn(format!("address {ip} is called {}, not {}: others may take mail from it for spam", names.join(", "), want.ascii()));
        }
        section.data.names.insert(*ip, names);
    }
    let records: Vec<_> =
        wanted.iter().map(|(ip, name)| Context::record(mox_base::dns::reverse_name(*ip), format!("PTR {}.", name.ascii()))).collect();
    section.findings.instruct(
        "Each address that sends mail should have exactly one name, and that name the address. Names of addresses are set where the \
         machine or its network is rented, mostly in a form for \"reverse DNS\":",
        &records,
    );
    section
}
