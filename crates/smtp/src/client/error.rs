//! What went wrong, and whether trying again can help.

use crate::reply::Reply;
use std::fmt;

/// Why a session, or the delivery to a recipient, failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// Trying again won't help.
    pub permanent: bool,
    /// The kind of trouble.
    pub kind: ErrorKind,
    /// During which command.
    pub stage: Stage,
    /// What the server said, if it did.
    pub reply: Option<Reply>,
    /// What happened, for logs and DSNs; empty where the reply says all.
    pub detail: String,
}

/// The kind of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The message is larger than the server takes.
    Size,
    /// The message needs 8BITMIME.
    EightBitMimeUnsupported,
    /// An address or header needs SMTPUTF8.
    Smtputf8Unsupported,
    /// The sender requires TLS all the way.
    RequireTlsUnsupported,
    /// The message must come back when it is late, and the server doesn't promise that.
    DeliverByUnsupported,
    /// The server's reply.
    Status,
    /// The server breaks the protocol.
    Protocol,
    /// TLS.
    Tls,
    /// Authentication.
    Auth,
    /// The server announces CHUNKING but doesn't know BDAT: it may be told without, on another connection.
    Chunking,
    /// The message can't be sent as it is.
    Message,
    /// The connection broke or the server was silent.
    Connection,
}

/// The command during which it happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Before any.
    Greeting,
    /// EHLO.
    Ehlo,
    /// HELO.
    Helo,
    /// STARTTLS and the handshake.
    Starttls,
    /// AUTH.
    Auth,
    /// MAIL.
    Mail,
    /// RCPT.
    Rcpt,
    /// DATA and the message.
    Data,
    /// RSET.
    Rset,
    /// QUIT.
    Quit,
}

impl Stage {
    /// The name in logs and records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Greeting => "(greeting)",
            Self::Ehlo => "ehlo",
            Self::Helo => "helo",
            Self::Starttls => "starttls",
            Self::Auth => "auth",
            Self::Mail => "mailfrom",
            Self::Rcpt => "rcptto",
            Self::Data => "data",
            Self::Rset => "rset",
            Self::Quit => "quit",
        }
    }
}

impl Error {
    /// A reply other than the one hoped for.
    pub(super) fn status(stage: Stage, reply: Reply) -> Self {
        let permanent = reply.is_permanent();
        Self { permanent, kind: ErrorKind::Status, stage, reply: Some(reply), detail: String::new() }
    }

    /// The same with another kind.
    pub(super) fn of_kind(self, kind: ErrorKind) -> Self {
        Self { kind, ..self }
    }

    pub(super) fn temporary(self) -> Self {
        Self { permanent: false, ..self }
    }

    pub(super) fn connection(stage: Stage, detail: &str) -> Self {
        Self::new(false, ErrorKind::Connection, stage, detail)
    }

    pub(super) fn protocol(stage: Stage, detail: &str) -> Self {
        Self::new(false, ErrorKind::Protocol, stage, detail)
    }

    pub(super) fn new(permanent: bool, kind: ErrorKind, stage: Stage, detail: &str) -> Self {
        Self { permanent, kind, stage, reply: None, detail: detail.to_owned() }
    }

    /// The reply's code.
    pub fn code(&self) -> Option<u16> {
        self.reply.as_ref().map(|reply| reply.code)
    }

    /// The enhanced code without its class, as in `7.1`; empty without one.
    pub fn secode(&self) -> String {
        self.reply.as_ref().and_then(|reply| reply.enhanced).map(crate::Enhanced::without_class).unwrap_or_default()
    }

    /// The first line of the reply as the server sent it.
    pub fn first_line(&self) -> Option<String> {
        self.lines().into_iter().next()
    }

    /// The lines of the reply as the server sent them.
    pub fn lines(&self) -> Vec<String> {
        let Some(reply) = &self.reply else { return Vec::new() };
        let enhanced = reply.enhanced.map(|e| format!("{e} ")).unwrap_or_default();
        reply.lines.iter().map(|line| format!("{} {enhanced}{line}", reply.code)).collect()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.stage.name())?;
        match (&self.reply, self.detail.as_str()) {
            (Some(reply), "") => write!(f, "{reply}"),
            (Some(reply), detail) => write!(f, "{detail}: {reply}"),
            (None, detail) => f.write_str(detail),
        }
    }
}

impl std::error::Error for Error {}
