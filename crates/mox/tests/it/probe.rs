//! Commands that look at domains and servers from outside, in an internet of the test's own with signed zones.

use crate::server::BINARY;
use mox_testkit::peers::{HostSetup, MoxHost, Names, Network, Resolving, Signing, ZoneFile};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, PublicKeyData as _};
use sha2::{Digest as _, Sha256};
use std::path::Path;

const STATIC: &str = "DataDir: ../data
LogLevel: debug
User: 65534
Hostname: mx.check.example
TLS:
	CA:
		CertFiles:
			- ca.pem
Listeners:
	public:
		IPs:
			- 9.0.3.1
		TLS:
			KeyCerts:
				-
					CertFile: cert.pem
					KeyFile: key.pem
			HostPrivateKeyFiles:
				- key.pem
		SMTP:
			Enabled: true
		Submissions:
			Enabled: true
		IMAPS:
			Enabled: true
Postmaster:
	Account: ann
	Mailbox: Postmaster
HostTLSRPT:
	Account: ann
	Mailbox: TLSRPT
	Localpart: tls-reports
";

const DYNAMIC: &str = "Domains:
	check.example:
		DMARC:
			Localpart: dmarc-reports
			Account: ann
			Mailbox: DMARC
		TLSRPT:
			Localpart: tls-reports
			Account: ann
			Mailbox: TLSRPT
Accounts:
	ann:
		Domain: check.example
		Destinations:
			ann@check.example: nil
";

/// What is published: all as `config dnsrecords` has it, but SPF is for another address, and one service is at another port.
fn zones(spki: &str) -> Vec<ZoneFile> {
    let check = ZoneFile::new("check.example", Signing::Nsec)
        .with(
            "@ MX 10 mx\nmx A 9.0.3.1\nmx TXT \"v=spf1 a -all\"\n_smtp._tls.mx TXT \"v=TLSRPTv1; rua=mailto:tls-reports@mx.check.example\"",
        )
        .with("@ TXT \"v=spf1 ip4:9.0.3.9 ~all\"\n_dmarc TXT \"v=DMARC1;p=reject;rua=mailto:dmarc-reports@check.example!10m\"")
        .with("_smtp._tls TXT \"v=TLSRPTv1; rua=mailto:tls-reports@check.example\"")
        .with(&format!("_25._tcp.mx TLSA 3 1 1 {spki}\n_465._tcp.mx TLSA 3 1 1 {spki}"))
        .with("autoconfig CNAME mx\n_autodiscover._tcp SRV 0 1 443 mx\n_submissions._tcp SRV 0 1 465 mx\n_imaps._tcp SRV 0 1 994 mx")
        .with("_imap._tcp SRV 0 0 0 .\n_submission._tcp SRV 0 0 0 .\n_pop3._tcp SRV 0 0 0 .\n_pop3s._tcp SRV 0 0 0 .");
    let other = ZoneFile::new("elsewhere.example", Signing::Nsec3)
        .with(&format!("@ MX 10 mx\nmx A 9.0.3.1\n_25._tcp.mx TLSA 3 1 1 {}", "00".repeat(32)));
    let unsigned = ZoneFile::new("unsigned.example", Signing::Unsigned).with("@ MX 10 mx.check.example.");
    let reverse = ZoneFile::new("3.0.9.in-addr.arpa", Signing::Unsigned).with("1 PTR mx.check.example.");
    vec![ZoneFile::new("com", Signing::Nsec), check, other, unsigned, reverse]
}

/// A key with a certificate of an authority, all in PEM, and the digest of the key.
struct Identity {
    ca: String,
    cert: String,
    key: String,
    spki: String,
}

impl Identity {
    fn new(name: &str) -> Self {
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &ca).unwrap();
        let digest = Sha256::digest(key.subject_public_key_info());
        Self { ca: ca.pem(), cert: cert.pem(), key: key.serialize_pem(), spki: digest.iter().map(|b| format!("{b:02x}")).collect() }
    }
}

/// Runs a command; its status and both outputs.
fn run(host: &MoxHost, args: &[&str], input: &str) -> (i32, String, String) {
    let output = host.command_with_input(args, input.as_bytes()).unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn domains_and_servers_are_looked_at() {
    let Some(network) = Network::require() else { return };
    let ours = Identity::new("mx.check.example");
    let Some(names) = Names::require(&network, zones(&ours.spki)) else { return };
    let setup = HostSetup {
        binary: Path::new(BINARY),
        ip: [9, 0, 3, 1].into(),
        resolving: Resolving::Own,
        mox_conf: STATIC,
        domains_conf: DYNAMIC,
        files: &[("ca.pem", &ours.ca), ("cert.pem", &ours.cert), ("key.pem", &ours.key)],
    };
    let host = MoxHost::start(&network, &names, &setup).unwrap();
    a_domain_is_checked(&host, &ours);
    connections_are_verified(&host, &ours);
}

fn a_domain_is_checked(host: &MoxHost, ours: &Identity) {
    let (status, found, err) = run(host, &["config", "dnscheck", "check.example"], "");
    assert_eq!(status, 0, "{err}");
    let findings: Vec<&str> =
        found.lines().filter(|line| ["# ", "error: ", "warning: "].iter().any(|start| line.starts_with(start))).collect();
    let wanted = [
        "# SPF",
        "error: mail of check.example from our address 9.0.3.1 would get the SPF result softfail (~all), not pass",
        "# DKIM",
        "error: check.example has no DKIM selectors in domains.conf: its mail isn't signed",
        "# MTASTS",
        "warning: MTA-STS is not configured for check.example: others don't insist on verified TLS, except with DANE",
        "# SRV conf",
        "error: the SRV records at _imaps._tcp.check.example should be one, with target mx.check.example. and port 993, but are: \
         mx.check.example. port 994",
        "# Autoconf",
        "error: HTTPS at autoconfig.check.example, address 9.0.3.1: connecting: Connection refused (os error 111)",
        "# Autodiscover",
        "error: HTTPS at mx.check.example, address 9.0.3.1: connecting: Connection refused (os error 111)",
    ];
    assert_eq!(findings, wanted, "{found}");
    // What to publish is said, as the command for all records says it.
    let (_, records, _) = run(host, &["config", "dnsrecords", "check.example"], "");
    for record in ["check.example. TXT \"v=spf1 ip4:9.0.3.1 mx ~all\"", "_imaps._tcp.check.example. SRV 0 1 993 mx.check.example."] {
        assert!(found.contains(&format!("\n\t{record}\n")), "{record}: {found}");
        assert!(records.contains(&format!("\n{record}\n")), "{record}: {records}");
    }
    assert!(records.contains(&format!("\n_25._tcp.mx.check.example. TLSA 3 1 1 {}\n", ours.spki)), "{records}");
    let (status, json, _) = run(host, &["config", "dnscheck", "-exitcode", "-json", "check.example"], "");
    assert_eq!((status, json.contains("\"HostTLSRPT\": {")), (1, true), "{json}");
}

fn connections_are_verified(host: &MoxHost, ours: &Identity) {
    let (status, out, err) = run(host, &["dane", "dialmx", "check.example"], "QUIT\r\n");
    assert_eq!((status, out.starts_with("221 ")), (0, true), "{out}{err}");
    assert!(err.contains("mail hosts of check.example: mx.check.example (with dnssec)\n"), "{err}");
    assert!(err.contains(&format!("verified by tlsa record: 3 1 1 {} (TLS1.3 ", ours.spki)), "{err}");
    let (status, out, err) = run(host, &["dane", "dial", "mx.check.example:465"], "QUIT\r\n");
    assert_eq!((status, out.starts_with("220 "), out.contains("\n221 ")), (0, true, true), "{out}{err}");
    for (args, why) in [
        (
            &["dane", "dialmx", "elsewhere.example"][..],
            "mx.elsewhere.example: starttls: certificate: no TLSA record matches the certificate",
        ),
        (&["dane", "dialmx", "unsigned.example"], "not protected by dnssec"),
        (&["dane", "dialmx", "check.example", "other.example"], "no remaining destinations"),
        (&["dane", "dial", "-usages", "dane-ta", "mx.check.example:465"], "none of the tlsa records has an allowed usage"),
        (&["dane", "dial", "mx.check.example:993"], "no tlsa records, with dnssec, at _993._tcp.mx.check.example"),
    ] {
        let (status, out, err) = run(host, args, "QUIT\r\n");
        assert_eq!((status, out.as_str()), (1, ""), "{args:?}: {err}");
        assert!(err.contains(why), "{args:?}: {err}");
    }
}
