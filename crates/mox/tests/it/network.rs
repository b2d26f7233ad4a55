//! The server in an internet of its own: real name servers with signed zones below a fake root, real peers, and the ports
//! and addresses of the world.
//!
//! Each group of tests shares a network. Hosts run `mox serve` with files as an operator writes them.

mod dane;
mod dns;
mod inbound;
mod ipv6;
mod pair;
mod sts;

use crate::metrics::{GET, Scrape};
use crate::server::{BINARY, PATIENCE};
use mox_testkit::peers::{HostSetup, ImapClient, MoxHost, Names, Network, Resolving, require_program, wait_until};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, PublicKeyData as _};
use sha2::{Digest as _, Sha256};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;

/// Password of all accounts.
pub(crate) const PASSWORD: &str = "a password for tests";

/// A key with a certificate.
pub(crate) struct Identity {
    pub(crate) cert: String,
    pub(crate) key: String,
    /// SHA-256 of the public key, for TLSA 3 1 1.
    pub(crate) spki: String,
    /// SHA-256 of the certificate, for TLSA 3 0 1.
    pub(crate) whole: String,
}

/// How long a certificate is good for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Validity {
    Now,
    Past,
}

/// An authority that the world doesn't know.
pub(crate) struct Ca(CertifiedIssuer<'static, KeyPair>);

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn params(names: &[&str], validity: Validity) -> CertificateParams {
    let mut params = CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(if validity == Validity::Now { 2040 } else { 2021 }, 1, 1);
    params.distinguished_name.push(DnType::CommonName, names.first().copied().unwrap_or("authority"));
    params
}

impl Ca {
    pub(crate) fn new() -> Self {
        let mut params = params(&[], Validity::Now);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// SHA-256 of its certificate, for TLSA 2 0 1.
    pub(crate) fn whole(&self) -> String {
        hex(&Sha256::digest(self.0.der()))
    }

    /// An identity with a chain up to the authority.
    pub(crate) fn issue(&self, names: &[&str], validity: Validity) -> Identity {
        let key = KeyPair::generate().unwrap();
        let cert = params(names, validity).signed_by(&key, &self.0).unwrap();
        let whole = hex(&Sha256::digest(cert.der()));
        Identity {
            cert: cert.pem() + &self.pem(),
            spki: hex(&Sha256::digest(key.subject_public_key_info())),
            key: key.serialize_pem(),
            whole,
        }
    }
}

impl Identity {
    pub(crate) fn self_signed(names: &[&str], validity: Validity) -> Self {
        let key = KeyPair::generate().unwrap();
        let cert = params(names, validity).self_signed(&key).unwrap();
        let whole = hex(&Sha256::digest(cert.der()));
        Self { cert: cert.pem(), spki: hex(&Sha256::digest(key.subject_public_key_info())), key: key.serialize_pem(), whole }
    }
}

/// A host of ours.
pub(crate) struct Setup<'a> {
    pub(crate) hostname: &'a str,
    pub(crate) ip: Ipv4Addr,
    pub(crate) ip6: Option<Ipv6Addr>,
    pub(crate) domain: &'a str,
    pub(crate) account: &'a str,
    pub(crate) resolving: Resolving,
    pub(crate) identity: &'a Identity,
    /// The authority it trusts, in PEM.
    pub(crate) ca: String,
    /// Further lines of its public listener, and of `mox.conf`.
    pub(crate) listener: &'a str,
    pub(crate) fixed: &'a str,
    /// Further lines of its domain, and of its account.
    pub(crate) of_domain: &'a str,
    pub(crate) of_account: &'a str,
    pub(crate) files: &'a [(&'a str, &'a str)],
}

impl<'a> Setup<'a> {
    pub(crate) fn new(hostname: &'a str, ip: [u8; 4], (account, domain): (&'a str, &'a str), identity: &'a Identity, ca: &Ca) -> Self {
        Self {
            hostname,
            ip: ip.into(),
            ip6: None,
            domain,
            account,
            resolving: Resolving::Trusted,
            identity,
            ca: ca.pem(),
            listener: "",
            fixed: "",
            of_domain: "",
            of_account: "",
            files: &[],
        }
    }

    fn mox_conf(&self) -> String {
        let Self { hostname, ip, account, listener, fixed, .. } = self;
        let ip6 = self.ip6.map(|ip| format!("\t\t\t- {ip}\n")).unwrap_or_default();
        format!(
            "DataDir: ../data
LogLevel: debug
User: 65534
Hostname: {hostname}
TLS:
	CA:
		CertFiles:
			- ca.pem
Listeners:
	public:
		IPs:
			- {ip}
{ip6}		TLS:
			KeyCerts:
				-
					CertFile: cert.pem
					KeyFile: key.pem
		SMTP:
			Enabled: true
			FirstTimeSenderDelay: 0s
		Submission:
			Enabled: true
			NoRequireSTARTTLS: true
		IMAP:
			Enabled: true
			NoRequireSTARTTLS: true
		WebAPIHTTP:
			Enabled: true
		MetricsHTTP:
			Enabled: true
{listener}Postmaster:
	Account: {account}
	Mailbox: Postmaster
{fixed}"
        )
    }

    fn domains_conf(&self) -> String {
        let Self { domain, account, of_domain, of_account, .. } = self;
        format!(
            "Domains:
	{domain}:
		LocalpartCatchallSeparator: +
{of_domain}Accounts:
	{account}:
		Domain: {domain}
		Destinations:
			{account}@{domain}: nil
		KeepRetiredMessagePeriod: 72h0m0s
		RejectsMailbox: Rejects
		NoFirstTimeSenderDelay: true
{of_account}"
        )
    }

    pub(crate) fn start(&self, network: &Network, names: &Names) -> Host {
        let files =
            [&[("ca.pem", self.ca.as_str()), ("cert.pem", &self.identity.cert), ("key.pem", &self.identity.key)], self.files].concat();
        let setup = HostSetup {
            binary: Path::new(BINARY),
            ip: self.ip,
            resolving: self.resolving,
            mox_conf: &self.mox_conf(),
            domains_conf: &self.domains_conf(),
            files: &files,
        };
        let mox = MoxHost::start(network, names, &setup).unwrap();
        let host = Host { mox, network: network.clone(), user: format!("{}@{}", self.account, self.domain) };
        let set = host.mox.command_with_input(&["setaccountpassword", self.account], format!("{PASSWORD}\n").as_bytes()).unwrap();
        assert!(set.status.success(), "{}", String::from_utf8_lossy(&set.stderr));
        host
    }
}

/// A running host of ours, and its user.
pub(crate) struct Host {
    pub(crate) mox: MoxHost,
    pub(crate) network: Network,
    pub(crate) user: String,
}

impl Host {
    /// Calls a method of the webapi; status and answer.
    pub(crate) fn call(&self, method: &str, request: &str) -> (u16, String) {
        use base64::Engine as _;
        let authorization = base64::engine::general_purpose::STANDARD.encode(format!("{}:{PASSWORD}", self.user));
        let encode = |b: u8| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") };
        let form = format!("request={}", request.bytes().map(encode).collect::<String>());
        let head = format!(
            "POST /webapi/v0/{method} HTTP/1.1\r\nHost: {}\r\nAuthorization: Basic {authorization}\r\nConnection: close\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n",
            self.mox.at(80).ip(),
            form.len()
        );
        let answer = self.http(80, &(head + &form));
        let status = answer.get(9..12).and_then(|s| s.parse().ok()).unwrap_or_default();
        (status, answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
    }

    fn http(&self, port: u16, request: &str) -> String {
        let mut stream = self.network.connect(self.mox.at(port)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// What monitoring sees, and whether that is as it should be.
    #[track_caller]
    pub(crate) fn counted(&self, wanted: &[&str]) {
        let scrape = Scrape::of_answer(&self.http(8010, GET));
        scrape.check();
        let missing = scrape.missing(wanted);
        assert!(missing.is_empty(), "nothing was counted of {missing:#?}");
    }

    /// Sends by the webapi, with further fields.
    #[track_caller]
    pub(crate) fn send(&self, to: &str, subject: &str, more: &str) {
        let request = format!(r#"{{"To":[{{"Address":"{to}"}}],"Subject":"{subject}","Text":"text\n"{more}}}"#);
        let (status, answer) = self.call("Send", &request);
        assert_eq!(status, 200, "{to}: {answer}");
    }

    /// What a command prints; it must succeed.
    #[track_caller]
    pub(crate) fn run(&self, args: &[&str]) -> String {
        let output = self.mox.command(args).unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{args:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
        text
    }

    pub(crate) fn imap(&self) -> ImapClient {
        let mut client = ImapClient::over(self.network.connect(self.mox.at(143)).unwrap()).unwrap();
        client.ok(&format!("LOGIN \"{}\" \"{PASSWORD}\"", self.user)).unwrap();
        client
    }

    /// The messages of a mailbox, once there are that many.
    #[track_caller]
    pub(crate) fn messages(&self, mailbox: &str, count: usize) -> Vec<String> {
        let mut client = self.imap();
        crate::server::await_messages(&mut client, mailbox, count);
        if count == 0 {
            return Vec::new();
        }
        crate::server::bodies(&mut client).into_iter().map(|body| String::from_utf8(body).unwrap()).collect()
    }

    /// Waits until every entry of the queue has been tried, or is gone; what is left.
    #[track_caller]
    pub(crate) fn settled(&self) -> String {
        let mut list = String::new();
        let settled = wait_until(PATIENCE, || {
            list = self.run(&["queue", "list"]);
            !list.contains("delivering...") && list.lines().skip(1).all(|line| line.contains(" error \"") || line == "(none)")
        });
        assert!(settled, "{list}");
        list
    }

    /// What it has noted about TLS for reports, a line for each policy domain and recipient domain. It has to be stopped.
    pub(crate) fn tls_results(&self) -> Option<String> {
        let python = require_program("python3")?;
        let script = "import glob, sqlite3, sys
for name in glob.glob(sys.argv[1] + '/*.db'):
    rows = sqlite3.connect(name)
    if rows.execute(\"SELECT 1 FROM sqlite_master WHERE name = 'tls_result'\").fetchone():
        for row in rows.execute('SELECT policy_domain, recipient_domain, results FROM tls_result'):
            print(*row)";
        let output = std::process::Command::new(python).args(["-c", script]).arg(self.mox.config().join("../data")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Some(String::from_utf8(output.stdout).unwrap())
    }
}

/// Whether the results of a policy domain and recipient domain have all of these parts.
pub(crate) fn noted(results: &str, domains: &str, parts: &[&str]) -> bool {
    results.lines().any(|line| line.starts_with(domains) && parts.iter().all(|part| line.contains(part)))
}
