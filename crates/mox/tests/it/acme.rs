//! Certificates from an authority, as the whole server gets, serves and renews them; and those of files.

use crate::server::{BINARY, PATIENCE};
use mox_testkit::peers::{Mox, Pebble, PebbleOptions, Service, free_port, require_program, wait_until};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const HOST: &str = "mail.acme.test";
const POLICY_HOST: &str = "mta-sts.acme.test";

/// A server with certificates of its own Pebble.
struct Setup {
    // In this order: the server ends first.
    mox: Mox,
    pebble: Pebble,
}

/// The port of a service in a configuration.
fn port_of(conf: &str, service: &str) -> u16 {
    let (_, after) = conf.split_once(&format!("\t\t{service}:\n")).unwrap();
    after.lines().find_map(|line| line.trim().strip_prefix("Port: ")).unwrap().parse().unwrap()
}

fn without_comments(conf: &str) -> String {
    conf.lines().filter(|line| !line.trim().is_empty() && !line.trim().starts_with('#')).map(|line| format!("{line}\n")).collect()
}

/// None after printing that a test is skipped. `conf` may change mox.conf.
fn start(validity: u32, edit: impl FnOnce(String) -> String) -> Option<Setup> {
    let mut pebble = None;
    let mox = Mox::serve_with(Path::new(BINARY), |folder| {
        let path = folder.join("mox.conf");
        let conf = without_comments(&std::fs::read_to_string(&path)?);
        let mut options = PebbleOptions::new(port_of(&conf, "WebAPIHTTP"), port_of(&conf, "WebAPIHTTPS"));
        options.validity = validity;
        let Some(started) = Pebble::require(&options) else { return Err(std::io::Error::other("skipped")) };
        let acme = format!(
            "ACME:\n\tpebble:\n\t\tDirectoryURL: {}\n\t\tContactEmail: postmaster@acme.test\n\t\tPort: {}\n",
            started.directory_url(),
            options.tls_port
        );
        let (before, rest) = conf.split_once("\t\t\tKeyCerts:\n").unwrap();
        let (_, after) = rest.split_once("\t\tSMTP:\n").unwrap();
        let conf = format!("{acme}{before}\t\t\tACME: pebble\n\t\tSMTP:\n{after}")
            .replace("Hostname: localhost", &format!("Hostname: {HOST}"))
            .replace("\tlocal:\n", "\tpublic:\n")
            .replace("\t\t\t- localhost.crt\n", &format!("\t\t\t- {}\n", started.ca_file().display()))
            .replace(
                "\t\tMetricsHTTP:\n",
                &format!("\t\tMTASTSHTTPS:\n\t\t\tEnabled: true\n\t\t\tPort: {}\n\t\tMetricsHTTP:\n", options.tls_port),
            );
        std::fs::write(&path, edit(conf))?;
        let path = folder.join("domains.conf");
        let domain = "Domains:\n\tacme.test:\n\t\tMTASTS:\n\t\t\tPolicyID: 1\n\t\t\tMode: testing\n\t\t\tMaxAge: 1h\n";
        let dynamic = without_comments(&std::fs::read_to_string(&path)?).replacen("Domains:\n", domain, 1);
        let destination = "\t\tDestinations:\n\t\t\tann@acme.test: nil\n";
        std::fs::write(&path, dynamic.replacen("\t\tDestinations:\n", destination, 1))?;
        pebble = Some(started);
        Ok(())
    });
    match (mox, pebble) {
        (Ok(mox), Some(pebble)) => Some(Setup { mox, pebble }),
        (Err(error), Some(_)) => panic!("{error}"),
        (_, None) => None,
    }
}

impl Setup {
    /// How often a host got a new certificate.
    fn issued(&self, host: &str) -> usize {
        self.mox.log().lines().filter(|l| l.contains("\"new certificate\"") && l.contains(&format!("servername={host} "))).count()
    }

    #[track_caller]
    fn await_issued(&self, host: &str, count: usize) {
        assert!(wait_until(PATIENCE, || self.issued(host) >= count), "{}\n{}", self.mox.log(), self.pebble.log());
    }

    fn root(&self) -> PathBuf {
        let path = self.mox.dir().join("root.pem");
        std::fs::write(&path, self.pebble.root().unwrap()).unwrap();
        path
    }

    /// Connects with OpenSSL, which must find the certificate good for a name; gives the certificate in PEM.
    #[track_caller]
    fn certificate(&self, service: Service, starttls: &[&str], name: &str) -> String {
        let root = self.root();
        let connect = format!("127.0.0.1:{}", self.mox.port(service));
        let mut openssl = Command::new(require_program("openssl").unwrap());
        openssl.args(["s_client", "-connect", &connect, "-verify_return_error", "-verify_hostname", name, "-servername", name]);
        let output = openssl.args(starttls).arg("-CAfile").arg(root).stdin(Stdio::null()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains("Verify return code: 0 (ok)"), "{text}{}{}", String::from_utf8_lossy(&output.stderr), self.mox.log());
        let begin = text.find("-----BEGIN CERTIFICATE-----").unwrap();
        let end = "-----END CERTIFICATE-----\n";
        text[begin..text.find(end).unwrap() + end.len()].to_owned()
    }

    /// SHA-256 of a certificate's key, in hex.
    fn key_digest(&self, cert: &str) -> String {
        let openssl = require_program("openssl").unwrap();
        let pipe = |args: &[&str], input: &[u8]| {
            let mut child = Command::new(&openssl).args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            child.stdin.take().unwrap().write_all(input).unwrap();
            child.wait_with_output().unwrap().stdout
        };
        let public = pipe(&["x509", "-pubkey", "-noout"], cert.as_bytes());
        let der = pipe(&["pkey", "-pubin", "-outform", "DER"], &public);
        let digest = String::from_utf8(pipe(&["dgst", "-sha256", "-r"], &der)).unwrap();
        digest.split(' ').next().unwrap().to_owned()
    }

    fn run(&self, args: &[&str]) -> String {
        let output = self.mox.command(args).unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

#[test]
fn all_services_have_certificates_and_keys_that_stay() {
    let Some(mut setup) = start(90 * 24 * 3600, |conf| conf) else { return };
    setup.await_issued(HOST, 1);
    let first = setup.certificate(Service::Imaps, &[], HOST);
    let digest = setup.key_digest(&first);
    for (service, starttls) in [
        (Service::Submissions, &[][..]),
        (Service::Https, &[]),
        (Service::Smtp, &["-starttls", "smtp"]),
        (Service::Submission, &["-starttls", "smtp"]),
        (Service::Imap, &["-starttls", "imap"]),
    ] {
        assert_eq!(setup.certificate(service, starttls, HOST), first);
    }
    // The policy's host gets its certificate when it is first asked for.
    assert_eq!(setup.issued(POLICY_HOST), 0);
    let port = setup.mox.port(Service::Https);
    let fetch = |host: &str| {
        let mut curl = Command::new(require_program("curl").unwrap());
        curl.args(["--silent", "--show-error", "--http1.1", "--include", "--cacert"]).arg(setup.root());
        curl.args(["--resolve", &format!("{host}:{port}:127.0.0.1"), &format!("https://{host}:{port}/.well-known/mta-sts.txt")]);
        let output = curl.output().unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    let policy = fetch(POLICY_HOST);
    assert!(policy.starts_with("HTTP/1.1 200") && policy.contains("content-type: text/plain\r\n"), "{policy}{}", setup.mox.log());
    assert!(policy.ends_with("\r\n\r\nversion: STSv1\nmode: testing\nmax_age: 3600\nmx: mail.acme.test\n"), "{policy}");
    assert!(fetch(HOST).starts_with("HTTP/1.1 404"), "another host");
    let refused = fetch("mta-sts.other.test");
    assert!(refused.contains("unrecognized name"), "{refused}");

    // Keys that the configuration doesn't have yet: the one in use, and a new one of the other kind.
    let text = setup.run(&["config", "ensureacmehostprivatekeys"]);
    let (_, lines) = text.split_once("\tHostPrivateKeyFiles:\n").unwrap();
    let lines: Vec<&str> = lines.lines().take_while(|line| line.starts_with("\t\t- ")).collect();
    assert!(lines.len() == 2 && lines[0].contains(".rsa2048.") && lines[1].contains(".ecdsap256."), "{text}");
    let path = setup.mox.dir().join("mox.conf");
    let conf = std::fs::read_to_string(&path).unwrap();
    let files: String = lines.iter().map(|line| format!("\t\t{line}\n")).collect();
    std::fs::write(&path, conf.replace("\t\t\tACME: pebble\n", &format!("\t\t\tACME: pebble\n\t\t\tHostPrivateKeyFiles:\n{files}")))
        .unwrap();
    assert_eq!(setup.run(&["config", "ensureacmehostprivatekeys"]), "");
    // The records to publish name the key that is served, after a restart without a new certificate.
    assert!(setup.run(&["config", "dnsrecords", "acme.test"]).to_lowercase().contains(&digest));
    setup.mox.stop("TERM", PATIENCE).unwrap();
    setup.mox.resume().unwrap();
    assert_eq!(setup.certificate(Service::Imaps, &[], HOST), first);
    assert_eq!(setup.issued(HOST), 1);
}

#[test]
fn renewed_without_a_restart_and_kept_when_the_authority_fails() {
    let Some(mut setup) = start(24, |conf| conf) else { return };
    setup.await_issued(HOST, 1);
    let first = setup.certificate(Service::Imaps, &[], HOST);
    setup.await_issued(HOST, 2);
    let second = setup.certificate(Service::Imaps, &[], HOST);
    assert_ne!(first, second);
    assert_eq!(setup.key_digest(&first), setup.key_digest(&second));
    setup.pebble.stop().unwrap();
    let error = || setup.mox.log().lines().find(|l| l.starts_with("l=error m=\"requesting certificate\"")).map(str::to_owned);
    assert!(wait_until(PATIENCE, || error().is_some()), "{}", setup.mox.log());
    let error = error().unwrap();
    assert!(error.contains("pkg=autotls") && error.contains("kept=true") && error.contains("err=\"acme: "), "{error}");
    // Still answers, with what it has.
    let connect = format!("127.0.0.1:{}", setup.mox.port(Service::Imaps));
    let mut openssl = Command::new(require_program("openssl").unwrap());
    let output = openssl.args(["s_client", "-connect", &connect, "-servername", HOST]).stdin(Stdio::null()).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("BEGIN CERTIFICATE"));
}

#[test]
fn validated_over_plain_http_when_the_provider_cant_ask_over_tls() {
    // With another port for the provider's TLS, nobody answers where Pebble asks.
    let edit = |conf: String| {
        let (port, other, policies) = (port_of(&conf, "WebAPIHTTPS"), free_port(), free_port());
        let service = |name: &str, more: &str| format!("\t\t{name}:\n\t\t\tEnabled: true\n\t\t\tPort: {more}\n");
        conf.replacen(&format!("\t\tPort: {port}\n"), &format!("\t\tPort: {other}\n"), 1)
            .replace(&service("WebAPIHTTPS", &format!("{port}\n\t\t\tPath: /webapi/")), "")
            .replace(&service("MTASTSHTTPS", &port.to_string()), &service("MTASTSHTTPS", &format!("{policies}\n\t\t\tNonTLS: true")))
    };
    let Some(setup) = start(90 * 24 * 3600, edit) else { return };
    setup.await_issued(HOST, 1);
    setup.certificate(Service::Imaps, &[], HOST);
    assert!(setup.mox.log().contains("validation by tls-alpn-01 failed"), "{}", setup.mox.log());
}

/// The certificate that is served, in PEM, whether it is good or not.
fn served(mox: &Mox) -> String {
    let connect = format!("127.0.0.1:{}", mox.port(Service::Imaps));
    let mut openssl = Command::new(require_program("openssl").unwrap());
    let output = openssl.args(["s_client", "-connect", &connect, "-servername", "localhost"]).stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (_, after) = text.split_once("-----BEGIN CERTIFICATE-----\n").unwrap();
    after.split_once("-----END").unwrap().0.to_owned()
}

#[test]
fn changed_files_of_certificates_are_taken_into_use_when_they_fit() {
    let Some(openssl) = require_program("openssl") else { return };
    let mox = crate::server::start();
    let first = served(&mox);
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = (folder.path().join("new.crt"), folder.path().join("new.key"));
    let made = Command::new(openssl)
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=localhost"])
        .args(["-addext", "subjectAltName=DNS:localhost", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&cert)
        .output()
        .unwrap();
    assert!(made.status.success());
    // A key without its certificate, as between the two steps of a replacement.
    std::fs::copy(&key, mox.dir().join("localhost.key")).unwrap();
    assert!(wait_until(PATIENCE, || mox.log().contains("keeping those in use")), "{}", mox.log());
    assert_eq!(served(&mox), first);
    std::fs::copy(&cert, mox.dir().join("localhost.crt")).unwrap();
    assert!(wait_until(PATIENCE, || mox.log().contains("certificates reloaded")), "{}", mox.log());
    let new = std::fs::read_to_string(&cert).unwrap();
    assert!(new.contains(&served(&mox)));
}
