//! ARC, RFC 8617: what those who handled a message on its way found out about it, in sets of three header fields.
//!
//! A [`Chain`] is found in a header section and says only what the fields claim. [`verify_arc`](crate::ReadMessage::verify_arc)
//! says whether the claims are signed. [`seal`] adds a set of ours.

mod chain;
mod seal;
mod verify;

pub use chain::{Chain, ChainError, Claimed};
pub use seal::{SealError, Sealing, seal};
pub use verify::{ArcOutcome, ArcProblem, ArcStatus};
