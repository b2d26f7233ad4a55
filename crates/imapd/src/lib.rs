//! The IMAP service: connections driven over the store, a file per command.
//!
//! [`serve`] runs one connection: greeting, then commands strictly in order. [`mox_imap`] reads and prints; a handler in `cmd`
//! decodes, calls the store, and answers. A session shows its client one snapshot of the selected mailbox (a
//! [`mox_store::View`]) and moves to the newest only where IMAP allows telling the difference; see `updates`. Responses of
//! any length are produced in chunks: a read of the store fills a buffer, ends, and the buffer is written to the client, so no
//! transaction ever waits for a peer. A connection that waits holds no buffers.

mod auth;
mod binary;
mod capability;
mod cmd;
mod conn;
mod error;
mod metrics;
mod render;
mod section;
mod session;
mod settings;
mod text;
mod updates;

pub use metrics::{CommandResult, Metrics, NoMetrics};
pub use session::{Preauthenticated, serve};
pub use settings::{Limits, Listener, Service};
