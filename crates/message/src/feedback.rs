//! Complaints about mail, as mailbox providers send them to who sent it: the Abuse Reporting Format, RFC 5965.
//!
//! A report is a `multipart/report` whose second part, `message/feedback-report`, has the fields that are read here; the third is the
//! message, or its header. Others wrote them, in many ways: all that is needed is to know what kind of report it is.

use crate::header::Headers;

/// The machine-readable part of a complaint, RFC 5965 §3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedbackReport {
    /// `Feedback-Type`, in lower case.
    pub kind: String,
    /// `User-Agent`: the software that reports; may be empty.
    pub user_agent: String,
    /// `Original-Mail-From`, without angle brackets; none for the null reverse-path, too.
    pub mail_from: Option<String>,
    /// `Original-Rcpt-To`, without angle brackets.
    pub recipients: Vec<String>,
    /// `Original-Envelope-Id`.
    pub envelope_id: Option<String>,
}

/// Why bytes are no feedback report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FeedbackError {
    /// RFC 5965 §3.1: exactly one.
    #[error("want one feedback type")]
    Type,
    /// `Original-Mail-From` twice: which one would count?
    #[error("duplicate field in feedback report")]
    Duplicate,
}

/// The most recipients that are read.
const MAX_RECIPIENTS: usize = 100;

/// What recipients complain with: registered in RFC 5965 §7.3, and by RFC 6650 §5 or use. `not-spam` says the opposite, `auth-failure`
/// (RFC 6591) is about the sender's records.
const COMPLAINTS: [&str; 4] = ["abuse", "fraud", "opt-out", "opt-out-list"];

impl FeedbackReport {
    /// Reads the decoded body of the second part.
    ///
    /// # Errors
    /// See [`FeedbackError`].
    pub fn parse(body: &[u8]) -> Result<Self, FeedbackError> {
        let headers = Headers::new(body);
        let values = |name: &str| -> Vec<String> {
            headers.all(name).map(|field| field.text().trim().to_owned()).filter(|text| !text.is_empty()).collect()
        };
        let address = |text: String| text.trim_start_matches('<').trim_end_matches('>').trim().to_owned();
        let kinds = values("Feedback-Type");
        let [kind] = kinds.as_slice() else { return Err(FeedbackError::Type) };
        let mut senders = values("Original-Mail-From").into_iter().map(address);
        let (mail_from, None) = (senders.next(), senders.next()) else { return Err(FeedbackError::Duplicate) };
        Ok(Self {
            kind: kind.to_ascii_lowercase(),
            user_agent: values("User-Agent").into_iter().next().unwrap_or_default(),
            mail_from: mail_from.filter(|address| !address.is_empty()),
            recipients: values("Original-Rcpt-To").into_iter().map(address).take(MAX_RECIPIENTS).collect(),
            envelope_id: values("Original-Envelope-Id").into_iter().next(),
        })
    }

    /// Whether somebody doesn't want such mail.
    pub fn is_complaint(&self) -> bool {
        COMPLAINTS.contains(&self.kind.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    // As RFC 5965 §B.2 has it.
    const FULL: &str = "Feedback-Type: abuse\r\nUser-Agent: SomeGenerator/1.0\r\nVersion: 1\r\nOriginal-Mail-From: <somespammer@example.net>\r\n\
        Original-Rcpt-To: <user@example.com>\r\nArrival-Date: Thu, 8 Mar 2005 14:00:00 EDT\r\nReporting-MTA: dns; mail.example.com\r\n\
        Source-IP: 192.0.2.1\r\nAuthentication-Results: mail.example.com;\r\n smtp.mail=somespammer@example.com; spf=fail\r\n\
        Reported-Domain: example.net\r\nRemoval-Recipient: user@example.com\r\n";

    #[test]
    fn of_the_standard() {
        let report = FeedbackReport::parse(FULL.as_bytes()).unwrap();
        assert_eq!(report.kind, "abuse");
        assert_eq!(report.user_agent, "SomeGenerator/1.0");
        assert_eq!(report.mail_from.as_deref(), Some("somespammer@example.net"));
        assert_eq!((report.recipients.as_slice(), report.is_complaint()), (["user@example.com".to_owned()].as_slice(), true));
    }

    #[test]
    fn what_little_is_enough_and_what_is_too_much() {
        let report = |text: &str| FeedbackReport::parse(text.as_bytes());
        assert!(!report("feedback-type: Not-Spam\n").unwrap().is_complaint());
        assert!(!report("Feedback-Type: auth-failure\n").unwrap().is_complaint());
        assert_eq!(report("Feedback-Type: opt-out\nOriginal-Mail-From: <>\n").unwrap().mail_from, None);
        assert_eq!(report("User-Agent: x\n"), Err(FeedbackError::Type));
        assert_eq!(report("Feedback-Type: abuse\nFeedback-Type: not-spam\n"), Err(FeedbackError::Type));
        assert_eq!(
            report("Feedback-Type: abuse\nOriginal-Mail-From: a@b.example\nOriginal-Mail-From: c@b.example\n"),
            Err(FeedbackError::Duplicate)
        );
    }

    proptest! {
        #[test]
        fn any_bytes(body in "([a-zA-Z<>@:; \n\r\t-]|Feedback-Type: abuse\n|Original-Rcpt-To: x@y\n|User-Agent:\n){0,40}") {
            if let Ok(report) = FeedbackReport::parse(body.as_bytes()) {
                prop_assert!(!report.kind.is_empty() && report.kind == report.kind.to_ascii_lowercase());
                prop_assert!(!report.mail_from.as_deref().is_some_and(str::is_empty));
            }
        }

        #[test]
        fn what_is_written_is_read(kind in "[a-z]{1,12}", from in "[a-z]{1,9}@[a-z]{1,9}\\.example", to in proptest::collection::vec("[a-z]{1,9}@x\\.example", 0..4)) {
            let mut text = format!("Feedback-Type: {kind}\r\nVersion: 1\r\nOriginal-Mail-From: <{from}>\r\n");
            for recipient in &to {
                text.push_str(&format!("Original-Rcpt-To: <{recipient}>\r\n"));
            }
            let report = FeedbackReport::parse(text.as_bytes()).unwrap();
            prop_assert_eq!((report.kind, report.mail_from, report.recipients), (kind, Some(from), to));
        }
    }
}
