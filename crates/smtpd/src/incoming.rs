//! A message from another server, from its last line to the reply.

use crate::bounce::postmaster;
use crate::connection::{Accepted, Connection, Target, Transaction};
use crate::pace::{Pace, pause};
use crate::simulate::{Moment, Simulation};
use crate::spool::Received;
use crate::trace::tls_numbers;
use crate::verify::Subject;
use mox_base::{Path, Timestamp};
use mox_delivery::inbound::{Incoming, Patience, RcptTo, Refusal, combined_reply};
use mox_message::date::DateTime;
use mox_message::dsn::{Action, Dsn, DsnRecipient};
use mox_message::{Defect, Headers, Structure, envelope, ident};
use mox_smtp::Reply;
use mox_smtp::server::{Answer, Envelope};
use mox_store::directory::{AddressError, Recipient};
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// RFC 5321 §6.3: more `Received` fields mean that the message goes round in circles.
const MAX_HOPS: usize = 100;

/// How long a client waits to hear that none of its recipients exists.
const UNKNOWN_DELAY: Duration = Duration::from_secs(5);

/// A fault of ours; the client tries again later.
pub(crate) fn internal_error() -> Reply {
    Reply::new(451, (4, 3, 0), "error processing")
}

/// What an error with a file means to the client.
pub(crate) fn storage_error(error: &io::Error) -> Reply {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Reply::new(452, (4, 3, 1), "storage full"),
        _ => internal_error(),
    }
}

impl Connection {
    pub(crate) async fn incoming(&mut self, envelope: Envelope, transaction: Transaction) -> Answer {
        let Transaction { recipients, receiver, directory, spf, .. } = transaction;
        let message = match receiver.finish().await {
            Ok(message) => message,
            Err(error) => {
                tracing::error!(cid = self.cid, %error, "receiving message");
                return Answer::Refuse(storage_error(&error));
            }
        };
        let smtputf8 = match self.check(&envelope, &message) {
            Ok(smtputf8) => smtputf8,
            Err(reply) => return Answer::Refuse(reply),
        };
        let header = Arc::clone(&message.header);
        let headers = Headers::new(&header);
        if headers.all("Received").count() > MAX_HOPS {
            return Answer::Refuse(Reply::new(550, (5, 4, 6), "loop detected, more than 100 received headers"));
        }
        let directory = directory.unwrap_or_else(|| self.service.directory.current());
        let msg_from = envelope::author(&headers).ok();
        // Before unknown recipients are told of, so that known ones take as long.
        let subject = Subject {
            mail_from: envelope.mail.from.as_ref(),
            helo: &envelope.hello.name,
            from: msg_from.as_ref(),
            message: message.read.as_ref(),
            spf,
            directory: &directory,
            smtputf8,
        };
        let (authentication, received_spf) = self.authenticate(subject).await;
        let settings = &self.service.settings;
        let message = match message.without_results_of(&settings.hostname, &settings.spool).await {
            Ok(message) => message,
            Err(error) => {
                tracing::error!(cid = self.cid, %error, "removing fields from message");
                return Answer::Refuse(storage_error(&error));
            }
        };
        let read = message.read.filter(|_| recipients.iter().any(|r| matches!(r.target, Target::Alias(_))));
        if recipients.iter().all(|r| matches!(r.target, Target::Unknown)) {
            recipients.iter().for_each(|_| self.service.metrics.delivery("unknownuser", ""));
            pause(UNKNOWN_DELAY, &self.service.stop).await;
            return Answer::Refuse(Reply::new(550, (5, 1, 1), "no such user(s)"));
        }
        let mut outcomes = vec![None; recipients.len()];
        for (recipient, outcome) in recipients.iter().zip(&mut outcomes) {
            if let Some(path) = &recipient.path {
                let simulated = self.simulated(Moment::Incoming, envelope.mail.from.as_ref(), path).await;
                *outcome = simulated.map(|reply| Err(Refusal::new(reply)));
            }
        }
        let require_tls = require_tls(&envelope, &headers);
        let incoming = Incoming {
            directory,
            mail_from: envelope.mail.from.clone(),
            ehlo: envelope.hello.name.clone(),
            remote_ip: self.remote_ip(),
            received: self.service.clock.now(),
            smtputf8,
            requiretls: envelope.mail.parameters.requiretls,
            tls: self.stream.tls().map(tls_numbers),
            msg_from,
            verified_domains: authentication.verified_domains(),
            authentication,
            trace: received_spf.into_bytes(),
            header: message.header,
            message: message.content,
            structure: Some(message.structure),
            read: read.map(Arc::new),
            patience: Patience { first_time: self.listener.settings.first_time_sender_delay, stop: self.service.stop.clone() },
            // Whoever tries something out isn't asked of others.
            blocklists: if self.service.settings.localserve { Arc::from([]) } else { Arc::clone(&self.listener.settings.blocklists) },
        };
        self.deliver(&envelope, incoming, &recipients, &mut outcomes).await;
        let outcomes: Vec<Result<(), Refusal>> =
            outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(|| Err(Refusal::new(internal_error())))).collect();
        self.conclude(&envelope, &recipients, &outcomes, &header, require_tls).await
    }

    /// Delivers to those who have no outcome yet.
    async fn deliver(
        &self,
        envelope: &Envelope,
        mut incoming: Incoming,
        recipients: &[Accepted],
        outcomes: &mut [Option<Result<(), Refusal>>],
    ) {
        let postmaster = Path::from(postmaster(incoming.directory.hostname()));
        let mut to: Vec<RcptTo> = Vec::with_capacity(recipients.len());
        // For each recipient, which of those to deliver to it is. An address given twice gets one message.
        let mut places: Vec<Option<usize>> = Vec::with_capacity(recipients.len());
        for (recipient, outcome) in recipients.iter().zip(outcomes.iter()) {
            if outcome.is_some() {
                places.push(None);
                continue;
            }
            let path = recipient.path.clone().unwrap_or_else(|| postmaster.clone());
            let twin = to.iter().position(|earlier| earlier.path == path);
            places.push(Some(twin.unwrap_or(to.len())));
            if twin.is_none() {
                to.push(RcptTo { path, found: recipient.target.found() });
            }
        }
        if to.is_empty() {
            return;
        }
        let deliver = &self.service.inbound;
        let delivered = match to.as_slice() {
            [only] => {
                incoming.trace.extend_from_slice(self.received_field(envelope, incoming.smtputf8, Some(&only.path)).as_bytes());
                deliver.deliver(&incoming, &to).await
            }
            // Nobody is to learn of the others: with several recipients, `Received` names none.
            _ => {
                incoming.trace.extend_from_slice(self.received_field(envelope, incoming.smtputf8, None).as_bytes());
                deliver.deliver(&incoming, &to).await
            }
        };
        for (place, outcome) in places.iter().zip(outcomes.iter_mut()) {
            if let Some(result) = place.and_then(|place| delivered.get(place)) {
                *outcome = Some(result.clone());
            }
        }
    }

    /// Counts, tells the sender of recipients that were left out, and gives the reply.
    async fn conclude(
        &mut self,
        envelope: &Envelope,
        recipients: &[Accepted],
        outcomes: &[Result<(), Refusal>],
        header: &[u8],
        require_tls: Option<bool>,
    ) -> Answer {
        let mut failed: Vec<(&Path, &Reply)> = Vec::new();
        let mut delivered_to: Vec<&Path> = Vec::new();
        for (recipient, outcome) in recipients.iter().zip(outcomes) {
            let result = match (outcome, &recipient.target) {
                (Ok(()), _) => "delivered",
                (Err(_), Target::Unknown) => "unknownuser",
                (Err(refusal), _) if refusal.slow => "reject",
                (Err(_), _) => "delivererror",
            };
            self.service.metrics.delivery(result, "");
            if let Err(refusal) = outcome {
                if refusal.slow {
                    self.pace = Pace::Slow;
                }
                if let Some(path) = &recipient.path {
                    failed.push((path, &refusal.reply));
                }
            } else {
                delivered_to.extend(&recipient.path);
            }
        }
        let reply = combined_reply(outcomes);
        if reply.is_error() {
            return Answer::Refuse(reply);
        }
        for (path, reply) in &failed {
            tracing::info!(cid = self.cid, recipient = %path, %reply, "message not delivered to one of its recipients");
        }
        let localserve = self.service.settings.localserve;
        let simulated: Vec<(&Path, Reply)> =
            delivered_to.into_iter().filter(|_| localserve).filter_map(|path| Some((path, Simulation::bounce(&path.localpart)?))).collect();
        failed.extend(simulated.iter().map(|(path, reply)| (*path, reply)));
        if let (false, Some(mail_from)) = (failed.is_empty(), &envelope.mail.from) {
            self.bounce(envelope, mail_from, &failed, header, require_tls).await;
        }
        Answer::Ok
    }

    /// Queues a DSN for recipients that didn't get a message which others did.
    async fn bounce(&self, envelope: &Envelope, mail_from: &Path, failed: &[(&Path, &Reply)], header: &[u8], require_tls: Option<bool>) {
        let dsn = self.dsn(envelope, mail_from, failed, header);
        let message = crate::bounce::submission(&self.service, dsn, mail_from, require_tls);
        if let Err(error) = self.service.submitter.submit(message).await {
            tracing::error!(cid = self.cid, %error, "queueing bounce for recipients that were not delivered to");
            self.service.metrics.error("queuedsn");
        }
    }

    fn dsn(&self, envelope: &Envelope, mail_from: &Path, failed: &[(&Path, &Reply)], header: &[u8]) -> Dsn {
        let service = &self.service;
        let now: Timestamp = service.clock.now();
        let hostname = service.settings.hostname.clone();
        let status = |reply: &Reply| match reply.enhanced {
            Some(enhanced) => enhanced.to_string(),
            None if reply.is_permanent() => "5.0.0".to_owned(),
            None => "4.0.0".to_owned(),
        };
        let mut text = "Delivery of your message has failed for some of its recipients:\n".to_owned();
        for (path, reply) in failed {
            text.push_str(&format!("\n    {path}\n    {}\n", reply.lines.join(" ")));
        }
        let recipient = |(path, reply): &(&Path, &Reply)| DsnRecipient {
            address: (*path).clone(),
            original: None,
            action: Action::Failed,
            status: status(reply),
            status_comment: reply.lines.join(" "),
            remote: None,
            diagnostic: Vec::new(),
            last_attempt: Some(now),
            will_retry_until: None,
        };
        Dsn {
            smtputf8: envelope.mail.parameters.smtputf8,
            from: postmaster(failed.first().and_then(|(path, _)| path.host.domain()).unwrap_or(&hostname)),
            to: mail_from.clone(),
            subject: "mail delivery failure".to_owned(),
            message_id: ident::new_message_id(&*service.random, hostname.ascii()),
            references: Headers::new(header).text("Message-Id").map(|id| id.trim().to_owned()),
            date: DateTime::utc(now),
            text,
            reporting_mta: hostname,
            received_from: Some((envelope.hello.name.clone(), self.remote_ip())),
            arrival: Some(now),
            envelope_id: None,
            future_release: None,
            deliver_by: None,
            recipients: failed.iter().map(recipient).collect(),
            original: Headers::new(header).section().to_vec(),
            full: false,
        }
    }

    /// Whether the message needs SMTPUTF8.
    ///
    /// # Errors
    /// The reply for a message that pedantic mode doesn't take.
    pub(crate) fn check(&self, envelope: &Envelope, message: &Received) -> Result<bool, Reply> {
        let settings = &self.service.settings;
        if settings.localserve && settings.pedantic && is_malformed(&message.structure) {
            return Err(Reply::new(554, (5, 6, 0), "malformed message"));
        }
        let announced = envelope.mail.parameters.smtputf8;
        if !(announced || self.is_submission() || settings.pedantic) {
            return Ok(false);
        }
        let mut paths = envelope.mail.from.iter().chain(envelope.recipients.iter().filter_map(|r| r.to.as_ref()));
        let needed = message.structure.utf8_headers || paths.any(Path::needs_smtputf8);
        if needed && !announced && settings.pedantic {
            return Err(Reply::new(550, (5, 6, 0), "smtputf8 required for message"));
        }
        Ok(needed)
    }
}

impl Target {
    /// As delivery wants to know it.
    fn found(&self) -> Result<Recipient, AddressError> {
        match self {
            Self::Account(recipient) => Ok(Recipient::Account(recipient.clone())),
            Self::Alias(alias) => Ok(Recipient::Alias(Arc::clone(alias))),
            Self::Unknown => Err(AddressError::AddressNotFound),
            Self::Remote => Err(AddressError::DomainNotFound),
        }
    }
}

/// Whether a message is broken in a way that whoever tests their software wants to hear of.
fn is_malformed(structure: &Structure) -> bool {
    structure.defects.iter().any(|(_, defect)| match defect {
        Defect::HeaderUnterminated | Defect::EncodedContainer => false,
        Defect::HeaderTooLarge
        | Defect::BadHeaderLine
        | Defect::BadContentType
        | Defect::BadBoundary
        | Defect::NoParts
        | Defect::Unclosed
        | Defect::TooDeep
        | Defect::TooManyParts => true,
    })
}

/// RFC 8689: REQUIRETLS of the transaction, else `TLS-Required: No` of the header.
pub(crate) fn require_tls(envelope: &Envelope, headers: &Headers<'_>) -> Option<bool> {
    if envelope.mail.parameters.requiretls {
        return Some(true);
    }
    let mut fields = headers.all("TLS-Required").peekable();
    let all_no = fields.peek().is_some() && fields.all(|field| field.text().trim().eq_ignore_ascii_case("no"));
    all_no.then_some(false)
}
