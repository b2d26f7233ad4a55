//! `mox example`: what webhooks post, as examples for whoever writes a receiver.
//!
//! The bodies are made of the types that the server sends, so they can't tell of fields that aren't there.

use crate::cli::{Command, Failure, Invocation, Outcome, print};
use mox_base::Timestamp;
use mox_webapi::webhook::{Event, Incoming, IncomingMeta, Outgoing};
use mox_webapi::{NameAddress, Structure, Time};
use std::collections::BTreeMap;

pub(super) const COMMANDS: &[Command] = &[Command {
    words: "example",
    params: &["[name]"],
    listed: true,
    help: "List examples of what webhooks post, or print one.\n\n\
        Without a name, the names are printed, one on each line. For examples of configuration, see \"mox config example\".",
    flags: &[],
    args: 0..=1,
    run: example,
}];

/// Its name, and what makes its text.
type Example = (&'static str, fn() -> serde_json::Result<String>);

/// The examples, indented for people; the server writes each in one line.
const EXAMPLES: &[Example] = &[
    ("webhook-outgoing-delivered", || serde_json::to_string_pretty(&delivered())),
    ("webhook-outgoing-dsn-failed", || serde_json::to_string_pretty(&failed_by_dsn())),
    ("webhook-incoming-basic", || serde_json::to_string_pretty(&incoming())),
];

fn example(invocation: &Invocation) -> Outcome {
    if invocation.args.is_empty() {
        return print(&EXAMPLES.iter().map(|(name, _)| format!("{name}\n")).collect::<String>());
    }
    let (_, text) = EXAMPLES.iter().find(|(name, _)| *name == invocation.arg(0)).ok_or_else(|| Failure::Error("not found".to_owned()))?;
    print(&format!("{}\n", text().map_err(|e| Failure::new("example", e))?))
}

/// Monday, 23 November 2026, 04:04:23 UTC, and some seconds.
fn time(seconds: i64) -> Time {
    Time::from(Timestamp::from_secs(1_795_406_663 + seconds))
}

fn address(name: &str, address: &str) -> NameAddress {
    NameAddress { name: name.to_owned(), address: address.to_owned() }
}

/// The receiver's server took it.
fn delivered() -> Outgoing {
    Outgoing {
        event: Event::Delivered,
        queue_msg_id: 101,
        from_id: "ZHareA07GFgQ9tvlnsx7cg".to_owned(),
        message_id: "<UVG_I12FZxd-lroFF3_mdQ@mail.example>".to_owned(),
        subject: "Your invoice".to_owned(),
        webhook_queued: time(0),
        smtp_code: 250,
        smtp_enhanced_code: "2.0.0".to_owned(),
        extra: BTreeMap::from([("invoice".to_owned(), "2026-1123".to_owned())]),
        ..Outgoing::default()
    }
}

/// It took it, and then sent it back.
fn failed_by_dsn() -> Outgoing {
    Outgoing {
        event: Event::Failed,
        dsn: true,
        suppressing: true,
        webhook_queued: time(90),
        smtp_code: 550,
        smtp_enhanced_code: "5.1.1".to_owned(),
        error: "550 5.1.1 no mailbox of that name".to_owned(),
        ..delivered()
    }
}

/// A message of one text.
fn incoming() -> Incoming {
    let text = "Thanks, it arrived.\n".to_owned();
    // With CR LF.
    let size = i64::try_from(text.len()).unwrap_or_default() + 1;
    Incoming {
        from: vec![address("Jo", "jo@remote.example")],
        to: vec![address("", "billing@mail.example")],
        subject: "Re: Your invoice".to_owned(),
        message_id: "<a8c2@remote.example>".to_owned(),
        in_reply_to: delivered().message_id,
        references: vec![delivered().message_id.to_lowercase()],
        date: Some(time(300)),
        text,
        structure: Structure {
            content_type: "text/plain".to_owned(),
            content_type_params: BTreeMap::from([("charset".to_owned(), "utf-8".to_owned())]),
            decoded_size: size,
            ..Structure::default()
        },
        meta: IncomingMeta {
            msg_id: 201,
            mail_from: "jo@remote.example".to_owned(),
            mail_from_validated: true,
            msg_from_validated: true,
            rcpt_to: "billing@mail.example".to_owned(),
            dkim_verified_domains: vec!["remote.example".to_owned()],
            remote_ip: "192.0.2.1".to_owned(),
            received: time(302),
            mailbox_name: "Inbox".to_owned(),
            automated: false,
        },
        ..Incoming::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mox_webapi::Unknown;

    #[test]
    fn examples_are_what_receivers_read() {
        let [delivered, failed, incoming] = EXAMPLES else { panic!("three examples") };
        let delivered: Outgoing = mox_webapi::read(&delivered.1().unwrap(), Unknown::Refuse).unwrap();
        assert_eq!((delivered.event, delivered.error.as_str()), (Event::Delivered, ""));
        let failed: Outgoing = mox_webapi::read(&failed.1().unwrap(), Unknown::Refuse).unwrap();
        assert!(failed.dsn && failed.queue_msg_id == delivered.queue_msg_id && failed.webhook_queued.at > delivered.webhook_queued.at);
        let incoming: Incoming = mox_webapi::read(&incoming.1().unwrap(), Unknown::Refuse).unwrap();
        assert_eq!(incoming.in_reply_to, delivered.message_id);
        assert_eq!(Some(incoming.meta.received.at), Timestamp::parse_rfc3339("2026-11-23T04:09:25Z"));
    }
}
