//! The methods of the webapi, from outside.

use crate::server::{BINARY, await_messages, bodies, imap, start};
use crate::webapi_http::{call, multipart, ok};
use mox_testkit::peers::Mox;
use serde_json::{Value, json};
use std::path::Path;

/// A recipient who gets it.
const TO: &str = r#""To":[{"Address":"mox@localhost"}]"#;

/// The only message of a mailbox, once it is there.
fn only_message(mox: &Mox, mailbox: &str) -> String {
    let mut client = imap(mox);
    await_messages(&mut client, mailbox, 1);
    String::from_utf8(bodies(&mut client).remove(0)).unwrap()
}

/// Everything from a header of the composed message on: what is added in front of it varies.
fn from_header<'m>(message: &'m str, name: &str) -> &'m str {
    &message[message.find(&format!("\r\n{name}: ")).unwrap() + 2..]
}

/// The ids of all messages of the account.
fn message_ids(mox: &Mox) -> Vec<i64> {
    (1..20).filter(|id| call(mox, "MessageGet", &json!({"MsgID": id}).to_string()).status == 200).collect()
}

#[test]
fn a_message_arrives_as_it_was_asked_for() {
    let mox = start();
    let request = json!({
        "From": [{"Name": "Jörg \"x\"", "Address": "mox@localhost"}],
        "To": [{"Name": "", "Address": "mox@localhost"}],
        "BCC": [{"Address": "queue451@elsewhere.example"}],
        "ReplyTo": [{"Name": "R", "Address": "reply@x.example"}],
        "MessageID": "<chosen@x.example>",
        "References": ["<a@x>", "", "<b@x>"],
        "Date": "2026-11-23T05:03:16+01:00",
        "Subject": "Grüße aus Köln",
        "Text": "hällo\n",
        "HTML": "<p>hi",
        "Headers": [["X-Mine", "one"], ["X-Mailer", "test"]],
        "AlternativeFiles": [{"ContentType": "text/calendar", "Data": "QkVHSU4="}],
        "InlineFiles": [{"Name": "ä.png", "ContentID": "<i@x>", "Data": "iVBORw0KGgo="}],
        "AttachedFiles": [{"Name": "empty.bin", "Data": ""}],
        "Extra": {"k": "v"},
        "SaveSent": true,
    });
    let response = ok(&mox, "Send", &request.to_string());
    assert_eq!(response["MessageID"], "<chosen@x.example>");
    let submissions = response["Submissions"].as_array().unwrap();
    let addresses: Vec<&str> = submissions.iter().map(|s| s["Address"].as_str().unwrap()).collect();
    assert_eq!(addresses, ["mox@localhost", "queue451@elsewhere.example"]);
    assert!(submissions.iter().all(|s| s["QueueMsgID"].as_i64().unwrap() > 0 && s["FromID"] == ""));

    let arrived = only_message(&mox, "Inbox");
    assert!(!arrived.contains("\r\nBcc:") && !arrived.contains("queue451@"), "{arrived}");
    let received = arrived.find("Received: from localhost by localhost id ").unwrap();
    let signature = arrived.find("DKIM-Signature: ").unwrap();
    // Signed when it was sent, after it was received here.
    let from = arrived.find("\r\nFrom: ").unwrap();
    assert!(signature < received && received < from, "{arrived}");
    assert!(!arrived[received..from].contains(" for "), "there are two recipients: {arrived}");
    assert!(!arrived[received..from].contains("127.0.0.1"), "{arrived}");
    let composed = from_header(&arrived, "From");
    let boundaries: Vec<&str> = composed.split("boundary=\"").skip(1).filter_map(|b| b.split('"').next()).collect();
    let mut composed = composed.replace("\r\n", "\n");
    for (i, boundary) in boundaries.iter().enumerate() {
        composed = composed.replace(boundary, &format!("b{i}"));
    }
    let want = "From: =?utf-8?q?J=C3=B6rg_=22x=22?= <mox@localhost>
Reply-To: \"R\" <reply@x.example>
To: <mox@localhost>
Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?= aus =?utf-8?q?K=C3=B6ln?=
Date: 23 Nov 2026 05:03:16 +0100
Message-Id: <chosen@x.example>
References: <a@x>
\t<b@x>
In-Reply-To: <b@x>
MIME-Version: 1.0
X-Mine: one
X-Mailer: test
Content-Type: multipart/mixed;
\tboundary=\"b0\"

--b0
Content-Type: multipart/related;
\tboundary=\"b1\"

--b1
Content-Type: multipart/alternative;
\tboundary=\"b2\"

--b2
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit

hällo

--b2
Content-Type: text/html; charset=us-ascii
Content-Transfer-Encoding: 7bit

<p>hi

--b2
Content-Type: text/calendar
Content-Disposition: inline
Content-Transfer-Encoding: base64

QkVHSU4=
--b2--
--b1
Content-Type: image/png
Content-ID: <i@x>
Content-Disposition: inline; filename*=utf-8''%C3%A4.png
Content-Transfer-Encoding: base64

iVBORw0KGgo=
--b1--
--b0
Content-Type: text/plain; charset=utf-8
Content-Disposition: attachment; filename=\"empty.bin\"
Content-Transfer-Encoding: base64

--b0--
";
    assert_eq!(composed, want);

    let sent = only_message(&mox, "Sent");
    assert!(sent.starts_with("Bcc: <queue451@elsewhere.example>\r\nFrom: "), "{sent}");
    assert!(!sent.contains("\r\nReceived: "), "{sent}");
    let flags = imap(&mox).ok("STATUS Sent (UNSEEN)").unwrap();
    assert!(String::from_utf8_lossy(&flags.untagged.concat()).contains("UNSEEN 0"));
}

#[test]
fn defaults() {
    let mox = start();
    let response = ok(&mox, "Send", &format!(r#"{{{TO},"Text":"hi"}}"#));
    let id = response["MessageID"].as_str().unwrap();
    assert!(id.starts_with('<') && id.ends_with("@localhost>") && id.len() == "<@localhost>".len() + 22, "{id}");
    let arrived = only_message(&mox, "Inbox");
    let words = arrived.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(words.matches(" for <mox@localhost>;").count(), 2, "{arrived}");
    let composed = from_header(&arrived, "From");
    let names: Vec<&str> = composed.split("\r\n\r\n").next().unwrap().lines().filter_map(|l| l.split_once(": ")).map(|(n, _)| n).collect();
    let want = ["From", "To", "Date", "Message-Id", "MIME-Version", "User-Agent", "Content-Type", "Content-Transfer-Encoding"];
    assert_eq!(names, want);
    assert!(composed.contains("<mox@localhost>\r\n") && composed.contains("User-Agent: mox/"), "{composed}");
    assert!(
        composed.ends_with("Content-Type: text/plain; charset=us-ascii\r\nContent-Transfer-Encoding: 7bit\r\n\r\nhi\r\n"),
        "{composed}"
    );
}

#[test]
fn uploaded_files() {
    let mox = start();
    let large: Vec<u8> = (0..200_000_u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
    let request = format!(r#"{{{TO},"Text":"see files","AttachedFiles":[{{"Name":"json","Data":"QQ=="}}]}}"#);
    let reply = multipart(
        &mox,
        "Send",
        &[
            ("request", "", request.as_bytes()),
            ("attachedfile; filename=\"a b.bin\"", "Content-Type: application/x-mine\r\n", &large),
            ("attachedfile; filename=\"dir/page\"", "", b"<html>x"),
            ("inlinefile; filename=i.gif", "Content-ID: <cid@x>\r\n", b"GIF89a"),
            ("otherfile; filename=o", "", b"ignored"),
        ],
    );
    assert_eq!(reply.status, 200, "{}", reply.text());
    only_message(&mox, "Inbox");
    let id = message_ids(&mox).remove(0);
    let message = ok(&mox, "MessageGet", &json!({"MsgID": id}).to_string());
    let parts = message["Structure"]["Parts"].as_array().unwrap();
    let described: Vec<(&str, &str, &str, i64)> = parts
        .iter()
        .map(|p| {
            let text = |name: &str| p[name].as_str().unwrap();
            (text("ContentType"), text("Filename"), text("ContentDisposition"), p["DecodedSize"].as_i64().unwrap())
        })
        .collect();
    let want = [
        ("multipart/related", "", "", 0),
        ("text/plain", "json", "attachment", 1),
        ("application/x-mine", "a b.bin", "attachment", 200_000),
        ("text/html", "page", "attachment", 7),
    ];
    assert_eq!(described, want);
    assert_eq!(parts[0]["Parts"][1]["ContentID"], "<cid@x>");
    let part = call(&mox, "MessagePartGet", &json!({"MsgID": id, "PartPath": [2]}).to_string());
    assert!(part.status == 200 && part.body == large, "{}", part.head);
    assert_eq!(part.header("content-disposition"), Some("attachment"));
    let page = call(&mox, "MessagePartGet", &json!({"MsgID": id, "PartPath": [3]}).to_string());
    assert_eq!(page.header("content-security-policy"), Some("default-src 'none'; sandbox"));
}

#[test]
fn what_send_refuses() {
    let mox = start();
    let control = |field: &str| format!(r#"{{{TO},"Text":"x",{field}}}"#);
    let cases = [
        (r#"{"To":[{"Address":"bad"}]}"#.to_owned(), "missingBody"),
        (r#"{"Text":"x","From":[{"Address":"bad"},{"Address":"mox@localhost"}]}"#.to_owned(), "multipleFrom"),
        (r#"{"Text":"x","From":[{"Address":"bad"}]}"#.to_owned(), "badAddress"),
        (r#"{"Text":"x","To":[{"Address":"x@"}]}"#.to_owned(), "badAddress"),
        (r#"{"Text":"x","To":[{"Address":"x@[127.0.0.1]"}]}"#.to_owned(), "badAddress"),
        (r#"{"Text":"x","CC":[{"Address":""}]}"#.to_owned(), "badAddress"),
        (r#"{"Text":"x","BCC":[{"Address":"a@b.example>\r\nX: y"}]}"#.to_owned(), "badAddress"),
        (r#"{"Text":"x","To":[{"Name":"a\r\nX-Evil: 1","Address":"bad"}]}"#.to_owned(), "user"),
        (r#"{"Text":"x","From":[{"Address":"other@elsewhere.example"}]}"#.to_owned(), "badFrom"),
        (r#"{"Text":"x"}"#.to_owned(), "noRecipients"),
        (control(r#""ReplyTo":[{"Address":"bad"}]"#), "badAddress"),
        (control(r#""Subject":"a\r\nX-Evil: 1""#), "user"),
        (control(r#""Subject":"a\u0000b""#), "user"),
        (control(r#""MessageID":"a@b""#), "malformedMessageID"),
        (control(r#""MessageID":"<a@b""#), "malformedMessageID"),
        (control(r#""MessageID":"<a\r\n@b>""#), "user"),
        (control(r#""References":["<a>\r\nX-Evil: 1"]"#), "user"),
        (control(r#""Headers":[["X\r\nEvil","1"]]"#), "user"),
        (control(r#""Headers":[["X-Evil: a","1"]]"#), "user"),
        (control(r#""Headers":[["","1"]]"#), "user"),
        (control(r#""Headers":[["X","a\nb"]]"#), "user"),
        (control(r#""Headers":[["X","a\u007fb"]]"#), "user"),
        (control(r#""Headers":[["from","a@b.example"]]"#), "user"),
        (control(r#""Headers":[["DKIM-Signature","x"]]"#), "user"),
        (control(r#""Headers":[["content-type","text/html"]]"#), "user"),
        (control(r#""AttachedFiles":[{"Data":"!"}]"#), "user"),
        (control(r#""AttachedFiles":[{"Data":"YQ"}]"#), "user"),
        (control(r#""AttachedFiles":[{"Name":"a\r\nb","Data":"YQ=="}]"#), "user"),
        (control(r#""InlineFiles":[{"ContentID":"<a>\r\nX: y","Data":"YQ=="}]"#), "user"),
        (control(r#""AlternativeFiles":[{"ContentType":"a/b\r\nX: y","Data":"YQ=="}]"#), "user"),
        (control(r#""FutureRelease":"2100-01-01T00:00:00Z""#), "user"),
        (control(r#""Subjct":"x""#), "protocol"),
        (control(r#""Date":"yesterday""#), "protocol"),
        (control(r#""Extra":{"k":1}"#), "protocol"),
    ];
    for (request, code) in &cases {
        assert_eq!(&call(&mox, "Send", request).code(), code, "{request}");
    }
    // Nothing of it was queued.
    await_messages(&mut imap(&mox), "Inbox", 0);
    assert_eq!(ok(&mox, "Send", &format!(r#"{{{TO},"Text":"x"}}"#))["Submissions"][0]["QueueMsgID"], 1);
}

/// Starts with further lines for the account, and a small limit on the size of messages.
fn start_limited(account: &str) -> Mox {
    Mox::start_with(Path::new(BINARY), |dir| {
        let path = dir.join("domains.conf");
        let text = std::fs::read_to_string(&path)?;
        std::fs::write(&path, text.replacen("\tmox:\n", &format!("\tmox:\n{account}"), 1))?;
        let path = dir.join("mox.conf");
        let text = std::fs::read_to_string(&path)?;
        std::fs::write(&path, text.replacen("\t\tSMTP:\n", "\t\tSMTPMaxMessageSize: 20000\n\t\tSMTP:\n", 1))
    })
    .unwrap()
}

#[test]
fn limits_of_sending() {
    let mox = start_limited("\t\tMaxOutgoingMessagesPerDay: 3\n\t\tMaxFirstTimeRecipientsPerDay: 2\n");
    let data = "A".repeat(20_000);
    let large = format!(r#"{{{TO},"Text":"x","AttachedFiles":[{{"Data":"{data}"}}]}}"#);
    assert_eq!(call(&mox, "Send", &large).code(), "messageTooLarge");
    let request = format!(r#"{{{TO},"Text":"x"}}"#);
    let reply = multipart(&mox, "Send", &[("request", "", request.as_bytes()), ("attachedfile; filename=f", "", &[b'x'; 30_000])]);
    assert_eq!(reply.code(), "messageTooLarge");
    let to = |address: &str| format!(r#"{{"To":[{{"Address":"{address}"}}],"Text":"x"}}"#);
    ok(&mox, "Send", &to("a@x.example"));
    ok(&mox, "Send", &to("b@x.example"));
    assert_eq!(call(&mox, "Send", &to("c@x.example")).code(), "recipientLimitReached");
    ok(&mox, "Send", &to("a@x.example"));
    assert_eq!(call(&mox, "Send", &to("a@x.example")).code(), "messageLimitReached");
}

/// Runs a command for a server.
fn command(mox: &Mox, args: &[&str]) {
    let output = std::process::Command::new(BINARY).arg("-config").arg(mox.dir().join("mox.conf")).args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {output:?}");
}

#[test]
fn room_in_the_queue() {
    let mox = start_limited("\t\tQueueMaxMessages: 2\n\t\tQueueMaxSize: 10000\n");
    // Everything waits.
    command(&mox, &["queue", "holdrules", "add"]);
    let later = |addresses: &[&str], text: &str| {
        let to: Vec<String> = addresses.iter().map(|address| format!(r#"{{"Address":"{address}"}}"#)).collect();
        format!(r#"{{"To":[{}],"Text":"{text}"}}"#, to.join(","))
    };
    let refused = call(&mox, "Send", &later(&["a@x.example", "b@x.example", "c@x.example"], "x"));
    assert_eq!(refused.code(), "messageLimitReached");
    assert!(refused.text().contains("see QueueMaxMessages"), "{}", refused.text());
    let refused = call(&mox, "Send", &later(&["a@x.example"], &"long ".repeat(3500)));
    assert!(refused.code() == "messageLimitReached" && refused.text().contains("see QueueMaxSize"), "{}", refused.text());
    ok(&mox, "Send", &later(&["a@x.example"], "x"));
    ok(&mox, "Send", &later(&["b@x.example"], "x"));
    assert_eq!(call(&mox, "Send", &later(&["c@x.example"], "x")).code(), "messageLimitReached");
    command(&mox, &["queue", "drop", "-to", "a@x.example"]);
    ok(&mox, "Send", &later(&["c@x.example"], "x"));
}

#[test]
fn a_copy_over_quota_is_sent_all_the_same() {
    let mox = start_limited("\t\tQuotaMessageSize: 1\n");
    let request = format!(r#"{{{TO},"Text":"x","SaveSent":true}}"#);
    let refused = call(&mox, "Send", &request);
    assert_eq!(refused.code(), "sentOverQuota");
    assert_eq!(ok(&mox, "Send", &format!(r#"{{{TO},"Text":"x"}}"#))["Submissions"][0]["QueueMsgID"], 2);
}

#[test]
fn unique_senders() {
    let mox = start_limited("\t\tFromIDLoginAddresses:\n\t\t\t- mox@localhost\n");
    let response = ok(&mox, "Send", r#"{"To":[{"Address":"a@x.example"}],"CC":[{"Address":"b@x.example"}],"Text":"x"}"#);
    let ids: Vec<&str> = response["Submissions"].as_array().unwrap().iter().map(|s| s["FromID"].as_str().unwrap()).collect();
    assert!(ids.len() == 2 && ids[0] != ids[1] && ids.iter().all(|id| id.len() == 22), "{ids:?}");
    let mut client = imap(&mox);
    await_messages(&mut client, "Inbox", 2);
    let arrived = String::from_utf8_lossy(&bodies(&mut client).concat()).into_owned();
    for id in ids {
        assert!(arrived.contains(&format!("Return-Path: <mox+{id}@localhost>")), "{id}: {arrived}");
    }
}

#[test]
fn suppression_lists() {
    let mox = start();
    let address = |text: &str| json!({"EmailAddress": text}).to_string();
    assert_eq!(ok(&mox, "SuppressionPresent", &address("a@x.example")), json!({"Present": false}));
    let add = json!({"EmailAddress": "A.b+c@bücher.example", "Manual": true, "Reason": "why"}).to_string();
    assert_eq!(ok(&mox, "SuppressionAdd", &add), json!({}));
    assert_eq!(call(&mox, "SuppressionAdd", &address("ab-x@xn--bcher-kva.example")).code(), "error");
    assert_eq!(ok(&mox, "SuppressionPresent", &address("ab@bücher.example")), json!({"Present": true}));
    let list = ok(&mox, "SuppressionList", "{}");
    let entry = &list["Suppressions"][0];
    assert_eq!((entry["Account"].as_str(), entry["BaseAddress"].as_str()), (Some("mox"), Some("ab@bücher.example")));
    assert_eq!(
        (&entry["OriginalAddress"], &entry["Manual"], &entry["Reason"]),
        (&json!("A.b+c@bücher.example"), &json!(true), &json!("why"))
    );
    assert!(entry["ID"].as_i64().unwrap() > 0 && entry["Created"].as_str().unwrap().ends_with('Z'), "{entry}");
    for method in ["SuppressionAdd", "SuppressionRemove", "SuppressionPresent"] {
        for bad in ["", "x", "x@", "@x.example", "x@[::1]"] {
            assert_eq!(call(&mox, method, &address(bad)).code(), "badAddress", "{method} {bad}");
        }
    }
    assert_eq!(ok(&mox, "SuppressionRemove", &address("ab@bücher.example")), json!({}));
    assert_eq!(call(&mox, "SuppressionRemove", &address("ab@bücher.example")).code(), "error");
}

#[test]
fn stored_messages() {
    let mox = start();
    let request = json!({"To": [{"Address": "mox@localhost"}], "Subject": "read me", "Text": "line 1\nline 2", "HTML": "<b>"});
    ok(&mox, "Send", &request.to_string());
    only_message(&mox, "Inbox");
    let id = message_ids(&mox).remove(0);
    let with = |more: Value| {
        let mut request = json!({"MsgID": id});
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        request.to_string()
    };
    let get = || ok(&mox, "MessageGet", &with(json!({})));
    let message = get();
    assert_eq!(message["Message"]["Text"], "line 1\nline 2\n");
    assert_eq!(message["Message"]["HTML"], "<b>\n");
    assert_eq!(message["Message"]["Subject"], "read me");
    assert_eq!(message["Message"]["From"], json!([{"Name": "", "Address": "mox@localhost"}]));
    assert_eq!(message["Structure"]["ContentType"], "multipart/alternative");
    let meta = &message["Meta"];
    assert_eq!(
        (&meta["MailboxName"], &meta["RcptTo"], &meta["MailFrom"]),
        (&json!("Inbox"), &json!("mox@localhost"), &json!("mox@localhost"))
    );
    assert_eq!((&meta["Flags"], &meta["DSN"]), (&json!([]), &json!(false)));
    assert!(meta["RemoteIP"].as_str().unwrap().starts_with("127.") && meta["MsgFrom"] == "mox@localhost", "{meta}");

    let raw = call(&mox, "MessageRawGet", &with(json!({})));
    assert_eq!((raw.status, raw.header("content-type")), (200, Some("text/plain")));
    assert_eq!(
        raw.body,
        bodies(&mut {
            let mut client = imap(&mox);
            await_messages(&mut client, "Inbox", 1);
            client
        })[0]
    );
    assert_eq!(i64::try_from(raw.body.len()).unwrap(), meta["Size"].as_i64().unwrap());
    let part = |path: Value| call(&mox, "MessagePartGet", &with(json!({"PartPath": path})));
    assert_eq!(part(json!([0])).text(), "line 1\r\nline 2\r\n");
    assert_eq!(part(json!([1])).text(), "<b>\r\n");
    assert!(part(json!([])).text().starts_with("--") && part(Value::Null).status == 200);
    for path in [json!([2]), json!([-1]), json!([0, 0]), json!([9_223_372_036_854_775_807_i64])] {
        assert_eq!(part(path).code(), "partNotFound");
    }

    assert_eq!(ok(&mox, "MessageFlagsAdd", &with(json!({"Flags": ["\\Seen", "$Forwarded", "Work", "another"]}))), json!({}));
    assert_eq!(get()["Meta"]["Flags"], json!(["$forwarded", "\\seen", "another", "work"]));
    ok(&mox, "MessageFlagsRemove", &with(json!({"Flags": ["\\SEEN", "WORK", "\\flagged"]})));
    assert_eq!(get()["Meta"]["Flags"], json!(["$forwarded", "another"]));
    for bad in ["", "a b", "\\recent", "x]"] {
        assert_eq!(call(&mox, "MessageFlagsAdd", &with(json!({"Flags": [bad]}))).code(), "user", "{bad}");
    }
    for bad in ["", "inbox", "Inbox", "Nowhere"] {
        assert_eq!(call(&mox, "MessageMove", &with(json!({"DestMailboxName": bad}))).code(), "user", "{bad}");
    }
    assert_eq!(ok(&mox, "MessageMove", &with(json!({"DestMailboxName": "Archive"}))), json!({}));
    assert_eq!(get()["Meta"]["MailboxName"], "Archive");
    assert_eq!(ok(&mox, "MessageDelete", &with(json!({}))), json!({}));
    let methods =
        ["MessageGet", "MessageRawGet", "MessagePartGet", "MessageDelete", "MessageFlagsAdd", "MessageFlagsRemove", "MessageMove"];
    for method in methods {
        for id in [id, 0, -1, 1_000_000] {
            assert_eq!(call(&mox, method, &json!({"MsgID": id}).to_string()).code(), "messageNotFound", "{method} {id}");
        }
    }
    await_messages(&mut imap(&mox), "Archive", 0);
}
