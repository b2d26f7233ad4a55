//! SASL, both ends, as exchanges of bytes: no sockets, no base64, no store.
//!
//! A server makes an [`server::Exchange`] for the mechanism that the client named and feeds it what the client says; the
//! exchange answers with a [`server::Step`]: send a challenge, ask the owner of the credentials something, or done. Asking
//! instead of calling lets the store answer asynchronously. A client makes a [`client::Client`] and feeds it challenges.
//! How the bytes travel (base64 in SMTP and IMAP, the empty response written as `=`) is the protocol's business.
//!
//! A file per mechanism, each with its two ends. Failures carry the name under which login attempts are recorded
//! ([`AuthResult`]). Secrets are compared in constant time; unknown users of SCRAM get a salt that never changes and fail
//! at the proof, like a wrong password does.

#![warn(clippy::indexing_slicing, clippy::panic)]

pub mod client;
pub mod cram_md5;
pub mod external;
pub mod login;
mod mechanism;
mod opaque;
pub mod plain;
pub mod scram;
pub mod server;

pub use mechanism::{Bindings, Mechanism};
pub use opaque::opaque_string;
pub use server::{Answer, Ask, AuthResult, Exchange, Failure, Step};
