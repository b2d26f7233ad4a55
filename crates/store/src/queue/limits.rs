//! How much an account has sent: counted, and limited, in the transaction that queues.
//!
//! `queue_sent` counts recipients per account and ten minutes, so that looking back 24 hours costs at most 144 rows,
//! whatever was sent; limits are thus up to ten minutes too strict. `queue_written` remembers for ever to whom an account has written: a stolen account
//! is told by writing to many who are new.

use super::AddError;
use super::add::NewEntry;
use super::schema::SENT_BUCKET;
use crate::db::{Error, Tx};
use crate::params;
use mox_base::Timestamp;
use std::collections::BTreeSet;
use std::time::Duration;

/// How far back the limits look.
const WINDOW: Duration = Duration::from_secs(24 * 3600);

/// How much an account may send in 24 hours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendLimits {
    /// Recipients.
    pub messages: u32,
    /// Recipients to whom it never wrote before.
    pub first_time: u32,
}

/// Counts what is being sent to these addresses, if that is within the limits. Who is named several times gets as many messages.
pub(super) fn count(tx: &Tx<'_>, account: &str, entries: &[NewEntry], now: Timestamp, limits: SendLimits) -> Result<(), AddError> {
    let recipients: BTreeSet<String> = entries.iter().map(|e| e.recipient.to_string()).collect();
    let bucket = |t: Timestamp| t.secs().div_euclid(SENT_BUCKET);
    let (current, oldest) = (bucket(now), bucket(now.before(WINDOW)));
    let sql = "SELECT CAST(coalesce(sum(messages), 0) AS BIGINT), CAST(coalesce(sum(first_time), 0) AS BIGINT) FROM queue_sent WHERE account = $1 AND bucket >= $2";
    let (sent, new) = tx.query_row(sql, params![account, oldest], |row| Ok::<_, Error>((row.int(0)?, row.int(1)?)))?;
    let messages = i64::try_from(entries.len()).unwrap_or(i64::MAX);
    if sent.saturating_add(messages) > i64::from(limits.messages) {
        return Err(AddError::MessageLimit);
    }
    // In their order, so that two servers that add at once don't wait for each other.
    let mut first_time: i64 = 0;
    for recipient in &recipients {
        let sql = "INSERT INTO queue_written (account, recipient) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING 1";
        let inserted = tx.query_opt(sql, params![account, recipient], |row| row.int(0))?;
        first_time = first_time.saturating_add(inserted.unwrap_or(0));
    }
    if new.saturating_add(first_time) > i64::from(limits.first_time) {
        return Err(AddError::FirstTimeLimit);
    }
    let sql = "INSERT INTO queue_sent (account, bucket, messages, first_time) VALUES ($1, $2, $3, $4) ON CONFLICT (account, bucket) \
               DO UPDATE SET messages = queue_sent.messages + excluded.messages, first_time = queue_sent.first_time + excluded.first_time \
               RETURNING messages";
    let in_bucket = tx.query_row(sql, params![account, current, messages, first_time], |row| row.int(0))?;
    if in_bucket == messages {
        // The first of this bucket: a good moment to forget those that don't count any more.
        tx.exec("DELETE FROM queue_sent WHERE account = $1 AND bucket < $2", params![account, oldest])?;
    }
    Ok(())
}
