//! Reports on TLS, RFC 8460: what happened to sessions, where reports are wanted, and the reports themselves.
//!
//! [`PolicyResult`]s are collected for each attempt, kept in the store by day, and become a [`Report`]: JSON, gzipped, in a
//! message. Reports of others are read with limits on what they unpack to.

mod record;
mod report;
mod result;
mod wire;

pub use record::{Record, RecordError, lookup, parse_record};
pub use report::{Envelope, ReadError, Report, message, read, to_gzip};
pub use result::{FailureDetail, PolicyKind, PolicyOf, PolicyResult, ResultType, merge};
pub use wire::{results_from_json, results_to_json};
