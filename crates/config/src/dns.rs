//! The DNS records that a domain should have, one by one and as text for a zone file.
//!
//! [`dns_lines`] is the whole file with its comments; [`DnsLine`] tells records from what is only suggested, so that checks can name
//! the record that is missing. Lines of `;; ` are suggestions: records as comments.

use crate::dkim_key::DkimAlgorithm;
use crate::domain::{DkimHash, DomainConfig};
use crate::dynamic::Dynamic;
use crate::fixed::Static;
use crate::transport::Method;
use crate::value::UnicodeDomain;
use base64::Engine as _;
use mox_base::{Domain, Localpart};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

/// What the records are made from.
#[derive(Clone, Copy, Debug)]
pub struct DnsInput<'a> {
    /// Static configuration.
    pub fixed: &'a Static,
    /// Dynamic configuration.
    pub dynamic: &'a Dynamic,
    /// The domain, which must be configured.
    pub domain: &'a Domain,
    /// The public keys of its selectors.
    pub dkim: &'a BTreeMap<UnicodeDomain, DkimPublicKey>,
    /// SHA-256 of the public keys of the listener `public`, for DANE: first ECDSA, then RSA.
    pub host_keys: &'a [[u8; 32]],
    /// Whether the domain's zone is signed, without which DANE records are of no use.
    pub signed: bool,
    /// The URI of our account with the ACME provider, once there is one, RFC 8657 §3.
    pub account_uri: Option<&'a str>,
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsRecord {
    /// Its name, without the dot at the end.
    pub name: String,
    /// Its type and data, as in a zone file: `MX 10 mx.example.org.`
    pub data: String,
}

impl DnsRecord {
    /// Whether it is of a type, as `TXT`.
    pub fn is(&self, kind: &str) -> bool {
        self.data.split(' ').next() == Some(kind)
    }
}

/// The line of a zone file, or several when it is long.
impl fmt::Display for DnsRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}. {}", self.name, self.data)
    }
}

/// A line of a zone file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnsLine {
    /// A comment, or something for the reader of the file; empty between groups.
    Text(String),
    /// A record that the domain should have.
    Record(DnsRecord),
    /// A record that it may have, or that is of no use yet; a comment in the file.
    Suggestion(DnsRecord),
}

impl fmt::Display for DnsLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Record(record) => record.fmt(f),
            Self::Suggestion(record) => write!(f, ";; {record}"),
        }
    }
}

/// A public key as its DNS record has it: for RSA the SubjectPublicKeyInfo, for Ed25519 the key itself, RFC 8463 §3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DkimPublicKey {
    /// The kind.
    pub algorithm: DkimAlgorithm,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// The lines of the zone file as text; none if the domain isn't configured.
pub fn dns_records(input: &DnsInput<'_>) -> Option<Vec<String>> {
    Some(dns_lines(input)?.iter().map(ToString::to_string).collect())
}

/// The lines of the zone file; none if the domain isn't configured.
pub fn dns_lines(input: &DnsInput<'_>) -> Option<Vec<DnsLine>> {
    let config = input.dynamic.domains.get(input.domain)?;
    let mut zone = Zone { lines: Vec::new(), input, config };
    zone.text("; A low TTL while things are new: mistakes are forgotten soon. Raise it later.");
    zone.text("$TTL 300");
    zone.host_records();
    zone.mail_records();
    zone.policies();
    zone.client_records();
    zone.authorities();
    Some(zone.lines)
}

struct Zone<'a> {
    lines: Vec<DnsLine>,
    input: &'a DnsInput<'a>,
    config: &'a DomainConfig,
}

impl Zone<'_> {
    fn domain(&self) -> &str {
        self.input.domain.ascii()
    }

    fn host(&self) -> &str {
        self.input.fixed.hostname.ascii()
    }

    /// The host name in the settings of mail clients.
    fn client_host(&self) -> &str {
        self.config.client_settings_domain.as_ref().map_or_else(|| self.host(), Domain::ascii)
    }

    /// Starts a group of records with what it is for.
    fn about(&mut self, comment: &str) {
        self.text("");
        self.text(&format!("; {comment}"));
    }

    fn text(&mut self, text: &str) {
        self.lines.push(DnsLine::Text(text.to_owned()));
    }

    fn record(&mut self, name: &str, data: &str) {
        self.lines.push(DnsLine::Record(DnsRecord { name: name.to_owned(), data: data.to_owned() }));
    }

    fn suggest(&mut self, name: &str, data: &str) {
        self.lines.push(DnsLine::Suggestion(DnsRecord { name: name.to_owned(), data: data.to_owned() }));
    }

    fn host_records(&mut self) {
        let host = self.host().to_owned();
        if !self.input.host_keys.is_empty() {
            self.about("DANE, RFC 7672: who delivers to this host verifies its certificate by these keys.");
            if !self.input.signed {
                self.text("; The zone doesn't seem to be signed with DNSSEC. Only then are these of use, and harmless.");
            }
            for key in self.input.host_keys {
                let hex: String = key.iter().map(|b| format!("{b:02x}")).collect();
                let (name, data) = (format!("_25._tcp.{host}"), format!("TLSA 3 1 1 {hex}"));
                if self.input.signed { self.record(&name, &data) } else { self.suggest(&name, &data) }
            }
        }
        if host == self.domain() {
            return;
        }
        self.about("For the host itself, which sends DSNs with its name.");
        self.record(&host, "TXT \"v=spf1 a -all\"");
        if let Some(reports) = &self.input.fixed.host_tlsrpt {
            let address = mailto(reports.localpart(), self.input.fixed.hostname.domain());
            self.record(&format!("_smtp._tls.{host}"), &format!("TXT \"v=TLSRPTv1; rua=mailto:{address}\""));
        }
    }

    fn mail_records(&mut self) {
        let (domain, host) = (self.domain().to_owned(), self.host().to_owned());
        self.about("Mail for the domain comes to this host.");
        self.record(&domain, &format!("MX 10 {host}."));
        let input = self.input;
        if let Some(dkim) = &self.config.dkim {
            self.about(
                "Keys that verify DKIM signatures of the domain. Strings in parentheses are one value: join them for a form on the web.",
            );
            for (name, selector) in &dkim.selectors {
                let Some(key) = input.dkim.get(name) else { continue };
                let record = dkim_txt(selector.hash(), key);
                self.record(&format!("{}._domainkey.{domain}", name.ascii()), &format!("TXT {}", strings(&record)));
            }
        }
        self.about("SPF: mail from the domain comes from these addresses.");
        let ips: String =
            sending_ips(self.input.fixed).iter().map(|ip| format!("{}:{ip} ", if ip.is_ipv4() { "ip4" } else { "ip6" })).collect();
        self.record(&domain, &format!("TXT \"v=spf1 {ips}mx ~all\""));
        self.about("DMARC: mail with the domain in From that neither DKIM nor SPF verifies should be rejected.");
        let reports = self.config.dmarc.as_ref().map(|r| format!(";rua=mailto:{}!10m", self.report(r)));
        self.record(&format!("_dmarc.{domain}"), &format!("TXT \"v=DMARC1;p=reject{}\"", reports.unwrap_or_default()));
    }

    fn report(&self, report: &crate::domain::ReportAddress) -> String {
        mailto(report.localpart(), report.domain.as_ref().unwrap_or(self.input.domain))
    }

    fn policies(&mut self) {
        let (domain, host) = (self.domain().to_owned(), self.host().to_owned());
        match &self.config.mtasts {
            Some(policy) => {
                let id = policy.policy_id.clone();
                self.about("MTA-STS, RFC 8461: others deliver with verified TLS.");
                self.record(&format!("mta-sts.{domain}"), &format!("CNAME {host}."));
                self.record(&format!("_mta-sts.{domain}"), &format!("TXT \"v=STSv1; id={id}\""));
            }
            None => self.about("No MTA-STS: the domain has no MTASTS in domains.conf."),
        }
        if let Some(reports) = &self.config.tlsrpt {
            let address = self.report(reports);
            self.about("Where others report about TLS when delivering to the domain.");
            self.record(&format!("_smtp._tls.{domain}"), &format!("TXT \"v=TLSRPTv1; rua=mailto:{address}\""));
        }
    }

    fn client_records(&mut self) {
        let (domain, host, client) = (self.domain().to_owned(), self.host().to_owned(), self.client_host().to_owned());
        if client != host {
            self.about("Host name in the settings of mail clients.");
            self.record(&client, &format!("CNAME {host}."));
        }
        self.about("Mail clients find their settings.");
        self.record(&format!("autoconfig.{domain}"), &format!("CNAME {host}."));
        self.record(&format!("_autodiscover._tcp.{domain}"), &format!("SRV 0 1 443 {host}."));
        self.about("Mail clients find their servers, RFC 6186 and RFC 8314.");
        self.record(&format!("_imaps._tcp.{domain}"), &format!("SRV 0 1 993 {client}."));
        self.record(&format!("_submissions._tcp.{domain}"), &format!("SRV 0 1 465 {client}."));
        self.about("Optional: protocols that are not offered.");
        for service in ["_imap", "_submission", "_pop3", "_pop3s"] {
            self.record(&format!("{service}._tcp.{domain}"), "SRV 0 0 0 .");
        }
    }

    /// Who may issue certificates, RFC 8659.
    fn authorities(&mut self) {
        let domain = self.domain().to_owned();
        let tls = self.input.fixed.listeners.get("public").and_then(|l| l.tls.as_ref());
        let Some(acme) = tls.and_then(|tls| self.input.fixed.acme.get(&tls.acme)) else { return };
        let issuer = match (acme.issuer_domain_name.as_str(), acme.directory_url.as_str()) {
            ("", "https://acme-v02.api.letsencrypt.org/directory") => "letsencrypt.org",
            ("", _) => return,
            (issuer, _) => issuer,
        };
        let issuer = issuer.to_owned();
        self.about("Optional: only this authority issues certificates for the domain, RFC 8659.");
        self.record(&domain, &format!("CAA 0 issue \"{issuer}\""));
        let Some(uri) = self.input.account_uri else {
            self.text(
                "; Once there is an account with the authority, records that limit certificates to this account will be suggested here.",
            );
            return;
        };
        self.text("; Or, closer: only for our account with it, RFC 8657. Replace the record above, and add those for the other names.");
        let (host, client) = (self.host().to_owned(), self.client_host().to_owned());
        let mut names = vec![domain.clone(), format!("autoconfig.{domain}"), format!("mta-sts.{domain}")];
        names.extend((client != host).then_some(client));
        names.extend(host.ends_with(&format!(".{domain}")).then_some(host));
        for name in names {
            self.suggest(&name, &format!("CAA 0 issue \"{issuer}; accounturi={uri}; validationmethods=tls-alpn-01,http-01\""));
        }
        self.text("; No certificates with wildcards, which mox doesn't use, and where authorities tell of requests they refused.");
        self.suggest(&domain, "CAA 0 issuewild \";\"");
        self.suggest(&domain, &format!("CAA 0 iodef \"mailto:postmaster@{domain}\""));
    }
}

/// Addresses from which others see us connect, as far as the configuration has them.
pub fn sending_ips(fixed: &Static) -> BTreeSet<IpAddr> {
    let nated = fixed.listeners.values().any(|l| l.ips_nated || !l.nat_ips.is_empty());
    let listeners = fixed.listeners.values().filter(|l| l.enabled_smtp().is_some() && !l.ips_nated);
    let own = listeners.flat_map(|l| if l.nat_ips.is_empty() { &l.ips } else { &l.nat_ips });
    let proxies = fixed.transports.values().filter_map(|transport| match transport.method() {
        Method::Socks(socks) => Some(&socks.remote_ips),
        // Behind NAT these are addresses that nobody else sees.
        Method::Direct(direct) if !nated => Some(&direct.outgoing_ips),
        _ => None,
    });
    let outgoing = fixed.outgoing_ips.iter().filter(|_| !nated);
    own.chain(outgoing).chain(proxies.flatten()).copied().filter(|ip| !ip.is_unspecified()).collect()
}

/// The record of a DKIM key, RFC 6376 §3.6.1.
fn dkim_txt(hash: DkimHash, key: &DkimPublicKey) -> String {
    let kind = if key.algorithm == DkimAlgorithm::Ed25519 { "k=ed25519;" } else { "" };
    let public = base64::engine::general_purpose::STANDARD.encode(&key.bytes);
    format!("v=DKIM1;h={};{kind}p={public}", hash.name())
}

/// A text as strings of a TXT record, each at most 100 bytes: providers' forms and old tools fail with longer ones.
fn strings(ascii: &str) -> String {
    if ascii.len() <= 100 {
        return format!("\"{ascii}\"");
    }
    let chunks: Vec<_> = ascii.as_bytes().chunks(100).map(|chunk| format!("\n\t\"{}\"", String::from_utf8_lossy(chunk))).collect();
    format!("({}\n\t)", chunks.concat())
}

/// An address in a mailto URL, RFC 6068 §2, in which records separate addresses with commas and sizes with `!`.
fn mailto(localpart: &Localpart, domain: &Domain) -> String {
    let mut out = String::new();
    for byte in localpart.to_string().bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~+$'*=&".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    format!("{out}@{}", domain.ascii())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sconf;

    const STATIC: &str = "DataDir: ../data\nLogLevel: info\nHostname: mx.example.org\nACME:\n\tle:\n\t\tDirectoryURL: https://acme-v02.api.letsencrypt.org/directory\n\t\tContactEmail: x@example.org\nListeners:\n\tpublic:\n\t\tIPs:\n\t\t\t- 0.0.0.0\n\t\t\t- 2001:db8::1\n\t\tSMTP:\n\t\t\tEnabled: true\n\t\tTLS:\n\t\t\tACME: le\nPostmaster:\n\tAccount: ann\n\tMailbox: Postmaster\nHostTLSRPT:\n\tAccount: ann\n\tMailbox: TLSRPT\n\tLocalpart: tls-reports\nTransports:\n\tp:\n\t\tSocks:\n\t\t\tAddress: 127.0.0.1:1080\n\t\t\tRemoteIPs:\n\t\t\t\t- 198.51.100.7\n\t\t\tRemoteHostname: p.example.org\n";
    const DYNAMIC: &str = "Domains:\n\texample.org:\n\t\tClientSettingsDomain: mail.example.org\n\t\tDMARC:\n\t\t\tLocalpart: dmarc,reports\n\t\t\tAccount: ann\n\t\t\tMailbox: DMARC\n\t\tMTASTS:\n\t\t\tPolicyID: 20260101T000000\n\t\t\tMode: enforce\n\t\t\tMaxAge: 24h0m0s\n\t\tDKIM:\n\t\t\tSelectors:\n\t\t\t\ta:\n\t\t\t\t\tPrivateKeyFile: a.pem\n\t\t\t\tb:\n\t\t\t\t\tPrivateKeyFile: b.pem\nAccounts:\n";

    #[test]
    fn addresses_that_mail_is_sent_from() {
        let more = "OutgoingIPs:\n\t- 198.51.100.9\nTransports:\n\tq:\n\t\tDirect:\n\t\t\tOutgoingIPs:\n\t\t\t\t- 198.51.100.10\n";
        let text = STATIC.replace("Transports:\n", more);
        let show = |text: &str| {
            let fixed: Static = sconf::parse("mox.conf", text.as_bytes()).unwrap().value;
            sending_ips(&fixed).iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(show(&text), "198.51.100.7 198.51.100.9 198.51.100.10 2001:db8::1");
        // Behind NAT, ours say nothing to others.
        assert_eq!(show(&text.replace("\t\tSMTP:\n", "\t\tNATIPs:\n\t\t\t- 192.0.2.5\n\t\tSMTP:\n")), "192.0.2.5 198.51.100.7");
    }

    #[test]
    fn a_zone() {
        // A comma isn't part of a dot-atom.
        let dynamic = DYNAMIC.replace("dmarc,reports", "\"dmarc,reports\"");
        let fixed: Static = sconf::parse("mox.conf", STATIC.as_bytes()).unwrap().value;
        let dynamic: Dynamic = sconf::parse("domains.conf", dynamic.as_bytes()).unwrap().value;
        let domain = Domain::parse("example.org").unwrap();
        let key = |algorithm, len| DkimPublicKey { algorithm, bytes: vec![0; len] };
        let name = |text: &str| UnicodeDomain::from(Domain::parse(text).unwrap());
        let dkim = BTreeMap::from([(name("a"), key(DkimAlgorithm::Ed25519, 32)), (name("b"), key(DkimAlgorithm::Rsa { bits: 1024 }, 90))]);
        let input = DnsInput {
            fixed: &fixed,
            dynamic: &dynamic,
            domain: &domain,
            dkim: &dkim,
            host_keys: &[[0xab; 32]],
            signed: false,
            account_uri: None,
        };
        let records: Vec<String> =
            dns_records(&input).unwrap().into_iter().filter(|l| !l.is_empty() && !l.starts_with("; ") && !l.starts_with(";; ")).collect();
        assert_eq!(
            records,
            [
                "$TTL 300",
                "mx.example.org. TXT \"v=spf1 a -all\"",
                "_smtp._tls.mx.example.org. TXT \"v=TLSRPTv1; rua=mailto:tls-reports@mx.example.org\"",
                "example.org. MX 10 mx.example.org.",
                "a._domainkey.example.org. TXT \"v=DKIM1;h=sha256;k=ed25519;p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\"",
                "b._domainkey.example.org. TXT (\n\t\"v=DKIM1;h=sha256;p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"\n\t\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"\n\t)",
                "example.org. TXT \"v=spf1 ip4:198.51.100.7 ip6:2001:db8::1 mx ~all\"",
                "_dmarc.example.org. TXT \"v=DMARC1;p=reject;rua=mailto:%22dmarc%2Creports%22@example.org!10m\"",
                "mta-sts.example.org. CNAME mx.example.org.",
                "_mta-sts.example.org. TXT \"v=STSv1; id=20260101T000000\"",
                "mail.example.org. CNAME mx.example.org.",
                "autoconfig.example.org. CNAME mx.example.org.",
                "_autodiscover._tcp.example.org. SRV 0 1 443 mx.example.org.",
                "_imaps._tcp.example.org. SRV 0 1 993 mail.example.org.",
                "_submissions._tcp.example.org. SRV 0 1 465 mail.example.org.",
                "_imap._tcp.example.org. SRV 0 0 0 .",
                "_submission._tcp.example.org. SRV 0 0 0 .",
                "_pop3._tcp.example.org. SRV 0 0 0 .",
                "_pop3s._tcp.example.org. SRV 0 0 0 .",
                "example.org. CAA 0 issue \"letsencrypt.org\"",
            ]
        );
        let suggested = |input: &DnsInput<'_>| -> Vec<String> {
            let lines = dns_lines(input).unwrap();
            lines.iter().filter(|l| matches!(l, DnsLine::Suggestion(_))).map(ToString::to_string).collect()
        };
        let dane = format!(";; _25._tcp.mx.example.org. TLSA 3 1 1 {}", "ab".repeat(32));
        assert_eq!(suggested(&input), [dane.as_str()]);
        let uri = "https://ca.example/acct/1";
        let caa =
            |name: &str| format!(";; {name}. CAA 0 issue \"letsencrypt.org; accounturi={uri}; validationmethods=tls-alpn-01,http-01\"");
        assert_eq!(
            suggested(&DnsInput { account_uri: Some(uri), ..input }),
            [
                dane,
                caa("example.org"),
                caa("autoconfig.example.org"),
                caa("mta-sts.example.org"),
                caa("mail.example.org"),
                caa("mx.example.org"),
                ";; example.org. CAA 0 issuewild \";\"".to_owned(),
                ";; example.org. CAA 0 iodef \"mailto:postmaster@example.org\"".to_owned(),
            ]
        );
        let signed = dns_records(&DnsInput { signed: true, ..input }).unwrap();
        assert!(signed.iter().any(|line| line.starts_with("_25._tcp.mx.example.org. TLSA 3 1 1 abab")));
        let other = Domain::parse("other.example").unwrap();
        assert_eq!(dns_records(&DnsInput { domain: &other, ..input }), None);
    }
}
