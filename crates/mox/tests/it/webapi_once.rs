//! Requests with an `Idempotency-Key`: answered the same, done once.

use crate::server::{BINARY, await_messages, imap, start};
use crate::webapi_http::{Reply, call_with};
use mox_testkit::peers::Mox;
use std::time::Duration;

fn send(mox: &Mox, key: &str, subject: &str) -> Reply {
    send_at(mox, key, subject, "null")
}

fn send_at(mox: &Mox, key: &str, subject: &str, release: &str) -> Reply {
    let to = r#""To":[{"Address":"mox@localhost"}]"#;
    let request = format!(r#"{{{to},"Subject":"{subject}","Text":"x","FutureRelease":{release}}}"#);
    call_with(mox, "Send", &format!("Idempotency-Key: {key}\r\n"), &request)
}

#[test]
fn the_same_answer_also_at_once_and_after_a_crash() {
    let mut mox = start();
    let answers: Vec<Reply> = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..8).map(|_| scope.spawn(|| send(&mox, "k1", "once"))).collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    let first = &answers[0];
    assert_eq!(first.status, 200, "{}", first.text());
    assert!(answers.iter().all(|a| a.status == 200 && a.body == first.body), "{answers:?}");
    assert_eq!(send(&mox, "k1", "something else").code(), "user");
    let second = send(&mox, "k2", "once");
    assert!(second.status == 200 && second.body != first.body);
    // Delivered: what a crash interrupts while it is delivered is only tried again much later.
    await_messages(&mut imap(&mox), "Inbox", 2);
    mox.kill().unwrap();
    mox.resume().unwrap();
    assert_eq!(send(&mox, "k1", "once").body, first.body);
    assert_eq!(send(&mox, "k2", "once").body, second.body);
    await_messages(&mut imap(&mox), "Inbox", 2);
}

#[test]
fn what_is_no_key() {
    let mox = start();
    for key in ["", "a b", &"x".repeat(256)] {
        assert_eq!(send(&mox, key, "x").code(), "user", "{key}");
    }
    assert_eq!(send(&mox, &"x".repeat(255), "x").status, 200);
}

/// This time tomorrow.
pub(crate) fn tomorrow() -> String {
    let output = std::process::Command::new("date").args(["-u", "-d", "tomorrow", "+%Y-%m-%dT%H:%M:%SZ"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// What waits in the queue, one line each.
fn queued(mox: &Mox) -> usize {
    let output =
        std::process::Command::new(BINARY).arg("-config").arg(mox.dir().join("mox.conf")).args(["queue", "list"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter(|line| line.contains("mox@localhost")).count()
}

#[test]
fn a_crash_in_the_middle_loses_and_doubles_nothing() {
    let mut mox = start();
    // They stay in the queue: what a crash interrupts while it is delivered is only tried again much later.
    let release = format!("\"{}\"", tomorrow());
    let mut answered = Vec::new();
    for round in 0..3 {
        let keys: Vec<String> = (0..20).map(|n| format!("r{round}-{n}")).collect();
        let (port_mox, release) = (&mox, release.as_str());
        let some: Vec<(String, Option<Vec<u8>>)> = std::thread::scope(|scope| {
            let calls: Vec<_> = keys
                .iter()
                .map(|key| {
                    scope.spawn(move || {
                        let call =
                            || Some(send_at(port_mox, key, key, release)).filter(|reply| reply.status == 200).map(|reply| reply.body);
                        // No answer at all is what a killed server gives.
                        (key.clone(), std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)).ok().flatten())
                    })
                })
                .collect();
            std::thread::sleep(Duration::from_millis(30 * (round + 1)));
            let id = port_mox.id().unwrap().to_string();
            assert!(std::process::Command::new("kill").args(["-9", &id]).status().unwrap().success());
            calls.into_iter().map(|call| call.join().unwrap()).collect()
        });
        drop(mox.kill());
        mox.resume().unwrap();
        for (key, before) in some {
            let again = send_at(&mox, &key, &key, release);
            assert_eq!(again.status, 200, "{}", again.text());
            if let Some(before) = before {
                assert_eq!(again.body, before, "{key}");
            }
            answered.push(key);
        }
    }
    assert_eq!(queued(&mox), answered.len());
}
