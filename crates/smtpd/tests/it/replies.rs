//! The reply codes of the service, each by a dialogue that leads to it.
//!
//! What isn't here needs more than a dialogue: 421 for shutdown, time and the number of connections is in `limits` and `login`,
//! 535 5.7.7 in `tls`, 451 4.7.1, 554 5.5.3 and 554 5.1.7 in `submission`, 452 4.3.1 in the tests of the running server.

use crate::tls::starting_tls;
use crate::world::{Client, PASSWORD, World, base64};
use mox_base::ByteSize;
use mox_smtpd::{Listener, ListenerSettings};
use std::sync::Arc;

/// Who is spoken to, and what was said before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum With {
    /// Port 25, from the greeting on.
    Greeting,
    /// Port 25, after EHLO.
    Incoming,
    /// The same, for two recipients and 1000 octets.
    Small,
    /// The same, for nobody without TLS.
    OnlyTls,
    /// Submission, after EHLO.
    Submission,
    /// The same, after AUTH.
    User,
    /// Submission that wants TLS first, after EHLO.
    Plain,
}

/// The code, with whom, and what leads to it: lines, each answered by success. The last
/// one's reply has the code; `X` stands for the end of the connection after that.
type Row = (&'static str, With, &'static [&'static str]);

/// MAIL and RCPT of mail that is accepted so far.
const FROM_BOB: &str = "MAIL FROM:<bob@x.example>";
const TO_ANN: &str = "RCPT TO:<ann@mox.example>";
const BY_ANN: &str = "MAIL FROM:<ann@mox.example>";
const TO_BOB: &str = "RCPT TO:<bob@x.example>";

use With::{Greeting, Incoming, OnlyTls, Plain, Small, Submission, User};

const ROWS: &[Row] = &[
    ("214 2.0.0", Incoming, &["HELP"]),
    ("214 2.0.0", Incoming, &["HELP MAIL"]),
    ("220 2.0.0", Plain, &["STARTTLS"]),
    ("221 2.0.0", Greeting, &["QUIT", "X"]),
    ("235 2.7.0", Submission, &["AUTH PLAIN {ann}"]),
    ("250-mx.mox.example", Greeting, &["EHLO mx.x.example"]),
    ("250-mx.mox.example", Greeting, &["HELO mx.x.example"]),
    ("250 2.0.0", Greeting, &["RSET"]),
    ("250 2.0.0", Greeting, &["NOOP"]),
    ("250 2.0.0", Greeting, &["noop again"]),
    ("250 2.1.0", Incoming, &[FROM_BOB]),
    ("250 2.1.0", Incoming, &["MAIL FROM:<>"]),
    ("250 2.1.0", Incoming, &[FROM_BOB, TO_ANN]),
    ("250 2.2.0", Incoming, &[FROM_BOB, TO_ANN, "DATA", "From: <bob@x.example>\r\n\r\nhi\r\n."]),
    ("250 2.2.0", User, &[BY_ANN, TO_BOB, "DATA", "From: <ann@mox.example>\r\n\r\nhi\r\n."]),
    ("252 2.7.0", Greeting, &["VRFY ann"]),
    ("252 2.7.0", Greeting, &["EXPN public SMTPUTF8"]),
    ("334", Submission, &["AUTH LOGIN"]),
    ("354", Incoming, &[FROM_BOB, TO_ANN, "DATA"]),
    ("450 4.2.1", Incoming, &[FROM_BOB, "RCPT TO:<ann@off.example>"]),
    // The neutral reply to what isn't wanted, what an address is configured to say, a disabled domain.
    ("451 4.3.0", Incoming, &["MAIL FROM:<spam@x.example>", TO_ANN, "DATA", "\r\nbuy\r\n."]),
    ("451 4.3.0", Incoming, &[FROM_BOB, "RCPT TO:<later@mox.example>"]),
    ("451 4.3.0", User, &["MAIL FROM:<ann@off.example>"]),
    ("451 4.4.0", Incoming, &["MAIL FROM:<bob@temp.example>"]),
    (
        "451 4.7.26",
        Incoming,
        &["MAIL FROM:<bob@shaky.example>", "RCPT TO:<proven@mox.example>", "DATA", "From: <bob@shaky.example>\r\n\r\nhi\r\n."],
    ),
    ("452 4.2.2", Incoming, &[FROM_BOB, "RCPT TO:<full@mox.example>", "DATA", "From: <bob@x.example>\r\n\r\nhi\r\n."]),
    ("452 4.5.3", Small, &[FROM_BOB, TO_ANN, "RCPT TO:<cas@mox.example>", TO_ANN]),
    ("452 4.5.3", Incoming, &["MAIL FROM:<>", TO_ANN, "RCPT TO:<cas@mox.example>"]),
    ("452 4.5.3", Incoming, &["MAIL FROM:<eve@careful.example>", TO_ANN, "RCPT TO:<cas@mox.example>"]),
    // An account that never had a password looks like any other.
    ("334", Submission, &["AUTH SCRAM-SHA-256 {scram of cas}"]),
    ("455 4.7.0", Submission, &["AUTH SCRAM-SHA-256 AAAA"]),
    ("500 5.5.0", Incoming, &["{long line}", "X"]),
    ("500 5.5.1", Greeting, &["NOOP", "GET / HTTP/1.1"]),
    ("500 5.5.2", Greeting, &["GET / HTTP/1.1", "X"]),
    ("500 5.5.2", Incoming, &[FROM_BOB, TO_ANN, "DATA", "Subject: a\rb\r\n\r\nhi\r\n."]),
    ("500 5.5.2", Incoming, &[FROM_BOB, TO_ANN, "DATA", "\r\nhi\n.\r\nMAIL FROM:<smuggled@x.example>\r\n."]),
    ("501 5.5.0", Submission, &["AUTH LOGIN", "*"]),
    ("501 5.5.2", Incoming, &["MAIL FROM:bob@x.example"]),
    ("501 5.5.2", Incoming, &["RSET now"]),
    ("501 5.5.2", Greeting, &["EHLO"]),
    ("501 5.5.2", Greeting, &["HELO [192.0.2.7]"]),
    ("501 5.5.2", Submission, &["AUTH PLAIN ?"]),
    ("501 5.5.2", Submission, &["AUTH PLAIN "]),
    ("501 5.5.2", Submission, &["AUTH plain {ann}"]),
    ("501 5.5.2", Submission, &["AUTH LOGIN", "?"]),
    ("501 5.5.2", Incoming, &[FROM_BOB, "RCPT TO:<@>"]),
    ("501 5.5.2", Incoming, &[FROM_BOB, "RCPT TO:<{129 a}@mox.example>"]),
    ("501 5.5.2", Incoming, &[FROM_BOB, "RCPT TO:<ann@{240 a}.example>"]),
    ("501 5.5.4", Incoming, &["MAIL FROM:<bob@x.example> SIZE=1 SIZE=1"]),
    ("501 5.5.4", User, &["MAIL FROM:<ann@mox.example> HOLDFOR=60 HOLDUNTIL=2026-11-25T20:00:00Z"]),
    ("501 5.5.4", User, &["MAIL FROM:<ann@mox.example> MT-PRIORITY=10"]),
    ("501 5.5.4", User, &["MAIL FROM:<ann@mox.example> BY=0;R"]),
    ("501 5.5.4", User, &["MAIL FROM:<ann@mox.example> HOLDFOR=60 BY=60;N"]),
    ("501 5.5.4", Submission, &["AUTH PLAIN AAAA"]),
    ("501 5.5.4", Submission, &["AUTH CRAM-MD5", "AAAA"]),
    ("503 5.5.1", Greeting, &[FROM_BOB]),
    ("503 5.5.1", Greeting, &["STARTTLS"]),
    ("503 5.5.1", Incoming, &[TO_ANN]),
    ("503 5.5.1", Incoming, &["DATA"]),
    ("503 5.5.1", Incoming, &[FROM_BOB, "DATA"]),
    ("503 5.5.1", Incoming, &[FROM_BOB, FROM_BOB]),
    ("503 5.5.1", Incoming, &["STARTTLS"]),
    ("503 5.5.1", Incoming, &["AUTH PLAIN {ann}"]),
    ("503 5.5.1", User, &["AUTH PLAIN {ann}"]),
    ("503 5.5.1", User, &["STARTTLS"]),
    ("504 5.5.4", Submission, &["AUTH GSSAPI"]),
    ("523 5.7.10", Incoming, &["MAIL FROM:<bob@x.example> REQUIRETLS"]),
    ("525 5.7.13", Submission, &["AUTH PLAIN {shut}"]),
    ("530 5.7.0", Submission, &[BY_ANN]),
    ("530 5.7.0", OnlyTls, &[FROM_BOB, TO_ANN]),
    ("535 5.7.8", Submission, &["AUTH PLAIN {wrong}"]),
    ("535 5.7.8", Submission, &["AUTH PLAIN {nobody}"]),
    ("535 5.7.0", Submission, &["AUTH SCRAM-SHA-256 {scram of ann}", "AAAA", "*"]),
    ("538 5.7.11", Plain, &["AUTH PLAIN {ann}"]),
    ("538 5.7.11", Submission, &["AUTH SCRAM-SHA-256-PLUS"]),
    ("538 5.7.11", Submission, &["AUTH EXTERNAL ="]),
    ("550 5.1.1", Incoming, &[FROM_BOB, "RCPT TO:<ann@elsewhere.example>"]),
    ("550 5.1.1", Incoming, &[FROM_BOB, "RCPT TO:<ann@[198.51.100.2]>"]),
    ("550 5.1.1", Incoming, &[FROM_BOB, "RCPT TO:<gone@mox.example>"]),
    ("550 5.1.1", Incoming, &[FROM_BOB, "RCPT TO:<nobody@mox.example>", "DATA", "From: <bob@x.example>\r\n\r\nhi\r\n."]),
    ("550 5.1.1", User, &[BY_ANN, "RCPT TO:<nobody@mox.example>"]),
    ("550 5.4.6", Incoming, &[FROM_BOB, TO_ANN, "DATA", "{101 received}\r\nhi\r\n."]),
    ("550 5.5.0", Greeting, &["HELO nowhere.example"]),
    ("550 5.6.0", User, &[BY_ANN, TO_BOB, "DATA", "Subject: no author\r\n\r\nhi\r\n."]),
    ("550 5.6.7", Incoming, &["MAIL FROM:<b\u{f8}b@x.example>"]),
    ("550 5.7.0", Incoming, &["MAIL FROM:<bob@[192.0.2.7]>"]),
    ("550 5.7.1", User, &["MAIL FROM:<cas@mox.example>"]),
    ("550 5.7.1", User, &[BY_ANN, TO_BOB, "DATA", "From: <cas@mox.example>\r\n\r\nhi\r\n."]),
    ("550 5.7.2", Incoming, &[FROM_BOB, "RCPT TO:<members@mox.example>", "DATA", "From: <bob@x.example>\r\n\r\nhi\r\n."]),
    ("550 5.7.26", Incoming, &[FROM_BOB, TO_ANN, "DATA", "From: <eve@strict.example>\r\n\r\nhi\r\n."]),
    ("550 5.7.26", Incoming, &[FROM_BOB, "RCPT TO:<proven@mox.example>", "DATA", "From: <eve@careless.example>\r\n\r\nhi\r\n."]),
    ("550 5.7.27", Incoming, &["MAIL FROM:<bob@null.example>"]),
    ("550 5.7.27", Incoming, &["MAIL FROM:<bob@nowhere.example>"]),
    ("552 5.3.4", Incoming, &["MAIL FROM:<bob@x.example> SIZE=104857601"]),
    ("552 5.2.3", Small, &["MAIL FROM:<bob@x.example> SIZE=1001"]),
    // Once for all, instead of a temporary error that has it sent again.
    ("552 5.3.4", Small, &[FROM_BOB, TO_ANN, "DATA", "{1001 octets}\r\n."]),
    ("553 5.6.7", Incoming, &[FROM_BOB, "RCPT TO:<\u{e5}nn@mox.example>"]),
    ("554 5.5.4", User, &["MAIL FROM:<ann@mox.example> HOLDFOR=5184001"]),
    ("554 5.5.4", User, &["MAIL FROM:<ann@mox.example> HOLDUNTIL=1999-01-01T00:00:00Z"]),
    ("554 5.6.0", User, &[BY_ANN, TO_BOB, "DATA", "From: <ann@mox.example>\r\nno body\r\n."]),
    ("554 5.6.0", User, &[BY_ANN, TO_BOB, "DATA", "From: <ann@mox.example>\r\nX-Mox-Extra-A: 1\r\nx-mox-extra-a: 2\r\n\r\nhi\r\n."]),
    (
        "554-5.3.0",
        Incoming,
        &[FROM_BOB, "RCPT TO:<full@mox.example>", "RCPT TO:<nobody@mox.example>", "DATA", "From: <bob@x.example>\r\n\r\nhi\r\n."],
    ),
    ("555 5.3.3", Incoming, &["MAIL FROM:<bob@x.example> WHATEVER"]),
    ("555 5.3.3", Incoming, &["MAIL FROM:<bob@x.example> HOLDFOR=60"]),
    ("555 5.3.3", Incoming, &["MAIL FROM:<bob@x.example> MT-PRIORITY=1"]),
    ("555 5.3.3", Incoming, &[FROM_BOB, "RCPT TO:<ann@mox.example> WHATEVER=1"]),
    ("555 5.5.4", Incoming, &["MAIL FROM:<bob@x.example> BODY=BINARYMIME"]),
    // Ten messages that come to nothing, with none that does.
    (
        "550 5.1.0",
        Incoming,
        &[
            "{refused}",
            "{refused}",
            "{refused}",
            "{refused}",
            "{refused}",
            "{refused}",
            "{refused}",
            "{refused}",
            "{refused}",
            "{refused}",
            "{refused}",
            FROM_BOB,
            "X",
        ],
    ),
];

/// What only pedantic servers say.
const STRICT_ROWS: &[Row] = &[
    ("500 5.6.0", User, &[BY_ANN, TO_BOB, "DATA", "From: <ann@mox.example>\r\n\r\n\u{f8}\r\n."]),
    ("501 5.5.2", Incoming, &["MAIL FROM: <bob@x.example>"]),
    ("501 5.5.2", Incoming, &["MAIL FROM:<{65 a}@x.example>"]),
    (
        "550 5.6.0",
        User,
        &["MAIL FROM:<ann@mox.example> BODY=8BITMIME", TO_BOB, "DATA", "From: <ann@mox.example>\r\nSubject: \u{f8}\r\n\r\nhi\r\n."],
    ),
    ("550 5.6.0", User, &[BY_ANN, TO_BOB, "DATA", "Return-Path: <x@y>\r\nFrom: <ann@mox.example>\r\n\r\nhi\r\n."]),
    ("550 5.6.0", Incoming, &[FROM_BOB, TO_ANN, "DATA", "Subject: \u{f8}\r\n\r\nhi\r\n."]),
];

fn plain(user: &str, password: &str) -> String {
    base64(&mox_sasl::plain::message(user, password))
}

/// A line with what stands for something longer.
fn expanded(line: &str) -> String {
    let scram = |user: &str| base64(format!("n,,n={user},r=fyko+d2lbbFgONRv9qkxdawL").as_bytes());
    [
        ("{ann}", plain("ann@mox.example", PASSWORD)),
        ("{shut}", plain("shut@mox.example", PASSWORD)),
        ("{wrong}", plain("ann@mox.example", "wrong")),
        ("{nobody}", plain("nobody@mox.example", PASSWORD)),
        ("{scram of ann}", scram("ann@mox.example")),
        ("{scram of cas}", scram("cas@mox.example")),
        ("{long line}", format!("NOOP {}", "x".repeat(2048))),
        ("{65 a}", "a".repeat(65)),
        ("{129 a}", "a".repeat(129)),
        ("{240 a}", ["a".repeat(60).as_str(); 4].join(".")),
        ("{101 received}", "Received: from x by y; z\r\n".repeat(101)),
        ("{1001 octets}", format!("Subject: x\r\n\r\n{}", "0123456789\r\n".repeat(100))),
    ]
    .iter()
    .fold(line.to_owned(), |line, (name, text)| line.replace(name, text))
}

fn listener(world: &World, with: With) -> Arc<Listener> {
    let mut settings = ListenerSettings::incoming("public", "mx.mox.example".parse().unwrap());
    match with {
        Greeting | Incoming => {}
        Small => {
            settings.max_size = ByteSize(1000);
            settings.limits.recipients = 2;
        }
        OnlyTls => settings.require_tls = true,
        Submission | User => return world.submission(),
        Plain => return starting_tls(world),
    }
    world.service.listener(settings)
}

/// The first line of a reply.
async fn reply(client: &mut Client, said: &str) -> String {
    let first = client.line().await.unwrap_or_else(|| panic!("closed after {said}"));
    let mut line = first.clone();
    while line.as_bytes().get(3) == Some(&b'-') {
        line = client.line().await.unwrap();
    }
    first
}

/// What is wrong with a row, if anything.
async fn check(world: &World, number: usize, (code, with, lines): &Row) -> Option<String> {
    // Each from its own network, or the tenth failure to log in would be the last.
    let address = format!("10.{}.{}.7:4000", number / 256 + 1, number % 256);
    let address = if lines.iter().any(|l| l.contains("x.example")) { "192.0.2.7:4000".to_owned() } else { address };
    let mut client = world.connect_from(&listener(world, *with), &address);
    client.skip("220").await;
    if !matches!(with, Greeting) {
        client.send("EHLO mx.x.example").await;
        client.skip("250").await;
    }
    if matches!(with, User) {
        client.send(&expanded("AUTH PLAIN {ann}")).await;
        client.skip("235").await;
    }
    let (closes, lines) = match lines.split_last() {
        Some((&"X", lines)) => (true, lines),
        _ => (false, *lines),
    };
    let (last, before) = lines.split_last().unwrap();
    for line in before {
        if *line == "{refused}" {
            client.send("RSET\r\nMAIL FROM:<>\r\nRCPT TO:<nobody@mox.example>\r\nDATA\r\n\r\n.").await;
            for code in ["250", "250", "250", "354", "550"] {
                client.skip(code).await;
            }
            continue;
        }
        client.send(&expanded(line)).await;
        let answer = reply(&mut client, line).await;
        if !answer.starts_with(['2', '3']) {
            return Some(format!("{code}, {with:?} {lines:?}: {line}: {answer}"));
        }
    }
    client.send(&expanded(last)).await;
    let answer = reply(&mut client, last).await;
    let ends = answer.as_bytes().get(code.len()).is_none_or(|b| b" -".contains(b));
    if !(answer.starts_with(code) && ends) {
        return Some(format!("{code}, {with:?} {lines:?}: {answer}"));
    }
    if closes {
        return client.line().await.map(|line| format!("{code}, {with:?} {lines:?}: not closed but {line}"));
    }
    if !matches!(*code, "334" | "354" | "220 2.0.0") {
        // An error is the end of what was asked, not of the connection.
        client.send("NOOP").await;
        client.skip("250").await;
    }
    None
}

#[tokio::test(start_paused = true)]
async fn every_code_has_its_dialogue() {
    for (strict, rows) in [(false, ROWS), (true, STRICT_ROWS)] {
        let world = World::with(|settings| settings.pedantic = strict).await;
        world.give_password("ann").await;
        world.give_password("shut").await;
        let mut wrong = Vec::new();
        for (number, row) in rows.iter().enumerate() {
            wrong.extend(check(&world, number, row).await);
            // Of connections, and of messages a day.
            world.clock.advance(std::time::Duration::from_secs(12 * 3600));
        }
        world.close().await;
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}
