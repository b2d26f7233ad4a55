//! Templates and batches of the webapi: one message for many, each with an end of its own.

use crate::server::{await_messages, bodies, imap, start};
use crate::webapi_http::{Reply, call, call_with, ok};
use mox_testkit::peers::Mox;
use serde_json::{Value, json};

fn to(address: &str) -> Value {
    json!([{"Address": address}])
}

fn batch(mox: &Mox, key: &str, messages: &[Value]) -> Reply {
    let header = if key.is_empty() { String::new() } else { format!("Idempotency-Key: {key}\r\n") };
    call_with(mox, "SendBatch", &header, &json!({"Messages": messages}).to_string())
}

#[test]
fn a_template_becomes_a_message_for_each() {
    let mox = start();
    let template = json!({
        "Name": "order.confirmed-1",
        "Subject": "Order {{order}} for {{ name }}",
        "Text": "Dear {{name}},\n\nyour order {{order}} is on its way.\n",
        "HTML": "<p title=\"{{name}}\">Dear {{name}}</p>",
    });
    assert_eq!(ok(&mox, "TemplateSet", &template.to_string()), json!({}));
    let got = ok(&mox, "TemplateGet", r#"{"Name":"order.confirmed-1"}"#);
    for field in ["Name", "Subject", "Text", "HTML"] {
        assert_eq!(got[field], template[field], "{field}");
    }
    assert_eq!(got["Variables"], json!(["name", "order"]));
    assert!(got["Changed"].as_str().unwrap().ends_with('Z'), "{got}");
    let data = json!({"name": "Jö <b>\"&'", "order": "17", "unused": "x"});
    let send = json!({"To": to("mox@localhost"), "Template": "order.confirmed-1", "TemplateData": data});
    ok(&mox, "Send", &send.to_string());
    await_messages(&mut imap(&mox), "Inbox", 1);
    let message = &ok(&mox, "MessageGet", r#"{"MsgID":1}"#)["Message"];
    assert_eq!(message["Subject"], "Order 17 for Jö <b>\"&'");
    assert_eq!(message["Text"], "Dear Jö <b>\"&',\n\nyour order 17 is on its way.\n");
    let value = "Jö &lt;b&gt;&#34;&amp;&#39;";
    assert_eq!(message["HTML"], format!("<p title=\"{value}\">Dear {value}</p>\n"));

    let refused = |method: &str, request: &Value| call(&mox, method, &request.to_string()).code();
    let with = |more: Value| {
        let mut request = send.clone();
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        request
    };
    for (request, code) in [
        (with(json!({"Template": "nothing"})), "templateNotFound"),
        (with(json!({"TemplateData": {"name": "x"}})), "user"),
        (with(json!({"TemplateData": {"name": "a\r\nBcc: x@y.example", "order": ""}})), "user"),
        (with(json!({"TemplateData": {"name": "x".repeat(2 << 20), "order": ""}})), "user"),
        (with(json!({"TemplateData": {"name": 1}})), "protocol"),
        (with(json!({"Subject": "own"})), "user"),
        (with(json!({"Text": "own"})), "user"),
        (with(json!({"HTML": "own"})), "user"),
        (json!({"To": to("mox@localhost"), "Text": "x", "TemplateData": {"a": "b"}}), "user"),
    ] {
        assert_eq!(refused("Send", &request), code, "{}", request.to_string().chars().take(300).collect::<String>());
    }
    for (request, code) in [
        (json!({"Name": "", "Text": "x"}), "user"),
        (json!({"Name": "a b", "Text": "x"}), "user"),
        (json!({"Name": "a".repeat(101), "Text": "x"}), "user"),
        (json!({"Name": "a", "Subject": "x"}), "missingBody"),
        (json!({"Name": "a", "Text": "{{"}), "user"),
        (json!({"Name": "a", "HTML": "{{a b}}"}), "user"),
        (json!({"Name": "a", "Text": "x", "Subject": "a\r\nX: y"}), "user"),
        (json!({"Name": "a", "Text": "x\u{0}"}), "user"),
        (json!({"Name": "a", "Text": "x".repeat((1 << 20) + 1)}), "user"),
        (json!({"Name": "a", "Text": "x", "Body": "y"}), "protocol"),
    ] {
        assert_eq!(refused("TemplateSet", &request), code, "{}", request.to_string().chars().take(100).collect::<String>());
    }
    // Nothing of it was kept or sent.
    let listed = ok(&mox, "TemplateList", "{}");
    let names = |listed: &Value| listed["Templates"].as_array().unwrap().iter().map(|t| t["Name"].clone()).collect::<Vec<_>>();
    assert_eq!(names(&listed), ["order.confirmed-1"]);
    assert_eq!(
        (&listed["Templates"][0]["Subject"], &listed["Templates"][0]["Variables"]),
        (&template["Subject"], &json!(["name", "order"]))
    );
    await_messages(&mut imap(&mox), "Inbox", 1);

    // Replaced, in pages, removed.
    for name in ["b", "a", "order.confirmed-1"] {
        ok(&mox, "TemplateSet", &json!({"Name": name, "Text": "new"}).to_string());
    }
    assert_eq!(names(&ok(&mox, "TemplateList", r#"{"Limit":2}"#)), ["a", "b"]);
    assert_eq!(names(&ok(&mox, "TemplateList", r#"{"After":"b"}"#)), ["order.confirmed-1"]);
    assert_eq!(ok(&mox, "TemplateGet", r#"{"Name":"order.confirmed-1"}"#)["Variables"], json!([]));
    assert_eq!(ok(&mox, "TemplateRemove", r#"{"Name":"b"}"#), json!({}));
    for method in ["TemplateRemove", "TemplateGet"] {
        assert_eq!(refused(method, &json!({"Name": "b"})), "templateNotFound");
    }
}

#[test]
fn a_batch_has_a_result_for_each_message() {
    let mut mox = start();
    ok(&mox, "TemplateSet", r#"{"Name":"t","Subject":"s {{n}}","Text":"x"}"#);
    let message = |n: usize| json!({"To": to("mox@localhost"), "Template": "t", "TemplateData": {"n": n.to_string()}});
    let mut messages: Vec<Value> = (0..40).map(message).collect();
    messages[7] = json!({"To": to("bad"), "Text": "x"});
    messages[8] = json!({"Text": "x"});
    messages[9] = json!({"To": to("mox@localhost"), "From": to("other@elsewhere.example"), "Text": "x"});
    messages[10] = json!({"To": to("mox@localhost"), "Template": "t"});
    let answer = batch(&mox, "k", &messages);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let results = answer.json()["Results"].as_array().unwrap().clone();
    assert_eq!(results.len(), 40);
    let codes: Vec<&str> = results[7..11].iter().map(|r| r["Error"]["Code"].as_str().unwrap()).collect();
    assert_eq!(codes, ["badAddress", "noRecipients", "badFrom", "user"]);
    assert!(results[7]["Response"].is_null() && results[6]["Error"].is_null());
    await_messages(&mut imap(&mox), "Inbox", 36);
    // In the order of the request, whatever the order in which they were sent.
    let arrived = bodies(&mut {
        let mut client = imap(&mox);
        await_messages(&mut client, "Inbox", 36);
        client
    });
    for (n, result) in results.iter().enumerate().filter(|(n, _)| !(7..11).contains(n)) {
        let id = result["Response"]["MessageID"].as_str().unwrap();
        let body = arrived.iter().map(|body| String::from_utf8_lossy(body)).find(|body| body.contains(id)).unwrap();
        assert!(body.contains(&format!("\r\nSubject: s {n}\r\n")), "{n}: {body}");
    }

    // Once more, also after a crash: the same answer, and nothing sent again. What failed is tried again.
    mox.kill().unwrap();
    mox.resume().unwrap();
    assert_eq!(batch(&mox, "k", &messages).json(), answer.json());
    ok(&mox, "TemplateSet", r#"{"Name":"other","Text":"x"}"#);
    messages[7] = message(7);
    assert_eq!(batch(&mox, "k", &messages).code(), "user", "another batch with the same key");
    let again = batch(&mox, "k2", &messages[..1]);
    assert_ne!(again.json()["Results"][0], answer.json()["Results"][0]);
    await_messages(&mut imap(&mox), "Inbox", 37);

    assert_eq!(batch(&mox, "", &[]).code(), "user");
    assert_eq!(batch(&mox, "", &vec![json!({}); 101]).code(), "user");
    assert_eq!(batch(&mox, "a b", &messages[..1]).code(), "user");
    assert_eq!(batch(&mox, "", &[json!({"Txt": "x"})]).code(), "protocol");
    assert_eq!(batch(&mox, "", &vec![Value::Null; 2]).json()["Results"][1]["Error"]["Code"], "missingBody");
    await_messages(&mut imap(&mox), "Inbox", 37);
}

/// A batch takes its key, whatever came of its messages.
#[test]
fn a_key_is_for_one_batch() {
    let mox = start();
    let good = json!({"To": to("mox@localhost"), "Text": "x"});
    let bad = json!({"To": to("bad"), "Text": "x"});
    let refused = batch(&mox, "k", &[bad.clone(), bad.clone()]);
    assert_eq!(refused.json()["Results"][1]["Error"]["Code"], "badAddress");
    assert_eq!(batch(&mox, "k", std::slice::from_ref(&good)).code(), "user", "shorter");
    assert_eq!(batch(&mox, "k", &[bad.clone(), bad.clone(), good.clone()]).code(), "user", "longer");
    assert_eq!(call_with(&mox, "Send", "Idempotency-Key: k\r\n", &good.to_string()).code(), "user", "a single message");
    assert_eq!(batch(&mox, "k", &[bad.clone(), bad]).json(), refused.json());
    // A message that was sent with the key keeps batches from having it.
    assert_eq!(call_with(&mox, "Send", "Idempotency-Key: k2\r\n", &good.to_string()).status, 200);
    assert_eq!(batch(&mox, "k2", std::slice::from_ref(&good)).code(), "user");
    assert_eq!(batch(&mox, "k3", &[good]).json()["Results"][0]["Error"], Value::Null);
    await_messages(&mut imap(&mox), "Inbox", 2);
}
