//! Adding a webhook, in the transaction of what it tells of.

use super::row::{Event, WebhookId};
use super::{finish, row::CallResult};
use crate::db::{Error, Sql, Tx};
use crate::params;
use crate::queue::tally;
use mox_base::{QueueId, Secret, Timestamp};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

/// A webhook to be called. What the configuration says at this moment is what stays, later changes don't matter.
#[derive(Clone, Debug)]
pub struct NewWebhook {
    /// The queue entry it is about; none for a message that arrived.
    pub queue_id: Option<QueueId>,
    /// What in the reverse-path identified the entry; may be empty.
    pub from_id: String,
    /// Of the message, with angle brackets.
    pub message_id: String,
    /// Of the message.
    pub subject: String,
    /// The submitter's own data.
    pub extra: BTreeMap<String, String>,
    /// Whose webhook it is.
    pub account: String,
    /// Where to.
    pub url: String,
    /// Value of the Authorization header.
    pub authorization: Option<Secret<String>>,
    /// What the body is signed with.
    pub secret: Option<Secret<String>>,
    /// What it tells of.
    pub event: Event,
    /// The body: JSON.
    pub payload: String,
    /// Now; it is due at once.
    pub submitted: Timestamp,
    /// How long webhooks of the account are remembered that this one replaces; none for not at all.
    pub keep_replaced: Option<Duration>,
}

/// Adds a webhook. An [`Event::Delayed`] about the same queue entry that still waits, or is just being called, is replaced by it.
///
/// After the commit, call [`super::Webhooks::wake`].
///
/// # Errors
/// The database failed.
pub fn insert(tx: &Tx<'_>, webhook: &NewWebhook) -> Result<WebhookId, Error> {
    let key = url_key(&webhook.url);
    let mut replaced = Vec::new();
    if let Some(queue_id) = webhook.queue_id {
        tx.query("SELECT id FROM webhook WHERE queue_id = $1 AND event = $2", params![queue_id, Event::Delayed.name()], |row| {
            replaced.push(WebhookId(row.int(0)?));
            Ok::<_, Error>(())
        })?;
    }
    let id = tx.query_row(
        "INSERT INTO webhook (queue_id, from_id, message_id, subject, extra, account, url, url_key, auth_value, secret, event, submitted, \
         attempts, next_attempt, payload) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, 0, $12, $13) RETURNING id",
        params![
            webhook.queue_id,
            &without_nul(&webhook.from_id),
            &without_nul(&webhook.message_id),
            &without_nul(&webhook.subject),
            &extra_text(&webhook.extra),
            &webhook.account,
            &without_nul(&webhook.url),
            &key,
            webhook.authorization.as_ref().map(|s| without_nul(s.expose())).as_ref(),
            webhook.secret.as_ref().map(|s| without_nul(s.expose())).as_ref(),
            webhook.event.name(),
            webhook.submitted,
            &without_nul(&webhook.payload),
        ],
        |row| Ok::<_, Error>(WebhookId(row.int(0)?)),
    )?;
    for old in replaced {
        let keep_until = webhook.keep_replaced.map(|period| webhook.submitted.after(period));
        finish::retire(tx, old, finish::Retiring { superseded_by: Some(id), success: false, now: webhook.submitted, keep_until })?;
    }
    lower_due(tx, &key, webhook.submitted)?;
    tally::add(tx, tally::WEBHOOKS, 1)?;
    Ok(id)
}

/// Makes the URL due no later than `next`; other servers may do the same at the same time.
fn lower_due(tx: &Tx<'_>, key: &str, next: Timestamp) -> Result<(), Error> {
    let upsert = "INSERT INTO webhook_url (url_key, next_due, leased_until, owner) VALUES ($1, $2, 0, 0) ON CONFLICT (url_key) DO UPDATE SET next_due = ";
    let sqlite = format!("{upsert} min(coalesce(webhook_url.next_due, excluded.next_due), excluded.next_due)");
    // LEAST ignores NULLs.
    let postgres = format!("{upsert} LEAST(webhook_url.next_due, excluded.next_due)");
    tx.exec(Sql { sqlite: &sqlite, postgres: &postgres }, params![key, next])?;
    Ok(())
}

/// The longest URL that is its own key: PostgreSQL's indexes take rows of up to 2700 bytes.
const KEY_LENGTH: usize = 500;

/// What stands for a URL in indexes.
pub(super) fn url_key(url: &str) -> String {
    let url = without_nul(url);
    if url.len() <= KEY_LENGTH {
        return url;
    }
    let mut key = String::from("sha256:");
    for byte in Sha256::digest(url.as_bytes()) {
        // Writing to a String can't fail.
        let _written = write!(key, "{byte:02x}");
    }
    key
}

/// Appends a result.
pub(super) fn append_result(tx: &Tx<'_>, id: WebhookId, result: &CallResult) -> Result<(), Error> {
    let next = "SELECT coalesce(max(number), 0) + 1 FROM webhook_result WHERE webhook = $1";
    let number = tx.query_row(next, params![id], |row| row.int(0))?;
    tx.exec(
        "INSERT INTO webhook_result (webhook, number, start, duration, url, success, code, error, response) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        params![
            id,
            number,
            result.start,
            super::finish::micros(result.duration),
            &without_nul(&result.url),
            result.success,
            result.code,
            &without_nul(&result.error),
            &without_nul(&result.response),
        ],
    )?;
    Ok(())
}

/// Text for a database that refuses NUL.
pub(super) fn without_nul(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

fn extra_text(extra: &BTreeMap<String, String>) -> String {
    // A map of strings always can be written; it escapes NUL.
    serde_json::to_string(extra).unwrap_or_else(|_| "{}".to_owned())
}
