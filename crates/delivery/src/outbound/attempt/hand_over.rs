//! Handing a message over on a connection: transactions until each recipient has a result.

use super::super::connection::{Connection, Outgoing};
use super::super::failure::{Failure, Remote};
use super::super::signatures::{Form, open, signature};
use super::{Attempt, Delivered, HostFailure, Kept, Manner};
use mox_base::{DeliverBy, Timestamp, WhenLate};
use mox_smtp::client::{Error, ErrorKind, Stage, Transaction};
use mox_smtp::grammar::{By, Notify, OriginalRecipient, Rcpt, RcptParameters, Return};
use mox_store::queue::{Entry, Notify as Wanted, OpenBody};
use std::io::Cursor;

impl Attempt<'_> {
    /// Hands over to all open recipients. With `Ok`, each of them has a result. `sent`: messages on this connection before.
    pub(super) async fn hand_over(
        &mut self,
        manner: Manner,
        mut connection: Connection,
        remote: &Remote,
        sent: u32,
    ) -> Result<(), HostFailure> {
        connection.hurry(manner.patience);
        let sent = match self.transactions(manner, &mut connection, remote, sent).await {
            Ok(sent) => sent,
            Err(e) => {
                if matches!(e, HostFailure::Stale) && connection.is_usable() {
                    connection.quit().await;
                }
                return Err(e);
            }
        };
        let require_tls = self.first().and_then(|e| e.require_tls);
        let kept = Kept { connection, remote: remote.clone(), manner, sent, transport: String::new(), require_tls, tlsmode: self.tlsmode };
        let all_delivered = self.results.iter().all(|r| matches!(r, Some(Ok(_))));
        if all_delivered && kept.connection.is_usable() {
            self.kept = Some(kept);
        } else {
            kept.quit().await;
        }
        Ok(())
    }

    /// Transactions until every open recipient has a result. `sent`: as many were on this connection before; returns how many now are.
    ///
    /// All recipients have the same domain, so that RCPTDOMAINMAX (RFC 9422 §4.3), at least 1, is never exceeded.
    async fn transactions(&mut self, manner: Manner, connection: &mut Connection, remote: &Remote, sent: u32) -> Result<u32, HostFailure> {
        let limits = connection.extensions().limits;
        let rcpt_max = limits.rcpt_max.filter(|_| manner.split).and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX).max(1);
        let (dsn, in_time) = (connection.extensions().dsn, connection.extensions().deliver_by.is_some());
        let reused = sent > 0;
        let mut sent = sent;
        let mut first = true;
        loop {
            let mut batch = self.open();
            batch.truncate(rcpt_max);
            if batch.is_empty() {
                return Ok(sent);
            }
            // RFC 9422 §4.1.
            if limits.mail_max.is_some_and(|max| sent >= max) {
                return Err(HostFailure::Stale);
            }
            let (transaction, mut message) = match self.prepare(manner, connection, &batch).await {
                Ok(prepared) => prepared,
                Err(failure) => {
                    self.fail_open(&failure);
                    return Ok(sent);
                }
            };
            sent = sent.saturating_add(1);
            let results = connection.transact(transaction, &mut message).await?;
            // A server may end a connection at any time between messages, RFC 5321 §3.8.
            if reused && first && !connection.is_usable() && results.iter().all(|r| r.as_ref().is_err_and(before_message)) {
                return Err(HostFailure::Stale);
            }
            first = false;
            // RFC 5321 §4.5.3.1.10: whoever was one too many goes into another transaction, while that gets us further.
            let again = manner.split && connection.is_usable() && results.iter().any(Result::is_ok);
            let without_chunks = results.iter().any(|r| r.as_ref().is_err_and(|e| e.kind == ErrorKind::Chunking));
            for (position, (index, result)) in batch.into_iter().zip(results).enumerate() {
                let result = match result {
                    Ok(reply) => {
                        let secode = reply.enhanced.map(mox_smtp::Enhanced::without_class).unwrap_or_default();
                        Ok(Delivered { code: reply.code, secode, remote: remote.clone(), dsn, in_time })
                    }
                    Err(e) if again && position > 0 && e.stage == Stage::Rcpt && matches!(e.code(), Some(452 | 552)) => continue,
                    Err(e) if e.kind == ErrorKind::Chunking => continue,
                    Err(e) => {
                        if e.kind == ErrorKind::RequireTlsUnsupported {
                            let labels = crate::metrics::RequireTlsLabels { reason: "norequiretls" };
                            self.inner.metrics.requiretls_unsupported.get_or_create(&labels).inc();
                        }
                        Err(self.judge(Failure::of_session(&e, remote), manner))
                    }
                };
                self.set(index, result);
            }
            if without_chunks {
                tracing::info!(host = remote.name, "the host announces CHUNKING, but doesn't know BDAT");
                self.without_chunks = true;
                return Err(HostFailure::Stale);
            }
            if !connection.is_usable() {
                self.fail_open(&Failure::temporary("connection not usable for a further transaction").at(remote));
            }
        }
    }

    fn fail_open(&mut self, failure: &Failure) {
        for index in self.open() {
            self.set(index, Err(failure.clone()));
        }
    }

    /// The transaction for these recipients, and the message as this host gets it.
    pub(super) async fn prepare(
        &mut self,
        manner: Manner,
        connection: &Connection,
        batch: &[usize],
    ) -> Result<(Transaction, Outgoing), Failure> {
        let (claim, inner) = (self.claim, self.inner);
        let message = &claim.message;
        let entries: Vec<&Entry> = batch.iter().filter_map(|i| claim.entries.get(*i)).collect();
        let extensions = connection.extensions();
        let sender = entries.first().and_then(|e| e.sender.clone());
        let utf8_addresses = sender.iter().chain(entries.iter().map(|e| &e.recipient)).any(mox_base::Path::needs_smtputf8);
        // A DSN about a message in UTF-8 has a form for hosts that understand it, and one for those that don't.
        let utf8_body = message.body_utf8.as_ref().filter(|_| extensions.smtputf8 && extensions.eight_bit_mime);
        let form = if utf8_body.is_some() { Form::Utf8 } else { Form::Plain };
        let signature = signature(inner, message, form).await?;
        let mut prefix = signature.as_ref().map_or_else(Vec::new, |signature| signature.fields.clone());
        let signed = u64::try_from(prefix.len()).unwrap_or(u64::MAX);
        prefix.extend_from_slice(&message.prefix);
        let (outgoing, size) = match utf8_body {
            Some(body) => {
                let size = u64::try_from(body.len().saturating_add(prefix.len())).unwrap_or(u64::MAX);
                (Outgoing::new(prefix, OpenBody::Memory(Cursor::new(body.clone()))), size)
            }
            None => {
                self.signature = signature;
                (Outgoing::new(prefix, open(inner, message.id).await?), message.size.0.saturating_add(signed))
            }
        };
        // RFC 2852 §4.1.4.2: a host that won't say when it is late may still say that it takes long.
        let by = message.deliver_by.filter(|by| by.late == WhenLate::Notify && inner.now() < by.at);
        let ask_for_delay = by.is_some() && extensions.deliver_by.is_none();
        let transaction = Transaction {
            from: sender,
            recipients: entries.iter().map(|e| rcpt(e, ask_for_delay)).collect(),
            size,
            eight_bit: message.has_8bit || utf8_body.is_some(),
            require_eight_bit_mime: manner.require_eight_bit_mime,
            smtputf8: message.smtputf8 || utf8_addresses || utf8_body.is_some(),
            requiretls: entries.first().and_then(|e| e.require_tls) == Some(true),
            // RFC 3461 §5.2.1: passed on as given.
            ret: message.return_full.then_some(Return::Full),
            envid: message.envelope_id.clone(),
            priority: message.priority,
            by: message.deliver_by.map(|by| within(by, inner.now(), entries.iter().any(|e| e.by_due.is_some()))),
        };
        Ok((transaction, outgoing))
    }
}

/// The time that is left. `open`: the sender wasn't told yet that it is late.
fn within(by: DeliverBy, now: Timestamp, open: bool) -> By {
    let left = by.at.micros().saturating_sub(now.micros()).div_euclid(1_000_000);
    // RFC 2852 §4.1.4: whoever gets a time that has passed tells nobody, so they get one that passes now.
    let left = if by.late == WhenLate::Notify && open { left.max(1) } else { left };
    By::new(left, by.late, by.trace)
}

fn rcpt(entry: &Entry, ask_for_delay: bool) -> Rcpt {
    let ask_for_delay = ask_for_delay && entry.notify != Wanted::NEVER;
    let notify = (ask_for_delay || entry.notify != Wanted::default()).then_some(Notify {
        success: entry.notify.success,
        failure: entry.notify.failure,
        delay: entry.notify.delay || ask_for_delay,
    });
    let orcpt = entry
        .original_recipient
        .as_ref()
        .and_then(|o| o.split_once(';'))
        .map(|(address_type, address)| OriginalRecipient { address_type: address_type.to_owned(), address: address.to_owned() });
    Rcpt { to: Some(entry.recipient.clone()), parameters: RcptParameters { notify, orcpt } }
}

/// Whether it failed before the message was sent, because of the connection.
fn before_message(e: &Error) -> bool {
    matches!(e.stage, Stage::Mail | Stage::Rset) && (e.kind == ErrorKind::Connection || e.code() == Some(421))
}
