//! DKIM signatures, RFC 6376, with Ed25519 of RFC 8463.
//!
//! A [`Signer`] takes a message in pieces and gives one `DKIM-Signature` field for each [`DkimSelector`]. The body is hashed
//! as it passes, once for each canonicalization in use; only the header section is kept.

mod canonical;
mod key;
mod sign;

pub use canonical::{BodyHasher, Canonicalization, canonical_field};
pub use key::{KeyError, SigningKey};
pub use sign::{DkimSelector, SignError, Signer};
