//! What is told about a message that arrived.

use super::arrivals::ArrivalNote;
use super::complaint::Complaint;
use super::keep_retired;
use super::returned::Dsn;
use crate::content::{Content, content, message};
use mox_base::{MessageId, Timestamp};
use mox_message::decode::decode;
use mox_message::dsn::DeliveryStatus;
use mox_message::feedback::FeedbackReport;
use mox_message::{Headers, Structure, ident};
use mox_store::directory::AccountSettings;
use mox_store::webhook::{Event, NewWebhook};
use mox_store::{Account, Error};
use mox_webapi::Time;
use mox_webapi::webhook::{Incoming, IncomingMeta};
use std::collections::BTreeMap;
use std::ops::Range;

/// The largest header section, and the largest part of a DSN, that are looked at.
const MAX_READ: u64 = 1 << 20;

/// What is read of a message.
pub(super) struct Read {
    header: Vec<u8>,
    structure: Structure,
    content: Content,
    /// What it says if it has the form of a DSN.
    pub(super) status: Option<Dsn>,
    /// What it says if it has the form of a complaint.
    pub(super) complaint: Option<Complaint>,
}

impl Read {
    /// Reads a message of an account.
    ///
    /// # Errors
    /// [`Error::NoMessage`], [`Error::Blob`], or the database failed.
    pub(super) async fn of(account: &Account, id: MessageId) -> Result<Self, Error> {
        account
            .read(move |tx| {
                let structure = tx.structure(id)?;
                let bytes = |range: Range<u64>| {
                    let mut bytes = Vec::new();
                    tx.message_bytes(id, range, &mut bytes)?;
                    Ok::<_, Error>(bytes)
                };
                let header = bytes(bounded(&structure.root().header))?;
                let (status, complaint) = (dsn(&structure, bytes)?, complaint(&structure, bytes)?);
                Ok(Self { header, content: content(&structure, bytes)?, structure, status, complaint })
            })
            .await
    }
}

fn bounded(range: &Range<u64>) -> Range<u64> {
    range.start..range.end.min(range.start.saturating_add(MAX_READ))
}

/// RFC 6522: the second part of a report is for machines, the third is the message it is about.
fn dsn(structure: &Structure, bytes: impl Fn(Range<u64>) -> Result<Vec<u8>, Error>) -> Result<Option<Dsn>, Error> {
    let root = structure.root();
    let mut parts = structure.children(root).skip(1);
    let Some(part) = parts.next().filter(|_| root.is("multipart", "report")) else { return Ok(None) };
    if !(part.is("message", "delivery-status") || part.is("message", "global-delivery-status")) {
        return Ok(None);
    }
    let limit = usize::try_from(MAX_READ).unwrap_or(usize::MAX);
    let status = DeliveryStatus::parse(&decode(part.transfer_encoding(), &bytes(bounded(&part.body))?, limit));
    let original_message_id = match parts.next() {
        Some(original) => {
            let text = decode(original.transfer_encoding(), &bytes(bounded(&original.body))?, limit);
            Headers::new(&text).text("Message-Id").map(|id| id.trim().to_owned())
        }
        None => None,
    };
    Ok(Some(Dsn { status, original_message_id }))
}

/// RFC 5965 §2: the second part says what kind of complaint it is, the third is the message that it is about, or its header.
fn complaint(structure: &Structure, bytes: impl Fn(Range<u64>) -> Result<Vec<u8>, Error>) -> Result<Option<Complaint>, Error> {
    let root = structure.root();
    let mut parts = structure.children(root).skip(1);
    let Some(part) = parts.next().filter(|part| root.is("multipart", "report") && part.is("message", "feedback-report")) else {
        return Ok(None);
    };
    let limit = usize::try_from(MAX_READ).unwrap_or(usize::MAX);
    let report = FeedbackReport::parse(&decode(part.transfer_encoding(), &bytes(bounded(&part.body))?, limit));
    let Ok(report) = report else { return Ok(None) };
    if !report.is_complaint() {
        return Ok(None);
    }
    let original = match parts.next() {
        Some(original) => decode(original.transfer_encoding(), &bytes(bounded(&original.body))?, limit),
        None => Vec::new(),
    };
    let original = Headers::new(&original);
    let text = |name: &str| original.text(name).map(|text| text.trim().to_owned());
    Ok(Some(Complaint { report, message_id: text("Message-Id"), return_path: text("Return-Path") }))
}

/// The webhook of a message that arrived, none if the account doesn't want to be told.
pub(super) fn incoming(account: &AccountSettings, id: MessageId, note: &ArrivalNote, read: Read, now: Timestamp) -> Option<NewWebhook> {
    let hook = account.incoming_webhook.as_ref()?;
    let headers = Headers::new(&read.header);
    let shown = message(&read.header, &read.structure, &read.content);
    let automated = note.mail_from.is_empty() || read.structure.root().is("multipart", "report") || says_automated(&headers);
    let payload = Incoming {
        version: 0,
        from: shown.from,
        to: shown.to,
        cc: shown.cc,
        bcc: shown.bcc,
        reply_to: shown.reply_to,
        subject: shown.subject,
        message_id: shown.message_id,
        in_reply_to: headers.text("In-Reply-To").map(|text| text.trim().to_owned()).unwrap_or_default(),
        references: headers.all("References").next().map_or_else(Vec::new, |_| bracketed(&headers)),
        date: shown.date,
        text: shown.text,
        html: shown.html,
        structure: read.content.structure,
        meta: IncomingMeta {
            msg_id: id.0,
            mail_from: note.mail_from.clone(),
            mail_from_validated: note.mail_from_validated,
            msg_from_validated: note.msg_from_validated,
            rcpt_to: note.rcpt_to.clone(),
            dkim_verified_domains: note.dkim_domains.clone(),
            remote_ip: note.remote_ip.clone(),
            received: Time::parse(&note.received).unwrap_or_else(|| now.into()),
            mailbox_name: note.mailbox.clone(),
            automated,
        },
    };
    Some(NewWebhook {
        queue_id: None,
        from_id: String::new(),
        message_id: payload.message_id.clone(),
        subject: payload.subject.clone(),
        extra: BTreeMap::new(),
        account: account.name.clone(),
        url: hook.url.clone(),
        authorization: hook.authorization.clone(),
        secret: hook.secret.clone(),
        event: Event::Incoming,
        payload: mox_webapi::write(&payload),
        submitted: now,
        keep_replaced: keep_retired(Some(account)),
    })
}

fn bracketed(headers: &Headers<'_>) -> Vec<String> {
    ident::references(headers).into_iter().map(|id| format!("<{id}>")).collect()
}

/// Whether software says that it wrote the message, RFC 3834 §5, RFC 2919, RFC 2369, RFC 8058.
fn says_automated(headers: &Headers<'_>) -> bool {
    let given = |name: &str| headers.all(name).any(|field| !field.text().trim().is_empty());
    ["List-Id", "List-Unsubscribe", "List-Unsubscribe-Post", "Precedence"].into_iter().any(given)
        || headers
            .all("Auto-Submitted")
            .map(|field| field.text().trim().to_owned())
            .any(|text| !text.is_empty() && !text.eq_ignore_ascii_case("no"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn automated() {
        for (header, want) in [
            ("", false),
            ("Auto-Submitted: No\r\n", false),
            ("Auto-Submitted:\r\n", false),
            ("Auto-Submitted: auto-replied\r\n", true),
            ("List-Id: <x.example>\r\n", true),
            ("Precedence: bulk\r\n", true),
            ("List-Unsubscribe: <mailto:x@x.example>\r\n", true),
            ("Subject: Precedence: bulk\r\n", false),
        ] {
            assert_eq!(says_automated(&Headers::new(format!("{header}\r\n").as_bytes())), want, "{header}");
        }
    }
}
