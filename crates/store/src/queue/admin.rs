//! Looking into the queue, and changing what is in it: what administrators do.

use super::entry::{AttemptResult, Entry, Listed, QueuedMessage, RetiredEntry};
use super::filter::{Of, Selection};
use super::finish::{record, retire};
use super::{Filter, Queue, Sort, refresh_domain};
use crate::db::{Error, Param, Row, Sql, Tx};
use crate::params;
use mox_base::{QueueId, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How many entries are ended in one transaction, so that others aren't kept waiting.
const BATCH: u64 = 500;

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
                let selection = Selection::new(&filter, &sort, Some(page.limit), Of::Entries);
                listed(tx, &from, &selection, Entry::from_row, |entry| entry.id)
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
                let selection = Selection::new(&filter, &sort, Some(page.limit), Of::Retired);
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
        let count = |n: i64| u64::try_from(n).unwrap_or(0);
        self.db
            .read(move |tx| {
                let sql = "SELECT count(*), coalesce(sum(hold), 0) FROM queue_entry";
                let sql = Sql { sqlite: sql, postgres: "SELECT count(*), CAST(coalesce(sum(hold), 0) AS BIGINT) FROM queue_entry" };
                tx.query_row(sql, &[], |row| Ok((count(row.int(0)?), count(row.int(1)?))))
            })
            .await
    }

    /// Changes when matching entries are due; how many.
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
        self.change(filter, "next_attempt", expression, Change::Int(Some(value))).await
    }

    /// Holds matching entries, or lets them go; how many.
    ///
    /// # Errors
    /// The database failed.
    pub async fn set_hold(&self, filter: Filter, hold: bool) -> Result<u64, Error> {
        self.change(filter, "hold", "", Change::Int(Some(i64::from(hold)))).await
    }

    /// Forces a transport on matching entries, or with an empty name lets routes decide again; how many.
    ///
    /// # Errors
    /// The database failed.
    pub async fn set_transport(&self, filter: Filter, transport: String) -> Result<u64, Error> {
        self.change(filter, "transport", "", Change::Text(transport)).await
    }

    /// Changes what TLS matching entries require; how many.
    ///
    /// # Errors
    /// The database failed.
    pub async fn set_require_tls(&self, filter: Filter, require: Option<bool>) -> Result<u64, Error> {
        self.change(filter, "require_tls", "", Change::Int(require.map(i64::from))).await
    }

    async fn change(&self, filter: Filter, column: &'static str, expression: &'static str, value: Change) -> Result<u64, Error> {
        let changed = self
            .write(move |tx| {
                let selection = Selection::new(&filter, &Sort::default(), None, Of::Entries);
                let n = selection.next_param();
                let update = |rest: &str| {
                    // PostgreSQL can't tell the type of a lone parameter that may be NULL.
                    format!("UPDATE queue_entry SET {column} = {expression}${n} WHERE id IN (SELECT e.id FROM queue_entry e {rest})")
                };
                let (sqlite, postgres) = (update(selection.sqlite()), update(selection.postgres()));
                let mut params = selection.params();
                params.push(value.param());
                let changed = tx.exec(Sql { sqlite: &sqlite, postgres: &postgres }, &params)?;
                refresh_all_domains(tx)?;
                Ok::<_, Error>(changed)
            })
            .await?;
        self.changed.notify_one();
        Ok(changed)
    }

    /// Ends matching entries without telling anybody; how many. With `keep`, they are remembered until the time that it
    /// gives for their account.
    ///
    /// # Errors
    /// The database failed; entries ended before stay ended.
    pub async fn drop_entries(
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
            let (count, files) = self.write(move |tx| drop_batch(tx, &filter, batch, now, &keep)).await?;
            self.delete_files(files).await;
            total += count;
            left -= count.min(left);
            if count < batch {
                break;
            }
        }
        self.changed.notify_one();
        Ok(total)
    }

    /// Ends one entry with a failure that an administrator asked for, after the sender was told.
    ///
    /// # Errors
    /// The database failed.
    pub async fn fail_entry(&self, id: QueueId, now: Timestamp, keep_until: Option<Timestamp>) -> Result<bool, Error> {
        let filter = Filter { ids: vec![id], ..Filter::default() };
        let (count, files) = self.write(move |tx| drop_batch(tx, &filter, 1, now, &|_: &str| keep_until)).await?;
        self.delete_files(files).await;
        self.changed.notify_one();
        Ok(count > 0)
    }

    /// Forgets retired entries whose time is over; how many.
    ///
    /// # Errors
    /// The database failed.
    pub async fn remove_expired(&self, now: Timestamp) -> Result<u64, Error> {
        self.write(move |tx| {
            tx.exec("DELETE FROM queue_result WHERE entry IN (SELECT id FROM queue_retired WHERE keep_until < $1)", params![now])?;
            tx.exec("DELETE FROM queue_retired WHERE keep_until < $1", params![now])
        })
        .await
    }
}

#[derive(Clone, Debug)]
enum Change {
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

fn listed<T>(
    tx: &Tx<'_>,
    from: &str,
    selection: &Selection,
    from_row: impl Fn(&Row<'_>) -> Result<T, Error>,
    id: impl Fn(&T) -> QueueId,
) -> Result<Vec<Listed<T>>, Error> {
    let (sqlite, postgres) = (format!("{from} {}", selection.sqlite()), format!("{from} {}", selection.postgres()));
    let mut rows = Vec::new();
    tx.query(Sql { sqlite: &sqlite, postgres: &postgres }, &selection.params(), |row| {
        rows.push(from_row(row)?);
        Ok::<_, Error>(())
    })?;
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
    let sql = format!("SELECT {} FROM queue_message m WHERE m.id = $1", QueuedMessage::COLUMNS);
    let message = tx.query_row(&sql, params![entry.message.0], QueuedMessage::from_row)?;
    Ok(Some((entry, message)))
}

fn drop_batch(
    tx: &Tx<'_>,
    filter: &Filter,
    batch: u64,
    now: Timestamp,
    keep: &dyn Fn(&str) -> Option<Timestamp>,
) -> Result<(u64, Vec<String>), Error> {
    let selection = Selection::new(filter, &Sort::default(), Some(batch), Of::Entries);
    let select = |rest: &str| format!("SELECT e.id, e.account, e.domain FROM queue_entry e {rest}");
    let (sqlite, postgres) = (select(selection.sqlite()), select(selection.postgres()));
    let mut found = Vec::new();
    tx.query(Sql { sqlite: &sqlite, postgres: &postgres }, &selection.params(), |row| {
        found.push((QueueId(row.int(0)?), row.text(1)?.to_owned(), row.text(2)?.to_owned()));
        Ok::<_, Error>(())
    })?;
    let mut kept: BTreeMap<&str, Option<Timestamp>> = BTreeMap::new();
    let mut files = Vec::new();
    for (id, account, _) in &found {
        let keep_until = *kept.entry(account).or_insert_with(|| keep(account));
        let result = AttemptResult {
            start: now,
            duration: Duration::ZERO,
            success: false,
            code: 0,
            secode: String::new(),
            error: CANCELED.to_owned(),
        };
        record(tx, *id, &result)?;
        tx.exec("UPDATE queue_entry SET last_attempt = $1 WHERE id = $2 AND last_attempt IS NULL", params![now, *id])?;
        retire(tx, *id, false, now, keep_until, &mut files)?;
    }
    let domains: BTreeSet<&String> = found.iter().map(|(_, _, domain)| domain).collect();
    for domain in domains {
        refresh_domain(tx, domain, None)?;
    }
    Ok((u64::try_from(found.len()).unwrap_or(u64::MAX), files))
}

fn refresh_all_domains(tx: &Tx<'_>) -> Result<(), Error> {
    tx.exec(
        "UPDATE queue_domain SET next_due = (SELECT min(e.next_attempt) FROM queue_entry e WHERE e.domain = queue_domain.domain AND e.hold = 0)",
        &[],
    )?;
    Ok(())
}
