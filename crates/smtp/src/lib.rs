//! The SMTP protocol without sockets, RFC 5321 and its extensions.
//!
//! [`grammar`] has the commands and their parameters, [`Reply`] the answers, [`extensions`] what EHLO announces,
//! [`dot`] the encoding of message data. On these stand two state machines that turn bytes into actions:
//! [`server::Session`] and [`client::Session`]. Neither knows a socket, a store or a clock, so tests drive them with
//! strings; whoever owns the socket writes what they say and awaits what they ask.
//!
//! Wrong input is never an error of ours: the server answers it and goes on, or closes. Every line, count and size that a
//! peer chooses has a limit.

#![warn(clippy::indexing_slicing, clippy::panic)]

pub mod chunk;
pub mod client;
pub mod dot;
pub mod extensions;
pub mod grammar;
pub mod reply;
pub mod server;

pub use reply::{Enhanced, Reply};
