//! DMARC: what a domain wants done with mail that claims to be from it and isn't.
//!
//! RFC 9989, and what RFC 7489 has beyond that (`pct`, sizes of reports). [`lookup`] finds the record for a domain by walking up the
//! tree, [`verify`] says what follows from it and from the results of SPF and DKIM, [`report`] is about telling the domain. Where an
//! organization ends, records say, and the public suffix list where they don't.

mod evaluate;
mod lookup;
mod record;
pub mod report;

pub use evaluate::{DmarcOutcome, DmarcResult, Findings, Validation, timed_out, validation, verify};
pub use lookup::{DmarcLookup, LookupProblem, lookup, report_destination};
pub use record::{Alignment, DmarcError, DmarcRecord, Policy, ReportUri, SizeUnit};
