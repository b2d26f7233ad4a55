//! What operations on accounts answer when they can't be done.

use crate::db;
use crate::flags::KeywordError;
use crate::name::NameError;

/// Why an operation wasn't done. Nothing of it is kept then.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database or a file failed: temporary.
    #[error(transparent)]
    Db(#[from] db::Error),
    /// There is no such account.
    #[error("no such account")]
    NoAccount,
    /// An account's name can't be that of a folder.
    #[error("invalid account name")]
    AccountName,
    /// There is no such mailbox, or no longer.
    #[error("no such mailbox")]
    NoMailbox,
    /// There is a mailbox of this name.
    #[error("mailbox exists")]
    MailboxExists,
    /// The mailbox has others below it.
    #[error("mailbox has children")]
    HasChildren,
    /// Inbox can't be deleted, nor be what another mailbox is renamed to.
    #[error("not possible with Inbox")]
    Inbox,
    /// The name isn't one that a mailbox can have.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The keyword isn't one.
    #[error(transparent)]
    Keyword(#[from] KeywordError),
    /// The mailbox has as many keywords as it may have.
    #[error("too many keywords in mailbox")]
    TooManyKeywords,
    /// The account has as many mailboxes, or subscriptions, as it may have.
    #[error("too many mailboxes")]
    TooManyMailboxes,
    /// Nothing is subscribed under this name.
    #[error("not subscribed")]
    NotSubscribed,
    /// There is no such message, or no longer.
    #[error("no such message")]
    NoMessage,
    /// Copying or moving to the mailbox where the messages are.
    #[error("source and destination are the same mailbox")]
    SameMailbox,
    /// The account's limit would be exceeded.
    #[error("over quota")]
    OverQuota,
    /// The mailbox has used up its UIDs.
    #[error("mailbox has no UIDs left")]
    NoUids,
    /// A message's bytes are not what was stored, or are missing.
    #[error("blob {0}: {1}")]
    Blob(String, &'static str),
}

impl From<std::io::Error> for Error {
    fn from(e: std::io::Error) -> Self {
        Self::Db(db::Error::Io(e))
    }
}

/// A column with what we never write.
pub(crate) fn corrupt(what: &str) -> db::Error {
    db::Error::Corrupt(what.to_owned())
}
