//! Accounts: the handle that everything shares, its writer, readers, views and notices of changes.

mod bytes;
mod core;
mod erase;
mod facts;
mod history;
mod prune;
mod read;
mod rows;
mod watch;
mod write;

pub use facts::MessageFacts;
pub use prune::History;
pub use read::{Columns, MessageRow, ReadTx};
pub use watch::{MailboxWatch, Notice, Watch};
pub use write::{
    Added, Append, Copied, Created, Delivery, Expunged, FlagChange, FlagOp, Flagged, MAX_KEYWORDS, MAX_TEMPLATES, Renamed, Template,
    WriteTx,
};

pub(crate) use rows::{load_mailboxes, load_state};
#[cfg(test)]
pub(crate) use write::message_key;

use self::core::AccountScope;
use crate::blob::BlobStore;
use crate::db::{self, Database, Env, Location, Scope, Teller, Tx};
use crate::directory::AccountSettings;
use crate::error::Error;
use crate::mailbox::{Mailboxes, SpecialUse};
use crate::name::MailboxName;
use crate::params;
use crate::prepare::{Message, Prepared, prepare};
use crate::schema::ACCOUNT_SCHEMA;
use crate::view::View;
use mox_base::{AccountId, ByteSize, Clock, MailboxId, Random, Timestamp};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How often a view is loaded that changes while it is.
const VIEW_ATTEMPTS: usize = 3;

/// An account. Clones are handles to the same one; while there are handles besides the store's own, it stays open.
#[derive(Clone)]
pub struct Account {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    db: Database<Arc<AccountScope>>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    /// Monotonic milliseconds.
    used: AtomicU64,
    /// Held by the session that looks through messages.
    scanning: tokio::sync::Mutex<()>,
    scans: Arc<Semaphore>,
}

/// A turn to look through messages, see [`Account::scan`].
#[derive(Debug)]
pub struct Scan<'a> {
    account: &'a Account,
    _own: tokio::sync::MutexGuard<'a, ()>,
    _place: OwnedSemaphorePermit,
}

impl Scan<'_> {
    /// As [`Account::read`], and ends the turn.
    ///
    /// # Errors
    /// The closure's, or the database's.
    pub async fn read<T, E, F>(self, f: F) -> Result<T, E>
    where
        F: FnOnce(&ReadTx<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<db::Error> + Send + 'static,
    {
        self.account.read(f).await
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("name", &self.inner.name).field("id", &self.id()).finish_non_exhaustive()
    }
}

impl Scope for Arc<AccountScope> {
    type Ctx = core::Core;

    fn begin(&self, tx: &Tx<'_>) -> Result<Self::Ctx, db::Error> {
        (**self).begin(tx)
    }

    fn flush(&self, tx: &Tx<'_>, ctx: &mut Self::Ctx) -> Result<(), db::Error> {
        (**self).flush(tx, ctx)
    }

    fn publish(&self, ctx: Self::Ctx) {
        (**self).publish(ctx);
    }

    fn forget(&self) {
        (**self).forget();
    }
}

/// What an account is opened with.
pub(crate) struct Opening<'a> {
    pub(crate) env: Env,
    pub(crate) location: Location,
    pub(crate) id: AccountId,
    pub(crate) name: &'a str,
    pub(crate) blobs: Arc<dyn BlobStore>,
    pub(crate) random: Arc<dyn Random>,
    /// Where other processes hear of changes.
    pub(crate) teller: Option<Teller>,
    /// Delete files that no row refers to, if they were written before this: when no delivery can be about to.
    pub(crate) sweep: Option<Timestamp>,
    /// How much history is kept.
    pub(crate) history: History,
    /// How many mailboxes it may have.
    pub(crate) max_mailboxes: usize,
    /// Mailboxes to create if the account isn't there.
    pub(crate) create: Option<&'a [(MailboxName, SpecialUse)]>,
}

impl Account {
    pub(crate) async fn open(opening: Opening<'_>) -> Result<Self, Error> {
        let Opening { env, location, id, name, blobs, random, teller, sweep, history, max_mailboxes, create } = opening;
        let (clock, scans) = (Arc::clone(&env.clock), Arc::clone(&env.scans));
        let own_database = matches!(location, Location::Sqlite(_));
        let scope = Arc::new(AccountScope::new(id, Arc::clone(&blobs), teller, &env, history, max_mailboxes));
        let db = Database::open(env, location, &ACCOUNT_SCHEMA, scope).await?;
        let inner =
            Inner { name: name.to_owned(), db, clock, random, used: AtomicU64::new(0), scanning: tokio::sync::Mutex::default(), scans };
        let account = Self { inner: Arc::new(inner) };
        let exists = account.inner.db.read(move |tx| exists(tx, id)).await?;
        if !exists {
            let initial = create.ok_or(Error::NoAccount)?.to_vec();
            account.check_unused(Arc::clone(&blobs), own_database).await?;
            account.initialise(initial).await?;
        }
        if let Some(before) = sweep {
            account.sweep(blobs, before).await?;
        }
        // Loads what is published, and erases what the last run left.
        account.write(|_| Ok::<_, Error>(())).await?;
        account.touch();
        Ok(account)
    }

    /// Makes sure that nobody's mail is in the folder of an account that is about to be made: after databases were lost, moved, or put
    /// back from different backups.
    async fn check_unused(&self, blobs: Arc<dyn BlobStore>, own_database: bool) -> Result<(), Error> {
        self.inner
            .db
            .read(move |tx| {
                let misplaced = |text| Err(db::Error::Misplaced(text).into());
                let any = "SELECT account_id FROM account_state LIMIT 1";
                if own_database && tx.query_opt(any, &[], |r| r.int(0))?.is_some() {
                    return misplaced(
                        "account.db has mail of an account that server.db doesn't know: they are not from the same time and place",
                    );
                }
                if !blobs.list()?.is_empty() {
                    return misplaced("there are files of messages of the account, but not in the database that they belong to");
                }
                Ok::<_, Error>(())
            })
            .await
    }

    /// Makes the account's row and first mailboxes, in one transaction.
    async fn initialise(&self, initial: Vec<(MailboxName, SpecialUse)>) -> Result<(), Error> {
        let (id, clock) = (self.id(), Arc::clone(&self.inner.clock));
        // RFC 9051 §2.3.1.1: greater than those of earlier mailboxes of the same names. Half seconds last beyond 2038.
        let uidvalidity = (clock.now().secs() >> 1).clamp(1, i64::from(u32::MAX >> 1));
        let scope = Arc::clone(self.inner.db.scope());
        self.inner
            .db
            .setup(move |tx| {
                tx.exec(
                    "INSERT INTO account_state (account_id, version, modseq, forgotten, next_uidvalidity, next_mailbox, next_message, next_blob, used) \
                     VALUES ($1, 0, 1, 0, $2, 1, 1, 1, 0)",
                    params![id, uidvalidity],
                )?;
                let mut core = scope.begin(tx)?;
                WriteTx::new(tx, &scope, &mut core, &*clock).create_initial(&initial)?;
                Ok::<_, Error>(scope.flush(tx, &mut core)?)
            })
            .await
    }

    /// Deletes files that no row refers to.
    async fn sweep(&self, blobs: Arc<dyn BlobStore>, before: Timestamp) -> Result<(), Error> {
        let id = self.id();
        let name = self.inner.name.clone();
        self.inner
            .db
            .read(move |tx| {
                let files = blobs.list()?;
                if files.is_empty() {
                    return Ok(());
                }
                let mut known = BTreeSet::new();
                tx.query("SELECT name FROM blob WHERE account_id = $1 AND name IS NOT NULL", params![id], |r| {
                    known.insert(r.text(0)?.to_owned());
                    Ok::<_, db::Error>(())
                })?;
                for (file, _) in files.iter().filter(|(name, written)| *written < before && !known.contains(name)) {
                    tracing::info!(account = name, file, "deleting blob without message");
                    blobs.delete(file)?;
                }
                Ok::<_, Error>(())
            })
            .await
    }

    /// Its id: also tells it from an earlier account of the same name.
    pub fn id(&self) -> AccountId {
        self.inner.db.scope().id
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Treats its messages as these settings say: their limit, their junk flags. To be told again when they change.
    pub fn configure(&self, settings: &Arc<AccountSettings>) {
        self.set_quota(settings.quota);
        self.inner.db.scope().set_settings(settings);
    }

    /// Sets the limit on the sum of sizes of its messages; none for no limit.
    pub fn set_quota(&self, limit: Option<ByteSize>) {
        self.inner.db.scope().quota.store(limit.map_or(u64::MAX, |l| l.0), Ordering::Release);
    }

    /// The limit on the sum of sizes of its messages.
    pub fn quota(&self) -> Option<ByteSize> {
        Some(self.inner.db.scope().quota.load(Ordering::Acquire)).filter(|l| *l != u64::MAX).map(ByteSize)
    }

    /// Runs a closure in a write transaction; its result, after the commit, when changes have been published.
    ///
    /// It runs to its end even if the future is dropped, and may share its transaction with other closures. If it fails, nothing
    /// of it is kept. It must not wait for anything but the database.
    ///
    /// # Errors
    /// The closure's, or the commit's.
    pub async fn write<T, E, F>(&self, mut f: F) -> Result<T, E>
    where
        F: FnMut(&mut WriteTx<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<db::Error> + Send + 'static,
    {
        self.touch();
        let scope = Arc::clone(self.inner.db.scope());
        let clock = Arc::clone(&self.inner.clock);
        self.inner.db.run(move |tx, core| f(&mut WriteTx::new(tx, &scope, core, &*clock))).await
    }

    /// Runs a closure on a snapshot.
    ///
    /// # Errors
    /// The closure's, or the database's.
    pub async fn read<T, E, F>(&self, f: F) -> Result<T, E>
    where
        F: FnOnce(&ReadTx<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<db::Error> + Send + 'static,
    {
        self.touch();
        let scope = Arc::clone(self.inner.db.scope());
        self.inner.db.read(move |tx| f(&ReadTx::new(tx, &scope))).await
    }

    /// Waits for a turn to look through messages: of an account's sessions one has it at a time, in the order in which they came, and
    /// of all accounts so many that others' reads aren't held up. To be taken anew for each few milliseconds of work.
    ///
    /// # Errors
    /// The store is closed.
    pub async fn scan(&self) -> Result<Scan<'_>, Error> {
        let own = self.inner.scanning.lock().await;
        let place = Arc::clone(&self.inner.scans).acquire_owned().await.map_err(|_| db::Error::Closed)?;
        Ok(Scan { account: self, _own: own, _place: place })
    }

    /// Parses and compresses a message, and stores a large one durably, so that [`WriteTx::add`] only adds rows.
    ///
    /// # Errors
    /// A file failed.
    pub async fn prepare(&self, message: Message) -> Result<Prepared, Error> {
        self.touch();
        let blobs = Arc::clone(&self.inner.db.scope().blobs);
        let random = Arc::clone(&self.inner.random);
        self.inner.db.blocking(move || prepare(message, &blobs, &*random)).await
    }

    /// Prepares a message and runs a closure with it as [`Account::write`] does: what a delivery does, with fewer threads in turn.
    ///
    /// # Errors
    /// A file failed; the closure's, or the commit's.
    pub async fn write_message<T, E, F>(&self, message: Message, mut f: F) -> Result<T, E>
    where
        F: FnMut(&mut WriteTx<'_>, &Prepared) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<db::Error> + From<Error> + Send + 'static,
    {
        self.touch();
        let scope = Arc::clone(self.inner.db.scope());
        let blobs = Arc::clone(&scope.blobs);
        let (clock, random) = (Arc::clone(&self.inner.clock), Arc::clone(&self.inner.random));
        self.inner
            .db
            .run_after(
                move || prepare(message, &blobs, &*random).map_err(E::from),
                move |tx, core, prepared| f(&mut WriteTx::new(tx, &scope, core, &*clock), prepared),
            )
            .await
    }

    /// Prepares a message and adds it to a mailbox.
    ///
    /// # Errors
    /// As [`WriteTx::add`].
    pub async fn add(&self, mailbox: MailboxId, message: Message, append: Append) -> Result<Added, Error> {
        self.write_message(message, move |tx, prepared| tx.add(mailbox, prepared, &append)).await
    }

    /// Its mailboxes and subscriptions now.
    pub fn mailboxes(&self) -> Arc<Mailboxes> {
        self.inner.db.scope().mailboxes()
    }

    /// The newest view of a mailbox.
    ///
    /// # Errors
    /// [`Error::NoMailbox`].
    pub async fn view(&self, mailbox: MailboxId) -> Result<Arc<View>, Error> {
        let scope = self.inner.db.scope();
        for _ in 0..VIEW_ATTEMPTS {
            if let Some(view) = scope.view(mailbox) {
                return Ok(view);
            }
            self.touch();
            let id = self.id();
            let (row, index) = self.inner.db.read(move |tx| rows::load_mailbox(tx, id, mailbox)).await?;
            if let Some(view) = scope.offer(&row, index) {
                return Ok(view);
            }
            // It changed meanwhile, or another process changed it and we haven't noticed.
            self.write(|_| Ok::<_, Error>(())).await?;
        }
        // A mailbox that changes all the time is loaded by its writer.
        self.write(move |tx| tx.touch_view(mailbox)).await?;
        scope.view(mailbox).ok_or(Error::NoMailbox)
    }

    /// Notices what another process changed, where several share a PostgreSQL. Watches are told.
    ///
    /// # Errors
    /// The database failed.
    pub async fn refresh(&self) -> Result<(), Error> {
        self.write(|_| Ok(())).await
    }

    /// As [`Account::refresh`], if there is anything to notice.
    pub(crate) async fn refresh_if_changed(&self) -> Result<(), Error> {
        let id = self.id();
        let state = self.inner.db.read(move |tx| load_state(tx, id, false)).await?;
        if state == self.mailboxes().state { Ok(()) } else { self.refresh().await }
    }

    /// Notices of changes from now on.
    pub fn watch(&self) -> Watch {
        Watch::new(self.inner.db.scope().subscribe())
    }

    /// Hears from now on of changes of the list of mailboxes, and of the messages of one mailbox.
    pub fn watch_mailbox(&self, mailbox: Option<MailboxId>) -> MailboxWatch {
        self.inner.db.scope().bells.watch(mailbox)
    }

    /// Refuses further writes, finishes those that were queued, and closes the connections.
    pub async fn close(&self) {
        self.inner.db.close().await;
    }

    /// Closes connections until they are needed again.
    pub async fn release(&self) {
        self.inner.db.release().await;
    }

    pub(crate) fn database(&self) -> &Database<Arc<AccountScope>> {
        &self.inner.db
    }

    fn touch(&self) {
        let now = u64::try_from(self.inner.clock.monotonic().as_millis()).unwrap_or(u64::MAX);
        self.inner.used.store(now, Ordering::Relaxed);
    }

    /// Whether nothing was asked of it for this long.
    pub(crate) fn is_quiet(&self, time: Duration) -> bool {
        let used = Duration::from_millis(self.inner.used.load(Ordering::Relaxed));
        self.inner.db.is_idle() && self.inner.clock.monotonic().saturating_sub(used) >= time
    }

    /// Whether nobody but the store has a handle.
    pub(crate) fn is_unused(&self) -> bool {
        Arc::strong_count(&self.inner) == 1
    }
}

fn exists(tx: &Tx<'_>, id: AccountId) -> Result<bool, Error> {
    match load_state(tx, id, false) {
        Ok(_) => Ok(true),
        Err(db::Error::NoRow(_)) => Ok(false),
        Err(e) => Err(e.into()),
    }
}
