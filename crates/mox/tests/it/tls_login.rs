//! Logging in over TLS with certificates, and with SCRAM bound to the connection, by a client that isn't ours.

use crate::server::start;
use mox_testkit::peers::{Mox, Service, require_program};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Makes a key and gives its certificate, the file with both, and the fingerprint.
fn generate(mox: &Mox, folder: &Path, stem: &str) -> (Vec<u8>, PathBuf, String) {
    let output = mox.command(&["config", "tlspubkey", "gen", folder.join(stem).to_str().unwrap()]).unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && output.stdout.is_empty(), "{text}");
    let files: Vec<PathBuf> = text.lines().filter_map(|l| l.strip_prefix("wrote ")).map(PathBuf::from).collect();
    let [_, certificate, both] = &files[..] else { panic!("{text}") };
    let fingerprint = text.lines().find_map(|l| l.strip_prefix("fingerprint: ")).unwrap();
    (std::fs::read(certificate).unwrap(), both.clone(), fingerprint.to_owned())
}

fn run(mox: &Mox, args: &[&str]) -> (i32, String, String) {
    let output = mox.command(args).unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn keys_are_registered_listed_used_and_removed() {
    let Some(python) = require_program("python3") else {
        return;
    };
    let (mox, folder) = (start(), tempfile::tempdir().unwrap());
    let (certificate, own, fingerprint) = generate(&mox, folder.path(), "own");
    let (_, other, _) = generate(&mox, folder.path(), "other");
    let add = |args: &[&str], input: &[u8]| {
        let output = mox.command_with_input(&[&["config", "tlspubkey", "add"], args].concat(), input).unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(add(&["nobody@elsewhere.example"], &certificate).1, "nobody@elsewhere.example: no account logs in with this address\n");
    assert_eq!(add(&[Mox::USER], b"no certificate").0, 1);
    assert_eq!(add(&[Mox::USER, "my phone"], &certificate), (0, String::new()));
    assert_eq!(add(&[Mox::USER], &certificate), (1, "this key is registered already\n".to_owned()));
    let list = format!(
        "# fingerprint, type, name, account, login address, no imap preauth (1)\n{fingerprint}\ted25519\t\"my phone\"\tmox\tmox@localhost\tfalse\n"
    );
    assert_eq!(run(&mox, &["config", "tlspubkey", "list"]), (0, list.clone(), String::new()));
    assert_eq!(run(&mox, &["config", "tlspubkey", "list", "mox"]).1, list);
    assert_eq!(run(&mox, &["config", "tlspubkey", "list", "eve"]).2, "no such account: \"eve\"\n");
    let got = run(&mox, &["config", "tlspubkey", "get", &fingerprint]).1;
    let pem = String::from_utf8(certificate).unwrap();
    let head = "type: ed25519\nname: my phone\naccount: mox\naddress: mox@localhost\nno imap preauth: false\ncertificate:\n\n";
    assert_eq!(got, format!("{head}{pem}"));

    let script = folder.path().join("tls_login.py");
    std::fs::write(&script, include_str!("tls_login.py")).unwrap();
    let log_in = |more: &[&str]| {
        let mut command = Command::new(&python);
        command.arg(&script);
        for service in [Service::Imaps, Service::Imap, Service::Submissions, Service::Submission] {
            command.arg(mox.port(service).to_string());
        }
        command.arg(mox.dir().join("localhost.crt")).arg(&own).arg(&other).args(more);
        let output = command.output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && output.stdout == b"done\n", "{errors}\n{}", mox.log());
    };
    log_in(&[]);
    let rm = ["config", "tlspubkey", "rm", &fingerprint];
    assert_eq!(run(&mox, &rm), (0, String::new(), String::new()));
    assert_eq!(run(&mox, &rm), (1, String::new(), "no such tls public key\n".to_owned()));
    log_in(&["removed"]);
}
