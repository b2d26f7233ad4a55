//! DANE for SMTP, RFC 7672: which TLSA records count for a host, and which names its certificate may have.
//!
//! [`gather()`] asks DNS and says whether DANE applies; an answer that can't be had is an error, never "no records", because
//! whoever can suppress an answer could else switch DANE off. [`matches`] compares one record with one certificate; the
//! handshake that does so is in `net`. Only usages 2 (DANE-TA) and 3 (DANE-EE) count for SMTP, RFC 7672 §3.1.
//!
//! Preconditions (authentic MX and address records) are the caller's: see [`Base`].

mod gather;
mod record;

pub use gather::{Base, Gathered, gather, names};
pub use record::{DANE_EE, DANE_TA, PKIX_EE, PKIX_TA, ParseError, is_usable, matches, parse, text};
