//! Claiming webhooks that are due: at most one for each URL, under a lease.

use super::insert::{append_result, url_key};
use super::row::{CallResult, Webhook};
use super::{NOT_BLOCKED, Webhooks, refresh_url};
use crate::db::{Error, Sql, Tx};
use crate::params;
use crate::queue::Owner;
use mox_base::Timestamp;
use std::sync::Arc;
use std::time::Duration;

/// What to claim.
#[derive(Clone, Copy, Debug)]
pub struct Claiming {
    /// Who claims.
    pub owner: Owner,
    /// Now: what is due later isn't claimed.
    pub now: Timestamp,
    /// At most so many.
    pub max: usize,
    /// How long the claims hold: longer than a call can take.
    pub lease: Duration,
}

impl Webhooks {
    /// Claims due webhooks, the earliest first, at most one for each URL to which nobody is calling. In the same transaction
    /// their attempt is counted and noted as going on, and the next scheduled `backoff(attempts before)` from now.
    /// The webhooks returned count this attempt.
    ///
    /// # Errors
    /// The database failed; nothing was claimed, or its lease ends by itself.
    pub async fn claim(
        &self,
        claiming: Claiming,
        backoff: impl Fn(u32) -> Duration + Send + Sync + 'static,
    ) -> Result<Vec<Webhook>, Error> {
        if claiming.max == 0 {
            return Ok(Vec::new());
        }
        let backoff = Arc::new(backoff);
        self.write(move |tx| claim(tx, &claiming, &*backoff)).await
    }

    /// Gives up the lease of a URL without a result.
    ///
    /// # Errors
    /// The database failed; then the lease ends by itself.
    pub async fn release(&self, url: &str, owner: Owner) -> Result<(), Error> {
        let key = url_key(url);
        self.write(move |tx| refresh_url(tx, &key, Some(owner))).await?;
        self.wake();
        Ok(())
    }
}

pub(super) fn claim(tx: &Tx<'_>, claiming: &Claiming, backoff: &dyn Fn(u32) -> Duration) -> Result<Vec<Webhook>, Error> {
    let due = "SELECT url_key FROM webhook_url WHERE next_due <= $1 AND leased_until <= $1 ORDER BY next_due, url_key LIMIT $2";
    let sql = Sql { sqlite: due, postgres: &format!("{due} FOR UPDATE SKIP LOCKED") };
    let keys = tx.query_all(sql, params![claiming.now, claiming.max], |row| Ok::<_, Error>(row.text(0)?.to_owned()))?;
    let mut claimed = Vec::with_capacity(keys.len());
    for key in keys {
        claimed.extend(claim_url(tx, claiming, backoff, &key)?);
    }
    Ok(claimed)
}

fn claim_url(tx: &Tx<'_>, claiming: &Claiming, backoff: &dyn Fn(u32) -> Duration, key: &str) -> Result<Option<Webhook>, Error> {
    let sql = format!(
        "SELECT {} FROM webhook w WHERE w.url_key = $1 AND w.next_attempt <= $2 AND {NOT_BLOCKED} ORDER BY w.next_attempt, w.id LIMIT 1",
        Webhook::COLUMNS
    );
    let Some(mut webhook) = tx.query_opt(&sql, params![key, claiming.now], Webhook::from_row)? else {
        refresh_url(tx, key, None)?;
        return Ok(None);
    };
    let next = claiming.now.after(backoff(webhook.attempts));
    webhook.attempts = webhook.attempts.saturating_add(1);
    webhook.next_attempt = next;
    tx.exec("UPDATE webhook SET attempts = $1, next_attempt = $2 WHERE id = $3", params![webhook.attempts, next, webhook.id])?;
    let going_on = CallResult {
        start: claiming.now,
        duration: Duration::ZERO,
        url: webhook.url.clone(),
        success: false,
        code: 0,
        error: CallResult::DELIVERING.to_owned(),
        response: String::new(),
    };
    append_result(tx, webhook.id, &going_on)?;
    let until = claiming.now.after(claiming.lease);
    tx.exec("UPDATE webhook_url SET leased_until = $1, owner = $2 WHERE url_key = $3", params![until, claiming.owner.0, key])?;
    refresh_url(tx, key, None)?;
    Ok(Some(webhook))
}
