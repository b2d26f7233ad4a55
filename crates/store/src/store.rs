//! All of a server's accounts, on one engine.
//!
//! With SQLite: `<data>/server.db` has the names and ids of accounts, `<data>/accounts/<name>/account.db` an account,
//! `<data>/accounts/<name>/msg/` its large blobs, and further databases such as the queue's are files of their own. With
//! PostgreSQL: one database for all, and a folder for large blobs. Accounts are opened when first asked for, and closed
//! when nobody has used them for a while.

use crate::account::{Account, History, Opening};
use crate::blob::{BlobStore, Folder};
use crate::db::schema::{Change, Schema};
use crate::db::{self, Database, Env, Faults, Hints, Location, NoFaults, PgAddress, PgPool};
use crate::error::Error;
use crate::filing::{Filing, FilingKey, Filings};
use crate::mailbox::SpecialUse;
use crate::name::MailboxName;
use crate::params;
use crate::queue::Queue;
use crate::schema::{ACCOUNT_SCHEMA, SERVER_SCHEMA};
use mox_base::{AccountId, Clock, Random, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{OnceCell, Semaphore};
use tokio_rustls::rustls::ClientConfig;

/// Files that no message refers to are old enough to be deleted after this time, where other nodes may be at work.
const ORPHAN_AGE: Duration = Duration::from_secs(24 * 3600);

/// Where a store keeps everything.
#[derive(Clone, Debug)]
pub enum Engine {
    /// SQLite files and blobs in a folder.
    Sqlite {
        /// The folder.
        data: PathBuf,
    },
    /// PostgreSQL, with large blobs in a folder.
    Postgres {
        /// Its address.
        address: Box<PgAddress>,
        /// How connections are encrypted, where the address wants that.
        tls: Option<Arc<ClientConfig>>,
        /// The folder for large blobs.
        blobs: PathBuf,
    },
}

/// What a store is opened with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where everything is.
    pub engine: Engine,
    /// Readers at work at once, over all accounts.
    pub readers: usize,
    /// How much accounts remember of what changed.
    pub history: History,
    /// Mailboxes of an account at most, and likewise subscriptions: sessions hold the list in memory.
    pub max_mailboxes: usize,
    /// Verifies each account when it is closed, and the queue, which is expensive, and tells of problems: the account's name, and
    /// what was found.
    pub check_on_close: Option<fn(&str, &[String])>,
    /// What shall fail, in tests.
    pub faults: Arc<dyn Faults>,
}

impl Settings {
    /// SQLite in a folder, with defaults.
    pub fn sqlite(data: impl Into<PathBuf>) -> Self {
        Self::with_defaults(Engine::Sqlite { data: data.into() })
    }

    /// PostgreSQL, with defaults.
    pub fn postgres(address: PgAddress, tls: Option<Arc<ClientConfig>>, blobs: impl Into<PathBuf>) -> Self {
        Self::with_defaults(Engine::Postgres { address: Box::new(address), tls, blobs: blobs.into() })
    }

    fn with_defaults(engine: Engine) -> Self {
        Self { engine, readers: 16, history: History::default(), max_mailboxes: 10_000, check_on_close: None, faults: Arc::new(NoFaults) }
    }
}

/// A server's accounts. Clones are handles to the same store.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    env: Env,
    place: Place,
    random: Arc<dyn Random>,
    server: Database,
    filings: Filings,
    history: History,
    max_mailboxes: usize,
    check_on_close: Option<fn(&str, &[String])>,
    /// With PostgreSQL, what other processes change.
    hints: Option<Hints>,
    accounts: Mutex<BTreeMap<String, Arc<OnceCell<Account>>>>,
    /// Accounts whose folders were looked through for orphans. Once per process: later, a file may be one that a delivery
    /// is about to refer to.
    swept: Mutex<BTreeSet<AccountId>>,
}

#[derive(Debug)]
enum Place {
    Sqlite(PathBuf),
    Postgres(Arc<PgPool>, PathBuf),
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store {
    /// Opens a store, making what is missing. Within a tokio runtime.
    ///
    /// # Errors
    /// A folder can't be made, or a database can't be opened.
    pub async fn open(settings: Settings, clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Result<Self, Error> {
        let (history, max_mailboxes, check_on_close) = (settings.history, settings.max_mailboxes, settings.check_on_close);
        // Half of the cores at most look through many messages; who wants little finds the other half.
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let env = Env {
            runtime: Handle::current(),
            clock,
            faults: settings.faults,
            readers: Arc::new(Semaphore::new(settings.readers.max(1))),
            scans: Arc::new(Semaphore::new((cores / 2).clamp(1, settings.readers.max(1)))),
        };
        let place = match settings.engine {
            Engine::Sqlite { data } => Place::Sqlite(data),
            Engine::Postgres { address, tls, blobs } => Place::Postgres(PgPool::at(*address, tls, env.runtime.clone())?, blobs),
        };
        let folder = match &place {
            Place::Sqlite(data) => data.join("accounts"),
            Place::Postgres(_, blobs) => blobs.clone(),
        };
        blocking(&env, move || make_folder(&folder)).await?;
        let server = Database::open(env.clone(), place.location("server"), &SERVER_SCHEMA, ()).await?;
        let filings = Filings::new(server.clone(), Arc::clone(&env.clock));
        let hints = match &place {
            Place::Sqlite(_) => None,
            Place::Postgres(pool, _) => Some(Hints::new(Arc::clone(pool), process_name(&*random))),
        };
        let inner = Arc::new(Inner {
            env,
            place,
            random,
            server,
            filings,
            history,
            max_mailboxes,
            check_on_close,
            hints,
            accounts: Mutex::default(),
            swept: Mutex::default(),
        });
        if let Some(hints) = &inner.hints {
            inner.env.runtime.spawn(follow(hints.listener(), Arc::downgrade(&inner)));
        }
        Ok(Self { inner })
    }

    /// The account of this name, opened if it isn't.
    ///
    /// # Errors
    /// [`Error::NoAccount`].
    pub async fn account(&self, name: &str) -> Result<Account, Error> {
        self.open_account(name, None).await
    }

    /// The account of this name, created with these mailboxes if there is none. Inbox is always among them.
    ///
    /// # Errors
    /// [`Error::AccountName`] if the name can't be a folder's.
    pub async fn ensure_account(&self, name: &str, mailboxes: &[(MailboxName, SpecialUse)]) -> Result<Account, Error> {
        if name.is_empty() || name.starts_with('.') || name.contains(['/', '\\', '\0']) || name.len() > 200 {
            return Err(Error::AccountName);
        }
        let mut initial = vec![(MailboxName::inbox(), SpecialUse::NONE)];
        initial.extend(mailboxes.iter().filter(|(name, _)| !name.is_inbox()).cloned());
        self.open_account(name, Some(&initial)).await
    }

    async fn open_account(&self, name: &str, create: Option<&[(MailboxName, SpecialUse)]>) -> Result<Account, Error> {
        let cell = Arc::clone(lock(&self.inner.accounts).entry(name.to_owned()).or_default());
        let opened = cell.get_or_try_init(|| self.inner.open_account(name, create)).await.cloned();
        if opened.is_err() {
            // Names that don't exist must not fill memory.
            let mut accounts = lock(&self.inner.accounts);
            if accounts.get(name).is_some_and(|c| !c.initialized()) {
                accounts.remove(name);
            }
        }
        opened
    }

    /// Names of all accounts.
    ///
    /// # Errors
    /// The database failed.
    pub async fn account_names(&self) -> Result<Vec<String>, Error> {
        self.inner
            .server
            .read(|tx| tx.query_all("SELECT name FROM account ORDER BY name", &[], |r| Ok::<_, Error>(r.text(0)?.to_owned())))
            .await
    }

    /// Removes an account with all its mail.
    ///
    /// # Errors
    /// [`Error::NoAccount`].
    pub async fn remove_account(&self, name: &str) -> Result<(), Error> {
        let account = self.account(name).await?;
        let id = account.id();
        account.close().await;
        lock(&self.inner.accounts).remove(name);
        self.inner
            .server
            .write(move |tx| {
                tx.exec("DELETE FROM account WHERE id = $1", params![id])?;
                Ok::<_, Error>(())
            })
            .await?;
        match &self.inner.place {
            Place::Sqlite(data) => {
                let (from, to) = (data.join("accounts").join(name), data.join("tmp").join(format!("oldaccount-{name}-{id}")));
                blocking(&self.inner.env, move || {
                    make_folder(to.parent().unwrap_or(&to))?;
                    // First out of the way, so that a crash leaves nothing that a new account would find.
                    std::fs::rename(&from, &to)?;
                    Ok(std::fs::remove_dir_all(&to)?)
                })
                .await
            }
            Place::Postgres(_, blobs) => {
                let blobs = blobs.join(id.to_string());
                account_tables_deleted(&self.inner.server, id).await?;
                blocking(&self.inner.env, move || match std::fs::remove_dir_all(&blobs) {
                    Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e.into()),
                    _ => Ok(()),
                })
                .await
            }
        }
    }

    /// A further database beside the accounts: `<data>/<name>.db` with SQLite, tables in the same database with PostgreSQL.
    ///
    /// # Errors
    /// It can't be opened.
    pub async fn database(&self, name: &str, schema: &'static Schema) -> Result<Database, Error> {
        Ok(Database::open(self.inner.env.clone(), self.inner.place.location(name), schema, ()).await?)
    }

    /// Begins to file a message into several accounts, or goes on with what was left of doing so. `key` is called on a thread
    /// where it may read the message.
    ///
    /// # Errors
    /// That of `key`; the database failed.
    pub async fn begin_filing(&self, key: impl FnOnce() -> Result<FilingKey, Error> + Send + 'static) -> Result<Filing, Error> {
        self.inner.filings.begin(key).await
    }

    /// What databases beside the accounts are opened with.
    pub fn env(&self) -> &Env {
        &self.inner.env
    }

    /// Where a database beside the accounts is: `<data>/<name>.db` with SQLite, in the same database with PostgreSQL.
    pub fn location(&self, name: &str) -> Location {
        self.inner.place.location(name)
    }

    /// The queue: `<data>/queue.db`, with large messages in `<data>/queue/`. With PostgreSQL, its tables are in the same database,
    /// and the folder is below that of the blobs.
    ///
    /// # Errors
    /// It can't be opened.
    pub async fn queue(&self) -> Result<Queue, Error> {
        let folder = match &self.inner.place {
            Place::Sqlite(data) => data.join("queue"),
            Place::Postgres(_, blobs) => blobs.join("queue"),
        };
        let made = folder.clone();
        blocking(&self.inner.env, move || make_folder(&made)).await?;
        let blobs = Arc::new(Folder::flat(folder, Arc::clone(&self.inner.env.faults)));
        let queue = Queue::open(self.inner.env.clone(), self.inner.place.location("queue"), blobs, Arc::clone(&self.inner.random)).await?;
        Ok(queue.checked_on_close(self.inner.check_on_close))
    }

    /// Time as the store sees it.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.inner.env.clock
    }

    /// Chance as the store sees it.
    pub fn random(&self) -> &Arc<dyn Random> {
        &self.inner.random
    }

    /// Closes accounts that nobody holds and nobody used for `time`, and connections of those that are only held. To be called
    /// now and then.
    pub async fn close_idle(&self, time: Duration) {
        let mut unused = Vec::new();
        let mut quiet = Vec::new();
        {
            let mut accounts = lock(&self.inner.accounts);
            accounts.retain(|_, cell| {
                // With the lock held nobody can get at an account that only we have.
                let alone = Arc::strong_count(cell) == 1;
                let Some(account) = cell.get().filter(|a| a.is_quiet(time)) else { return true };
                if alone && account.is_unused() {
                    unused.push(account.clone());
                    return false;
                }
                quiet.push(account.clone());
                true
            });
        }
        for account in unused {
            self.inner.close_account(&account).await;
        }
        for account in quiet {
            account.release().await;
        }
        if let Err(e) = self.inner.filings.tidy().await {
            tracing::warn!(error = %e, "forgetting finished filings; done with the next");
        }
    }

    /// Finishes what was queued and closes everything. Handles that are still around give errors from then on.
    pub async fn close(&self) {
        if let Some(hints) = &self.inner.hints {
            hints.stop();
        }
        let accounts = std::mem::take(&mut *lock(&self.inner.accounts));
        for account in accounts.values().filter_map(|cell| cell.get()) {
            self.inner.close_account(account).await;
        }
        // Best effort: what stays is only found by the same message, should it come again.
        drop(self.inner.filings.tidy().await);
        self.inner.server.close().await;
    }
}

impl Inner {
    async fn close_account(&self, account: &Account) {
        if let Some(tell) = self.check_on_close {
            match account.check().await {
                Ok(report) if report.is_clean() => {}
                Ok(report) => tell(account.name(), &report.problems),
                // It was closed before, or the database is out of reach: that is no inconsistency.
                Err(e) => tracing::warn!(account = account.name(), error = %e, "account not checked"),
            }
        }
        account.close().await;
    }

    async fn open_account(&self, name: &str, create: Option<&[(MailboxName, SpecialUse)]>) -> Result<Account, Error> {
        let id = self.account_id(name, create.is_some()).await?;
        let (location, folder) = match &self.place {
            Place::Sqlite(data) => {
                let folder = data.join("accounts").join(name);
                (Location::Sqlite(folder.join("account.db")), folder)
            }
            Place::Postgres(pool, blobs) => (Location::Postgres(Arc::clone(pool)), blobs.join(id.to_string())),
        };
        let sqlite = matches!(self.place, Place::Sqlite(_));
        let msg = if sqlite { folder.join("msg") } else { folder.clone() };
        let blobs: Arc<dyn BlobStore> = Arc::new(Folder::new(msg, Arc::clone(&self.env.faults)));
        blocking(&self.env, move || make_folder(&folder)).await?;
        // With PostgreSQL another node may be about to refer to a young file.
        let before = if sqlite { Timestamp::from_micros(i64::MAX) } else { self.env.clock.now().before(ORPHAN_AGE) };
        let sweep = (!lock(&self.swept).contains(&id)).then_some(before);
        let teller = self.hints.as_ref().map(Hints::teller);
        let (random, history, max_mailboxes) = (Arc::clone(&self.random), self.history, self.max_mailboxes);
        let opening = Opening { env: self.env.clone(), location, id, name, blobs, random, teller, sweep, history, max_mailboxes, create };
        let account = Account::open(opening).await?;
        lock(&self.swept).insert(id);
        Ok(account)
    }

    /// The id of an account, given if there is none and one is to be created.
    async fn account_id(&self, name: &str, create: bool) -> Result<AccountId, Error> {
        let wanted = name.to_owned();
        let found = self
            .server
            .read(move |tx| {
                tx.query_opt("SELECT id FROM account WHERE name = $1", params![&wanted], |r| Ok::<_, Error>(AccountId(r.int(0)?)))
            })
            .await?;
        if let Some(id) = found {
            return Ok(id);
        }
        if !create {
            return Err(Error::NoAccount);
        }
        let (name, now) = (name.to_owned(), self.env.clock.now());
        self.server
            .write(move |tx| {
                tx.exec("INSERT INTO account (name, created) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING", params![&name, now])?;
                tx.query_row("SELECT id FROM account WHERE name = $1", params![&name], |r| Ok::<_, Error>(AccountId(r.int(0)?)))
            })
            .await
    }
}

impl Place {
    fn location(&self, name: &str) -> Location {
        match self {
            Self::Sqlite(data) => Location::Sqlite(data.join(format!("{name}.db"))),
            Self::Postgres(pool, _) => Location::Postgres(Arc::clone(pool)),
        }
    }
}

/// A name that no other process has.
fn process_name(random: &dyn Random) -> String {
    let mut id = [0; 8];
    random.fill(&mut id);
    id.iter().map(|b| format!("{b:02x}")).collect()
}

/// Looks at what other processes have changed, for as long as there is a store.
async fn follow(listener: db::Listener, store: Weak<Inner>) {
    loop {
        let heard = listener.next().await;
        let Some(inner) = store.upgrade() else { return };
        let open: Vec<Account> = lock(&inner.accounts).values().filter_map(|cell| cell.get().cloned()).collect();
        drop(inner);
        for account in open.iter().filter(|a| heard.all || heard.accounts.contains(&a.id().0)) {
            if let Err(e) = account.refresh_if_changed().await {
                tracing::warn!(account = account.name(), error = %e, "looking for changes by other processes");
            }
        }
    }
}

/// Deletes an account's rows from the tables that all share.
async fn account_tables_deleted(server: &Database, id: AccountId) -> Result<(), Error> {
    server
        .write(move |tx| {
            for change in ACCOUNT_SCHEMA.migrations.iter().copied().flatten() {
                if let Change::Create(table) = change {
                    let sql = format!("DELETE FROM {} WHERE account_id = $1", table.name);
                    tx.exec(&sql, params![id])?;
                }
            }
            Ok::<_, Error>(())
        })
        .await
}

async fn blocking<T: Send + 'static>(env: &Env, f: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    env.runtime.spawn_blocking(f).await.unwrap_or(Err(Error::Db(db::Error::Panicked)))
}

/// Makes a folder, durably as far as its name in the folder above goes.
fn make_folder(folder: &Path) -> Result<(), Error> {
    if !folder.is_dir() {
        std::fs::create_dir_all(folder)?;
        if let Some(above) = folder.parent() {
            std::fs::File::open(above)?.sync_all()?;
        }
    }
    Ok(())
}
