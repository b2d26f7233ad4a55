//! Authentication of mail, and of the hosts it goes to.
//!
//! - [`dkim`] signs messages.
//! - [`spf`] says whether a host may use a domain.
//! - [`dane`], [`mtasts`] and [`tlsrpt`] are policies for TLS on the way out.
//!
//! Nothing here does I/O: DNS is asked through [`mox_base::Lookup`], and messages come in pieces, so a body of any size is signed
//! or verified in constant memory. Every result says whether the DNS answers behind it were authentic.

pub mod dane;
pub mod dkim;
pub mod mtasts;
pub mod spf;
pub mod tlsrpt;

pub use dkim::{Canonicalization, DkimSelector, SignError, Signer, SigningKey};
