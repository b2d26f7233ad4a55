//! A database with one writer, which commits in groups, and readers on snapshots.
//!
//! `write` queues a closure. One thread at a time works on a database's queue and ends when the queue is empty, so
//! thousands of quiet databases hold no thread; where nobody else is at work, it is the caller's own. It runs up to [`GROUP`]
//! waiting closures, or [`GROUP_TIME`] of work, in one transaction, each behind a savepoint, commits once and only then answers
//! them all. A failed closure is undone alone; a failed commit fails all that shared it. What PostgreSQL undid because others were in the way is run again, so
//! closures may run several times, of which one counts.
//!
//! A [`Scope`] adds working state that belongs to the transaction, as an account has: loaded after BEGIN, written before
//! COMMIT, published after it, and before anybody is answered.

use super::checkpoint::{Checkpoints, Copier};
use super::faults::{Faults, Step, check};
use super::queue::{BoxJob, Call, Pushed, Queue};
use super::schema::Schema;
use super::tx::Conn;
use super::{Error, PgPool, Tx, sqlite};
use mox_base::Clock;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::block_in_place;

/// Closures in one transaction at most: enough that their shared fsync no longer matters.
const GROUP: usize = 32;

/// Time spent on a transaction's closures, after which no further one joins.
const GROUP_TIME: Duration = Duration::from_millis(5);

/// Closures waiting for one writer; more wait for a place, in the order in which they came.
const WAITING: usize = 1024;

/// SQLite reading connections kept open per database.
const READERS_KEPT: usize = 4;

/// How often a transaction that found others in the way is begun again.
const BEGIN_ATTEMPTS: usize = 5;

/// How often the closures of a transaction are run that PostgreSQL undid: a deadlock, a serialisation failure, a lost connection.
const GROUP_ATTEMPTS: u32 = 5;

/// Before the first of them, more before each further.
const UNDONE_PAUSE: Duration = Duration::from_millis(10);

/// What all databases of a store share.
#[derive(Clone, Debug)]
pub struct Env {
    /// Where blocking work is started.
    pub runtime: Handle,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// What shall fail.
    pub faults: Arc<dyn Faults>,
    /// Readers at work at once, over all databases.
    pub readers: Arc<Semaphore>,
    /// Those of them that look through many messages.
    pub scans: Arc<Semaphore>,
}

/// Where a database is.
#[derive(Clone, Debug)]
pub enum Location {
    /// An SQLite file, made when missing. Its folder exists.
    Sqlite(PathBuf),
    /// Tables in PostgreSQL.
    Postgres(Arc<PgPool>),
}

/// State that belongs to a write transaction.
pub trait Scope: Send + Sync + 'static {
    /// The state. A clone is what a failed closure is undone to: keep it cheap.
    type Ctx: Clone + Send;

    /// After BEGIN, before the first closure: locks, and gives the current state.
    ///
    /// # Errors
    /// The database failed.
    fn begin(&self, tx: &Tx<'_>) -> Result<Self::Ctx, Error>;

    /// After the last closure, before COMMIT: writes what changed.
    ///
    /// # Errors
    /// The database failed.
    fn flush(&self, tx: &Tx<'_>, ctx: &mut Self::Ctx) -> Result<(), Error>;

    /// After COMMIT, before anybody is answered.
    fn publish(&self, ctx: Self::Ctx);

    /// After a failed COMMIT: what is in the database is unknown.
    fn forget(&self);
}

/// No state.
impl Scope for () {
    type Ctx = ();

    fn begin(&self, _tx: &Tx<'_>) -> Result<(), Error> {
        Ok(())
    }

    fn flush(&self, _tx: &Tx<'_>, _ctx: &mut ()) -> Result<(), Error> {
        Ok(())
    }

    fn publish(&self, _ctx: ()) {}

    fn forget(&self) {}
}

/// A database. Clones are handles to the same one.
pub struct Database<S: Scope = ()> {
    inner: Arc<Inner<S>>,
}

impl<S: Scope> Clone for Database<S> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<S: Scope> fmt::Debug for Database<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").field("location", &self.inner.location).finish_non_exhaustive()
    }
}

struct Inner<S: Scope> {
    env: Env,
    location: Location,
    scope: S,
    queue: Queue<S>,
    places: Arc<Semaphore>,
    idle: Notify,
    /// SQLite's writing connection while nobody uses it. PostgreSQL's go back to the pool.
    writer: Mutex<Option<Conn>>,
    readers: Mutex<Vec<Conn>>,
    checkpoints: Checkpoints,
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Database<()> {
    /// Runs a closure in a write transaction; its result, after the commit.
    ///
    /// The closure runs to its end even if the future is dropped. It may run in one transaction with others; if it
    /// fails, all that it did is undone, and only that.
    ///
    /// # Errors
    /// The closure's, or the commit's.
    pub async fn write<T, E, F>(&self, mut f: F) -> Result<T, E>
    where
        F: FnMut(&Tx<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        self.run(move |tx, ()| f(tx)).await
    }
}

impl<S: Scope> Database<S> {
    /// Opens a database and brings its tables to the newest version.
    ///
    /// # Errors
    /// The database can't be opened, or is newer than this program.
    pub async fn open(env: Env, location: Location, schema: &'static Schema, scope: S) -> Result<Self, Error> {
        let inner = Arc::new(Inner {
            env,
            location,
            scope,
            queue: Queue::new(),
            places: Arc::new(Semaphore::new(WAITING)),
            idle: Notify::new(),
            writer: Mutex::default(),
            readers: Mutex::default(),
            checkpoints: Checkpoints::new(),
        });
        let db = Self { inner };
        let inner = Arc::clone(&db.inner);
        db.blocking(move || inner.migrate(schema)).await?;
        Ok(db)
    }

    /// As [`Database::write`], with the scope's state.
    pub(crate) async fn run<T, E, F>(&self, f: F) -> Result<T, E>
    where
        F: FnMut(&Tx<'_>, &mut S::Ctx) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let permit = self.inner.place().await?;
        let (reply, answer) = oneshot::channel();
        let job: BoxJob<S> = Box::new(Call { run: Some(f), result: None, reply, permit });
        match self.inner.queue.push(job) {
            Ok(Pushed::Waits) => {}
            Ok(Pushed::Start) if self.inner.may_stay() => block_in_place(|| self.inner.work_once()),
            Ok(Pushed::Start) => {
                let inner = Arc::clone(&self.inner);
                drop(self.inner.env.runtime.spawn_blocking(move || inner.work()));
            }
            Err(_refused) => return Err(Error::Closed.into()),
        }
        answer.await.unwrap_or_else(|_| Err(Error::Closed.into()))
    }

    /// Runs `before` on a blocking thread, and then `f` with what it gave as [`Database::run`] does: on the same thread, if that
    /// has nothing else to do.
    pub(crate) async fn run_after<P, T, E, G, F>(&self, before: G, mut f: F) -> Result<T, E>
    where
        G: FnOnce() -> Result<P, E> + Send + 'static,
        F: FnMut(&Tx<'_>, &mut S::Ctx, &P) -> Result<T, E> + Send + 'static,
        P: Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let permit = self.inner.place().await?;
        let (reply, answer) = oneshot::channel();
        let stay = self.inner.may_stay();
        let inner = Arc::clone(&self.inner);
        let work = move || {
            let prepared = match catch_unwind(AssertUnwindSafe(before)).unwrap_or_else(|_| Err(Error::Panicked.into())) {
                Ok(prepared) => prepared,
                Err(e) => {
                    // Nobody may be waiting any more.
                    drop(reply.send(Err(e)));
                    return;
                }
            };
            let run = move |tx: &Tx<'_>, ctx: &mut S::Ctx| f(tx, ctx, &prepared);
            let job: BoxJob<S> = Box::new(Call { run: Some(run), result: None, reply, permit });
            // A job that is refused takes its reply along, which the caller hears as a closed database.
            match inner.queue.push(job) {
                Ok(Pushed::Start) if stay => inner.work_once(),
                Ok(Pushed::Start) => inner.work(),
                Ok(Pushed::Waits) | Err(_) => {}
            }
        };
        if stay {
            block_in_place(work);
        } else {
            drop(self.inner.env.runtime.spawn_blocking(work));
        }
        answer.await.unwrap_or_else(|_| Err(Error::Closed.into()))
    }

    /// Runs a closure on a snapshot: it sees what was committed before it began, and nothing later.
    ///
    /// # Errors
    /// The closure's, or the database's.
    pub async fn read<T, E, F>(&self, f: F) -> Result<T, E>
    where
        F: FnOnce(&Tx<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let permit = Arc::clone(&self.inner.env.readers).acquire_owned().await.map_err(|_| Error::Closed)?;
        let inner = Arc::clone(&self.inner);
        self.blocking(move || {
            let _permit = permit;
            inner.read(f)
        })
        .await
    }

    /// Runs a closure in a transaction of its own, without the scope's state: before there is any.
    pub(crate) async fn setup<T, E, F>(&self, f: F) -> Result<T, E>
    where
        F: FnOnce(&Tx<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let inner = Arc::clone(&self.inner);
        self.blocking(move || inner.setup(f)).await
    }

    /// Refuses further reads and writes, waits for writes that were queued, and closes the connections.
    pub async fn close(&self) {
        self.inner.queue.close();
        loop {
            let idle = self.inner.idle.notified();
            if self.inner.queue.is_idle() {
                break;
            }
            idle.await;
        }
        self.release().await;
    }

    /// Closes connections that nobody uses; they are opened again when needed.
    pub async fn release(&self) {
        let inner = Arc::clone(&self.inner);
        drop(self.inner.env.runtime.spawn_blocking(move || inner.release()).await);
    }

    pub(crate) fn scope(&self) -> &S {
        &self.inner.scope
    }

    /// True if no write is queued or at work.
    pub(crate) fn is_idle(&self) -> bool {
        self.inner.queue.is_idle()
    }

    pub(crate) async fn blocking<T: Send + 'static, E: From<Error> + Send + 'static>(
        &self,
        f: impl FnOnce() -> Result<T, E> + Send + 'static,
    ) -> Result<T, E> {
        if self.inner.may_stay() {
            return block_in_place(|| catch_unwind(AssertUnwindSafe(f))).unwrap_or_else(|_| Err(Error::Panicked.into()));
        }
        self.inner.env.runtime.spawn_blocking(f).await.unwrap_or_else(|_| Err(Error::Panicked.into()))
    }
}

impl<S: Scope> Inner<S> {
    /// Whether blocking work may run where it is asked for, while tokio gives the thread's other tasks to another one: that spares
    /// changing threads twice before the caller can go on. Not with PostgreSQL, whose answers come through the reactor: if all threads
    /// were waiting for it, none would be left to take over.
    fn may_stay(&self) -> bool {
        matches!(self.location, Location::Sqlite(_))
            && Handle::try_current().is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread)
    }

    /// A place in the bounded queue.
    async fn place(&self) -> Result<OwnedSemaphorePermit, Error> {
        Arc::clone(&self.places).acquire_owned().await.map_err(|_| Error::Closed)
    }

    fn connect(&self, write: bool) -> Result<Conn, Error> {
        match &self.location {
            Location::Sqlite(path) => {
                check(&*self.env.faults, Step::Connect)?;
                let c = if write { sqlite::open_writer(path, self.checkpoints.log()) } else { sqlite::open_reader(path) };
                Ok(Conn::Sqlite(Box::new(c?)))
            }
            Location::Postgres(pool) => Ok(Conn::Postgres(Box::new(pool.take(&*self.env.faults)?))),
        }
    }

    fn begin(&self, conn: &Conn, write: bool) -> Result<(), Error> {
        check(&*self.env.faults, Step::Begin)?;
        match conn {
            Conn::Sqlite(c) => sqlite::control(c, if write { "BEGIN IMMEDIATE" } else { "BEGIN" })?,
            // A writer sees what was committed before it got its row lock, so READ COMMITTED; a reader has a snapshot.
            Conn::Postgres(c) if write => c.begin()?,
            Conn::Postgres(c) => c.batch("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")?,
        }
        Ok(())
    }

    fn statement(conn: &Conn, sql: &str) -> Result<(), Error> {
        match conn {
            Conn::Sqlite(c) => sqlite::control(c, sql),
            Conn::Postgres(c) => c.batch(sql),
        }
    }

    fn commit(&self, conn: &Conn) -> Result<(), Error> {
        check(&*self.env.faults, Step::Commit)?;
        match Self::statement(conn, "COMMIT") {
            Err(e) if e.is_disconnect() => self.resolve(conn, e)?,
            done => done?,
        }
        check(&*self.env.faults, Step::Committed)
    }

    /// Finds out whether a commit happened whose answer was lost with the connection.
    fn resolve(&self, conn: &Conn, lost: Error) -> Result<(), Error> {
        let (Location::Postgres(pool), Conn::Postgres(c)) = (&self.location, conn) else { return Err(lost) };
        match pool.outcome(c) {
            Ok(Some(true)) => Ok(()),
            Ok(Some(false)) => Err(Error::Undone),
            Ok(None) => Err(Error::Unresolved(Box::new(lost))),
            Err(e) => {
                tracing::warn!(error = %e, "asking whether a commit happened");
                Err(Error::Unresolved(Box::new(lost)))
            }
        }
    }

    /// Keeps a writing connection that is outside a transaction.
    fn keep_writer(&self, conn: Conn) {
        match (conn, &self.location) {
            (Conn::Postgres(c), Location::Postgres(pool)) => pool.give(*c),
            (conn, _) => *lock(&self.writer) = Some(conn),
        }
    }

    fn migrate(&self, schema: &Schema) -> Result<(), Error> {
        if let Location::Postgres(pool) = &self.location
            && pool.has_schema(schema.name)
        {
            return Ok(());
        }
        self.setup(|tx| schema.migrate(tx))?;
        if let Location::Postgres(pool) = &self.location {
            pool.note_schema(schema.name);
        }
        Ok(())
    }

    fn setup<T, E: From<Error>>(&self, f: impl FnOnce(&Tx<'_>) -> Result<T, E>) -> Result<T, E> {
        let conn = self.connect(true)?;
        self.begin(&conn, true)?;
        let value = f(&Tx::new(&conn, &*self.env.faults));
        match value {
            Ok(value) => {
                self.commit(&conn)?;
                self.keep_writer(conn);
                Ok(value)
            }
            Err(e) => {
                if Self::statement(&conn, "ROLLBACK").is_ok() {
                    self.keep_writer(conn);
                }
                Err(e)
            }
        }
    }

    /// Works on the queue until it is empty.
    fn work(self: &Arc<Self>) {
        while let Some(first) = self.queue.next_or_stop() {
            self.commit_group(first);
            self.checkpoint_if_due();
        }
        self.idle.notify_waiters();
    }

    /// Works on the first group, that of the caller's own job, and leaves the rest to a thread: the caller isn't to wait for others.
    fn work_once(self: &Arc<Self>) {
        if let Some(first) = self.queue.next_or_stop() {
            self.commit_group(first);
            if self.is_checkpoint_due() || !self.queue.stop_if_empty() {
                let inner = Arc::clone(self);
                drop(self.env.runtime.spawn_blocking(move || {
                    inner.checkpoint_if_due();
                    inner.work();
                }));
                return;
            }
        }
        self.idle.notify_waiters();
    }

    /// Runs and answers a group of jobs.
    fn commit_group(&self, first: BoxJob<S>) {
        let mut jobs = Vec::new();
        // A panic of ours must not leave the queue without anyone to work on it.
        let outcome = catch_unwind(AssertUnwindSafe(|| self.group(first, &mut jobs))).unwrap_or(Err(Error::Panicked));
        let failure = outcome.err().map(Arc::new);
        if let Some(e) = &failure {
            tracing::error!(error = %e, closures = jobs.len(), "write transaction failed");
            self.scope.forget();
        }
        for job in jobs {
            job.answer(failure.as_ref().map(|e| Error::Commit(Arc::clone(e))));
        }
    }

    /// Runs a group of jobs in one transaction, and again if that was undone. `jobs` are those whose answer depends on the outcome.
    fn group(&self, first: BoxJob<S>, jobs: &mut Vec<BoxJob<S>>) -> Result<(), Error> {
        jobs.push(first);
        let mut attempt = 1;
        loop {
            let run = self.group_once(jobs, attempt == 1);
            match run {
                Err(e) if attempt < GROUP_ATTEMPTS && e.is_undone() => {
                    tracing::debug!(error = %e, closures = jobs.len(), "transaction was undone, running it again");
                    // Those who were in the way shall be first now, or they are again.
                    self.env.runtime.block_on(tokio::time::sleep(UNDONE_PAUSE.saturating_mul(attempt)));
                    attempt = attempt.saturating_add(1);
                }
                run => return run,
            }
        }
    }

    /// Runs jobs in one transaction; with `join` also those that wait meanwhile.
    fn group_once(&self, jobs: &mut Vec<BoxJob<S>>, join: bool) -> Result<(), Error> {
        let (conn, ctx) = self.begin_group()?;
        match self.run_jobs(&conn, ctx, jobs, join) {
            Ok(Some(ctx)) => {
                self.keep_writer(conn);
                self.scope.publish(ctx);
                Ok(())
            }
            Ok(None) => {
                if Self::statement(&conn, "ROLLBACK").is_ok() {
                    self.keep_writer(conn);
                }
                Ok(())
            }
            Err(e) => {
                if e.is_undone() && Self::statement(&conn, "ROLLBACK").is_ok() {
                    self.keep_writer(conn);
                }
                Err(e)
            }
        }
    }

    /// Runs jobs and commits; none if the only one failed, and nothing was committed. Jobs that fail by themselves are answered and
    /// taken out of the list.
    fn run_jobs(&self, conn: &Conn, mut ctx: S::Ctx, jobs: &mut Vec<BoxJob<S>>, join: bool) -> Result<Option<S::Ctx>, Error> {
        let started = self.env.clock.monotonic();
        let tx = Tx::new(conn, &*self.env.faults);
        let mut at = 0;
        loop {
            if at == jobs.len() {
                if !join || at >= GROUP || self.env.clock.monotonic().saturating_sub(started) >= GROUP_TIME {
                    break;
                }
                let Some(job) = self.queue.next() else { break };
                jobs.push(job);
            }
            // One alone needs no savepoint: undoing it is undoing the transaction.
            let alone = join && at == 0;
            let before = (!alone).then(|| ctx.clone());
            if !alone {
                Self::statement(conn, "SAVEPOINT job")?;
            }
            let Some(job) = jobs.get_mut(at) else { break };
            let keep = job.run(&tx, &mut ctx);
            if tx.undone() {
                return Err(Error::Undone);
            }
            if keep {
                if !alone {
                    Self::statement(conn, "RELEASE job")?;
                }
                at = at.saturating_add(1);
                continue;
            }
            let failed = jobs.remove(at);
            let Some(before) = before else {
                failed.answer(None);
                return Ok(None);
            };
            ctx = before;
            // On a full disk SQLite may have ended the whole transaction: then this fails, and so do all.
            let undone = Self::statement(conn, "ROLLBACK TO job").and_then(|()| Self::statement(conn, "RELEASE job"));
            failed.answer(None);
            undone?;
        }
        if jobs.is_empty() {
            return Ok(None);
        }
        self.scope.flush(&tx, &mut ctx)?;
        self.commit(conn)?;
        Ok(Some(ctx))
    }

    fn begin_group(&self) -> Result<(Conn, S::Ctx), Error> {
        let mut attempt = 1;
        loop {
            let begun = self.begin_once();
            match begun {
                Err(e) if attempt < BEGIN_ATTEMPTS && (e.is_conflict() || e.is_disconnect()) => attempt += 1,
                begun => return begun,
            }
        }
    }

    fn begin_once(&self) -> Result<(Conn, S::Ctx), Error> {
        let kept = lock(&self.writer).take();
        let conn = kept.map_or_else(|| self.connect(true), Ok)?;
        self.begin(&conn, true)?;
        let ctx = self.scope.begin(&Tx::new(&conn, &*self.env.faults))?;
        Ok((conn, ctx))
    }

    fn read<T, E: From<Error>>(&self, f: impl FnOnce(&Tx<'_>) -> Result<T, E>) -> Result<T, E> {
        let conn = self.begin_read()?;
        let result = f(&Tx::new(&conn, &*self.env.faults));
        if Self::statement(&conn, "ROLLBACK").is_ok() {
            self.keep_reader(conn);
        }
        result
    }

    fn begin_read(&self) -> Result<Conn, Error> {
        // What is at the file's place by now may be another account's.
        if self.queue.is_closed() {
            return Err(Error::Closed);
        }
        let mut attempt = 1;
        loop {
            let kept = lock(&self.readers).pop();
            let conn = kept.map_or_else(|| self.connect(false), Ok)?;
            match self.begin(&conn, false) {
                Ok(()) => return Ok(conn),
                // A connection that was kept over a restart of PostgreSQL.
                Err(e) if attempt < BEGIN_ATTEMPTS && e.is_disconnect() => attempt += 1,
                Err(e) => return Err(e),
            }
        }
    }

    fn keep_reader(&self, conn: Conn) {
        match (conn, &self.location) {
            (Conn::Postgres(c), Location::Postgres(pool)) => pool.give(*c),
            (conn, _) => {
                let mut readers = lock(&self.readers);
                if readers.len() < READERS_KEPT {
                    readers.push(conn);
                }
            }
        }
    }

    /// Drops idle connections, on a blocking thread: SQLite's last one copies the log into the file.
    fn release(&self) {
        let readers = std::mem::take(&mut *lock(&self.readers));
        let writer = lock(&self.writer).take();
        drop(readers);
        drop(writer);
    }

    fn is_checkpoint_due(&self) -> bool {
        matches!(self.location, Location::Sqlite(_)) && self.checkpoints.is_due()
    }

    fn checkpoint_if_due(self: &Arc<Self>) {
        let Location::Sqlite(path) = &self.location else { return };
        match self.checkpoints.begin() {
            None => {}
            Some(Copier::Writer) => self.checkpoints.copy(path, Copier::Writer),
            Some(Copier::Background) => {
                let inner = Arc::clone(self);
                drop(self.env.runtime.spawn_blocking(move || {
                    if let Location::Sqlite(path) = &inner.location {
                        inner.checkpoints.copy(path, Copier::Background);
                    }
                }));
            }
        }
    }
}

/// Connections must not be dropped on the reactor, see [`Inner::release`].
impl<S: Scope> Drop for Inner<S> {
    fn drop(&mut self) {
        let readers = std::mem::take(&mut *lock(&self.readers));
        let writer = lock(&self.writer).take();
        if writer.is_some() || !readers.is_empty() {
            drop(self.env.runtime.spawn_blocking(move || drop((readers, writer))));
        }
    }
}
