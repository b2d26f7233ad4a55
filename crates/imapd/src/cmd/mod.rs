//! The commands: each decodes its arguments, checks what may be done, calls the store, and answers.
//!
//! A handler prints untagged responses into the session's output and returns the code of the tagged OK, or a failure.

pub(crate) mod append;
pub(crate) mod authenticate;
pub(crate) mod close;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod enable;
pub(crate) mod expunge;
pub(crate) mod fetch;
pub(crate) mod idle;
pub(crate) mod list;
pub(crate) mod login;
pub(crate) mod rename;
pub(crate) mod search;
pub(crate) mod select;
pub(crate) mod simple;
pub(crate) mod starttls;
pub(crate) mod status;
pub(crate) mod store;
pub(crate) mod subscribe;
pub(crate) mod transfer;

use crate::error::Failure;
use mox_imap::response::Code;

/// What a handler gives: the code of its tagged OK, if any.
pub(crate) type Done = Result<Option<Code>, Failure>;
