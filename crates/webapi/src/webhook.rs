//! What webhooks carry.

use crate::object::Type;
use crate::time::Time;
use crate::types::{NameAddress, Structure};
use crate::wire::{Unknown, Wire};
use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// Makes the events with their names and their documentation.
macro_rules! events {
    ($($(#[$attribute:meta])* $name:ident = $wire:literal, $about:literal;)+) => {
        /// What happened to a message that was sent.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Event {
            $(#[doc = $about] $(#[$attribute])* $name,)+
        }

        impl Event {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            const NAMES: &[&str] = &[$($wire),+];

            /// Its name, in payloads and in the configuration.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $wire),+
                }
            }

            /// When it happens.
            pub const fn about(self) -> &'static str {
                match self {
                    $(Self::$name => $about),+
                }
            }
        }
    };
}

events! {
    Delivered = "delivered", "The next host accepted the message for the recipient.";
    Suppressed = "suppressed", "The recipient is on the suppression list: nothing was sent.";
    Delayed = "delayed", "An attempt failed; there will be another.";
    Failed = "failed", "Delivery failed, there will be no other attempt.";
    Relayed = "relayed", "The recipient's system passed the message on to one that doesn't report.";
    Expanded = "expanded", "The recipient's system passed the message on to several addresses.";
    Canceled = "canceled", "An administrator took the message out of the queue.";
    #[default]
    Unrecognized = "unrecognized", "A message came back that can't be understood.";
}

/// That there is no such event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown event")]
pub struct UnknownEvent;

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Event {
    type Err = UnknownEvent;

    fn from_str(name: &str) -> Result<Self, UnknownEvent> {
        Self::ALL.iter().copied().find(|event| event.as_str() == name).ok_or(UnknownEvent)
    }
}

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl Wire for Event {
    fn schema() -> Type {
        Type::Choice(Self::NAMES)
    }

    fn read<'de, D: Deserializer<'de>>(deserializer: D, _: Unknown) -> Result<Self, D::Error> {
        let Some(name) = Option::<String>::deserialize(deserializer)? else { return Ok(Self::default()) };
        name.parse().map_err(|_| D::Error::custom(format_args!("unknown event {name:?}")))
    }
}

object! {
    /// Posted to the outgoing webhook when something happened to a message that was sent.
    pub struct Outgoing {
        /// Of this format: 0.
        "Version" version: i64,
        /// What happened.
        "Event" event: Event,
        /// Whether it is known from a delivery status notification that came in.
        "DSN" dsn: bool,
        /// Whether the recipient was added to the suppression list because of this.
        "Suppressing" suppressing: bool,
        /// Number of the queue entry, as in the response of Send.
        "QueueMsgID" queue_msg_id: i64,
        /// Id in the unique SMTP MAIL FROM address, or empty.
        "FromID" from_id: String,
        /// Message-ID of the message that was sent, with `<>`.
        "MessageID" message_id: String,
        /// Subject of the message that was sent.
        "Subject" subject: String,
        /// When this webhook was made.
        "WebhookQueued" webhook_queued: Time,
        /// SMTP reply code, 0 if none is known.
        "SMTPCode" smtp_code: i64,
        /// Such as `5.1.1`, or empty.
        "SMTPEnhancedCode" smtp_enhanced_code: String,
        /// What went wrong, empty for success.
        "Error" error: String,
        /// As given when the message was sent.
        "Extra" extra: BTreeMap<String, String>,
    }

    /// Posted to the incoming webhook when a message was delivered to the account.
    pub struct Incoming {
        /// Of this format: 0.
        "Version" version: i64,
        /// Authors.
        "From" from: Vec<NameAddress>,
        /// Recipients in the header.
        "To" to: Vec<NameAddress>,
        /// Recipients of copies.
        "CC" cc: Vec<NameAddress>,
        /// Usually empty.
        "BCC" bcc: Vec<NameAddress>,
        /// Where replies go.
        "ReplyTo" reply_to: Vec<NameAddress>,
        /// Decoded.
        "Subject" subject: String,
        /// With `<>`, or empty.
        "MessageID" message_id: String,
        /// Message-ID of the message replied to, or empty.
        "InReplyTo" in_reply_to: String,
        /// Message-IDs of earlier messages of the thread, with `<>`, lower-case, oldest first.
        "References" references: Vec<String>,
        /// The date in the header, null if there is none that can be read.
        "Date" date: Option<Time>,
        /// The first plain text, with `\n` as line ending, at most 1 MiB.
        "Text" text: String,
        /// The first HTML, with `\n` as line ending, at most 1 MiB.
        "HTML" html: String,
        /// The parts; get one with `MessagePartGet`.
        "Structure" structure: Structure,
        /// What is known beside the contents.
        "Meta" meta: IncomingMeta,
    }

    /// What is known of a delivered message beside its contents.
    pub struct IncomingMeta {
        /// Id of the message, for calls of the webapi.
        "MsgID" msg_id: i64,
        /// SMTP MAIL FROM; empty for the null reverse-path.
        "MailFrom" mail_from: String,
        /// Whether SPF passed.
        "MailFromValidated" mail_from_validated: bool,
        /// Whether the From address was verified, as with DMARC.
        "MsgFromValidated" msg_from_validated: bool,
        /// SMTP RCPT TO.
        "RcptTo" rcpt_to: String,
        /// Domains of DKIM signatures that verified.
        "DKIMVerifiedDomains" dkim_verified_domains: Vec<String>,
        /// Address that the message came from.
        "RemoteIP" remote_ip: String,
        /// When it was received.
        "Received" received: Time,
        /// Mailbox that it was delivered to.
        "MailboxName" mailbox_name: String,
        /// Whether software wrote it rather than a person; don't answer automatically then.
        "Automated" automated: bool,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{read, write};

    #[test]
    fn examples_of_the_specification() {
        let outgoing = r#"{"Version":0,"Event":"failed","DSN":false,"Suppressing":true,"QueueMsgID":6,"FromID":"ZHareA07GFgQ9tvlnsx7cg","MessageID":"<UVG_I12FZxd-lroFF3_mdQ@mail.example>","Subject":"hello","WebhookQueued":"2026-11-23T04:04:24.138Z","SMTPCode":550,"SMTPEnhancedCode":"5.1.1","Error":"…: 550 5.1.1 no such user","Extra":{"k":"v"}}"#;
        let read_back = read::<Outgoing>(outgoing, Unknown::Refuse).unwrap();
        assert_eq!((read_back.event, read_back.smtp_code), (Event::Failed, 550));
        assert_eq!(write(&read_back), outgoing);
        let incoming = r#"{"Version":0,"From":[{"Name":"Jo","Address":"jo@remote.example"}],"To":[{"Name":"","Address":"me@mail.example"}],"CC":[],"BCC":[],"ReplyTo":[],"Subject":"hi","MessageID":"<a@remote.example>","InReplyTo":"","References":[],"Date":"2026-11-23T05:03:16+01:00","Text":"hi\n","HTML":"","Structure":{"ContentType":"text/plain","ContentTypeParams":{"charset":"utf-8"},"ContentID":"","ContentDisposition":"","Filename":"","DecodedSize":4,"Parts":[]},"Meta":{"MsgID":2,"MailFrom":"jo@remote.example","MailFromValidated":true,"MsgFromValidated":true,"RcptTo":"me@mail.example","DKIMVerifiedDomains":["remote.example"],"RemoteIP":"192.0.2.1","Received":"2026-11-23T04:03:16.377Z","MailboxName":"Inbox","Automated":false}}"#;
        assert_eq!(write(&read::<Incoming>(incoming, Unknown::Refuse).unwrap()), incoming);
    }

    #[test]
    fn empty_lists_and_maps_are_written() {
        let text = write(&Outgoing::default());
        assert!(text.ends_with(r#""Extra":{}}"#), "{text}");
        let text = write(&Incoming::default());
        assert_eq!(text.matches("null").count(), 1, "only Date: {text}");
    }

    #[test]
    fn events_by_name() {
        for (event, name) in Event::ALL.iter().zip(Event::NAMES) {
            assert_eq!((event.as_str(), name.parse()), (*name, Ok(*event)));
        }
        assert_eq!("Failed".parse::<Event>(), Err(UnknownEvent));
    }

    #[test]
    fn the_structure_in_an_example_ends() {
        let example = Incoming::schema().example();
        assert_eq!(example["Structure"]["Parts"], serde_json::json!([]));
        assert_eq!(Outgoing::schema().example()["Event"], "delivered");
    }
}
