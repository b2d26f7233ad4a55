//! DMARC reports: what we saw of other domains' mail, told to those who want to know. RFC 7489 §7, RFC 9990.
//!
//! [`Evaluations`] gathers what was found about messages at reception (`evaluations`), [`DmarcReportSender`] tells of it, each hour of those domains
//! whose time has come (`sender`), at the addresses that may be used for that (`addresses`). Reports of others are in
//! [`crate::inbound`].

mod addresses;
mod evaluations;
mod sender;

pub use addresses::{Destination, DestinationProblem, ReportAddress, report_addresses};
pub use evaluations::Evaluations;
pub(crate) use evaluations::Fate;
pub use sender::{DmarcReportSender, DmarcSenderMetrics};
