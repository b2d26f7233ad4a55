//! Others verify what we sign.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod dkimpy;
