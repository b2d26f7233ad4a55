//! A thin synchronous SQL layer: one query text for SQLite and PostgreSQL.
//!
//! [`Database`] owns the connections of one schema: a queue of write closures that are run in groups, one transaction
//! and one commit for many, and readers on snapshots. Inside a closure, [`Tx`] runs statements: `exec`, `query`,
//! `query_row`, with parameters `$1 … $n` and values of three types only, 64-bit integers, text and bytes, which both
//! engines have. A [`Sql`] may carry a second text for PostgreSQL where the dialects part.
//!
//! Tables are described once, in [`schema`], from which the DDL of both engines and the numbered, forward-only
//! migrations come. Every statement, commit and file operation first asks [`Faults`], so that tests can fail each of
//! them. Closures run on blocking threads to their end, whether or not somebody still waits for them.

mod address;
mod checkpoint;
mod database;
mod error;
mod faults;
mod hints;
mod param;
mod postgres;
mod queue;
pub mod schema;
mod sqlite;
mod tls;
mod tx;

pub use address::{PgAddress, PgTlsMode};
pub use database::{Database, Env, Location, Scope};
pub use error::Error;
pub use faults::{Faults, NoFaults, Step};
pub use param::Param;
pub use postgres::PgPool;
pub use tx::{Row, Sql, Tx};

pub(crate) use faults::check;
pub(crate) use hints::{Hints, Listener, Teller};

/// The parameters of a statement: `params![account, name, size]`, each anything that is `Into<Param>`.
#[macro_export]
macro_rules! params {
    ($($value:expr),* $(,)?) => { &[$($crate::db::Param::from($value)),*] as &[$crate::db::Param<'_>] };
}
