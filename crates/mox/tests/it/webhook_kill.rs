//! `kill -9` while webhooks are made: each event is told of at least once, by calls that can be told apart.

use crate::server::{BINARY, PATIENCE};
use crate::webapi_http::call;
use mox_testkit::peers::{Mox, wait_until};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const KILLS: usize = 20;

/// A call that was answered, or would have been.
#[derive(Clone, Debug)]
struct Call {
    id: i64,
    attempt: u32,
    path: String,
    body: Vec<u8>,
}

/// A receiver of webhooks.
struct Receiver {
    port: u16,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl Receiver {
    fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let (port, calls) = (listener.local_addr().unwrap().port(), Arc::new(Mutex::new(Vec::new())));
        let kept = Arc::clone(&calls);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let calls = Arc::clone(&kept);
                std::thread::spawn(move || drop(serve(stream, &calls)));
            }
        });
        Self { port, calls }
    }

    fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }
}

/// Answers calls on a connection until it is closed.
fn serve(stream: TcpStream, calls: &Mutex<Vec<Call>>) -> std::io::Result<()> {
    let mut out = stream.try_clone()?;
    let mut input = BufReader::new(stream);
    loop {
        let mut call = Call { id: 0, attempt: 0, path: String::new(), body: Vec::new() };
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            if input.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let lower = line.to_ascii_lowercase();
            if let Some(path) = line.strip_prefix("POST ") {
                call.path = path.split(' ').next().unwrap().to_owned();
            } else if let Some(id) = lower.strip_prefix("x-mox-webhook-id: ") {
                call.id = id.trim().parse().unwrap();
            } else if let Some(attempt) = lower.strip_prefix("x-mox-webhook-attempt: ") {
                call.attempt = attempt.trim().parse().unwrap();
            } else if let Some(length) = lower.strip_prefix("content-length: ") {
                call.body = vec![0; length.trim().parse().unwrap()];
            }
        }
        input.read_exact(&mut call.body)?;
        calls.lock().unwrap().push(call);
        out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
    }
}

/// The ids of messages in the queue that calls at a path are about, each with its call's.
fn told(calls: &[Call], path: &str, key: impl Fn(&Value) -> String) -> BTreeMap<String, BTreeSet<i64>> {
    let mut told: BTreeMap<String, BTreeSet<i64>> = BTreeMap::new();
    for call in calls.iter().filter(|call| call.path == path) {
        let body: Value = serde_json::from_slice(&call.body).unwrap();
        told.entry(key(&body)).or_default().insert(call.id);
    }
    told
}

/// Has everything that waits done now.
fn kick(mox: &Mox) {
    for args in [["queue", "schedule", "-now", "0s"].as_slice(), &["queue", "webhook", "schedule", "-now", "0s"]] {
        let output = mox.command(args).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// What a command prints that lists what is left.
fn left(mox: &Mox, args: &[&str]) -> String {
    String::from_utf8(mox.command(args).unwrap().stdout).unwrap()
}

#[test]
fn twenty_kills_lose_no_call_and_change_no_id() {
    let receiver = Receiver::start();
    let mox = Mox::start_with(Path::new(BINARY), |folder| {
        let dynamic = folder.join("domains.conf");
        let hook = |name: &str, path: &str| format!("\t\t{name}:\n\t\t\tURL: http://127.0.0.1:{}/{path}\n", receiver.port);
        let hooks = hook("OutgoingWebhook", "out") + &hook("IncomingWebhook", "in");
        let limits = "\t\tMaxOutgoingMessagesPerDay: 100000\n\t\tMaxFirstTimeRecipientsPerDay: 100000\n";
        let text = std::fs::read_to_string(&dynamic)?.replacen("\tmox:\n", &format!("\tmox:\n{hooks}{limits}"), 1);
        std::fs::write(dynamic, text)
    });
    let mut mox = mox.unwrap();
    // Acknowledged messages by their id in the queue, with their Message-ID.
    let accepted: Mutex<BTreeMap<i64, String>> = Mutex::default();
    for round in 0..KILLS {
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    // Until the server is gone.
                    let send = || loop {
                        let reply = call(&mox, "Send", r#"{"To":[{"Address":"mox@localhost"}],"Text":"x"}"#);
                        if reply.status != 200 {
                            return;
                        }
                        let answer = reply.json();
                        let id = answer["Submissions"][0]["QueueMsgID"].as_i64().unwrap();
                        let message = answer["MessageID"].as_str().unwrap().to_owned();
                        accepted.lock().unwrap().insert(id, message);
                    };
                    drop(std::panic::catch_unwind(std::panic::AssertUnwindSafe(send)));
                });
            }
            // Another moment each time; late ones have many messages in all stages.
            std::thread::sleep(Duration::from_millis(40 + (round as u64 * 31) % 400));
            let id = mox.id().unwrap().to_string();
            assert!(std::process::Command::new("kill").args(["-KILL", &id]).status().unwrap().success());
        });
        mox.kill().unwrap();
        mox.resume().unwrap();
        kick(&mox);
    }
    let accepted = accepted.into_inner().unwrap();
    assert!(accepted.len() > KILLS, "only {} messages", accepted.len());
    let done = wait_until(PATIENCE * 2, || {
        kick(&mox);
        [["queue", "list"].as_slice(), &["queue", "webhook", "list"]].iter().all(|args| left(&mox, args).contains("(none)"))
    });
    assert!(done, "{}\n{}", left(&mox, &["queue", "list"]), left(&mox, &["queue", "webhook", "list"]));

    let calls = receiver.calls();
    let outgoing = told(&calls, "/out", |body| {
        assert_eq!(body["Event"], "delivered", "{body}");
        body["QueueMsgID"].to_string()
    });
    let incoming = told(&calls, "/in", |body| body["MessageID"].as_str().unwrap().trim_matches(['<', '>']).to_owned());
    for (id, message) in &accepted {
        let ids = outgoing.get(&id.to_string()).unwrap_or_else(|| panic!("nothing told of {id}"));
        assert_eq!(ids.len(), 1, "one event, several ids: {id}");
        assert!(incoming.contains_key(message.trim_matches(['<', '>'])), "its arrival isn't told of: {message}");
    }
    // An id is one event, whatever the attempt.
    let mut bodies: BTreeMap<i64, (&[u8], u32)> = BTreeMap::new();
    for call in &calls {
        let (body, attempt) = bodies.entry(call.id).or_insert((&call.body, 0));
        assert_eq!(String::from_utf8_lossy(body), String::from_utf8_lossy(&call.body), "id {}", call.id);
        assert!(call.attempt > *attempt, "id {}: attempt {} after {attempt}", call.id, call.attempt);
        *attempt = call.attempt;
    }
}
