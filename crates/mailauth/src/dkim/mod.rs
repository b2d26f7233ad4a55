//! DKIM signatures, RFC 6376, with Ed25519 of RFC 8463.
//!
//! A [`Signer`] takes a message in pieces and gives one `DKIM-Signature` field for each [`DkimSelector`]. The body is hashed
//! as it passes, once for each canonicalization in use; only the header section is kept. The other way,
//! [`MessageReader`](crate::MessageReader) takes a message in pieces, and what it leaves has
//! [`verify_dkim`](crate::ReadMessage::verify_dkim).

mod canonical;
mod key;
mod record;
mod sign;
mod signature;
mod verify;

pub use canonical::{BodyHasher, Canonicalization, canonical_field};
pub use key::{KeyError as SigningKeyError, SigningKey};
pub use record::{KeyError, KeyLookup, KeyRecord, lookup_key};
pub use sign::{DkimSelector, SignError, Signer};
pub use signature::Signature;
pub use verify::{DkimOutcome, DkimProblem, DkimSettings, DkimStatus};

pub(crate) use sign::signed_data;
pub(crate) use signature::{Algorithm, Flavor};
