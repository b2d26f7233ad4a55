//! Extended DNS errors, RFC 8914: why a resolver has no answer, or doesn't believe the one that it got.

use std::fmt;

/// Characters of a resolver's own words that are kept.
const MAX_TEXT: usize = 200;

/// Why there is no answer, in the words of RFC 8914.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtendedError {
    /// The INFO-CODE.
    pub code: u16,
    /// What the resolver says beside the code; may be empty. One line without control characters.
    text: String,
}

impl ExtendedError {
    /// "DNSSEC Bogus", where nothing is known more precisely.
    pub const BOGUS: u16 = 6;

    /// With what a resolver says beside the code. Control characters are left out, and what is too long is cut.
    pub fn new(code: u16, text: &str) -> Self {
        Self { code, text: text.chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect() }
    }

    /// The code's name, RFC 8914 §5.2.
    pub fn name(&self) -> &'static str {
        INFO_CODES.get(usize::from(self.code)).copied().unwrap_or("unknown")
    }

    /// Whether it says that validation failed, so that what was found must not be believed.
    pub const fn is_bogus(&self) -> bool {
        matches!(self.code, 1 | 2 | 5..=12)
    }

    /// Code and name in one word, as reports have it: `6-dnssec-bogus`. The resolver's own words aren't in it.
    pub fn slug(&self) -> String {
        format!("{}-{}", self.code, self.name().to_ascii_lowercase().replace(' ', "-"))
    }
}

impl fmt::Display for ExtendedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "extended error {} ({})", self.code, self.name())?;
        if self.text.is_empty() { Ok(()) } else { write!(f, ": {}", self.text) }
    }
}

/// RFC 8914 §5.2; the place is the number.
const INFO_CODES: &[&str] = &[
    "other",
    "unsupported DNSKEY algorithm",
    "unsupported DS digest type",
    "stale answer",
    "forged answer",
    "DNSSEC indeterminate",
    "DNSSEC bogus",
    "signature expired",
    "signature not yet valid",
    "DNSKEY missing",
    "RRSIGs missing",
    "no zone key bit set",
    "NSEC missing",
    "cached error",
    "not ready",
    "blocked",
    "censored",
    "filtered",
    "prohibited",
    "stale NXDOMAIN answer",
    "not authoritative",
    "not supported",
    "no reachable authority",
    "network error",
    "invalid data",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes() {
        for (code, text, shown, slug, bogus) in [
            (6, "", "extended error 6 (DNSSEC bogus)", "6-dnssec-bogus", true),
            (7, "long\r\nago", "extended error 7 (signature expired): longago", "7-signature-expired", true),
            (12, "", "extended error 12 (NSEC missing)", "12-nsec-missing", true),
            (13, "x", "extended error 13 (cached error): x", "13-cached-error", false),
            (22, "", "extended error 22 (no reachable authority)", "22-no-reachable-authority", false),
            (999, "", "extended error 999 (unknown)", "999-unknown", false),
        ] {
            let error = ExtendedError::new(code, text);
            assert_eq!((error.to_string().as_str(), error.slug().as_str(), error.is_bogus()), (shown, slug, bogus));
        }
        assert_eq!(ExtendedError::new(0, &"x".repeat(1000)).to_string().len(), "extended error 0 (other): ".len() + MAX_TEXT);
    }
}
