//! `kill -9` under load: what was acknowledged is there, exactly once and whole, after every restart.

use crate::server::{PATIENCE, exists, imap, message, start};
use mox_store::{Settings, Store};
use mox_testkit::peers::{ImapClient, Mox, Service, SmtpClient};
use mox_testkit::{SeededRandom, VirtualClock};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const KILLS: usize = 50;

/// What was handed over: acknowledged or not.
#[derive(Default)]
struct Ledger {
    next: AtomicUsize,
    sent: Mutex<BTreeMap<usize, bool>>,
}

impl Ledger {
    /// Hands messages over until told to stop or the server is gone.
    fn hand_over_until(&self, stopping: &AtomicBool, send: &mut dyn FnMut(&[u8]) -> std::io::Result<bool>) {
        loop {
            if stopping.load(Ordering::Relaxed) || !self.hand_over(&mut *send) {
                return;
            }
        }
    }

    /// Takes a number, hands a message over, and notes whether it was acknowledged; false if the server is gone.
    fn hand_over(&self, send: impl FnOnce(&[u8]) -> std::io::Result<bool>) -> bool {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.sent.lock().unwrap().insert(number, false);
        match send(&text(number)) {
            Ok(acknowledged) => {
                self.sent.lock().unwrap().insert(number, acknowledged);
                acknowledged
            }
            Err(_) => false,
        }
    }
}

/// Some larger than what is kept beside its row, most small.
fn text(number: usize) -> Vec<u8> {
    let mut text = message(&format!("number {number}"));
    if number.is_multiple_of(10) {
        let line = format!("{number:076}\r\n");
        text.extend_from_slice(line.repeat(1500).as_bytes());
    }
    text
}

#[test]
fn fifty_kills_lose_and_double_nothing() {
    let mut mox = start();
    kill_under_load(&mut mox, KILLS);
    mox.stop("TERM", PATIENCE).unwrap();
    assert_eq!(problems(Settings::sqlite(mox.dir())), Vec::<String>::new());
}

/// Kills a server again and again, and looks each time that nothing is lost or doubled.
pub(crate) fn kill_under_load(mox: &mut Mox, kills: usize) {
    let (inbox, appended) = (Ledger::default(), Ledger::default());
    imap(mox).ok("CREATE appended").unwrap();
    for round in 0..kills {
        let stopping = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let Ok(mut client) = SmtpClient::smtp(mox.port(Service::Smtp)) else {
                        return;
                    };
                    let mut send = |text: &[u8]| client.send(Mox::USER, &[Mox::USER], text).map(|r| r.is_ok());
                    inbox.hand_over_until(&stopping, &mut send);
                });
            }
            scope.spawn(|| {
                let Ok(mut client) = ImapClient::login(mox.port(Service::Imap), Mox::USER, Mox::PASSWORD) else {
                    return;
                };
                let mut append = |text: &[u8]| client.append("appended", "\\Seen", text).map(|()| true);
                appended.hand_over_until(&stopping, &mut append);
            });
            // A different moment each time, from the first connection to hundreds of messages.
            std::thread::sleep(Duration::from_millis((round as u64 * 37) % 500 + 20));
            let id = mox.id().unwrap().to_string();
            std::process::Command::new("kill").args(["-KILL", &id]).status().unwrap();
            stopping.store(true, Ordering::Relaxed);
        });
        mox.kill().unwrap();
        mox.resume().unwrap();
        check(mox, "INBOX", &inbox, round % 10 == 9);
        check(mox, "appended", &appended, round % 10 == 9);
    }
    let acknowledged = |ledger: &Ledger| ledger.sent.lock().unwrap().values().filter(|a| **a).count();
    let (delivered, appended) = (acknowledged(&inbox), acknowledged(&appended));
    let enough = delivered > kills && appended > kills;
    assert!(enough, "{delivered} delivered, {appended} appended over {kills} kills: the load was too light to mean anything");
}

/// What the store's own check finds in all accounts of a stopped server.
pub(crate) fn problems(settings: Settings) -> Vec<String> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let (clock, random) = (Arc::new(VirtualClock::default()), Arc::new(SeededRandom::new(1)));
        let store = Store::open(settings, clock, random).await.unwrap();
        let mut problems = Vec::new();
        for name in store.account_names().await.unwrap() {
            let report = store.account(&name).await.unwrap().check().await.unwrap();
            assert!(report.messages > 0, "nothing in {name}");
            problems.extend(report.problems);
        }
        store.close().await;
        problems
    })
}

fn check(mox: &Mox, mailbox: &str, ledger: &Ledger, whole: bool) {
    let mut client = imap(mox);
    if exists(&mut client, mailbox) == 0 {
        assert!(ledger.sent.lock().unwrap().values().all(|a| !a), "everything in {mailbox} is lost");
        return;
    }
    let items = if whole { "BODY.PEEK[]" } else { "BODY.PEEK[HEADER.FIELDS (SUBJECT)]" };
    let found = client.ok(&format!("FETCH 1:* {items}")).unwrap().literals();
    let mut times: BTreeMap<usize, usize> = BTreeMap::new();
    for bytes in &found {
        let head = String::from_utf8_lossy(bytes);
        let number = head.lines().find_map(|l| l.strip_prefix("Subject: number ")?.parse().ok()).expect("a subject");
        *times.entry(number).or_default() += 1;
        assert!(!whole || bytes.ends_with(&text(number)), "message {number} in {mailbox} is damaged");
    }
    let sent = ledger.sent.lock().unwrap();
    let doubled: Vec<_> = times.iter().filter(|(_, n)| **n > 1).collect();
    let lost: Vec<_> = sent.iter().filter(|(number, acknowledged)| **acknowledged && !times.contains_key(number)).collect();
    assert!(doubled.is_empty() && lost.is_empty(), "{mailbox}: doubled {doubled:?}, lost {lost:?}");
    assert!(times.keys().all(|number| sent.contains_key(number)));
}
