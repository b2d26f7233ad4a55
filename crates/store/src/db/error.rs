//! What goes wrong between us and a database.

use std::sync::Arc;

/// A failure of the database or of the files beside it. Never the client's fault: answer it as temporary.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file operation failed, or a fault was injected.
    #[error("file: {0}")]
    Io(#[from] std::io::Error),
    /// SQLite refused or failed.
    #[error("sqlite: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// PostgreSQL refused or failed, or the connection to it did.
    #[error("postgresql: {0}")]
    Postgres(#[from] tokio_postgres::Error),
    /// A query that must give a row gave none.
    #[error("no row: {0}")]
    NoRow(String),
    /// A column holds what it never should.
    #[error("corrupt data: {0}")]
    Corrupt(String),
    /// There is mail, but not the database that it belongs to: beginning anew would take its files for what a crash has left.
    #[error("{0}")]
    Misplaced(&'static str),
    /// A statement of this closure failed, and the closure ended as if it hadn't: nothing of it is kept.
    #[error("a statement failed and the failure was ignored")]
    Ignored,
    /// The commit failed, or work of another closure that shared it: nothing of this closure is kept,
    /// unless the failure came after the data was durable.
    #[error("commit failed: {0}")]
    Commit(Arc<Self>),
    /// PostgreSQL undid the transaction, because others were in its way or the connection was lost: nothing of it is kept.
    #[error("the transaction was undone")]
    Undone,
    /// The connection was lost while committing, and whether the commit happened can't be found out.
    #[error("whether the commit happened is unknown: {0}")]
    Unresolved(Box<Self>),
    /// The address of a database can't be used.
    #[error("database address: {0}")]
    Address(String),
    /// The database has been closed.
    #[error("the database is closed")]
    Closed,
    /// The closure panicked; nothing of it is kept.
    #[error("a transaction's code panicked")]
    Panicked,
    /// The database was written by a newer version of this program.
    #[error("schema {schema} has version {found}, newer than {known}, which this version knows")]
    Newer {
        /// Name of the schema.
        schema: &'static str,
        /// Version found.
        found: i64,
        /// Last version this program knows.
        known: i64,
    },
}

impl Error {
    /// True if there is no space left: peers hear of that differently than of other faults.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Io(e) => matches!(e.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded),
            Self::Sqlite(e) => e.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull),
            Self::Postgres(e) => e.code() == Some(&tokio_postgres::error::SqlState::DISK_FULL),
            Self::Commit(cause) => cause.is_full(),
            _ => false,
        }
    }

    /// True if another transaction was in the way and trying again may help: serialisation failure or deadlock.
    pub(crate) fn is_conflict(&self) -> bool {
        match self {
            Self::Postgres(e) => {
                matches!(e.code(), Some(c) if *c == tokio_postgres::error::SqlState::T_R_SERIALIZATION_FAILURE
                    || *c == tokio_postgres::error::SqlState::T_R_DEADLOCK_DETECTED)
            }
            Self::Sqlite(e) => e.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy),
            _ => false,
        }
    }

    /// True if a transaction of PostgreSQL was certainly undone, and running it again may help.
    pub(crate) fn is_undone(&self) -> bool {
        match self {
            Self::Undone => true,
            Self::Postgres(_) => self.is_conflict() || self.is_disconnect(),
            _ => false,
        }
    }

    /// True if the connection is gone, as after a restart of PostgreSQL.
    pub(crate) fn is_disconnect(&self) -> bool {
        matches!(self, Self::Postgres(e) if e.is_closed()
            || matches!(e.code(), Some(c) if *c == tokio_postgres::error::SqlState::ADMIN_SHUTDOWN
                || *c == tokio_postgres::error::SqlState::CRASH_SHUTDOWN))
    }
}
