//! Aggregate reports: what a receiver saw of mail that claims to be from a domain. RFC 7489 §7.2 and appendix C, RFC 9990.
//!
//! A [`Feedback`] has a [`Row`] for each combination of source, identities and results, with a count. The rows come from
//! evaluations ([`Row::of`]), which are kept as XML, too. Reports of others are read leniently: what is missing is empty, what isn't
//! known is skipped; but never more than the limits in `read`. Words of which receivers invent new ones stay texts.

mod evaluation;
mod message;
mod read;
mod write;

pub use evaluation::{Evaluated, interval_hours};
pub use message::{Envelope, MessageError, error_message, message, read};
pub use read::XmlError;

use super::record::{Alignment, Policy};
use crate::unpack;
use mox_base::Timestamp;

/// A report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feedback {
    /// Who reports, about when.
    pub metadata: Metadata,
    /// The policy that was found.
    pub published: Published,
    /// What was seen.
    pub rows: Vec<Row>,
}

/// Who reports, about when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Who reports.
    pub organization: String,
    /// Whom to ask.
    pub email: String,
    /// More about that.
    pub extra_contact: String,
    /// Unique for the reporter.
    pub id: String,
    /// The first second.
    pub begin: Timestamp,
    /// The last second.
    pub end: Timestamp,
    /// What was wrong with the record.
    pub errors: Vec<String>,
    /// The software that made the report.
    pub generator: String,
}

impl Default for Metadata {
    fn default() -> Self {
        Self {
            organization: String::new(),
            email: String::new(),
            extra_contact: String::new(),
            id: String::new(),
            begin: Timestamp::from_secs(0),
            end: Timestamp::from_secs(0),
            errors: Vec::new(),
            generator: String::new(),
        }
    }
}

/// The policy that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// Where: in A-labels.
    pub domain: String,
    /// `adkim`.
    pub dkim_alignment: Option<Alignment>,
    /// `aspf`.
    pub spf_alignment: Option<Alignment>,
    /// `p`.
    pub policy: Policy,
    /// `sp`.
    pub subdomain_policy: Option<Policy>,
    /// `np`, RFC 9990.
    pub nonexistent_policy: Option<Policy>,
    /// `pct`, which RFC 9990 doesn't have any more.
    pub percentage: Option<u8>,
    /// `fo`.
    pub failure_options: String,
    /// `t`, RFC 9990.
    pub testing: bool,
}

/// What happened to messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Disposition {
    /// They were treated as any others.
    #[default]
    None,
    /// They were as the domain wants them, RFC 9990; older reports say none.
    Pass,
    /// They were treated as suspicious.
    Quarantine,
    /// They were refused.
    Reject,
}

impl Disposition {
    /// As in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Pass => "pass",
            Self::Quarantine => "quarantine",
            Self::Reject => "reject",
        }
    }

    fn of(text: &str) -> Self {
        match text.to_ascii_lowercase().as_str() {
            "pass" => Self::Pass,
            "quarantine" => Self::Quarantine,
            "reject" => Self::Reject,
            _ => Self::None,
        }
    }
}

/// Messages of which the same is to be said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// The address that they came from.
    pub source_ip: String,
    /// How many.
    pub count: u64,
    /// What happened to them.
    pub disposition: Disposition,
    /// A verified signature is of the author's domain, as the record wants it.
    pub dkim_aligned: bool,
    /// Likewise by SPF.
    pub spf_aligned: bool,
    /// Why the policy wasn't applied.
    pub reasons: Vec<Reason>,
    /// The recipients' domain.
    pub envelope_to: String,
    /// The domain of MAIL FROM; none if the reporter didn't say, empty for the null reverse-path.
    pub envelope_from: Option<String>,
    /// The author's domain.
    pub header_from: String,
    /// Signatures.
    pub dkim: Vec<DkimAuth>,
    /// SPF, usually one.
    pub spf: Vec<SpfAuth>,
}

/// Why a policy wasn't applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reason {
    /// `forwarded`, `sampled_out`, `trusted_forwarder`, `mailing_list`, `local_policy`, `policy_test_mode`, `other`.
    pub kind: String,
    /// More about it.
    pub comment: String,
}

/// A signature and what came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DkimAuth {
    /// Whose it is.
    pub domain: String,
    /// By which key.
    pub selector: String,
    /// A result of RFC 8601 §2.7.1.
    pub result: String,
    /// More about it.
    pub human_result: String,
}

/// What SPF said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpfAuth {
    /// The domain that was checked.
    pub domain: String,
    /// `helo` or `mfrom`.
    pub scope: String,
    /// A result of RFC 8601 §2.7.2.
    pub result: String,
    /// More about it.
    pub human_result: String,
}

/// The messages of a report, by what was said of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// All.
    pub total: u64,
    /// Treated as any others.
    pub none: u64,
    /// Treated as suspicious.
    pub quarantine: u64,
    /// Refused.
    pub reject: u64,
    /// Without an aligned signature that verifies.
    pub dkim_fail: u64,
    /// Without an aligned pass of SPF.
    pub spf_fail: u64,
    /// To which the policy wasn't applied.
    pub overridden: u64,
}

impl Feedback {
    /// Reads XML.
    ///
    /// # Errors
    /// See [`XmlError`].
    pub fn from_xml(xml: &[u8]) -> Result<Self, XmlError> {
        read::feedback(xml)
    }

    /// The XML, packed with gzip: as it is sent, and as it is kept.
    ///
    /// # Errors
    /// None that is known of.
    pub fn to_gzip(&self) -> Result<Vec<u8>, std::io::Error> {
        unpack::gzip(self.to_xml().as_bytes())
    }

    /// Reads packed XML.
    ///
    /// # Errors
    /// It isn't a packed report.
    pub fn from_gzip(data: &[u8]) -> Result<Self, MessageError> {
        Ok(Self::from_xml(&unpack::gunzip(data).map_err(MessageError::unpacking)?)?)
    }

    /// Counts.
    pub fn summary(&self) -> Summary {
        let mut summary = Summary::default();
        for row in &self.rows {
            let add = |sum: &mut u64, when: bool| *sum = sum.saturating_add(if when { row.count } else { 0 });
            add(&mut summary.total, true);
            add(&mut summary.none, matches!(row.disposition, Disposition::None | Disposition::Pass));
            add(&mut summary.quarantine, row.disposition == Disposition::Quarantine);
            add(&mut summary.reject, row.disposition == Disposition::Reject);
            add(&mut summary.dkim_fail, !row.dkim_aligned);
            add(&mut summary.spf_fail, !row.spf_aligned);
            add(&mut summary.overridden, !row.reasons.is_empty());
        }
        summary
    }
}
