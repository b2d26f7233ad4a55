//! Sending as users do, with swaks, mutt and curl, on all three ports.

use crate::server::{PATIENCE, await_messages, bodies, imap, start};
use mox_testkit::peers::{Mox, Service, require_program};
use std::path::Path;
use std::process::{Command, Output};

fn swaks(program: &Path, mox: &Mox, service: Service, args: &[&str]) -> Output {
    let server = format!("127.0.0.1:{}", mox.port(service));
    let mut command = Command::new(program);
    command.args(["--server", &server, "--ehlo", "localhost", "--from", Mox::USER, "--to", Mox::USER]);
    command.args(["--timeout", &PATIENCE.as_secs().to_string()]).args(args).output().unwrap()
}

#[track_caller]
fn succeeds(output: &Output) {
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}\n{text}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
}

#[test]
fn swaks_reaches_every_port_in_every_way() {
    let Some(program) = require_program("swaks") else {
        return;
    };
    let mox = start();
    let auth = |mechanism| vec!["--auth", mechanism, "--auth-user", Mox::USER, "--auth-password", Mox::PASSWORD];
    let with = |more: &[&'static str], mechanism| [more.to_vec(), auth(mechanism)].concat();
    let ways = [
        ("plain", Service::Smtp, vec![]),
        ("starttls", Service::Smtp, vec!["--tls"]),
        ("submission", Service::Submission, auth("PLAIN")),
        ("submission starttls", Service::Submission, with(&["--tls"], "PLAIN")),
        ("submission login", Service::Submission, with(&["--tls"], "LOGIN")),
        ("submission cram", Service::Submission, auth("CRAM-MD5")),
        ("submissions", Service::Submissions, with(&["--tls-on-connect"], "PLAIN")),
    ];
    for (subject, service, args) in &ways {
        let header = format!("Subject: {subject}");
        succeeds(&swaks(&program, &mox, *service, &[&args[..], &["--header", &header]].concat()));
    }
    let mut client = imap(&mox);
    await_messages(&mut client, "INBOX", ways.len());
    let all = bodies(&mut client);
    for (subject, ..) in &ways {
        let line = format!("\r\nSubject: {subject}\r\n");
        let found = all.iter().filter(|b| String::from_utf8_lossy(b).contains(&line)).count();
        assert_eq!(found, 1, "{subject}");
    }
}

#[test]
fn submission_wants_a_login_and_the_right_password() {
    let Some(program) = require_program("swaks") else {
        return;
    };
    let mox = start();
    assert!(!swaks(&program, &mox, Service::Submission, &[]).status.success());
    let wrong = ["--auth", "PLAIN", "--auth-user", Mox::USER, "--auth-password", "wrongwrong"];
    // 28: authentication failed.
    assert_eq!(swaks(&program, &mox, Service::Submission, &wrong).status.code(), Some(28));
    // Somebody else's address.
    let login = ["--auth", "PLAIN", "--auth-user", Mox::USER, "--auth-password", Mox::PASSWORD];
    let output = swaks(&program, &mox, Service::Submission, &[&login[..], &["--from", "other@example.org"]].concat());
    assert!(!output.status.success());
    await_messages(&mut imap(&mox), "INBOX", 0);
}

#[test]
fn simulated_failures_of_localserve() {
    let Some(program) = require_program("swaks") else {
        return;
    };
    let mox = start();
    for (to, code) in
        [("temperror@localhost", "451"), ("permerror@localhost", "550"), ("rcptto452@localhost", "452"), ("bob555@localhost", "555")]
    {
        let output = swaks(&program, &mox, Service::Smtp, &["--to", to]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(!output.status.success(), "{text}");
        assert!(text.contains(&format!("<** {code} ")), "{text}");
    }
    // The end of a localpart decides; this one has no failure form.
    succeeds(&swaks(&program, &mox, Service::Smtp, &["--to", "mjl2024@example.org"]));
    await_messages(&mut imap(&mox), "INBOX", 1);
}

#[test]
fn curl_submits_over_tls() {
    let Some(program) = require_program("curl") else {
        return;
    };
    let mox = start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("message");
    std::fs::write(&file, crate::server::message("by curl")).unwrap();
    for url in
        [format!("smtp://localhost:{}", mox.port(Service::Submission)), format!("smtps://localhost:{}", mox.port(Service::Submissions))]
    {
        let mut command = Command::new(&program);
        command.args(["--silent", "--show-error", "--ssl-reqd", "--ipv4", "--cacert"]).arg(mox.dir().join("localhost.crt"));
        command.args(["--user", &format!("{}:{}", Mox::USER, Mox::PASSWORD), "--mail-from", Mox::USER, "--mail-rcpt", Mox::USER]);
        succeeds(&command.arg("--upload-file").arg(&file).arg(&url).output().unwrap());
    }
    let mut client = imap(&mox);
    await_messages(&mut client, "INBOX", 2);
    let sent = crate::server::message("by curl");
    for body in bodies(&mut client) {
        assert!(body.ends_with(&sent), "{}", String::from_utf8_lossy(&body));
    }
}

#[test]
fn mutt_submits_with_an_attachment() {
    let Some(program) = require_program("mutt") else {
        return;
    };
    let mox = start();
    let folder = tempfile::tempdir().unwrap();
    let attachment = folder.path().join("data.bin");
    let octets: Vec<u8> = (0..=255).cycle().take(3000).collect();
    std::fs::write(&attachment, &octets).unwrap();
    // Its SASL library takes the strongest mechanism that is announced.
    let settings = format!(
        "set from='{}'\nset smtp_url='smtp://mox%40localhost@127.0.0.1:{}'\nset smtp_pass='{}'\n\
         set ssl_starttls=no\nset ssl_force_tls=no\nset copy=no\nset record=''\n\
         set hostname=localhost\n",
        Mox::USER,
        mox.port(Service::Submission),
        Mox::PASSWORD
    );
    std::fs::write(folder.path().join("muttrc"), settings).unwrap();
    let mut command = Command::new(program);
    command.env("HOME", folder.path()).env("TERM", "dumb").arg("-F").arg(folder.path().join("muttrc"));
    command.args(["-s", "grüße by mutt", "-a"]).arg(&attachment).args(["--", Mox::USER]);
    succeeds(&command.stdin(std::process::Stdio::null()).output().unwrap());
    let mut client = imap(&mox);
    await_messages(&mut client, "INBOX", 1);
    let answer = client.ok("FETCH 1 (BODY.PEEK[2] BINARY.PEEK[2])").unwrap();
    assert_eq!(answer.literals()[1], octets);
}
