//! DSNs about mail from the queue: composed, and filed into the sender's Inbox, or the mailbox that the account has for them.
//! They are never sent over SMTP. What several
//! recipients of one attempt have in common is told once.

use super::Inner;
use super::attempt::Delivered;
use super::failure::{Failure, LATE_SECODE, Remote};
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
    /// The same, because the time has passed that the sender gave.
    Late(&'a Failure, Option<Timestamp>),
    /// Handed to a host that sends no DSNs.
    Relayed(&'a Delivered),
}

impl What<'_> {
    /// Whether both can be told in one DSN.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Delayed(_, one), Self::Delayed(_, other)) | (Self::Late(_, one), Self::Late(_, other)) => one == other,
            (one, other) => std::mem::discriminant(one) == std::mem::discriminant(other),
        }
    }

    fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Failed(failure) | Self::Delayed(failure, _) | Self::Late(failure, _) => Some(failure),
            Self::Relayed(_) => None,
        }
    }
}

/// A DSN about entries of one message with one sender.
#[derive(Debug)]
pub(super) struct Bounce<'a> {
    pub(super) inner: &'a Inner,
    pub(super) message: &'a QueuedMessage,
    /// At least one, of which the same is told.
    pub(super) about: Vec<(&'a Entry, What<'a>)>,
}

impl Bounce<'_> {
    /// Composes and files it. A problem is logged, and changes nothing for the entry.
    pub(super) async fn send(self) {
        let Some((entry, what)) = self.about.first().copied() else { return };
        let id = entry.id.0;
        // RFC 3461 §4.3: only of failures.
        let full = self.message.return_full && matches!(what, What::Failed(_)) && self.message.size.0 <= MAX_FULL;
        let original = match self.original(full).await {
            Ok(original) => original,
            Err(e) => {
                tracing::error!(id, error = %e, "reading a message for a DSN; sending it without");
                Vec::new()
            }
        };
        let dsn = self.dsn(entry, what, (original, full)).compose(&*self.inner.ports.random);
        if let Err(e) = self.file(entry, dsn.bytes).await {
            tracing::error!(id, account = entry.account, error = %e, "filing a DSN");
        }
    }

    /// The header section of the original, or all of it.
    async fn original(&self, full: bool) -> Result<Vec<u8>, Error> {
        let message = self.message;
        let mut original = message.signature.as_ref().map_or_else(Vec::new, |signature| signature.fields.clone());
        original.extend_from_slice(&message.prefix);
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

    fn dsn(&self, entry: &Entry, what: What<'_>, (original, full): (Vec<u8>, bool)) -> Dsn {
        let message = self.message;
        let hostname = &self.inner.settings.hostname;
        let now = self.inner.now();
        let postmaster = postmaster_of(hostname);
        let subject = match what {
            What::Failed(_) => "mail delivery failed",
            What::Delayed(..) | What::Late(..) => "mail delivery delayed",
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
            text: self.text(what),
            reporting_mta: hostname.clone(),
            received_from: None,
            arrival: Some(entry.queued),
            envelope_id: message.envelope_id.clone(),
            deliver_by: message.deliver_by.map(|by| by.at),
            future_release: Some(message.future_release.clone()).filter(|r| !r.is_empty()),
            recipients: self.about.iter().map(|(entry, what)| recipient(entry, *what)).collect(),
            original,
            full,
        }
    }

    /// For people.
    fn text(&self, what: What<'_>) -> String {
        let recipients: String = self.about.iter().map(|(entry, _)| format!("    {}\n", entry.recipient)).collect();
        let mut text = match what {
            What::Failed(_) => {
                format!("Delivery of your message has failed permanently, to:\n\n{recipients}\nNo further attempts will be made.\n\n")
            }
            What::Delayed(_, until) | What::Late(_, until) => {
                let how = if matches!(what, What::Late(..)) { "has taken longer than the time that you gave" } else { "is delayed" };
                let until = until.map(|t| format!("Delivery will be tried again until {}.\n", t.rfc5322())).unwrap_or_default();
                format!("Delivery of your message {how}, to:\n\n{recipients}\n{until}You don't need to do anything.\n\n")
            }
            What::Relayed(delivered) => {
                let mut text = format!("Your message was handed to {} for delivery, to:\n\n{recipients}\n", delivered.remote.name);
                if !delivered.dsn {
                    text.push_str("That server doesn't notify of successful delivery, so no further notice will come.\n");
                }
                if self.message.deliver_by.is_some() && !delivered.in_time {
                    text.push_str("It doesn't say either whether delivery takes longer than the time that you gave.\n");
                }
                text
            }
        };
        self.errors(&mut text);
        text
    }

    /// Each error once, with its recipients where not all have the same.
    fn errors(&self, text: &mut String) {
        let mut errors: Vec<(&Failure, Vec<&Entry>)> = Vec::new();
        for (entry, what) in &self.about {
            let Some(failure) = what.failure() else { continue };
            match errors.iter_mut().find(|(f, _)| (&f.text, &f.lines) == (&failure.text, &failure.lines)) {
                Some((_, entries)) => entries.push(*entry),
                None => errors.push((failure, vec![*entry])),
            }
        }
        let several = errors.len() > 1;
        for (i, (failure, entries)) in errors.into_iter().enumerate() {
            if several {
                let recipients: Vec<String> = entries.iter().map(|entry| entry.recipient.to_string()).collect();
                let begin = if i > 0 { "\n" } else { "" };
                text.push_str(&format!(
                    "{begin}The error of the last attempt for {} was:\n\n    {}\n",
                    recipients.join(", "),
                    failure.text
                ));
            } else {
                text.push_str(&format!("The error of the last attempt was:\n\n    {}\n", failure.text));
            }
            if !failure.lines.is_empty() {
                text.push_str("\nThe full SMTP response was:\n\n");
                for line in &failure.lines {
                    text.push_str("    ");
                    text.push_str(line);
                    text.push('\n');
                }
            }
        }
    }

    async fn file(&self, entry: &Entry, dsn: Vec<u8>) -> Result<(), Error> {
        let directory = self.inner.directory.current();
        let postmaster = directory.postmaster();
        let postmaster_mailbox = &postmaster.destination.mailbox;
        if self.message.report == ReportKind::Dmarc {
            return self.file_into(entry, &postmaster.account.name, &format!("{postmaster_mailbox}/dmarc"), Flags::SEEN, dsn).await;
        }
        let mailbox = directory.account(&entry.account).map_or("Inbox", |account| account.queue_dsn_mailbox.as_str());
        match self.file_into(entry, &entry.account, mailbox, Flags::default(), dsn.clone()).await {
            Err(e) => {
                tracing::warn!(account = entry.account, error = %e, "sender's account not available for a DSN, which goes to the postmaster");
                self.file_into(entry, &postmaster.account.name, postmaster_mailbox, Flags::default(), dsn).await
            }
            filed => filed,
        }
    }

    async fn file_into(&self, entry: &Entry, account: &str, mailbox: &str, flags: Flags, dsn: Vec<u8>) -> Result<(), Error> {
        let account = self.inner.store.account(account).await?;
        let utf8 = self.message.smtputf8;
        let delivered_to = entry.sender.as_ref().map(|p| p.for_smtputf8(utf8)).unwrap_or_default();
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

fn recipient(entry: &Entry, what: What<'_>) -> DsnRecipient {
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
    match what {
        What::Failed(failure) => of_failure(failure, Action::Failed, true),
        What::Delayed(failure, until) => DsnRecipient { will_retry_until: until, ..of_failure(failure, Action::Delayed, false) },
        What::Late(failure, until) => {
            DsnRecipient { will_retry_until: until, status: format!("4.{LATE_SECODE}"), ..of_failure(failure, Action::Delayed, false) }
        }
        What::Relayed(delivered) => DsnRecipient { remote: Some(remote_mta(&delivered.remote)), ..base },
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
