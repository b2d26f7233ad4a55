//! DMARC: what a domain wants done with mail that claims to be from it and isn't.
//!
//! RFC 7489, with `np`, `psd` and `t` of RFC 9091 and RFC 9989. [`lookup`] finds the record for a domain, [`evaluate`] says what follows
//! from it and from the results of SPF and DKIM, [`report`] is about telling the domain. Organizational domains are found by the public suffix list.

mod evaluate;
mod lookup;
mod record;
pub mod report;

pub use evaluate::{DmarcOutcome, DmarcResult, Findings, Validation, evaluate, timed_out, validation, verify};
pub use lookup::{DmarcLookup, LookupProblem, lookup, report_destination};
pub use record::{Alignment, DmarcError, DmarcRecord, Policy, ReportUri, SizeUnit};
