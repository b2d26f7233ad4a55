//! A message that came back about an earlier one: a DSN, or something that an address of ours for DSNs got.

use super::outgoing::{Facts, outgoing};
use crate::outbound::suppressed_until;
use mox_base::{Path, Timestamp};
use mox_message::dsn::{Action, DeliveryStatus, RecipientStatus, StatusError, smtp_code};
use mox_store::db::{Error, Tx};
use mox_store::directory::AccountSettings;
use mox_store::queue::suppression::{FailedDelivery, Source, after_failure};
use mox_store::queue::{AttemptResult, EventEntry, ReportKind, Via, by_envelope_id, by_from_id, by_message_id, note_returned, parse_path};
use mox_store::webhook::{Event, insert};
use std::time::Duration;

/// What a message in the form of a DSN says.
#[derive(Clone, Debug)]
pub(super) struct Dsn {
    /// Its machine-readable part.
    pub(super) status: Result<DeliveryStatus, StatusError>,
    /// Message-ID of the message that it returns, with angle brackets.
    pub(super) original_message_id: Option<String>,
}

/// An earlier message that something came back about, with what it says of it.
pub(super) struct About {
    entry: EventEntry,
    /// Of a DSN about several recipients, which; none when it must be the only one.
    recipient: Option<usize>,
}

/// The earlier messages of an account that a message is about: by the id in the address it came to, else by what a DSN names.
pub(super) fn find(tx: &Tx<'_>, account: &str, from_id: Option<&str>, dsn: Option<&Dsn>) -> Result<Vec<About>, Error> {
    if let Some(from_id) = from_id
        && let Some(entry) = by_from_id(tx, from_id)?.filter(|entry| entry.account == account)
    {
        return Ok(vec![About { entry, recipient: None }]);
    }
    let Some(Dsn { status: Ok(status), original_message_id }) = dsn else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for (index, recipient) in status.recipients.iter().enumerate() {
        // RFC 3464 §2.3.1: the original is as the sender knows it, the final one may be the end of a chain of forwards.
        for address in [&recipient.original_recipient, &recipient.final_recipient].into_iter().flatten() {
            let Some(path) = parse_path(address) else { continue };
            if let Some(entry) = by_names(tx, account, status, original_message_id.as_deref(), &path)? {
                found.push(About { entry, recipient: Some(index) });
                break;
            }
        }
    }
    Ok(found)
}

fn by_names(
    tx: &Tx<'_>,
    account: &str,
    status: &DeliveryStatus,
    message_id: Option<&str>,
    recipient: &Path,
) -> Result<Option<EventEntry>, Error> {
    if let Some(envelope_id) = &status.envelope_id
        && let Some(entry) = by_envelope_id(tx, account, envelope_id, recipient)?
    {
        return Ok(Some(entry));
    }
    message_id.map_or(Ok(None), |id| by_message_id(tx, Some(account), id, recipient))
}

/// Something that came back.
pub(super) struct Returned<'a> {
    /// About what.
    pub(super) entry: &'a About,
    /// What it says, if it looks like a DSN.
    pub(super) dsn: Option<&'a Dsn>,
    /// Now.
    pub(super) now: Timestamp,
}

/// A delivery that failed after all.
pub(super) struct FailedAfterAll {
    /// What kind of report it was, if it was one.
    pub(super) report: ReportKind,
    /// To whom.
    pub(super) recipient: Path,
    /// Whether trying again can't help.
    pub(super) refused: bool,
    /// What was said.
    pub(super) error: String,
}

/// Records what came back, suppresses the recipient if it is no good, and tells of it. What there is to be remembered of a failure.
pub(super) fn returned(tx: &Tx<'_>, account: &AccountSettings, returned: &Returned<'_>) -> Result<Option<FailedAfterAll>, Error> {
    let Returned { entry: About { entry, recipient }, dsn, now } = returned;
    let said = Said::of(*dsn, *recipient);
    let mut suppressing = false;
    // Where reports aren't taken, other mail may be.
    if said.event == Event::Failed && entry.report == ReportKind::None {
        let failed = FailedDelivery {
            id: entry.id,
            account: &entry.account,
            recipient: &entry.recipient,
            code: said.code,
            secode: &said.secode,
            error: &said.error,
            source: Source::Dsn,
            now: *now,
            expires: suppressed_until(account, *now),
        };
        suppressing = after_failure(tx, &failed)?;
    }
    let result = AttemptResult {
        start: *now,
        duration: Duration::ZERO,
        success: matches!(said.event, Event::Delivered | Event::Relayed | Event::Expanded),
        code: said.code,
        secode: said.secode.clone(),
        error: said.error.clone(),
        via: Via::default(),
    };
    note_returned(tx, entry.id, &result, *now)?;
    let facts = Facts {
        event: said.event,
        dsn: dsn.is_some(),
        suppressing,
        queue_id: entry.id,
        from_id: entry.from_id.as_deref(),
        message_id: &entry.message_id,
        subject: &entry.subject,
        extra: &entry.extra,
        code: said.code,
        secode: &said.secode,
        error: &said.error,
        now: *now,
    };
    if let Some(webhook) = outgoing(account, &facts) {
        insert(tx, &webhook)?;
    }
    Ok((said.event == Event::Failed).then(|| FailedAfterAll {
        report: entry.report,
        recipient: entry.recipient.clone(),
        refused: said.code >= 500,
        error: said.error.clone(),
    }))
}

/// What was said of a recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Said {
    event: Event,
    code: u16,
    secode: String,
    error: String,
}

impl Said {
    fn of(dsn: Option<&Dsn>, recipient: Option<usize>) -> Self {
        let unrecognized = |error: &str| Self { event: Event::Unrecognized, code: 0, secode: String::new(), error: error.to_owned() };
        let status = match dsn.map(|dsn| &dsn.status) {
            None => return unrecognized("incoming message not a dsn"),
            Some(Err(error)) => return unrecognized(&format!("parsing dsn: {error}")),
            Some(Ok(status)) => status,
        };
        match (recipient, status.recipients.as_slice()) {
            (Some(index), recipients) => recipients.get(index).map_or_else(|| unrecognized("no such recipient in dsn"), Self::about),
            (None, [only]) => Self::about(only),
            (None, several) => unrecognized(&format!("dsn about {} recipients, want 1", several.len())),
        }
    }

    fn about(recipient: &RecipientStatus) -> Self {
        let event = match recipient.action {
            Action::Failed => Event::Failed,
            Action::Delayed => Event::Delayed,
            Action::Delivered => Event::Delivered,
            Action::Relayed => Event::Relayed,
            Action::Expanded => Event::Expanded,
        };
        let (code, secode) = codes(recipient);
        let good = matches!(event, Event::Delivered | Event::Relayed | Event::Expanded);
        let error = match &recipient.diagnostic {
            _ if good => String::new(),
            Some((_, text)) if !text.is_empty() => text.clone(),
            _ => recipient.status_comment.clone().unwrap_or_else(|| format!("status {}", recipient.status)),
        };
        Self { event, code, secode, error }
    }
}

/// The SMTP code, and the enhanced code without its class. Without a reply's own words the status gives a round number.
fn codes(recipient: &RecipientStatus) -> (u16, String) {
    let class_off = |enhanced: &str| enhanced.split_once('.').map_or(String::new(), |(_, rest)| rest.to_owned());
    let said = recipient.diagnostic.as_ref().and_then(|(_, text)| smtp_code(text));
    let status = recipient.status.trim();
    match said {
        Some((code, Some(enhanced))) => (code, class_off(&enhanced)),
        Some((code, None)) if status.as_bytes().first() == code.to_string().as_bytes().first() => (code, class_off(status)),
        Some((code, None)) => (code, String::new()),
        None if status.starts_with("4.") => (400, class_off(status)),
        None if status.starts_with("5.") => (500, class_off(status)),
        None => (0, String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(fields: &str) -> Said {
        let body = format!("Reporting-MTA: dns; x\n\nFinal-Recipient: rfc822; a@b.example\n{fields}");
        let status = DeliveryStatus::try_from(body.as_str());
        Said::of(Some(&Dsn { status, original_message_id: None }), None)
    }

    fn want(event: Event, code: u16, secode: &str, error: &str) -> Said {
        Said { event, code, secode: secode.to_owned(), error: error.to_owned() }
    }

    #[test]
    fn what_dsns_say() {
        for (fields, event, code, secode, error) in [
            (
                "Action: failed\nStatus: 5.1.1\nDiagnostic-Code: smtp; 550 5.1.1 no such user\n",
                Event::Failed,
                550,
                "1.1",
                "550 5.1.1 no such user",
            ),
            // Several lines of a reply joined, as by Exchange and Gmail.
            (
                "Action: failed\nStatus: 5.0.0\nDiagnostic-Code: smtp; 550-5.1.1 The email\n 550 5.1.1 account\n",
                Event::Failed,
                550,
                "1.1",
                "550-5.1.1 The email 550 5.1.1 account",
            ),
            // Postfix, of its own.
            (
                "Action: failed\nStatus: 5.4.4\nDiagnostic-Code: X-Postfix; Host or domain name not found\n",
                Event::Failed,
                500,
                "4.4",
                "Host or domain name not found",
            ),
            ("Action: delayed\nStatus: 4.4.1\n", Event::Delayed, 400, "4.1", "status 4.4.1"),
            ("Action: failed (bad)\nStatus: 5.2.2 (mailbox full)\n", Event::Failed, 500, "2.2", "mailbox full"),
            ("Action: failed\nStatus: 5.2.2\nDiagnostic-Code: smtp; 552 full\n", Event::Failed, 552, "2.2", "552 full"),
            ("Action: relayed\nStatus: 2.0.0\n", Event::Relayed, 0, "", ""),
            ("Action: Delivered\nStatus: 2.1.5\nDiagnostic-Code: smtp; 250 2.1.5 ok\n", Event::Delivered, 250, "1.5", ""),
            ("Action: expanded\nStatus: 2.0.0\n", Event::Expanded, 0, "", ""),
        ] {
            assert_eq!(said(fields), want(event, code, secode, error), "{fields}");
        }
    }

    #[test]
    fn what_isnt_understood() {
        assert_eq!(Said::of(None, None), want(Event::Unrecognized, 0, "", "incoming message not a dsn"));
        assert_eq!(said("Action: exploded\nStatus: 5.0.0\n").event, Event::Unrecognized);
        let two = "Action: failed\nStatus: 5.0.0\n\nFinal-Recipient: rfc822; c@d.example\nAction: failed\nStatus: 5.0.0\n";
        assert_eq!(said(two), want(Event::Unrecognized, 0, "", "dsn about 2 recipients, want 1"));
    }
}
