//! What is in the queue, as values, and their way into rows and back.

use super::events::EventKind;
use crate::db::{Error, Row};
use mox_base::{ByteSize, DeliverBy, Domain, Host, Localpart, Path, Priority, QueueId, Timestamp, WhenLate};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

/// How often delivery of an entry is tried when it doesn't say.
pub const DEFAULT_MAX_ATTEMPTS: u32 = 8;

/// The bytes and properties shared by the entries of one submission: a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueMessageId(pub i64);

/// What a message that the server made by itself is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReportKind {
    /// None: somebody's mail, or a DSN.
    #[default]
    None,
    /// A DMARC aggregate report.
    Dmarc,
    /// A TLS report.
    Tls,
}

impl ReportKind {
    pub(super) const fn code(self) -> i64 {
        match self {
            Self::None => 0,
            Self::Dmarc => 1,
            Self::Tls => 2,
        }
    }

    pub(super) const fn from_code(code: i64) -> Self {
        match code {
            1 => Self::Dmarc,
            2 => Self::Tls,
            _ => Self::None,
        }
    }
}

/// How soon a message goes, compared with others that are due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Urgency {
    /// Somebody waits for it.
    #[default]
    Interactive,
    /// Sent to many, or by software for nobody in particular: it goes when nothing else is due, and in any case now and then.
    Bulk,
}

/// DKIM-Signature fields of a queued message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// The fields, each with its line break. They go in front of the prefix.
    pub fields: Vec<u8>,
    /// By which keys: another text when they have changed.
    pub by: String,
    /// When another is to be made, because this one gets old.
    pub again: Option<Timestamp>,
}

/// Of which outcomes the sender wants to hear, RFC 3461 §4.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notify {
    /// Of success.
    pub success: bool,
    /// Of failure.
    pub failure: bool,
    /// Of delay.
    pub delay: bool,
}

impl Notify {
    /// Of nothing.
    pub const NEVER: Self = Self { success: false, failure: false, delay: false };

    pub(super) const fn bits(self) -> i64 {
        self.success as i64 | (self.failure as i64) << 1 | (self.delay as i64) << 2
    }

    const fn from_bits(bits: i64) -> Self {
        Self { success: bits & 1 != 0, failure: bits & 2 != 0, delay: bits & 4 != 0 }
    }
}

/// What senders get who ask for nothing.
impl Default for Notify {
    fn default() -> Self {
        Self { success: false, failure: true, delay: true }
    }
}

/// The addresses to which connections were made in earlier attempts, in order, by host name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DialedIps(BTreeMap<String, Vec<IpAddr>>);

/// How many are remembered per host; the choice of the next only looks at the last few.
const DIALED_KEPT: usize = 16;

impl DialedIps {
    /// Those of a host.
    pub fn of(&self, host: &str) -> &[IpAddr] {
        self.0.get(host).map_or(&[], Vec::as_slice)
    }

    /// All hosts by name.
    pub fn hosts(&self) -> impl Iterator<Item = (&str, &[IpAddr])> {
        self.0.iter().map(|(host, ips)| (host.as_str(), ips.as_slice()))
    }

    /// Notes a connection.
    pub fn note(&mut self, host: &str, ip: IpAddr) {
        let ips = self.0.entry(host.to_owned()).or_default();
        if ips.len() >= DIALED_KEPT {
            ips.remove(0);
        }
        ips.push(ip);
    }

    /// One host a line: name, then addresses.
    pub(super) fn to_text(&self) -> String {
        let mut text = String::new();
        for (host, ips) in &self.0 {
            text.push_str(host);
            for ip in ips {
                // Writing to a String can't fail.
                let _written = write!(text, " {ip}");
            }
            text.push('\n');
        }
        text
    }

    /// What can't be read is left out: it is only a preference.
    pub(super) fn from_text(text: &str) -> Self {
        let of_line = |line: &str| {
            let mut words = line.split(' ');
            Some((words.next()?.to_owned(), words.filter_map(|ip| ip.parse().ok()).collect()))
        };
        Self(text.lines().filter_map(of_line).collect())
    }
}

/// What came of an attempt, or of an administrator's action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptResult {
    /// When it began.
    pub start: Timestamp,
    /// How long it took.
    pub duration: Duration,
    /// Whether the recipient's host took the message.
    pub success: bool,
    /// SMTP reply code, 0 without one.
    pub code: u16,
    /// Enhanced status code without its class, such as `1.1`; may be empty.
    pub secode: String,
    /// Empty for success; [`AttemptResult::DELIVERING`] meanwhile.
    pub error: String,
    /// How it went out.
    pub via: Via,
}

/// How an attempt went out. Empty as far as it didn't.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Via {
    /// The transport's name, empty for straight delivery.
    pub transport: String,
    /// The host that answered, or would have been connected to.
    pub host: String,
    /// Its address.
    pub ip: Option<IpAddr>,
    /// TLS version and cipher suite, and whether the certificate was verified; empty in the clear.
    pub tls: String,
}

impl AttemptResult {
    /// The error of an attempt that is going on, or was when the server ended.
    pub const DELIVERING: &str = "delivering...";

    /// Whether the attempt is going on.
    pub fn is_delivering(&self) -> bool {
        self.error == Self::DELIVERING
    }

    /// Something that failed without a reply of another host.
    pub fn failed(start: Timestamp, error: impl Into<String>) -> Self {
        Self { start, duration: Duration::ZERO, success: false, code: 0, secode: String::new(), error: error.into(), via: Via::default() }
    }

    pub(super) const COLUMNS: &str = "start, duration, success, code, secode, error, transport, host, ip, tls";

    pub(super) fn from_row(row: &Row<'_>, at: usize) -> Result<Self, Error> {
        Ok(Self {
            start: Timestamp::from_micros(row.int(at)?),
            duration: Duration::from_micros(u64::try_from(row.int(at + 1)?).unwrap_or(0)),
            success: row.bool(at + 2)?,
            code: u16::try_from(row.int(at + 3)?).unwrap_or(0),
            secode: row.text(at + 4)?.to_owned(),
            error: row.text(at + 5)?.to_owned(),
            via: Via {
                transport: row.text(at + 6)?.to_owned(),
                host: row.text(at + 7)?.to_owned(),
                ip: row.text(at + 8)?.parse().ok(),
                tls: row.text(at + 9)?.to_owned(),
            },
        })
    }
}

/// What the entries of one submission share.
#[derive(Clone, Debug)]
pub struct QueuedMessage {
    /// Its row.
    pub id: QueueMessageId,
    /// The sender's account.
    pub account: String,
    /// When it was queued.
    pub queued: Timestamp,
    /// Of prefix and body.
    pub size: ByteSize,
    /// Headers before the body.
    pub prefix: Vec<u8>,
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
    /// ENVID, decoded, RFC 3461 §4.4.
    pub envelope_id: Option<String>,
    /// RET=FULL: the whole message in failure DSNs, RFC 3461 §4.3.
    pub return_full: bool,
    /// Whose DKIM keys sign it when it is sent.
    pub sign_domain: Option<Domain>,
    /// With what it was signed for an earlier attempt. Not counted in the size.
    pub signature: Option<Signature>,
    /// MT-PRIORITY, for the hosts that it is handed to; none if the sender didn't say.
    pub priority: Option<Priority>,
    /// By when it is to be delivered.
    pub deliver_by: Option<DeliverBy>,
}

/// A mode as a number: [`deliver_by`] reads it.
pub(super) const fn by_mode(by: DeliverBy) -> i64 {
    matches!(by.late, WhenLate::Return) as i64 | (by.trace as i64) << 1
}

fn deliver_by(row: &Row<'_>, at: usize) -> Result<Option<DeliverBy>, Error> {
    let mode = row.int(at + 1)?;
    let late = if mode & 1 == 0 { WhenLate::Notify } else { WhenLate::Return };
    Ok(row.opt_int(at)?.map(|micros| DeliverBy { at: Timestamp::from_micros(micros), late, trace: mode & 2 != 0 }))
}

impl QueuedMessage {
    pub(super) const COLUMNS: &str = "m.id, m.account, m.queued, m.size, m.prefix, m.has_8bit, m.smtputf8, m.message_id, m.subject, \
         m.body_utf8, m.report, m.future_release, m.extra, m.envelope_id, m.return_full, m.sign_domain, m.signature, m.signed_by, m.sign_again, \
         m.priority, m.deliver_by, m.by_mode";

    pub(super) fn from_row(row: &Row<'_>) -> Result<Self, Error> {
        Ok(Self {
            id: QueueMessageId(row.int(0)?),
            account: row.text(1)?.to_owned(),
            queued: Timestamp::from_micros(row.int(2)?),
            size: ByteSize(u64::try_from(row.int(3)?).unwrap_or(0)),
            prefix: row.blob(4)?.to_vec(),
            has_8bit: row.bool(5)?,
            smtputf8: row.bool(6)?,
            message_id: row.text(7)?.to_owned(),
            subject: row.text(8)?.to_owned(),
            body_utf8: row.opt_blob(9)?.map(<[u8]>::to_vec),
            report: ReportKind::from_code(row.int(10)?),
            future_release: row.text(11)?.to_owned(),
            extra: extra_from_text(row.text(12)?),
            envelope_id: row.opt_text(13)?.map(str::to_owned),
            return_full: row.bool(14)?,
            sign_domain: Domain::parse_lax(row.text(15)?).ok(),
            signature: signature(row, 16)?,
            priority: row.opt_int(19)?.and_then(|n| Priority::new(i8::try_from(n).ok()?)),
            deliver_by: deliver_by(row, 20)?,
        })
    }
}

/// One recipient of a submission.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Sequential, never reused.
    pub id: QueueId,
    /// The first entry of the group that may share transactions, none if there is no other.
    pub base: Option<QueueId>,
    /// The message.
    pub message: QueueMessageId,
    /// The sender's account: it gets the DSNs.
    pub account: String,
    /// When it was queued.
    pub queued: Timestamp,
    /// Whether it isn't delivered until somebody says so.
    pub hold: bool,
    /// MAIL FROM, none for the null reverse-path.
    pub sender: Option<Path>,
    /// What in the sender's address identifies this entry.
    pub from_id: Option<String>,
    /// RCPT TO.
    pub recipient: Path,
    /// Attempts started.
    pub attempts: u32,
    /// 0 for the default.
    pub max_attempts: u32,
    /// Where connections were made to.
    pub dialed: DialedIps,
    /// When it is due.
    pub next_attempt: Timestamp,
    /// When the last attempt began.
    pub last_attempt: Option<Timestamp>,
    /// The transport an administrator forced; empty when routes decide.
    pub transport: String,
    /// Whether TLS policies must hold (true), don't matter (false), or are the recipient's.
    pub require_tls: Option<bool>,
    /// Of what the sender wants to hear.
    pub notify: Notify,
    /// ORCPT as given: `addr-type;xtext-decoded address`.
    pub original_recipient: Option<String>,
    /// By when it is to be delivered, as long as that matters: not once the sender was told that it is late.
    pub by_due: Option<Timestamp>,
    /// Of claimed entries that are late, and due for no other reason: when they would have been due.
    pub resume: Option<Timestamp>,
    /// Of claimed entries: the attempt before this one has no outcome, because the server ended or had a bug. The message
    /// may have been delivered.
    pub unfinished: bool,
    /// Of claimed entries: the account's mail isn't sent to the recipient any more.
    pub suppressed: bool,
}

impl Entry {
    pub(super) const COLUMNS: &str = "e.id, e.base_id, e.message, e.account, e.queued, e.hold, e.sender, e.from_id, e.recipient, e.attempts, \
         e.max_attempts, e.dialed, e.next_attempt, e.last_attempt, e.transport, e.require_tls, e.notify, e.original_recipient, e.by_due";

    pub(super) fn from_row(row: &Row<'_>) -> Result<Self, Error> {
        let sender = row.text(6)?;
        Ok(Self {
            id: QueueId(row.int(0)?),
            base: Some(row.int(1)?).filter(|id| *id != 0).map(QueueId),
            message: QueueMessageId(row.int(2)?),
            account: row.text(3)?.to_owned(),
            queued: Timestamp::from_micros(row.int(4)?),
            hold: row.bool(5)?,
            sender: if sender.is_empty() { None } else { Some(stored_path(sender)?) },
            from_id: row.opt_text(7)?.map(str::to_owned),
            recipient: stored_path(row.text(8)?)?,
            attempts: small(row.int(9)?),
            max_attempts: small(row.int(10)?),
            dialed: DialedIps::from_text(row.text(11)?),
            next_attempt: Timestamp::from_micros(row.int(12)?),
            last_attempt: row.opt_int(13)?.map(Timestamp::from_micros),
            transport: row.text(14)?.to_owned(),
            require_tls: row.opt_int(15)?.map(|n| n != 0),
            notify: Notify::from_bits(row.int(16)?),
            original_recipient: row.opt_text(17)?.map(str::to_owned),
            by_due: row.opt_int(18)?.map(Timestamp::from_micros),
            resume: None,
            unfinished: false,
            suppressed: false,
        })
    }
}

/// An entry that is done.
#[derive(Clone, Debug)]
pub struct RetiredEntry {
    /// The entry's id.
    pub id: QueueId,
    /// Its group.
    pub base: Option<QueueId>,
    /// The sender's account.
    pub account: String,
    /// When it was queued.
    pub queued: Timestamp,
    /// MAIL FROM as text; empty for the null reverse-path.
    pub sender: String,
    /// What in the sender's address identifies the entry.
    pub from_id: Option<String>,
    /// RCPT TO as text.
    pub recipient: String,
    /// Attempts made.
    pub attempts: u32,
    /// 0 for the default.
    pub max_attempts: u32,
    /// Where connections were made to.
    pub dialed: DialedIps,
    /// When the last attempt began.
    pub last_attempt: Option<Timestamp>,
    /// The forced transport.
    pub transport: String,
    /// As for [`Entry::require_tls`].
    pub require_tls: Option<bool>,
    /// Whether there were bytes from 0x80.
    pub has_8bit: bool,
    /// Whether it needed SMTPUTF8.
    pub smtputf8: bool,
    /// Whether it was a report.
    pub report: ReportKind,
    /// Of prefix and body.
    pub size: ByteSize,
    /// With angle brackets.
    pub message_id: String,
    /// Decoded.
    pub subject: String,
    /// As for [`QueuedMessage::future_release`].
    pub future_release: String,
    /// The submitter's own data.
    pub extra: BTreeMap<String, String>,
    /// When something last happened to it.
    pub last_activity: Timestamp,
    /// Whether it was delivered.
    pub success: bool,
    /// When it is forgotten.
    pub keep_until: Timestamp,
    /// How it ended; none for entries that were retired by an earlier version.
    pub event: Option<EventKind>,
    /// ENVID, decoded.
    pub envelope_id: Option<String>,
}

impl RetiredEntry {
    pub(super) const COLUMNS: &str = "id, base_id, account, queued, sender, from_id, recipient, attempts, max_attempts, dialed, last_attempt, \
         transport, require_tls, has_8bit, smtputf8, report, size, message_id, subject, future_release, extra, last_activity, success, keep_until, event, \
         envelope_id";

    pub(super) fn from_row(row: &Row<'_>) -> Result<Self, Error> {
        Ok(Self {
            id: QueueId(row.int(0)?),
            base: Some(row.int(1)?).filter(|id| *id != 0).map(QueueId),
            account: row.text(2)?.to_owned(),
            queued: Timestamp::from_micros(row.int(3)?),
            sender: row.text(4)?.to_owned(),
            from_id: row.opt_text(5)?.map(str::to_owned),
            recipient: row.text(6)?.to_owned(),
            attempts: small(row.int(7)?),
            max_attempts: small(row.int(8)?),
            dialed: DialedIps::from_text(row.text(9)?),
            last_attempt: row.opt_int(10)?.map(Timestamp::from_micros),
            transport: row.text(11)?.to_owned(),
            require_tls: row.opt_int(12)?.map(|n| n != 0),
            has_8bit: row.bool(13)?,
            smtputf8: row.bool(14)?,
            report: ReportKind::from_code(row.int(15)?),
            size: ByteSize(u64::try_from(row.int(16)?).unwrap_or(0)),
            message_id: row.text(17)?.to_owned(),
            subject: row.text(18)?.to_owned(),
            future_release: row.text(19)?.to_owned(),
            extra: extra_from_text(row.text(20)?),
            last_activity: Timestamp::from_micros(row.int(21)?),
            success: row.bool(22)?,
            keep_until: Timestamp::from_micros(row.int(23)?),
            event: row.text(24)?.parse().ok(),
            envelope_id: row.opt_text(25)?.map(str::to_owned),
        })
    }
}

/// An entry or retired entry with what came of its attempts, oldest first.
#[derive(Clone, Debug)]
pub struct Listed<T> {
    /// The row.
    pub row: T,
    /// The results.
    pub results: Vec<AttemptResult>,
}

fn signature(row: &Row<'_>, at: usize) -> Result<Option<Signature>, Error> {
    let Some(fields) = row.opt_blob(at)? else { return Ok(None) };
    let (by, again) = (row.text(at + 1)?.to_owned(), row.opt_int(at + 2)?.map(Timestamp::from_micros));
    Ok(Some(Signature { fields: fields.to_vec(), by, again }))
}

fn small(n: i64) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

pub(super) fn extra_to_text(extra: &BTreeMap<String, String>) -> String {
    // A map of strings always can be written.
    serde_json::to_string(extra).unwrap_or_else(|_| "{}".to_owned())
}

pub(super) fn extra_from_text(text: &str) -> BTreeMap<String, String> {
    serde_json::from_str(text).unwrap_or_default()
}

/// Text for a database that refuses NUL.
pub(super) fn without_nul(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

pub(super) fn stored_path(text: &str) -> Result<Path, Error> {
    parse_path(text).ok_or_else(|| Error::Corrupt(format!("queue: not an address: {text:?}")))
}

/// Reads an address as [`Path`] prints it; none for anything else.
pub fn parse_path(text: &str) -> Option<Path> {
    // The last @: a quoted localpart may hold one.
    let (localpart, host) = text.rsplit_once('@')?;
    let localpart: Localpart = localpart.parse().ok()?;
    let host = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        Some(ip) => Host::Ip(ip.strip_prefix("IPv6:").unwrap_or(ip).parse().ok()?),
        None => Host::Domain(Domain::parse_lax(host).ok()?),
    };
    Some(Path { localpart, host })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_survive_as_text() {
        for text in ["a@b.example", "\"a@b c\"@b.example", "ö@bücher.example", "a@[192.0.2.1]", "a@[IPv6:2001:db8::1]", "\"\"@x_y.example"]
        {
            assert_eq!(parse_path(text).unwrap().to_string(), text);
        }
        for text in ["", "a", "a@", "a@[x]", "a@[192.0.2.1"] {
            assert_eq!(parse_path(text), None, "{text}");
        }
    }

    #[test]
    fn dialed_ips_survive_as_text_and_stay_few() {
        let mut dialed = DialedIps::default();
        for n in 0..20u8 {
            dialed.note("mx.example", IpAddr::from([192, 0, 2, n]));
        }
        dialed.note("other.example", "2001:db8::1".parse().unwrap());
        assert_eq!(dialed.of("mx.example").len(), DIALED_KEPT);
        assert_eq!(dialed.of("mx.example").last(), Some(&IpAddr::from([192, 0, 2, 19])));
        assert_eq!(DialedIps::from_text(&dialed.to_text()), dialed);
        assert!(DialedIps::from_text("garbage x y\n").of("garbage").is_empty());
    }
}
