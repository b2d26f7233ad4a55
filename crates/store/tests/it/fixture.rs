//! A store on either engine, thrown away after the test, and checked before.

use mox_base::{MailboxId, Uid};
use mox_store::db::{Faults, PgAddress, Step};
use mox_store::{Account, Append, Error, Flags, MailboxName, Message, Settings, SpecialUse, Store, UidSet};
use mox_testkit::peers::Postgres;
use mox_testkit::{SeededRandom, VirtualClock};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tempfile::TempDir;

/// Defines a test for each engine from an async function that takes a [`Fixture`].
macro_rules! for_each_engine {
    ($($(#[$meta:meta])* async fn $name:ident($fixture:ident: Fixture) $body:block)*) => {$(
        mod $name {
            use super::*;

            $(#[$meta])*
            async fn run($fixture: Fixture) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                run(Fixture::sqlite().await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                if let Some(fixture) = Fixture::postgres().await {
                    run(fixture).await;
                }
            }
        }
    )*};
}
pub(crate) use for_each_engine;

/// The test plan's faults as the store asks for them.
#[derive(Clone, Debug)]
pub(crate) struct Plan(pub(crate) mox_testkit::Faults);

impl Faults for Plan {
    fn check(&self, step: Step) -> io::Result<()> {
        self.0.step(&format!("{step:?}"))
    }
}

pub(crate) struct Fixture {
    pub(crate) store: Store,
    pub(crate) settings: Settings,
    pub(crate) clock: VirtualClock,
    pub(crate) folder: TempDir,
    database: Option<Database>,
}

/// A database of its own for a test.
struct Database {
    server: String,
    name: String,
}

impl Fixture {
    pub(crate) async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings::sqlite(folder.path().join("data"));
        std::fs::create_dir(folder.path().join("data")).unwrap();
        Self::open(settings, folder, None).await
    }

    pub(crate) async fn postgres() -> Option<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let server = Postgres::from_env()?.url().to_owned();
        let name = format!("mox_test_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        admin(&server, &format!("CREATE DATABASE {name}")).await;
        let (base, _) = server.rsplit_once('/').unwrap();
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings::postgres(PgAddress::parse(&format!("{base}/{name}")).unwrap(), None, folder.path().join("blobs"));
        Some(Self::open(settings, folder, Some(Database { server, name })).await)
    }

    async fn open(settings: Settings, folder: TempDir, database: Option<Database>) -> Self {
        let clock = VirtualClock::default();
        let store = Store::open(settings.clone(), Arc::new(clock.clone()), Arc::new(SeededRandom::new(1))).await.unwrap();
        Self { store, settings, clock, folder, database }
    }

    /// The database's address, on PostgreSQL.
    pub(crate) fn url(&self) -> Option<String> {
        let Database { server, name } = self.database.as_ref()?;
        Some(format!("{}/{name}", server.rsplit_once('/')?.0))
    }

    /// The account of most tests.
    pub(crate) async fn account(&self) -> Account {
        self.store.ensure_account("ann", &[(name("Sent"), SpecialUse::SENT), (name("Trash"), SpecialUse::TRASH)]).await.unwrap()
    }

    /// Opens everything anew, with these faults.
    pub(crate) async fn reopen(&mut self, faults: Arc<dyn Faults>) -> Result<(), Error> {
        self.store.close().await;
        let settings = Settings { faults, ..self.settings.clone() };
        self.store = Store::open(settings, Arc::new(self.clock.clone()), Arc::new(SeededRandom::new(2))).await?;
        Ok(())
    }

    /// Closes, opens again, checks all accounts, and throws everything away.
    pub(crate) async fn finish(mut self) {
        for account in self.store.account_names().await.unwrap() {
            clean(&self.store.account(&account).await.unwrap()).await;
        }
        self.reopen(Arc::new(mox_store::db::NoFaults)).await.unwrap();
        for account in self.store.account_names().await.unwrap() {
            clean(&self.store.account(&account).await.unwrap()).await;
        }
        self.store.close().await;
        if let Some(Database { server, name }) = self.database.take() {
            admin(&server, &format!("DROP DATABASE {name} WITH (FORCE)")).await;
        }
        drop(self.folder);
    }
}

async fn admin(url: &str, sql: &str) {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
    let task = tokio::task::spawn_blocking(move || tokio::runtime::Handle::current().block_on(connection));
    client.batch_execute(sql).await.unwrap();
    drop(client);
    _ = task.await;
}

/// Nothing is wrong with an account; the number of its messages.
pub(crate) async fn clean(account: &Account) -> u64 {
    let report = account.check().await.unwrap();
    assert_eq!(report.problems, Vec::<String>::new());
    report.messages
}

pub(crate) fn name(s: &str) -> MailboxName {
    MailboxName::parse(s).unwrap()
}

pub(crate) fn uid(n: u32) -> Uid {
    Uid::new(n).unwrap()
}

pub(crate) fn uids(ranges: &[(u32, u32)]) -> UidSet {
    UidSet::from_ranges(ranges.iter().copied())
}

/// The numbers of a set.
pub(crate) fn numbers(set: &UidSet) -> Vec<u32> {
    set.iter().map(Uid::get).collect()
}

pub(crate) fn inbox(account: &Account) -> MailboxId {
    id(account, "Inbox")
}

pub(crate) fn id(account: &Account, name: &str) -> MailboxId {
    account.mailboxes().by_name(name).unwrap().id
}

/// A message with a subject and a body of a size.
pub(crate) fn mail(subject: &str, size: usize) -> Vec<u8> {
    let mut m = format!(
        "From: Ann <ann@mox.example>\r\nTo: Bob <bob@other.example>\r\nSubject: {subject}\r\nMessage-ID: <{subject}@mox.example>\r\n\r\n"
    )
    .into_bytes();
    // Not so regular that it compresses to nothing.
    let mut x = 12_345u32;
    while m.len() < size {
        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        m.extend_from_slice(format!("{x:08x} line of text\r\n").as_bytes());
    }
    m
}

/// Adds messages with these flags to a mailbox.
pub(crate) async fn add(account: &Account, mailbox: MailboxId, flags: &[Flags]) -> Vec<Uid> {
    let mut added = Vec::new();
    for (i, flags) in flags.iter().enumerate() {
        let append = Append { flags: *flags, ..Append::default() };
        added.push(account.add(mailbox, Message::new(mail(&format!("m{i}"), 300)), append).await.unwrap().uid);
    }
    added
}
