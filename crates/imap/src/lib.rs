//! The IMAP protocol without sockets: IMAP4rev2 (RFC 9051) and IMAP4rev1 (RFC 3501) with their extensions.
//!
//! Input goes through [`reader::Reader`], which turns bytes, however they are split, into [`cmd::Command`]s within budgets for
//! lines and literals, and hands the messages of an APPEND over in pieces. The grammar is in [`cmd`], one function per rule,
//! over a [`cursor::Cursor`]. Output is printed by [`response`] and [`put`] into a byte buffer that the caller owns and
//! reuses, because a FETCH of a large mailbox must not allocate per message. [`client`] splits what a server sends into
//! responses, for tests and load generators. Nothing here does I/O or knows a mailbox.

#![warn(clippy::indexing_slicing, clippy::panic)]

pub mod client;
pub mod cmd;
pub mod cursor;
pub mod flag;
pub mod put;
pub mod reader;
pub mod response;
pub mod set;
pub mod token;
pub mod utf7;

pub use cmd::Command;
pub use flag::Flag;
pub use set::{RangeSet, SequenceSet};
