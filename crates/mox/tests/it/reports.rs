//! Reports from outside: what arrives, what commands add and list, what files hold.

use crate::server::{BINARY, await_messages, bodies, imap, smtp};
use mox_testkit::peers::Mox;
use std::path::Path;

/// RFC 7489 appendix C, about the domain of the server under test.
const REPORT: &str = "<?xml version=\"1.0\"?><feedback><report_metadata><org_name>Acme</org_name><email>dmarc@acme.example</email>\
    <report_id>42</report_id><date_range><begin>1700000000</begin><end>1700003599</end></date_range></report_metadata>\
    <policy_published><domain>localhost</domain><p>none</p></policy_published>\
    <record><row><source_ip>192.0.2.1</source_ip><count>7</count><policy_evaluated><disposition>none</disposition><dkim>pass</dkim>\
    <spf>fail</spf></policy_evaluated></row><identifiers><header_from>localhost</header_from></identifiers>\
    <auth_results><spf><domain>localhost</domain><result>fail</result></spf></auth_results></record></feedback>";

const TLS_REPORT: &str = r#"{"organization-name":"Acme","date-range":{"start-datetime":"2026-11-01T00:00:00Z","end-datetime":"2026-11-01T23:59:59Z"},"contact-info":"tls@acme.example","report-id":"7","policies":[{"policy":{"policy-type":"sts","policy-string":[],"policy-domain":"localhost","mx-host":[]},"summary":{"total-successful-session-count":5,"total-failure-session-count":1},"failure-details":[{"result-type":"certificate-expired","failed-session-count":1}]}]}"#;

fn message(media_type: &str, report: &str) -> Vec<u8> {
    format!(
        "From: <postmaster@acme.example>\r\nTo: <dmarcreports@localhost>\r\nSubject: Report Domain: localhost\r\nMIME-Version: 1.0\r\n\
         Content-Type: {media_type}\r\n\r\n{report}\r\n"
    )
    .into_bytes()
}

/// `mox serve` with addresses for reports.
fn serving() -> Mox {
    let started = Mox::serve_with(Path::new(BINARY), |folder| {
        let dynamic = folder.join("domains.conf");
        let text = std::fs::read_to_string(&dynamic)?;
        let report =
            |kind: &str, localpart: &str| format!("\t\t{kind}:\n\t\t\tLocalpart: {localpart}\n\t\t\tAccount: mox\n\t\t\tMailbox: {kind}\n");
        let reports = report("DMARC", "dmarcreports") + &report("TLSRPT", "tlsreports");
        std::fs::write(&dynamic, text.replacen("\tlocalhost:\n", &format!("\tlocalhost:\n{reports}"), 1))
    });
    started.unwrap()
}

#[track_caller]
fn run(mox: &Mox, args: &[&str], input: &[u8]) -> String {
    let output = mox.command_with_input(args, input).unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{args:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

#[test]
fn reports_that_arrive_unverified_are_only_mail() {
    let mox = serving();
    let dmarc = message("text/xml", REPORT);
    let tls = message("application/tlsrpt+json", TLS_REPORT);
    // Anybody could have written it.
    let refused = smtp(&mox).send("", &["dmarcreports@localhost"], &dmarc).unwrap();
    assert!(refused.code == 550 && refused.text.contains("dmarc report must itself pass dmarc"), "{refused:?}");
    let plain = b"From: <ann@acme.example>\r\nSubject: your report\r\n\r\nhello\r\n".to_vec();
    for (to, message) in [("dmarcreports@localhost", &plain), ("tlsreports@localhost", &tls)] {
        assert!(smtp(&mox).send("", &[to], message).unwrap().is_ok());
    }
    let mut client = imap(&mox);
    await_messages(&mut client, "DMARC", 1);
    let filed = String::from_utf8(bodies(&mut client).remove(0)).unwrap();
    assert!(filed.starts_with("X-Mox-DMARCReport-Error: no dmarc pass\r\n"), "{filed}");
    await_messages(&mut client, "TLSRPT", 1);
    let filed = String::from_utf8(bodies(&mut client).remove(0)).unwrap();
    assert!(filed.starts_with("X-Mox-TLSReport-Error: no acceptable dkim signature\r\n"), "{filed}");
    assert_eq!(run(&mox, &["dmarcdb", "list"], b""), "");
    assert_eq!(run(&mox, &["tlsrptdb", "list"], b""), "");
    // Who operates the server may vouch for them.
    assert_eq!(run(&mox, &["dmarcdb", "addreport", "acme.example"], &dmarc), "");
    assert_eq!(run(&mox, &["dmarcdb", "addreport", "acme.example"], &dmarc), "the report is there already\n");
    assert_eq!(run(&mox, &["tlsrptdb", "addreport", "acme.example"], &tls), "");
    let about = "about 2023-11-14T22:13:20Z to 2023-11-14T23:13:19Z";
    let want = format!("1 localhost from acme.example (\"Acme\") {about}: 7 messages, 0 quarantined, 0 rejected\n");
    assert_eq!(run(&mox, &["dmarcdb", "list", "localhost"], b""), want);
    let listed = run(&mox, &["tlsrptdb", "list"], b"");
    assert!(
        listed.ends_with("localhost from acme.example about 2026-11-01T00:00:00Z to 2026-11-01T23:59:59Z: 6 sessions, 1 failed\n"),
        "{listed}"
    );
    assert_eq!(run(&mox, &["dmarcdb", "list", "elsewhere.example"], b""), "");
    let refused = mox.command_with_input(&["dmarcdb", "addreport", "acme.example"], b"Subject: hi\r\n\r\nhello").unwrap();
    assert_eq!((refused.status.code(), refused.stderr.as_slice()), (Some(1), b"no dmarc report in message\n".as_slice()));
    // Nothing is known that anybody would have to be told.
    assert_eq!(run(&mox, &["dmarcdb", "send"], b""), "0 report(s) queued\n");
    assert_eq!(run(&mox, &["tlsrptdb", "send"], b""), "0 report(s) queued\n");
}

#[test]
fn reports_in_files() {
    let mox = serving();
    let file = mox.dir().join("report.eml");
    std::fs::write(&file, message("text/xml", REPORT)).unwrap();
    let text = run(&mox, &["dmarc", "parsereportmsg", file.to_str().unwrap()], b"");
    assert!(text.starts_with("Report by: Acme (dmarc@acme.example)\nReport ID: 42\n"), "{text}");
    assert!(
        text.contains("\nSource: 192.0.2.1, 7 message(s)\nEvaluated: disposition none, aligned dkim pass, aligned spf fail\n"),
        "{text}"
    );
    std::fs::write(&file, message("application/tlsrpt+json", TLS_REPORT)).unwrap();
    let text = run(&mox, &["tlsrpt", "parsereportmsg", file.to_str().unwrap()], b"");
    assert!(text.contains("\"total-failure-session-count\": 1"), "{text}");
    let refused = mox.command(&["dmarc", "parsereportmsg", file.to_str().unwrap()]).unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8(refused.stderr).unwrap().ends_with("no dmarc report in message\n"));
}
