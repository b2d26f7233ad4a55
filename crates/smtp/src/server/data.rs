//! DATA and BDAT: receiving a message in pieces that the driver keeps, and having it delivered.

use super::{Action, Asked, Envelope, Question, Session, State, Transaction};
use crate::dot::{DotReader, Facts};
use crate::grammar::{self, Bdat, Body};
use crate::reply::Reply;
use bytes::{Buf as _, BytesMut};

/// A message coming in by DATA.
#[derive(Debug, Default)]
pub(super) struct Receiving {
    reader: DotReader,
}

/// A chunk coming in by BDAT.
#[derive(Debug)]
pub(super) struct Chunk {
    left: u64,
    size: u64,
    purpose: Purpose,
}

#[derive(Debug)]
enum Purpose {
    /// Part of the message of the transaction.
    Message { last: bool },
    /// Read and dropped; then this reply.
    Discard(Reply),
}

impl Chunk {
    pub(super) const fn is_complete(&self) -> bool {
        self.left == 0
    }
}

impl Session {
    pub(super) fn data_command(&mut self, arguments: &[u8]) {
        if self.parsed(grammar::no_argument(arguments, &self.dialect())).is_none() || !self.may_mail() {
            return;
        }
        match &self.transaction {
            None => self.bad_sequence("send MAIL first"),
            Some(transaction) if transaction.recipients.is_empty() => self.bad_sequence("send RCPT first"),
            // RFC 3030 §2: DATA and BDAT don't mix.
            Some(transaction) if transaction.chunks.is_some() => self.bad_sequence("message already begun with BDAT"),
            Some(_) => {
                self.say(&Reply::bare(354, "see you at the bare dot"));
                self.state = State::Data(Receiving::default());
            }
        }
    }

    /// Message data have come.
    pub(super) fn data(&mut self) {
        let State::Data(receiving) = &mut self.state else { return };
        let mut decoded = BytesMut::with_capacity(self.input.len());
        let used = receiving.reader.read(&self.input, &mut decoded);
        let (facts, done) = (receiving.reader.facts(), receiving.reader.is_done());
        self.input.advance(used);
        self.keep(decoded, &facts);
        if done {
            self.received(facts);
        } else if facts.size > self.settings.max_size.0.saturating_add(self.settings.limits.drain) {
            self.fatal(too_large());
        }
    }

    /// Hands a piece on, unless the message is refused already.
    fn keep(&mut self, piece: BytesMut, facts: &Facts) {
        if !piece.is_empty() && facts.size <= self.settings.max_size.0 && !facts.bad_line_ends {
            self.actions.push_back(Action::Chunk(piece.freeze()));
        }
    }

    pub(super) fn bdat_command(&mut self, arguments: &[u8]) {
        let Some(Bdat { size, last }) = self.parsed(grammar::bdat(arguments, &self.dialect())) else { return };
        let received = self.transaction.as_ref().and_then(|t| t.chunks.as_ref()).map_or(0, |c| c.facts().size);
        let sequence = |text: &str| Err(Reply::new(503, (5, 5, 1), text));
        let allowed = match &self.transaction {
            _ if self.hello.is_none() => sequence("send ehlo first"),
            _ if self.is_submission() && !self.is_authenticated() => Err(Reply::new(530, (5, 7, 0), "authentication required")),
            None => sequence("send MAIL first"),
            Some(transaction) if transaction.recipients.is_empty() => sequence("send RCPT first"),
            Some(_) if received.saturating_add(size) > self.settings.max_size.0 => Err(too_large()),
            Some(_) => Ok(()),
        };
        let purpose = match allowed {
            Ok(()) => {
                if let Some(transaction) = &mut self.transaction {
                    transaction.chunks.get_or_insert_default();
                }
                Purpose::Message { last }
            }
            // RFC 3030 §2: the octets come anyway.
            Err(reply) if size <= self.settings.limits.drain => Purpose::Discard(reply),
            Err(reply) => return self.fatal(reply),
        };
        self.state = State::Chunk(Chunk { left: size, size, purpose });
    }

    /// Octets of a chunk have come, or it has none.
    pub(super) fn chunk(&mut self) {
        let State::Chunk(chunk) = &mut self.state else { return };
        let here = usize::try_from(chunk.left).unwrap_or(usize::MAX).min(self.input.len());
        let octets = self.input.split_to(here);
        chunk.left = chunk.left.saturating_sub(u64::try_from(here).unwrap_or(u64::MAX));
        if let (Purpose::Message { .. }, Some(reader)) = (&chunk.purpose, self.transaction.as_mut().and_then(|t| t.chunks.as_mut())) {
            let mut decoded = BytesMut::with_capacity(octets.len());
            reader.read(&octets, &mut decoded);
            let facts = reader.facts();
            self.keep(decoded, &facts);
        }
        if matches!(&self.state, State::Chunk(chunk) if chunk.is_complete()) {
            self.chunk_complete();
        }
    }

    fn chunk_complete(&mut self) {
        let State::Chunk(chunk) = std::mem::replace(&mut self.state, State::Command) else { return };
        match chunk.purpose {
            Purpose::Discard(reply) => {
                // What is left of the message is refused with it.
                self.reset();
                self.protest(reply);
            }
            Purpose::Message { last: false } => {
                self.say(&Reply::new(250, (2, 0, 0), format!("{} octets received", chunk.size)));
            }
            Purpose::Message { last: true } => {
                let Some(reader) = self.transaction.as_mut().and_then(|t| t.chunks.as_mut()) else { return };
                let mut decoded = BytesMut::new();
                reader.finish(&mut decoded);
                let facts = reader.facts();
                self.keep(decoded, &facts);
                self.received(facts);
            }
        }
    }

    /// The message is complete.
    fn received(&mut self, facts: Facts) {
        self.state = State::Command;
        // RFC 5321 §4.1.1.4: whatever the reply, the transaction is over.
        let (Some(hello), Some(transaction)) = (self.hello.clone(), self.transaction.take()) else { return };
        if let Some(reply) = self.check_message(&transaction, &facts) {
            self.transaction = Some(transaction);
            self.reset();
            return self.refuse(reply);
        }
        self.counts.bad_messages = self.counts.bad_messages.saturating_add(1);
        let Transaction { mail, recipients, .. } = transaction;
        self.ask(Question::Message(Envelope { hello, mail, recipients, facts }), Asked::Message);
    }

    /// Why the message is refused without a look at what it says.
    fn check_message(&self, transaction: &Transaction, facts: &Facts) -> Option<Reply> {
        if facts.bad_line_ends {
            return Some(Reply::new(500, (5, 5, 2), "bare carriage return or newline, not allowed"));
        }
        if facts.size > self.settings.max_size.0 {
            return Some(too_large());
        }
        if self.is_submission() {
            if !facts.separator {
                return Some(Reply::new(554, (5, 6, 0), "missing empty line between header and body"));
            }
            let announced = transaction.mail.parameters.body == Some(Body::EightBitMime);
            if self.settings.strict && facts.eight_bit && !announced {
                return Some(Reply::new(500, (5, 6, 0), "8-bit data needs body=8bitmime"));
            }
        }
        None
    }

    pub(super) fn message_accepted(&mut self) {
        self.counts.bad_messages = self.counts.bad_messages.saturating_sub(1);
        self.counts.good_messages = self.counts.good_messages.saturating_add(1);
        self.counts.chatter = 0;
        let reply = Reply::new(250, (2, 2, 0), "it is done");
        self.say(&reply);
    }
}

fn too_large() -> Reply {
    Reply::new(552, (5, 3, 4), "message too large")
}
