//! What all sections need: the configuration seen from outside.

use super::{CONNECTION_PATIENCE, Findings, Ports};
use mox_base::{Domain, Lookup, LookupError, Record, RecordKind, Srv};
use mox_config::{DnsInput, DnsLine, DnsRecord, DomainConfig, dns_lines};
use mox_net::Stream;
use std::net::{IpAddr, SocketAddr};

/// The domain, what it should have, and where this machine is.
#[derive(Debug)]
pub(super) struct Context<'a> {
    pub(super) ports: &'a Ports,
    pub(super) input: &'a DnsInput<'a>,
    pub(super) config: &'a DomainConfig,
    records: Vec<DnsRecord>,
    /// Addresses at which others reach us; none known behind an unknown translation.
    pub(super) own_ips: Vec<IpAddr>,
    /// Addresses that others see aren't those that this machine has.
    pub(super) nat: bool,
    /// And it isn't known which ones they see.
    pub(super) unknown_nat: bool,
}

impl<'a> Context<'a> {
    pub(super) fn new(ports: &'a Ports, input: &'a DnsInput<'a>) -> Option<Self> {
        let config = input.dynamic.domains.get(input.domain)?;
        let lines = dns_lines(&DnsInput { signed: true, ..*input })?;
        let records = lines.into_iter().filter_map(|line| if let DnsLine::Record(record) = line { Some(record) } else { None });
        let smtp = || input.fixed.listeners.values().filter(|l| l.enabled_smtp().is_some());
        Some(Self {
            ports,
            input,
            config,
            records: records.collect(),
            own_ips: own_ips(input, &ports.interfaces),
            nat: smtp().any(|l| l.ips_nated || !l.nat_ips.is_empty()),
            unknown_nat: smtp().any(|l| l.ips_nated),
        })
    }

    pub(super) fn lookup(&self) -> &dyn Lookup {
        &*self.ports.lookup
    }

    pub(super) fn domain(&self) -> &'a Domain {
        self.input.domain
    }

    pub(super) fn hostname(&self) -> &'a Domain {
        self.input.fixed.hostname.domain()
    }

    /// The records that should be at a name.
    pub(super) fn records(&self, name: &str, kind: &str) -> Vec<DnsRecord> {
        self.records.iter().filter(|record| record.name == name && record.is(kind)).cloned().collect()
    }

    /// As a record of the domain's zone file would be, that isn't among those suggested.
    pub(super) fn record(name: String, data: String) -> DnsRecord {
        DnsRecord { name, data }
    }

    pub(super) async fn srv(&self, name: &str) -> Result<Vec<Srv>, LookupError> {
        let answer = self.lookup().query(name, RecordKind::Srv).await?;
        Ok(answer.records.into_iter().filter_map(|r| if let Record::Srv(srv) = r { Some(srv) } else { None }).collect())
    }

    /// Whether addresses of a host are ours, all of them.
    pub(super) fn judge_ips(&self, host: &str, ips: &[IpAddr], findings: &mut Findings) {
        if self.unknown_nat || self.own_ips.is_empty() {
            return;
        }
        let foreign: Vec<String> = ips.iter().filter(|ip| !self.own_ips.contains(&ip.to_canonical())).map(ToString::to_string).collect();
        if foreign.is_empty() {
            return;
        }
        let own = self.own_ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let which = if foreign.len() == ips.len() { "none of its addresses is" } else { "not all of its addresses are" };
        findings.error(format!("{host} leads to other machines: {which} ours; not ours: {}; ours: {own}", foreign.join(", ")));
    }

    /// A connection, within the time for one.
    pub(super) async fn connect(&self, ip: IpAddr, port: u16) -> Result<Stream, String> {
        let dialed = tokio::time::timeout(CONNECTION_PATIENCE, self.ports.dial.dial(SocketAddr::new(ip, port), None)).await;
        dialed.map_err(|_| "timeout connecting".to_owned())?.map_err(|e| format!("connecting: {e}"))
    }

    /// TLS at port 443 with a verified certificate.
    pub(super) async fn https(&self, host: &str, ip: IpAddr) -> Result<(), String> {
        let mut stream = self.connect(ip, 443).await?;
        let started = tokio::time::timeout(CONNECTION_PATIENCE, stream.connect_tls(&self.ports.tls, host)).await;
        started.map_err(|_| "timeout in TLS handshake".to_owned())?.map_err(|e| e.describe())?;
        stream.close().await;
        Ok(())
    }

    /// TLS at port 443 of all addresses of a host.
    pub(super) async fn all_https(&self, host: &str, ips: &[IpAddr], findings: &mut Findings) {
        let tried = crate::together::all(ips.iter().map(|ip| self.https(host, *ip))).await;
        for (ip, result) in ips.iter().zip(tried) {
            if let Err(why) = result {
                findings.error(format!("HTTPS at {host}, address {ip}: {why}"));
            }
        }
    }
}

/// Addresses of all listeners as seen from outside.
fn own_ips(input: &DnsInput<'_>, interfaces: &[IpAddr]) -> Vec<IpAddr> {
    let listeners = || input.fixed.listeners.values();
    if listeners().any(|l| l.ips_nated) {
        return Vec::new();
    }
    let mut ips = Vec::new();
    for ip in listeners().flat_map(|l| if l.nat_ips.is_empty() { &l.ips } else { &l.nat_ips }) {
        if ip.is_unspecified() {
            ips.extend(interfaces.iter().filter(|known| known.is_ipv4() == ip.is_ipv4()));
        } else {
            ips.push(*ip);
        }
    }
    ips.sort();
    ips.dedup();
    ips
}
