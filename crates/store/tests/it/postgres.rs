//! What only PostgreSQL does to us: connections that are lost at the worst moment, transactions that it undoes.

use crate::fixture::{Fixture, clean, inbox, mail};
use mox_store::db::schema::{Change, Column, Key, Schema, Table};
use mox_store::db::{Database, Error, PgAddress};
use mox_store::{Append, Flags, Message, Notice, Settings, Store, params};
use mox_testkit::{SeededRandom, VirtualClock};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// When a connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    /// COMMIT never arrives.
    BeforeCommit,
    /// COMMIT arrives, its answer doesn't.
    AfterCommit,
    /// A statement never arrives.
    BeforeStatement,
}

/// Between the store and PostgreSQL: cuts one connection when told to.
struct Proxy {
    port: u16,
    cut: Arc<Mutex<Option<Cut>>>,
}

impl Proxy {
    #[expect(clippy::disallowed_methods, reason = "a peer of a test ends with the test's runtime")]
    async fn before(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let cut = Arc::new(Mutex::new(None));
        let proxy = Self { port, cut: Arc::clone(&cut) };
        drop(tokio::task::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                drop(tokio::task::spawn(relay(client, server.clone(), Arc::clone(&cut))));
            }
        }));
        proxy
    }

    fn cut(&self, when: Cut) {
        *self.cut.lock().unwrap() = Some(when);
    }

    fn has_cut(&self) -> bool {
        self.cut.lock().unwrap().is_none()
    }
}

#[expect(clippy::disallowed_methods, reason = "a peer of a test ends with the test's runtime")]
async fn relay(client: TcpStream, server: String, cut: Arc<Mutex<Option<Cut>>>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = TcpStream::connect(server).await.unwrap().into_split();
    let back = tokio::task::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
    let mut buffer = vec![0; 64 << 10];
    while let Ok(n) = from_client.read(&mut buffer).await {
        let bytes = &buffer[..n];
        let has = |word: &[u8]| bytes.windows(word.len()).any(|w| w == word);
        let hit = {
            let mut cut = cut.lock().unwrap();
            let hit = match *cut {
                Some(when @ (Cut::BeforeCommit | Cut::AfterCommit)) if has(b"COMMIT\0") => Some(when),
                // Bind, Execute, Sync: what a prepared statement is run with.
                Some(Cut::BeforeStatement) if bytes.first() == Some(&b'B') => Some(Cut::BeforeStatement),
                _ => None,
            };
            if hit.is_some() {
                *cut = None;
            }
            hit
        };
        match hit {
            Some(Cut::BeforeCommit | Cut::BeforeStatement) => break,
            Some(Cut::AfterCommit) => {
                back.abort();
                _ = back.await;
                to_server.write_all(bytes).await.unwrap();
                // Gone once PostgreSQL has seen it.
                to_server.shutdown().await.unwrap();
                return;
            }
            None if n == 0 || to_server.write_all(bytes).await.is_err() => break,
            None => {}
        }
    }
    back.abort();
}

/// The fixture's database through a proxy, as another process has it.
async fn through_proxy(f: &Fixture) -> (Proxy, Store) {
    let url = f.url().unwrap();
    let (front, path) = url.rsplit_once('/').unwrap();
    let (user, server) = front.rsplit_once('@').unwrap();
    let proxy = Proxy::before(server.to_owned()).await;
    let url = format!("{user}@127.0.0.1:{}/{path}", proxy.port);
    let settings = Settings::postgres(PgAddress::parse(&url).unwrap(), None, f.folder.path().join("blobs"));
    (proxy, open(settings, 7).await)
}

async fn open(settings: Settings, seed: u64) -> Store {
    Store::open(settings, Arc::new(VirtualClock::default()), Arc::new(SeededRandom::new(seed))).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_lost_at_any_moment_loses_and_doubles_nothing() {
    let Some(f) = Fixture::postgres().await else { return };
    drop(f.account().await);
    let (proxy, store) = through_proxy(&f).await;
    let account = store.account("ann").await.unwrap();
    let mailbox = inbox(&account);
    let mut answered = 0;
    for n in 0..3 {
        for when in [Cut::BeforeCommit, Cut::AfterCommit, Cut::BeforeStatement] {
            proxy.cut(when);
            let message = Message::new(mail(&format!("{n}-{when:?}"), 300));
            account.add(mailbox, message, Append::default()).await.unwrap_or_else(|e| panic!("{n} {when:?}: {e}"));
            assert!(proxy.has_cut(), "{n} {when:?}: nothing was cut");
            answered += 1;
            assert_eq!(account.view(mailbox).await.unwrap().exists(), answered, "{n} {when:?}");
        }
    }
    assert_eq!(clean(&account).await, u64::from(answered));
    drop(account);
    store.close().await;
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_process_writes_another_hears_of() {
    let Some(f) = Fixture::postgres().await else { return };
    let account = f.account().await;
    let mailbox = inbox(&account);
    let other = open(f.settings.clone(), 7).await;
    let there = other.account("ann").await.unwrap();
    let mut watch = there.watch();
    for n in 1..=3 {
        assert_eq!(there.view(mailbox).await.unwrap().exists(), n - 1);
        account.add(mailbox, Message::new(mail(&format!("m{n}"), 300)), Append { flags: Flags::SEEN, ..Append::default() }).await.unwrap();
        // Whatever the notice is, the views are up to date.
        let seen = async {
            while there.view(mailbox).await.unwrap().exists() < n {
                assert!(!matches!(watch.next().await, Notice::Closed));
            }
        };
        tokio::time::timeout(Duration::from_secs(60), seen).await.unwrap();
    }
    // Their writes are one history.
    there.add(mailbox, Message::new(mail("m4", 300)), Append::default()).await.unwrap();
    assert_eq!(clean(&there).await, 4);
    drop((account, there));
    other.close().await;
    f.finish().await;
}

const PAIR: Table =
    Table { name: "pair", account: false, columns: &[Column::int("id"), Column::int("n")], key: Key::Columns(&["id"]), indexes: &[] };
const PAIRS: Schema = Schema {
    name: "pairs",
    migrations: &[&[
        Change::Create(&PAIR),
        Change::Run("INSERT INTO pair VALUES (1, 0), (2, 0)", "INSERT INTO pair VALUES (1, 0), (2, 0)"),
    ]],
};

/// Adds one to both rows, in this order; the first time, only when somebody else has one of them too.
async fn add_to_both(db: &Database, order: [i64; 2], meet: Arc<Barrier>, runs: Arc<AtomicUsize>) -> Result<(), Error> {
    let first = std::sync::atomic::AtomicBool::new(true);
    db.write(move |tx| {
        runs.fetch_add(1, Ordering::SeqCst);
        tx.exec("UPDATE pair SET n = n + 1 WHERE id = $1", params![order[0]])?;
        if first.swap(false, Ordering::SeqCst) {
            meet.wait();
        }
        tx.exec("UPDATE pair SET n = n + 1 WHERE id = $1", params![order[1]])?;
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadlock_between_two_processes_is_run_again() {
    let Some(f) = Fixture::postgres().await else { return };
    let other = open(f.settings.clone(), 7).await;
    let (one, two) = (f.store.database("pairs", &PAIRS).await.unwrap(), other.database("pairs", &PAIRS).await.unwrap());
    let (meet, runs) = (Arc::new(Barrier::new(2)), Arc::new(AtomicUsize::new(0)));
    let results = tokio::join!(
        add_to_both(&one, [1, 2], Arc::clone(&meet), Arc::clone(&runs)),
        add_to_both(&two, [2, 1], Arc::clone(&meet), Arc::clone(&runs)),
    );
    results.0.unwrap();
    results.1.unwrap();
    assert!(runs.load(Ordering::SeqCst) >= 3, "none was undone");
    let sum = one.read(|tx| tx.query_row("SELECT CAST(SUM(n) AS BIGINT) FROM pair", &[], |r| r.int(0))).await.unwrap();
    assert_eq!(sum, 4);
    for db in [one, two] {
        db.close().await;
    }
    other.close().await;
    f.finish().await;
}
