//! The queue's rows: who is to get which message, when it is tried next, and what came of it.
//!
//! A database of its own, so that queueing never waits for an account's writer. One entry per recipient; the message is
//! kept once for all entries of a submission and goes with the last of them. [`Queue::claim`] hands out the entries of
//! one recipient domain at a time, under a lease; [`Queue::finish`] records what came of them, in one transaction with
//! the end of the lease. When and how to deliver is decided in `delivery`; this only promises that an entry is either
//! there, or was ended by a recorded outcome.
//!
//! Several servers may share the queue on PostgreSQL: a domain's row is locked while it is claimed (`SKIP LOCKED`), and
//! a lease that isn't renewed ends by itself. On SQLite there is one server, and opening ends all leases.

mod add;
mod admin;
mod body;
mod check;
mod claim;
mod copy;
mod entry;
mod events;
mod filter;
mod finish;
mod hold;
mod idempotency;
mod limits;
mod lookup;
mod pause;
mod room;
mod schema;
mod signature;
pub mod suppression;
pub(crate) mod tally;

pub use crate::selection::TimeBound;
pub use add::{AddError, AddStep, NewEntry, NewMessage};
pub use admin::{Cancel, Page, Reschedule};
pub use body::{Body, OpenBody, Reading};
pub use check::QueueReport;
pub use claim::{Claim, Claiming, Owner};
pub use copy::{CopyId, SentCopy, WithCopy};
pub use entry::{
    AttemptResult, DEFAULT_MAX_ATTEMPTS, DialedIps, Entry, Listed, Notify, QueueMessageId, QueuedMessage, ReportKind, RetiredEntry,
    Signature, Urgency, Via, parse_path,
};
pub use events::{Aftermath, Event, EventEntry, EventKind, NoAftermath};
pub use filter::{Filter, Sort, SortField, TimeBoundError, parse_duration};
pub use finish::{Ending, Finished, Outcome};
pub use hold::{HeldEntry, HoldReason, HoldRule};
pub use idempotency::{EarlierAnswer, KEPT as REQUEST_KEPT, MakeAnswer, OncePerKey, RequestKey};
pub use limits::SendLimits;
pub use lookup::{by_envelope_id, by_from_id, by_message_id, note_returned, only_by_message_id};
pub use pause::Pause;
pub use room::QueueRoom;

use crate::blob::BlobStore;
use crate::db::{Database, Env, Error, Location, Sql, Tx};
use crate::params;
use crate::webhook::Webhooks;
use mox_base::{Clock, Random, Timestamp};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Notify as Wakeup;

/// How often a transaction is tried that was in another server's way.
pub(crate) const CONFLICT_ATTEMPTS: usize = 5;

/// Bodies without entry are old enough to be deleted after this time, where other servers may be adding some.
const ORPHAN_AGE: Duration = Duration::from_secs(24 * 3600);

/// The queue. Clones are handles to the same one.
#[derive(Clone, Debug)]
pub struct Queue {
    db: Database,
    /// Where large bodies are.
    blobs: Arc<dyn BlobStore>,
    random: Arc<dyn Random>,
    clock: Arc<dyn Clock>,
    /// Entries may have been held, or let go.
    hold_changed: Arc<AtomicBool>,
    filed: Arc<copy::Filed>,
    check_on_close: Option<fn(&str, &[String])>,
    changed: Arc<Wakeup>,
    webhooks_changed: Arc<Wakeup>,
}

impl Queue {
    /// Opens the queue, making its tables when missing. Large bodies are in `blobs`.
    ///
    /// # Errors
    /// The database can't be opened, or is newer than this program.
    pub async fn open(env: Env, location: Location, blobs: Arc<dyn BlobStore>, random: Arc<dyn Random>) -> Result<Self, Error> {
        let alone = matches!(location, Location::Sqlite(_));
        let before = if alone { Timestamp::from_micros(i64::MAX) } else { env.clock.now().before(ORPHAN_AGE) };
        let clock = Arc::clone(&env.clock);
        body::check_unused(&env, &location, &blobs).await?;
        let db = Database::open(env, location, &schema::SCHEMA, ()).await?;
        if alone {
            db.write(|tx| {
                tx.exec("UPDATE queue_domain SET leased_until = 0 WHERE leased_until > 0", &[])?;
                crate::webhook::end_leases(tx)
            })
            .await?;
        }
        let queue = Self {
            db,
            blobs,
            random,
            clock,
            hold_changed: Arc::new(AtomicBool::new(true)),
            filed: Arc::default(),
            check_on_close: None,
            changed: Arc::new(Wakeup::new()),
            webhooks_changed: Arc::new(Wakeup::new()),
        };
        queue.sweep(before, alone).await?;
        Ok(queue)
    }

    /// Verifies everything when the queue is closed, and tells of problems.
    #[must_use]
    pub(crate) fn checked_on_close(self, tell: Option<fn(&str, &[String])>) -> Self {
        Self { check_on_close: tell, ..self }
    }

    /// The webhooks in the queue's database.
    #[must_use]
    pub fn webhooks(&self) -> Webhooks {
        Webhooks::new(self.db.clone(), Arc::clone(&self.webhooks_changed))
    }

    /// Waits until entries were added or changed since the last call, by this handle or a clone.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Whether entries may have been held or let go since this was last asked.
    pub fn hold_changed(&self) -> bool {
        self.hold_changed.swap(false, Ordering::AcqRel)
    }

    /// Wakes who delivers entries, and who calls webhooks.
    fn wake(&self) {
        self.changed.notify_one();
        self.webhooks_changed.notify_one();
    }

    /// When the earliest entry is due that isn't held and to whose domain nobody is delivering; none if there is none.
    ///
    /// # Errors
    /// The database failed.
    pub async fn next_due(&self, now: Timestamp) -> Result<Option<Timestamp>, Error> {
        self.db.read(move |tx| tx.query_opt(NEXT_DUE, params![now], |row| Ok(Timestamp::from_micros(row.int(0)?)))).await
    }

    /// Finishes what was begun and closes the database.
    pub async fn close(&self) {
        // Best effort: what stays is found again, and noticed to be there.
        drop(self.copies_forgotten().await);
        if let Some(tell) = self.check_on_close {
            match self.check().await {
                Ok(report) if report.is_clean() => {}
                Ok(report) => tell("queue", &report.problems),
                Err(e) => tracing::warn!(error = %e, "queue not checked"),
            }
        }
        self.db.close().await;
    }

    /// Runs a transaction, again when another server's was in its way.
    async fn write<T, E, F>(&self, f: F) -> Result<T, E>
    where
        F: Fn(&Tx<'_>) -> Result<T, E> + Clone + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Conflict + Send + 'static,
    {
        let mut attempt = 1;
        loop {
            match self.db.write(f.clone()).await {
                Err(e) if attempt < CONFLICT_ATTEMPTS && e.conflict() => attempt += 1,
                result => return result,
            }
        }
    }
}

/// Whether an error may come from another server's transaction.
pub(crate) fn is_conflict(e: &Error) -> bool {
    e.conflict()
}

/// Errors that may come from another server's transaction.
trait Conflict {
    fn conflict(&self) -> bool;
}

impl Conflict for Error {
    fn conflict(&self) -> bool {
        match self {
            Self::Commit(cause) => cause.conflict(),
            e => e.is_conflict(),
        }
    }
}

/// When the first of all domains is due.
const NEXT_DUE: &str = "SELECT next_due FROM queue_domain WHERE next_due IS NOT NULL AND leased_until <= $1 ORDER BY next_due LIMIT 1";

/// When a domain's first entry of a class is due.
const EARLIEST: &str =
    "SELECT next_attempt FROM queue_entry WHERE domain = $1 AND hold = 0 AND bulk = $2 ORDER BY next_attempt, id LIMIT 1";

/// Makes a domain's row say when its earliest entry is due; without entries, it goes. With `release`, its lease ends if
/// it is that owner's.
fn refresh_domain(tx: &Tx<'_>, domain: &str, release: Option<Owner>) -> Result<(), Error> {
    // The row is locked first: who adds an entry meanwhile waits, and then lowers the time by itself.
    let lock = Sql {
        sqlite: "SELECT leased_until, owner FROM queue_domain WHERE domain = $1",
        postgres: "SELECT leased_until, owner FROM queue_domain WHERE domain = $1 FOR UPDATE",
    };
    let Some((mut leased_until, owner)) = tx.query_opt(lock, params![domain], |row| Ok::<_, Error>((row.int(0)?, row.int(1)?)))? else {
        return Ok(());
    };
    if release.is_some_and(|release| release.0 == owner) {
        leased_until = 0;
    }
    let urgent = tx.query_opt(EARLIEST, params![domain, 0], |row| row.int(0))?;
    let bulk = tx.query_opt(EARLIEST, params![domain, 1], |row| row.int(0))?;
    let next_due = urgent.into_iter().chain(bulk).min();
    let any = next_due.is_some()
        || tx.query_opt("SELECT 1 FROM queue_entry WHERE domain = $1 LIMIT 1", params![domain], |row| row.int(0))?.is_some();
    if any || leased_until > 0 {
        let sql = "UPDATE queue_domain SET next_due = $1, next_urgent = $2, leased_until = $3 WHERE domain = $4";
        tx.exec(sql, params![next_due, urgent, leased_until, domain])?;
    } else {
        tx.exec("DELETE FROM queue_domain WHERE domain = $1", params![domain])?;
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests;
