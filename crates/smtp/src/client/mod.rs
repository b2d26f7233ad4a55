//! The client's end of one SMTP connection. Knows no socket.
//!
//! The driver connects (and, with [`TlsMode::Immediate`], starts TLS), makes a [`Session`] and does what
//! [`Session::next`] says. After [`Action::Ready`] it begins a [`Transaction`], provides the message when asked, and gets a
//! result for each recipient with [`Action::Done`]; then the next transaction, or [`Session::quit`].
//!
//! `session` gets the connection ready (greeting, EHLO, STARTTLS, AUTH), `transaction` sends messages, `error` classifies
//! what goes wrong: permanent only what a 5yz reply says, everything that happened to the connection is temporary.

mod error;
mod session;
mod transaction;

pub use error::{Error, ErrorKind, Stage};
pub use transaction::Transaction;

use crate::extensions::Extensions;
use crate::reply::{Enhanced, Reply, ReplyParser};
use bytes::{Bytes, BytesMut};
use mox_base::{Host, Random};
use mox_sasl::client::Credentials;
use mox_sasl::{Bindings, Mechanism};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use transaction::Progress;

/// How TLS is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// TLS before the greeting; the driver has started it.
    Immediate,
    /// STARTTLS even if not announced; without it there is no session.
    Required,
    /// STARTTLS if announced; when that fails, so does the session. The caller may come back with `Skip`.
    Opportunistic,
    /// No TLS.
    Skip,
}

/// What a session needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Our name in EHLO.
    pub ehlo: Host,
    /// How TLS is used.
    pub tls: TlsMode,
    /// Who we are, where the server wants to know.
    pub auth: Option<Auth>,
    /// Whether messages go in chunks to servers with CHUNKING, RFC 3030.
    pub chunking: bool,
    /// Time limits.
    pub timeouts: Timeouts,
}

/// How to authenticate.
#[derive(Clone, Debug)]
pub struct Auth {
    /// Name and password.
    pub credentials: Credentials,
    /// Acceptable mechanisms, best first.
    pub mechanisms: Vec<Mechanism>,
}

/// The most replies that are kept for [`Session::take_replies`].
const MAX_REPLIES: usize = 1000;

/// How long to wait for replies. The defaults are the least that RFC 5321 §4.5.3.2 allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For the greeting, §4.5.3.2.1, and for most replies, §4.5.3.2.2 and §4.5.3.2.3.
    pub command: Duration,
    /// For the reply to DATA, §4.5.3.2.4.
    pub data_start: Duration,
    /// For writing a piece of the message, §4.5.3.2.5.
    pub data_block: Duration,
    /// For the reply to the message, §4.5.3.2.6: too short, and messages are delivered twice.
    pub data_end: Duration,
    /// For the reply to QUIT, which tells nothing.
    pub quit: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            command: Duration::from_secs(300),
            data_start: Duration::from_secs(120),
            data_block: Duration::from_secs(180),
            data_end: Duration::from_secs(600),
            quit: Duration::from_secs(5),
        }
    }
}

/// What the driver does next.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Write, in order, and flush.
    Send(Bytes),
    /// Read, for at most this long, then call [`Session::receive`]; or [`Session::lost`].
    Read(Duration),
    /// Start TLS as the client, then call [`Session::tls_started`] or [`Session::tls_failed`].
    StartTls,
    /// The session is ready for a transaction: call [`Session::begin`] or [`Session::quit`].
    Ready,
    /// Give the next piece of the message by [`Session::body`], or say by [`Session::body_end`] that there is none.
    Body,
    /// The transaction is over; what happened to each recipient, in order. If [`Session::is_usable`], go on as after `Ready`.
    Done(Vec<Result<Reply, Error>>),
    /// There will be no session.
    Failed(Error),
    /// Close the connection.
    Close,
}

/// A reply, and what it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replied {
    /// The command.
    pub stage: Stage,
    /// The reply's code.
    pub code: u16,
    /// Its enhanced code.
    pub enhanced: Option<Enhanced>,
}

/// Where the session is in the dialogue.
#[derive(Debug)]
enum State {
    Greeting,
    /// EHLO is sent, or HELO.
    Hello {
        extended: bool,
    },
    StartTls,
    Handshake,
    /// AUTH is sent.
    Auth(Box<mox_sasl::client::Client>),
    /// `*` is sent; the session then fails with this.
    AuthCancelled(Error),
    /// Ready was not yet told.
    BecomingReady,
    Ready,
    /// RSET is sent.
    Reset(Box<Progress>),
    Transaction(Box<Progress>),
    Quit,
    Closed,
}

/// The client's end of one connection.
#[derive(Debug)]
pub struct Session {
    settings: Settings,
    random: Arc<dyn Random>,
    input: BytesMut,
    output: BytesMut,
    actions: VecDeque<Action>,
    parser: ReplyParser,
    state: State,
    /// None until TLS is there.
    tls: Option<Bindings>,
    extensions: Extensions,
    /// Replies that weren't told of.
    replies: Vec<Replied>,
    /// The first line of the greeting, after its code.
    greeting: String,
    /// A transaction was left unfinished, so that the next begins with RSET.
    needs_reset: bool,
    /// Bytes came or were lost in a way that leaves the connection unusable.
    botched: bool,
}

impl Session {
    /// A session on a new connection. `tls`: the bindings of the TLS connection, with [`TlsMode::Immediate`].
    pub fn new(settings: Settings, random: Arc<dyn Random>, tls: Option<Bindings>) -> Self {
        Self {
            settings,
            random,
            input: BytesMut::new(),
            output: BytesMut::new(),
            actions: VecDeque::new(),
            parser: ReplyParser::default(),
            state: State::Greeting,
            tls,
            extensions: Extensions::default(),
            replies: Vec::new(),
            greeting: String::new(),
            needs_reset: false,
            botched: false,
        }
    }

    /// Takes bytes from the server; none mean that it closed the connection.
    pub fn receive(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            self.lost("connection closed by remote");
        } else {
            self.input.extend_from_slice(bytes);
        }
    }

    /// The connection is gone, or the server silent for too long.
    pub fn lost(&mut self, why: &str) {
        let error = Error::connection(self.stage(), why);
        self.botch(error);
    }

    /// What the server offers; known when ready.
    pub const fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    /// What the server calls itself: the first line of its greeting, after the code.
    pub fn greeting_text(&self) -> &str {
        &self.greeting
    }

    /// The replies since this was last asked, for whoever measures how long commands take; not all if there were very many.
    pub fn take_replies(&mut self) -> Vec<Replied> {
        std::mem::take(&mut self.replies)
    }

    /// Whether TLS is in use.
    pub const fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Whether another transaction can follow.
    pub const fn is_usable(&self) -> bool {
        !self.botched && matches!(self.state, State::BecomingReady | State::Ready)
    }

    /// Says goodbye, unless the connection is unusable. [`Action::Close`] comes after that.
    pub fn quit(&mut self) {
        if self.is_usable() {
            self.output.extend_from_slice(b"QUIT\r\n");
            self.state = State::Quit;
        } else {
            self.state = State::Closed;
        }
    }

    /// The next thing to do.
    #[expect(clippy::should_implement_trait, reason = "not an iterator: what comes next depends on what is done in between")]
    pub fn next(&mut self) -> Action {
        loop {
            if !self.output.is_empty() {
                return Action::Send(self.output.split().freeze());
            }
            if let Some(action) = self.actions.pop_front() {
                return action;
            }
            match &mut self.state {
                State::Closed => return Action::Close,
                State::Handshake => return Action::StartTls,
                State::BecomingReady => {
                    self.state = State::Ready;
                    return Action::Ready;
                }
                State::Ready => return Action::Ready,
                State::Transaction(progress) if progress.wants_body() => return Action::Body,
                _ => {}
            }
            match self.parser.take(&self.input, self.extensions.enhanced_status_codes) {
                Ok((reply, used)) => {
                    let _used = self.input.split_to(used.min(self.input.len()));
                    match reply {
                        Some(reply) => self.reply(reply),
                        None => return Action::Read(self.patience()),
                    }
                }
                Err(bad) => {
                    let error = Error::protocol(self.stage(), &bad.to_string());
                    self.botch(error);
                }
            }
        }
    }

    fn patience(&self) -> Duration {
        let timeouts = &self.settings.timeouts;
        match &self.state {
            State::Quit => timeouts.quit,
            State::Transaction(progress) => progress.patience(timeouts),
            _ => timeouts.command,
        }
    }

    /// Which command is being answered.
    fn stage(&self) -> Stage {
        match &self.state {
            State::Greeting => Stage::Greeting,
            State::Hello { extended: true } => Stage::Ehlo,
            State::Hello { extended: false } => Stage::Helo,
            State::StartTls | State::Handshake => Stage::Starttls,
            State::Auth(_) | State::AuthCancelled(_) => Stage::Auth,
            State::Reset(_) => Stage::Rset,
            State::Transaction(progress) => progress.stage(),
            State::BecomingReady | State::Ready | State::Quit | State::Closed => Stage::Quit,
        }
    }

    /// Goes on with a reply.
    fn reply(&mut self, reply: Reply) {
        if self.replies.len() < MAX_REPLIES {
            self.replies.push(Replied { stage: self.stage(), code: reply.code, enhanced: reply.enhanced });
        }
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Greeting => self.greeting(reply),
            State::Hello { extended } => self.hello(extended, reply),
            State::StartTls => self.starttls(reply),
            State::Auth(client) => self.auth(client, reply),
            State::AuthCancelled(error) => self.fail(error),
            State::Reset(progress) => self.reset_done(progress, reply),
            State::Transaction(progress) => self.transaction_reply(progress, reply),
            // Nothing was asked, or the answer doesn't matter.
            State::Quit | State::Closed | State::Handshake | State::BecomingReady | State::Ready => {}
        }
    }

    /// There is no session.
    fn fail(&mut self, error: Error) {
        self.botched = true;
        self.actions.push_back(Action::Failed(error));
        self.state = State::Closed;
    }

    /// The connection can't be used any more.
    fn botch(&mut self, error: Error) {
        self.botched = true;
        self.input.clear();
        self.output.clear();
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Transaction(progress) | State::Reset(progress) => {
                self.actions.push_back(Action::Done(progress.all(&error)));
            }
            State::Quit | State::Closed => {}
            State::BecomingReady | State::Ready => {}
            _ => self.actions.push_back(Action::Failed(error)),
        }
    }
}
