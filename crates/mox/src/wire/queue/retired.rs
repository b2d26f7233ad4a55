//! Printing retired entries: lines for lists, and JSON with the names that scripts know.

use super::{relative, whole_seconds};
use crate::ctl::Output;
use crate::wire::services::Shared;
use mox_base::{Host, Path, QueueId, Timestamp};
use mox_store::queue::{AttemptResult, Filter, Listed, Page, Queue, ReportKind, RetiredEntry, Sort, SortField, parse_path};
use serde::Serialize;
use std::collections::BTreeMap;

pub(super) async fn list(shared: &Shared, filter: Filter, mut sort: Sort, out: &mut Output) -> Result<(), String> {
    let now = shared.store.clock().now();
    let mut left = filter.max.unwrap_or(u64::MAX);
    let mut any = false;
    out.write(b"retired messages:\n").await?;
    while left > 0 {
        let page = Page { limit: Page::default().limit.min(left) };
        let rows = shared.queue.list_retired(filter.clone(), sort, page).await.map_err(|e| e.to_string())?;
        let Some(last) = rows.last() else { break };
        any = true;
        let time = if sort.field == SortField::Added { last.row.queued } else { last.row.last_activity };
        sort.after = Some((time, last.row.id));
        left = left.saturating_sub(u64::try_from(rows.len()).unwrap_or(u64::MAX));
        let text: String = rows.iter().map(|row| line(row, now)).collect();
        out.write(text.as_bytes()).await?;
    }
    if any { Ok(()) } else { out.write(b"(none)\n").await }
}

fn line(listed: &Listed<RetiredEntry>, now: Timestamp) -> String {
    let row = &listed.row;
    let result = if row.success { "success" } else { "failure" };
    let last = row.last_attempt.map(|at| relative(at, now)).unwrap_or_default();
    let error = listed.results.last().map_or("", |r| r.error.as_str());
    let queued = whole_seconds(row.queued).rfc3339();
    format!("{:5} {queued} {result} from:{} to:{} last {last} error {error:?}\n", row.id.0, row.sender, row.recipient)
}

/// Prints one as JSON.
pub(super) async fn print(queue: &Queue, id: i64, out: &mut Output) -> Result<(), String> {
    let found = queue.retired(QueueId(id)).await.map_err(|e| e.to_string())?.ok_or("no such retired message")?;
    out.write(json(&found)?.as_bytes()).await
}

fn json(listed: &Listed<RetiredEntry>) -> Result<String, String> {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    Retired::of(listed).serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter)).map_err(|e| e.to_string())?;
    bytes.push(b'\n');
    String::from_utf8(bytes).map_err(|e| e.to_string())
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Retired<'a> {
    #[serde(rename = "ID")]
    id: i64,
    #[serde(rename = "BaseID")]
    base_id: i64,
    queued: String,
    sender_account: &'a str,
    sender_localpart: String,
    sender_domain_str: String,
    #[serde(rename = "FromID")]
    from_id: &'a str,
    recipient_localpart: String,
    recipient_domain: IpDomain,
    recipient_domain_str: String,
    recipient_address: &'a str,
    attempts: u32,
    max_attempts: u32,
    #[serde(rename = "DialedIPs")]
    dialed_ips: BTreeMap<String, Vec<String>>,
    last_attempt: Option<String>,
    results: Vec<AttemptJson<'a>>,
    has8bit: bool,
    #[serde(rename = "SMTPUTF8")]
    smtputf8: bool,
    #[serde(rename = "IsDMARCReport")]
    is_dmarc_report: bool,
    #[serde(rename = "IsTLSReport")]
    is_tls_report: bool,
    size: u64,
    #[serde(rename = "MessageID")]
    message_id: &'a str,
    subject: &'a str,
    transport: &'a str,
    #[serde(rename = "RequireTLS")]
    require_tls: Option<bool>,
    future_release_request: &'a str,
    extra: &'a BTreeMap<String, String>,
    last_activity: String,
    success: bool,
    keep_until: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct AttemptJson<'a> {
    start: String,
    duration: u64,
    success: bool,
    code: u16,
    secode: &'a str,
    error: &'a str,
    transport: &'a str,
    host: &'a str,
    #[serde(rename = "IP")]
    ip: String,
    #[serde(rename = "TLS")]
    tls: &'a str,
}

#[derive(Default, Serialize)]
struct IpDomain {
    #[serde(rename = "IP")]
    ip: String,
    #[serde(rename = "Domain")]
    domain: DomainJson,
}

#[derive(Default, Serialize)]
struct DomainJson {
    #[serde(rename = "ASCII")]
    ascii: String,
    #[serde(rename = "Unicode")]
    unicode: String,
}

impl<'a> Retired<'a> {
    fn of(listed: &'a Listed<RetiredEntry>) -> Self {
        let Listed { row, results } = listed;
        let (sender, recipient) = (parse_path(&row.sender), parse_path(&row.recipient));
        let localpart = |path: &Option<Path>| path.as_ref().map(|p| p.localpart.as_str().to_owned()).unwrap_or_default();
        let domain = |path: &Option<Path>| path.as_ref().map(|p| p.host.to_string()).unwrap_or_default();
        Self {
            id: row.id.0,
            base_id: row.base.map_or(0, |id| id.0),
            queued: row.queued.rfc3339(),
            sender_account: &row.account,
            sender_localpart: localpart(&sender),
            sender_domain_str: domain(&sender),
            from_id: row.from_id.as_deref().unwrap_or_default(),
            recipient_localpart: localpart(&recipient),
            recipient_domain: recipient.as_ref().map(|p| IpDomain::of(&p.host)).unwrap_or_default(),
            recipient_domain_str: domain(&recipient),
            recipient_address: &row.recipient,
            attempts: row.attempts,
            max_attempts: row.max_attempts,
            dialed_ips: row.dialed.hosts().map(|(host, ips)| (host.to_owned(), ips.iter().map(ToString::to_string).collect())).collect(),
            last_attempt: row.last_attempt.map(Timestamp::rfc3339),
            results: results.iter().map(AttemptJson::of).collect(),
            has8bit: row.has_8bit,
            smtputf8: row.smtputf8,
            is_dmarc_report: row.report == ReportKind::Dmarc,
            is_tls_report: row.report == ReportKind::Tls,
            size: row.size.0,
            message_id: &row.message_id,
            subject: &row.subject,
            transport: &row.transport,
            require_tls: row.require_tls,
            future_release_request: &row.future_release,
            extra: &row.extra,
            last_activity: row.last_activity.rfc3339(),
            success: row.success,
            keep_until: row.keep_until.rfc3339(),
        }
    }
}

impl<'a> AttemptJson<'a> {
    fn of(result: &'a AttemptResult) -> Self {
        Self {
            start: result.start.rfc3339(),
            duration: u64::try_from(result.duration.as_nanos()).unwrap_or(u64::MAX),
            success: result.success,
            code: result.code,
            secode: &result.secode,
            error: &result.error,
            transport: &result.via.transport,
            host: &result.via.host,
            ip: result.via.ip.map(|ip| ip.to_string()).unwrap_or_default(),
            tls: &result.via.tls,
        }
    }
}

impl IpDomain {
    fn of(host: &Host) -> Self {
        match host {
            Host::Ip(ip) => Self { ip: ip.to_string(), domain: DomainJson::default() },
            Host::Domain(domain) => {
                let unicode = domain.to_string();
                let unicode = if unicode == domain.ascii() { String::new() } else { unicode };
                Self { ip: String::new(), domain: DomainJson { ascii: domain.ascii().to_owned(), unicode } }
            }
        }
    }
}
