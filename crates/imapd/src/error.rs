//! How a command fails, and what the client hears of it.

use crate::conn::End;
use crate::metrics::CommandResult;
use mox_imap::response::{Code, Status};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The client asked for something that can't be done: NO.
    #[error("{1}")]
    No(Option<Code>, String),
    /// The client said something that isn't allowed: BAD.
    #[error("{1}")]
    Bad(Option<Code>, String),
    /// A fault of ours: NO, and an error in the log.
    #[error("{0}")]
    Server(mox_store::Error),
    /// The connection is over.
    #[error(transparent)]
    End(#[from] End),
    /// The command has answered by itself.
    #[error("answered")]
    Answered,
}

impl Failure {
    /// NO without a code.
    pub(crate) fn no(text: impl Into<String>) -> Self {
        Self::No(None, text.into())
    }

    /// NO with a code.
    pub(crate) fn code(code: Code, text: impl Into<String>) -> Self {
        Self::No(Some(code), text.into())
    }

    /// BAD.
    pub(crate) fn bad(text: impl Into<String>) -> Self {
        Self::Bad(None, text.into())
    }

    /// The label in metrics.
    pub(crate) const fn result(&self) -> CommandResult {
        match self {
            Self::No(..) => CommandResult::UserError,
            Self::Bad(..) => CommandResult::BadSyntax,
            Self::Server(_) => CommandResult::ServerError,
            Self::End(_) => CommandResult::IoError,
            Self::Answered => CommandResult::Ok,
        }
    }

    /// The tagged response; none when the connection is over.
    pub(crate) fn response(&self) -> Option<(Status, Option<Code>, &str)> {
        match self {
            Self::No(code, text) => Some((Status::No, code.clone(), text)),
            Self::Bad(code, text) => Some((Status::Bad, code.clone(), text)),
            // The cause is in the log only.
            Self::Server(_) => Some((Status::No, Some(Code::Unavailable), "server error, try again later")),
            Self::End(_) | Self::Answered => None,
        }
    }
}

/// What the store's refusals mean to a client. Where a missing mailbox is to be created, see [`or_try_create`].
impl From<mox_store::Error> for Failure {
    fn from(error: mox_store::Error) -> Self {
        use mox_store::Error as E;
        let text = error.to_string();
        match error {
            E::NoMailbox => Self::code(Code::NonExistent, text),
            E::MailboxExists => Self::code(Code::AlreadyExists, text),
            E::HasChildren => Self::code(Code::HasChildren, text),
            E::Name(_) => Self::code(Code::Cannot, text),
            E::OverQuota => Self::code(Code::OverQuota, text),
            E::TooManyKeywords | E::TooManyMailboxes => Self::code(Code::Limit, text),
            E::Inbox | E::Keyword(_) | E::NotSubscribed | E::NoMessage | E::SameMailbox => Self::no(text),
            E::Db(mox_store::db::Error::Closed) => Self::End(End::Gone),
            other => Self::Server(other),
        }
    }
}

/// As above, with TRYCREATE for a missing destination, RFC 9051 §6.3.12.
pub(crate) fn or_try_create(error: mox_store::Error) -> Failure {
    match error {
        mox_store::Error::NoMailbox => Failure::code(Code::TryCreate, "no such mailbox"),
        other => other.into(),
    }
}
