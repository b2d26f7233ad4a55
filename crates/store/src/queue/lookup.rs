//! Finding the entry that a message which came back is about, and noting that it came.

use super::entry::AttemptResult;
use super::events::EventEntry;
use super::finish::append_result;
use crate::db::{Error, Tx};
use crate::params;
use mox_base::{Path, QueueId, Timestamp};

/// By the id in the sender's address, whatever became of its case on the way; of several, the newest with just that case
/// first.
///
/// # Errors
/// The database failed.
pub fn by_from_id(tx: &Tx<'_>, from_id: &str) -> Result<Option<EventEntry>, Error> {
    let mut found = Vec::new();
    for sql in [
        format!(
            "SELECT {} FROM queue_entry e JOIN queue_message m ON m.id = e.message WHERE e.from_id_key = $1 ORDER BY e.id DESC LIMIT 10",
            EventEntry::QUEUED
        ),
        format!("SELECT {} FROM queue_retired e WHERE e.from_id_key = $1 ORDER BY e.id DESC LIMIT 10", EventEntry::RETIRED),
    ] {
        tx.query(&sql, params![&from_id_key(from_id)], |row| {
            found.push(EventEntry::from_row(row)?);
            Ok::<_, Error>(())
        })?;
    }
    let exact = found.iter().position(|entry| entry.from_id.as_deref() == Some(from_id));
    Ok(exact.or(if found.is_empty() { None } else { Some(0) }).map(|at| found.swap_remove(at)))
}

/// An account's entry to a recipient, by the ENVID that the message was submitted with, RFC 3461 §4.4.
///
/// # Errors
/// The database failed.
pub fn by_envelope_id(tx: &Tx<'_>, account: &str, envelope_id: &str, recipient: &Path) -> Result<Option<EventEntry>, Error> {
    by_message(tx, "envelope_id", Some(account), envelope_id, recipient)
}

/// An entry to a recipient, by its Message-ID, with angle brackets: of an account, or of any.
///
/// # Errors
/// The database failed.
pub fn by_message_id(tx: &Tx<'_>, account: Option<&str>, message_id: &str, recipient: &Path) -> Result<Option<EventEntry>, Error> {
    by_message(tx, "message_id", account, message_id, recipient)
}

/// The entry with a Message-ID, if there is just one, queued or retired: of an account, or of any.
///
/// # Errors
/// The database failed.
pub fn only_by_message_id(tx: &Tx<'_>, account: Option<&str>, message_id: &str) -> Result<Option<EventEntry>, Error> {
    let (message_id, account) = (super::entry::without_nul(message_id), account.unwrap_or_default());
    let mut found = Vec::new();
    for sql in [
        format!(
            "SELECT {} FROM queue_message m JOIN queue_entry e ON e.message = m.id WHERE m.message_id = $1 AND ($2 = '' OR e.account = $2) LIMIT 2",
            EventEntry::QUEUED
        ),
        format!("SELECT {} FROM queue_retired e WHERE e.message_id = $1 AND ($2 = '' OR e.account = $2) LIMIT 2", EventEntry::RETIRED),
    ] {
        tx.query(&sql, params![&message_id, account], |row| {
            found.push(EventEntry::from_row(row)?);
            Ok::<_, Error>(())
        })?;
    }
    Ok(if found.len() == 1 && !message_id.is_empty() { found.pop() } else { None })
}

fn by_message(tx: &Tx<'_>, column: &str, account: Option<&str>, value: &str, recipient: &Path) -> Result<Option<EventEntry>, Error> {
    if value.is_empty() {
        return Ok(None);
    }
    let (value, account) = (super::entry::without_nul(value), account.unwrap_or_default());
    for sql in [
        format!(
            "SELECT {} FROM queue_message m JOIN queue_entry e ON e.message = m.id WHERE m.{column} = $1 AND ($2 = '' OR e.account = $2) \
             AND e.recipient = $3 ORDER BY e.id DESC LIMIT 1",
            EventEntry::QUEUED
        ),
        format!(
            "SELECT {} FROM queue_retired e WHERE e.{column} = $1 AND ($2 = '' OR e.account = $2) AND e.recipient = $3 \
             ORDER BY e.id DESC LIMIT 1",
            EventEntry::RETIRED
        ),
    ] {
        let found = tx.query_opt(&sql, params![&value, account, &recipient.to_string()], EventEntry::from_row)?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// Notes what a message that came back says about an entry, and that something happened to it now. Its success stays.
///
/// # Errors
/// The database failed.
pub fn note_returned(tx: &Tx<'_>, id: QueueId, result: &AttemptResult, now: Timestamp) -> Result<(), Error> {
    append_result(tx, id, result)?;
    tx.exec("UPDATE queue_retired SET last_activity = $1 WHERE id = $2", params![now, id])?;
    Ok(())
}

/// What ids are compared by when their case may have changed.
pub(super) fn from_id_key(from_id: &str) -> String {
    // As lower() of both databases: ASCII only.
    super::entry::without_nul(from_id).to_ascii_lowercase()
}
