//! The client library for the webapi, against a running server, and the command that is made of it.

use crate::server::{BINARY, PATIENCE, await_messages, imap, start};
use mox_testkit::peers::{Mox, Service};
use mox_webapi::listing::{MessageListRequest, QueueCancelRequest, QueueListRequest, QueueRescheduleRequest, SuppressionListRequest};
use mox_webapi::send::SendBatchRequest;
use mox_webapi::template::{TemplateListRequest, TemplateRequest, TemplateSetRequest};
use mox_webapi::{
    MessageFlagsRequest, MessageMoveRequest, MessagePartRequest, MessageRequest, NameAddress, SendRequest, SuppressionAddRequest,
    SuppressionRequest,
};
use mox_webapi_client::{CallError, Client, Place, Upload};
use std::io::{Read as _, Write as _};
use std::net::TcpListener;

fn client(mox: &Mox) -> Client {
    client_with(mox, Mox::PASSWORD)
}

fn client_with(mox: &Mox, password: &str) -> Client {
    Client::new(&format!("http://mox%40localhost:{password}@127.0.0.1:{}/webapi/v0/", mox.port(Service::Http))).unwrap()
}

fn request(subject: &str) -> SendRequest {
    SendRequest {
        to: vec![NameAddress { name: String::new(), address: Mox::USER.to_owned() }],
        subject: subject.to_owned(),
        text: "hi".to_owned(),
        ..SendRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_method_and_every_kind_of_failure() {
    let mox = start();
    let client = client(&mox);
    // Text that compresses badly, with everything in it that a form could stumble over.
    let large: Vec<u8> = (0..6_u32 << 20).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    let files = [
        Upload::attached("large.bin", large.clone()),
        Upload {
            place: Place::Inline,
            name: "grün \"1\".png".to_owned(),
            content_type: "image/png".to_owned(),
            content_id: "<i@x>".to_owned(),
            data: b"\r\n--mox-form-0-end--\r\n".to_vec(),
        },
    ];
    let sent = client.send_with(&request("files"), &files, Some("k")).await.unwrap();
    let again = client.send_with(&request("files"), &files, Some("k")).await.unwrap();
    assert_eq!(sent, again, "the same key");
    assert_eq!(sent.submissions[0].address, Mox::USER);
    await_messages(&mut imap(&mox), "Inbox", 1);

    let message = MessageRequest { msg_id: 1 };
    let read = client.message_get(&message).await.unwrap();
    assert_eq!(
        (read.message.subject.as_str(), read.message.text.as_str(), read.message.message_id.as_str()),
        ("files", "hi\n", sent.message_id.as_str())
    );
    let raw = client.message_raw_get(&message).await.unwrap();
    assert!(raw.len() > large.len() && String::from_utf8_lossy(&raw).contains("Content-ID: <i@x>"));
    // In which order parts come, the structure tells.
    let parts = &read.structure.parts;
    let at = i64::try_from(parts.iter().position(|p| p.decoded_size == 6 << 20).unwrap()).unwrap();
    let part = client.message_part_get(&MessagePartRequest { msg_id: 1, part_path: vec![at] }).await.unwrap();
    assert!(part == large, "the attachment isn't what was sent");

    let flags = MessageFlagsRequest { msg_id: 1, flags: vec!["\\flagged".to_owned(), "mine".to_owned()] };
    client.message_flags_add(&flags).await.unwrap();
    assert_eq!(client.message_get(&message).await.unwrap().meta.flags, ["\\flagged", "mine"]);
    client.message_flags_remove(&flags).await.unwrap();
    client.message_move(&MessageMoveRequest { msg_id: 1, dest_mailbox_name: "Archive".to_owned() }).await.unwrap();
    let moved = client.message_get(&message).await.unwrap().meta;
    // The mailbox may say something about junk.
    assert!(moved.mailbox_name == "Archive" && !moved.flags.iter().any(|flag| flag == "mine" || flag == "\\flagged"), "{moved:?}");
    client.message_delete(&message).await.unwrap();
    let Err(CallError::Refused(gone)) = client.message_get(&message).await else { panic!("still there") };
    assert_eq!(gone.code, "messageNotFound");

    let address = || SuppressionRequest { email_address: "a.b+c@x.example".to_owned() };
    let add = SuppressionAddRequest { email_address: address().email_address, manual: true, reason: "asked".to_owned() };
    client.suppression_add(&add).await.unwrap();
    assert!(client.suppression_present(&address()).await.unwrap().present);
    assert_eq!(client.suppression_list().await.unwrap().suppressions[0].base_address, "ab@x.example");
    client.suppression_remove(&address()).await.unwrap();
    assert!(!client.suppression_present(&address()).await.unwrap().present);

    let Err(CallError::Refused(error)) = client.send(&SendRequest::default()).await else { panic!("sent to nobody") };
    assert!(!error.code.is_empty() && !error.message.is_empty(), "{error:?}");
    assert!(matches!(client_with(&mox, "wrong").suppression_list().await, Err(CallError::Status { status: 401, .. })));
    let nowhere = Client::new("http://127.0.0.1:9/webapi/v0").unwrap();
    assert!(matches!(nowhere.suppression_list().await, Err(CallError::Http(_))));
    assert!(Client::new("imap://x/").is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_queue_templates_and_batches() {
    let mox = start();
    let client = client(&mox);
    let template = TemplateSetRequest { name: "t".to_owned(), subject: "s {{n}}".to_owned(), text: "hi".to_owned(), html: String::new() };
    client.template_set(&template).await.unwrap();
    let named = TemplateRequest { name: "t".to_owned() };
    assert_eq!(client.template_get(&named).await.unwrap().variables, ["n"]);
    assert_eq!(client.template_list(&TemplateListRequest::default()).await.unwrap().templates[0].name, "t");

    let message = |to: &str| SendRequest {
        to: vec![NameAddress { name: String::new(), address: to.to_owned() }],
        template: "t".to_owned(),
        template_data: [("n".to_owned(), to.to_owned())].into(),
        ..SendRequest::default()
    };
    let batch = SendBatchRequest { messages: vec![message(Mox::USER), message("bad"), message("queue450@x.example")] };
    let results = client.send_batch(&batch, Some("b")).await.unwrap().results;
    assert_eq!(client.send_batch(&batch, Some("b")).await.unwrap().results, results);
    assert_eq!(results[1].error.as_ref().map(|error| error.code.as_str()), Some("badAddress"));
    let id = results[2].response.as_ref().unwrap().submissions[0].queue_msg_id;
    await_messages(&mut imap(&mox), "Inbox", 1);
    let inbox = client.mailbox_list().await.unwrap().mailboxes.remove(0);
    assert_eq!((inbox.name.as_str(), inbox.total), ("Inbox", 1));
    let listed = client.message_list(&MessageListRequest::default()).await.unwrap().messages;
    assert_eq!(listed[0].message.subject, "s mox@localhost");

    let queue_msg_ids = vec![id];
    let entries = QueueListRequest { queue_msg_ids: queue_msg_ids.clone(), ..QueueListRequest::default() };
    assert_eq!(client.queue_list(&entries).await.unwrap().entries[0].rcpt_to, "queue450@x.example");
    // It may be on its way just now: then it isn't cancelled.
    let reschedule = QueueRescheduleRequest { queue_msg_ids: queue_msg_ids.clone(), next_attempt: None };
    assert_eq!(client.queue_reschedule(&reschedule).await.unwrap().rescheduled, 1);
    assert!(client.queue_cancel(&QueueCancelRequest { queue_msg_ids }).await.unwrap().canceled <= 1);

    let page = SuppressionListRequest { limit: 1, ..SuppressionListRequest::default() };
    assert!(client.suppression_page(&page).await.unwrap().suppressions.is_empty());
    client.template_remove(&named).await.unwrap();
    let Err(CallError::Refused(gone)) = client.template_get(&named).await else { panic!("still there") };
    assert_eq!(gone.code, "templateNotFound");

    // A key that isn't for this.
    let made = mox.command(&["webapi", "key", "add", "mox", "k", "send"]).unwrap().stdout;
    let key = String::from_utf8(made).unwrap();
    let Err(CallError::Refused(error)) = client_with(&mox, key.trim_end()).mailbox_list().await else { panic!("not limited") };
    assert_eq!(error.code, "outOfScope");
}

#[test]
fn the_command_calls_and_says_what_went_wrong() {
    let mox = start();
    let base = format!("http://mox%40localhost:{}@localhost:{}/webapi/v0/", Mox::PASSWORD, mox.port(Service::Http));
    let call = |method: &str, input: &str| {
        let output = mox.command_with_input(&["webapi", method, &base], input.as_bytes()).unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (status, answer, _) = call("Send", r#"{"To":[{"Address":"mox@localhost"}],"Text":"hi"}"#);
    assert!(status == Some(0) && answer.contains("\"MessageID\": \"<"), "{answer}");
    let (status, answer, _) = call("MessageGet", r#"{"MsgID":999}"#);
    assert!(status == Some(1) && answer.contains("messageNotFound"), "{answer}");
    let (status, _, said) = call("MessageGet", r#"{"MsgId":1,"Other":2}"#);
    assert!(status == Some(1) && said.contains("parsing request"), "{said}");
}

/// A proxy that answers one request with a list that has nothing in it, and says what it was asked.
fn proxy() -> (u16, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"request=%7B%7D") {
            let mut chunk = [0; 4096];
            let n = stream.read(&mut chunk).unwrap();
            assert!(n > 0, "{}", String::from_utf8_lossy(&request));
            request.extend_from_slice(&chunk[..n]);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 19\r\n\r\n{\"Suppressions\":[]}").unwrap();
        String::from_utf8(request).unwrap()
    });
    (port, asked)
}

#[test]
fn the_environment_s_proxy_is_used() {
    let (port, asked) = proxy();
    let mut command = std::process::Command::new(BINARY);
    command.args(["webapi", "SuppressionList", "http://mail.nowhere.example/webapi/v0/"]);
    command.env("http_proxy", format!("http://127.0.0.1:{port}")).env_remove("HTTP_PROXY").env_remove("NO_PROXY").env_remove("no_proxy");
    let mut child = command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"{}").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stdout).split_whitespace().collect::<String>(), r#"{"Suppressions":[]}"#);
    let request = asked.join().unwrap();
    assert!(request.starts_with("POST http://mail.nowhere.example/webapi/v0/SuppressionList HTTP/1.1\r\n"), "{request}");
}
