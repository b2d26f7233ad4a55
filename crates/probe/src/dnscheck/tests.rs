//! The check against a small world: zones in memory, and mail and web hosts that speak just enough.
//!
//! The zone is made of the records that `config dnsrecords` prints: published as they are, nothing is to be found. Then one thing
//! after the other is changed.

use super::{Ports, Report, check};
use mox_base::{Domain, RecordKind, Srv, Timestamp};
use mox_base::{Record, Tlsa};
use mox_config::{DkimAlgorithm, DkimPublicKey, DnsInput, DnsLine, DnsRecord, Dynamic, Static, UnicodeDomain, dns_lines, sconf};
use mox_delivery::tls::WebPolicies;
use mox_net::http::{AddressGuard, Client};
use mox_net::memory::World;
use mox_net::tls::{Certificates, KeyCert, ServerTlsOptions, read_roots};
use mox_net::{ClientTls, Listener, ServerTls, Stream};
use mox_testkit::{SeededRandom, VirtualClock, Zone};
use rcgen::{CertificateParams, KeyPair};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::task::JoinSet;

const STATIC: &str = "DataDir: ../data
LogLevel: info
Hostname: mx.example.org
Listeners:
	public:
		IPs:
			- 192.0.2.1
			- 2001:db8::1
		SMTP:
			Enabled: true
		Submissions:
			Enabled: true
		IMAPS:
			Enabled: true
		TLS:
			ACME: le
Postmaster:
	Account: ann
	Mailbox: Postmaster
HostTLSRPT:
	Account: ann
	Mailbox: TLSRPT
	Localpart: tls-reports
Transports:
	p:
		Socks:
			Address: 127.0.0.1:1080
			RemoteIPs:
				- 198.51.100.7
			RemoteHostname: p.example.net
";

const DYNAMIC: &str = "Domains:
	example.org:
		ClientSettingsDomain: mail.example.org
		DMARC:
			Localpart: dmarc-reports
			Account: ann
			Mailbox: DMARC
		TLSRPT:
			Localpart: tls-reports
			Account: ann
			Mailbox: TLSRPT
		MTASTS:
			PolicyID: 20260101T000000
			Mode: enforce
			MaxAge: 672h0m0s
		DKIM:
			Selectors:
				a:
					PrivateKeyFile: a.pem
				b:
					PrivateKeyFile: b.pem
Accounts:
";

const POLICY: &str = "version: STSv1\nmode: enforce\nmax_age: 2419200\nmx: mx.example.org\n";

/// A configuration, and what is published and served.
struct Scene {
    fixed: String,
    dynamic: String,
    records: Vec<DnsRecord>,
    policy: String,
    /// Names in the certificate of mail and web hosts.
    names: Vec<String>,
    /// The addresses at which something listens.
    listening: Vec<&'static str>,
    starttls: bool,
    /// Whether mail hosts say nothing.
    silent: bool,
    ptr: Vec<(&'static str, &'static str)>,
    /// What isn't signed, and what fails.
    zone: fn(Zone) -> Zone,
    host_keys: Vec<[u8; 32]>,
    interfaces: Vec<&'static str>,
}

impl Scene {
    fn new() -> Self {
        Self::of(STATIC.to_owned(), DYNAMIC.to_owned())
    }

    /// All is published that is suggested.
    fn of(fixed: String, dynamic: String) -> Self {
        let host_keys = vec![[0xab; 32]];
        let mut scene = Self {
            fixed,
            dynamic,
            records: Vec::new(),
            policy: POLICY.to_owned(),
            names: ["mx.example.org", "autoconfig.example.org", "mta-sts.example.org"].map(str::to_owned).to_vec(),
            listening: vec!["192.0.2.1:25", "[2001:db8::1]:25", "192.0.2.1:443", "[2001:db8::1]:443"],
            starttls: true,
            silent: false,
            ptr: vec![("192.0.2.1", "mx.example.org"), ("2001:db8::1", "mx.example.org"), ("198.51.100.7", "p.example.net")],
            zone: |zone| zone,
            host_keys,
            interfaces: Vec::new(),
        };
        scene.records = scene.with_input(|input| {
            let lines = dns_lines(&DnsInput { signed: true, ..*input }).unwrap();
            lines.into_iter().filter_map(|line| if let DnsLine::Record(record) = line { Some(record) } else { None }).collect()
        });
        for (name, data) in [("mx.example.org", "A 192.0.2.1"), ("mx.example.org", "AAAA 2001:db8::1")] {
            scene.records.push(DnsRecord { name: name.to_owned(), data: data.to_owned() });
        }
        scene
    }

    fn with_input<T>(&self, f: impl FnOnce(&DnsInput<'_>) -> T) -> T {
        let fixed: Static = sconf::parse("mox.conf", self.fixed.as_bytes()).unwrap().value;
        let dynamic: Dynamic = sconf::parse("domains.conf", self.dynamic.as_bytes()).unwrap().value;
        f(&input(&fixed, &dynamic, &keys(), &self.host_keys))
    }

    /// Puts records in the place of those at a name of a type.
    fn publish(mut self, name: &str, kind: &str, data: &[&str]) -> Self {
        let before = self.records.len();
        self.records.retain(|record| record.name != name || !record.is(kind));
        assert!(self.records.len() < before || !data.is_empty(), "nothing of type {kind} at {name}");
        self.records.extend(data.iter().map(|data| DnsRecord { name: name.to_owned(), data: (*data).to_owned() }));
        self
    }

    fn zone(&self) -> Zone {
        let mut zone = Zone::new().with("com", RecordKind::Ns, Record::Ns("a.gtld-servers.net".to_owned())).signed();
        for (ip, name) in &self.ptr {
            zone = zone.ptr(ip, name);
        }
        (self.zone)(self.records.iter().fold(zone, with_record))
    }

    async fn report(&self) -> Report {
        let folder = tempfile::tempdir().unwrap();
        let (server, tls) = certificate(&self.names, folder.path());
        let world = World::new();
        let mut serving = JoinSet::new();
        for address in &self.listening {
            let listener = world.listen(address.parse().unwrap());
            if address.ends_with(":25") && self.silent {
                serving.spawn(silent_host(listener));
            } else if address.ends_with(":25") {
                serving.spawn(mail_host(listener, server.clone(), self.starttls));
            } else {
                serving.spawn(web_host(listener, server.clone(), self.policy.clone()));
            }
        }
        let (lookup, dial) = (Arc::new(self.zone()), Arc::new(world));
        let guard = AddressGuard::public_and(["192.0.2.0/24", "2001:db8::/32"].iter().map(|range| range.parse().unwrap()).collect());
        let client = Client::new(lookup.clone(), dial.clone(), tls.clone(), guard);
        let ports = Ports {
            lookup,
            dial,
            tls,
            policies: Arc::new(WebPolicies::new(client)),
            clock: Arc::new(VirtualClock::at(Timestamp::EPOCH)),
            random: Arc::new(SeededRandom::default()),
            interfaces: self.interfaces.iter().map(|ip| ip.parse().unwrap()).collect(),
        };
        let fixed: Static = sconf::parse("mox.conf", self.fixed.as_bytes()).unwrap().value;
        let dynamic: Dynamic = sconf::parse("domains.conf", self.dynamic.as_bytes()).unwrap().value;
        check(&ports, &input(&fixed, &dynamic, &keys(), &self.host_keys)).await.unwrap()
    }

    /// What is found, a line each.
    async fn found(&self) -> Vec<String> {
        let report = self.report().await;
        let mut lines = Vec::new();
        for (name, findings) in report.sections() {
            lines.extend(findings.errors.iter().map(|text| format!("{name} error: {text}")));
            lines.extend(findings.warnings.iter().map(|text| format!("{name} warning: {text}")));
        }
        lines
    }

    /// That just this is found; of each line, a part.
    async fn finds(&self, want: &[&str]) {
        let found = self.found().await;
        let matches = found.len() == want.len() && found.iter().zip(want).all(|(line, part)| line.contains(part));
        assert!(matches, "wanted {want:#?}, found {found:#?}");
    }
}

fn keys() -> BTreeMap<UnicodeDomain, DkimPublicKey> {
    let key = |algorithm, bytes| DkimPublicKey { algorithm, bytes };
    let name = |text: &str| UnicodeDomain::from(Domain::parse(text).unwrap());
    BTreeMap::from([
        (name("a"), key(DkimAlgorithm::Ed25519, vec![1; 32])),
        (name("b"), key(DkimAlgorithm::Rsa { bits: 2048 }, vec![2; 270])),
    ])
}

fn input<'a>(
    fixed: &'a Static,
    dynamic: &'a Dynamic,
    dkim: &'a BTreeMap<UnicodeDomain, DkimPublicKey>,
    host_keys: &'a [[u8; 32]],
) -> DnsInput<'a> {
    let domain = dynamic.domains.keys().next().unwrap().domain();
    DnsInput { fixed, dynamic, domain, dkim, host_keys, signed: false, account_uri: None }
}

/// Reads a record as an operator's zone file has it.
fn with_record(zone: Zone, record: &DnsRecord) -> Zone {
    let (kind, data) = record.data.split_once(' ').unwrap();
    let words: Vec<&str> = data.split_whitespace().collect();
    let name = &record.name;
    match kind {
        "A" => zone.a(name, data),
        "AAAA" => zone.aaaa(name, data),
        "CNAME" => zone.cname(name, data),
        "MX" => zone.mx(name, words[0].parse().unwrap(), words[1]),
        "TXT" => zone.txt(name, &data.split('"').skip(1).step_by(2).collect::<String>()),
        "SRV" => {
            let number = |n: usize| words[n].parse().unwrap();
            let target = words[3].trim_end_matches('.').to_owned();
            zone.with(name, RecordKind::Srv, Record::Srv(Srv { priority: number(0), weight: number(1), port: number(2), target }))
        }
        "TLSA" => zone.tlsa(name, mox_mailauth::dane::parse(data).unwrap()),
        "CAA" => zone,
        other => panic!("record type {other}"),
    }
}

/// A certificate for names, and clients that trust it.
fn certificate(names: &[String], folder: &std::path::Path) -> (ServerTls, ClientTls) {
    let key = KeyPair::generate().unwrap();
    let cert = CertificateParams::new(names.to_vec()).unwrap().self_signed(&key).unwrap();
    let file = folder.join("ca.pem");
    std::fs::write(&file, cert.pem()).unwrap();
    let client = ClientTls::verified(read_roots(false, &[file]).unwrap()).unwrap();
    let cert = KeyCert::from_pem(cert.pem().as_bytes(), key.serialize_pem().as_bytes()).unwrap();
    let server = ServerTls::new(Arc::new(Certificates::new(vec![cert]).unwrap()), ServerTlsOptions::default()).unwrap();
    (server, client)
}

async fn mail_host(mut listener: Listener, tls: ServerTls, starttls: bool) {
    while let Ok(stream) = listener.accept().await {
        // A client that goes away is none of the host's business.
        drop(mail_session(stream, &tls, starttls).await);
    }
}

async fn silent_host(mut listener: Listener) {
    let mut sessions = Vec::new();
    while let Ok(stream) = listener.accept().await {
        sessions.push(stream);
    }
}

async fn mail_session(stream: Stream, tls: &ServerTls, starttls: bool) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    stream.get_mut().write_all(b"220 mx.example.org ESMTP\r\n").await?;
    let mut line = String::new();
    while stream.read_line(&mut line).await? > 0 {
        let reply: &[u8] = match line.trim_end() {
            "EHLO mx.example.org" if starttls && stream.get_ref().tls().is_none() => b"250-mx.example.org\r\n250 STARTTLS\r\n",
            "EHLO mx.example.org" => b"250 mx.example.org\r\n",
            "STARTTLS" if starttls => {
                stream.get_mut().write_all(b"220 go on\r\n").await?;
                if stream.get_mut().start_tls(tls, &[]).await.is_err() {
                    return Ok(());
                }
                line.clear();
                continue;
            }
            _ => b"502 what?\r\n",
        };
        stream.get_mut().write_all(reply).await?;
        stream.get_mut().flush().await?;
        line.clear();
    }
    Ok(())
}

async fn web_host(mut listener: Listener, tls: ServerTls, policy: String) {
    let mut sessions = JoinSet::new();
    while let Ok(mut stream) = listener.accept().await {
        let (tls, policy) = (tls.clone(), policy.clone());
        sessions.spawn(async move {
            if stream.start_tls(&tls, &[]).await.is_err() {
                return;
            }
            let mut request = [0; 4096];
            if !matches!(stream.read(&mut request).await, Ok(n) if n > 0) {
                return;
            }
            let status = if policy.is_empty() { "404 No" } else { "200 OK" };
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{policy}", policy.len());
            // The client may have gone.
            drop(stream.write_all(answer.as_bytes()).await);
            stream.close().await;
        });
    }
}

#[tokio::test]
async fn what_is_published_as_suggested_is_right() {
    let report = Scene::new().report().await;
    for (name, findings) in report.sections() {
        assert!(findings.is_ok(), "{name}: {findings:?}");
        assert!(!findings.instructions.is_empty(), "{name}");
    }
    assert_eq!(report.iprev.data.names.len(), 3);
    assert_eq!(report.mx.data[0].ips.len(), 2);
    assert_eq!(report.spf.data.host.as_ref().unwrap().0, "v=spf1 a -all");
    assert_eq!(report.dkim.data.iter().filter(|key| key.record.is_some()).count(), 2);
    assert_eq!(report.dmarc.data.domain, "example.org");
    assert_eq!(report.mtasts.data.policy.as_ref().unwrap().0, POLICY);
    assert_eq!(report.srv.data.len(), 6);
    assert_eq!(report.autodiscover.data[0].1.len(), 2);
}

#[tokio::test]
async fn a_domain_that_is_the_host_is_right_too() {
    let fixed = STATIC.replace("mx.example.org", "example.org");
    let dynamic = DYNAMIC.replace("\t\tClientSettingsDomain: mail.example.org\n", "");
    let mut scene = Scene::of(fixed, dynamic);
    scene.records.retain(|record| record.name != "mx.example.org");
    for data in ["A 192.0.2.1", "AAAA 2001:db8::1"] {
        scene.records.push(DnsRecord { name: "example.org".to_owned(), data: data.to_owned() });
    }
    scene.names.push("example.org".to_owned());
    scene.policy = scene.policy.replace("mx.example.org", "example.org");
    scene.ptr = vec![("192.0.2.1", "example.org"), ("2001:db8::1", "example.org"), ("198.51.100.7", "p.example.net")];
    // The hosts here know the client by its name.
    scene.listening.retain(|address| !address.ends_with(":25"));
    scene.finds(&["TLS error: STARTTLS at mail host example.org, address 192.0.2.1: connecting", "address 2001:db8::1"]).await;
}

#[tokio::test]
async fn nothing_is_published() {
    let mut scene = Scene::new();
    scene.records.clear();
    scene.ptr.clear();
    let report = scene.report().await;
    for (name, findings) in report.sections() {
        // Without mail hosts there is nothing to connect to.
        assert_eq!(findings.errors.is_empty(), matches!(name, "DNSSEC" | "TLS"), "{name}: {findings:?}");
        assert!(!findings.instructions.is_empty(), "{name}");
    }
}

#[tokio::test]
async fn dnssec() {
    let mut scene = Scene::new();
    scene.zone = |zone| zone.insecure("example.org");
    scene
        .finds(&[
            "DNSSEC warning: example.org is not signed with DNSSEC",
            "DANE error: the TLSA records at _25._tcp.mx.example.org are not signed with DNSSEC",
            "DANE warning: the MX records of example.org are not signed",
        ])
        .await;
    scene.zone = |zone| zone.insecure("com").insecure("example.org");
    let found = scene.found().await;
    assert!(found[0].starts_with("DNSSEC warning: the name servers that this machine asks"), "{found:?}");
    scene.zone = |zone| zone.temporary("com", None);
    scene.finds(&["DNSSEC error: looking up the name servers of com."]).await;
}

#[tokio::test]
async fn reverse_names() {
    let mut scene = Scene::new();
    scene.ptr[0] = ("192.0.2.1", "other.example.org");
    scene.finds(&["IPRev warning: address 192.0.2.1 is called other.example.org, not mx.example.org"]).await;
    scene.ptr[0] = ("192.0.2.1", "bad name");
    scene.finds(&["IPRev error: the name of address 192.0.2.1, \"bad name\", is no valid", "IPRev warning"]).await;
    scene.ptr.remove(0);
    scene.finds(&["IPRev error: looking up the name of address 192.0.2.1"]).await;
    // Behind a translation, names of addresses are somebody else's.
    let fixed = STATIC
        .replace("\t\tSMTP:", "\t\tNATIPs:\n\t\t\t- 192.0.2.1\n\t\t\t- 2001:db8::1\n\t\tSMTP:")
        .replace("- 192.0.2.1\n\t\t\t- 2001:db8::1\n\t\tNAT", "- 10.0.0.1\n\t\tNAT");
    let mut scene = Scene::of(fixed, DYNAMIC.to_owned());
    scene.ptr[0] = ("192.0.2.1", "other.example.org");
    scene.finds(&[]).await;
    let scene = Scene::new().publish("mx.example.org", "A", &["A 192.0.2.1", "A 127.0.1.1"]);
    let found = scene.found().await;
    assert!(found[0].starts_with("IPRev error: mx.example.org leads to this machine's loopback address"), "{found:?}");
}

#[tokio::test]
async fn mail_hosts() {
    let scene = Scene::new().publish("example.org", "MX", &["MX 0 ."]);
    let found = scene.found().await;
    assert!(found.iter().any(|line| line.contains("MX error: example.org has the MX record \".\"")), "{found:?}");
    let scene = Scene::new().publish("mx.example.org", "A", &["A 192.0.2.9"]);
    let found = scene.found().await;
    let want = "MX error: mail host mx.example.org leads to other machines: not all of its addresses are ours; not ours: 192.0.2.9; ours: 192.0.2.1, 2001:db8::1";
    assert!(found.iter().any(|line| line == want), "{found:?}");
    let scene = Scene::new().publish("example.org", "MX", &["MX 10 mx.example.org.", "MX 20 gone.example.org."]);
    scene
        .finds(&[
            "MX error: looking up the addresses of mail host gone.example.org: no such record",
            "MTASTS warning: the MTA-STS policy doesn't allow the mail host gone.example.org",
        ])
        .await;
    // Listening on all addresses means those of the machine.
    let fixed = STATIC.replace("- 192.0.2.1", "- 0.0.0.0");
    let mut scene =
        Scene::of(fixed, DYNAMIC.to_owned()).publish("example.org", "TXT", &["TXT \"v=spf1 ip6:2001:db8::1 ip4:198.51.100.7 -all\""]);
    scene.interfaces = vec!["192.0.2.1", "10.0.0.1", "2001:db8::77"];
    scene.finds(&[]).await;
    scene.interfaces = vec!["10.0.0.1"];
    let found = scene.found().await;
    assert!(found[0].contains("not all of its addresses are ours; not ours: 192.0.2.1; ours: 10.0.0.1, 2001:db8::1"), "{found:?}");
}

#[tokio::test]
async fn tls_of_mail_hosts() {
    let mut scene = Scene::new();
    scene.starttls = false;
    scene
        .finds(&["TLS error: STARTTLS at mail host mx.example.org, address 192.0.2.1: starttls: ", "address 2001:db8::1: starttls: "])
        .await;
    let mut scene = Scene::new();
    scene.listening.remove(0);
    scene.finds(&["TLS error: STARTTLS at mail host mx.example.org, address 192.0.2.1: connecting: "]).await;
    let mut scene = Scene::new();
    scene.names.remove(0);
    let found = scene.found().await;
    assert_eq!(found.iter().filter(|line| line.starts_with("TLS error") && line.contains("certificate")).count(), 2, "{found:?}");
}

#[tokio::test(start_paused = true)]
async fn a_mail_host_that_says_nothing_holds_nothing_up() {
    let mut scene = Scene::new();
    scene.silent = true;
    let before = tokio::time::Instant::now();
    scene.finds(&["TLS error: STARTTLS at mail host mx.example.org, address 192.0.2.1: ", "address 2001:db8::1: "]).await;
    assert!(before.elapsed() < super::PATIENCE);
}

#[tokio::test]
async fn tlsa_records() {
    let name = "_25._tcp.mx.example.org";
    let mut scene = Scene::new().publish(name, "TLSA", &[]);
    scene.finds(&["DANE error: mail host mx.example.org has no TLSA records at _25._tcp.mx.example.org"]).await;
    scene.host_keys.clear();
    scene.finds(&["DANE warning: the listener public in mox.conf has no HostPrivateKeyFiles"]).await;
    let other = Tlsa { usage: 3, selector: 1, matching: 1, data: vec![0xcd; 32] };
    let data = format!("TLSA {}", mox_mailauth::dane::text(&other));
    let scene = Scene::new().publish(name, "TLSA", &[&data]);
    scene
        .finds(&[
            "DANE error: missing TLSA record at _25._tcp.mx.example.org: 3 1 1 abab",
            "that is for none of this machine's keys: 3 1 1 cdcd",
        ])
        .await;
    let mut scene = Scene::new();
    scene.zone = |zone| zone.bogus("_25._tcp.mx.example.org", Some(RecordKind::Tlsa));
    scene.finds(&["DANE error: looking up the TLSA records at _25._tcp.mx.example.org: DNSSEC validation failed"]).await;
}

/// A host of somebody else, whose keys we don't have: it shows its certificate.
#[tokio::test]
async fn tlsa_records_of_other_hosts() {
    let host = "backup.example.net";
    let scene = |data: &[&str]| {
        let mut scene = Scene::new()
            .publish("example.org", "MX", &["MX 10 mx.example.org.", "MX 20 backup.example.net."])
            .publish(host, "A", &["A 192.0.2.9"])
            .publish(&format!("_25._tcp.{host}"), "TLSA", data);
        scene.listening.push("192.0.2.9:25");
        scene.names.push(host.to_owned());
        scene.policy = format!("{POLICY}mx: {host}\n");
        scene
    };
    let about_dane =
        async |scene: Scene| -> Vec<String> { scene.found().await.into_iter().filter(|line| line.starts_with("DANE")).collect() };
    let wrong = format!("TLSA 3 1 1 {}", "cd".repeat(32));
    let found = about_dane(scene(&[&wrong])).await;
    let [found] = found.as_slice() else { panic!("{found:?}") };
    let starts = "DANE error: the certificate of mail host backup.example.net, address 192.0.2.9: ";
    assert!(found.starts_with(starts) && found.ends_with("its TLSA records at _25._tcp.backup.example.net"), "{found}");
    // Usages that SMTP doesn't have say nothing, RFC 7672 §2.2.
    assert!(about_dane(scene(&[&wrong.replace("3 1 1", "1 1 1")])).await.is_empty());
    let mut unencrypted = scene(&[&wrong]);
    unencrypted.starttls = false;
    let found = about_dane(unencrypted).await;
    assert!(found.len() == 1 && found[0].contains("mail host backup.example.net, address 192.0.2.9: starttls"), "{found:?}");
}

#[tokio::test]
async fn spf() {
    let scene = Scene::new().publish("example.org", "TXT", &["TXT \"v=spf1 mx -all\""]);
    scene.finds(&["SPF error: mail of example.org from our address 198.51.100.7 would get the SPF result fail (-all), not pass"]).await;
    let scene = Scene::new().publish("example.org", "TXT", &["TXT \"v=spf1 ~all\"", "TXT \"v=spf1 mx ~all\""]);
    scene.finds(&["SPF error: example.org has several SPF records"]).await;
    let scene = Scene::new().publish("example.org", "TXT", &["TXT \"v=spf1 ipv4:1 ~all\""]);
    scene.finds(&["SPF error: the SPF record of example.org can't be understood"]).await;
    let scene = Scene::new().publish("mx.example.org", "TXT", &[]);
    scene.finds(&["SPF error: mx.example.org has no SPF record"]).await;
    let fixed = STATIC.replace("- 192.0.2.1\n\t\t\t- 2001:db8::1", "- 0.0.0.0\n\t\t\t- ::").split("Transports:").next().unwrap().to_owned();
    let mut scene = Scene::of(fixed, DYNAMIC.to_owned());
    scene.interfaces = vec!["192.0.2.1", "2001:db8::1"];
    scene.finds(&["SPF warning: mox.conf names no addresses that mail is sent from"]).await;
}

#[tokio::test]
async fn dkim() {
    let name = "a._domainkey.example.org";
    Scene::new().publish(name, "TXT", &[]).finds(&["DKIM error: the DKIM key at a._domainkey.example.org: no dkim key record"]).await;
    for (text, want) in [
        ("v=DKIM1;k=ed25519;p=", "is revoked"),
        ("v=DKIM1;k=ed25519;p=AAAA", "is another one"),
        ("v=DKIM1;k=ed25519;p=?", "bad dkim key record"),
    ] {
        Scene::new().publish(name, "TXT", &[&format!("TXT \"{text}\"")]).finds(&[want]).await;
    }
    let mut scene = Scene::new();
    scene.zone = |zone| zone.temporary("b._domainkey.example.org", None);
    scene.finds(&["DKIM error: the DKIM key at b._domainkey.example.org: looking up"]).await;
}

#[tokio::test]
async fn dmarc() {
    let name = "_dmarc.example.org";
    Scene::new().publish(name, "TXT", &[]).finds(&["DMARC error: example.org has no DMARC record"]).await;
    let own = "rua=mailto:dmarc-reports@example.org!10m";
    for (text, want) in [
        (format!("v=DMARC1;p=none;{own}"), vec!["DMARC warning: the DMARC policy is p=none"]),
        (format!("v=DMARC1;p=reject;sp=none;{own}"), vec!["DMARC warning: the DMARC policy for subdomains is sp=none"]),
        (
            "v=DMARC1;p=reject".to_owned(),
            vec![
                "DMARC error: the address for DMARC reports in domains.conf, dmarc-reports@example.org, is not",
                "DMARC warning: the DMARC record has no rua",
            ],
        ),
        (
            format!("v=DMARC1;p=reject;{own},mailto:x@elsewhere.example"),
            vec!["DMARC error: elsewhere.example doesn't say that it takes the DMARC reports"],
        ),
        (format!("v=DMARC1;p=reject;{own},mailto:x@agrees.example"), vec![]),
        ("v=DMARC1;p=reject;rua=mailto:DMARC-reports@sub.example.org".to_owned(), vec!["is not in the rua"]),
        ("v=DMARC1;p=reject;rua=mailto:dmarc%2Dreports@EXAMPLE.org".to_owned(), vec![]),
    ] {
        let mut scene = Scene::new().publish(name, "TXT", &[&format!("TXT \"{text}\"")]);
        scene.zone = |zone| zone.txt("example.org._report._dmarc.agrees.example", "v=DMARC1");
        scene.finds(&want).await;
    }
}

#[tokio::test]
async fn reports_about_tls() {
    Scene::new()
        .publish("_smtp._tls.mx.example.org", "TXT", &[])
        .finds(&["Host TLSRPT error: the TLSRPT record at _smtp._tls.mx.example.org: no tlsrpt"])
        .await;
    let scene = Scene::new().publish("_smtp._tls.example.org", "TXT", &["TXT \"v=TLSRPTv1; rua=mailto:x@example.org\""]);
    scene
        .finds(&["Domain TLSRPT error: the address for TLS reports in the configuration, tls-reports@example.org, is not in the rua"])
        .await;
    let dynamic = DYNAMIC.replace("\t\tTLSRPT:\n\t\t\tLocalpart: tls-reports\n\t\t\tAccount: ann\n\t\t\tMailbox: TLSRPT\n", "");
    Scene::of(STATIC.to_owned(), dynamic).finds(&["Domain TLSRPT error: no address for reports about TLS is configured"]).await;
}

#[tokio::test]
async fn mta_sts() {
    Scene::new()
        .publish("_mta-sts.example.org", "TXT", &[])
        .finds(&["MTASTS error: the MTA-STS record at _mta-sts.example.org: no mta-sts"])
        .await;
    Scene::new()
        .publish("_mta-sts.example.org", "TXT", &["TXT \"v=STSv1; id=1\""])
        .finds(&["MTASTS warning: the MTA-STS record has id 1"])
        .await;
    for (policy, want) in [
        ("", vec!["MTASTS error: https://mta-sts.example.org/.well-known/mta-sts.txt: no policy served"]),
        ("version: STSv1", vec!["MTASTS error: the MTA-STS policy of example.org: malformed"]),
        ("version: STSv1\nmode: none\nmax_age: 2419200\n", vec!["MTASTS warning: the MTA-STS policy has mode none"]),
        (
            "version: STSv1\nmode: testing\nmax_age: 2419200\nmx: *.example.org\n",
            vec!["MTASTS warning: the MTA-STS policy has mode testing"],
        ),
        ("version: STSv1\nmode: enforce\nmax_age: 86400\nmx: mx.example.org\n", vec!["keep the MTA-STS policy for 24 hours only"]),
        (
            "version: STSv1\nmode: enforce\nmax_age: 2419200\nmx: other.example\n",
            vec![
                "doesn't allow this machine, mx.example.org",
                "doesn't allow the mail host mx.example.org",
                "allows other.example, which is not among",
            ],
        ),
    ] {
        let mut scene = Scene::new();
        scene.policy = policy.to_owned();
        scene.finds(&want).await;
    }
    let mut scene = Scene::new();
    scene.names.pop();
    scene
        .finds(&[
            "MTASTS error: https://mta-sts.example.org/.well-known/mta-sts.txt: certificate of policy host: certificate-host-mismatch",
        ])
        .await;
    // Without MTA-STS, that it isn't there is as it should be.
    let (before, after) = DYNAMIC.split_once("\t\tMTASTS").unwrap();
    let mut scene = Scene::of(STATIC.to_owned(), format!("{before}\t\tDKIM{}", after.split_once("\t\tDKIM").unwrap().1));
    scene.finds(&["MTASTS warning: MTA-STS is not configured"]).await;
    scene.records.push(DnsRecord { name: "_mta-sts.example.org".to_owned(), data: "TXT \"v=STSv1;\"".to_owned() });
    scene
        .finds(&["MTASTS error: the MTA-STS record at _mta-sts.example.org: malformed", "MTASTS warning: MTA-STS is not configured"])
        .await;
}

#[tokio::test]
async fn services_of_mail_clients() {
    for (name, data, want) in [
        ("_imaps._tcp.example.org", vec![], "SRV conf error: there is no SRV record at _imaps._tcp.example.org"),
        (
            "_imaps._tcp.example.org",
            vec!["SRV 0 1 994 mail.example.org."],
            "should be one, with target mail.example.org. and port 993, but are: mail.example.org. port 994",
        ),
        ("_imaps._tcp.example.org", vec!["SRV 0 1 993 other.example."], "but are: other.example. port 993"),
        ("_imap._tcp.example.org", vec![], "SRV conf warning: there is no SRV record at _imap._tcp.example.org"),
        (
            "_imap._tcp.example.org",
            vec!["SRV 0 0 143 ."],
            "SRV conf warning: the SRV record at _imap._tcp.example.org says that the service isn't offered, but has port 143",
        ),
        (
            "_pop3._tcp.example.org",
            vec!["SRV 0 0 110 mx.example.org."],
            "SRV conf error: the service of _pop3._tcp.example.org isn't offered",
        ),
    ] {
        Scene::new().publish(name, "SRV", &data).finds(&[want]).await;
    }
    // The host's own name will do.
    Scene::new().publish("_imaps._tcp.example.org", "SRV", &["SRV 0 1 993 mx.example.org."]).finds(&[]).await;
    let mut scene = Scene::new();
    scene.zone = |zone| zone.temporary("_submissions._tcp.example.org", None);
    scene.finds(&["SRV conf error: looking up the SRV records at _submissions._tcp.example.org"]).await;
    // Without submissions, it is submission that is offered.
    let fixed = STATIC.replace("\t\tSubmissions:\n\t\t\tEnabled: true\n", "");
    let scene = Scene::of(fixed, DYNAMIC.to_owned());
    scene
        .finds(&[
            "the service of _submissions._tcp.example.org isn't offered",
            "at _submission._tcp.example.org should be one, with target mail.example.org. and port 587",
        ])
        .await;
}

#[tokio::test]
async fn settings_of_mail_clients() {
    let scene = Scene::new().publish("autoconfig.example.org", "CNAME", &[]);
    scene.finds(&["Autoconf error: looking up the addresses of autoconfig.example.org"]).await;
    let scene = Scene::new().publish("mail.example.org", "CNAME", &["A 203.0.113.1"]);
    scene.finds(&["Autoconf error: mail.example.org leads to other machines: none of its addresses is ours"]).await;
    let mut scene = Scene::new();
    scene.names.remove(1);
    scene.finds(&["Autoconf error: HTTPS at autoconfig.example.org, address 192.0.2.1: ", "address 2001:db8::1: "]).await;
    let at = "_autodiscover._tcp.example.org";
    Scene::new().publish(at, "SRV", &[]).finds(&["Autodiscover error: looking up the SRV records at _autodiscover"]).await;
    Scene::new().publish(at, "SRV", &["SRV 0 1 444 mx.example.org."]).finds(&["Autodiscover error: no SRV record at _autodiscover"]).await;
    Scene::new()
        .publish(at, "SRV", &["SRV 0 1 443 gone.example."])
        .finds(&["Autodiscover error: looking up the addresses of gone.example"])
        .await;
}
