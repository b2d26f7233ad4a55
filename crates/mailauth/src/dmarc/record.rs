//! DMARC records, RFC 7489 §6.3 and §6.4.

use crate::tags::{TagError, Tags};
use std::fmt;

/// What is wanted for mail that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Policy {
    /// Nothing: only reports.
    #[default]
    None,
    /// It is suspicious.
    Quarantine,
    /// It isn't to be accepted.
    Reject,
}

impl Policy {
    /// As in records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Quarantine => "quarantine",
            Self::Reject => "reject",
        }
    }

    pub(super) fn of_name(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "none" => Some(Self::None),
            "quarantine" => Some(Self::Quarantine),
            "reject" => Some(Self::Reject),
            _ => None,
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How much a verified domain has to be like the one in From.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Alignment {
    /// Of the same organization.
    #[default]
    Relaxed,
    /// The same.
    Strict,
}

impl Alignment {
    /// As in records.
    pub const fn letter(self) -> &'static str {
        match self {
            Self::Relaxed => "r",
            Self::Strict => "s",
        }
    }

    pub(super) fn of_letter(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "r" => Some(Self::Relaxed),
            "s" => Some(Self::Strict),
            _ => None,
        }
    }
}

/// The unit of a report's largest size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SizeUnit {
    /// 1.
    Bytes,
    /// 2^10 bytes.
    Kib,
    /// 2^20 bytes.
    Mib,
    /// 2^30 bytes.
    Gib,
    /// 2^40 bytes.
    Tib,
}

/// Where reports go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ReportUri {
    /// The URI, as written.
    pub uri: String,
    /// The largest report wanted there.
    pub max_size: Option<(u64, SizeUnit)>,
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct DmarcRecord {
    /// `p`.
    pub policy: Policy,
    /// `sp`: for subdomains, if not the same.
    pub subdomain_policy: Option<Policy>,
    /// `np`: for subdomains that don't exist, RFC 9091.
    pub nonexistent_policy: Option<Policy>,
    /// `psd`: whether it is a public suffix that speaks for the domains below it; none if it doesn't say.
    pub public_suffix: Option<bool>,
    /// `t`: the policy isn't to be applied, RFC 9989.
    pub testing: bool,
    /// `adkim`.
    pub dkim_alignment: Alignment,
    /// `aspf`.
    pub spf_alignment: Alignment,
    /// `pct`: to how much of the mail the policy applies.
    pub percentage: u8,
    /// `rua`.
    pub aggregate_reports: Vec<ReportUri>,
    /// `ruf`.
    pub failure_reports: Vec<ReportUri>,
    /// `ri`, in seconds.
    pub report_interval: u32,
    /// `fo`.
    pub failure_options: Vec<String>,
    /// `rf`.
    pub report_formats: Vec<String>,
}

/// Why a text is no record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DmarcError {
    /// It doesn't start with `v=DMARC1`.
    #[error("does not start with v=DMARC1")]
    Version,
    /// It has no list of tags, or one with a bad value.
    #[error(transparent)]
    Tag(#[from] TagError),
    /// A policy later than second.
    #[error("policy is not the first tag behind the version")]
    PolicyPlace,
    /// No policy, and nobody who wants reports.
    #[error("no policy")]
    NoPolicy,
}

impl DmarcRecord {
    /// Whether a text is meant to be a DMARC record.
    pub fn is_meant(text: &str) -> bool {
        let first = text.split(';').next().unwrap_or_default();
        first.split_once('=').is_some_and(|(name, value)| name.trim().eq_ignore_ascii_case("v") && value.trim() == "DMARC1")
    }

    /// Parses the text of a TXT record.
    ///
    /// # Errors
    /// See [`DmarcError`].
    pub fn parse(text: &str) -> Result<Self, DmarcError> {
        Self::parse_with(text, true)
    }

    /// Parses a record of one who takes reports for others, RFC 7489 §7.1: it needs no policy.
    ///
    /// # Errors
    /// See [`DmarcError`].
    pub fn parse_report_record(text: &str) -> Result<Self, DmarcError> {
        Self::parse_with(text, false)
    }

    fn parse_with(text: &str, needs_policy: bool) -> Result<Self, DmarcError> {
        if !Self::is_meant(text) {
            return Err(DmarcError::Version);
        }
        let tags = Tags::parse(text)?;
        let mut record = Self { percentage: 100, report_interval: 86_400, ..Self::default() };
        let (mut policy, mut good) = (None, true);
        let mut seen: Vec<String> = Vec::new();
        for (i, (name, value)) in tags.all().iter().enumerate() {
            let name = name.to_ascii_lowercase();
            if seen.contains(&name) {
                return Err(TagError::Duplicate(name).into());
            }
            let bad = |name| DmarcError::from(TagError::Value(name));
            match name.as_str() {
                "p" => {
                    if i != 1 {
                        return Err(DmarcError::PolicyPlace);
                    }
                    policy = Policy::of_name(value);
                }
                "sp" => {
                    record.subdomain_policy = Policy::of_name(value);
                    good &= record.subdomain_policy.is_some();
                }
                "np" => record.nonexistent_policy = Policy::of_name(value),
                "psd" => record.public_suffix = if value.eq_ignore_ascii_case("u") { None } else { Some(value.eq_ignore_ascii_case("y")) },
                "t" => record.testing = value.eq_ignore_ascii_case("y"),
                "adkim" => record.dkim_alignment = Alignment::of_letter(value).ok_or_else(|| bad("adkim"))?,
                "aspf" => record.spf_alignment = Alignment::of_letter(value).ok_or_else(|| bad("aspf"))?,
                "rua" => record.aggregate_reports = uris(value).ok_or_else(|| bad("rua"))?,
                "ruf" => record.failure_reports = uris(value).ok_or_else(|| bad("ruf"))?,
                "ri" => {
                    let seconds = tags.number_of(value).ok_or_else(|| bad("ri"))?;
                    record.report_interval = u32::try_from(seconds).map_err(|_| bad("ri"))?;
                }
                "pct" => {
                    let percentage = tags.number_of(value).and_then(|n| u8::try_from(n).ok());
                    record.percentage = percentage.filter(|n| *n <= 100).ok_or_else(|| bad("pct"))?;
                }
                "fo" => {
                    record.failure_options = crate::tags::list(&value.to_ascii_lowercase());
                    if !record.failure_options.iter().all(|o| matches!(o.as_str(), "0" | "1" | "d" | "s")) {
                        return Err(bad("fo"));
                    }
                }
                "rf" => record.report_formats = crate::tags::list(value),
                // Unknown tags are skipped, RFC 7489 §6.3.
                _ => {}
            }
            seen.push(name);
        }
        // RFC 7489 §6.6.3 step 6: with someone who wants reports, a record without usable policy has the policy `none`.
        match policy {
            Some(policy) if good => record.policy = policy,
            _ if !record.aggregate_reports.is_empty() || !needs_policy => {
                (record.policy, record.subdomain_policy) = (Policy::None, None);
            }
            _ => return Err(DmarcError::NoPolicy),
        }
        Ok(record)
    }
}

/// `dmarc-uri *( "," dmarc-uri )`.
fn uris(text: &str) -> Option<Vec<ReportUri>> {
    text.split(',').map(|uri| uri.trim().parse().ok()).collect()
}

/// `URI [ "!" 1*DIGIT [ unit ] ]`.
impl std::str::FromStr for ReportUri {
    type Err = TagError;

    fn from_str(text: &str) -> Result<Self, TagError> {
        let bad = || TagError::Value("rua");
        let (uri, size) = match text.split_once('!') {
            Some((uri, size)) => (uri, Some(size)),
            None => (text, None),
        };
        let (scheme, rest) = uri.split_once(':').ok_or_else(bad)?;
        let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
        if !is_scheme || rest.is_empty() || !uri.chars().all(|c| !c.is_control() && !c.is_whitespace()) {
            return Err(bad());
        }
        let max_size = match size {
            None => None,
            Some(size) => {
                let unit = match size.bytes().last().map(|b| b.to_ascii_lowercase()) {
                    Some(b'k') => SizeUnit::Kib,
                    Some(b'm') => SizeUnit::Mib,
                    Some(b'g') => SizeUnit::Gib,
                    Some(b't') => SizeUnit::Tib,
                    _ => SizeUnit::Bytes,
                };
                let digits = if unit == SizeUnit::Bytes { size } else { size.get(..size.len().saturating_sub(1)).unwrap_or_default() };
                let number = digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok()).flatten();
                Some((number.ok_or_else(bad)?, unit))
            }
        };
        Ok(Self { uri: uri.to_owned(), max_size })
    }
}

impl ReportUri {
    /// The address of a `mailto:` URI, percent-decoded; none for other schemes.
    pub fn mail_address(&self) -> Option<String> {
        crate::txt::mail_address(&self.uri)
    }

    /// The largest size in bytes.
    pub fn max_bytes(&self) -> Option<u64> {
        self.max_size.map(|(n, unit)| {
            let shift: u32 = match unit {
                SizeUnit::Bytes => 0,
                SizeUnit::Kib => 10,
                SizeUnit::Mib => 20,
                SizeUnit::Gib => 30,
                SizeUnit::Tib => 40,
            };
            n.saturating_mul(1_u64 << shift)
        })
    }
}

impl fmt::Display for ReportUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // These two separate URIs and sizes, RFC 7489 §6.2.
        f.write_str(&self.uri.replace('!', "%21").replace(',', "%2C"))?;
        match self.max_size {
            None => Ok(()),
            Some((n, unit)) => {
                let unit = match unit {
                    SizeUnit::Bytes => "",
                    SizeUnit::Kib => "k",
                    SizeUnit::Mib => "m",
                    SizeUnit::Gib => "g",
                    SizeUnit::Tib => "t",
                };
                write!(f, "!{n}{unit}")
            }
        }
    }
}

/// The record's text, defaults left out.
impl fmt::Display for DmarcRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v=DMARC1;p={}", self.policy)?;
        if let Some(policy) = self.subdomain_policy {
            write!(f, ";sp={policy}")?;
        }
        if let Some(policy) = self.nonexistent_policy {
            write!(f, ";np={policy}")?;
        }
        if let Some(psd) = self.public_suffix {
            write!(f, ";psd={}", if psd { "y" } else { "n" })?;
        }
        if self.testing {
            f.write_str(";t=y")?;
        }
        let list = |uris: &[ReportUri]| uris.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        if !self.aggregate_reports.is_empty() {
            write!(f, ";rua={}", list(&self.aggregate_reports))?;
        }
        if !self.failure_reports.is_empty() {
            write!(f, ";ruf={}", list(&self.failure_reports))?;
        }
        if self.dkim_alignment != Alignment::Relaxed {
            write!(f, ";adkim={}", self.dkim_alignment.letter())?;
        }
        if self.spf_alignment != Alignment::Relaxed {
            write!(f, ";aspf={}", self.spf_alignment.letter())?;
        }
        if self.report_interval != 86_400 {
            write!(f, ";ri={}", self.report_interval)?;
        }
        if !self.failure_options.is_empty() {
            write!(f, ";fo={}", self.failure_options.join(":"))?;
        }
        if !self.report_formats.is_empty() {
            write!(f, ";rf={}", self.report_formats.join(":"))?;
        }
        if self.percentage != 100 {
            write!(f, ";pct={}", self.percentage)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn records() {
        let text = "v=DMARC1;p=reject;sp=quarantine;np=reject;psd=n;t=y;rua=mailto:a@x.example!10m,https://x.example/r;ruf=mailto:f@x.example;adkim=s;aspf=s;ri=3600;fo=1:d;rf=afrf:x;pct=50";
        let record = DmarcRecord::parse(text).unwrap();
        assert_eq!(record.to_string(), text);
        assert_eq!(record.aggregate_reports[0].max_bytes(), Some(10 << 20));
        let lax = DmarcRecord::parse(" V = DMARC1 ; P = None ;").unwrap();
        assert_eq!((lax.policy, lax.percentage, lax.report_interval), (Policy::None, 100, 86_400));
        assert_eq!(lax.to_string(), "v=DMARC1;p=none");
        // Without usable policy, but with someone who wants reports.
        for text in
            ["v=DMARC1;rua=mailto:a@x.example", "v=DMARC1;p=odd;rua=mailto:a@x.example", "v=DMARC1;p=reject;sp=odd;rua=mailto:a@x.example"]
        {
            assert_eq!(DmarcRecord::parse(text).unwrap().policy, Policy::None);
        }
        assert!(DmarcRecord::parse_report_record("v=DMARC1").is_ok());
    }

    #[test]
    fn refuses() {
        for text in [
            "v=DMARC1",
            "v=dmarc1;p=none",
            "v=DMARC1;p=odd",
            "v=DMARC1;sp=none;p=none",
            "v=DMARC1;p=none;P=none",
            "v=DMARC1;p=none;pct=101",
            "v=DMARC1;p=none;adkim=x",
            "v=DMARC1;p=none;rua=nobody",
            "v=DMARC1;p=none;rua=mailto:a@x.example!5x",
            "v=DMARC1;p=none;ri=-1",
            "v=DMARC1;p=none;fo=2",
            "v=DMARC1;p=none;;",
        ] {
            assert!(DmarcRecord::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text(text in "(v=DMARC1;p=none;)?([a-z]{1,3}=[a-z0-9:!,@.%]{0,9};){0,5}") {
            if let Ok(record) = DmarcRecord::parse(&text) {
                prop_assert_eq!(DmarcRecord::parse(&record.to_string()).unwrap(), record);
            }
        }
    }
}
