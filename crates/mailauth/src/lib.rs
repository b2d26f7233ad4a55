//! Authentication of mail, and of the hosts it goes to.
//!
//! - [`dkim`] signs messages. [`MessageReader`] reads one for verification: its signatures by [`ReadMessage::verify_dkim`], the
//!   findings of those who handled it, [`arc`], by [`ReadMessage::verify_arc`].
//! - [`spf`] says whether a host may use a domain, [`dmarc`] what the author's domain wants if neither helps; [`results`] writes it
//!   all down, [`dnsbl`] asks block lists.
//! - [`suffix`] knows where domains are registered.
//! - [`dane`], [`mtasts`] and [`tlsrpt`] are policies for TLS on the way out.
//!
//! Nothing here does I/O: DNS is asked through [`mox_base::Lookup`], and messages come in pieces, so a body of any size is signed
//! or verified in constant memory. Every result says whether the DNS answers behind it were authentic.

pub mod arc;
pub mod dane;
pub mod dkim;
pub mod dmarc;
pub mod dnsbl;
pub mod mtasts;
mod reader;
mod report_mail;
pub mod results;
mod section;
pub mod spf;
pub mod suffix;
mod tags;
pub mod tlsrpt;
mod together;
mod txt;
mod unpack;

pub use dkim::{Canonicalization, DkimSelector, SignError, Signer, SigningKey};
pub use reader::{HeaderProblem, MAX_SIGNATURES, MessageReader, ReadMessage};
pub use tags::TagError;
pub use unpack::{MAX_MESSAGE, MAX_REPORT};
