//! The methods of the webapi that list things, from outside: what a program sees without IMAP and without an administrator.

use crate::server::{PATIENCE, await_messages, imap, smtp, start};
use crate::webapi_http::{call, ok};
use crate::webapi_once::tomorrow;
use mox_testkit::peers::wait_until;
use serde_json::{Value, json};

fn list(mox: &mox_testkit::peers::Mox, method: &str, request: &Value, field: &str) -> Vec<Value> {
    ok(mox, method, &request.to_string())[field].as_array().unwrap().clone()
}

#[test]
fn mailboxes_and_messages() {
    let mox = start();
    let letter = |n: u32| {
        format!(
            "From: \"Ann\" <ann@example.org>\r\nTo: mox@localhost\r\nSubject: =?utf-8?q?n=C2=BA_{n}?=\r\nMessage-ID: <{n}@x>\r\n\r\nhi\r\n"
        )
    };
    let mut client = smtp(&mox);
    for n in 1..=5 {
        assert_eq!(client.send("ann@example.org", &["mox@localhost"], letter(n).as_bytes()).unwrap().code, 250);
    }
    let mut reader = imap(&mox);
    await_messages(&mut reader, "Inbox", 5);
    reader.ok("STORE 2 +FLAGS (\\Seen custom)").unwrap();

    let mailboxes = list(&mox, "MailboxList", &json!({}), "Mailboxes");
    assert_eq!(mailboxes[0]["Name"], "Inbox");
    assert_eq!((&mailboxes[0]["Total"], &mailboxes[0]["Unseen"]), (&json!(5), &json!(4)));
    assert!(mailboxes.iter().any(|m| m["Name"] == "Sent" && m["SpecialUse"] == json!(["\\Sent"])), "{mailboxes:?}");

    // Pages in both directions.
    let subjects = |request: Value| {
        let answer = ok(&mox, "MessageList", &request.to_string());
        let messages = answer["Messages"].as_array().unwrap().clone();
        let subjects: Vec<String> = messages.iter().map(|m| m["Message"]["Subject"].as_str().unwrap().to_owned()).collect();
        (subjects, answer["NextUID"].as_i64().unwrap())
    };
    let named = |numbers: &[u32]| numbers.iter().map(|n| format!("n\u{ba} {n}")).collect::<Vec<_>>();
    assert_eq!(subjects(json!({})), (named(&[1, 2, 3, 4, 5]), 0));
    let (page, next) = subjects(json!({"Limit": 3}));
    assert_eq!((page, next > 0), (named(&[1, 2, 3]), true));
    assert_eq!(subjects(json!({"Limit": 3, "AfterUID": next})), (named(&[4, 5]), 0));
    let (page, next) = subjects(json!({"Limit": 2, "NewestFirst": true}));
    assert_eq!(page, named(&[5, 4]));
    assert_eq!(subjects(json!({"NewestFirst": true, "AfterUID": next})), (named(&[3, 2, 1]), 0));
    // By flags.
    assert_eq!(subjects(json!({"Flags": ["\\seen", "custom"]})).0, named(&[2]));
    assert_eq!(subjects(json!({"NotFlags": ["\\Seen"]})).0, named(&[1, 3, 4, 5]));
    assert_eq!(call(&mox, "MessageList", r#"{"Flags":["\\Bad"]}"#).json()["Code"], "user");
    assert_eq!(call(&mox, "MessageList", r#"{"MailboxName":"Nowhere"}"#).json()["Code"], "user");

    // The ids are those of the other methods.
    let messages = list(&mox, "MessageList", &json!({"Flags": ["custom"]}), "Messages");
    assert_eq!(messages[0]["Meta"]["Flags"], json!(["\\seen", "custom"]));
    assert_eq!(messages[0]["Message"]["From"], json!([{"Name": "Ann", "Address": "ann@example.org"}]));
    let read = ok(&mox, "MessageGet", &json!({"MsgID": messages[0]["MsgID"]}).to_string());
    assert_eq!((&read["Message"]["MessageID"], &read["Message"]["Text"]), (&json!("<2@x>"), &json!("hi\n")));
}

#[test]
fn what_is_sent_can_be_followed_and_cancelled() {
    let mox = start();
    let send = |to: &str| {
        let request = json!({"To": [{"Address": to}], "Subject": "s", "Text": "t", "Extra": {"order": "17"}});
        ok(&mox, "Send", &request.to_string())["Submissions"][0]["QueueMsgID"].as_i64().unwrap()
    };
    let good = send("good@example.org");
    let bad = send("permerror-5.7.1@example.org");
    let waiting = send("queue451@example.org");
    let ended = |ids: &[i64]| list(&mox, "QueueList", &json!({"Ended": true, "QueueMsgIDs": ids}), "Entries");
    assert!(wait_until(PATIENCE, || ended(&[good, bad]).len() == 2));
    let entries = ended(&[good, bad]);
    // Newest first.
    assert_eq!((&entries[0]["QueueMsgID"], &entries[0]["State"]), (&json!(bad), &json!("failed")));
    assert_eq!((&entries[1]["QueueMsgID"], &entries[1]["State"]), (&json!(good), &json!("delivered")));
    assert_eq!((&entries[1]["Extra"], &entries[1]["RcptTo"]), (&json!({"order": "17"}), &json!("good@example.org")));
    let attempt = &entries[0]["Attempts"][0];
    assert_eq!((&attempt["SMTPCode"], &attempt["SMTPEnhancedCode"]), (&json!(550), &json!("5.7.1")));

    let still = || list(&mox, "QueueList", &json!({}), "Entries");
    assert!(wait_until(PATIENCE, || still().first().is_some_and(|entry| entry["Attempts"][0]["SMTPCode"] == 451)));
    assert_eq!((&still()[0]["QueueMsgID"], &still()[0]["State"]), (&json!(waiting), &json!("waiting")));
    assert!(still()[0]["NextAttempt"].is_string() && still()[0]["EndedAt"].is_null());

    // Pages.
    let more = [send("queue452@example.org"), send("queue450@example.org")];
    let first = ok(&mox, "QueueList", r#"{"Limit":2}"#);
    let ids = |answer: &Value| answer["Entries"].as_array().unwrap().iter().map(|e| e["QueueMsgID"].as_i64().unwrap()).collect::<Vec<_>>();
    assert_eq!(ids(&first), [more[1], more[0]]);
    let second = ok(&mox, "QueueList", &json!({"Limit": 2, "After": first["Next"]}).to_string());
    assert_eq!((ids(&second), &second["Next"]), (vec![waiting], &json!("")));
    assert_eq!(call(&mox, "QueueList", r#"{"After":"x"}"#).json()["Code"], "user");

    // Another time, and at once: it then has failed twice.
    let reschedule = |request: Value| ok(&mox, "QueueReschedule", &request.to_string());
    let later = tomorrow();
    assert_eq!(reschedule(json!({"QueueMsgIDs": [more[0], good, 999_999], "NextAttempt": later})), json!({"Rescheduled": 1}));
    let of = |id: i64| list(&mox, "QueueList", &json!({"QueueMsgIDs": [id]}), "Entries").remove(0);
    assert_eq!(of(more[0])["NextAttempt"], json!(later));
    assert!(wait_until(PATIENCE, || of(waiting)["Attempts"].as_array().unwrap().len() == 1));
    assert_eq!(reschedule(json!({"QueueMsgIDs": [waiting]})), json!({"Rescheduled": 1}));
    assert!(wait_until(PATIENCE, || of(waiting)["Attempts"].as_array().unwrap().len() == 2));
    for (request, code) in [
        (json!({"QueueMsgIDs": []}), "user"),
        (json!({"QueueMsgIDs": vec![waiting; 1001]}), "user"),
        (json!({"QueueMsgIDs": [waiting], "NextAttempt": "2100-01-01T00:00:00Z"}), "user"),
        (json!({"QueueMsgIDs": [waiting], "NextAttempt": "tomorrow"}), "protocol"),
        (json!({"QueueMsgIDs": ["1"]}), "protocol"),
    ] {
        assert_eq!(call(&mox, "QueueReschedule", &request.to_string()).code(), code, "{request}");
    }
    for method in ["QueueList", "QueueCancel"] {
        assert_eq!(call(&mox, method, &json!({"QueueMsgIDs": vec![1; 1001]}).to_string()).code(), "user", "{method}");
    }

    assert_eq!(call(&mox, "QueueCancel", r#"{"QueueMsgIDs":[]}"#).json()["Code"], "user");
    // What has ended, or isn't there, isn't cancelled.
    assert_eq!(ok(&mox, "QueueCancel", &json!({"QueueMsgIDs": [waiting, good, 999_999]}).to_string()), json!({"Canceled": 1}));
    assert_eq!(ended(&[waiting])[0]["State"], "canceled");
    assert_eq!(still().len(), 2);
}

#[test]
fn the_suppression_list_in_pages() {
    let mox = start();
    for name in ["c", "a", "b"] {
        ok(&mox, "SuppressionAdd", &json!({"EmailAddress": format!("{name}@x.example")}).to_string());
    }
    let page = |request: Value| {
        let all = list(&mox, "SuppressionList", &request, "Suppressions");
        all.iter().map(|s| s["BaseAddress"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(page(json!({})), ["a@x.example", "b@x.example", "c@x.example"]);
    assert_eq!(page(json!({"Limit": 2})), ["a@x.example", "b@x.example"]);
    assert_eq!(page(json!({"Limit": 2, "After": "b@x.example"})), ["c@x.example"]);
}
