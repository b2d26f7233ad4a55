//! Webhooks as values, and their way out of rows.

use crate::db::{Error, Param, Row};
use mox_base::{QueueId, Secret, Timestamp};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A webhook: the same number for all its attempts, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WebhookId(pub i64);

impl fmt::Display for WebhookId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<WebhookId> for Param<'_> {
    fn from(id: WebhookId) -> Self {
        Self::Int(id.0)
    }
}

/// What a webhook tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Event {
    /// A message that arrived.
    Incoming,
    /// The next host took the message.
    Delivered,
    /// The recipient is on the suppression list.
    Suppressed,
    /// An attempt failed, another follows.
    Delayed,
    /// No further attempt follows.
    Failed,
    /// A DSN says that it was handed on to where no DSNs come from.
    Relayed,
    /// A DSN says that it was delivered to a list.
    Expanded,
    /// An administrator removed it from the queue.
    Canceled,
    /// Mail about an earlier message that isn't understood.
    Unrecognized,
}

impl Event {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Incoming,
        Self::Delivered,
        Self::Suppressed,
        Self::Delayed,
        Self::Failed,
        Self::Relayed,
        Self::Expanded,
        Self::Canceled,
        Self::Unrecognized,
    ];

    /// Its name, as in filters and payloads.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Incoming => "incoming",
            Self::Delivered => "delivered",
            Self::Suppressed => "suppressed",
            Self::Delayed => "delayed",
            Self::Failed => "failed",
            Self::Relayed => "relayed",
            Self::Expanded => "expanded",
            Self::Canceled => "canceled",
            Self::Unrecognized => "unrecognized",
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a text is no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no such event")]
pub struct UnknownEvent;

impl FromStr for Event {
    type Err = UnknownEvent;

    fn from_str(text: &str) -> Result<Self, UnknownEvent> {
        Self::ALL.into_iter().find(|event| event.name() == text).ok_or(UnknownEvent)
    }
}

/// A webhook that waits to be called.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// Its number.
    pub id: WebhookId,
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
    /// When it was added.
    pub submitted: Timestamp,
    /// Attempts begun.
    pub attempts: u32,
    /// When it is due.
    pub next_attempt: Timestamp,
}

impl Webhook {
    pub(super) const COLUMNS: &str = "w.id, w.queue_id, w.from_id, w.message_id, w.subject, w.extra, w.account, w.url, w.auth_value, \
         w.secret, w.event, w.submitted, w.attempts, w.next_attempt, w.payload";

    pub(super) fn from_row(row: &Row<'_>) -> Result<Self, Error> {
        Ok(Self {
            id: WebhookId(row.int(0)?),
            queue_id: row.opt_int(1)?.map(QueueId),
            from_id: row.text(2)?.to_owned(),
            message_id: row.text(3)?.to_owned(),
            subject: row.text(4)?.to_owned(),
            extra: extra(row.text(5)?),
            account: row.text(6)?.to_owned(),
            url: row.text(7)?.to_owned(),
            authorization: row.opt_text(8)?.map(|text| Secret::new(text.to_owned())),
            secret: row.opt_text(9)?.map(|text| Secret::new(text.to_owned())),
            event: event(row.text(10)?)?,
            submitted: Timestamp::from_micros(row.int(11)?),
            attempts: small(row.int(12)?),
            next_attempt: Timestamp::from_micros(row.int(13)?),
            payload: row.text(14)?.to_owned(),
        })
    }
}

/// A webhook that is done.
#[derive(Clone, Debug)]
pub struct RetiredWebhook {
    /// Its number.
    pub id: WebhookId,
    /// As for [`Webhook::queue_id`].
    pub queue_id: Option<QueueId>,
    /// As for [`Webhook::from_id`].
    pub from_id: String,
    /// Of the message, with angle brackets.
    pub message_id: String,
    /// Of the message.
    pub subject: String,
    /// The submitter's own data.
    pub extra: BTreeMap<String, String>,
    /// Whose webhook it was.
    pub account: String,
    /// Where to.
    pub url: String,
    /// Whether there was an Authorization header.
    pub authorization: bool,
    /// What it told of.
    pub event: Event,
    /// The body: JSON.
    pub payload: String,
    /// When it was added.
    pub submitted: Timestamp,
    /// The newer webhook that replaced it.
    pub superseded_by: Option<WebhookId>,
    /// Attempts made.
    pub attempts: u32,
    /// Whether the receiver took it.
    pub success: bool,
    /// When it was done.
    pub last_activity: Timestamp,
    /// When it is forgotten.
    pub keep_until: Timestamp,
}

impl RetiredWebhook {
    pub(super) const COLUMNS: &str = "w.id, w.queue_id, w.from_id, w.message_id, w.subject, w.extra, w.account, w.url, w.with_auth, \
         w.event, w.submitted, w.superseded_by, w.attempts, w.success, w.last_activity, w.keep_until, w.payload";

    pub(super) fn from_row(row: &Row<'_>) -> Result<Self, Error> {
        Ok(Self {
            id: WebhookId(row.int(0)?),
            queue_id: row.opt_int(1)?.map(QueueId),
            from_id: row.text(2)?.to_owned(),
            message_id: row.text(3)?.to_owned(),
            subject: row.text(4)?.to_owned(),
            extra: extra(row.text(5)?),
            account: row.text(6)?.to_owned(),
            url: row.text(7)?.to_owned(),
            authorization: row.bool(8)?,
            event: event(row.text(9)?)?,
            submitted: Timestamp::from_micros(row.int(10)?),
            superseded_by: row.opt_int(11)?.map(WebhookId),
            attempts: small(row.int(12)?),
            success: row.bool(13)?,
            last_activity: Timestamp::from_micros(row.int(14)?),
            keep_until: Timestamp::from_micros(row.int(15)?),
            payload: row.text(16)?.to_owned(),
        })
    }
}

/// What came of an attempt, or of an administrator's action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallResult {
    /// When it began.
    pub start: Timestamp,
    /// How long it took.
    pub duration: Duration,
    /// What was called.
    pub url: String,
    /// Whether the receiver took it.
    pub success: bool,
    /// HTTP status, 0 without one.
    pub code: u16,
    /// Empty for success; [`CallResult::DELIVERING`] meanwhile.
    pub error: String,
    /// The beginning of the answer's body.
    pub response: String,
}

impl CallResult {
    /// The error of an attempt that is going on, or was when the server ended.
    pub const DELIVERING: &str = "delivering...";

    pub(super) const COLUMNS: &str = "start, duration, url, success, code, error, response";

    pub(super) fn from_row(row: &Row<'_>) -> Result<Self, Error> {
        Ok(Self {
            start: Timestamp::from_micros(row.int(0)?),
            duration: Duration::from_micros(u64::try_from(row.int(1)?).unwrap_or(0)),
            url: row.text(2)?.to_owned(),
            success: row.bool(3)?,
            code: u16::try_from(row.int(4)?).unwrap_or(0),
            error: row.text(5)?.to_owned(),
            response: row.text(6)?.to_owned(),
        })
    }
}

/// A webhook or retired webhook with what came of its attempts, oldest first.
#[derive(Clone, Debug)]
pub struct ListedWebhook<T> {
    /// The row.
    pub row: T,
    /// The results.
    pub results: Vec<CallResult>,
}

fn extra(text: &str) -> BTreeMap<String, String> {
    serde_json::from_str(text).unwrap_or_default()
}

fn event(text: &str) -> Result<Event, Error> {
    text.parse().map_err(|_| Error::Corrupt(format!("webhook: not an event: {text:?}")))
}

fn small(n: i64) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
