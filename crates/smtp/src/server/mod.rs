//! The server's end of one SMTP connection, RFC 5321 §3. Knows no socket, clock or store.
//!
//! Bytes go in by [`Session::receive`], [`Session::next`] gives one [`Action`] after the other: write this, ask the policy
//! that, keep this piece of the message, start TLS, read more, close. After [`Action::Ask`] comes [`Session::answer`].
//! Replies to pipelined commands are collected and sent together, RFC 2920 §3.2.
//!
//! A file per group of commands, each adding methods to [`Session`]; this one has the types that the driver sees, `engine`
//! the loop and the table of commands. All limits are in [`Limits`].

mod auth;
mod data;
mod engine;
mod envelope;
mod hello;
mod limits;

pub use limits::{Limits, Phase};

use crate::dot::Facts;
use crate::grammar::{Dialect, Mail, Rcpt, Verb};
use crate::{Enhanced, Reply};
use bytes::{Bytes, BytesMut};
use mox_base::{ByteSize, Domain, Host, Random, Timestamp};
use mox_sasl::{Bindings, Failure, Mechanism};
use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

/// What a listener offers and demands.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Our name, in the greeting and in the reply to EHLO.
    pub hostname: Domain,
    /// Who connects.
    pub kind: Kind,
    /// By the letter of the RFCs.
    pub strict: bool,
    /// The largest message.
    pub max_size: ByteSize,
    /// STARTTLS is possible.
    pub starttls: bool,
    /// AUTH is allowed without TLS, passwords in the clear included.
    pub auth_without_tls: bool,
    /// REQUIRETLS, RFC 8689.
    pub requiretls: bool,
    /// DSN, RFC 3461: parameters are accepted and passed on.
    pub dsn: bool,
    /// Limits.
    pub limits: Limits,
}

/// Who connects to a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Other mail servers, with mail for us.
    Incoming,
    /// Our users, with mail to send, RFC 6409.
    Submission,
}

/// What the driver does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Write, in order, and flush.
    Send(Bytes),
    /// Find out, then call [`Session::answer`].
    Ask(Box<Question>),
    /// Take notice.
    Tell(Event),
    /// The next piece of the message of this transaction, decoded, lines ending in CRLF.
    Chunk(Bytes),
    /// Start TLS as the server, then call [`Session::tls_started`]; close when that fails. What the client had sent
    /// behind STARTTLS is discarded already, RFC 3207 §4.2.
    StartTls,
    /// Read, for at most the time that the limits give this phase, then call [`Session::receive`]; or [`Session::timeout`].
    Read(Phase),
    /// Close the connection.
    Close,
}

/// What the policy decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Is this name of HELO known to DNS? Answer `Ok` or `Refuse`.
    Helo(Domain),
    /// May the client try to authenticate now? Delay guessers here. Answer `Ok` or `Refuse`.
    AuthStart(Mechanism),
    /// Are the credentials right? Answer `Sasl`.
    Sasl(mox_sasl::Ask),
    /// The credentials are right: may this user log in? Answer `Ok` or `Refuse`.
    Login {
        /// The login address; none: the one of the certificate.
        user: Option<String>,
        /// The mechanism.
        mechanism: Mechanism,
    },
    /// A transaction begins: is the sender acceptable? Forget the previous transaction. Answer `Ok` or `Refuse`.
    Mail(Mail),
    /// Is the recipient acceptable? Answer `Ok` or `Refuse`.
    Rcpt {
        /// The recipient.
        rcpt: Rcpt,
        /// How many were accepted before it in this transaction.
        accepted_before: usize,
    },
    /// The message is complete: deliver it. `Ok` only when it is durable. Whatever the answer, the transaction is over.
    Message(Envelope),
}

/// The answer to a [`Question`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Yes; the usual reply.
    Ok,
    /// No.
    Refuse(Reply),
    /// No, and close the connection.
    Close(Reply),
    /// To [`Question::Sasl`].
    Sasl(mox_sasl::Answer),
}

/// What the driver may log and count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A reply was given to a command.
    Replied {
        /// The command; none for unknown ones.
        verb: Option<Verb>,
        /// The reply's code.
        code: u16,
        /// The reply's enhanced code.
        enhanced: Option<Enhanced>,
    },
    /// An attempt to authenticate failed before [`Question::Login`].
    AuthFailed {
        /// The user, if one was named.
        user: Option<String>,
        /// The mechanism.
        mechanism: Mechanism,
        /// Why.
        failure: Failure,
    },
    /// The transaction was given up: forget its recipients and its message.
    Reset,
    /// A line of the client, if [`Session::trace`] asked for them.
    Line {
        /// Without its line end.
        line: Bytes,
        /// Whether it may hold credentials.
        secret: bool,
    },
}

/// The name that the client gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The name or address; on submission, where clients don't know their name, the client's IP.
    pub name: Host,
    /// EHLO, not HELO.
    pub extended: bool,
}

/// A complete transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The client's name.
    pub hello: Hello,
    /// The sender, and parameters.
    pub mail: Mail,
    /// The accepted recipients, in order, at least one.
    pub recipients: Vec<Rcpt>,
    /// What was noticed while reading the message.
    pub facts: Facts,
}

/// What the session has to know of the TLS connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// What SCRAM can bind to.
    pub bindings: Bindings,
    /// The client showed a certificate that may stand for a user: EXTERNAL is offered.
    pub certificate: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Login {
    None,
    Certificate,
    Sasl,
}

#[derive(Debug)]
struct Transaction {
    mail: Mail,
    recipients: Vec<Rcpt>,
    /// Begun by the first BDAT.
    chunks: Option<crate::dot::ChunkReader>,
}

/// Where the session is in the stream of bytes.
#[derive(Debug)]
enum State {
    Start,
    /// A command line comes next.
    Command,
    /// A line of an authentication exchange comes next.
    Auth(Box<mox_sasl::Exchange>),
    /// Message data come next.
    Data(data::Receiving),
    /// Octets of a chunk come next.
    Chunk(data::Chunk),
    /// A question is out.
    Asked(Asked),
    /// The driver is busy with TLS.
    Handshake,
    Closed,
}

/// What was asked, and what to go on with.
#[derive(Debug)]
enum Asked {
    Helo(Domain),
    AuthStart(Box<mox_sasl::Exchange>, Option<Vec<u8>>),
    Sasl(Box<mox_sasl::Exchange>),
    Login,
    Mail(Mail),
    Rcpt(Rcpt),
    Message,
}

/// The server's end of one connection.
#[derive(Debug)]
pub struct Session {
    settings: Arc<Settings>,
    random: Arc<dyn Random>,
    /// Shown in error replies, so that users can report them.
    id: String,
    peer: IpAddr,
    now: Timestamp,

    input: BytesMut,
    /// How much of the input is known to have no line end.
    scanned: usize,
    output: BytesMut,
    /// Send the output even if more commands are there to be answered.
    flush: bool,
    actions: VecDeque<Action>,

    state: State,
    verb: Option<Verb>,
    hello: Option<Hello>,
    tls: Option<Tls>,
    login: Login,
    transaction: Option<Transaction>,
    counts: Counts,
    trace: bool,
}

/// What the limits on a client's behaviour look at.
#[derive(Debug, Default)]
struct Counts {
    /// Lines received.
    lines: u64,
    /// Commands that were wrong.
    bad_commands: u32,
    /// Commands since the last message that bring no message nearer.
    chatter: u32,
    /// Messages refused after they were received, minus those accepted.
    bad_messages: u32,
    /// Messages accepted.
    good_messages: u32,
}

impl Session {
    /// A session for a new connection. `id` is shown in error replies; `tls` is given when TLS is already there.
    pub fn new(settings: Arc<Settings>, random: Arc<dyn Random>, id: String, peer: IpAddr, tls: Option<Tls>) -> Self {
        Self {
            settings,
            random,
            id,
            peer,
            now: Timestamp::EPOCH,
            input: BytesMut::new(),
            scanned: 0,
            output: BytesMut::new(),
            flush: false,
            actions: VecDeque::new(),
            state: State::Start,
            verb: None,
            hello: None,
            tls,
            login: Login::None,
            transaction: None,
            counts: Counts::default(),
            trace: false,
        }
    }

    /// Tells every line of the client, for protocol traces.
    pub const fn trace(&mut self) {
        self.trace = true;
    }

    /// Takes bytes from the client.
    pub fn receive(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    /// The buffer that [`Self::receive`] appends to, for reading from a socket without a copy.
    pub const fn buffer(&mut self) -> &mut BytesMut {
        &mut self.input
    }

    /// TLS is there: everything learnt from the client before is forgotten, RFC 3207 §4.2.
    pub fn tls_started(&mut self, tls: Tls) {
        self.tls = Some(tls);
        self.hello = None;
        self.reset();
        if self.login == Login::Sasl {
            self.login = Login::None;
        }
        if matches!(self.state, State::Handshake) {
            self.state = State::Command;
        }
    }

    /// The client is who its certificate says, without having used AUTH.
    pub fn authenticated_by_certificate(&mut self) {
        if self.login == Login::None {
            self.login = Login::Certificate;
        }
    }

    /// The client has been silent for too long: says so, and closes. RFC 5321 §4.5.3.2.
    pub fn timeout(&mut self) {
        self.fatal(Reply::new(421, (4, 4, 2), "timeout, closing connection"));
    }

    /// We are shutting down: says so, and closes. RFC 5321 §3.8.
    pub fn shutdown(&mut self) {
        self.fatal(Reply::new(421, (4, 3, 2), "shutting down"));
    }

    /// Refuses the connection instead of greeting it.
    pub fn refuse_connection(&mut self, reply: Reply) {
        self.fatal(reply);
    }

    /// Whether the client has authenticated.
    pub fn is_authenticated(&self) -> bool {
        self.login != Login::None
    }

    /// Whether TLS is there.
    pub const fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// The name that the client gave last.
    pub const fn hello(&self) -> Option<&Hello> {
        self.hello.as_ref()
    }

    fn is_submission(&self) -> bool {
        self.settings.kind == Kind::Submission
    }

    fn dialect(&self) -> Dialect {
        let submission = self.is_submission();
        Dialect {
            strict: self.settings.strict,
            // Senders of bulk mail end their lines in a space.
            trailing_space: !submission,
            dsn: self.settings.dsn,
            future_release: submission,
            // Whose mail goes first, we only let our own users say.
            priority: submission,
        }
    }
}
