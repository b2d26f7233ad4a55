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
mod claim;
mod entry;
mod events;
mod filter;
mod finish;
mod hold;
mod idempotency;
mod limits;
mod lookup;
mod schema;
pub mod suppression;

pub use add::{AddError, AddStep, NewEntry, NewMessage};
pub use admin::{Cancel, Page, Reschedule};
pub use body::{Body, OpenBody};
pub use claim::{Claim, Claiming, Owner};
pub use entry::{
    AttemptResult, DEFAULT_MAX_ATTEMPTS, DialedIps, Entry, Listed, Notify, QueueMessageId, QueuedMessage, ReportKind, RetiredEntry, Via,
    parse_path,
};
pub use events::{Aftermath, Event, EventEntry, EventKind, NoAftermath};
pub use filter::{Filter, Sort, SortField, TimeBound, TimeBoundError, parse_duration};
pub use finish::{Ending, Finished, Outcome};
pub use hold::HoldRule;
pub use idempotency::{EarlierAnswer, KEPT as REQUEST_KEPT, MakeAnswer, OncePerKey, RequestKey};
pub use limits::SendLimits;
pub use lookup::{by_envelope_id, by_from_id, by_message_id, note_returned};

use crate::db::{Database, Env, Error, Location, Sql, Tx};
use crate::params;
use crate::webhook::Webhooks;
use mox_base::Timestamp;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::Notify as Wakeup;

/// How often a transaction is tried that was in another server's way.
pub(crate) const CONFLICT_ATTEMPTS: usize = 5;

/// The queue. Clones are handles to the same one.
#[derive(Clone, Debug)]
pub struct Queue {
    db: Database,
    /// Where large messages are.
    folder: Arc<PathBuf>,
    changed: Arc<Wakeup>,
    webhooks_changed: Arc<Wakeup>,
}

impl Queue {
    /// Opens the queue, making its tables and its folder for large messages when missing.
    ///
    /// # Errors
    /// The database can't be opened, or is newer than this program.
    pub async fn open(env: Env, location: Location, folder: PathBuf) -> Result<Self, Error> {
        let alone = matches!(location, Location::Sqlite(_));
        let made = folder.clone();
        tokio::task::spawn_blocking(move || std::fs::create_dir_all(made)).await.map_err(|_| Error::Panicked)??;
        let db = Database::open(env, location, &schema::SCHEMA, ()).await?;
        if alone {
            db.write(|tx| {
                tx.exec("UPDATE queue_domain SET leased_until = 0 WHERE leased_until > 0", &[])?;
                crate::webhook::end_leases(tx)
            })
            .await?;
        }
        let queue = Self { db, folder: Arc::new(folder), changed: Arc::new(Wakeup::new()), webhooks_changed: Arc::new(Wakeup::new()) };
        if alone {
            queue.sweep_files().await?;
        }
        Ok(queue)
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
        self.db
            .read(move |tx| {
                let sql = "SELECT next_due FROM queue_domain WHERE next_due IS NOT NULL AND leased_until <= $1 ORDER BY next_due LIMIT 1";
                tx.query_opt(sql, params![now], |row| Ok(Timestamp::from_micros(row.int(0)?)))
            })
            .await
    }

    /// Finishes what was begun and closes the database.
    pub async fn close(&self) {
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
    let earliest = "SELECT next_attempt FROM queue_entry WHERE domain = $1 AND hold = 0 ORDER BY next_attempt, id LIMIT 1";
    let next_due = tx.query_opt(earliest, params![domain], |row| row.int(0))?;
    let any = next_due.is_some()
        || tx.query_opt("SELECT 1 FROM queue_entry WHERE domain = $1 LIMIT 1", params![domain], |row| row.int(0))?.is_some();
    if any || leased_until > 0 {
        tx.exec("UPDATE queue_domain SET next_due = $1, leased_until = $2 WHERE domain = $3", params![next_due, leased_until, domain])?;
    } else {
        tx.exec("DELETE FROM queue_domain WHERE domain = $1", params![domain])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
