//! What administrators do to the queue that concerns more than its rows: failing entries tells their senders.

use super::bounce::{Bounce, What};
use super::failure::Failure;
use super::runner::Runner;
use mox_store::db::Error;
use mox_store::queue::{Cancel, Filter, Page, Sort};

/// Entries whose senders are told before the entries are ended.
const BATCH: u64 = 100;

/// What senders are told.
const CANCELED: &str = "delivery canceled by admin";

impl Runner {
    /// Ends matching entries as if delivery had failed: their senders get DSNs. How many.
    ///
    /// # Errors
    /// The database failed; entries ended before stay ended.
    pub async fn fail(&self, filter: Filter) -> Result<u64, Error> {
        let inner = self.inner();
        let mut left = filter.max.unwrap_or(u64::MAX);
        let (mut total, mut sort) = (0, Sort::default());
        while left > 0 {
            let limit = BATCH.min(left);
            let rows = inner.queue.list(filter.clone(), sort, Page { limit }).await?;
            let Some(last) = rows.last().map(|listed| &listed.row) else { break };
            sort.after = Some((last.next_attempt, last.id));
            left = left.saturating_sub(u64::try_from(rows.len()).unwrap_or(u64::MAX));
            for listed in &rows {
                let Some((entry, message)) = inner.queue.entry(listed.row.id).await? else { continue };
                if entry.notify.failure {
                    let failure = Failure::permanent(CANCELED);
                    Bounce { inner, message: &message, about: vec![(&entry, What::Failed(&failure))] }.send().await;
                }
                // The sender is told first: a crash in between tells twice rather than never.
                let only = Filter { ids: vec![entry.id], ..Filter::default() };
                total += inner.queue.cancel(only, Cancel::Fail, inner.now(), inner.aftermath()).await?;
            }
        }
        self.count_held().await;
        Ok(total)
    }

    /// Ends matching entries without telling their senders. How many.
    ///
    /// # Errors
    /// The database failed; entries ended before stay ended.
    pub async fn drop_entries(&self, filter: Filter) -> Result<u64, Error> {
        let inner = self.inner();
        let total = inner.queue.cancel(filter, Cancel::Drop, inner.now(), inner.aftermath()).await?;
        self.count_held().await;
        Ok(total)
    }

    /// Destinations that asked for a pause are tried again at once: somebody wants to see whether they do better.
    ///
    /// # Errors
    /// The database failed: after a restart they go on.
    pub async fn end_pauses(&self) -> Result<(), Error> {
        self.inner().pressure.forget();
        self.inner().queue.end_pause(None).await
    }

    /// Whether there is such a transport; the empty name leaves it to routes.
    pub fn has_transport(&self, name: &str) -> bool {
        name.is_empty() || self.inner().routing.current().transports.contains_key(name)
    }
}
