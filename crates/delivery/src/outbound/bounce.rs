//! DSNs about mail from the queue: composed, and filed into the sender's Inbox. They are never sent over SMTP.

use super::Inner;
use super::attempt::Delivered;
use super::failure::{Failure, Remote};
use mox_base::{Address, Localpart, Path, Timestamp};
use mox_message::date::DateTime;
use mox_message::dsn::{Action, Dsn, DsnRecipient, RemoteMta};
use mox_message::ident::new_message_id;
use mox_store::queue::{Entry, QueuedMessage, ReportKind};
use mox_store::{Append, Content, Error, Flags, MailboxName, Message, SpecialUse};

/// The header section of the original that is returned, at most.
const MAX_HEADER: usize = 256 << 10;

/// Larger messages aren't returned whole, RET=FULL or not.
const MAX_FULL: u64 = 1 << 20;

/// What is told.
#[derive(Clone, Copy, Debug)]
pub(super) enum What<'a> {
    Failed(&'a Failure),
    /// Until when delivery will be tried.
    Delayed(&'a Failure, Option<Timestamp>),
    /// Handed to a host that sends no DSNs.
    Relayed(&'a Delivered),
}

/// A DSN about one entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounce<'a> {
    pub(super) inner: &'a Inner,
    pub(super) message: &'a QueuedMessage,
    pub(super) entry: &'a Entry,
    pub(super) what: What<'a>,
}

impl Bounce<'_> {
    /// Composes and files it. A problem is logged, and changes nothing for the entry.
    pub(super) async fn send(self) {
        let id = self.entry.id.0;
        // RFC 3461 §4.3: only of failures.
        let full = self.message.return_full && matches!(self.what, What::Failed(_)) && self.message.size.0 <= MAX_FULL;
        let original = match self.original(full).await {
            Ok(original) => original,
            Err(e) => {
                tracing::error!(id, error = %e, "reading a message for a DSN; sending it without");
                Vec::new()
            }
        };
        let dsn = self.dsn(original, full).compose(&*self.inner.ports.random);
        if let Err(e) = self.file(dsn.bytes).await {
            tracing::error!(id, account = self.entry.account, error = %e, "filing a DSN");
        }
    }

    /// The header section of the original, or all of it.
    async fn original(&self, full: bool) -> Result<Vec<u8>, Error> {
        let message = self.message;
        let mut original = message.prefix.clone();
        if let Some(mut body) = self.inner.queue.open_body(message.id).await? {
            while full || (original.len() < MAX_HEADER && !original.windows(4).any(|w| w == b"\r\n\r\n")) {
                let chunk = body.next_chunk().await?;
                if chunk.is_empty() {
                    break;
                }
                original.extend_from_slice(&chunk);
            }
        }
        if !full {
            original.truncate(MAX_HEADER);
        }
        Ok(original)
    }

    fn dsn(&self, original: Vec<u8>, full: bool) -> Dsn {
        let (entry, message) = (self.entry, self.message);
        let hostname = &self.inner.settings.hostname;
        let now = self.inner.now();
        let postmaster = postmaster_of(hostname);
        let subject = match self.what {
            What::Failed(_) => "mail delivery failed",
            What::Delayed(..) => "mail delivery delayed",
            What::Relayed(_) => "mail relayed",
        };
        Dsn {
            smtputf8: message.smtputf8,
            to: entry.sender.clone().unwrap_or_else(|| postmaster.clone().into()),
            from: postmaster,
            subject: subject.to_owned(),
            message_id: new_message_id(&*self.inner.ports.random, hostname.ascii()),
            references: Some(message.message_id.clone()).filter(|id| !id.is_empty()),
            date: DateTime::utc(now),
            text: self.text(),
            reporting_mta: hostname.clone(),
            received_from: None,
            arrival: Some(entry.queued),
            envelope_id: message.envelope_id.clone(),
            future_release: Some(message.future_release.clone()).filter(|r| !r.is_empty()),
            recipients: vec![self.recipient()],
            original,
            full,
        }
    }

    fn recipient(&self) -> DsnRecipient {
        let entry = self.entry;
        // RFC 3461 §6.3 (a): as given. Types other than rfc822 have addresses that we don't read.
        let original = entry
            .original_recipient
            .as_deref()
            .and_then(|o| o.split_once(';'))
            .filter(|(kind, _)| kind.eq_ignore_ascii_case("rfc822") || kind.eq_ignore_ascii_case("utf-8"))
            .and_then(|(_, address)| address.parse::<Address>().ok())
            .map(Path::from);
        let base = DsnRecipient {
            address: entry.recipient.clone(),
            original,
            action: Action::Relayed,
            status: "2.0.0".to_owned(),
            status_comment: String::new(),
            remote: None,
            diagnostic: Vec::new(),
            last_attempt: entry.last_attempt,
            will_retry_until: None,
        };
        let of_failure = |failure: &Failure, action, failed| DsnRecipient {
            action,
            status: failure.status(failed),
            status_comment: failure.text.clone(),
            remote: failure.remote.as_ref().map(remote_mta),
            diagnostic: failure.lines.clone(),
            ..base.clone()
        };
        match self.what {
            What::Failed(failure) => of_failure(failure, Action::Failed, true),
            What::Delayed(failure, until) => DsnRecipient { will_retry_until: until, ..of_failure(failure, Action::Delayed, false) },
            What::Relayed(delivered) => DsnRecipient { remote: Some(remote_mta(&delivered.remote)), ..base },
        }
    }

    /// For people.
    fn text(&self) -> String {
        let recipient = &self.entry.recipient;
        let (mut text, failure) = match self.what {
            What::Failed(failure) => (
                format!(
                    "Delivery of your message has failed permanently, to:\n\n    {recipient}\n\nNo further attempts will be made.\n\n\
                     The error of the last attempt was:\n\n    {}\n",
                    failure.text
                ),
                Some(failure),
            ),
            What::Delayed(failure, until) => (
                format!(
                    "Delivery of your message is delayed, to:\n\n    {recipient}\n\n{}You don't need to do anything.\n\n\
                     The error of the last attempt was:\n\n    {}\n",
                    until.map(|t| format!("Delivery will be tried again until {}.\n", t.rfc5322())).unwrap_or_default(),
                    failure.text
                ),
                Some(failure),
            ),
            What::Relayed(delivered) => (
                format!(
                    "Your message was handed to {} for delivery, to:\n\n    {recipient}\n\n\
                     That server doesn't notify of successful delivery, so no further notice will come.\n",
                    delivered.remote.name
                ),
                None,
            ),
        };
        if let Some(failure) = failure.filter(|f| !f.lines.is_empty()) {
            text.push_str("\nThe full SMTP response was:\n\n");
            for line in &failure.lines {
                text.push_str("    ");
                text.push_str(line);
                text.push('\n');
            }
        }
        text
    }

    async fn file(&self, dsn: Vec<u8>) -> Result<(), Error> {
        let directory = self.inner.directory.current();
        let postmaster = directory.postmaster();
        let postmaster_mailbox = &postmaster.destination.mailbox;
        if self.message.report == ReportKind::Dmarc {
            return self.file_into(&postmaster.account.name, &format!("{postmaster_mailbox}/dmarc"), Flags::SEEN, dsn).await;
        }
        match self.file_into(&self.entry.account, "Inbox", Flags::default(), dsn.clone()).await {
            Err(e) => {
                tracing::warn!(account = self.entry.account, error = %e, "sender's account not available for a DSN, which goes to the postmaster");
                self.file_into(&postmaster.account.name, postmaster_mailbox, Flags::default(), dsn).await
            }
            filed => filed,
        }
    }

    async fn file_into(&self, account: &str, mailbox: &str, flags: Flags, dsn: Vec<u8>) -> Result<(), Error> {
        let account = self.inner.store.account(account).await?;
        let utf8 = self.message.smtputf8;
        let delivered_to = self.entry.sender.as_ref().map(|p| p.for_smtputf8(utf8)).unwrap_or_default();
        // RFC 3464 §2: a DSN has the null reverse-path.
        let prefix = format!("Delivered-To: {delivered_to}\r\nReturn-Path: <>\r\n").into_bytes();
        let message = Message { prefix, content: Content::Bytes(dsn), structure: None, hash: None };
        let prepared = account.prepare(message).await?;
        let mailbox = MailboxName::parse(mailbox)?;
        // A full mailbox must not hide that mail didn't arrive.
        let append = Append { flags, received: Some(self.inner.now()), ignore_quota: true, ..Append::default() };
        account
            .write(move |tx| {
                let mailbox = tx.ensure_mailbox(&mailbox, SpecialUse::NONE)?;
                tx.add(mailbox.mailbox.id, &prepared, &append)
            })
            .await?;
        Ok(())
    }
}

fn remote_mta(remote: &Remote) -> RemoteMta {
    RemoteMta { name: remote.name.clone(), ip: remote.ip }
}

fn postmaster_of(hostname: &mox_base::Domain) -> Address {
    // “postmaster” is a localpart, so the other branch isn't taken.
    let localpart = Localpart::from_decoded("postmaster").unwrap_or_else(|e| unreachable!("{e}"));
    Address::new(localpart, hostname.clone())
}
