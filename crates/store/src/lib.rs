//! Accounts, mailboxes, messages, changes, blobs, queue rows, on SQLite or PostgreSQL.

pub mod db;
pub mod directory;
pub mod queue;
