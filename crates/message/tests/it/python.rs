//! Python's email package reads what we write.

use mox_base::{Address, Path, Timestamp};
use mox_message::compose::{Composer, Entity, NamedAddress};
use mox_message::dsn::{Action, Dsn, DsnRecipient};
use mox_message::{DateTime, HeaderName, HeaderValue};
use mox_testkit::SeededRandom;
use mox_testkit::peers::require_program;
use std::io::Write as _;
use std::process::{Command, Stdio};

/// What a script prints that gets the message as `m`.
fn python(script: &str, message: &[u8]) -> Option<String> {
    let python = require_program("python3")?;
    let script = format!(
        "import sys, email, email.policy\nsys.stdout.reconfigure(encoding='utf-8')\nm = email.message_from_binary_file(sys.stdin.buffer, policy=email.policy.default)\n{script}"
    );
    let mut child = Command::new(python).args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(message).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn a_dsn() {
    let path = |a: &str| Path::from(a.parse::<Address>().unwrap());
    let dsn = Dsn {
        smtputf8: false,
        from: "postmaster@host.example".parse().unwrap(),
        to: path("a@x.example"),
        subject: "mail delivery failed".to_owned(),
        message_id: "id@host.example".to_owned(),
        references: None,
        date: DateTime::utc(Timestamp::from_secs(1_136_214_245)),
        text: "Sorry.".to_owned(),
        reporting_mta: "host.example".parse().unwrap(),
        received_from: None,
        arrival: None,
        envelope_id: None,
        future_release: None,
        deliver_by: None,
        recipients: vec![DsnRecipient {
            address: path("b@y.example"),
            original: None,
            action: Action::Failed,
            status: "5.1.1".to_owned(),
            status_comment: String::new(),
            remote: None,
            diagnostic: vec![
                "550-5.1.1 no such user, and this is a longer explanation".to_owned(),
                "550 5.1.1 of why that is so".to_owned(),
            ],
            last_attempt: None,
            will_retry_until: None,
        }],
        original: b"Subject: original\r\n\r\nbody".to_vec(),
        full: false,
    };
    let script = "print(m.get_content_type(), m.get_param('report-type'), m.defects)
print([p.get_content_type() for p in m.iter_parts()])
status = m.get_payload(1).get_payload()
print(len(status), status[0]['Reporting-MTA'], status[1]['Final-Recipient'], status[1]['Action'], status[1]['Status'])
print(status[1]['Diagnostic-Code'].replace('\\t', ' '))
print(m.get_payload(2).get_payload().strip())
";
    let Some(out) = python(script, &dsn.compose(&SeededRandom::new(1)).bytes) else { return };
    assert_eq!(
        out.lines().collect::<Vec<_>>(),
        [
            "multipart/report delivery-status []",
            "['text/plain', 'message/delivery-status', 'text/rfc822-headers']",
            "2 dns; host.example rfc822;b@y.example failed 5.1.1",
            "smtp; 550-5.1.1 no such user, and this is a longer explanation 550 5.1.1 of why that is so",
            "Subject: original",
        ]
    );
}

#[test]
fn a_message_with_attachment() {
    let mut c = Composer::new(false);
    c.addresses(
        &HeaderName::from_static("To"),
        &[NamedAddress { name: "Jörg, \"x\"".to_owned(), address: "j@x.example".parse().unwrap() }],
    );
    c.subject("Grüße aus Köln über alles und noch viel mehr wörter täglich in der früh");
    let parts = vec![
        Entity::plain(&format!("ü\n{}\n", "long ".repeat(40))),
        Entity::Attachment {
            media_type: HeaderValue::cleaned("image/png"),
            file_name: "ä b.png".to_owned(),
            inline: false,
            id: None,
            data: (0..=255).collect(),
        },
    ];
    c.body(&Entity::Multipart { subtype: HeaderValue::cleaned("mixed"), parts }, &SeededRandom::new(1));
    let script = "print(m['Subject'])
a = m['To'].addresses[0]
print(a.display_name, a.addr_spec)
print(repr(m.get_payload(0).get_content()[:6]))
print(m.get_payload(1).get_filename(), m.get_payload(1).get_content() == bytes(range(256)))
";
    let Some(out) = python(script, &c.finish().unwrap().bytes) else { return };
    assert_eq!(
        out.lines().collect::<Vec<_>>(),
        [
            "Grüße aus Köln über alles und noch viel mehr wörter täglich in der früh",
            "Jörg, \"x\" j@x.example",
            "'ü\\nlong'",
            "ä b.png True",
        ]
    );
}
