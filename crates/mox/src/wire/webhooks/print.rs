//! Printing webhooks: lines for lists, and JSON with the names that scripts know.

use crate::wire::queue::{relative, whole_seconds};
use mox_base::Timestamp;
use mox_store::webhook::{CallResult, Event, ListedWebhook, RetiredWebhook, Webhook};
use serde::Serialize;
use std::collections::BTreeMap;

pub(super) fn waiting_line(listed: &ListedWebhook<Webhook>, now: Timestamp) -> String {
    let row = &listed.row;
    let next = relative(now, row.next_attempt);
    let (last, error) = last(&listed.results, now);
    let submitted = whole_seconds(row.submitted).rfc3339();
    format!("{:5} {submitted} account:{} next {next} last {last} error {error:?} url {}\n", row.id.0, row.account, row.url)
}

pub(super) fn retired_line(listed: &ListedWebhook<RetiredWebhook>, now: Timestamp) -> String {
    let row = &listed.row;
    let result = if row.success { "success" } else { "failure" };
    let (last, error) = last(&listed.results, now);
    let submitted = whole_seconds(row.submitted).rfc3339();
    format!("{:5} {submitted} {result} account:{} last {last} error {error:?} url {}\n", row.id.0, row.account, row.url)
}

fn last(results: &[CallResult], now: Timestamp) -> (String, &str) {
    results.last().map_or((String::new(), ""), |last| (relative(last.start, now), last.error.as_str()))
}

/// A waiting webhook as JSON, indented.
pub(super) fn waiting(listed: &ListedWebhook<Webhook>) -> Result<String, String> {
    let row = &listed.row;
    json(&Hook {
        id: row.id.0,
        queue_msg_id: row.queue_id.map_or(0, |id| id.0),
        from_id: &row.from_id,
        message_id: &row.message_id,
        subject: &row.subject,
        extra: &row.extra,
        account: &row.account,
        url: &row.url,
        authorization: row.authorization.as_ref().map_or("", |secret| secret.expose().as_str()),
        is_incoming: row.event == Event::Incoming,
        outgoing_event: outgoing_event(row.event),
        payload: &row.payload,
        submitted: row.submitted.rfc3339(),
        attempts: row.attempts,
        next_attempt: row.next_attempt.rfc3339(),
        results: listed.results.iter().map(HookResult::of).collect(),
    })
}

/// A retired webhook as JSON, indented.
pub(super) fn retired(listed: &ListedWebhook<RetiredWebhook>) -> Result<String, String> {
    let row = &listed.row;
    json(&HookRetired {
        id: row.id.0,
        queue_msg_id: row.queue_id.map_or(0, |id| id.0),
        from_id: &row.from_id,
        message_id: &row.message_id,
        subject: &row.subject,
        extra: &row.extra,
        account: &row.account,
        url: &row.url,
        authorization: row.authorization,
        is_incoming: row.event == Event::Incoming,
        outgoing_event: outgoing_event(row.event),
        payload: &row.payload,
        submitted: row.submitted.rfc3339(),
        superseded_by_id: row.superseded_by.map_or(0, |id| id.0),
        attempts: row.attempts,
        results: listed.results.iter().map(HookResult::of).collect(),
        success: row.success,
        last_activity: row.last_activity.rfc3339(),
        keep_until: row.keep_until.rfc3339(),
    })
}

fn outgoing_event(event: Event) -> &'static str {
    if event == Event::Incoming { "" } else { event.name() }
}

fn json<T: Serialize>(value: &T) -> Result<String, String> {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter)).map_err(|e| e.to_string())?;
    bytes.push(b'\n');
    String::from_utf8(bytes).map_err(|e| e.to_string())
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Hook<'a> {
    #[serde(rename = "ID")]
    id: i64,
    #[serde(rename = "QueueMsgID")]
    queue_msg_id: i64,
    #[serde(rename = "FromID")]
    from_id: &'a str,
    #[serde(rename = "MessageID")]
    message_id: &'a str,
    subject: &'a str,
    extra: &'a BTreeMap<String, String>,
    account: &'a str,
    #[serde(rename = "URL")]
    url: &'a str,
    authorization: &'a str,
    is_incoming: bool,
    outgoing_event: &'a str,
    payload: &'a str,
    submitted: String,
    attempts: u32,
    next_attempt: String,
    results: Vec<HookResult<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct HookRetired<'a> {
    #[serde(rename = "ID")]
    id: i64,
    #[serde(rename = "QueueMsgID")]
    queue_msg_id: i64,
    #[serde(rename = "FromID")]
    from_id: &'a str,
    #[serde(rename = "MessageID")]
    message_id: &'a str,
    subject: &'a str,
    extra: &'a BTreeMap<String, String>,
    account: &'a str,
    #[serde(rename = "URL")]
    url: &'a str,
    authorization: bool,
    is_incoming: bool,
    outgoing_event: &'a str,
    payload: &'a str,
    submitted: String,
    #[serde(rename = "SupersededByID")]
    superseded_by_id: i64,
    attempts: u32,
    results: Vec<HookResult<'a>>,
    success: bool,
    last_activity: String,
    keep_until: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct HookResult<'a> {
    start: String,
    /// Nanoseconds.
    duration: u64,
    #[serde(rename = "URL")]
    url: &'a str,
    success: bool,
    code: u16,
    error: &'a str,
    response: &'a str,
}

impl<'a> HookResult<'a> {
    fn of(result: &'a CallResult) -> Self {
        Self {
            start: result.start.rfc3339(),
            duration: u64::try_from(result.duration.as_nanos()).unwrap_or(u64::MAX),
            url: &result.url,
            success: result.success,
            code: result.code,
            error: &result.error,
            response: &result.response,
        }
    }
}
