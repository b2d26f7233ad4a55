//! localserve as a test bench: each simulated failure, at each stage, as a program that sends mail meets it.

use crate::server::{PATIENCE, message, smtp, start, submission};
use crate::webapi_http::call;
use mox_testkit::peers::{Mox, wait_until};

#[track_caller]
fn run(mox: &Mox, args: &[&str]) -> String {
    let output = mox.command(args).unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{args:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// The line about a recipient in what a command lists, once there is one that holds all the parts.
#[track_caller]
fn await_line(mox: &Mox, args: &[&str], recipient: &str, parts: &[&str]) {
    let mut text = String::new();
    let to = format!("to:{recipient} ");
    let seen = wait_until(PATIENCE, || {
        text = run(mox, args);
        text.lines().any(|line| line.contains(&to) && parts.iter().all(|part| line.contains(part)))
    });
    assert!(seen, "{recipient}, {parts:?} in {args:?}:\n{text}");
}

#[track_caller]
fn send(mox: &Mox, to: &[&str]) {
    let to: Vec<String> = to.iter().map(|address| format!(r#"{{"Address":"{address}"}}"#)).collect();
    // The webapi accepts every address: failures wait for the queue.
    let reply = call(mox, "Send", &format!(r#"{{"To":[{}],"Subject":"s","Text":"t"}}"#, to.join(",")));
    assert_eq!(reply.status, 200, "{}", reply.text());
}

const HISTORY: &[&str] = &["queue", "retired", "list"];
const WAITING: &[&str] = &["queue", "list"];

#[test]
fn the_queue_meets_failures_as_at_a_real_receiver() {
    let mox = start();
    let ends: &[(&str, &[&str])] = &[
        ("plain@example.org", &[" success "]),
        ("permerror@example.org", &[" failure ", "550 5.0.0 failure with code 550 due to special localpart"]),
        ("queuepermerror@example.org", &[" failure ", "550 5.0.0"]),
        ("x552@example.org", &[" failure ", "552 5.0.0"]),
        ("x554@example.org", &[" failure ", "554 5.0.0"]),
    ];
    for (to, parts) in ends {
        send(&mox, &[to]);
        await_line(&mox, HISTORY, to, parts);
    }
    let waits: &[(&str, &[&str])] = &[
        ("x451@example.org", &["451 4.0.0"]),
        ("temperror@example.org", &["451 4.0.0"]),
        ("queue452@example.org", &["452 4.0.0"]),
        // RFC 5321 §4.5.3.1.10: at RCPT TO it means too many recipients, which passes.
        ("rcptto552@example.org", &["552 5.0.0"]),
    ];
    for (to, parts) in waits {
        send(&mox, &[to]);
        await_line(&mox, WAITING, to, parts);
    }

    // Only what says that the address is wrong puts it on the list.
    let listed = run(&mox, &["queue", "suppress", "list"]);
    assert!(listed.contains("\"permerror@example.org\"") && !listed.contains("x554@"), "{listed}");
    send(&mox, &["permerror@example.org"]);
    await_line(&mox, HISTORY, "permerror@example.org", &[" failure ", "suppression list"]);
}

#[test]
fn recipients_of_one_transaction_have_their_own_ends() {
    let mox = start();
    // Refused at RCPT TO: only that one.
    send(&mox, &["good@one.example", "rcptto551@one.example"]);
    await_line(&mox, HISTORY, "good@one.example", &[" success "]);
    await_line(&mox, HISTORY, "rcptto551@one.example", &[" failure ", "551 5.0.0"]);
    // Refused after the data, which is accepted or not as a whole.
    send(&mox, &["good@two.example", "x550@two.example"]);
    await_line(&mox, HISTORY, "good@two.example", &[" success "]);
    await_line(&mox, HISTORY, "x550@two.example", &[" success "]);
}

#[test]
fn failures_at_the_commands_of_incoming_mail() {
    let mox = start();
    let mut client = smtp(&mox);
    for (line, code) in [
        ("MAIL FROM:<mailfrom452@localhost>", 452),
        ("MAIL FROM:<mailfrompermerror@localhost>", 550),
        ("MAIL FROM:<mailfromtemperror@localhost>", 451),
        ("MAIL FROM:<mox@localhost>", 250),
        ("RCPT TO:<rcptto400@example.org>", 400),
        ("RCPT TO:<rcptto599@example.org>", 599),
        ("RCPT TO:<rcptto600@example.org>", 250),
        ("RCPT TO:<rcpttotemperror@example.org>", 451),
    ] {
        assert_eq!(client.command(line).unwrap().code, code, "{line}");
    }
    for (to, code) in [
        // Other moments than this one.
        (&["mailfrom550@example.org"][..], 550),
        (&["queuepermerror@example.org"], 550),
        (&["bob2450@example.org"], 450),
        (&["mjl2024@example.org"], 250),
        // Several recipients.
        (&["a450@example.org", "b450@example.org"], 450),
        (&["a450@example.org", "b451@example.org"], 451),
        (&["a450@example.org", "b550@example.org"], 554),
        (&["good@example.org", "b550@example.org"], 250),
    ] {
        let mut client = smtp(&mox);
        let reply = client.send("mox@localhost", to, &message("several")).unwrap();
        assert_eq!(reply.code, code, "{to:?}: {reply:?}");
    }
}

#[test]
fn submission_refuses_what_fails_but_leaves_the_queues_to_the_queue() {
    let mox = start();
    for (to, code) in [
        (&["x452@example.org"][..], 452),
        (&["good@example.org", "temperror@example.org"], 451),
        (&["queue452@example.org"], 250),
        (&["queuetimeoutless@example.org"], 250),
    ] {
        let reply = submission(&mox).send(Mox::USER, to, &message("submitted")).unwrap();
        assert_eq!(reply.code, code, "{to:?}: {reply:?}");
    }
    let mut client = submission(&mox);
    assert_eq!(client.command("MAIL FROM:<mox@localhost>").unwrap().code, 250);
    assert_eq!(client.command("RCPT TO:<rcptto553@example.org>").unwrap().code, 553);
    await_line(&mox, WAITING, "queue452@example.org", &["452 4.0.0"]);
    await_line(&mox, HISTORY, "queuetimeoutless@example.org", &[" success "]);
    // Nothing of a refused submission is queued.
    let all = run(&mox, HISTORY) + &run(&mox, WAITING);
    assert!(!all.contains("good@example.org") && !all.contains("x452@"), "{all}");
}
