//! Adding a submission: the message and an entry per recipient, all or nothing.

use super::body::StoredBody;
use super::entry::{Notify, ReportKind, Urgency, by_mode, extra_to_text, without_nul};
use super::hold::HoldRules;
use super::limits::{self, SendLimits};
use super::lookup::from_id_key;
use super::room::{self, QueueRoom};
use super::{Body, Conflict, Queue, copy, tally};
use crate::db::{Error, Sql, Tx};
use crate::params;
use mox_base::{DeliverBy, Domain, Path, Priority, QueueId, Timestamp, WhenLate};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What the entries of a submission share.
#[derive(Debug)]
pub struct NewMessage {
    /// The sender's account.
    pub account: String,
    /// Now.
    pub queued: Timestamp,
    /// Headers before the body.
    pub prefix: Vec<u8>,
    /// The message without the prefix.
    pub body: Body,
    /// Whether there are bytes from 0x80.
    pub has_8bit: bool,
    /// Whether it needs SMTPUTF8.
    pub smtputf8: bool,
    /// With angle brackets; may be empty.
    pub message_id: String,
    /// Decoded.
    pub subject: String,
    /// Sent instead of the body to hosts with SMTPUTF8.
    pub body_utf8: Option<Vec<u8>>,
    /// Whether it is a report.
    pub report: ReportKind,
    /// `for;<seconds>` or `until;<time>`, RFC 4865; else empty.
    pub future_release: String,
    /// The submitter's own data.
    pub extra: BTreeMap<String, String>,
    /// ENVID, decoded.
    pub envelope_id: Option<String>,
    /// RET=FULL.
    pub return_full: bool,
    /// Whose DKIM keys sign it when it is sent; none for no signature.
    pub sign_domain: Option<Domain>,
    /// How soon it goes, compared with what else waits.
    pub urgency: Urgency,
    /// MT-PRIORITY, for the hosts that it is handed to.
    pub priority: Option<Priority>,
    /// By when it is to be delivered.
    pub deliver_by: Option<DeliverBy>,
    /// How much the account may send; none for what the server sends by itself, which isn't counted.
    pub limits: Option<SendLimits>,
    /// How much of the account may wait in the queue; none for what the server sends by itself.
    pub room: Option<QueueRoom>,
    /// What somebody else does in the transaction.
    pub step: Option<Arc<dyn AddStep>>,
}

impl NewMessage {
    /// A message with defaults for everything else: nothing known about it, not signed, not limited.
    pub const fn new(account: String, body: Body, queued: Timestamp) -> Self {
        Self {
            account,
            queued,
            prefix: Vec::new(),
            body,
            has_8bit: false,
            smtputf8: false,
            message_id: String::new(),
            subject: String::new(),
            body_utf8: None,
            report: ReportKind::None,
            future_release: String::new(),
            extra: BTreeMap::new(),
            envelope_id: None,
            return_full: false,
            sign_domain: None,
            urgency: Urgency::Interactive,
            priority: None,
            deliver_by: None,
            limits: None,
            room: None,
            step: None,
        }
    }
}

/// A step of somebody else in the transaction that adds a submission. It may run more than once, of which one counts.
pub trait AddStep: Debug + Send + Sync {
    /// Runs first. With a value, nothing is added, and adding fails with [`AddError::Answered`].
    ///
    /// # Errors
    /// The database failed: nothing is added.
    fn before(&self, tx: &Tx<'_>) -> Result<Option<Vec<u8>>, Error>;

    /// Runs last, with the entries and their ids in the same order.
    ///
    /// # Errors
    /// The database failed: nothing is added.
    fn after(&self, tx: &Tx<'_>, entries: &[NewEntry], ids: &[QueueId]) -> Result<(), Error>;
}

/// A recipient of a submission.
#[derive(Clone, Debug)]
pub struct NewEntry {
    /// MAIL FROM, none for the null reverse-path.
    pub sender: Option<Path>,
    /// What in the sender's address identifies this entry; unique.
    pub from_id: Option<String>,
    /// RCPT TO.
    pub recipient: Path,
    /// When delivery is tried first.
    pub next_attempt: Timestamp,
    /// Whether it isn't delivered until somebody says so.
    pub hold: bool,
    /// 0 for the default.
    pub max_attempts: u32,
    /// See [`super::Entry::require_tls`].
    pub require_tls: Option<bool>,
    /// Of what the sender wants to hear.
    pub notify: Notify,
    /// ORCPT as given.
    pub original_recipient: Option<String>,
}

impl NewEntry {
    /// An entry that is due at once, with defaults for the rest.
    pub const fn new(sender: Option<Path>, recipient: Path, now: Timestamp) -> Self {
        Self {
            sender,
            from_id: None,
            recipient,
            next_attempt: now,
            hold: false,
            max_attempts: 0,
            require_tls: None,
            notify: Notify { success: false, failure: true, delay: true },
            original_recipient: None,
        }
    }
}

/// Why nothing was added.
#[derive(Debug, thiserror::Error)]
pub enum AddError {
    /// No recipient.
    #[error("submission without recipients")]
    NoRecipients,
    /// The account has sent too much in 24 hours.
    #[error("account has sent too many messages in the past 24 hours")]
    MessageLimit,
    /// The account has written to too many in 24 hours to whom it never wrote before.
    #[error("account has written to too many new recipients in the past 24 hours")]
    FirstTimeLimit,
    /// The account has too many messages in the queue.
    #[error("account has too many messages in the queue")]
    QueuedMessages,
    /// The account's messages in the queue are too large in all.
    #[error("account has too large messages in the queue")]
    QueuedSize,
    /// A from id is in use already.
    #[error("fromid not unique")]
    FromIdNotUnique,
    /// The submission's [`AddStep`] had an answer.
    #[error("submission was answered before")]
    Answered(Vec<u8>),
    /// Database or file system failed.
    #[error("adding to the queue: {0}")]
    Store(#[from] Error),
}

impl Conflict for AddError {
    fn conflict(&self) -> bool {
        matches!(self, Self::Store(e) if e.conflict())
    }
}

/// A submission as the transaction writes it.
#[derive(Debug)]
struct Submission {
    message: NewMessage,
    body: StoredBody,
    size: u64,
    entries: Vec<NewEntry>,
}

impl Queue {
    /// Adds a submission. When this returns, it is durable, and whoever waits in [`Queue::changed`] is woken.
    ///
    /// # Errors
    /// See [`AddError`]: then nothing was added, unless the database can't tell.
    pub async fn add(&self, message: NewMessage, entries: Vec<NewEntry>) -> Result<Vec<QueueId>, AddError> {
        if entries.is_empty() {
            return Err(AddError::NoRecipients);
        }
        let body = self.store_body(&message.body).await?;
        let file = body.file().map(str::to_owned);
        let size = u64::try_from(message.prefix.len()).unwrap_or(u64::MAX).saturating_add(message.body.len());
        let submission = Arc::new(Submission { message, body, size, entries });
        let filed = self.filed.take();
        let forgotten = filed.clone();
        let added = self
            .write(move |tx| {
                let files = copy::forget(tx, &forgotten)?;
                add(tx, &submission).map(|added| (added, files))
            })
            .await;
        let added = match added {
            Ok((Added { ids, held }, files)) => {
                if held {
                    self.hold_changed.store(true, Ordering::Release);
                }
                self.delete_files(files).await;
                Ok(ids)
            }
            Err(e) => {
                self.filed.put_back(filed);
                Err(e)
            }
        };
        match (&added, file) {
            (Ok(_), _) => self.changed.notify_one(),
            // After a failed commit it isn't known whether the rows are there. The sweep at the next start tells.
            (Err(AddError::Store(Error::Commit(_))), _) | (Err(_), None) => {}
            (Err(_), Some(file)) => self.delete_files(vec![file]).await,
        }
        added
    }
}

/// What was added.
struct Added {
    ids: Vec<QueueId>,
    /// Whether any of it is held.
    held: bool,
}

fn add(tx: &Tx<'_>, submission: &Submission) -> Result<Added, AddError> {
    let Submission { message, body, size, entries } = submission;
    super::hold::share(tx)?;
    if let Some(answer) = message.step.as_ref().map(|step| step.before(tx)).transpose()?.flatten() {
        return Err(AddError::Answered(answer));
    }
    for from_id in entries.iter().filter_map(|e| e.from_id.as_ref()) {
        let sql = "SELECT 1 FROM queue_entry WHERE from_id = $1 UNION ALL SELECT 1 FROM queue_retired WHERE from_id = $1 LIMIT 1";
        if tx.query_opt(sql, params![from_id], |row| row.int(0))?.is_some() {
            return Err(AddError::FromIdNotUnique);
        }
    }
    let unique: BTreeSet<_> = entries.iter().filter_map(|e| e.from_id.as_ref()).collect();
    if unique.len() < entries.iter().filter(|e| e.from_id.is_some()).count() {
        return Err(AddError::FromIdNotUnique);
    }
    if let Some(limits) = message.limits {
        limits::count(tx, &message.account, entries, message.queued, limits)?;
    }
    room::take(tx, &message.account, (entries.len(), *size), message.room)?;
    let rules = HoldRules::load(tx)?;
    let held: Vec<bool> = entries.iter().map(|e| e.hold || rules.hold(&message.account, e)).collect();
    let id = add_message(tx, message, body, *size)?;
    let mut ids: Vec<QueueId> = Vec::with_capacity(entries.len());
    for (entry, hold) in entries.iter().zip(&held) {
        ids.push(add_entry(tx, message, id, entry, *hold)?);
    }
    let same_sender = entries.iter().all(|e| e.sender == entries.first().and_then(|first| first.sender.clone()));
    if let Some(base) = ids.first().filter(|_| ids.len() > 1 && same_sender) {
        tx.exec("UPDATE queue_entry SET base_id = $1 WHERE message = $2", params![*base, id])?;
    }
    // In order of their names, so that two servers that add at once don't wait for each other.
    let mut due = BTreeMap::new();
    for (entry, hold) in entries.iter().zip(&held) {
        let next = due.entry(entry.recipient.host.to_string()).or_insert(None);
        if !hold {
            *next = Some(next.map_or(entry.next_attempt, |n: Timestamp| n.min(entry.next_attempt)));
        }
    }
    for (domain, next) in &due {
        lower_due(tx, domain, *next, message.urgency)?;
    }
    tally::add(tx, tally::QUEUED, ids.len())?;
    if let Some(step) = &message.step {
        step.after(tx, entries, &ids)?;
    }
    Ok(Added { ids, held: held.contains(&true) })
}

fn add_message(tx: &Tx<'_>, message: &NewMessage, body: &StoredBody, size: u64) -> Result<i64, Error> {
    tx.query_row(
        "INSERT INTO queue_message (account, queued, size, prefix, body, file, has_8bit, smtputf8, message_id, subject, body_utf8, \
         report, future_release, extra, envelope_id, return_full, sign_domain, priority, deliver_by, by_mode) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20) RETURNING id",
        params![
            &message.account,
            message.queued,
            size,
            &message.prefix,
            body.inline(),
            body.file(),
            message.has_8bit,
            message.smtputf8,
            &without_nul(&message.message_id),
            &without_nul(&message.subject),
            message.body_utf8.as_deref(),
            message.report.code(),
            &message.future_release,
            &extra_to_text(&message.extra),
            message.envelope_id.as_deref().map(without_nul).as_ref(),
            message.return_full,
            &message.sign_domain.as_ref().map(ToString::to_string).unwrap_or_default(),
            message.priority.map(|priority| i64::from(priority.get())),
            message.deliver_by.map(|by| by.at),
            message.deliver_by.map_or(0, by_mode),
        ],
        |row| row.int(0),
    )
}

fn add_entry(tx: &Tx<'_>, message: &NewMessage, id: i64, entry: &NewEntry, hold: bool) -> Result<QueueId, Error> {
    let sender = entry.sender.as_ref().map(Path::to_string).unwrap_or_default();
    // RFC 2852 §4.1.4: of what was late when it came, the sender was told.
    let by_due = message.deliver_by.filter(|by| by.late == WhenLate::Return || by.at > message.queued).map(|by| by.at);
    tx.query_row(
        "INSERT INTO queue_entry (base_id, message, account, queued, hold, sender, from_id, recipient, domain, attempts, max_attempts, \
         dialed, next_attempt, last_attempt, transport, require_tls, notify, original_recipient, from_id_key, bulk, by_due) \
         VALUES (0, $1, $2, $3, $4, $5, $6, $7, $8, 0, $9, '', $10, NULL, '', $11, $12, $13, $14, $15, $16) RETURNING id",
        params![
            id,
            &message.account,
            message.queued,
            hold,
            &sender,
            entry.from_id.as_ref(),
            &entry.recipient.to_string(),
            &entry.recipient.host.to_string(),
            entry.max_attempts,
            entry.next_attempt,
            entry.require_tls,
            entry.notify.bits(),
            entry.original_recipient.as_deref().map(without_nul).as_ref(),
            entry.from_id.as_deref().map(from_id_key).as_ref(),
            message.urgency == Urgency::Bulk,
            by_due,
        ],
        |row| Ok(QueueId(row.int(0)?)),
    )
}

/// Makes the domain due no later than `next`; other servers may do the same at the same time.
fn lower_due(tx: &Tx<'_>, domain: &str, next: Option<Timestamp>, urgency: Urgency) -> Result<(), Error> {
    let lower = |least: fn(&str) -> String| {
        format!(
            "INSERT INTO queue_domain (domain, next_due, next_urgent, leased_until, owner) VALUES ($1, $2, $3, 0, 0) \
             ON CONFLICT (domain) DO UPDATE SET next_due = {}, next_urgent = {}",
            least("next_due"),
            least("next_urgent")
        )
    };
    let sqlite = lower(|column| {
        format!("min(coalesce(queue_domain.{column}, excluded.{column}), coalesce(excluded.{column}, queue_domain.{column}))")
    });
    // LEAST ignores NULLs.
    let postgres = lower(|column| format!("LEAST(queue_domain.{column}, excluded.{column})"));
    let urgent = next.filter(|_| urgency == Urgency::Interactive);
    tx.exec(Sql { sqlite: &sqlite, postgres: &postgres }, params![domain, next, urgent])?;
    Ok(())
}
