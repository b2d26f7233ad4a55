//! Messages of others, and what others make of ours.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod corpus;
mod python;
