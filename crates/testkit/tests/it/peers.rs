use mox_testkit::peers::{Dovecot, ImapClient, NextHop, Postfix, Postgres, Reaction, Sink, SmtpClient, Turn, wait_until};
use std::time::Duration;

const MESSAGE: &[u8] = b"From: a@client.test\r\nTo: b@dovecot.test\r\nSubject: hello\r\n\r\n.one\r\n..two\r\n";
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn postfix_hands_mail_to_dovecot() {
    let Some(dovecot) = Dovecot::require() else {
        return;
    };
    let Some(postfix) = Postfix::require(NextHop::Lmtp(dovecot.lmtp_port())) else {
        return;
    };
    let mut client = SmtpClient::smtp(postfix.port()).unwrap();
    for _ in 0..20 {
        let reply = client.send("a@client.test", &["b@dovecot.test"], MESSAGE).unwrap();
        assert!(reply.is_ok(), "{reply:?}");
    }
    assert!(postfix.drained(PATIENCE), "{}", postfix.log());

    let mut imap = ImapClient::login(dovecot.imap_port(), "b@dovecot.test", Dovecot::PASSWORD).unwrap();
    let selected = imap.ok("SELECT INBOX").unwrap();
    assert!(selected.untagged.contains(&b"* 20 EXISTS".to_vec()), "{}", dovecot.log());
    let fetched = imap.ok("FETCH 1 BODY.PEEK[TEXT]").unwrap();
    assert_eq!(fetched.literals(), [b".one\r\n..two\r\n"]);
    assert_eq!(imap.drain("FETCH 1:* (UID BODY.PEEK[])").unwrap(), 20);
}

#[test]
fn dovecot_comes_back_with_its_mail() {
    let Some(mut dovecot) = Dovecot::require() else {
        return;
    };
    let mut imap = ImapClient::login(dovecot.imap_port(), "ann", Dovecot::PASSWORD).unwrap();
    imap.append("INBOX", "\\Seen", MESSAGE).unwrap();
    assert!(imap.append_all("INBOX", "", &[MESSAGE, MESSAGE]).unwrap().is_ok());
    dovecot.pause();
    dovecot.resume().unwrap();
    let mut imap = ImapClient::login(dovecot.imap_port(), "ann", Dovecot::PASSWORD).unwrap();
    let selected = imap.ok("SELECT INBOX").unwrap();
    assert!(selected.untagged.contains(&b"* 3 EXISTS".to_vec()));
}

#[test]
fn postfix_retries_a_failing_next_hop() {
    let sink = Sink::start(|turn| match turn {
        Turn::Connect(1) => Reaction::Drop,
        Turn::Connect(2) => Reaction::Reply("421 4.3.2 later".to_owned()),
        _ => Reaction::Normal,
    });
    let sink = sink.unwrap();
    let Some(postfix) = Postfix::require(NextHop::Smtp(sink.port())) else {
        return;
    };
    let mut client = SmtpClient::smtp(postfix.port()).unwrap();
    assert!(client.send("a@client.test", &["b@sink.test"], MESSAGE).unwrap().is_ok());
    assert!(postfix.drained(PATIENCE), "{}", postfix.log());
    let received = sink.received();
    assert_eq!(received.len(), 1);
    assert!(received[0].data.ends_with(b"\r\n.one\r\n..two\r\n"));
    assert_eq!(sink.connections(), 3);
}

#[test]
fn a_sink_disappears_and_returns() {
    let mut sink = Sink::start_lmtp(|_| Reaction::Normal).unwrap();
    let port = sink.port();
    let mut client = SmtpClient::lmtp(port).unwrap();
    assert!(client.send("a@client.test", &["b@sink.test", "c@sink.test"], MESSAGE).unwrap().is_ok());
    sink.pause();
    assert!(client.command("NOOP").is_err());
    assert!(SmtpClient::lmtp(port).is_err());
    sink.resume().unwrap();
    assert!(wait_until(PATIENCE, || SmtpClient::lmtp(port).is_ok()));
    assert_eq!(sink.received()[0].to, ["TO:<b@sink.test>", "TO:<c@sink.test>"]);
}

#[test]
fn a_private_postgres_answers() {
    let Some(psql) = mox_testkit::peers::require_program("psql") else {
        return;
    };
    let postgres = Postgres::start().unwrap();
    let output = std::process::Command::new(psql).args(["-Atc", "select 6*7", postgres.url()]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "42\n");
}
