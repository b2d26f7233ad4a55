//! What is told about a message that was sent.

use super::keep_retired;
use mox_base::{QueueId, Timestamp};
use mox_store::directory::AccountSettings;
use mox_store::webhook::{Event, NewWebhook};
use mox_webapi::webhook::Outgoing;
use std::collections::BTreeMap;

/// What happened to a message that was sent.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// What it was.
    pub event: Event,
    /// Whether a DSN that came in says so.
    pub dsn: bool,
    /// Whether the recipient was put on the suppression list because of it.
    pub suppressing: bool,
    /// The queue entry, which may be retired.
    pub queue_id: QueueId,
    /// What in the reverse-path identifies the entry.
    pub from_id: Option<&'a str>,
    /// Of the message.
    pub message_id: &'a str,
    /// Of the message.
    pub subject: &'a str,
    /// The submitter's own data.
    pub extra: &'a BTreeMap<String, String>,
    /// SMTP reply code, 0 without one.
    pub code: u16,
    /// Enhanced status code without its class; may be empty.
    pub secode: &'a str,
    /// Empty for success.
    pub error: &'a str,
    /// Now.
    pub now: Timestamp,
}

/// The webhook of an event, none if the account doesn't want to be told.
#[must_use]
pub fn outgoing(account: &AccountSettings, facts: &Facts<'_>) -> Option<NewWebhook> {
    let hook = account.outgoing_webhook.as_ref().filter(|hook| hook.wants(facts.event))?;
    let message_id = with_brackets(facts.message_id);
    let payload = Outgoing {
        version: 0,
        event: facts.event.name().parse().unwrap_or_default(),
        dsn: facts.dsn,
        suppressing: facts.suppressing,
        queue_msg_id: facts.queue_id.0,
        from_id: facts.from_id.unwrap_or_default().to_owned(),
        message_id: message_id.clone(),
        subject: facts.subject.to_owned(),
        webhook_queued: facts.now.into(),
        smtp_code: i64::from(facts.code),
        smtp_enhanced_code: enhanced(facts.code, facts.secode),
        error: facts.error.to_owned(),
        extra: facts.extra.clone(),
    };
    Some(NewWebhook {
        queue_id: Some(facts.queue_id),
        from_id: payload.from_id.clone(),
        message_id,
        subject: facts.subject.to_owned(),
        extra: facts.extra.clone(),
        account: account.name.clone(),
        url: hook.target.url.clone(),
        authorization: hook.target.authorization.clone(),
        secret: hook.target.secret.clone(),
        event: facts.event,
        payload: mox_webapi::write(&payload),
        submitted: facts.now,
        keep_replaced: keep_retired(Some(account)),
    })
}

fn with_brackets(message_id: &str) -> String {
    if message_id.is_empty() || message_id.starts_with('<') { message_id.to_owned() } else { format!("<{message_id}>") }
}

/// The code's class and the rest of the enhanced code; empty when one of them isn't known.
fn enhanced(code: u16, secode: &str) -> String {
    if code == 0 || secode.is_empty() { String::new() } else { format!("{}.{secode}", code / 100) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mox_store::directory::{OutgoingWebhook, WebhookTarget};
    use std::time::Duration;

    fn account(events: Vec<Event>) -> AccountSettings {
        let target = WebhookTarget { url: "http://r.example".to_owned(), authorization: None, secret: None };
        AccountSettings {
            outgoing_webhook: Some(OutgoingWebhook { target, events }),
            keep_retired_webhooks: Duration::from_secs(60),
            ..AccountSettings::new("ann")
        }
    }

    fn facts(extra: &BTreeMap<String, String>) -> Facts<'_> {
        Facts {
            event: Event::Failed,
            dsn: false,
            suppressing: true,
            queue_id: QueueId(6),
            from_id: Some("ZHareA07GFgQ9tvlnsx7cg"),
            message_id: "UVG@mail.example",
            subject: "hello",
            extra,
            code: 550,
            secode: "1.1",
            error: "550 5.1.1 no such user",
            now: Timestamp::parse_rfc3339("2026-11-23T04:04:24.138Z").unwrap(),
        }
    }

    #[test]
    fn payload_as_documented() {
        let extra = BTreeMap::from([("k".to_owned(), "v".to_owned())]);
        let hook = outgoing(&account(Vec::new()), &facts(&extra)).unwrap();
        assert_eq!(
            hook.payload,
            r#"{"Version":0,"Event":"failed","DSN":false,"Suppressing":true,"QueueMsgID":6,"FromID":"ZHareA07GFgQ9tvlnsx7cg","MessageID":"<UVG@mail.example>","Subject":"hello","WebhookQueued":"2026-11-23T04:04:24.138Z","SMTPCode":550,"SMTPEnhancedCode":"5.1.1","Error":"550 5.1.1 no such user","Extra":{"k":"v"}}"#
        );
        assert_eq!((hook.event, hook.queue_id, hook.message_id.as_str()), (Event::Failed, Some(QueueId(6)), "<UVG@mail.example>"));
        assert_eq!(hook.keep_replaced, Some(Duration::from_secs(60)));
    }

    #[test]
    fn only_what_the_account_wants() {
        let none = BTreeMap::new();
        assert!(outgoing(&AccountSettings::new("ann"), &facts(&none)).is_none());
        assert!(outgoing(&account(vec![Event::Delivered]), &facts(&none)).is_none());
        assert!(outgoing(&account(vec![Event::Delivered, Event::Failed]), &facts(&none)).is_some());
    }

    #[test]
    fn unknown_codes_are_empty() {
        let none = BTreeMap::new();
        let facts = Facts { code: 0, secode: "1.1", from_id: None, message_id: "", ..facts(&none) };
        let payload = outgoing(&account(Vec::new()), &facts).unwrap().payload;
        assert!(payload.contains(r#""FromID":"","MessageID":"""#), "{payload}");
        assert!(payload.contains(r#""SMTPCode":0,"SMTPEnhancedCode":"""#), "{payload}");
    }

    #[test]
    fn all_events_of_the_queue_have_their_name() {
        for event in Event::ALL.into_iter().filter(|e| *e != Event::Incoming) {
            let name: mox_webapi::webhook::Event = event.name().parse().unwrap();
            assert_eq!(name.as_str(), event.name());
        }
    }
}
