//! Reading the DSNs of others. They come in many forms; what we need of them is an action, a status and maybe the words of a server.

use super::Action;
use crate::date::{DateTime, without_comments};
use crate::decode::{Encoding, decode};
use crate::header::Headers;
use crate::structure::Structure;

/// The machine-readable part of a DSN, RFC 3464 §2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryStatus {
    /// Who reports, without the type.
    pub reporting_mta: Option<String>,
    /// ENVID of the original.
    pub envelope_id: Option<String>,
    /// When the original arrived.
    pub arrival: Option<DateTime>,
    /// At least one.
    pub recipients: Vec<RecipientStatus>,
}

/// What it says of a recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecipientStatus {
    /// `Final-Recipient` without its type, comments and escapes.
    pub final_recipient: Option<String>,
    /// `Original-Recipient`, likewise.
    pub original_recipient: Option<String>,
    /// What became of it.
    pub action: Action,
    /// The enhanced status code.
    pub status: String,
    /// What stood in parentheses behind it.
    pub status_comment: Option<String>,
    /// `Diagnostic-Code`: its type, lower case, and its text.
    pub diagnostic: Option<(String, String)>,
    /// `Remote-MTA` without its type.
    pub remote_mta: Option<String>,
    /// `Last-Attempt-Date`.
    pub last_attempt: Option<DateTime>,
    /// `Will-Retry-Until`.
    pub will_retry_until: Option<DateTime>,
}

/// Why bytes are no usable delivery status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StatusError {
    /// No block of fields about a recipient.
    #[error("no recipient in delivery status")]
    NoRecipient,
    /// A recipient without `Action`, or with an unknown one.
    #[error("missing or unknown action in delivery status")]
    Action,
    /// A recipient without `Status`.
    #[error("missing status in delivery status")]
    Status,
    /// A field twice in one block: which one would count?
    #[error("duplicate field in delivery status")]
    Duplicate,
}

/// The most recipients that are read.
const MAX_RECIPIENTS: usize = 1000;
/// The most bytes of a status part that are read.
const MAX_BYTES: usize = 1 << 20;

/// The delivery status of a message in memory, if it is a report with one, RFC 6522.
pub fn report_of(structure: &Structure, message: &[u8]) -> Option<Result<DeliveryStatus, StatusError>> {
    let root = structure.root();
    if !root.is("multipart", "report") {
        return None;
    }
    let part = structure.children(root).nth(1)?;
    if !(part.is("message", "delivery-status") || part.is("message", "global-delivery-status")) {
        return None;
    }
    let range = usize::try_from(part.body.start).ok()?..usize::try_from(part.body.end).ok()?;
    Some(DeliveryStatus::parse(&decode(part.transfer_encoding(), message.get(range)?, MAX_BYTES)))
}

impl DeliveryStatus {
    /// Parses the body of a delivery-status part.
    ///
    /// # Errors
    /// See [`StatusError`].
    pub fn parse(body: &[u8]) -> Result<Self, StatusError> {
        let mut blocks = blocks(body).into_iter();
        let first = blocks.next().unwrap_or_default();
        let message = Headers::new(first);
        check_duplicates(&message)?;
        let mut recipients = Vec::new();
        for block in blocks.take(MAX_RECIPIENTS) {
            recipients.push(recipient(&Headers::new(block))?);
        }
        // Some leave out the fields about the message.
        if recipients.is_empty() && message.first("Action").is_some() {
            recipients.push(recipient(&message)?);
        }
        if recipients.is_empty() {
            return Err(StatusError::NoRecipient);
        }
        Ok(Self {
            reporting_mta: message.text("Reporting-MTA").map(|v| without_type(&v)),
            envelope_id: message.text("Original-Envelope-Id"),
            arrival: message.text("Arrival-Date").and_then(|v| DateTime::parse(&v)),
            recipients,
        })
    }
}

/// Groups of lines between empty lines.
fn blocks(body: &[u8]) -> Vec<&[u8]> {
    let mut blocks = Vec::new();
    let mut rest = body;
    while !rest.is_empty() {
        let section = Headers::new(rest).section();
        let fields = section.trim_ascii();
        if !fields.is_empty() {
            blocks.push(section);
        }
        // Each section has at least its empty line, so this ends.
        rest = rest.get(section.len().max(1)..).unwrap_or_default();
    }
    blocks
}

/// Fields of extensions may come as often as somebody likes.
fn check_duplicates(headers: &Headers<'_>) -> Result<(), StatusError> {
    let is_ours = |name: &[u8]| !name.get(..2).is_some_and(|start| start.eq_ignore_ascii_case(b"X-"));
    let mut names: Vec<Vec<u8>> =
        headers.fields().map(|f| f.name.to_ascii_lowercase()).filter(|n| !n.is_empty() && is_ours(n.as_slice())).collect();
    names.sort_unstable();
    if names.windows(2).any(|pair| matches!(pair, [a, b] if a == b)) { Err(StatusError::Duplicate) } else { Ok(()) }
}

fn recipient(headers: &Headers<'_>) -> Result<RecipientStatus, StatusError> {
    check_duplicates(headers)?;
    let action = headers.text("Action").map(|v| without_comments(&v)).and_then(|v| Action::parse(v.trim())).ok_or(StatusError::Action)?;
    let status = headers.text("Status").ok_or(StatusError::Status)?;
    let (code, comment) = match status.split_once('(') {
        Some((code, comment)) => (code, Some(comment.trim_end().trim_end_matches(')').to_owned())),
        None => (status.as_str(), None),
    };
    let code = code.trim();
    if code.is_empty() {
        return Err(StatusError::Status);
    }
    Ok(RecipientStatus {
        final_recipient: headers.text("Final-Recipient").map(|v| address(&v)),
        original_recipient: headers.text("Original-Recipient").map(|v| address(&v)),
        action,
        status: code.to_owned(),
        status_comment: comment,
        diagnostic: headers.text("Diagnostic-Code").map(|v| match v.split_once(';') {
            Some((kind, text)) => (kind.trim().to_ascii_lowercase(), text.trim().to_owned()),
            None => (String::new(), v.trim().to_owned()),
        }),
        remote_mta: headers.text("Remote-MTA").map(|v| without_type(&v)),
        last_attempt: headers.text("Last-Attempt-Date").and_then(|v| DateTime::parse(&v)),
        will_retry_until: headers.text("Will-Retry-Until").and_then(|v| DateTime::parse(&v)),
    })
}

fn without_type(value: &str) -> String {
    let text = value.split_once(';').map_or(value, |(_, text)| text);
    without_comments(text).trim().to_owned()
}

/// A typed address with `\x{hex}` decoded, RFC 6533 §3.
fn address(value: &str) -> String {
    let text = without_type(value);
    let text = text.trim_start_matches('<').trim_end_matches('>');
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\\x{") {
        out.push_str(before);
        match after
            .split_once('}')
            .and_then(|(hex, then)| Some((char::from_u32(u32::from_str_radix(hex.get(..hex.len().min(6))?, 16).ok()?)?, then)))
        {
            Some((c, then)) if !c.is_control() => {
                out.push(c);
                rest = then;
            }
            _ => {
                out.push_str("\\x{");
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

/// The reply code and, if there is one, the enhanced code at the start of an SMTP diagnostic: `550 5.1.1 …`, `550-5.1.1 …`.
pub fn smtp_code(diagnostic: &str) -> Option<(u16, Option<String>)> {
    let (code, rest) = diagnostic.trim_start().split_at_checked(3)?;
    let code: u16 = code.parse().ok().filter(|c| (200..600).contains(c))?;
    if rest.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return None;
    }
    let word = rest.trim_start_matches([' ', '-']).split([' ', ',', ';']).next().unwrap_or_default().trim_start_matches('#');
    let numbers: Vec<&str> = word.split('.').collect();
    let enhanced = numbers.len() == 3
        && matches!(numbers.first(), Some(&"2" | &"4" | &"5"))
        && numbers.iter().all(|n| (1..=3).contains(&n.len()) && n.bytes().all(|b| b.is_ascii_digit()));
    Some((code, enhanced.then(|| word.to_owned())))
}

/// A body that isn't encoded, for tests and callers with the part at hand.
impl TryFrom<&str> for DeliveryStatus {
    type Error = StatusError;

    fn try_from(body: &str) -> Result<Self, StatusError> {
        Self::parse(&decode(Encoding::SevenBit, body.as_bytes(), MAX_BYTES))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const POSTFIX: &str = "Reporting-MTA: dns; mail.example\r\nX-Postfix-Queue-ID: 1\r\nArrival-Date: Mon, 23 Nov 2026 04:04:23 +0000 (UTC)\r\n\r\nFinal-Recipient: rfc822; a@x.example (comment)\r\nOriginal-Recipient: rfc822;b@x.example\r\nAction: Failed\r\nStatus: 5.1.1 (bad)\r\nRemote-MTA: dns; mx.x.example\r\nDiagnostic-Code: X-Postfix; unknown user\r\n\r\nFinal-Recipient: utf-8; \\x{fc}@x.example\r\nAction: delayed\r\nStatus: 4.0.0\r\n\r\n";

    #[test]
    fn of_postfix() {
        let s = DeliveryStatus::try_from(POSTFIX).unwrap();
        assert_eq!(s.reporting_mta.as_deref(), Some("mail.example"));
        assert!(s.arrival.is_some());
        let [a, b] = s.recipients.as_slice() else { panic!("want two recipients") };
        assert_eq!(a.final_recipient.as_deref(), Some("a@x.example"));
        assert_eq!((a.action, a.status.as_str(), a.status_comment.as_deref()), (Action::Failed, "5.1.1", Some("bad")));
        assert_eq!(a.diagnostic, Some(("x-postfix".to_owned(), "unknown user".to_owned())));
        assert_eq!(b.final_recipient.as_deref(), Some("ü@x.example"));
        assert_eq!(DeliveryStatus::try_from(POSTFIX.replace("\r\n", "\n").as_str()), Ok(s));
    }

    #[test]
    fn refuses() {
        for (body, want) in [
            ("", StatusError::NoRecipient),
            ("Reporting-MTA: dns; x\n", StatusError::NoRecipient),
            ("Reporting-MTA: dns; x\n\nStatus: 5.0.0\n", StatusError::Action),
            ("Reporting-MTA: dns; x\n\nAction: exploded\nStatus: 5.0.0\n", StatusError::Action),
            ("Reporting-MTA: dns; x\n\nAction: failed\n", StatusError::Status),
            ("Reporting-MTA: dns; x\n\nAction: failed\nStatus: 5.0.0\nStatus: 5.0.0\n", StatusError::Duplicate),
        ] {
            assert_eq!(DeliveryStatus::try_from(body), Err(want), "{body}");
        }
    }

    #[test]
    fn codes() {
        for (text, want) in [
            ("550 5.1.1 x", Some((550, Some("5.1.1")))),
            ("550-5.1.1 x", Some((550, Some("5.1.1")))),
            ("550 no", Some((550, None))),
            ("550 #5.1.1 x", Some((550, Some("5.1.1")))),
            ("550", Some((550, None))),
            ("5501", None),
            ("host x said", None),
        ] {
            assert_eq!(smtp_code(text), want.map(|(c, e): (u16, Option<&str>)| (c, e.map(str::to_owned))), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes(body in "([a-z:; \n\r]|Action: failed\n|Status: 5\n|\\\\x\\{fc\\}){0,30}") {
            if let Ok(s) = DeliveryStatus::try_from(body.as_str()) {
                prop_assert!(!s.recipients.is_empty());
            }
            address(&body);
        }
    }
}
