//! Sending one message: MAIL, RCPT, DATA, pipelined where the server can, RFC 2920. Every recipient gets a result.
//!
//! To servers with CHUNKING (RFC 3030) the message goes in chunks by BDAT, once all RCPT are answered and only if somebody is accepted: a server that
//! refuses all must read no message, and one that doesn't know BDAT after all must not take lines of the message for commands of ours. Nothing is lost
//! by that: DATA can't be followed by the message before its reply, either. Chunks are pipelined, a few at once.

use super::{Action, Error, ErrorKind, Session, Stage, State, Timeouts};
use crate::chunk::ChunkWriter;
use crate::dot::DotWriter;
use crate::extensions::Extensions;
use crate::grammar::{Body, By, Mail, MailParameters, Rcpt, RcptParameters, Return};
use crate::reply::Reply;
use bytes::BytesMut;
use mox_base::{Path, Priority, WhenLate};
use std::collections::VecDeque;
use std::time::Duration;

/// What to send, but for the message itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    /// The reverse-path; none for the null one.
    pub from: Option<Path>,
    /// The recipients, at least one. Their parameters are sent to servers with DSN.
    pub recipients: Vec<Rcpt>,
    /// Octets of the message.
    pub size: u64,
    /// The message has octets beyond ASCII.
    pub eight_bit: bool,
    /// Don't send such a message to a server without 8BITMIME.
    pub require_eight_bit_mime: bool,
    /// An address or a header needs SMTPUTF8.
    pub smtputf8: bool,
    /// REQUIRETLS.
    pub requiretls: bool,
    /// For servers with DSN.
    pub ret: Option<Return>,
    /// For servers with DSN.
    pub envid: Option<String>,
    /// For servers with MT-PRIORITY.
    pub priority: Option<Priority>,
    /// For servers with DELIVERBY. What is to be returned when it is late doesn't go to others, nor to those that need longer.
    pub by: Option<By>,
}

/// Commands on their way at most. More could fill the buffers of both directions, RFC 2920 §3.1.
const WINDOW: usize = 100;

/// Chunks on their way at most: what is sent in vain if the server refuses one.
const CHUNK_WINDOW: usize = 4;

/// A transaction in progress.
#[derive(Debug)]
pub(super) struct Progress {
    transaction: Transaction,
    pipelining: bool,
    results: Vec<Option<Result<Reply, Error>>>,
    /// What the replies to come are for.
    expected: VecDeque<Expected>,
    mail_sent: bool,
    rcpts_sent: usize,
    /// DATA is sent, or the first chunk.
    data_sent: bool,
    /// Whether the message goes in chunks.
    chunking: bool,
    /// A chunk was accepted, so the server knows BDAT.
    bdat_known: bool,
    /// What failed for all.
    failure: Option<Error>,
    writer: Option<Writer>,
}

/// How the message is written.
#[derive(Debug)]
enum Writer {
    Dots(DotWriter),
    Chunks(ChunkWriter),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Mail,
    Rcpt(usize),
    Data,
    /// The reply to a chunk that isn't the last.
    Chunk,
    /// The reply to the message.
    End,
    /// The reply to a lone dot, sent because nobody wants the message.
    NoEnd,
}

impl Progress {
    fn new(transaction: Transaction, pipelining: bool, chunking: bool) -> Self {
        let results = vec![None; transaction.recipients.len()];
        Self {
            transaction,
            pipelining,
            results,
            expected: VecDeque::new(),
            mail_sent: false,
            rcpts_sent: 0,
            data_sent: false,
            chunking,
            bdat_known: false,
            failure: None,
            writer: None,
        }
    }

    pub(super) fn wants_body(&self) -> bool {
        match &self.writer {
            None => false,
            Some(Writer::Dots(_)) => true,
            // The first chunk by itself, until the server is known to know BDAT.
            Some(Writer::Chunks(_)) => self.expected.len() < if self.pipelining && self.bdat_known { CHUNK_WINDOW } else { 1 },
        }
    }

    pub(super) fn stage(&self) -> Stage {
        match self.expected.front() {
            Some(Expected::Mail) => Stage::Mail,
            Some(Expected::Rcpt(_)) => Stage::Rcpt,
            _ => Stage::Data,
        }
    }

    pub(super) fn patience(&self, timeouts: &Timeouts) -> Duration {
        match self.expected.front() {
            Some(Expected::Data) => timeouts.data_start,
            Some(Expected::Chunk | Expected::End | Expected::NoEnd) => timeouts.data_end,
            _ => timeouts.command,
        }
    }

    /// The results, with this error for whoever has none yet.
    pub(super) fn all(self, error: &Error) -> Vec<Result<Reply, Error>> {
        let failure = self.failure.as_ref().unwrap_or(error);
        self.results
            .into_iter()
            .map(|result| match result {
                // Accepted at RCPT isn't delivered.
                None | Some(Ok(_)) => Err(failure.clone()),
                Some(Err(e)) => Err(e),
            })
            .collect()
    }

    fn is_any_accepted(&self) -> bool {
        self.failure.is_none() && self.results.iter().any(|r| matches!(r, Some(Ok(_))))
    }

    /// Recipients whose reply is still to come.
    fn is_any_open(&self) -> bool {
        self.expected.iter().any(|e| matches!(e, Expected::Rcpt(_)))
    }

    /// Writes the commands that may be sent now.
    fn send(&mut self, extensions: &Extensions, out: &mut BytesMut) {
        let window = if self.pipelining { WINDOW } else { 1 };
        while self.expected.len() < window && self.failure.is_none() {
            if !self.mail_sent {
                self.mail_sent = true;
                self.expected.push_back(Expected::Mail);
                let line = format!("{}\r\n", self.mail(extensions));
                out.extend_from_slice(line.as_bytes());
            } else if let Some(rcpt) = self.transaction.recipients.get(self.rcpts_sent) {
                let parameters = if extensions.dsn { rcpt.parameters.clone() } else { RcptParameters::default() };
                let line = format!("{}\r\n", Rcpt { to: rcpt.to.clone(), parameters });
                out.extend_from_slice(line.as_bytes());
                self.expected.push_back(Expected::Rcpt(self.rcpts_sent));
                self.rcpts_sent = self.rcpts_sent.saturating_add(1);
            } else if self.chunking {
                // RFC 3030 §2: no command comes before the chunks.
                if !self.data_sent && self.expected.is_empty() && self.is_any_accepted() {
                    self.data_sent = true;
                    self.writer = Some(Writer::Chunks(ChunkWriter::default()));
                }
                return;
            } else if !self.data_sent && (self.is_any_accepted() || self.is_any_open()) {
                self.data_sent = true;
                self.expected.push_back(Expected::Data);
                out.extend_from_slice(b"DATA\r\n");
            } else {
                return;
            }
        }
    }

    fn mail(&self, extensions: &Extensions) -> Mail {
        let t = &self.transaction;
        let body = if t.eight_bit { Body::EightBitMime } else { Body::SevenBit };
        Mail {
            from: t.from.clone(),
            parameters: MailParameters {
                size: extensions.size.map(|_| t.size),
                body: extensions.eight_bit_mime.then_some(body),
                smtputf8: t.smtputf8,
                requiretls: t.requiretls,
                ret: t.ret.filter(|_| extensions.dsn),
                envid: t.envid.clone().filter(|_| extensions.dsn),
                priority: t.priority.filter(|_| extensions.mt_priority),
                by: t.by.filter(|_| extensions.deliver_by.is_some()),
                ..MailParameters::default()
            },
        }
    }

    fn set(&mut self, index: usize, result: Result<Reply, Error>) {
        if let Some(slot) = self.results.get_mut(index) {
            *slot = Some(result);
        }
    }

    fn rcpt_reply(&mut self, index: usize, reply: Reply) {
        match reply.code {
            // 251: will forward, RFC 5321 §4.2.3.
            250 | 251 => self.set(index, Ok(reply)),
            code => {
                let full = matches!(code, 452 | 552);
                let error = Error::status(Stage::Rcpt, reply);
                // RFC 5321 §4.5.3.1.10: 552 here means what 452 does, too many recipients.
                let error = if full { error.temporary() } else { error };
                if full && index > 0 && !self.pipelining {
                    for i in index..self.results.len() {
                        self.set(i, Err(error.clone()));
                    }
                    self.rcpts_sent = self.results.len();
                } else {
                    self.set(index, Err(error));
                }
            }
        }
    }
}

impl Session {
    /// Begins a transaction. Possible after [`Action::Ready`] and [`Action::Done`] while [`Self::is_usable`].
    pub fn begin(&mut self, transaction: Transaction) {
        let chunking = self.extensions.chunking && self.settings.chunking;
        let progress = Box::new(Progress::new(transaction, self.extensions.pipelining, chunking));
        let problem = if self.is_usable() {
            self.unsupported(&progress.transaction)
        } else {
            Some(Error::connection(Stage::Mail, "connection not usable"))
        };
        if let Some(error) = problem {
            self.actions.push_back(Action::Done(progress.all(&error)));
        } else if self.needs_reset {
            self.output.extend_from_slice(b"RSET\r\n");
            self.state = State::Reset(progress);
        } else {
            self.proceed(progress);
        }
    }

    /// What the server would have to offer.
    fn unsupported(&self, t: &Transaction) -> Option<Error> {
        let e = &self.extensions;
        let new = |permanent, kind, text| Some(Error::new(permanent, kind, Stage::Mail, text));
        if t.recipients.is_empty() {
            new(true, ErrorKind::Message, "no recipients")
        } else if t.eight_bit && t.require_eight_bit_mime && !e.eight_bit_mime {
            new(true, ErrorKind::EightBitMimeUnsupported, "message needs 8bitmime, which the server doesn't offer")
        } else if t.smtputf8 && !e.smtputf8 {
            new(false, ErrorKind::Smtputf8Unsupported, "message needs smtputf8, which the server doesn't offer")
        } else if t.requiretls && !e.requiretls {
            new(false, ErrorKind::RequireTlsUnsupported, "message needs requiretls, which the server doesn't offer")
        } else if t.by.is_some_and(|by| !takes_by(by, e)) {
            new(true, ErrorKind::DeliverByUnsupported, "message must be returned when it is late, which the server doesn't promise")
        } else if e.size.is_some_and(|max| max > 0 && t.size > max) {
            new(true, ErrorKind::Size, "message larger than the server accepts")
        } else {
            None
        }
    }

    pub(super) fn reset_done(&mut self, progress: Box<Progress>, reply: Reply) {
        if reply.code == 250 {
            self.needs_reset = false;
            self.proceed(progress);
        } else {
            self.botched = true;
            self.actions.push_back(Action::Done(progress.all(&Error::status(Stage::Rset, reply))));
        }
    }

    pub(super) fn transaction_reply(&mut self, mut progress: Box<Progress>, reply: Reply) {
        // RFC 5321 §3.8: with 421, the server closes the connection.
        if reply.code == 421 {
            self.botched = true;
        }
        match progress.expected.pop_front() {
            Some(Expected::Mail) if reply.code != 250 => {
                progress.failure = Some(Error::status(Stage::Mail, reply));
            }
            Some(Expected::Mail) => self.needs_reset = true,
            // Without MAIL, they all are refused for that reason.
            Some(Expected::Rcpt(_)) if progress.failure.is_some() => {}
            Some(Expected::Rcpt(index)) => progress.rcpt_reply(index, reply),
            Some(Expected::Data) if reply.code != 354 => {
                let error = Error::status(Stage::Data, reply);
                progress.failure.get_or_insert(error);
            }
            Some(Expected::Data) if progress.is_any_accepted() => progress.writer = Some(Writer::Dots(DotWriter::default())),
            Some(Expected::Data) => {
                // RFC 2920 §3.1: the server wants a message that has no recipient.
                self.output.extend_from_slice(b".\r\n");
                progress.expected.push_back(Expected::NoEnd);
            }
            Some(Expected::Chunk | Expected::End) if progress.chunking && !progress.bdat_known && matches!(reply.code, 500 | 502) => {
                // A server, or something before it, that passes on what it doesn't know: it may read the message as commands.
                let error = Error::status(Stage::Data, reply).of_kind(ErrorKind::Chunking).temporary();
                self.state = State::Transaction(progress);
                return self.botch(error);
            }
            Some(Expected::Chunk) if reply.code == 250 => progress.bdat_known = true,
            Some(Expected::Chunk) => {
                // RFC 3030 §2: what the server has is undefined now, and RSET has to follow.
                progress.failure.get_or_insert(Error::status(Stage::Data, reply));
                progress.writer = None;
            }
            Some(Expected::End) => {
                self.needs_reset = false;
                return self.end(*progress, reply);
            }
            Some(Expected::NoEnd) => self.needs_reset = false,
            None => {}
        }
        self.proceed(progress);
    }

    /// Sends more, waits for more, or is done because nothing of either is left.
    fn proceed(&mut self, mut progress: Box<Progress>) {
        if self.botched {
            let error = Error::connection(Stage::Data, "server closes the connection");
            self.actions.push_back(Action::Done(progress.all(&error)));
            return;
        }
        progress.send(&self.extensions, &mut self.output);
        if progress.expected.is_empty() && progress.writer.is_none() {
            let error = Error::protocol(Stage::Rcpt, "no recipients accepted");
            self.done(progress.all(&error));
        } else {
            self.state = State::Transaction(progress);
        }
    }

    /// The reply to the message: every recipient that was accepted shares it.
    fn end(&mut self, mut progress: Progress, reply: Reply) {
        // A message of which a chunk was refused isn't whole, whatever the server says.
        if reply.code == 250 && progress.failure.is_none() {
            for result in progress.results.iter_mut().filter(|r| matches!(r, Some(Ok(_)))) {
                *result = Some(Ok(reply.clone()));
            }
            let missing = Error::protocol(Stage::Data, "no reply for recipient");
            let results = progress.results.into_iter().map(|r| r.unwrap_or_else(|| Err(missing.clone()))).collect();
            self.done(results);
        } else {
            let error = Error::status(Stage::Data, reply);
            self.done(progress.all(&error));
        }
    }

    fn done(&mut self, results: Vec<Result<Reply, Error>>) {
        if self.botched {
            self.state = State::Closed;
        } else {
            self.state = State::Ready;
        }
        self.actions.push_back(Action::Done(results));
    }

    /// The next piece of the message, in answer to [`Action::Body`].
    pub fn body(&mut self, piece: &[u8]) {
        let State::Transaction(progress) = &mut self.state else { return };
        let written = match &mut progress.writer {
            None => return,
            Some(Writer::Dots(writer)) => writer.write(piece, &mut self.output),
            Some(Writer::Chunks(writer)) => writer.write(piece).inspect(|()| {
                while let Some(chunk) = writer.chunk() {
                    bdat(&chunk, "", &mut self.output);
                    progress.expected.push_back(Expected::Chunk);
                }
            }),
        };
        if let Err(bad) = written {
            self.bad_message(&bad.to_string());
        }
    }

    /// The message is complete.
    pub fn body_end(&mut self) {
        let State::Transaction(progress) = &mut self.state else { return };
        let Some(writer) = progress.writer.take() else { return };
        progress.expected.push_back(Expected::End);
        let finished = match writer {
            Writer::Dots(writer) => writer.finish(&mut self.output),
            Writer::Chunks(writer) => writer.finish().map(|chunk| bdat(&chunk, " LAST", &mut self.output)),
        };
        if let Err(bad) = finished {
            self.bad_message(&bad.to_string());
        }
    }

    /// The message can't be read to its end: closing the connection is the only way not to deliver half of it.
    pub fn body_failed(&mut self, why: &str) {
        self.bad_message(why);
    }

    fn bad_message(&mut self, why: &str) {
        self.botch(Error::new(false, ErrorKind::Message, Stage::Data, why));
    }
}

/// Whether a server may be given a message with such a time to deliver within, RFC 2852 §4.1.
fn takes_by(by: By, extensions: &Extensions) -> bool {
    match (by.late, extensions.deliver_by) {
        (WhenLate::Notify, _) => true,
        (WhenLate::Return, None) => false,
        (WhenLate::Return, Some(least)) => i64::from(by.seconds) >= i64::from(least).max(1),
    }
}

/// `BDAT SP chunk-size [ SP "LAST" ]` and the chunk, RFC 3030 §2.
fn bdat(chunk: &[u8], last: &str, out: &mut BytesMut) {
    out.extend_from_slice(format!("BDAT {}{last}\r\n", chunk.len()).as_bytes());
    out.extend_from_slice(chunk);
}
