//! What is published for one of our domains, against what its configuration wants.
//!
//! [`check`] looks at DNS, at the mail hosts and at the web hosts as others do, and gives a [`Report`] with a section for each
//! subject: what is wrong, what only looks wrong, and what to do about it, records to publish included. All sections are looked at at
//! once, within [`PATIENCE`]; one that doesn't end by then says so. Nothing is changed, and nothing is kept.
//!
//! `host` is about this machine's name and addresses, `delivery` about mail that comes in, `sender` about mail that goes out,
//! `reports` about policies and reports, `clients` about mail clients.

mod clients;
mod context;
mod delivery;
mod host;
mod reports;
mod sender;
#[cfg(test)]
mod tests;

use context::Context;
use mox_base::{Clock, Domain, Lookup, Random, Srv};
use mox_config::{DnsInput, DnsRecord};
use mox_delivery::tls::PolicySource;
use mox_mailauth::dkim::KeyRecord;
use mox_mailauth::dmarc::DmarcRecord;
use mox_mailauth::{mtasts, spf, tlsrpt};
use mox_net::{ClientTls, Dial};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// How long all of it may take.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How long one connection may take, TLS included.
const CONNECTION_PATIENCE: Duration = Duration::from_secs(10);

/// What the check works with.
#[derive(Clone, Debug)]
pub struct Ports {
    /// DNS.
    pub lookup: Arc<dyn Lookup>,
    /// Connections.
    pub dial: Arc<dyn Dial>,
    /// TLS with certificates verified as others do.
    pub tls: ClientTls,
    /// MTA-STS policies as others get them.
    pub policies: Arc<dyn PolicySource>,
    /// Time, for SPF.
    pub clock: Arc<dyn Clock>,
    /// Chance, for SMTP.
    pub random: Arc<dyn Random>,
    /// The addresses of this machine, which listening on all of them means.
    pub interfaces: Vec<IpAddr>,
}

/// What was found about one subject.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// What is wrong.
    pub errors: Vec<String>,
    /// What may be as intended, or could be better.
    pub warnings: Vec<String>,
    /// What to do, and the records to publish, whether or not something is wrong. Lines that begin with a tab are for a zone file.
    pub instructions: Vec<String>,
}

impl Findings {
    /// Whether nothing is wrong or looks so.
    pub fn is_ok(&self) -> bool {
        self.errors.is_empty() && self.warnings.is_empty()
    }

    fn error(&mut self, text: impl Into<String>) {
        self.errors.push(text.into());
    }

    fn warn(&mut self, text: impl Into<String>) {
        self.warnings.push(text.into());
    }

    fn instruct(&mut self, text: &str, records: &[DnsRecord]) {
        let lines: String = records.iter().map(|record| format!("\n\t{}", record.to_string().replace('\n', "\n\t"))).collect();
        self.instructions.push(format!("{text}{lines}"));
    }
}

/// A subject with what was looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Section<T> {
    /// What was found.
    pub findings: Findings,
    /// What is there.
    pub data: T,
}

/// Names of addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReverseNames {
    /// The name of this machine.
    pub hostname: String,
    /// What each address is called.
    pub names: BTreeMap<IpAddr, Vec<String>>,
}

/// A mail host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailHost {
    /// Its name.
    pub host: String,
    /// Lower is tried first.
    pub preference: u16,
    /// Its addresses.
    pub ips: Vec<IpAddr>,
}

/// SPF records.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SpfRecords {
    /// The domain's, as text and understood.
    pub domain: Option<(String, spf::SpfRecord)>,
    /// The host's.
    pub host: Option<(String, spf::SpfRecord)>,
}

/// A published key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedKey {
    /// Its selector.
    pub selector: String,
    /// The record, as text and understood.
    pub record: Option<(String, KeyRecord)>,
}

/// The record that receivers go by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DmarcFound {
    /// Where it is.
    pub domain: String,
    /// The record, as text and understood.
    pub record: Option<(String, DmarcRecord)>,
}

/// The MTA-STS record and policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MtaStsFound {
    /// The record.
    pub record: Option<mtasts::Record>,
    /// The policy, as text and understood.
    pub policy: Option<(String, mtasts::Policy)>,
}

/// Addresses of the hosts that mail clients ask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHosts {
    /// Of the host in settings; empty when the domain has none of its own.
    pub client_settings: Vec<IpAddr>,
    /// Of the host with the settings.
    pub autoconfig: Vec<IpAddr>,
}

/// All sections.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Whether DNSSEC works.
    pub dnssec: Section<()>,
    /// Names of our addresses.
    pub iprev: Section<ReverseNames>,
    /// Mail hosts.
    pub mx: Section<Vec<MailHost>>,
    /// Their TLS.
    pub tls: Section<()>,
    /// TLSA records.
    pub dane: Section<()>,
    /// Who may send.
    pub spf: Section<SpfRecords>,
    /// Keys.
    pub dkim: Section<Vec<PublishedKey>>,
    /// What receivers do with what isn't ours.
    pub dmarc: Section<DmarcFound>,
    /// Reports about TLS to the host.
    pub host_tlsrpt: Section<Option<tlsrpt::Record>>,
    /// Reports about TLS for the domain.
    pub domain_tlsrpt: Section<Option<tlsrpt::Record>>,
    /// Verified TLS.
    pub mtasts: Section<MtaStsFound>,
    /// Servers for mail clients, by service.
    pub srv: Section<BTreeMap<String, Vec<Srv>>>,
    /// Settings for mail clients.
    pub autoconf: Section<ClientHosts>,
    /// Settings for Microsoft's mail clients: targets with their addresses.
    pub autodiscover: Section<Vec<(Srv, Vec<IpAddr>)>>,
}

impl Report {
    /// The sections with their names, in order.
    pub fn sections(&self) -> [(&'static str, &Findings); 14] {
        [
            ("DNSSEC", &self.dnssec.findings),
            ("IPRev", &self.iprev.findings),
            ("MX", &self.mx.findings),
            ("TLS", &self.tls.findings),
            ("DANE", &self.dane.findings),
            ("SPF", &self.spf.findings),
            ("DKIM", &self.dkim.findings),
            ("DMARC", &self.dmarc.findings),
            ("Host TLSRPT", &self.host_tlsrpt.findings),
            ("Domain TLSRPT", &self.domain_tlsrpt.findings),
            ("MTASTS", &self.mtasts.findings),
            ("SRV conf", &self.srv.findings),
            ("Autoconf", &self.autoconf.findings),
            ("Autodiscover", &self.autodiscover.findings),
        ]
    }
}

/// Checks a domain; none if it isn't configured. `input.signed` doesn't matter: it is found out.
pub async fn check(ports: &Ports, input: &DnsInput<'_>) -> Option<Report> {
    let deadline = tokio::time::Instant::now().checked_add(PATIENCE)?;
    let context = Context::new(ports, input)?;
    let cx = &context;
    let (dnssec, iprev, mx, tls, dane, spf, dkim, dmarc, host_tlsrpt, domain_tlsrpt, mtasts, srv, autoconf, autodiscover) = tokio::join!(
        by(deadline, host::dnssec(cx)),
        by(deadline, host::iprev(cx)),
        by(deadline, delivery::mx(cx)),
        by(deadline, delivery::tls(cx)),
        by(deadline, delivery::dane(cx)),
        by(deadline, sender::spf(cx)),
        by(deadline, sender::dkim(cx)),
        by(deadline, sender::dmarc(cx)),
        by(deadline, reports::host_tlsrpt(cx)),
        by(deadline, reports::domain_tlsrpt(cx)),
        by(deadline, reports::mtasts(cx)),
        by(deadline, clients::srv(cx)),
        by(deadline, clients::autoconf(cx)),
        by(deadline, clients::autodiscover(cx)),
    );
    Some(Report { dnssec, iprev, mx, tls, dane, spf, dkim, dmarc, host_tlsrpt, domain_tlsrpt, mtasts, srv, autoconf, autodiscover })
}

/// A section, or that it took too long.
async fn by<T: Default>(deadline: tokio::time::Instant, section: impl Future<Output = Section<T>>) -> Section<T> {
    tokio::time::timeout_at(deadline, section).await.unwrap_or_else(|_| {
        let mut late = Section::default();
        late.findings.error(format!("this check did not end within {} seconds", PATIENCE.as_secs()));
        late
    })
}

/// A name in DNS as a domain; mail hosts with underscores exist.
fn domain(name: &str) -> Option<Domain> {
    Domain::parse_lax(name).ok()
}
