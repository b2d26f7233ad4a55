//! Next hops that are slow, that hang or close at the wrong moment, that refuse some, and one behind a proxy: what becomes of the
//! message, and what its sender hears and when.

use crate::queue::{await_queue, is_empty, kick, last_body, run, send, serving};
use crate::server::{BINARY, PATIENCE, await_messages, bodies, imap};
use mox_testkit::peers::{Mox, Reaction, Sink, Socks, Turn, wait_until};
use std::net::SocketAddrV4;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The commands of a Sink's turn that a transaction has.
fn is_step(turn: &Turn) -> bool {
    match turn {
        Turn::Connect(_) | Turn::Message(_) => true,
        Turn::Command(line) => !line.starts_with("QUIT"),
    }
}

#[test]
fn a_slow_next_hop_is_waited_for() {
    // Six steps of each transaction, with others going past it meanwhile.
    let slow = Sink::start(|turn| if is_step(turn) { Reaction::Slow(Duration::from_millis(150)) } else { Reaction::Normal }).unwrap();
    let quick = Sink::start(|_| Reaction::Normal).unwrap();
    let mox = serving(&[("slow.test", slow.port()), ("quick.test", quick.port())], &[]);
    send(&mox, &["ann@slow.test", "bob@slow.test"], "patience");
    for number in 0..5 {
        send(&mox, &["ann@quick.test"], &format!("number {number}"));
    }
    await_queue(&mox, is_empty);
    assert_eq!(quick.received().len(), 5);
    let received = slow.received();
    assert_eq!((received.len(), received[0].to.len()), (1, 2), "{received:?}");
    let retired = run(&mox, &["queue", "retired", "list", "-to", "slow.test"]);
    assert_eq!(retired.matches(" success ").count(), 2, "{retired}");
    await_messages(&mut imap(&mox), "INBOX", 0);
}

#[test]
fn the_fifth_failure_is_told_with_the_plan_that_is_followed() {
    let sink = Sink::start(|turn| match turn {
        Turn::Command(line) if line.starts_with("RCPT") => Reaction::Reply("450 4.2.1 mailbox is busy".to_owned()),
        _ => Reaction::Normal,
    });
    let sink = sink.unwrap();
    let mox = serving(&[("sink.test", sink.port())], &[]);
    send(&mox, &["ann@sink.test"], "five times");
    for attempt in 1..=5 {
        assert!(wait_until(PATIENCE, || sink.connections() >= attempt), "{}", run(&mox, &["queue", "list"]));
        await_queue(&mox, |list| list.contains("mailbox is busy") && !list.contains("delivering"));
        if attempt < 5 {
            await_messages(&mut imap(&mox), "INBOX", 0);
            kick(&mox);
        }
    }
    let dsn = last_body(&mut imap(&mox), 1);
    assert!(dsn.contains("Subject: mail delivery delayed\r\n"), "{dsn}");
    assert!(dsn.contains("Action: delayed\r\n") && dsn.contains("Status: 4.2.1"), "{dsn}");
    assert!(dsn.contains("Diagnostic-Code: smtp; 450 4.2.1 mailbox is busy"), "{dsn}");
    // After 2, 4 and 8 hours more it is given up.
    let field = |name: &str| {
        let line = dsn.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("no {name}: {dsn}"));
        seconds(line.trim())
    };
    let (last, until) = (field("Last-Attempt-Date:"), field("Will-Retry-Until:"));
    let plan = until - last;
    assert!((plan - 14 * 3600).abs() < 14 * 3600 / 50, "given up after {plan} s");
    // The next attempt in the queue is the plan's first, within a percent.
    let list = run(&mox, &["queue", "list"]);
    assert!(list.contains("next 1h5") || list.contains("next 2h"), "{list}");
    // Nothing more is told until the end.
    kick(&mox);
    assert!(wait_until(PATIENCE, || sink.connections() >= 6));
    await_queue(&mox, |list| list.contains("mailbox is busy") && !list.contains("delivering"));
    await_messages(&mut imap(&mox), "INBOX", 1);
}

/// A date of a header as seconds since 1970, by another program.
fn seconds(date: &str) -> i64 {
    let output = std::process::Command::new("date").args(["-d", date, "+%s"]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).trim().parse().unwrap_or_else(|e| panic!("{date}: {e}"))
}

#[test]
fn a_next_hop_that_hangs_in_data_gets_it_when_it_works_again() {
    static HANGING: AtomicBool = AtomicBool::new(true);
    let sink = Sink::start(|turn| match turn {
        Turn::Message(_) if HANGING.load(Ordering::SeqCst) => Reaction::Hang,
        _ => Reaction::Normal,
    });
    let mut sink = sink.unwrap();
    let mox = serving(&[("sink.test", sink.port())], &[]);
    send(&mox, &["ann@sink.test", "bob@sink.test"], "hung");
    await_queue(&mox, |list| list.matches("error \"delivering...\"").count() == 2);
    assert!(wait_until(PATIENCE, || sink.connections() == 1));
    // Gone, with the message but without an answer.
    sink.pause();
    await_queue(&mox, |list| !list.contains("delivering") && list.matches("@sink.test").count() == 2 && list.contains("error \""));
    HANGING.store(false, Ordering::SeqCst);
    sink.resume().unwrap();
    kick(&mox);
    await_queue(&mox, is_empty);
    assert_eq!(sink.received().len(), 1, "{:?}", sink.received());
    await_messages(&mut imap(&mox), "INBOX", 0);
}

#[test]
fn what_was_kept_but_not_acknowledged_is_sent_again() {
    static FIRST: AtomicBool = AtomicBool::new(true);
    let sink = Sink::start(|turn| match turn {
        // RFC 5321 §4.5.3.2.6: a receiver that loses the connection here has caused a double, but nothing is lost.
        Turn::Message(_) if FIRST.swap(false, Ordering::SeqCst) => Reaction::KeepAndDrop,
        _ => Reaction::Normal,
    });
    let sink = sink.unwrap();
    let mox = serving(&[("sink.test", sink.port())], &[]);
    send(&mox, &["ann@sink.test"], "kept");
    await_queue(&mox, |list| list.contains("ann@sink.test") && list.contains("error \"") && !list.contains("delivering"));
    kick(&mox);
    await_queue(&mox, is_empty);
    let received = sink.received();
    assert_eq!(received.len(), 2);
    assert_eq!(received[0].data, received[1].data, "so that the receiver can see that it is the same");
    let retired = run(&mox, &["queue", "retired", "list"]);
    assert!(retired.contains(" success "), "{retired}");
}

#[test]
fn each_recipient_has_its_own_fate() {
    static LATER: AtomicBool = AtomicBool::new(true);
    let sink = Sink::start(|turn| match turn {
        Turn::Command(line) if line.starts_with("RCPT") && line.contains("<gone@") => Reaction::Reply("550 5.1.1 moved".to_owned()),
        Turn::Command(line) if line.starts_with("RCPT") && line.contains("<busy@") && LATER.load(Ordering::SeqCst) => {
            Reaction::Reply("450 4.2.1 later".to_owned())
        }
        _ => Reaction::Normal,
    });
    let sink = sink.unwrap();
    let mox = serving(&[("sink.test", sink.port())], &[]);
    send(&mox, &["ann@sink.test", "gone@sink.test", "busy@sink.test", "bob@sink.test"], "to four");
    await_queue(&mox, |list| list.matches("@sink.test").count() == 1 && list.contains("to:busy@sink.test") && list.contains("450 4.2.1"));
    assert_eq!(sink.received()[0].to, ["TO:<ann@sink.test>", "TO:<bob@sink.test>"]);
    let bounce = last_body(&mut imap(&mox), 1);
    assert_eq!(bounce.matches("Final-Recipient:").count(), 1, "{bounce}");
    assert!(bounce.contains("Final-Recipient: rfc822;gone@sink.test") && bounce.contains("Status: 5.1.1"), "{bounce}");
    LATER.store(false, Ordering::SeqCst);
    kick(&mox);
    await_queue(&mox, is_empty);
    let received = sink.received();
    assert_eq!((received.len(), received[1].to.as_slice()), (2, &["TO:<busy@sink.test>".to_owned()][..]));
    let retired = run(&mox, &["queue", "retired", "list"]);
    assert_eq!((retired.matches(" success ").count(), retired.matches(" failure ").count()), (3, 1), "{retired}");
    assert_eq!(bodies(&mut imap_of_inbox(&mox)).len(), 1);
}

fn imap_of_inbox(mox: &Mox) -> mox_testkit::peers::ImapClient {
    let mut client = imap(mox);
    await_messages(&mut client, "INBOX", 1);
    client
}

/// Direct delivery, to the port of mail, through somebody else's SOCKS server.
#[test]
fn mail_goes_through_a_real_proxy() {
    let Some(socks) = Socks::require() else { return };
    let address: SocketAddrV4 = "127.77.0.25:25".parse().unwrap();
    let helo = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let heard = std::sync::Arc::clone(&helo);
    let sink = Sink::start_at(address, move |turn| {
        if let Turn::Command(line) = turn {
            heard.lock().unwrap().push(line.clone());
        }
        Reaction::Normal
    });
    let sink = match sink {
        Ok(sink) => sink,
        Err(error) => return mox_testkit::peers::skip(&format!("port 25 of a loopback address: {error}")),
    };
    let mox = Mox::serve_with(Path::new(BINARY), |folder| {
        let conf = folder.join("mox.conf");
        let transport = format!(
            "Transports:\n\tproxy:\n\t\tSocks:\n\t\t\tAddress: 127.0.0.1:{}\n\t\t\tRemoteIPs:\n\t\t\t\t- 127.0.0.1\n\t\t\tRemoteHostname: proxy.test\n",
            socks.port()
        );
        std::fs::write(&conf, std::fs::read_to_string(&conf)? + &transport)?;
        let dynamic = folder.join("domains.conf");
        std::fs::write(&dynamic, std::fs::read_to_string(&dynamic)? + "Routes:\n\t-\n\t\tTransport: proxy\n")
    });
    let mox = mox.unwrap();
    send(&mox, &["ann@[127.77.0.25]"], "through");
    await_queue(&mox, is_empty);
    assert_eq!(sink.received().len(), 1, "{}", run(&mox, &["queue", "retired", "list"]));
    assert!(helo.lock().unwrap().contains(&"EHLO proxy.test".to_owned()), "{helo:?}");
    assert!(socks.log().contains("127.77.0.25:25"), "{}", socks.log());
    // Without the proxy, it waits.
    drop(socks);
    send(&mox, &["ann@[127.77.0.25]"], "alone");
    await_queue(&mox, |list| list.contains("127.77.0.25") && list.contains("error \"") && !list.contains("delivering"));
    assert_eq!(sink.received().len(), 1);
}
