//! Looking into the queue, and changing what is in it: what administrators do.

use super::entry::{AttemptResult, Entry, Listed, QueuedMessage, RetiredEntry};
use super::events::{Aftermath, EventKind, Happened, announce};
use super::filter::{by_id, selected};
use super::finish::{record, retire};
use super::{Filter, Queue, Sort, refresh_domain};
use crate::db::{Error, Param, Row, Sql, Tx};
use crate::params;
use crate::selection::{Of, Selection};
use mox_base::{QueueId, Timestamp};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// How many entries are changed in one transaction, so that others aren't kept waiting.
const BATCH: usize = 500;

const HELD: &str = "SELECT count(*) FROM queue_entry WHERE hold = 1";

/// The error of a result that an administrator caused.
const CANCELED: &str = "delivery canceled by admin";

/// How much a list returns at once, and where it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// At most so many rows; the caller asks again with [`Sort::after`].
    pub limit: u64,
}

/// A thousand rows.
impl Default for Page {
    fn default() -> Self {
        Self { limit: 1000 }
    }
}

/// A change of when entries are due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reschedule {
    /// This many microseconds later, or earlier if negative.
    Add(i64),
    /// At this time.
    At(Timestamp),
}

impl Queue {
    /// A page of entries with their results.
    ///
    /// # Errors
    /// The database failed.
    pub async fn list(&self, filter: Filter, sort: Sort, page: Page) -> Result<Vec<Listed<Entry>>, Error> {
        self.db
            .read(move |tx| {
                let from = format!("SELECT {} FROM queue_entry e", Entry::COLUMNS);
                let selection = selected(&filter, &sort, Some(page.limit), Of::Waiting);
                listed(tx, &from, &selection, Entry::from_row, |entry| entry.id)
            })
            .await
    }

    /// A page of entries with their results and messages, of one moment.
    ///
    /// # Errors
    /// The database failed.
    pub async fn list_with_messages(&self, filter: Filter, sort: Sort, page: Page) -> Result<Vec<(Listed<Entry>, QueuedMessage)>, Error> {
        self.db
            .read(move |tx| {
                let from = format!("SELECT {} FROM queue_entry e", Entry::COLUMNS);
                let selection = selected(&filter, &sort, Some(page.limit), Of::Waiting);
                let entries = listed(tx, &from, &selection, Entry::from_row, |entry| entry.id)?;
                let with_message = |listed: Listed<Entry>| {
                    let message = message_of(tx, &listed.row)?;
                    Ok((listed, message))
                };
                entries.into_iter().map(with_message).collect()
            })
            .await
    }

    /// A page of retired entries with their results.
    ///
    /// # Errors
    /// The database failed.
    pub async fn list_retired(&self, filter: Filter, sort: Sort, page: Page) -> Result<Vec<Listed<RetiredEntry>>, Error> {
        self.db
            .read(move |tx| {
                let from = format!("SELECT {} FROM queue_retired e", RetiredEntry::COLUMNS);
                let selection = selected(&filter, &sort, Some(page.limit), Of::Retired);
                listed(tx, &from, &selection, RetiredEntry::from_row, |entry| entry.id)
            })
            .await
    }

    /// An entry with its message, none if there is no such entry.
    ///
    /// # Errors
    /// The database failed.
    pub async fn entry(&self, id: QueueId) -> Result<Option<(Entry, QueuedMessage)>, Error> {
        self.db.read(move |tx| entry_and_message(tx, id)).await
    }

    /// How many entries there are, and how many of them are held.
    ///
    /// # Errors
    /// The database failed.
    pub async fn counts(&self) -> Result<(u64, u64), Error> {
        self.db.read(|tx| Ok((count(tx, "SELECT count(*) FROM queue_entry")?, count(tx, HELD)?))).await
    }

    /// How many entries are held.
    ///
    /// # Errors
    /// The database failed.
    pub async fn held(&self) -> Result<u64, Error> {
        self.db.read(|tx| count(tx, HELD)).await
    }

    /// Changes when matching entries are due; how many.
    ///
    /// # Errors
    /// The database failed.
    pub async fn reschedule(&self, filter: Filter, to: Reschedule) -> Result<u64, Error> {
        let (set, value) = match to {
            Reschedule::Add(micros) => ("next_attempt = next_attempt + $1", micros),
            Reschedule::At(time) => ("next_attempt = $1", time.micros()),
        };
        // Far sums stay far: a number that Timestamp holds.
        let value = value.clamp(-(1 << 60), 1 << 60);
        self.change(filter, set, Change::Int(Some(value))).await
    }

    /// Holds matching entries, or lets them go; how many.
    ///
    /// # Errors
    /// The database failed.
    pub async fn set_hold(&self, filter: Filter, hold: bool) -> Result<u64, Error> {
        self.change(filter, "hold = $1, hold_reason = ''", Change::Int(Some(i64::from(hold)))).await
    }

    /// Forces a transport on matching entries, or with an empty name lets routes decide again; how many.
    ///
    /// # Errors
    /// The database failed.
    pub async fn set_transport(&self, filter: Filter, transport: String) -> Result<u64, Error> {
        self.change(filter, "transport = $1", Change::Text(transport)).await
    }

    /// Changes what TLS matching entries require; how many.
    ///
    /// # Errors
    /// The database failed.
    pub async fn set_require_tls(&self, filter: Filter, require: Option<bool>) -> Result<u64, Error> {
        self.change(filter, "require_tls = $1", Change::Int(require.map(i64::from))).await
    }

    /// `set` says what becomes of `value`, `$1`.
    pub(super) async fn change(&self, filter: Filter, set: &'static str, value: Change) -> Result<u64, Error> {
        self.in_batches(filter, move |tx, found, _| {
            let ids: Vec<String> = found.iter().map(|f| f.id.0.to_string()).collect();
            tx.exec(&format!("UPDATE queue_entry SET {set} WHERE id IN ({})", ids.join(", ")), &[value.param()])
        })
        .await
    }

    /// Ends matching entries; how many. The sender isn't told here.
    ///
    /// # Errors
    /// The database failed; entries ended before stay ended.
    pub async fn cancel(&self, filter: Filter, how: Cancel, now: Timestamp, aftermath: Arc<dyn Aftermath>) -> Result<u64, Error> {
        self.in_batches(filter, move |tx, found, files| {
            for Found { id, account, .. } in found {
                let result = AttemptResult::failed(now, CANCELED);
                record(tx, *id, &result)?;
                tx.exec("UPDATE queue_entry SET last_attempt = $1 WHERE id = $2 AND last_attempt IS NULL", params![now, *id])?;
                let kind = if how == Cancel::Fail { EventKind::Failed } else { EventKind::Canceled };
                announce(tx, &*aftermath, Happened { id: *id, account, kind, result: &result, suppressing: false, at: now })?;
                retire(tx, *id, kind, now, aftermath.keep_until(account, now), files)?;
            }
            Ok(u64::try_from(found.len()).unwrap_or(u64::MAX))
        })
        .await
    }

    /// Acts on all matching entries, [`BATCH`] in a transaction, and sets right when their domains are due. Files that
    /// nobody needs any more are deleted after each.
    async fn in_batches(
        &self,
        filter: Filter,
        act: impl Fn(&Tx<'_>, &[Found], &mut Vec<String>) -> Result<u64, Error> + Clone + Send + 'static,
    ) -> Result<u64, Error> {
        // Which are meant with a maximum depends on their order, so these are chosen first.
        let mut chosen = match filter.max {
            Some(_) => Some(self.ids(filter.clone()).await?.into_iter()),
            None => None,
        };
        let (mut last, mut total) = (QueueId(0), 0);
        loop {
            let mut filter = filter.clone();
            if let Some(chosen) = &mut chosen {
                filter.ids = chosen.take(BATCH).collect();
                last = QueueId(0);
                if filter.ids.is_empty() {
                    break;
                }
            }
            let act = act.clone();
            let (count, next, files) = self.write(move |tx| batch(tx, &filter, last, &act)).await?;
            total += count;
            self.delete_files(files).await;
            match next {
                Some(id) => last = id,
                None if chosen.is_none() => break,
                None => {}
            }
        }
        self.hold_changed.store(true, Ordering::Release);
        self.wake();
        Ok(total)
    }

    /// The ids of matching entries, latest next attempt first.
    async fn ids(&self, filter: Filter) -> Result<Vec<QueueId>, Error> {
        self.db
            .read(move |tx| {
                let selection = selected(&filter, &Sort::default(), None, Of::Waiting);
                let select = |rest: &str| format!("SELECT e.id FROM queue_entry e {rest}");
                let (sqlite, postgres) = (select(selection.sqlite()), select(selection.postgres()));
                tx.query_all(Sql { sqlite: &sqlite, postgres: &postgres }, &selection.params(), |row| Ok::<_, Error>(QueueId(row.int(0)?)))
            })
            .await
    }

    /// Forgets retired entries whose time is over, and addresses that were suppressed long enough; how many entries.
    ///
    /// # Errors
    /// The database failed.
    pub async fn remove_expired(&self, now: Timestamp) -> Result<u64, Error> {
        self.write(move |tx| tx.exec("DELETE FROM queue_suppression WHERE expires <= $1", params![now])).await?;
        let mut total = 0;
        loop {
            let removed = self
                .write(move |tx| {
                    let expired = format!("SELECT id FROM queue_retired WHERE keep_until < $1 ORDER BY keep_until, id LIMIT {BATCH}");
                    tx.exec(&format!("DELETE FROM queue_result WHERE entry IN ({expired})"), params![now])?;
                    tx.exec(&format!("DELETE FROM queue_retired WHERE id IN ({expired})"), params![now])
                })
                .await?;
            total += removed;
            if removed == 0 {
                return Ok(total);
            }
        }
    }

    /// A retired entry with its results, none if there is no such entry.
    ///
    /// # Errors
    /// The database failed.
    pub async fn retired(&self, id: QueueId) -> Result<Option<Listed<RetiredEntry>>, Error> {
        let found = self.list_retired(Filter { ids: vec![id], ..Filter::default() }, Sort::default(), Page { limit: 1 }).await?;
        Ok(found.into_iter().next())
    }
}

/// How an administrator ends entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancel {
    /// As if delivery had failed.
    Fail,
    /// As if they had never been.
    Drop,
}

/// An entry that matched.
struct Found {
    id: QueueId,
    account: String,
    domain: String,
}

/// What is done to a batch of entries: how many were changed, and the files that are no longer needed.
type Act<'a> = dyn Fn(&Tx<'_>, &[Found], &mut Vec<String>) -> Result<u64, Error> + 'a;

/// Acts on the next entries beyond `last`; how many were changed, and the last of them; none if there were none.
fn batch(tx: &Tx<'_>, filter: &Filter, last: QueueId, act: &Act<'_>) -> Result<(u64, Option<QueueId>, Vec<String>), Error> {
    let selection = by_id(filter, last, BATCH);
    let select = |rest: &str| format!("SELECT e.id, e.account, e.domain FROM queue_entry e {rest}");
    // What another server ends meanwhile isn't found: we wait for it.
    let (sqlite, postgres) = (select(selection.sqlite()), format!("{} FOR UPDATE", select(selection.postgres())));
    let found = tx.query_all(Sql { sqlite: &sqlite, postgres: &postgres }, &selection.params(), |row| {
        Ok::<_, Error>(Found { id: QueueId(row.int(0)?), account: row.text(1)?.to_owned(), domain: row.text(2)?.to_owned() })
    })?;
    let mut files = Vec::new();
    if found.is_empty() {
        return Ok((0, None, files));
    }
    let count = act(tx, &found, &mut files)?;
    let domains: BTreeSet<&String> = found.iter().map(|f| &f.domain).collect();
    for domain in domains {
        refresh_domain(tx, domain, None)?;
    }
    // Fewer than a batch isn't the end: of those that were selected, some may have been ended.
    Ok((count, found.last().map(|f| f.id), files))
}

/// A value that a column gets.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Int(Option<i64>),
    Text(String),
}

impl Change {
    fn param(&self) -> Param<'_> {
        match self {
            Self::Int(n) => Param::from(*n),
            Self::Text(text) => Param::from(text),
        }
    }
}

fn count(tx: &Tx<'_>, sql: &str) -> Result<u64, Error> {
    tx.query_row(sql, &[], |row| Ok(u64::try_from(row.int(0)?).unwrap_or(0)))
}

fn listed<T>(
    tx: &Tx<'_>,
    from: &str,
    selection: &Selection,
    from_row: impl Fn(&Row<'_>) -> Result<T, Error>,
    id: impl Fn(&T) -> QueueId,
) -> Result<Vec<Listed<T>>, Error> {
    let (sqlite, postgres) = (format!("{from} {}", selection.sqlite()), format!("{from} {}", selection.postgres()));
    let rows = tx.query_all(Sql { sqlite: &sqlite, postgres: &postgres }, &selection.params(), from_row)?;
    rows.into_iter().map(|row| Ok(Listed { results: results(tx, id(&row))?, row })).collect()
}

fn results(tx: &Tx<'_>, id: QueueId) -> Result<Vec<AttemptResult>, Error> {
    let mut results = Vec::new();
    let sql = format!("SELECT {} FROM queue_result WHERE entry = $1 ORDER BY number", AttemptResult::COLUMNS);
    tx.query(&sql, params![id], |row| {
        results.push(AttemptResult::from_row(row, 0)?);
        Ok::<_, Error>(())
    })?;
    Ok(results)
}

fn entry_and_message(tx: &Tx<'_>, id: QueueId) -> Result<Option<(Entry, QueuedMessage)>, Error> {
    let sql = format!("SELECT {} FROM queue_entry e WHERE e.id = $1", Entry::COLUMNS);
    let Some(entry) = tx.query_opt(&sql, params![id], Entry::from_row)? else { return Ok(None) };
    let message = message_of(tx, &entry)?;
    Ok(Some((entry, message)))
}

fn message_of(tx: &Tx<'_>, entry: &Entry) -> Result<QueuedMessage, Error> {
    let sql = format!("SELECT {} FROM queue_message m WHERE m.id = $1", QueuedMessage::COLUMNS);
    tx.query_row(&sql, params![entry.message.0], QueuedMessage::from_row)
}
