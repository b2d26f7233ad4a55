//! Authentication of mail: DKIM signing. Verification of DKIM, SPF, DMARC and ARC will follow.
//!
//! Nothing here does I/O. Messages come in pieces, so a body of any size is signed in constant memory.

pub mod dkim;

pub use dkim::{Canonicalization, DkimSelector, SignError, Signer, SigningKey};
