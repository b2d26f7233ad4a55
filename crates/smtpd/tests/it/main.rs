//! The service over connections in memory, with a real store and queue in a temporary folder. Dialogues are written as
//! transcripts: `C:` lines are sent, `S:` lines must come back; ids of connections are left out.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]

mod authentication;
mod incoming;
mod limits;
mod lists;
mod localserve;
mod login;
mod replies;
mod submission;
mod tls;
mod world;
