//! `kill -9` while mail for a list is filed: a sender that tries again until it is told 250 gives each member exactly one copy.

use crate::server::{BINARY, PATIENCE, message};
use mox_store::{Columns, Error, Settings, Store, UidSet};
use mox_testkit::peers::{Mox, Service, SmtpClient};
use mox_testkit::{SeededRandom, VirtualClock};
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const KILLS: usize = 50;

const MEMBERS: [&str; 3] = ["ann", "bob", "eve"];

/// What is still to be delivered: numbers of messages, those without an answer first.
struct Sender {
    waiting: VecDeque<usize>,
    next: usize,
}

impl Sender {
    /// Sends until the server is gone.
    fn send(&mut self, client: &mut SmtpClient, only_waiting: bool) {
        loop {
            let number = match self.waiting.front() {
                Some(number) => *number,
                None if only_waiting => return,
                None => {
                    self.next += 1;
                    self.waiting.push_back(self.next);
                    self.next
                }
            };
            // The same bytes as before, if it is tried again.
            match client.send(Mox::USER, &["team@localhost"], &message(&format!("number {number}"))) {
                Ok(reply) if reply.is_ok() => drop(self.waiting.pop_front()),
                Ok(_) | Err(_) => return,
            }
        }
    }
}

fn with_members(config: &Path) -> std::io::Result<()> {
    let path = config.join("domains.conf");
    let account = |name: &str| {
        format!("\t{name}:\n\t\tDomain: localhost\n\t\tDestinations:\n\t\t\t{name}@localhost: nil\n\t\tNoFirstTimeSenderDelay: true\n")
    };
    let addresses: String = MEMBERS.iter().map(|name| format!("\t\t\t\t\t- {name}@localhost\n")).collect();
    let alias = format!("\t\tAliases:\n\t\t\tteam:\n\t\t\t\tAddresses:\n{addresses}\t\t\t\tPostPublic: true\n");
    let text = std::fs::read_to_string(&path)?;
    std::fs::write(&path, text.replace("Accounts:\n", &format!("{alias}Accounts:\n{}", MEMBERS.map(account).concat())))
}

#[test]
fn fifty_kills_give_each_member_one_copy() {
    let mut mox = Mox::start_with(Path::new(BINARY), with_members).unwrap();
    let sender = Mutex::new(Sender { waiting: VecDeque::new(), next: 0 });
    for round in 0..KILLS {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                if let Ok(mut client) = SmtpClient::smtp(mox.port(Service::Smtp)) {
                    sender.lock().unwrap().send(&mut client, false);
                }
            });
            std::thread::sleep(Duration::from_millis((round as u64 * 37) % 300 + 20));
            let id = mox.id().unwrap().to_string();
            std::process::Command::new("kill").args(["-KILL", &id]).status().unwrap();
        });
        mox.kill().unwrap();
        mox.resume().unwrap();
    }
    let mut sender = sender.into_inner().unwrap();
    sender.send(&mut SmtpClient::smtp(mox.port(Service::Smtp)).unwrap(), true);
    assert!(sender.waiting.is_empty());
    mox.stop("TERM", PATIENCE).unwrap();
    assert!(sender.next > KILLS, "{} messages over {KILLS} kills: the load was too light to mean anything", sender.next);
    let want: BTreeMap<usize, usize> = (1..=sender.next).map(|number| (number, 1)).collect();
    for member in MEMBERS {
        let found = numbers(Settings::sqlite(mox.dir()), member);
        let wrong: Vec<_> = want.keys().filter(|n| found.get(n) != Some(&1)).map(|n| (n, found.get(n))).collect();
        assert_eq!(found, want, "{member}: {wrong:?}");
    }
}

/// How often an account has each message.
fn numbers(settings: Settings, account: &'static str) -> BTreeMap<usize, usize> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = Store::open(settings, Arc::new(VirtualClock::default()), Arc::new(SeededRandom::new(1))).await.unwrap();
        let account = store.account(account).await.unwrap();
        assert_eq!(account.check().await.unwrap().problems, Vec::<String>::new());
        let inbox = account.mailboxes().by_name("Inbox").unwrap().id;
        let found = account
            .read(move |tx| {
                let mut found = BTreeMap::new();
                tx.fetch_rows(inbox, &UidSet::from_ranges([(1, u32::MAX)]), Columns::HEADERS, |row| {
                    let head = String::from_utf8_lossy(row.headers()?.unwrap_or_default()).into_owned();
                    let number = head.lines().find_map(|l| l.strip_prefix("Subject: number ")?.parse().ok()).expect("a subject");
                    *found.entry(number).or_insert(0) += 1;
                    Ok::<_, Error>(true)
                })?;
                Ok::<_, Error>(found)
            })
            .await
            .unwrap();
        store.close().await;
        found
    })
}
