//! Other mail servers around ours: Postfix in front and behind, and next hops that are slow, fail or disappear.

use crate::server::{self, BINARY, PATIENCE, await_messages, bodies, imap, message, start, submission};
use mox_testkit::peers::{Dovecot, ImapClient, Mox, NextHop, Postfix, Reaction, Service, Sink, SmtpClient, Turn, wait_until};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

/// Enough for every retry, flush and reconnection of thousands of messages on a slow machine.
const LONG: Duration = Duration::from_secs(400);
const MANY: usize = 5000;

/// `mox serve` whose mail for others goes to one port, and whose account may send as much as it likes.
fn with_next_hop(port: u16) -> Mox {
    let started = Mox::serve_with(Path::new(BINARY), |folder| {
        let conf = folder.join("mox.conf");
        let text = std::fs::read_to_string(&conf)?;
        let transport = format!("Transports:\n\tpeer:\n\t\tSMTP:\n\t\t\tHost: localhost\n\t\t\tPort: {port}\n\t\t\tNoSTARTTLS: true\n");
        std::fs::write(&conf, text + &transport)?;
        let domains = folder.join("domains.conf");
        let text = std::fs::read_to_string(&domains)?;
        let limits = "\tmox:\n\t\tMaxOutgoingMessagesPerDay: 1000000\n\t\tMaxFirstTimeRecipientsPerDay: 1000000\n";
        std::fs::write(&domains, text.replacen("\tmox:\n", limits, 1) + "Routes:\n\t-\n\t\tTransport: peer\n")
    });
    started.unwrap()
}

/// The numbers in the subjects of all messages.
fn numbers(bodies: &[Vec<u8>]) -> Vec<usize> {
    let number = |body: &Vec<u8>| {
        let text = String::from_utf8_lossy(body);
        text.lines().find_map(|l| l.strip_prefix("Subject: number ")?.parse().ok()).unwrap()
    };
    bodies.iter().map(number).collect()
}

#[track_caller]
fn all_exactly_once(mut found: Vec<usize>, count: usize) {
    found.sort_unstable();
    let distinct: BTreeSet<usize> = found.iter().copied().collect();
    assert_eq!(found.len(), distinct.len(), "{} doubled", found.len() - distinct.len());
    assert_eq!(distinct.len(), count, "{} lost", count - distinct.len());
}

/// Hands over messages in several connections; the reply to each must be positive.
fn hand_over(count: usize, connections: usize, to: &str, connect: impl Fn() -> SmtpClient + Sync) {
    std::thread::scope(|scope| {
        for connection in 0..connections {
            let connect = &connect;
            scope.spawn(move || {
                let mut client = connect();
                for number in (connection..count).step_by(connections) {
                    let reply = client.send(Mox::USER, &[to], &message(&format!("number {number}"))).unwrap();
                    assert!(reply.is_ok(), "{reply:?}");
                }
            });
        }
    });
}

#[test]
fn postfix_delivers_thousands_to_us() {
    let mox = start();
    let Some(postfix) = Postfix::require(NextHop::Smtp(mox.port(Service::Smtp))) else {
        return;
    };
    hand_over(MANY, 8, Mox::USER, || SmtpClient::smtp(postfix.port()).unwrap());
    assert!(postfix.drained(LONG), "{:?} left", postfix.queued());
    let mut client = imap(&mox);
    server::exists(&mut client, "INBOX");
    all_exactly_once(numbers(&bodies(&mut client)), MANY);
}

/// In chunks, which Postfix announces, and to several domains: to each there is one connection, on which Postfix acknowledges a message only when its
/// disk has it, so that one by one they would take a minute.
#[test]
fn we_deliver_thousands_to_postfix() {
    const DOMAINS: usize = 5;
    let address = |domain: usize| format!("ann@d{domain}.dovecot.test");
    let Some(dovecot) = Dovecot::require() else {
        return;
    };
    let Some(postfix) = Postfix::require(NextHop::Lmtp(dovecot.lmtp_port())) else {
        return;
    };
    let mox = with_next_hop(postfix.port());
    std::thread::scope(|scope| {
        for domain in 0..DOMAINS {
            let (mox, to) = (&mox, address(domain));
            scope.spawn(move || hand_over(MANY / DOMAINS, 1, &to, || submission(mox)));
        }
    });
    for domain in 0..DOMAINS {
        let mut client = ImapClient::login(dovecot.imap_port(), &address(domain), Dovecot::PASSWORD).unwrap();
        let arrived = wait_until(LONG, || server::exists(&mut client, "INBOX") >= MANY / DOMAINS);
        assert!(arrived, "{}", queue(&mox));
    }
    // Only now: listing thousands again and again takes its time.
    assert!(wait_until(PATIENCE, || queued(&mox) == 0), "{}", queue(&mox));
    assert!(postfix.drained(PATIENCE));
    for domain in 0..DOMAINS {
        let mut client = ImapClient::login(dovecot.imap_port(), &address(domain), Dovecot::PASSWORD).unwrap();
        server::exists(&mut client, "INBOX");
        all_exactly_once(numbers(&bodies(&mut client)), MANY / DOMAINS);
    }
    // Its summaries of sessions.
    let log = postfix.log();
    assert!(log.contains(" bdat=") && !log.contains(" data="), "{}", log.lines().filter(|l| l.contains("disconnect")).collect::<String>());
}

/// What `mox queue list` prints.
fn queue(mox: &Mox) -> String {
    let output = mox.command(&["queue", "list"]).unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// How many recipients wait in the queue.
fn queued(mox: &Mox) -> usize {
    queue(mox).lines().filter(|l| l.contains(".test") || l.contains("<mox@localhost>")).count()
}

/// Makes everything in the queue due now.
fn kick(mox: &Mox) {
    let output = mox.command(&["queue", "schedule", "-now", "0"]).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_refused_message_comes_back_as_a_bounce() {
    let sink = Sink::start(|turn| match turn {
        Turn::Command(line) if line.contains("nobody") => Reaction::Reply("550 5.1.1 no such user here".to_owned()),
        _ => Reaction::Normal,
    });
    let sink = sink.unwrap();
    let mox = with_next_hop(sink.port());
    let sent = message("for two");
    assert!(submission(&mox).send(Mox::USER, &["nobody@sink.test", "somebody@sink.test"], &sent).unwrap().is_ok());
    let mut client = imap(&mox);
    await_messages(&mut client, "INBOX", 1);
    let bounce = String::from_utf8(bodies(&mut client).remove(0)).unwrap();
    // RFC 3464.
    assert!(bounce.contains("report-type=\"delivery-status\"") || bounce.contains("report-type=delivery-status"), "{bounce}");
    assert!(bounce.contains("nobody@sink.test") && !bounce.contains("Final-Recipient: rfc822; somebody@"), "{bounce}");
    assert!(bounce.contains("5.1.1") && bounce.contains("no such user here"), "{bounce}");
    assert!(wait_until(PATIENCE, || queued(&mox) == 0), "{}", queue(&mox));
    let received = sink.received();
    assert_eq!(received.len(), 1);
    assert_eq!(received[0].to, ["TO:<somebody@sink.test>"]);
    assert!(received[0].data.ends_with(&sent));
}

#[test]
fn a_next_hop_that_disappears_gets_everything_when_it_returns() {
    let mut sink = Sink::start(|_| Reaction::Normal).unwrap();
    let mox = with_next_hop(sink.port());
    sink.pause();
    for number in 0..20 {
        assert!(submission(&mox).send(Mox::USER, &["ann@sink.test"], &message(&format!("number {number}"))).unwrap().is_ok());
    }
    assert_eq!(queued(&mox), 20, "{}", queue(&mox));
    sink.resume().unwrap();
    assert!(
        wait_until(PATIENCE, || {
            kick(&mox);
            queued(&mox) == 0
        }),
        "{}",
        queue(&mox)
    );
    let data: Vec<Vec<u8>> = sink.received().into_iter().map(|r| r.data).collect();
    all_exactly_once(numbers(&data), 20);
    await_messages(&mut imap(&mox), "INBOX", 0);
}

#[test]
fn temporary_failures_at_every_turn_are_retried() {
    // Each connection fails at another turn, one step further than the last.
    let sink = Sink::start(|turn| match turn {
        Turn::Connect(1) => Reaction::Drop,
        Turn::Connect(2) => Reaction::Reply("421 4.3.2 not now".to_owned()),
        Turn::Command(line) if line.starts_with("MAIL") && line.contains("number-none") => Reaction::Drop,
        _ => Reaction::Normal,
    });
    let sink = sink.unwrap();
    let mox = with_next_hop(sink.port());
    assert!(submission(&mox).send(Mox::USER, &["ann@sink.test"], &message("number 1")).unwrap().is_ok());
    for connections in 1..=2 {
        assert!(wait_until(PATIENCE, || sink.connections() >= connections));
        assert!(sink.received().is_empty());
        let attempted = || queue(&mox).lines().any(|l| l.contains("ann@sink.test"));
        assert!(wait_until(PATIENCE, attempted));
        std::thread::sleep(Duration::from_millis(200));
        kick(&mox);
    }
    assert!(wait_until(PATIENCE, || queued(&mox) == 0), "{}", queue(&mox));
    assert_eq!(sink.received().len(), 1);
    await_messages(&mut imap(&mox), "INBOX", 0);
}

#[test]
fn a_hanging_next_hop_doesn_t_hold_up_others() {
    let sink = Sink::start(|turn| match turn {
        Turn::Command(line) if line.starts_with("RCPT") && line.contains("slow.test") => Reaction::Hang,
        _ => Reaction::Normal,
    });
    let sink = sink.unwrap();
    let mox = with_next_hop(sink.port());
    let mut client = submission(&mox);
    assert!(client.send(Mox::USER, &["ann@slow.test"], &message("number 1")).unwrap().is_ok());
    assert!(wait_until(PATIENCE, || sink.connections() >= 1));
    for number in 2..12 {
        let to = format!("ann@host{number}.test");
        assert!(client.send(Mox::USER, &[&to], &message(&format!("number {number}"))).unwrap().is_ok());
    }
    assert!(wait_until(PATIENCE, || sink.received().len() == 10), "{}", queue(&mox));
    // What was received last may still be on its way out of the queue.
    assert!(wait_until(PATIENCE, || queued(&mox) == 1), "{}", queue(&mox));
    assert!(queue(&mox).contains("ann@slow.test"), "{}", queue(&mox));
}
