//! To whom accounts have sent, for the limits on what an account may send in a day: a stolen password, or a mistake in a
//! script, mustn't become thousands of messages.
//!
//! A database of its own, `outgoing`, by the account's id: one row per submission of the past day with its number of recipients, and
//! one for each recipient ever, with when it was first written to. Limits count recipients, not messages.

use crate::db::schema::{Change, Column, Index, Key, Schema, Table};
use crate::db::{Database, Sql, Tx};
use crate::error::Error;
use crate::params;
use crate::store::Store;
use mox_base::{AccountId, Clock, Path, Timestamp};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// What limits look back on.
const WINDOW: Duration = Duration::from_secs(24 * 3600);

const SUBMISSION: Table = Table {
    name: "outgoing_submission",
    account: false,
    columns: &[Column::int("account_id"), Column::int("submitted"), Column::int("recipients")],
    key: Key::Auto("id"),
    indexes: &[Index { name: "outgoing_submission_by_time", columns: &["account_id", "submitted"], unique: false }],
};

const RECIPIENT: Table = Table {
    name: "outgoing_recipient",
    account: false,
    columns: &[Column::int("account_id"), Column::text("recipient"), Column::int("first")],
    key: Key::Columns(&["account_id", "recipient"]),
    indexes: &[Index { name: "outgoing_recipient_by_first", columns: &["account_id", "first"], unique: false }],
};

const SCHEMA: Schema = Schema { name: "outgoing", migrations: &[&[Change::Create(&SUBMISSION), Change::Create(&RECIPIENT)]] };

/// What an account may do in 24 hours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Recipients.
    pub messages: u32,
    /// Recipients it has never written to before.
    pub first_time: u32,
}

/// Which limit a submission would exceed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exceeded {
    /// That on recipients.
    Messages,
    /// That on first-time recipients.
    FirstTimeRecipients,
}

/// The records of all accounts. Clones are handles to the same ones.
#[derive(Clone, Debug)]
pub struct Outgoing {
    db: Database,
    clock: Arc<dyn Clock>,
}

impl Outgoing {
    /// Opens the records of a store.
    ///
    /// # Errors
    /// The database can't be opened.
    pub async fn open(store: &Store) -> Result<Self, Error> {
        Ok(Self { db: store.database("outgoing", &SCHEMA).await?, clock: Arc::clone(store.clock()) })
    }

    /// The limit that sending to these recipients would exceed, if any.
    ///
    /// # Errors
    /// The database failed.
    pub async fn may_send(&self, account: AccountId, recipients: &[Path], limits: Limits) -> Result<Option<Exceeded>, Error> {
        let since = self.clock.now().before(WINDOW);
        let new = i64::try_from(recipients.len()).unwrap_or(i64::MAX);
        let keys = keys(recipients);
        self.db.read(move |tx| check(tx, account, since, new, &keys, limits)).await
    }

    /// Records that an account has sent to these recipients.
    ///
    /// # Errors
    /// The database failed.
    pub async fn sent(&self, account: AccountId, recipients: &[Path]) -> Result<(), Error> {
        let now = self.clock.now();
        let count = i64::try_from(recipients.len()).unwrap_or(i64::MAX);
        let keys = keys(recipients);
        self.db
            .write(move |tx| {
                tx.exec("DELETE FROM outgoing_submission WHERE account_id = $1 AND submitted <= $2", params![account, now.before(WINDOW)])?;
                tx.exec(
                    "INSERT INTO outgoing_submission (account_id, submitted, recipients) VALUES ($1, $2, $3)",
                    params![account, now, count],
                )?;
                for key in &keys {
                    let sql = "INSERT INTO outgoing_recipient (account_id, recipient, first) VALUES ($1, $2, $3) ON CONFLICT (account_id, recipient) DO NOTHING";
                    tx.exec(sql, params![account, key, now])?;
                }
                Ok::<_, Error>(())
            })
            .await
    }

    /// Finishes what was begun and closes the database.
    pub async fn close(&self) {
        self.db.close().await;
    }
}

/// Recipients as they are compared: the localpart as it is, the domain in its Unicode form.
fn keys(recipients: &[Path]) -> BTreeSet<String> {
    recipients.iter().map(ToString::to_string).collect()
}

fn check(tx: &Tx<'_>, account: AccountId, since: Timestamp, new: i64, keys: &BTreeSet<String>, limits: Limits) -> Result<Option<Exceeded>, Error> {
    let sum = "SELECT coalesce(sum(recipients), 0) FROM outgoing_submission WHERE account_id = $1 AND submitted > $2";
    let as_int = "SELECT CAST(coalesce(sum(recipients), 0) AS BIGINT) FROM outgoing_submission WHERE account_id = $1 AND submitted > $2";
    let sent = tx.query_row(Sql { sqlite: sum, postgres: as_int }, params![account, since], |r| Ok::<_, Error>(r.int(0)?))?;
    let total = sent.saturating_add(new);
    if total > i64::from(limits.messages) {
        return Ok(Some(Exceeded::Messages));
    }
    // With fewer recipients than that, fewer can be new.
    if total < i64::from(limits.first_time) {
        return Ok(None);
    }
    let sql = "SELECT count(*) FROM outgoing_recipient WHERE account_id = $1 AND first > $2";
    let mut first_time = tx.query_row(sql, params![account, since], |r| Ok::<_, Error>(r.int(0)?))?;
    for key in keys {
        let sql = "SELECT 1 FROM outgoing_recipient WHERE account_id = $1 AND recipient = $2";
        if tx.query_opt(sql, params![account, key], |r| Ok::<_, Error>(r.int(0)?))?.is_none() {
            first_time = first_time.saturating_add(1);
        }
    }
    Ok((first_time > i64::from(limits.first_time)).then_some(Exceeded::FirstTimeRecipients))
}
