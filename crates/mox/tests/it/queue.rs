//! The queue from outside: two servers of ours that deliver to each other, next hops that misbehave, and all commands.

use crate::server::{BINARY, PATIENCE, await_messages, bodies, imap, message, submission};
use mox_testkit::peers::{ImapClient, Mox, Reaction, Service, Sink, Turn, wait_until};
use std::path::Path;

/// `mox serve` that hands mail for each of these domains to a port. Mail for other domains waits.
pub(crate) fn serving(peers: &[(&str, u16)], domains: &[&str]) -> Mox {
    serving_in(&std::env::temp_dir(), peers, domains)
}

/// The same in a folder of choice.
pub(crate) fn serving_in(parent: &Path, peers: &[(&str, u16)], domains: &[&str]) -> Mox {
    let started = Mox::serve_in(Path::new(BINARY), parent, |folder| {
        let conf = folder.join("mox.conf");
        let mut text = std::fs::read_to_string(&conf)? + "Transports:\n\tnowhere:\n\t\tFail:\n\t\t\tSMTPCode: 451\n";
        let mut routes = String::from("Routes:\n");
        for (domain, port) in peers {
            let name = domain.trim_end_matches(".test");
            text += &format!("\t{name}:\n\t\tSMTP:\n\t\t\tHost: localhost\n\t\t\tPort: {port}\n\t\t\tNoSTARTTLS: true\n");
            routes += &format!("\t-\n\t\tToDomain:\n\t\t\t- {domain}\n\t\tTransport: {name}\n");
        }
        routes += "\t-\n\t\tTransport: nowhere\n";
        std::fs::write(&conf, text)?;
        let dynamic = folder.join("domains.conf");
        let mut text = std::fs::read_to_string(&dynamic)?;
        for domain in domains {
            text = text.replacen("Domains:\n", &format!("Domains:\n\t{domain}:\n\t\tLocalpartCatchallSeparator: +\n"), 1);
            let destination = format!("\t\tDestinations:\n\t\t\tmox@{domain}: nil\n");
            text = text.replacen("\t\tDestinations:\n", &destination, 1);
        }
        std::fs::write(&dynamic, text + &routes)
    });
    started.unwrap()
}

/// What a command prints; it must succeed.
#[track_caller]
pub(crate) fn run(mox: &Mox, args: &[&str]) -> String {
    let output = mox.command(args).unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{args:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// What a command says on standard error; it must fail.
#[track_caller]
fn fails(mox: &Mox, args: &[&str]) -> String {
    let output = mox.command(args).unwrap();
    assert_eq!(output.status.code(), Some(1), "{args:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[track_caller]
pub(crate) fn await_queue(mox: &Mox, holds: impl Fn(&str) -> bool) {
    let mut list = String::new();
    let held = wait_until(PATIENCE, || {
        list = run(mox, &["queue", "list"]);
        holds(&list)
    });
    assert!(held, "{list}");
}

pub(crate) fn is_empty(list: &str) -> bool {
    list == "messages:\n(none)\n"
}

pub(crate) fn kick(mox: &Mox) {
    run(mox, &["queue", "schedule", "-now", "0s"]);
}

#[track_caller]
pub(crate) fn send(mox: &Mox, to: &[&str], subject: &str) {
    let reply = submission(mox).send(Mox::USER, to, &message(subject)).unwrap();
    assert!(reply.is_ok(), "{reply:?}");
}

pub(crate) fn last_body(client: &mut ImapClient, count: usize) -> String {
    await_messages(client, "INBOX", count);
    String::from_utf8(bodies(client).pop().unwrap()).unwrap()
}

#[test]
fn two_servers_deliver_to_each_other_and_bounce() {
    // Each has to know the other's port, and there is none before it runs: one starts twice.
    const UNKNOWN: u16 = 1;
    let mut near = serving(&[("far.test", UNKNOWN)], &[]);
    let far = serving(&[("localhost", near.port(Service::Smtp))], &["far.test"]);
    near.kill().unwrap();
    let conf = near.dir().join("mox.conf");
    let text = std::fs::read_to_string(&conf).unwrap();
    std::fs::write(&conf, text.replace("Port: 1\n", &format!("Port: {}\n", far.port(Service::Smtp)))).unwrap();
    near.resume().unwrap();

    send(&near, &["mox@far.test"], "to the other");
    await_queue(&near, is_empty);
    let arrived = last_body(&mut imap(&far), 1);
    assert!(arrived.ends_with(&String::from_utf8(message("to the other")).unwrap()), "{arrived}");
    // Refused at once: the queue tells the sender.
    send(&near, &["nobody@far.test"], "to nobody");
    await_queue(&near, is_empty);
    let bounce = last_body(&mut imap(&near), 1);
    assert!(bounce.contains("Final-Recipient: rfc822;nobody@far.test") && bounce.contains("Action: failed"), "{bounce}");
    assert!(bounce.contains("Remote-MTA: dns;localhost"), "{bounce}");
    // A second recipient in one transaction is for senders that SPF vouches for: after 452 4.5.3 it goes in another, at once.
    send(&near, &["mox@far.test", "other@far.test"], "to two");
    await_queue(&near, is_empty);
    await_messages(&mut imap(&far), "INBOX", 2);
    let bounce = last_body(&mut imap(&near), 2);
    assert!(bounce.contains("Final-Recipient: rfc822;other@far.test") && bounce.contains("Action: failed"), "{bounce}");
    // And the other way.
    send(&far, &[Mox::USER], "back");
    await_queue(&far, is_empty);
    let arrived = last_body(&mut imap(&near), 3);
    assert!(arrived.ends_with(&String::from_utf8(message("back")).unwrap()), "{arrived}");

    // The history tells of both, with the host and address of each.
    let retired = run(&near, &["queue", "retired", "list", "-asc", "-sort", "queued"]);
    let lines: Vec<&str> = retired.lines().collect();
    assert_eq!((lines.len(), lines[0]), (5, "retired messages:"), "{retired}");
    assert!(lines[1].contains(" success from:mox@localhost to:mox@far.test last "), "{retired}");
    assert!(lines[2].contains(" failure from:mox@localhost to:nobody@far.test last "), "{retired}");
    assert!(run(&far, &["queue", "retired", "list"]).contains(" success from:mox@localhost to:mox@localhost last "));
    assert_eq!(run(&near, &["queue", "retired", "list", "-result", "failure"]).lines().count(), 3);
    let id = lines[2].split_whitespace().next().unwrap();
    let json: serde_json::Value = serde_json::from_str(&run(&near, &["queue", "retired", "print", id])).unwrap();
    assert_eq!(json["RecipientAddress"], "nobody@far.test");
    assert_eq!((&json["SenderLocalpart"], &json["SenderAccount"]), (&"mox".into(), &"mox".into()));
    assert_eq!((&json["Success"], &json["Attempts"], &json["Results"][0]["Code"]), (&false.into(), &1.into(), &550.into()));
    assert_eq!((&json["Results"][0]["Transport"], &json["Results"][0]["Host"]), (&"far".into(), &"localhost".into()));

    // The refused address is on the suppression list: nothing is sent there any more.
    let list = run(&near, &["queue", "suppress", "list", "-account", "mox"]);
    assert!(list.contains("\"mox\"\t\"nobody@far.test\"\tNo\t"), "{list}");
    send(&near, &["nobody+more@far.test"], "again");
    let bounce = last_body(&mut imap(&near), 4);
    assert!(bounce.contains("suppression list"), "{bounce}");
    run(&near, &["queue", "suppress", "remove", "mox", "nobody@far.test"]);
    run(&near, &["queue", "suppress", "remove", "mox", "other@far.test"]);
    assert_eq!(run(&near, &["queue", "suppress", "list"]).lines().last(), Some("(none)"));
}

#[test]
fn a_next_hop_that_accepts_then_closes_gets_it_again() {
    let sink = Sink::start(|turn| match turn {
        Turn::Command(line) if line.starts_with("DATA") => Reaction::Drop,
        _ => Reaction::Normal,
    });
    let sink = sink.unwrap();
    let mox = serving(&[("sink.test", sink.port())], &[]);
    send(&mox, &["ann@sink.test"], "closed upon");
    await_queue(&mox, |list| list.contains("ann@sink.test") && list.contains("error \"") && !list.contains("delivering"));
    assert!(sink.received().is_empty());
    assert_eq!(run(&mox, &["queue", "fail"]), "1 message(s) marked as failed\n");
    let bounce = last_body(&mut imap(&mox), 1);
    assert!(bounce.contains("delivery canceled by admin") && bounce.contains("Action: failed"), "{bounce}");
    await_queue(&mox, is_empty);
}

#[test]
fn refused_for_now_for_ever_delays_and_then_fails() {
    let sink = Sink::start(|turn| match turn {
        Turn::Command(line) if line.starts_with("RCPT") => Reaction::Reply("450 4.2.1 not today".to_owned()),
        _ => Reaction::Normal,
    });
    let sink = sink.unwrap();
    let mox = serving(&[("sink.test", sink.port())], &[]);
    send(&mox, &["ann@sink.test"], "never");
    let mut client = imap(&mox);
    for attempt in 1..=8 {
        assert!(wait_until(PATIENCE, || sink.connections() >= attempt), "{}", run(&mox, &["queue", "list"]));
        if attempt < 8 {
            await_queue(&mox, |list| list.contains("not today") && !list.contains("delivering"));
            kick(&mox);
        }
    }
    await_messages(&mut client, "INBOX", 2);
    let dsns: Vec<String> = bodies(&mut client).into_iter().map(|b| String::from_utf8(b).unwrap()).collect();
    assert!(dsns[0].contains("Action: delayed") && dsns[0].contains("Will-Retry-Until: "), "{}", dsns[0]);
    assert!(dsns[1].contains("Action: failed") && dsns[1].contains("450 4.2.1 not today"), "{}", dsns[1]);
    await_queue(&mox, is_empty);
    let retired = run(&mox, &["queue", "retired", "list"]);
    assert_eq!(retired.lines().count(), 2, "{retired}");
}

#[test]
fn commands_filter_and_change() {
    let sink = Sink::start(|_| Reaction::Normal).unwrap();
    let mox = serving(&[("sink.test", sink.port())], &[]);
    assert_eq!(run(&mox, &["queue", "holdrules", "list"]), "hold rules:\n(none)\n");
    run(&mox, &["queue", "holdrules", "add", "-recipientdom", "sink.test"]);
    run(&mox, &["queue", "holdrules", "add", "-account", "mox", "-senderdom", "elsewhere.test"]);
    run(&mox, &["queue", "holdrules", "add"]);
    let rules = run(&mox, &["queue", "holdrules", "list"]);
    let want =
        "hold rules:\nid 1: recipient domain \"sink.test\"\nid 2: account \"mox\", sender domain \"elsewhere.test\"\nid 3: all messages\n";
    assert_eq!(rules, want);
    run(&mox, &["queue", "holdrules", "remove", "3"]);
    run(&mox, &["queue", "holdrules", "remove", "2"]);
    assert!(fails(&mox, &["queue", "holdrules", "remove", "2"]).contains("no such hold rule"));
    assert!(fails(&mox, &["queue", "holdrules", "add", "-senderdom", "a b"]).contains("sender domain"));

    send(&mox, &["ann@sink.test", "bob@sink.test"], "held");
    let list = run(&mox, &["queue", "list", "-hold", "true", "-asc"]);
    let ids: Vec<&str> = list.lines().skip(1).map(|l| l.split_whitespace().next().unwrap()).collect();
    assert_eq!(ids.len(), 2, "{list}");
    assert!(run(&mox, &["queue", "dump", ids[0]]).ends_with(&String::from_utf8(message("held")).unwrap()));
    assert!(fails(&mox, &["queue", "transport", "other"]).contains("no such transport"));
    // A script whose variable is empty doesn't mean all.
    for none in ["", ",", "1,"] {
        assert!(fails(&mox, &["queue", "drop", "-ids", none]).contains("parsing -ids"), "{none}");
    }
    assert_eq!(run(&mox, &["queue", "transport", "-ids", ids[0], "nowhere"]), "1 message(s) changed\n");
    assert_eq!(run(&mox, &["queue", "requiretls", "-to", "bob@", "no"]), "1 message(s) changed\n");
    assert_eq!(run(&mox, &["queue", "list", "-transport", "nowhere"]).lines().count(), 2);
    assert_eq!(run(&mox, &["queue", "list", "-transport", ""]).lines().count(), 2);
    assert_eq!(run(&mox, &["queue", "unhold"]), "2 messages changed\n");
    assert!(wait_until(PATIENCE, || sink.received().len() == 1));
    assert_eq!(sink.received()[0].to, ["TO:<bob@sink.test>"]);
    await_queue(&mox, |list| list.contains("ann@sink.test") && list.contains("error \"delivery fails explicitly"));
    assert_eq!(run(&mox, &["queue", "drop", "-nextattempt", ">now", "-from", "mox@", "-to", "ann@"]), "1 message(s) dropped\n");
    await_queue(&mox, is_empty);
    await_messages(&mut imap(&mox), "INBOX", 0);

    assert_eq!(run(&mox, &["queue", "suppress", "lookup", "x@y.test"]), "not present\n");
    run(&mox, &["queue", "suppress", "add", "mox", "X.z+1@y.test"]);
    assert!(fails(&mox, &["queue", "suppress", "add", "nobody", "x@y.test"]).contains("no such account"));
    assert!(fails(&mox, &["queue", "suppress", "add", "mox", "xz@y.test"]).contains("already"));
    let found = run(&mox, &["queue", "suppress", "lookup", "-account", "mox", "xz-2@y.test"]);
    let lines: Vec<&str> = found.lines().collect();
    assert!(lines[0] == "present" && lines[1].starts_with("added: 2") && lines[2] == "manual: yes", "{found}");
    assert_eq!(lines[3..], ["base address: xz@y.test", "reason: \"added through mox cli\""]);
    assert!(fails(&mox, &["queue", "retired", "print", "999"]).contains("no such"));
}

#[test]
fn entries_survive_a_kill_while_they_are_delivered() {
    let sink = Sink::start(|turn| match turn {
        Turn::Command(line) if line.starts_with("RCPT") => Reaction::Hang,
        _ => Reaction::Normal,
    });
    let sink = sink.unwrap();
    let mut mox = serving(&[("sink.test", sink.port())], &[]);
    send(&mox, &["ann@sink.test"], "interrupted");
    assert!(wait_until(PATIENCE, || sink.connections() >= 1));
    mox.kill().unwrap();
    mox.resume().unwrap();
    let list = run(&mox, &["queue", "list"]);
    assert!(list.contains("to:ann@sink.test") && list.contains("error \"delivering...\""), "{list}");
    assert_eq!(run(&mox, &["queue", "drop"]), "1 message(s) dropped\n");
    let retired = run(&mox, &["queue", "retired", "list"]);
    assert!(retired.contains("failure from:mox@localhost to:ann@sink.test") && retired.contains("canceled by admin"), "{retired}");
}

/// A smarthost with a login: SCRAM, with channel binding, over STARTTLS and over TLS from the first byte, verified.
#[test]
fn submission_through_a_smarthost_with_a_login() {
    let far = serving(&[], &[]);
    let near = Mox::serve_with(Path::new(BINARY), |folder| {
        let conf = folder.join("mox.conf");
        let auth = format!("\t\t\tAuth:\n\t\t\t\tUsername: {}\n\t\t\t\tPassword: {}\n", Mox::USER, Mox::PASSWORD);
        let transport = |name: &str, kind: &str, service: Service| {
            format!("\t{name}:\n\t\t{kind}:\n\t\t\tHost: localhost\n\t\t\tPort: {}\n{auth}", far.port(service))
        };
        let starttls = transport("starttls", "Submission", Service::Submission);
        let immediate = transport("immediate", "Submissions", Service::Submissions);
        let authority = far.dir().join("localhost.crt").display().to_string();
        let text = std::fs::read_to_string(&conf)?.replacen("- localhost.crt\n", &format!("- localhost.crt\n\t\t\t- {authority}\n"), 1);
        std::fs::write(&conf, text + "Transports:\n" + &starttls + &immediate)?;
        let dynamic = folder.join("domains.conf");
        let routes = ["starttls", "immediate"].map(|t| format!("\t-\n\t\tToDomain:\n\t\t\t- {t}.test\n\t\tTransport: {t}\n"));
        std::fs::write(&dynamic, std::fs::read_to_string(&dynamic)? + "Routes:\n" + &routes.concat())
    });
    let near = near.unwrap();
    for transport in ["starttls", "immediate"] {
        send(&near, &[&format!("ann@{transport}.test")], transport);
        await_queue(&near, is_empty);
        await_queue(&far, |list| list.contains(&format!("to:ann@{transport}.test")));
        let retired = run(&near, &["queue", "retired", "list", "-to", transport]);
        let id = retired.lines().nth(1).and_then(|l| l.split_whitespace().next()).unwrap();
        let json: serde_json::Value = serde_json::from_str(&run(&near, &["queue", "retired", "print", id])).unwrap();
        let result = &json["Results"][0];
        assert_eq!((&result["Success"], &result["Transport"]), (&true.into(), &transport.into()), "{json}");
        assert!(result["TLS"].as_str().is_some_and(|tls| tls.starts_with("TLS1.3 ") && tls.ends_with(" verified")), "{json}");
    }
}
