//! SPF, RFC 7208: whether a host may use a domain in MAIL FROM or HELO.
//!
//! [`verify`] checks the identity of an SMTP transaction, with all of the RFC's limits, and says why the result is what it is and
//! whether all DNS answers were authentic. [`SpfRecord`] is the parsed record. [`received_spf`] is the header field.

mod evaluate;
mod header;
mod macros;
mod record;

pub use evaluate::{Identity, Query, SpfOutcome, SpfResult, SpfSession, check_host, verify};
pub use header::received_spf;
pub use macros::MacroString;
pub use record::{Directive, Mechanism, Prefixes, Qualifier, SpfRecord, SyntaxError};
