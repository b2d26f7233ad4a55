//! What comes out is what went in, octet for octet: whole messages below the added headers, and each part its slice.

use crate::server::{await_messages, bodies, imap, smtp, start, submission};
use mox_testkit::peers::{ImapClient, Mox, SmtpClient, require_data};

const HEAD: &str = "From: <mox@localhost>\r\nTo: <mox@localhost>\r\nDate: Mon, 02 Nov 2026 10:00:00 +0000\r\nMIME-Version: 1.0\r\n";

/// Sends by SMTP and submission and returns what the mailbox has, checked to end with what was sent.
fn round_trip(mox: &Mox, message: &[u8]) -> ImapClient {
    for mut client in [smtp(mox), submission(mox)] {
        let reply = send_8bit(&mut client, message);
        assert!(reply.starts_with('2'), "{reply}");
    }
    let mut client = imap(mox);
    await_messages(&mut client, "INBOX", 2);
    for body in bodies(&mut client) {
        assert!(body.ends_with(message), "{}", String::from_utf8_lossy(&body));
        let added = body.strip_suffix(message).unwrap();
        assert!(added.is_empty() || added.ends_with(b"\r\n"));
        assert!(!added.windows(4).any(|w| w == b"\r\n\r\n"), "an empty line among the added headers");
    }
    client
}

/// As `SmtpClient::send`, declaring an 8-bit body.
fn send_8bit(client: &mut SmtpClient, message: &[u8]) -> String {
    for command in ["MAIL FROM:<mox@localhost> BODY=8BITMIME SMTPUTF8", "RCPT TO:<mox@localhost>"] {
        let reply = client.command(command).unwrap();
        assert!(reply.is_ok(), "{command}: {reply:?}");
    }
    assert_eq!(client.command("DATA").unwrap().code, 354);
    let mut data = Vec::new();
    for line in message.split_inclusive(|b| *b == b'\n') {
        if line.starts_with(b".") {
            data.push(b'.');
        }
        data.extend_from_slice(line);
    }
    client.write(&data).unwrap();
    let reply = client.command(".").unwrap();
    format!("{} {}", reply.code, reply.text)
}

#[track_caller]
fn part(client: &mut ImapClient, section: &str, expected: &[u8]) {
    for number in ["1", "2"] {
        let answer = client.ok(&format!("FETCH {number} BODY.PEEK[{section}]")).unwrap();
        let found = answer.literals().concat();
        assert_eq!(String::from_utf8_lossy(&found), String::from_utf8_lossy(expected), "BODY[{section}] of message {number}");
        assert_eq!(found, expected);
    }
}

#[test]
fn utf8_text() {
    let mox = start();
    let body = "Grüße, 世界.\r\n.\r\n..\r\n.dot\r\nno line end after this: €\r\n";
    let message = format!(
        "{HEAD}Subject: Grüße\r\nMessage-ID: <utf8@localhost>\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n{body}"
    );
    let mut client = round_trip(&mox, message.as_bytes());
    part(&mut client, "1", body.as_bytes());
    part(&mut client, "TEXT", body.as_bytes());
    assert_eq!(client.command("SEARCH CHARSET UTF-8 BODY \"世界\"").unwrap().untagged, [b"* SEARCH 1 2".to_vec()]);
}

#[test]
fn iso_2022_jp_text() {
    let mox = start();
    // “日本語” in ISO-2022-JP: escapes into JIS X 0208 and back.
    let body = b"\x1b$BF|K\\8l\x1b(B text\r\n.\x1b$BF|\x1b(B\r\n";
    let head = format!(
        "{HEAD}Subject: =?ISO-2022-JP?B?GyRCRnxLXDhsGyhC?=\r\nMessage-ID: <jp@localhost>\r\nContent-Type: text/plain; charset=ISO-2022-JP\r\nContent-Transfer-Encoding: 7bit\r\n\r\n"
    );
    let message = [head.as_bytes(), body].concat();
    let mut client = round_trip(&mox, &message);
    part(&mut client, "1", body);
    // Search sees characters, not escapes.
    for key in ["BODY", "SUBJECT", "TEXT"] {
        let answer = client.command(&format!("SEARCH CHARSET UTF-8 {key} \"日本語\"")).unwrap();
        assert_eq!(answer.untagged, [b"* SEARCH 1 2".to_vec()], "{key}");
    }
}

#[test]
fn nested_multipart_and_message() {
    let mox = start();
    let inner_head = "From: <a@example.org>\r\nSubject: inner\r\nContent-Type: multipart/alternative; boundary=inner\r\n\r\n";
    let (plain_head, plain) = ("Content-Type: text/plain\r\n\r\n", "plain, inside\r\n--not a boundary\r\n");
    let (html_head, html) = ("Content-Type: text/html\r\nContent-Description: one\r\n\ttwo\r\n\r\n", "<p>html</p>\r\n");
    let inner_text = format!("preamble\r\n--inner\r\n{plain_head}{plain}\r\n--inner\r\n{html_head}{html}\r\n--inner--\r\nepilogue\r\n");
    let inner = format!("{inner_head}{inner_text}");
    let (first_head, first) = ("\r\n", "implicit text/plain, no header");
    let (deep_head, deep) = ("Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n", "AAECAwQ=\r\n");
    let mixed = format!("--deep\r\n{deep_head}{deep}--deep\r\n\r\n--deep--");
    let mixed_head = "Content-Type: multipart/mixed; boundary=\"deep\"\r\n\r\n";
    let message_head = "Content-Type: message/rfc822\r\n\r\n";
    let text =
        format!("--outer\r\n{first_head}{first}\r\n--outer\r\n{message_head}{inner}\r\n--outer\r\n{mixed_head}{mixed}\r\n--outer--\r\n");
    let head =
        format!("{HEAD}Subject: nested\r\nMessage-ID: <nested@localhost>\r\nContent-Type: multipart/mixed;\r\n\tboundary=outer\r\n\r\n");
    let message = format!("{head}{text}");
    let mut client = round_trip(&mox, message.as_bytes());
    part(&mut client, "TEXT", text.as_bytes());
    part(&mut client, "1", first.as_bytes());
    part(&mut client, "1.MIME", first_head.as_bytes());
    part(&mut client, "2.MIME", message_head.as_bytes());
    part(&mut client, "2", inner.as_bytes());
    part(&mut client, "2.HEADER", inner_head.as_bytes());
    part(&mut client, "2.TEXT", inner_text.as_bytes());
    part(&mut client, "2.1", plain.as_bytes());
    part(&mut client, "2.1.MIME", plain_head.as_bytes());
    part(&mut client, "2.2", html.as_bytes());
    part(&mut client, "2.2.MIME", html_head.as_bytes());
    part(&mut client, "3", mixed.as_bytes());
    part(&mut client, "3.MIME", mixed_head.as_bytes());
    part(&mut client, "3.1", deep.trim_end().as_bytes());
    part(&mut client, "3.2", b"");
    let binary = client.ok("FETCH 1 (BINARY.PEEK[3.1] BINARY.SIZE[3.1])").unwrap();
    assert_eq!(binary.literals(), [[0, 1, 2, 3, 4]]);
    let partial = client.ok("FETCH 1 BODY.PEEK[2.1]<7.6>").unwrap();
    assert!(String::from_utf8_lossy(&partial.untagged.concat()).contains("inside"));
}

#[test]
fn forty_megabytes() {
    let mox = start();
    // Base64 of bytes that don't compress: a file of 40 MB is 55 MB on the wire.
    let mut state = 1_u64;
    let mut line = || {
        let letter = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"[usize::from(state.to_be_bytes()[0] >> 2)]
        };
        let mut line: Vec<u8> = (0..76).map(letter).collect();
        line.extend_from_slice(b"\r\n");
        line
    };
    let attachment: Vec<u8> = (0..40 * 1024 * 1024 / 57).flat_map(|_| line()).collect();
    let head = format!(
        "{HEAD}Subject: big\r\nMessage-ID: <big@localhost>\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nsee attached\r\n\
         --b\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    );
    let message = [head.as_bytes(), &attachment, b"\r\n--b--\r\n"].concat();
    let reply = smtp(&mox).send(Mox::USER, &[Mox::USER], &message).unwrap();
    assert!(reply.is_ok(), "{reply:?}");
    let mut client = imap(&mox);
    await_messages(&mut client, "INBOX", 1);
    assert!(bodies(&mut client)[0].ends_with(&message));
    assert!(client.ok("FETCH 1 BODY.PEEK[2]").unwrap().literals()[0] == attachment);
    let middle = client.ok("FETCH 1 BODY.PEEK[2]<30000000.1000>").unwrap().literals().concat();
    assert!(middle == attachment[30_000_000..30_001_000]);
    client.append("INBOX", "", &message).unwrap();
    assert!(client.ok("FETCH 2 BODY.PEEK[]").unwrap().literals()[0] == message);
}

#[test]
fn awkward_messages_from_elsewhere() {
    let Some(folder) = require_data("mime") else {
        return;
    };
    let mox = start();
    let mut client = imap(&mox);
    let mut files = Vec::new();
    find_messages(&folder, &mut files);
    files.sort();
    assert!(files.len() > 50, "{} messages", files.len());
    client.ok("CREATE awkward").unwrap();
    client.ok("SELECT awkward").unwrap();
    for (index, file) in files.iter().enumerate() {
        // As they would come over SMTP; many were kept with LF alone, which the server makes CR LF.
        let message = with_crlf(&std::fs::read(file).unwrap());
        client.append("awkward", "", &message).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let number = index + 1;
        let fetched = client.ok(&format!("FETCH {number} (BODY.PEEK[] ENVELOPE BODYSTRUCTURE RFC822.SIZE)")).unwrap();
        let literals = fetched.literals();
        assert!(literals.contains(&message), "{} comes back changed", file.display());
        let size = format!("RFC822.SIZE {}", message.len());
        assert!(fetched.untagged.iter().any(|u| String::from_utf8_lossy(u).contains(&size)), "{}", file.display());
    }
}

/// Every LF after a CR.
fn with_crlf(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for byte in text {
        if *byte == b'\n' && out.last() != Some(&b'\r') {
            out.push(b'\r');
        }
        out.push(*byte);
    }
    out
}

fn find_messages(folder: &std::path::Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            find_messages(&path, found);
        } else if path.extension().is_some_and(|e| e == "eml") {
            found.push(path);
        }
    }
}
