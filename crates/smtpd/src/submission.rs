//! A message of one of our users, from its last line to the queue.

use crate::bounce::postmaster;
use crate::connection::{Connection, Transaction};
use crate::incoming::{internal_error, require_tls, storage_error};
use crate::simulate::Moment;
use crate::spool::Received;
use mox_base::{Address, DeliverBy, Path, Timestamp};
use mox_delivery::submit::{Submission, SubmissionRecipient, SubmitError, UniqueSender, limits_of, room_of, urgency_of};
use mox_message::header::canonical_name;
use mox_message::{Field, Headers, envelope, ident};
use mox_smtp::Reply;
use mox_smtp::grammar::{Hold, Return};
use mox_smtp::server::{Answer, Envelope};
use mox_store::directory::{Directory, SenderError};
use std::collections::BTreeMap;
use std::time::Duration;

/// Names of fields whose values are handed to webhooks.
const EXTRA: &str = "X-Mox-Extra-";

/// The longest line of a header section in pedantic mode, with its line break, RFC 5322 §2.1.1.
const MAX_HEADER_LINE: usize = 1000;

/// Why a message isn't queued: the name of the problem, as it is counted, and the reply.
type Refused = (&'static str, Reply);

impl Connection {
    pub(crate) async fn submission(&mut self, envelope: Envelope, transaction: Transaction) -> Answer {
        match self.submit(envelope, transaction).await {
            Ok(()) => {
                self.service.metrics.submission("ok");
                Answer::Ok
            }
            Err((result, reply)) => {
                self.service.metrics.submission(result);
                tracing::info!(cid = self.cid, result, %reply, "submission refused");
                Answer::Refuse(reply)
            }
        }
    }

    async fn submit(&mut self, envelope: Envelope, transaction: Transaction) -> Result<(), Refused> {
        let Some(login) = self.login.clone() else { return Err(("badmessage", internal_error())) };
        let directory = transaction.directory.unwrap_or_else(|| self.service.directory.current());
        let message = transaction.receiver.finish().await.map_err(|error| {
            tracing::error!(cid = self.cid, %error, "receiving message");
            ("queueerror", storage_error(&error))
        })?;
        let headers = Headers::new(&message.header);
        let smtputf8 = self.check(&envelope, &message).map_err(|reply| {
            let result = if reply.code == 554 { "badmessage" } else { "missingsmtputf8" };
            (result, reply)
        })?;
        let author = envelope::author(&headers)
            .map_err(|error| ("badmessage", Reply::new(550, (5, 6, 0), format!("cannot parse header or from address: {error}"))))?;
        check_author(&directory, &login.account.name, &author)?;
        if self.service.settings.pedantic {
            check_pedantic(&headers)?;
        }
        let extra = extra_data(&headers)?;
        let message = self.without_private_fields(message).await?;
        let headers = Headers::new(&message.header);
        let unique_sender = self.unique_sender(&envelope, &directory, &author)?;
        self.simulated_at_submission(&envelope).await?;

        let now = self.service.clock.now();
        let (added, message_id) = self.missing_fields(&headers, now);
        let prefix = self.prefix(&envelope, &added, smtputf8);
        let parameters = &envelope.mail.parameters;
        let (release, future_release) = parameters.hold.map(|hold| hold_until(hold, now)).unzip();
        let recipients = recipients(&envelope, &directory);
        let submission = Submission {
            unique_sender,
            prefix,
            has_8bit: message.structure.eight_bit,
            smtputf8,
            require_tls: require_tls(&envelope, &headers),
            release,
            future_release: future_release.unwrap_or_default(),
            message_id,
            subject: headers.decoded("Subject").unwrap_or_default(),
            extra,
            envelope_id: parameters.envid.clone(),
            return_full: parameters.ret == Some(Return::Full),
            sign_domain: Some(author.domain),
            urgency: urgency_of(&headers, recipients.len(), parameters.priority),
            priority: parameters.priority,
            deliver_by: parameters.by.map(|by| DeliverBy { at: by.at(now), late: by.late, trace: by.trace }),
            limits: Some(limits_of(&login.account)),
            room: Some(room_of(&login.account)),
            ..Submission::new(login.account.name.clone(), envelope.mail.from.clone(), recipients, message.content)
        };
        let queued = self.service.submitter.submit(submission).await.map_err(|error| {
            if let SubmitError::Store(error) = &error {
                tracing::error!(cid = self.cid, %error, "queueing message");
            }
            submit_reply(&error)
        })?;
        let entries: Vec<i64> = queued.iter().map(|entry| entry.id.0).collect();
        tracing::info!(cid = self.cid, account = login.account.name, ?entries, "message queued");
        Ok(())
    }

    /// The message without what is for this server only: data for webhooks, and, where that is wanted, hidden recipients.
    async fn without_private_fields(&self, message: Received) -> Result<Received, Refused> {
        let settings = &self.service.settings;
        let private = |field: &Field<'_>| is_extra(field) || (settings.remove_bcc && field.is("Bcc"));
        message.without(private, &settings.spool).await.map_err(|error| {
            tracing::error!(cid = self.cid, %error, "taking header fields out of a message");
            ("queueerror", storage_error(&error))
        })
    }

    /// The fields that every message has to have, RFC 6409 §8, as far as this one lacks them; and its Message-ID.
    fn missing_fields(&self, headers: &Headers<'_>, now: Timestamp) -> (String, String) {
        let mut added = String::new();
        let message_id = headers.text("Message-Id").map(|id| id.trim().to_owned()).unwrap_or_else(|| {
            let id = format!("<{}>", ident::new_message_id(&*self.service.random, self.service.settings.hostname.ascii()));
            added.push_str(&format!("Message-Id: {id}\r\n"));
            id
        });
        if headers.first("Date").is_none() {
            added.push_str(&format!("Date: {}\r\n", now.rfc5322()));
        }
        (added, message_id)
    }

    /// What goes in front of the message: `Received`, what was missing, `Authentication-Results`. Signatures come when it is sent.
    fn prefix(&self, envelope: &Envelope, added: &str, smtputf8: bool) -> Vec<u8> {
        // With several recipients, nobody is to learn of the others, and all get the same message.
        let only = match envelope.recipients.as_slice() {
            [one] => one.to.as_ref(),
            _ => None,
        };
        let mut prefix = self.received_field(envelope, smtputf8, only);
        prefix.push_str(added);
        prefix.push_str(&self.submission_results(envelope.mail.from.as_ref(), smtputf8));
        prefix.into_bytes()
    }

    /// In localserve, the failure that a recipient's form asks for: of the whole message.
    async fn simulated_at_submission(&mut self, envelope: &Envelope) -> Result<(), Refused> {
        for path in envelope.recipients.iter().filter_map(|r| r.to.as_ref()) {
            if let Some(reply) = self.simulated(Moment::Submission, envelope.mail.from.as_ref(), path).await {
                return Err(("localserveerror", reply));
            }
        }
        Ok(())
    }

    /// Whether bounces are recognised by an id in the reverse-path: for some login addresses, as they were used. What follows the
    /// first separator of the From domain is the sender's own choice of an id, nothing means none.
    fn unique_sender(&self, envelope: &Envelope, directory: &Directory, author: &Address) -> Result<Option<UniqueSender>, Refused> {
        let (Some(login), Some(path)) = (&self.login, &envelope.mail.from) else { return Ok(None) };
        if !login.account.from_id_login_addresses.contains(&login.address) {
            return Ok(None);
        }
        let Some(separator) = directory.domain(&author.domain).and_then(|domain| domain.separators.first()) else {
            let text = "login address asks for unique senders, but the domain of the from header has no separator for them";
            return Err(("badfrom", Reply::new(554, (5, 3, 5), text)));
        };
        match path.localpart.as_str().split_once(separator.as_str()) {
            Some((_, id)) if !id.is_empty() && envelope.recipients.len() > 1 => {
                Err(("badmessage", Reply::new(554, (5, 5, 3), "only one recipient allowed with a chosen id in the mail from address")))
            }
            Some((_, "")) => Ok(None),
            Some((_, id)) => Ok(Some(UniqueSender::Chosen(id.to_owned()))),
            None => Ok(Some(UniqueSender::Generate { separator: separator.clone() })),
        }
    }
}

fn recipients(envelope: &Envelope, directory: &Directory) -> Vec<SubmissionRecipient> {
    let mut recipients: Vec<SubmissionRecipient> = Vec::with_capacity(envelope.recipients.len());
    for rcpt in &envelope.recipients {
        // `<postmaster>` without a domain is ours, RFC 5321 §4.5.1.
        let path = rcpt.to.clone().unwrap_or_else(|| Path::from(postmaster(directory.hostname())));
        // An address given twice gets one message.
        if !recipients.iter().any(|earlier| earlier.path == path) {
            recipients.push(SubmissionRecipient { path, parameters: rcpt.parameters.clone() });
        }
    }
    recipients
}

fn check_author(directory: &Directory, account: &str, author: &Address) -> Result<(), Refused> {
    directory.check_sender(account, author).map_err(|error| {
        let reply = match error {
            SenderError::NotAllowed => Reply::new(550, (5, 7, 1), "from header must match authenticated user"),
            SenderError::DomainDisabled => Reply::new(451, (4, 3, 0), "domain of from header temporarily disabled"),
        };
        ("badfrom", reply)
    })
}

/// What pedantic mode doesn't take in a submitted header section.
fn check_pedantic(headers: &Headers<'_>) -> Result<(), Refused> {
    if headers.first("Return-Path").is_some() {
        return Err(("badheader", Reply::new(550, (5, 6, 0), "message has a return-path header")));
    }
    if headers.section().split_inclusive(|b| *b == b'\n').any(|line| line.len() > MAX_HEADER_LINE) {
        return Err(("badmessage", Reply::new(550, (5, 6, 0), "header line too long")));
    }
    Ok(())
}

/// Whether a field is `X-Mox-Extra-…`.
fn is_extra(field: &Field<'_>) -> bool {
    field.name.get(..EXTRA.len()).is_some_and(|start| start.eq_ignore_ascii_case(EXTRA.as_bytes()))
}

/// The values of `X-Mox-Extra-` fields by the rest of their names.
fn extra_data(headers: &Headers<'_>) -> Result<BTreeMap<String, String>, Refused> {
    let mut extra = BTreeMap::new();
    for field in headers.fields().filter(is_extra) {
        let key = canonical_name(&String::from_utf8_lossy(field.name.get(EXTRA.len()..).unwrap_or_default()));
        if extra.insert(key, field.text().trim().to_owned()).is_some() {
            return Err(("badheader", Reply::new(554, (5, 6, 0), "duplicate x-mox-extra- header")));
        }
    }
    Ok(extra)
}

/// When the first attempt is made, and the request as it is kept for DSNs, RFC 4865 §5.
fn hold_until(hold: Hold, now: Timestamp) -> (Timestamp, String) {
    match hold {
        Hold::For(seconds) => (now.after(Duration::from_secs(seconds.into())), format!("for;{seconds}")),
        Hold::Until(time) => (time, format!("until;{}", time.rfc3339())),
    }
}

fn submit_reply(error: &SubmitError) -> Refused {
    match error {
        SubmitError::MessageLimit(_) => ("messagelimiterror", Reply::new(451, (4, 7, 1), error.to_string())),
        SubmitError::FirstTimeLimit(_) => ("recipientlimiterror", Reply::new(451, (4, 7, 1), error.to_string())),
        // RFC 5321 §4.2.3: insufficient storage, for this account.
        SubmitError::QueuedMessages(_) | SubmitError::QueuedSize(_) => ("queuefull", Reply::new(452, (4, 3, 1), error.to_string())),
        SubmitError::FromIdNotUnique => ("badmessage", Reply::new(554, (5, 1, 7), "id in mail from address was used before")),
        SubmitError::FromIdRecipients => ("badmessage", Reply::new(554, (5, 5, 3), error.to_string())),
        SubmitError::FromIdTooLong => ("badmessage", Reply::new(550, (5, 1, 7), error.to_string())),
        SubmitError::NoRecipients | SubmitError::Answered(_) => ("badmessage", internal_error()),
        SubmitError::Store(error) if error.is_full() => ("queueerror", Reply::new(452, (4, 3, 1), "storage full")),
        SubmitError::Store(_) => ("queueerror", internal_error()),
    }
}
