//! How much of each account waits in the queue: counted in the transactions that change it, so that a limit costs no count.
//!
//! As for totals (`tally`), PostgreSQL's connections have rows of their own, so that nodes don't wait for each other. Two
//! submissions at once may thus each see room for one: the limit protects the server, it is no promise.

use super::AddError;
use crate::db::{Error, Sql, Tx};
use crate::params;

/// How much of an account may wait in the queue; zeros for no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueRoom {
    /// Recipients.
    pub messages: u32,
    /// Bytes of messages, each counted once whatever its recipients.
    pub bytes: u64,
}

/// Takes room for a submission, if the limits leave any.
pub(super) fn take(tx: &Tx<'_>, account: &str, (entries, bytes): (usize, u64), limits: Option<QueueRoom>) -> Result<(), AddError> {
    let (entries, bytes) = (i64::try_from(entries).unwrap_or(i64::MAX), i64::try_from(bytes).unwrap_or(i64::MAX));
    if let Some(limits) = limits.filter(|limits| *limits != QueueRoom::default()) {
        let (waiting, size) = taken(tx, account)?;
        if limits.messages > 0 && waiting.saturating_add(entries) > i64::from(limits.messages) {
            return Err(AddError::QueuedMessages);
        }
        if limits.bytes > 0 && size.saturating_add(bytes) > i64::try_from(limits.bytes).unwrap_or(i64::MAX) {
            return Err(AddError::QueuedSize);
        }
    }
    Ok(change(tx, account, entries, bytes)?)
}

/// Gives back the room of an entry that leaves the queue, and of its message when that goes with it.
pub(super) fn give_back(tx: &Tx<'_>, account: &str, entries: i64, bytes: i64) -> Result<(), Error> {
    change(tx, account, entries.saturating_neg(), bytes.saturating_neg())
}

fn taken(tx: &Tx<'_>, account: &str) -> Result<(i64, i64), Error> {
    let sql =
        "SELECT CAST(coalesce(sum(entries), 0) AS BIGINT), CAST(coalesce(sum(bytes), 0) AS BIGINT) FROM queue_room WHERE account = $1";
    tx.query_row(sql, params![account], |row| Ok((row.int(0)?, row.int(1)?)))
}

fn change(tx: &Tx<'_>, account: &str, entries: i64, bytes: i64) -> Result<(), Error> {
    let conflict = "ON CONFLICT (account, shard) DO UPDATE SET entries = queue_room.entries + excluded.entries, \
                    bytes = queue_room.bytes + excluded.bytes";
    let sqlite = format!("INSERT INTO queue_room (account, shard, entries, bytes) VALUES ($1, 0, $2, $3) {conflict}");
    let postgres = format!("INSERT INTO queue_room (account, shard, entries, bytes) VALUES ($1, pg_backend_pid() % 64, $2, $3) {conflict}");
    tx.exec(Sql { sqlite: &sqlite, postgres: &postgres }, params![account, entries, bytes])?;
    Ok(())
}
