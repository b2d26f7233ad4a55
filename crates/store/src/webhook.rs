//! Webhooks waiting to be called, and those that are done: rows beside the queue's, in its database.
//!
//! A webhook is written by [`insert`] in the transaction of what it tells of, so that neither is there without the other. [`Webhooks::claim`]
//! hands out at most one for each URL, under a lease, after noting its attempt: a crash costs an attempt and never a webhook.
//! [`Webhooks::finish`] records what came of it. When and how to call is decided in `delivery`.
//!
//! About one queued message, a newer event replaces a waiting [`Event::Delayed`], which it makes pointless. Events that are
//! final are all delivered, in their order: the later waits while an earlier one to the same URL does.

mod admin;
mod claim;
mod filter;
mod finish;
mod insert;
mod row;
pub(crate) mod schema;

pub use filter::{Filter, Sort, SortField};
pub use finish::{Ending, Finished, Outcome};
pub use insert::{NewWebhook, insert};
pub use row::{CallResult, Event, ListedWebhook, RetiredWebhook, Webhook, WebhookId};

pub use claim::Claiming;

use crate::db::{Database, Error, Sql, Tx};
use crate::params;
use crate::queue::{CONFLICT_ATTEMPTS, Owner};
use mox_base::{AccountId, MessageId, Timestamp};
use std::sync::Arc;
use tokio::sync::Notify as Wakeup;

/// The webhooks of a queue. Clones are handles to the same ones.
#[derive(Clone, Debug)]
pub struct Webhooks {
    db: Database,
    changed: Arc<Wakeup>,
}

impl Webhooks {
    pub(crate) const fn new(db: Database, changed: Arc<Wakeup>) -> Self {
        Self { db, changed }
    }

    /// Waits until webhooks were added or changed since the last call, by this handle or a clone.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// To be called after a transaction with [`insert`] was committed: wakes who waits in [`Webhooks::changed`].
    pub fn wake(&self) {
        self.changed.notify_one();
    }

    /// When the earliest webhook is due to whose URL no call is going on; none if there is none.
    ///
    /// # Errors
    /// The database failed.
    pub async fn next_due(&self, now: Timestamp) -> Result<Option<Timestamp>, Error> {
        self.db
            .read(move |tx| {
                let sql = "SELECT next_due FROM webhook_url WHERE next_due IS NOT NULL AND leased_until <= $1 ORDER BY next_due LIMIT 1";
                tx.query_opt(sql, params![now], |row| Ok(Timestamp::from_micros(row.int(0)?)))
            })
            .await
    }

    /// Adds a webhook by itself, for what isn't told of in a transaction of the queue's.
    ///
    /// # Errors
    /// The database failed: it isn't there, unless the database can't tell.
    pub async fn add(&self, webhook: NewWebhook) -> Result<WebhookId, Error> {
        let webhook = Arc::new(webhook);
        let id = self.write(move |tx| insert(tx, &webhook)).await?;
        self.wake();
        Ok(id)
    }

    /// Tells of a message that arrived in an account, in one transaction with noting that it was told of; none if it was
    /// before. Of an account, messages are told of in the order of their ids.
    ///
    /// # Errors
    /// The closure's, or the database's: then it wasn't told of, unless the database can't tell.
    pub async fn tell<T, F>(&self, account: AccountId, message: MessageId, f: F) -> Result<Option<T>, Error>
    where
        F: Fn(&Tx<'_>) -> Result<T, Error> + Clone + Send + 'static,
        T: Send + 'static,
    {
        let told = self
            .write(move |tx| {
                let newer = "INSERT INTO webhook_arrival (account, message) VALUES ($1, $2) ON CONFLICT (account) DO UPDATE \
                             SET message = excluded.message WHERE webhook_arrival.message < excluded.message";
                if tx.exec(newer, params![account, message])? == 0 {
                    return Ok(None);
                }
                f(tx).map(Some)
            })
            .await?;
        self.wake();
        Ok(told)
    }

    /// Runs a transaction, again when another server's was in its way.
    async fn write<T, F>(&self, f: F) -> Result<T, Error>
    where
        F: Fn(&Tx<'_>) -> Result<T, Error> + Clone + Send + 'static,
        T: Send + 'static,
    {
        let mut attempt = 1;
        loop {
            match self.db.write(f.clone()).await {
                Err(e) if attempt < CONFLICT_ATTEMPTS && crate::queue::is_conflict(&e) => attempt += 1,
                result => return result,
            }
        }
    }
}

/// Ends all leases: for a database that only this process uses.
pub(crate) fn end_leases(tx: &Tx<'_>) -> Result<(), Error> {
    tx.exec("UPDATE webhook_url SET leased_until = 0 WHERE leased_until > 0", &[]).map(|_| ())
}

/// What a webhook waits for that is itself not due: an earlier one to the same URL about the same message.
const NOT_BLOCKED: &str = "NOT EXISTS (SELECT 1 FROM webhook b WHERE b.queue_id = w.queue_id AND b.url_key = w.url_key AND b.id < w.id)";

/// Makes a URL's row say when its earliest webhook is due; without webhooks, it goes. With `release`, its lease ends if it
/// is that owner's.
fn refresh_url(tx: &Tx<'_>, key: &str, release: Option<Owner>) -> Result<(), Error> {
    // The row is locked first: who adds a webhook meanwhile waits, and then lowers the time by itself.
    let lock = Sql {
        sqlite: "SELECT leased_until, owner FROM webhook_url WHERE url_key = $1",
        postgres: "SELECT leased_until, owner FROM webhook_url WHERE url_key = $1 FOR UPDATE",
    };
    let Some((mut leased_until, owner)) = tx.query_opt(lock, params![key], |row| Ok::<_, Error>((row.int(0)?, row.int(1)?)))? else {
        return Ok(());
    };
    if release.is_some_and(|release| release.0 == owner) {
        leased_until = 0;
    }
    let earliest =
        format!("SELECT w.next_attempt FROM webhook w WHERE w.url_key = $1 AND {NOT_BLOCKED} ORDER BY w.next_attempt, w.id LIMIT 1");
    let next_due = tx.query_opt(&earliest, params![key], |row| row.int(0))?;
    if next_due.is_some() || leased_until > 0 {
        tx.exec("UPDATE webhook_url SET next_due = $1, leased_until = $2 WHERE url_key = $3", params![next_due, leased_until, key])?;
    } else {
        tx.exec("DELETE FROM webhook_url WHERE url_key = $1", params![key])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
