//! Everything that must always hold for the queue, webhooks included, verified from scratch.
//!
//! Most of it is a table of queries that count what breaks a rule. Bodies are read whole. It is one snapshot; bodies of
//! messages that are just being added count as orphans, so nothing else should be going on.

use super::body::{blob_error, decompress};
use super::{EventKind, Queue, tally};
use crate::blob::BlobStore;
use crate::db::{Error, Tx};
use mox_base::QueueId;
use std::collections::BTreeSet;
use std::io::Read as _;
use std::sync::Arc;

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueReport {
    /// Messages with their bytes.
    pub messages: u64,
    /// Entries that wait, are held or are being delivered.
    pub entries: u64,
    /// Entries that are done and remembered.
    pub retired: u64,
    /// Sent copies that are still to be filed.
    pub copies: u64,
    /// Webhooks that wait.
    pub webhooks: u64,
    /// Webhooks that are done and remembered.
    pub retired_webhooks: u64,
    /// Entries that were ever queued, since totals are kept.
    pub queued: u64,
    /// What doesn't hold; empty if all is well.
    pub problems: Vec<String>,
}

impl QueueReport {
    /// Whether all is well.
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }
}

/// What there must be none of, and how many there are.
const RULES: &[(&str, &str)] = &[
    (
        "entries without message",
        "SELECT COUNT(*) FROM queue_entry e WHERE NOT EXISTS (SELECT 1 FROM queue_message m WHERE m.id = e.message)",
    ),
    (
        "messages that nobody needs",
        "SELECT COUNT(*) FROM queue_message m WHERE NOT EXISTS (SELECT 1 FROM queue_entry e WHERE e.message = m.id) \
         AND NOT EXISTS (SELECT 1 FROM queue_copy c WHERE c.message = m.id)",
    ),
    ("copies without message", "SELECT COUNT(*) FROM queue_copy c WHERE NOT EXISTS (SELECT 1 FROM queue_message m WHERE m.id = c.message)"),
    ("messages with two bodies or none", "SELECT COUNT(*) FROM queue_message WHERE (body IS NULL) = (file IS NULL)"),
    (
        "entries of another account than their message",
        "SELECT COUNT(*) FROM queue_entry e JOIN queue_message m ON m.id = e.message WHERE e.account <> m.account",
    ),
    ("entries that are retired, too", "SELECT COUNT(*) FROM queue_entry e JOIN queue_retired r ON r.id = e.id"),
    (
        "results of no entry",
        "SELECT COUNT(*) FROM queue_result r WHERE NOT EXISTS (SELECT 1 FROM queue_entry e WHERE e.id = r.entry) \
         AND NOT EXISTS (SELECT 1 FROM queue_retired d WHERE d.id = r.entry)",
    ),
    (
        "entries with gaps in their results",
        "SELECT COUNT(*) FROM (SELECT entry FROM queue_result GROUP BY entry HAVING MIN(number) <> 1 OR MAX(number) <> COUNT(*)) g",
    ),
    (
        "domains with entries and without row",
        "SELECT COUNT(*) FROM (SELECT DISTINCT domain FROM queue_entry) e WHERE NOT EXISTS \
         (SELECT 1 FROM queue_domain d WHERE d.domain = e.domain)",
    ),
    (
        "domains with row and without entries",
        "SELECT COUNT(*) FROM queue_domain d WHERE d.leased_until = 0 AND NOT EXISTS (SELECT 1 FROM queue_entry e WHERE e.domain = d.domain)",
    ),
    (
        "domains that are due at another time than their entries",
        "SELECT COUNT(*) FROM queue_domain d WHERE d.leased_until = 0 AND COALESCE(d.next_due, -1) <> COALESCE(\
         (SELECT MIN(e.next_attempt) FROM queue_entry e WHERE e.domain = d.domain AND e.hold = 0), -1)",
    ),
    (
        "domains that are urgent at another time than their entries",
        "SELECT COUNT(*) FROM queue_domain d WHERE d.leased_until = 0 AND COALESCE(d.next_urgent, -1) <> COALESCE(\
         (SELECT MIN(e.next_attempt) FROM queue_entry e WHERE e.domain = d.domain AND e.hold = 0 AND e.bulk = 0), -1)",
    ),
    (
        "accounts with another room taken than what waits",
        "SELECT COUNT(*) FROM (SELECT account FROM (SELECT account, entries, bytes FROM queue_room \
         UNION ALL SELECT account, -1, 0 FROM queue_entry UNION ALL SELECT account, 0, -size FROM queue_message) t \
         GROUP BY account HAVING SUM(entries) <> 0 OR SUM(bytes) <> 0) g",
    ),
    ("entries that are held for a reason and aren't", "SELECT COUNT(*) FROM queue_entry WHERE hold = 0 AND hold_reason <> ''"),
    ("webhooks that are retired, too", "SELECT COUNT(*) FROM webhook w JOIN webhook_retired r ON r.id = w.id"),
    (
        "results of no webhook",
        "SELECT COUNT(*) FROM webhook_result r WHERE NOT EXISTS (SELECT 1 FROM webhook w WHERE w.id = r.webhook) \
         AND NOT EXISTS (SELECT 1 FROM webhook_retired d WHERE d.id = r.webhook)",
    ),
    (
        "webhooks with gaps in their results",
        "SELECT COUNT(*) FROM (SELECT webhook FROM webhook_result GROUP BY webhook HAVING MIN(number) <> 1 OR MAX(number) <> COUNT(*)) g",
    ),
    (
        "entries with two webhooks that tell of a delay",
        "SELECT COUNT(*) FROM (SELECT queue_id FROM webhook WHERE event = 'delayed' GROUP BY queue_id HAVING COUNT(*) > 1) g",
    ),
    (
        "URLs with webhooks and without row",
        "SELECT COUNT(*) FROM (SELECT DISTINCT url_key FROM webhook) w WHERE NOT EXISTS \
         (SELECT 1 FROM webhook_url u WHERE u.url_key = w.url_key)",
    ),
    (
        // Those that wait for an earlier one aside.
        "URLs that are due later than their webhooks",
        "SELECT COUNT(*) FROM webhook_url u WHERE u.leased_until = 0 AND EXISTS (SELECT 1 FROM webhook w WHERE w.url_key = u.url_key \
         AND (u.next_due IS NULL OR w.next_attempt < u.next_due) \
         AND NOT EXISTS (SELECT 1 FROM webhook b WHERE b.queue_id = w.queue_id AND b.url_key = w.url_key AND b.id < w.id))",
    ),
];

/// How entries end.
const ENDED: [EventKind; 4] = [EventKind::Delivered, EventKind::Failed, EventKind::Suppressed, EventKind::Canceled];

impl Queue {
    /// Verifies that everything holds that must, the conservation law among it.
    ///
    /// # Errors
    /// The database failed. What is wrong with the data is in the report.
    pub async fn check(&self) -> Result<QueueReport, Error> {
        self.copies_forgotten().await?;
        let blobs = Arc::clone(&self.blobs);
        self.db.read(move |tx| check(tx, &*blobs)).await
    }
}

fn check(tx: &Tx<'_>, blobs: &dyn BlobStore) -> Result<QueueReport, Error> {
    let number = |sql: &str| tx.query_row(sql, &[], |row| row.int(0));
    let count = |table: &str| number(&format!("SELECT COUNT(*) FROM {table}")).map(|n| u64::try_from(n).unwrap_or(0));
    let mut report = QueueReport {
        messages: count("queue_message")?,
        entries: count("queue_entry")?,
        retired: count("queue_retired")?,
        copies: count("queue_copy")?,
        webhooks: count("webhook")?,
        retired_webhooks: count("webhook_retired")?,
        ..QueueReport::default()
    };
    for (what, sql) in RULES {
        match number(sql)? {
            0 => {}
            n => report.problems.push(format!("{n} {what}")),
        }
    }
    let totals = tally::all(tx)?;
    let total = |kind: &str| totals.get(kind).copied().unwrap_or(0);
    let ended: i64 = ENDED.iter().map(|kind| total(kind.name())).sum();
    let queued = total(tally::QUEUED);
    report.queued = u64::try_from(queued).unwrap_or(0);
    if i64::try_from(report.entries) != Ok(queued.saturating_sub(ended)) {
        report.problems.push(format!("{queued} entries were queued and {ended} ended, but {} are there", report.entries));
    }
    let (added, ended) = (total(tally::WEBHOOKS), total(tally::WEBHOOKS_ENDED));
    if i64::try_from(report.webhooks) != Ok(added.saturating_sub(ended)) {
        report.problems.push(format!("{added} webhooks were added and {ended} ended, but {} are there", report.webhooks));
    }
    domains(tx, &mut report)?;
    bodies(tx, blobs, &mut report)?;
    Ok(report)
}

/// Entries are queued for the domain of their recipient.
fn domains(tx: &Tx<'_>, report: &mut QueueReport) -> Result<(), Error> {
    tx.query("SELECT id, recipient, domain FROM queue_entry", &[], |row| {
        let recipient = super::entry::stored_path(row.text(1)?)?;
        if recipient.host.to_string() != row.text(2)? {
            report.problems.push(format!("entry {} is queued for another domain than its recipient's", QueueId(row.int(0)?).0));
        }
        Ok(())
    })
}

/// Each body is there and whole; there are no others.
fn bodies(tx: &Tx<'_>, blobs: &dyn BlobStore, report: &mut QueueReport) -> Result<(), Error> {
    let mut files = BTreeSet::new();
    tx.query("SELECT id, size, CAST(length(prefix) AS BIGINT), body, file FROM queue_message", &[], |row| {
        let (id, want) = (row.int(0)?, row.int(1)?.saturating_sub(row.int(2)?));
        let found = match (row.opt_blob(3)?, row.opt_text(4)?) {
            (Some(body), _) => decompress(body, row.int(1)?).map(|body| i64::try_from(body.len()).unwrap_or(i64::MAX)),
            (None, Some(file)) => {
                files.insert(file.to_owned());
                length(blobs, file)
            }
            (None, None) => return Ok(()),
        };
        match found {
            Ok(found) if found == want => {}
            Ok(found) => report.problems.push(format!("message {id} has a body of {found} bytes, not {want}")),
            Err(e) => report.problems.push(format!("message {id}: {e}")),
        }
        Ok::<_, Error>(())
    })?;
    for (file, _) in blobs.list().map_err(blob_error)? {
        if !files.contains(&file) {
            report.problems.push(format!("file {file} belongs to no message"));
        }
    }
    Ok(())
}

fn length(blobs: &dyn BlobStore, file: &str) -> Result<i64, Error> {
    let mut reader = blobs.open(file, 0).map_err(blob_error)?;
    let mut buffer = vec![0; 64 << 10];
    let mut length = 0i64;
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(length),
            n => length = length.saturating_add(i64::try_from(n).unwrap_or(i64::MAX)),
        }
    }
}
