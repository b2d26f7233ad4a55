//! Looking at webhooks, and changing what is waiting: what administrators do.

use super::filter::selected;
use super::finish::{Retiring, retire};
use super::insert::append_result;
use super::row::{CallResult, ListedWebhook, RetiredWebhook, Webhook, WebhookId};
use super::{Filter, Sort, Webhooks, refresh_url};
use crate::db::{Error, Param, Row, Tx};
use crate::params;
use crate::queue::{Page, Reschedule};
use crate::selection::{Of, Selection};
use mox_base::Timestamp;
use std::collections::BTreeSet;
use std::time::Duration;

/// How many webhooks are ended in one transaction, so that others aren't kept waiting.
const BATCH: u64 = 500;

/// The error of a result that an administrator caused.
const CANCELED: &str = "canceled by admin";

impl Webhooks {
    /// A page of waiting webhooks with their results.
    ///
    /// # Errors
    /// The database failed.
    pub async fn list(&self, filter: Filter, sort: Sort, page: Page) -> Result<Vec<ListedWebhook<Webhook>>, Error> {
        self.db
            .read(move |tx| {
                let from = format!("SELECT {} FROM webhook w", Webhook::COLUMNS);
                let selection = selected(&filter, &sort, Some(page.limit), Of::Waiting);
                listed(tx, &from, &selection, Webhook::from_row, |webhook| webhook.id)
            })
            .await
    }

    /// A page of retired webhooks with their results.
    ///
    /// # Errors
    /// The database failed.
    pub async fn list_retired(&self, filter: Filter, sort: Sort, page: Page) -> Result<Vec<ListedWebhook<RetiredWebhook>>, Error> {
        self.db
            .read(move |tx| {
                let from = format!("SELECT {} FROM webhook_retired w", RetiredWebhook::COLUMNS);
                let selection = selected(&filter, &sort, Some(page.limit), Of::Retired);
                listed(tx, &from, &selection, RetiredWebhook::from_row, |webhook| webhook.id)
            })
            .await
    }

    /// A waiting webhook with its results, none if there is no such webhook.
    ///
    /// # Errors
    /// The database failed.
    pub async fn webhook(&self, id: WebhookId) -> Result<Option<ListedWebhook<Webhook>>, Error> {
        let filter = Filter { ids: vec![id], ..Filter::default() };
        Ok(self.list(filter, Sort::default(), Page { limit: 1 }).await?.pop())
    }

    /// A retired webhook with its results, none if there is no such webhook.
    ///
    /// # Errors
    /// The database failed.
    pub async fn retired(&self, id: WebhookId) -> Result<Option<ListedWebhook<RetiredWebhook>>, Error> {
        let filter = Filter { ids: vec![id], ..Filter::default() };
        Ok(self.list_retired(filter, Sort::default(), Page { limit: 1 }).await?.pop())
    }

    /// How many webhooks wait.
    ///
    /// # Errors
    /// The database failed.
    pub async fn count(&self) -> Result<u64, Error> {
        self.db.read(|tx| tx.query_row("SELECT count(*) FROM webhook", &[], |row| Ok(u64::try_from(row.int(0)?).unwrap_or(0)))).await
    }

    /// Changes when matching webhooks are due; how many.
    ///
    /// # Errors
    /// The database failed.
    pub async fn reschedule(&self, filter: Filter, to: Reschedule) -> Result<u64, Error> {
        let (expression, value) = match to {
            Reschedule::Add(micros) => ("next_attempt + ", micros),
            Reschedule::At(time) => ("", time.micros()),
        };
        // Far sums stay far: a number that Timestamp holds.
        let value = value.clamp(-(1 << 60), 1 << 60);
        let changed = self
            .write(move |tx| {
                let selection = selected(&filter, &Sort::default(), None, Of::Waiting);
                let (rest, n) = (selection.sqlite(), selection.next_param());
                let sql = format!("UPDATE webhook SET next_attempt = {expression}${n} WHERE id IN (SELECT w.id FROM webhook w {rest})");
                let mut params = selection.params();
                params.push(Param::from(value));
                let changed = tx.exec(&sql, &params)?;
                // Perhaps too early for one that waits for another; who claims it sees that.
                let sql =
                    "UPDATE webhook_url SET next_due = (SELECT min(w.next_attempt) FROM webhook w WHERE w.url_key = webhook_url.url_key)";
                tx.exec(sql, &[])?;
                Ok(changed)
            })
            .await?;
        self.wake();
        Ok(changed)
    }

    /// Ends matching webhooks as failed; how many. With `keep`, they are remembered until the time that it gives for their account.
    ///
    /// # Errors
    /// The database failed; webhooks ended before stay ended.
    pub async fn cancel(
        &self,
        filter: Filter,
        now: Timestamp,
        keep: impl Fn(&str) -> Option<Timestamp> + Clone + Send + Sync + 'static,
    ) -> Result<u64, Error> {
        let mut left = filter.max.unwrap_or(u64::MAX);
        let mut total = 0;
        while left > 0 {
            let batch = left.min(BATCH);
            let (filter, keep) = (filter.clone(), keep.clone());
            let count = self.write(move |tx| cancel_batch(tx, &filter, batch, now, &keep)).await?;
            total += count;
            left -= count.min(left);
            if count < batch {
                break;
            }
        }
        self.wake();
        Ok(total)
    }

    /// Forgets retired webhooks whose time is over; how many.
    ///
    /// # Errors
    /// The database failed.
    pub async fn remove_expired(&self, now: Timestamp) -> Result<u64, Error> {
        self.write(move |tx| {
            tx.exec("DELETE FROM webhook_result WHERE webhook IN (SELECT id FROM webhook_retired WHERE keep_until < $1)", params![now])?;
            tx.exec("DELETE FROM webhook_retired WHERE keep_until < $1", params![now])
        })
        .await
    }
}

fn listed<T>(
    tx: &Tx<'_>,
    from: &str,
    selection: &Selection,
    from_row: impl Fn(&Row<'_>) -> Result<T, Error>,
    id: impl Fn(&T) -> WebhookId,
) -> Result<Vec<ListedWebhook<T>>, Error> {
    let rows = tx.query_all(&format!("{from} {}", selection.sqlite()), &selection.params(), from_row)?;
    rows.into_iter().map(|row| Ok(ListedWebhook { results: results(tx, id(&row))?, row })).collect()
}

fn results(tx: &Tx<'_>, id: WebhookId) -> Result<Vec<CallResult>, Error> {
    let mut results = Vec::new();
    let sql = format!("SELECT {} FROM webhook_result WHERE webhook = $1 ORDER BY number", CallResult::COLUMNS);
    tx.query(&sql, params![id], |row| {
        results.push(CallResult::from_row(row)?);
        Ok::<_, Error>(())
    })?;
    Ok(results)
}

fn cancel_batch(tx: &Tx<'_>, filter: &Filter, batch: u64, now: Timestamp, keep: &dyn Fn(&str) -> Option<Timestamp>) -> Result<u64, Error> {
    let selection = selected(filter, &Sort::default(), Some(batch), Of::Waiting);
    let mut found = Vec::new();
    let sql = format!("SELECT w.id, w.account, w.url, w.url_key FROM webhook w {}", selection.sqlite());
    tx.query(&sql, &selection.params(), |row| {
        found.push((WebhookId(row.int(0)?), row.text(1)?.to_owned(), row.text(2)?.to_owned(), row.text(3)?.to_owned()));
        Ok::<_, Error>(())
    })?;
    let mut keys = BTreeSet::new();
    for (id, account, url, key) in &found {
        let result = CallResult {
            start: now,
            duration: Duration::ZERO,
            url: url.clone(),
            success: false,
            code: 0,
            error: CANCELED.to_owned(),
            response: String::new(),
        };
        append_result(tx, *id, &result)?;
        retire(tx, *id, Retiring { superseded_by: None, success: false, now, keep_until: keep(account) })?;
        keys.insert(key);
    }
    for key in keys {
        refresh_url(tx, key, None)?;
    }
    Ok(u64::try_from(found.len()).unwrap_or(u64::MAX))
}
