//! What happens to entries, as it is told to those who want to hear of it.
//!
//! The queue records what came of an entry; what follows from that besides is decided outside, by an [`Aftermath`]: how
//! long a finished entry is remembered, and whether a webhook announces it. What it says is done in the transaction that
//! records, so that nothing is announced that wasn't recorded, and nothing recorded without being announced.

use super::entry::{AttemptResult, Entry, QueuedMessage, ReportKind, extra_from_text, stored_path};
use crate::db::{Error, Row, Tx};
use crate::params;
use crate::webhook::{self, NewWebhook};
use mox_base::{Path, QueueId, Timestamp};
use std::collections::BTreeMap;
use std::fmt::Debug;

pub use crate::webhook::Event as EventKind;

/// What happened to an entry.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// What happened: delivered, delayed, failed, suppressed or canceled.
    pub kind: EventKind,
    /// To which entry.
    pub entry: &'a EventEntry,
    /// The result that says how.
    pub result: &'a AttemptResult,
    /// Whether the recipient is on the account's suppression list because of it.
    pub suppressing: bool,
    /// When.
    pub at: Timestamp,
}

/// Of an entry, queued or retired, what is told about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventEntry {
    /// Its id.
    pub id: QueueId,
    /// The sender's account.
    pub account: String,
    /// RCPT TO.
    pub recipient: Path,
    /// What in the sender's address identifies the entry.
    pub from_id: Option<String>,
    /// With angle brackets; may be empty.
    pub message_id: String,
    /// Decoded.
    pub subject: String,
    /// The submitter's own data.
    pub extra: BTreeMap<String, String>,
    /// Whether it has left the queue.
    pub retired: bool,
    /// What kind of report it is.
    pub report: ReportKind,
}

impl EventEntry {
    /// From an entry of the queue.
    pub fn new(entry: &Entry, message: &QueuedMessage) -> Self {
        Self {
            id: entry.id,
            account: entry.account.clone(),
            recipient: entry.recipient.clone(),
            from_id: entry.from_id.clone(),
            message_id: message.message_id.clone(),
            subject: message.subject.clone(),
            extra: message.extra.clone(),
            retired: false,
            report: message.report,
        }
    }

    /// Of entries `e` with messages `m`.
    pub(super) const QUEUED: &str = "e.id, e.account, e.recipient, e.from_id, m.message_id, m.subject, m.extra, 0, m.report";
    /// Of retired entries `e`.
    pub(super) const RETIRED: &str = "e.id, e.account, e.recipient, e.from_id, e.message_id, e.subject, e.extra, 1, e.report";

    pub(super) fn from_row(row: &Row<'_>) -> Result<Self, Error> {
        Ok(Self {
            id: QueueId(row.int(0)?),
            account: row.text(1)?.to_owned(),
            recipient: stored_path(row.text(2)?)?,
            from_id: row.opt_text(3)?.map(str::to_owned),
            message_id: row.text(4)?.to_owned(),
            subject: row.text(5)?.to_owned(),
            extra: extra_from_text(row.text(6)?),
            retired: row.int(7)? != 0,
            report: ReportKind::from_code(row.int(8)?),
        })
    }

    /// Of an entry of the queue.
    pub(super) fn queued(tx: &Tx<'_>, id: QueueId) -> Result<Option<Self>, Error> {
        let sql = format!("SELECT {} FROM queue_entry e JOIN queue_message m ON m.id = e.message WHERE e.id = $1", Self::QUEUED);
        tx.query_opt(&sql, params![id], Self::from_row)
    }
}

/// What follows from what happened to entries.
pub trait Aftermath: Debug + Send + Sync {
    /// Until when a finished entry of the account is remembered; none for not at all.
    fn keep_until(&self, account: &str, now: Timestamp) -> Option<Timestamp>;

    /// Until when an address is suppressed to which mail of the account failed now; none for ever.
    fn suppressed_until(&self, account: &str, now: Timestamp) -> Option<Timestamp>;

    /// Whether the account wants to hear of such events; asked before [`Aftermath::webhook`].
    fn is_announced(&self, account: &str, kind: EventKind) -> bool;

    /// The webhook that announces an event.
    fn webhook(&self, event: &Event<'_>) -> Option<NewWebhook>;
}

/// Announces an event of an entry that is still in the queue. After the commit, [`super::Queue::wake`].
pub(super) fn announce(tx: &Tx<'_>, aftermath: &dyn Aftermath, happened: Happened<'_>) -> Result<(), Error> {
    let Happened { id, account, kind, result, suppressing, at } = happened;
    if !aftermath.is_announced(account, kind) {
        return Ok(());
    }
    let Some(entry) = EventEntry::queued(tx, id)? else { return Ok(()) };
    if let Some(new) = aftermath.webhook(&Event { kind, entry: &entry, result, suppressing, at }) {
        webhook::insert(tx, &new)?;
    }
    Ok(())
}

/// What happened to an entry, before it was read.
pub(super) struct Happened<'a> {
    pub(super) id: QueueId,
    pub(super) account: &'a str,
    pub(super) kind: EventKind,
    pub(super) result: &'a AttemptResult,
    pub(super) suppressing: bool,
    pub(super) at: Timestamp,
}

/// Nothing is remembered, nobody is told. For tests.
#[derive(Clone, Copy, Debug)]
pub struct NoAftermath;

impl Aftermath for NoAftermath {
    fn keep_until(&self, _account: &str, _now: Timestamp) -> Option<Timestamp> {
        None
    }

    fn suppressed_until(&self, _account: &str, _now: Timestamp) -> Option<Timestamp> {
        None
    }

    fn is_announced(&self, _account: &str, _kind: EventKind) -> bool {
        false
    }

    fn webhook(&self, _event: &Event<'_>) -> Option<NewWebhook> {
        None
    }
}
