//! What the webapi promises of every method, tried with every method: what is accepted, what is refused, and that what is refused changes nothing.
//!
//! Requests are made from the methods' own descriptions, so that a new method or field is tried too.

use crate::server::{BINARY, await_messages, bodies, imap, smtp, start};
use crate::webapi_http::{BASIC, Reply, call, call_with, ok, raw, request};
use mox_testkit::peers::{Mox, Service};
use mox_webapi::object::{Field, Type};
use mox_webapi::{METHODS, Method};
use serde_json::{Map, Value, json};
use std::path::Path;

fn fields(method: &Method) -> &'static [Field] {
    (method.request)().fields
}

/// Values that a type doesn't have.
fn wrong(ty: &Type) -> Vec<Value> {
    match ty {
        Type::String => vec![json!(1), json!(true), json!([]), json!({})],
        Type::Choice(_) => vec![json!("nothing"), json!(1)],
        Type::Bool => vec![json!("true"), json!(0), json!([])],
        Type::Integer => vec![json!("1"), json!(1.5), json!(1e30), json!([]), json!(true)],
        Type::Time => vec![json!(1), json!("now"), json!(""), json!("2026-11-23 05:03:16Z"), json!([])],
        Type::Pair => vec![json!("x"), json!({"a": "b"}), json!([1, 2])],
        Type::Nullable(inner) => wrong(inner),
        Type::List(inner) => {
            let mut all = vec![json!("x"), json!({}), json!(1)];
            all.extend(wrong(inner).into_iter().map(|value| json!([value])));
            all
        }
        Type::Map(inner) => {
            let mut all = vec![json!("x"), json!([]), json!(1)];
            all.extend(wrong(inner).into_iter().map(|value| json!({"k": value})));
            all
        }
        Type::Object(object) => {
            let mut all = vec![json!("x"), json!([]), json!(1), json!({"Misspelled": 1})];
            for field in object.fields {
                all.extend(wrong(&(field.ty)()).into_iter().take(1).map(|value| json!({field.name: value})));
            }
            all
        }
    }
}

#[track_caller]
fn code(reply: &Reply) -> String {
    if reply.status == 200 { "ok".to_owned() } else { reply.code() }
}

#[test]
fn every_method_reads_requests_by_the_same_rules() {
    let mox = start();
    for method in &METHODS {
        let name = method.name;
        let empty = code(&call(&mox, name, "{}"));
        assert_ne!(empty, "protocol", "{name}");
        assert_ne!(empty, "server", "{name}");
        // What Go's client sends of an empty request, names in another case, and what follows the first value.
        let nulls: Map<String, Value> = fields(method).iter().map(|field| (field.name.to_owned(), Value::Null)).collect();
        let lower: Map<String, Value> = fields(method).iter().map(|field| (field.name.to_lowercase(), Value::Null)).collect();
        for same in ["null".to_owned(), " {} {\"x\":1}".to_owned(), Value::Object(nulls).to_string(), Value::Object(lower).to_string()] {
            assert_eq!(code(&call(&mox, name, &same)), empty, "{name} {same}");
        }
        for other in ["[]", "1", "\"x\"", "{", "{\"Misspelled\":null}", "nul", "{\"a\"}", "\u{fffd}"] {
            assert_eq!(call(&mox, name, other).code(), "protocol", "{name} {other}");
        }
        for field in fields(method) {
            for value in wrong(&(field.ty)()) {
                let request = json!({field.name: value}).to_string();
                assert_eq!(call(&mox, name, &request).code(), "protocol", "{name} {request}");
            }
        }
        let deep = format!("{{\"{}\":{}", fields(method).first().map_or("x", |f| f.name), "[".repeat(200_000));
        assert_eq!(call(&mox, name, &deep).code(), "protocol", "{name}");
        // Forms, credentials and HTTP methods.
        let path = format!("/webapi/v0/{name}");
        assert_eq!(request(&mox, "POST", &path, &format!("{BASIC}Content-Type: application/json\r\n"), b"{}").code(), "protocol", "{name}");
        assert_eq!(
            request(&mox, "POST", &path, "Content-Type: application/x-www-form-urlencoded\r\n", b"request={}").status,
            401,
            "{name}"
        );
        assert_eq!(request(&mox, "DELETE", &path, BASIC, b"").status, 405, "{name}");
        assert_eq!(request(&mox, "GET", &path, "", b"").status, 200, "{name}");
    }
    // Nothing was changed by any of that.
    for (method, list) in
        [("QueueList", "Entries"), ("SuppressionList", "Suppressions"), ("TemplateList", "Templates"), ("MessageList", "Messages")]
    {
        assert_eq!(ok(&mox, method, "{}")[list], json!([]), "{method}");
    }
    assert_eq!(ok(&mox, "QueueList", r#"{"Ended":true}"#)["Entries"], json!([]));
}

/// A request to send in which everything is given.
fn full() -> Value {
    json!({
        "From": [{"Name": "N", "Address": "mox@localhost"}],
        "To": [{"Name": "T", "Address": "mox@localhost"}],
        "CC": [{"Name": "C", "Address": "mox@localhost"}],
        "BCC": [{"Name": "B", "Address": "mox@localhost"}],
        "ReplyTo": [{"Name": "R", "Address": "reply@x.example"}],
        "MessageID": "<m@x.example>",
        "References": ["<a@x.example>", "<b@x.example>"],
        "Date": null,
        "Subject": "s",
        "Text": "t",
        "HTML": "h",
        "Extra": {"k": "v"},
        "Headers": [["X-Mine", "v"]],
        "AlternativeFiles": [{"Name": "a", "ContentType": "text/calendar", "ContentID": "<a@x>", "Data": "QQ=="}],
        "InlineFiles": [{"Name": "i", "ContentType": "image/png", "ContentID": "<i@x>", "Data": "QQ=="}],
        "AttachedFiles": [{"Name": "f", "ContentType": "application/pdf", "ContentID": "<f@x>", "Data": "QQ=="}],
        "SaveSent": true,
    })
}

/// Pointers to all strings in a value.
fn strings(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::String(_) => found.push(at.to_owned()),
        Value::Array(list) => list.iter().enumerate().for_each(|(i, value)| strings(value, &format!("{at}/{i}"), found)),
        Value::Object(map) => map.iter().for_each(|(key, value)| strings(value, &format!("{at}/{key}"), found)),
        _ => {}
    }
}

#[test]
fn no_string_gets_a_line_into_a_header() {
    let mox = start();
    let mut pointers = Vec::new();
    strings(&full(), "", &mut pointers);
    assert!(pointers.len() > 30, "{pointers:?}");
    let mut accepted = Vec::new();
    for pointer in &pointers {
        for evil in ["\r\nX-Evil: 1", "\nX-Evil: 1", "\rX-Evil: 1", "\r\n\r\nX-Evil: 1", "\u{0}", "\u{7f}\u{1b}"] {
            let mut request = full();
            let value = request.pointer_mut(pointer).unwrap();
            *value = json!(format!("{}{evil}", value.as_str().unwrap()));
            let reply = call(&mox, "Send", &request.to_string());
            if reply.status == 200 {
                accepted.push(pointer.as_str());
            } else {
                let code = reply.code();
                assert!(["user", "badAddress", "malformedMessageID"].contains(&code.as_str()), "{pointer} {evil:?}: {code}");
            }
        }
    }
    accepted.dedup();
    // What is text in the message, or isn't in it at all. In base64, line breaks are nothing.
    accepted.retain(|pointer| !["/Text", "/HTML", "/Extra/k"].contains(pointer));
    assert!(accepted.is_empty(), "{accepted:?}");
    // Also where a name is chosen: a header's, or a key of Extra.
    let mut request = full();
    request["Extra"] = json!({"k\r\nX-Evil: 1": "v\r\nX-Evil: 1"});
    ok(&mox, "Send", &request.to_string());
    let mut client = imap(&mox);
    // All recipients are one, who gets one message of each transaction.
    await_messages(&mut client, "Inbox", 3 * 6 + 1);
    for body in bodies(&mut client) {
        let body = String::from_utf8_lossy(&body);
        let header = body.split("\r\n\r\n").next().unwrap();
        assert!(!header.to_lowercase().contains("\nx-evil"), "{header}");
        assert!(header.split("\r\n").all(|line| !line.contains(['\r', '\n', '\0'])), "{header}");
        assert!(header.lines().all(|line| line.len() <= 998), "{header}");
    }
}

#[test]
fn what_is_wrong_is_told_in_order() {
    let mox = with_more_domains("");
    // Each request has all the mistakes of those after it.
    let mistakes: &[(&str, Value, Value, &str)] = &[
        ("Text", json!(""), json!("x"), "missingBody"),
        ("From", json!([{"Address": "mox@localhost"}, {"Address": "bad"}]), json!([{"Name": "\n", "Address": "bad"}]), "multipleFrom"),
        ("From", json!([{"Name": "\n", "Address": "bad"}]), json!([{"Address": "bad"}]), "user"),
        ("From", json!([{"Address": "bad"}]), json!([{"Address": "mox@off.example"}]), "badAddress"),
        ("From", json!([{"Address": "mox@off.example"}]), json!([{"Address": "x@elsewhere.example"}]), "domainDisabled"),
        ("From", json!([{"Address": "x@elsewhere.example"}]), json!([]), "badFrom"),
        ("To", json!([]), json!([{"Address": "a@x.example"}]), "noRecipients"),
        ("ReplyTo", json!([{"Address": "bad"}]), json!([]), "badAddress"),
        ("Subject", json!("a\nb"), json!("a"), "user"),
        ("MessageID", json!("x"), json!(""), "malformedMessageID"),
        ("Headers", json!([["To", "x"]]), json!([]), "user"),
        ("AttachedFiles", json!([{"Data": "!"}]), json!([]), "user"),
        ("FutureRelease", json!("2100-01-01T00:00:00Z"), Value::Null, "user"),
    ];
    let mut request = Map::new();
    for (field, mistake, _, _) in mistakes.iter().rev() {
        request.insert((*field).to_owned(), mistake.clone());
    }
    for (field, _, better, code) in mistakes {
        let text = Value::Object(request.clone()).to_string();
        assert_eq!(call(&mox, "Send", &text).code(), *code, "{text}");
        request.insert((*field).to_owned(), better.clone());
    }
    assert_eq!(ok(&mox, "Send", &Value::Object(request).to_string())["Submissions"][0]["QueueMsgID"], 1);
}

/// With a disabled domain, and one without separators, in which the account has addresses.
fn with_more_domains(account: &str) -> Mox {
    Mox::start_with(Path::new(BINARY), |dir| {
        let path = dir.join("domains.conf");
        let text = std::fs::read_to_string(&path)?;
        let text = text.replacen("Domains:\n", "Domains:\n\toff.example:\n\t\tDisabled: true\n\tplain.example: nil\n", 1);
        let addresses = "\t\t\tmox@localhost: nil\n\t\t\tmox@off.example: nil\n\t\t\tmox@plain.example: nil\n";
        let text = text.replacen("\t\t\tmox@localhost: nil\n", addresses, 1);
        std::fs::write(&path, text.replacen("\tmox:\n", &format!("\tmox:\n{account}"), 1))
    })
    .unwrap()
}

#[test]
fn unique_senders_need_a_separator() {
    let mox = with_more_domains("\t\tFromIDLoginAddresses:\n\t\t\t- mox@localhost\n");
    let from = |address: &str| format!(r#"{{"From":[{{"Address":"{address}"}}],"To":[{{"Address":"a@x.example"}}],"Text":"x"}}"#);
    assert_eq!(call(&mox, "Send", &from("mox@plain.example")).code(), "user");
    let submission = &ok(&mox, "Send", &from("mox+more@localhost"))["Submissions"][0];
    assert_eq!((submission["QueueMsgID"].as_i64(), submission["FromID"].as_str().map(str::len)), (Some(1), Some(22)));
    let mut client = imap(&mox);
    await_messages(&mut client, "Inbox", 1);
    let text = String::from_utf8(bodies(&mut client).remove(0)).unwrap();
    let id = submission["FromID"].as_str().unwrap();
    assert!(text.contains(&format!("Return-Path: <mox+{id}@localhost>")), "what was behind the separator is left out: {text}");
}

#[test]
fn how_texts_and_addresses_are_written() {
    let mox = start();
    let long = "x".repeat(77);
    for (n, (text, charset, encoding, body)) in [
        ("a", "us-ascii", "7bit", "a\r\n".to_owned()),
        ("a\nb\n", "us-ascii", "7bit", "a\r\nb\r\n".to_owned()),
        ("ä", "utf-8", "8bit", "ä\r\n".to_owned()),
        (&long, "us-ascii", "quoted-printable", format!("{}=\r\nxx\r\n", "x".repeat(75))),
        ("a\rb", "us-ascii", "quoted-printable", "a=0Db\r\n".to_owned()),
    ]
    .into_iter()
    .enumerate()
    {
        ok(&mox, "Send", &json!({"To": [{"Address": "mox@localhost"}], "Text": text}).to_string());
        let mut client = imap(&mox);
        await_messages(&mut client, "Inbox", n + 1);
        let arrived = String::from_utf8(bodies(&mut client).remove(n)).unwrap();
        let end = format!("Content-Type: text/plain; charset={charset}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n{body}");
        assert!(arrived.ends_with(&end), "{arrived}");
    }
    ok(&mox, "Send", &json!({"To": [{"Address": "mox@localhost"}], "Subject": "Grüße Köln: ü é", "Text": "x"}).to_string());
    await_messages(&mut imap(&mox), "Inbox", 6);
    let newest = ok(&mox, "MessageList", r#"{"NewestFirst":true,"Limit":1}"#);
    assert_eq!(newest["Messages"][0]["Message"]["Subject"], "Grüße Köln: ü é", "the spaces between encoded words are kept");
    // Localparts beyond ASCII make all of the header UTF-8, with domains as people read them; others don't.
    let many: Vec<Value> = (0..20).map(|n| json!({"Name": format!("Ü {n}"), "Address": format!("user{n}@bücher.example")})).collect();
    let names = |to: &Value| ok(&mox, "Send", &json!({"To": to, "Subject": "Ü", "Text": "x", "SaveSent": true}).to_string());
    names(&json!(many));
    names(&json!([{"Name": "Ü", "Address": "jörg@bücher.example"}, {"Address": "a@x.example"}]));
    let mut client = imap(&mox);
    await_messages(&mut client, "Sent", 2);
    let sent: Vec<String> = bodies(&mut client).into_iter().map(|body| String::from_utf8(body).unwrap()).collect();
    let header = |n: usize| sent[n].split("\r\n\r\n").next().unwrap();
    assert!(header(0).is_ascii() && header(0).contains("<user19@xn--bcher-kva.example>"), "{}", header(0));
    assert!(header(0).split("\r\n").all(|line| line.len() <= 78), "{}", header(0));
    assert!(header(1).contains("<jörg@bücher.example>") && header(1).contains("\r\nSubject: Ü\r\n"), "{}", header(1));
}

#[test]
fn recipients_in_order_and_times_of_release() {
    let mox = start();
    let address = |name: &str| json!([{"Address": format!("queue450-{name}@x.example")}, {"Address": "queue450@x.example"}]);
    let request = json!({
        "To": address("to"), "CC": address("cc"), "BCC": address("bcc"), "Text": "x", "Extra": {"K y": "<&>ü\n"}, "RequireTLS": false,
        "FutureRelease": "2020-01-01T00:00:00+02:00",
    });
    let reply = call(&mox, "Send", &request.to_string());
    let text = reply.text();
    assert!(text.ends_with("}]}\n") && !text.trim_end().contains(['\n', ' ']), "compact, and a line: {text}");
    assert_eq!(reply.header("content-type"), Some("application/json; charset=utf-8"));
    let submissions = reply.json()["Submissions"].as_array().unwrap().clone();
    let given: Vec<&str> = submissions.iter().map(|s| s["Address"].as_str().unwrap().split('@').next().unwrap()).collect();
    assert_eq!(given, ["queue450-to", "queue450", "queue450-cc", "queue450", "queue450-bcc", "queue450"]);
    let ids: Vec<i64> = submissions.iter().map(|s| s["QueueMsgID"].as_i64().unwrap()).collect();
    assert!(ids.is_sorted(), "{ids:?}");
    let listed = call(&mox, "QueueList", "{}");
    assert!(listed.text().contains(r#""Extra":{"K y":"<&>ü\n"}"#), "kept as given, and without escapes for HTML: {}", listed.text());
    let entry = &listed.json()["Entries"][0];
    assert!(entry["NextAttempt"].as_str().unwrap() > "2026", "a release in the past is at once: {entry}");
    let gzip = call_with(&mox, "QueueList", "Accept-Encoding: gzip\r\n", "{}");
    assert_eq!((gzip.status, gzip.header("content-encoding")), (200, Some("gzip")));
    assert!(gzip.body.starts_with(b"\x1f\x8b"));
}

#[test]
fn received_messages_are_described() {
    let mox = start();
    let message = "From: =?utf-8?q?J=C3=B6?= <jo@xn--bcher-kva.example>\r\nTo: broken address, mox@localhost\r\n\
        Date: Mon, 23 Nov 2026 05:03:16 +0100\r\nMessage-ID: <R@x>\r\nIn-Reply-To: <parent@x>\r\nReferences: <one@x> junk <Two@x>\r\n\
        Subject: =?utf-8?q?a?= =?utf-8?q?b?=\r\nMIME-Version: 1.0\r\nContent-Type: Multipart/Mixed; Boundary=b\r\n\r\n\
        --b\r\nContent-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=E4 1\r\n\r\n\
        --b\r\nContent-Type: TEXT/HTML; Charset=\"UTF-8\"\r\n\r\n<b>\r\n--b\r\n\
        Content-Type: image/png; name=x.png\r\nContent-ID: <c@x>\r\nContent-Disposition: INLINE; filename*=utf-8''%C3%BC.png\r\n\
        Content-Transfer-Encoding: base64\r\n\r\nAAECAw==\r\n--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\nx\r\n--b--\r\n";
    let mut client = smtp(&mox);
    assert_eq!(client.send("jo@xn--bcher-kva.example", &["made-up@elsewhere.example"], message.as_bytes()).unwrap().code, 250);
    await_messages(&mut imap(&mox), "Inbox", 1);
    let got = ok(&mox, "MessageGet", r#"{"MsgID":1}"#);
    let header = &got["Message"];
    assert_eq!(header["From"], json!([{"Name": "Jö", "Address": "jo@bücher.example"}]));
    assert!(header["To"].as_array().unwrap().iter().any(|to| to["Address"] == "mox@localhost"), "{header}");
    assert_eq!(
        (&header["Date"], &header["MessageID"], &header["Subject"]),
        (&json!("2026-11-23T05:03:16+01:00"), &json!("<R@x>"), &json!("ab"))
    );
    assert_eq!(header["References"], json!(["<parent@x>", "<one@x>", "<Two@x>"]));
    assert_eq!((&header["Text"], &header["HTML"], &header["BCC"]), (&json!("ä 1\n"), &json!(""), &json!([])));
    let structure = &got["Structure"];
    assert_eq!((&structure["ContentType"], &structure["ContentTypeParams"]), (&json!("multipart/mixed"), &json!({"boundary": "b"})));
    let parts = structure["Parts"].as_array().unwrap();
    let kinds: Vec<&str> = parts.iter().map(|part| part["ContentType"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["text/plain", "text/html", "image/png", "message/rfc822"]);
    assert_eq!((&parts[1]["ContentTypeParams"], &parts[3]["Parts"]), (&json!({"charset": "UTF-8"}), &json!([])));
    let png = &parts[2];
    assert_eq!(
        (&png["ContentID"], &png["ContentDisposition"], &png["Filename"], &png["DecodedSize"]),
        (&json!("<c@x>"), &json!("inline"), &json!("ü.png"), &json!(4))
    );
    let meta = &got["Meta"];
    assert_eq!((&meta["RcptTo"], &meta["MailFrom"]), (&json!("made-up@elsewhere.example"), &json!("jo@bücher.example")));
    assert_eq!((&meta["MsgFrom"], &meta["DSN"], &meta["Flags"]), (&json!("jo@bücher.example"), &json!(false), &json!([])));
    let part = call(&mox, "MessagePartGet", r#"{"MsgID":1,"PartPath":[0]}"#);
    assert_eq!((part.body.as_slice(), part.header("content-disposition")), (b"\xe4 1\r\n".as_slice(), Some("attachment")));

    // Flags in their order, and moving to a mailbox for junk says what it is.
    let all = ["work", "\\seen", "\\flagged", "\\draft", "\\deleted", "\\answered", "$phishing", "$mdnsent", "$forwarded", "a"];
    ok(&mox, "MessageFlagsAdd", &json!({"MsgID": 1, "Flags": all}).to_string());
    ok(&mox, "MessageMove", r#"{"MsgID":1,"DestMailboxName":"Junk"}"#);
    let flags = &ok(&mox, "MessageGet", r#"{"MsgID":1}"#)["Meta"]["Flags"];
    let want = ["$forwarded", "$junk", "$mdnsent", "$phishing", "\\answered", "\\deleted", "\\draft", "\\flagged", "\\seen", "a", "work"];
    assert_eq!(*flags, json!(want));

    // With bytes that are no text, and with little of a header.
    let odd = b"From: <a@example.org>\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n/4AgeA==\r\n";
    assert_eq!(smtp(&mox).send("a@example.org", &["mox@localhost"], odd).unwrap().code, 250);
    await_messages(&mut imap(&mox), "Inbox", 1);
    let got = ok(&mox, "MessageGet", r#"{"MsgID":2}"#);
    assert_eq!((&got["Message"]["Text"], &got["Message"]["Date"]), (&json!("\u{fffd}\u{fffd} x"), &Value::Null));
    assert_eq!((&got["Message"]["To"], &got["Message"]["References"]), (&json!([]), &json!([])));
}

#[test]
fn without_a_mailbox_for_sent_mail_no_copy_is_kept() {
    let mox = start();
    imap(&mox).ok("DELETE Sent").unwrap();
    ok(&mox, "Send", r#"{"To":[{"Address":"mox@localhost"}],"Text":"x","SaveSent":true}"#);
    await_messages(&mut imap(&mox), "Inbox", 1);
    let names = ok(&mox, "MailboxList", "{}");
    assert!(!names["Mailboxes"].as_array().unwrap().iter().any(|m| m["Name"] == "Sent"), "{names}");
}

#[test]
fn refusals_without_json() {
    let mox = Mox::start_with(Path::new(BINARY), |dir| {
        let conf = dir.join("mox.conf");
        let text = std::fs::read_to_string(&conf)?;
        std::fs::write(&conf, text.replacen("\t\tWebAPIHTTP:\n", "\t\tWebAPIHTTP:\n\t\t\tForwarded: true\n", 1))
    })
    .unwrap();
    let post = |headers: &str| {
        let form = "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 10\r\nConnection: close\r\n";
        let head = format!("POST /webapi/v0/SuppressionList HTTP/1.1\r\nHost: localhost\r\n{headers}{form}\r\nrequest={{}}");
        raw(&mox, head.as_bytes())
    };
    for from in ["", "X-Forwarded-For: unknown\r\n", "X-Forwarded-For: \r\n"] {
        let reply = post(&format!("{BASIC}{from}"));
        assert_eq!((reply.status, reply.text().as_str()), (500, "500 - internal server error - cannot find remote ip\n"), "{from}");
    }
    // Missing credentials aren't a failed login; too many failed ones keep the right ones out as well.
    let from = "X-Forwarded-For: 192.0.2.1\r\n";
    let wrong = "Authorization: Basic bW94QGxvY2FsaG9zdDp3cm9uZ3dyb25n\r\n";
    for _ in 0..30 {
        assert_eq!(post(from).status, 401);
    }
    assert!((0..25).any(|_| post(&format!("{wrong}{from}")).status == 429));
    let refused = post(&format!("{BASIC}{from}"));
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("60")));
    assert_eq!(post(&format!("{BASIC}X-Forwarded-For: 198.51.100.7\r\n")).status, 200);
}

#[test]
fn calls_are_counted() {
    let mox = start();
    ok(&mox, "Send", r#"{"To":[{"Address":"mox@localhost"}],"Text":"x"}"#);
    assert_eq!(call(&mox, "Send", r#"{"Text":"x","From":[{"Address":"a@elsewhere.example"}]}"#).code(), "badFrom");
    assert_eq!(call(&mox, "Send", "{").code(), "protocol");
    let wrong = "Authorization: Basic bW94QGxvY2FsaG9zdDp3cm9uZ3dyb25n\r\n";
    assert_eq!(request(&mox, "POST", "/webapi/v0/MessageGet", wrong, b"").status, 401);
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", mox.port(Service::Metrics))).unwrap();
    std::io::Write::write_all(&mut stream, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut stream, &mut text).unwrap();
    for line in [
        "mox_webapi_submission_total{result=\"ok\"} 1",
        "mox_webapi_submission_total{result=\"badfrom\"} 1",
        "mox_webapi_results_total{method=\"Send\",result=\"ok\"} 1",
        "mox_webapi_results_total{method=\"Send\",result=\"badFrom\"} 1",
        "mox_webapi_results_total{method=\"Send\",result=\"protocol\"} 1",
        "mox_webapi_results_total{method=\"MessageGet\",result=\"badauth\"} 1",
        "mox_webapi_duration_seconds_count{method=\"Send\"} 3",
        "mox_webapi_duration_seconds_bucket{le=\"0.01\",method=\"Send\"}",
        "mox_webapi_duration_seconds_bucket{le=\"30\",method=\"Send\"}",
    ] {
        assert!(text.contains(line), "{line}\n{}", text.lines().filter(|l| l.contains("webapi")).collect::<Vec<_>>().join("\n"));
    }
}
