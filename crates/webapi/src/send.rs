//! Sending.

use crate::error::ErrorBody;
use crate::time::Time;
use crate::types::{File, NameAddress};
use std::collections::BTreeMap;

object! {
    /// A message to send, with how to send it.
    pub struct SendRequest {
        /// At most one author. When empty: the address you logged in with, and your account's full name.
        "From" from: Vec<NameAddress>,
        /// Recipients. To, CC and BCC must not all be empty.
        "To" to: Vec<NameAddress>,
        /// Recipients of copies.
        "CC" cc: Vec<NameAddress>,
        /// Recipients that nobody else sees; they are only in the copy for the Sent mailbox.
        "BCC" bcc: Vec<NameAddress>,
        /// Where replies go.
        "ReplyTo" reply_to: Vec<NameAddress>,
        /// With `<>`. When empty, one is made.
        "MessageID" message_id: String,
        /// Message-IDs of earlier messages of the thread, with `<>`, oldest first. The last becomes In-Reply-To.
        "References" references: Vec<String>,
        /// Date for the header; null is now.
        "Date" date: Option<Time>,
        /// Optional.
        "Subject" subject: String,
        /// The plain text, with `\n` as line ending. Text and HTML must not both be empty.
        "Text" text: String,
        /// The HTML, with `\n` as line ending. With both, mail clients choose.
        "HTML" html: String,
        /// Data of yours that comes back in the webhooks of this message. It is not added to the message.
        "Extra" extra: BTreeMap<String, String>,
        /// More header fields, each a name and a value, in this order. Fields that the server writes are refused.
        "Headers" headers: Vec<(String, String)>,
        /// Other representations of the body, such as a calendar invitation.
        "AlternativeFiles" alternative_files: Vec<File>,
        /// Files that the HTML shows, by their ContentID.
        "InlineFiles" inline_files: Vec<File>,
        /// Attachments.
        "AttachedFiles" attached_files: Vec<File>,
        /// True: verified TLS all the way or failure. False: delivery matters more than TLS policies. Null: the usual policies.
        "RequireTLS" require_tls: Option<bool>,
        /// Not delivered before this time, at most 60 days ahead. Null or past: at once.
        "FutureRelease" future_release: Option<Time>,
        /// Whether to keep a copy in the Sent mailbox.
        "SaveSent" save_sent: bool,
        /// Name of a template, see `TemplateSet`, that the subject and the texts are made from; they must be empty here then.
        "Template" template: String,
        /// Values for the places in the template. There must be one for each; others aren't used.
        "TemplateData" template_data: BTreeMap<String, String>,
    }

    /// A recipient of a queued message.
    pub struct Submission {
        /// As in the request.
        "Address" address: String,
        /// Number of the queue entry, as in webhooks.
        "QueueMsgID" queue_msg_id: i64,
        /// Id in the unique SMTP MAIL FROM address, by which bounces are recognised; empty if not in use.
        "FromID" from_id: String,
    }

    /// A message that is queued.
    pub struct SendResponse {
        /// Message-ID of the message, with `<>`.
        "MessageID" message_id: String,
        /// The recipients in the order To, CC, BCC.
        "Submissions" submissions: Vec<Submission>,
    }

    /// Messages to send.
    pub struct SendBatchRequest {
        /// 1 to 100 messages, each as for `Send`.
        "Messages" messages: Vec<SendRequest>,
    }

    /// What came of a message of a batch: one of the fields isn't null.
    pub struct SendBatchResult {
        /// What `Send` would have answered; the message is queued.
        "Response" response: Option<SendResponse>,
        /// The error that `Send` would have answered. Unless its code is `sentOverQuota`, the message is not queued.
        "Error" error: Option<ErrorBody>,
    }

    /// What came of the messages of a batch.
    pub struct SendBatchResponse {
        /// In the order of the request.
        "Results" results: Vec<SendBatchResult>,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Unknown, Wire, read, write};

    #[test]
    fn example_of_the_specification() {
        let text = r#"{"To":[{"Address":"user@example.org"}],"Subject":"hello","Text":"hi","Extra":{"k":"v"},"SaveSent":true}"#;
        let want = SendRequest {
            to: vec![NameAddress { name: String::new(), address: "user@example.org".to_owned() }],
            subject: "hello".to_owned(),
            text: "hi".to_owned(),
            extra: BTreeMap::from([("k".to_owned(), "v".to_owned())]),
            save_sent: true,
            ..SendRequest::default()
        };
        assert_eq!(read::<SendRequest>(text, Unknown::Refuse).unwrap(), want);
        let text = r#"{"MessageID":"<KeeIqeJDYzRkH0ktoVgHHg@mail.example>","Submissions":[{"Address":"user@example.org","QueueMsgID":1,"FromID":"m1gVzFnn8ZGlqY5wM7cSwQ"}]}"#;
        assert_eq!(write(&read::<SendResponse>(text, Unknown::Refuse).unwrap()), text);
    }

    #[test]
    fn nothing_and_null_are_zero() {
        for text in [
            "null",
            "{}",
            r#"{"From":null,"To":null,"MessageID":null,"Date":null,"Extra":null,"Headers":null,"RequireTLS":null,"SaveSent":null} and more"#,
        ] {
            assert_eq!(read::<SendRequest>(text, Unknown::Refuse).unwrap(), SendRequest::default(), "{text}");
        }
        let nulls = read::<SendRequest>(
            r#"{"To":[null],"References":[null],"Headers":[null,["a"],["b","c","d"]],"Extra":{"k":null}}"#,
            Unknown::Refuse,
        );
        let nulls = nulls.unwrap();
        assert_eq!(nulls.to, [NameAddress::default()]);
        assert_eq!(nulls.references, [""]);
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(nulls.headers, [pair("", ""), pair("a", ""), pair("b", "c")]);
        assert_eq!(nulls.extra["k"], "");
    }

    #[test]
    fn names_in_any_case() {
        let text = r#"{"to":[{"ADDRESS":"a@b.example"}],"hTmL":"x","futurerelease":"2026-11-23T05:03:16.5+01:00"}"#;
        let request = read::<SendRequest>(text, Unknown::Refuse).unwrap();
        assert_eq!((request.to[0].address.as_str(), request.html.as_str()), ("a@b.example", "x"));
        assert_eq!(request.future_release.unwrap().to_string(), "2026-11-23T05:03:16.5+01:00");
    }

    #[test]
    fn refused() {
        for text in [
            "",
            "[]",
            "1",
            r#""x""#,
            "{",
            r#"{"Subjct":"x"}"#,
            r#"{"To":[{"Adress":"x"}]}"#,
            r#"{"To":{}}"#,
            r#"{"To":["a@b.example"]}"#,
            r#"{"Subject":1}"#,
            r#"{"Extra":{"k":1}}"#,
            r#"{"Extra":[]}"#,
            r#"{"SaveSent":"true"}"#,
            r#"{"SaveSent":1}"#,
            r#"{"Date":"yesterday"}"#,
            r#"{"Date":1}"#,
            r#"{"FutureRelease":""}"#,
            r#"{"Headers":[{"a":"b"}]}"#,
            r#"{"Headers":["ab"]}"#,
            r#"{"RequireTLS":"no"}"#,
            r#"{"AttachedFiles":[{"Data":1}]}"#,
        ] {
            assert!(read::<SendRequest>(text, Unknown::Refuse).is_err(), "{text}");
        }
        assert!(read::<SendRequest>(&format!("{}{}", r#"{"To":"#, "[".repeat(100_000)), Unknown::Refuse).is_err());
    }

    #[test]
    fn responses_may_grow() {
        let text = r#"{"MessageID":"<a@b>","New":{"x":[1]},"Submissions":[{"Address":"x","More":2}]}"#;
        assert_eq!(read::<SendResponse>(text, Unknown::Ignore).unwrap().submissions[0].address, "x");
    }

    #[test]
    fn lists_and_maps_are_never_null() {
        let text = write(&SendRequest::default());
        let null: Vec<&str> = text.split(',').filter(|field| field.contains("null")).collect();
        assert_eq!(null, [r#""Date":null"#, r#""RequireTLS":null"#, r#""FutureRelease":null"#]);
        assert_eq!(write(&SendRequest { subject: "<a> & b".to_owned(), ..SendRequest::default() }).matches("<a> & b").count(), 1);
    }

    #[test]
    fn examples_are_readable() {
        let example = SendRequest::schema().example();
        assert_eq!(example["Extra"]["example"], "");
        assert_eq!(example["FutureRelease"], "0001-01-01T00:00:00Z");
        assert_eq!(example["AttachedFiles"][0]["Data"], "");
        assert!(read::<SendRequest>(&example.to_string(), Unknown::Refuse).is_ok());
    }
}
