//! Starting and ending: quickly, in order, with the promised exit statuses.

use crate::server::{PATIENCE, imap, message, smtp, start};
use mox_testkit::peers::{Mox, Service, SmtpClient, wait_until};
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

#[test]
fn sigterm_ends_it_within_five_seconds_with_open_connections() {
    let mut mox = start();
    let mut idle = imap(&mox);
    idle.ok("SELECT INBOX").unwrap();
    idle.start("IDLE").unwrap();
    idle.response().unwrap();
    let mut half = smtp(&mox);
    assert!(half.command("MAIL FROM:<mox@localhost>").unwrap().is_ok());
    let begin = Instant::now();
    let status = mox.stop("TERM", PATIENCE).unwrap();
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    // The exit status is the number of the signal.
    assert!(status.code() == Some(15) || status.signal() == Some(15), "{status}");
    // Sessions are told, RFC 9051 §7.1.5 and RFC 5321 §3.8.
    let mut goodbye = Vec::new();
    while let Ok(response) = idle.response() {
        goodbye.push(response);
    }
    assert!(goodbye.iter().any(|r| r.starts_with(b"* BYE")), "{goodbye:?}");
    assert!(half.reply().is_ok_and(|r| r.code == 421));
    mox.resume().unwrap();
    imap(&mox).ok("STATUS INBOX (MESSAGES)").unwrap();
}

#[test]
fn with_nothing_in_flight_it_is_gone_at_once() {
    let mut mox = start();
    // One try may have met a busy machine.
    let mut took = Vec::new();
    for _ in 0..5 {
        let mut idle = imap(&mox);
        idle.ok("SELECT INBOX").unwrap();
        assert!(smtp(&mox).send(Mox::USER, &[Mox::USER], &message("before")).unwrap().is_ok());
        assert!(mox.command(&["queue", "list"]).unwrap().status.success());
        let begin = Instant::now();
        mox.stop("TERM", PATIENCE).unwrap();
        took.push(begin.elapsed());
        if begin.elapsed() < Duration::from_millis(200) {
            return;
        }
        mox.resume().unwrap();
    }
    panic!("{took:?}");
}

#[test]
fn it_listens_within_a_second() {
    let mut mox = start();
    mox.stop("TERM", PATIENCE).unwrap();
    let begin = Instant::now();
    mox.resume().unwrap();
    // The budget of an optimised build on a quiet machine is 300 ms.
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
}

#[test]
fn commands_reach_the_running_server() {
    let mut mox = start();
    let version = mox.command(&["version"]).unwrap();
    assert!(version.status.success() && !version.stdout.is_empty());
    let list = mox.command(&["queue", "list"]).unwrap();
    assert!(list.status.success(), "{}", String::from_utf8_lossy(&list.stderr));
    let test = mox.command(&["config", "test"]).unwrap();
    assert!(test.status.success(), "{}", String::from_utf8_lossy(&test.stderr));
    assert!(mox.command(&["stop"]).unwrap().status.success());
    assert!(wait_until(PATIENCE, || !mox.is_running()));
    assert!(SmtpClient::smtp(mox.port(Service::Smtp)).is_err());
}
