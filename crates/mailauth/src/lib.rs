//! Authentication of mail, and of the hosts it goes to: DKIM signing; DANE, MTA-STS and TLSRPT. Verification of DKIM, SPF, DMARC and ARC will follow.
//!
//! Nothing here does I/O but asking a [`mox_base::Lookup`]. Messages come in pieces, so a body of any size is signed in constant memory.

pub mod dane;
pub mod dkim;
pub mod mtasts;
pub mod tlsrpt;

pub use dkim::{Canonicalization, DkimSelector, SignError, Signer, SigningKey};
