//! What came of calls: recorded, and ended in the same transaction when it was final.

use super::claim::claim;
use super::insert::{url_key, without_nul};
use super::row::{CallResult, Webhook, WebhookId};
use super::{Claiming, Webhooks, refresh_url};
use crate::db::{Error, Tx};
use crate::params;
use crate::queue::tally;
use mox_base::Timestamp;
use std::sync::Arc;
use std::time::Duration;

/// What came of a call.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The webhook.
    pub id: WebhookId,
    /// Its URL, whose lease ends.
    pub url: String,
    /// The result to record.
    pub result: CallResult,
    /// Whether this was the end.
    pub ending: Ending,
}

/// How a webhook goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It stays; the next attempt is already scheduled.
    Retry,
    /// It stays, and is tried again no earlier than this, because the receiver asked for it.
    RetryAt(Timestamp),
    /// It is done.
    Retire {
        /// Whether the receiver took it.
        success: bool,
        /// How long it is remembered, none for not at all.
        keep_until: Option<Timestamp>,
    },
}

/// Whether there was still something to record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finished {
    /// Recorded.
    Recorded,
    /// The webhook was replaced or cancelled meanwhile; the result is with the retired one, if that is kept.
    Retired,
}

impl Webhooks {
    /// Records what came of a call, ends the lease of its URL, and claims what is due next, in one transaction.
    ///
    /// # Errors
    /// The database failed: nothing was recorded, and the webhook will be called again.
    pub async fn finish(
        &self,
        outcome: Outcome,
        claiming: Claiming,
        backoff: impl Fn(u32) -> Duration + Send + Sync + 'static,
    ) -> Result<(Finished, Vec<Webhook>), Error> {
        let (outcome, backoff) = (Arc::new(outcome), Arc::new(backoff));
        let done = self
            .write(move |tx| {
                let finished = apply(tx, &outcome)?;
                refresh_url(tx, &url_key(&outcome.url), Some(claiming.owner))?;
                let next = if claiming.max > 0 { claim(tx, &claiming, &*backoff)? } else { Vec::new() };
                Ok((finished, next))
            })
            .await?;
        self.wake();
        Ok(done)
    }
}

fn apply(tx: &Tx<'_>, outcome: &Outcome) -> Result<Finished, Error> {
    let waits = tx.query_opt("SELECT 1 FROM webhook WHERE id = $1", params![outcome.id], |row| row.int(0))?.is_some();
    if !waits {
        let superseded = tx
            .query_opt("SELECT superseded_by FROM webhook_retired WHERE id = $1", params![outcome.id], |row| row.opt_int(0))?
            .flatten()
            .is_some();
        let mut result = outcome.result.clone();
        if superseded {
            result.error = format!("{} (superseded)", result.error).trim_start().to_owned();
        }
        end_attempt(tx, outcome.id, &result)?;
        return Ok(Finished::Retired);
    }
    end_attempt(tx, outcome.id, &outcome.result)?;
    match outcome.ending {
        Ending::Retry => {}
        Ending::RetryAt(time) => {
            tx.exec("UPDATE webhook SET next_attempt = $1 WHERE id = $2 AND next_attempt < $1", params![time, outcome.id])?;
        }
        Ending::Retire { success, keep_until } => {
            let now = outcome.result.start.after(outcome.result.duration);
            retire(tx, outcome.id, Retiring { superseded_by: None, success, now, keep_until })?;
        }
    }
    Ok(Finished::Recorded)
}

/// Puts a result in the place of the attempt that was going on. Of a webhook whose results are gone, nothing is kept.
fn end_attempt(tx: &Tx<'_>, id: WebhookId, result: &CallResult) -> Result<(), Error> {
    tx.exec(
        "UPDATE webhook_result SET start = $1, duration = $2, success = $3, code = $4, error = $5, response = $6 \
         WHERE webhook = $7 AND number = (SELECT max(number) FROM webhook_result WHERE webhook = $7 AND error = $8)",
        params![
            result.start,
            micros(result.duration),
            result.success,
            result.code,
            &without_nul(&result.error),
            &without_nul(&result.response),
            id,
            CallResult::DELIVERING,
        ],
    )?;
    Ok(())
}

/// How a webhook ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Retiring {
    pub(super) superseded_by: Option<WebhookId>,
    pub(super) success: bool,
    pub(super) now: Timestamp,
    pub(super) keep_until: Option<Timestamp>,
}

/// Ends a webhook: it is kept among the retired, or forgotten. The caller refreshes its URL.
pub(super) fn retire(tx: &Tx<'_>, id: WebhookId, retiring: Retiring) -> Result<(), Error> {
    let Retiring { superseded_by, success, now, keep_until } = retiring;
    if let Some(keep_until) = keep_until {
        tx.exec(
            "INSERT INTO webhook_retired (id, queue_id, from_id, message_id, subject, extra, account, url, with_auth, event, submitted, \
             superseded_by, attempts, success, last_activity, keep_until, payload) \
             SELECT id, queue_id, from_id, message_id, subject, extra, account, url, CASE WHEN auth_value IS NULL THEN 0 ELSE 1 END, event, \
             submitted, CAST($2 AS BIGINT), attempts, CAST($3 AS BIGINT), CAST($4 AS BIGINT), CAST($5 AS BIGINT), payload \
             FROM webhook WHERE id = $1",
            params![id, superseded_by, success, now, keep_until],
        )?;
    } else {
        tx.exec("DELETE FROM webhook_result WHERE webhook = $1", params![id])?;
    }
    if tx.exec("DELETE FROM webhook WHERE id = $1", params![id])? > 0 {
        tally::add(tx, tally::WEBHOOKS_ENDED, 1)?;
    }
    Ok(())
}

pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
