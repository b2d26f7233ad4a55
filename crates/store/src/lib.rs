//! Accounts, mailboxes, messages, changes, blobs, queue rows, on SQLite or PostgreSQL.
//!
//! A [`Store`] has [`Account`]s. `account.write(|tx| …)` runs a closure in a transaction whose operations ([`WriteTx`]) are
//! what every protocol calls; `account.read(|tx| …)` runs on a snapshot ([`ReadTx`]). What sessions look at all the time is in
//! memory, immutable and shared: [`Mailboxes`] and [`View`]s. [`Watch`] and [`MailboxWatch`] tell of changes after their commit.
//!
//! Success is only answered after the commit: bytes durable, rows committed, changes published, in this order. SQL is
//! nowhere else.

pub mod account;
pub mod blob;
pub mod change;
pub mod check;
pub mod credentials;
pub mod db;
pub mod directory;
pub mod dmarc;
pub mod error;
pub mod filing;
mod flag_modseqs;
pub mod flags;
mod index;
pub mod mailbox;
pub mod name;
pub mod prepare;
pub mod queue;
pub mod reports;
mod schema;
mod selection;
pub mod store;
#[cfg(test)]
mod testing;
pub mod tls;
pub mod uidset;
pub mod view;
pub mod webhook;
pub mod wire;

pub use account::{
    Account, Added, Append, Columns, Copied, Created, Delivery, Expunged, FlagChange, FlagOp, Flagged, History, MailboxWatch, MessageFacts,
    MessageRow, Notice, ReadTx, Renamed, Scan, Watch, WriteTx,
};
pub use change::{Change, ChangeKind, Origin};
pub use error::Error;
pub use filing::{Filing, FilingKey, FilingMark};
pub use flags::{Flags, Keyword};
pub use mailbox::{Counts, Mailbox, Mailboxes, SpecialUse};
pub use name::{MailboxName, NameError};
pub use prepare::{Content, Message, Prepared};
pub use store::{Engine, Settings, Store};
pub use uidset::UidSet;
pub use view::{Diff, Entry, View};
