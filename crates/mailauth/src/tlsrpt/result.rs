//! Results of sessions, by policy. RFC 8460 §4.3.

use std::fmt;

/// What went wrong, RFC 8460 §4.3.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ResultType {
    /// STARTTLS isn't offered, or refused.
    StarttlsNotSupported,
    /// The certificate is for other names.
    CertificateHostMismatch,
    /// The certificate has expired.
    CertificateExpired,
    /// TLSA records that can't be used, or that match nothing.
    TlsaInvalid,
    /// DNSSEC validation failed.
    DnssecInvalid,
    /// DANE is wanted, and there is none.
    DaneRequired,
    /// The certificate comes from somebody we don't trust.
    CertificateNotTrusted,
    /// The MTA-STS policy can't be understood.
    StsPolicyInvalid,
    /// The host of the MTA-STS policy has no valid certificate.
    StsWebpkiInvalid,
    /// Anything else.
    ValidationFailure,
    /// The MTA-STS policy can't be had.
    StsPolicyFetchError,
    /// A word that the RFC doesn't have, in a report of somebody else.
    Other(String),
}

const WORDS: [(ResultType, &str); 11] = [
    (ResultType::StarttlsNotSupported, "starttls-not-supported"),
    (ResultType::CertificateHostMismatch, "certificate-host-mismatch"),
    (ResultType::CertificateExpired, "certificate-expired"),
    (ResultType::TlsaInvalid, "tlsa-invalid"),
    (ResultType::DnssecInvalid, "dnssec-invalid"),
    (ResultType::DaneRequired, "dane-required"),
    (ResultType::CertificateNotTrusted, "certificate-not-trusted"),
    (ResultType::StsPolicyInvalid, "sts-policy-invalid"),
    (ResultType::StsWebpkiInvalid, "sts-webpki-invalid"),
    (ResultType::ValidationFailure, "validation-failure"),
    (ResultType::StsPolicyFetchError, "sts-policy-fetch-error"),
];

impl ResultType {
    /// The word in reports.
    pub fn word(&self) -> &str {
        match self {
            Self::Other(word) => word,
            known => WORDS.iter().find(|(kind, _)| kind == known).map_or("validation-failure", |(_, word)| word),
        }
    }
}

impl From<&str> for ResultType {
    fn from(word: &str) -> Self {
        WORDS.iter().find(|(_, w)| *w == word).map_or_else(|| Self::Other(word.to_owned()), |(kind, _)| kind.clone())
    }
}

impl fmt::Display for ResultType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// What a policy rests on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PolicyKind {
    /// DANE.
    Tlsa,
    /// MTA-STS.
    Sts,
    /// Neither.
    NoPolicyFound,
    /// A word that the RFC doesn't have, in a report of somebody else.
    Other(String),
}

impl PolicyKind {
    /// The word in reports.
    pub fn word(&self) -> &str {
        match self {
            Self::Tlsa => "tlsa",
            Self::Sts => "sts",
            Self::NoPolicyFound => "no-policy-found",
            Self::Other(word) => word,
        }
    }
}

impl From<&str> for PolicyKind {
    fn from(word: &str) -> Self {
        match word {
            "tlsa" => Self::Tlsa,
            "sts" => Self::Sts,
            "no-policy-found" => Self::NoPolicyFound,
            other => Self::Other(other.to_owned()),
        }
    }
}

/// The policy that results are about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyOf {
    /// What it rests on.
    pub kind: PolicyKind,
    /// The policy itself: lines of MTA-STS, or TLSA records.
    pub strings: Vec<String>,
    /// The domain in A-labels: of the recipient, or the TLSA base domain.
    pub domain: String,
    /// Hosts that an MTA-STS policy allows; in reports to hosts, the host.
    pub mx_hosts: Vec<String>,
}

/// One way of failing, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailureDetail {
    /// What went wrong.
    pub result: ResultType,
    /// Our address.
    pub sending_ip: String,
    /// The host's name.
    pub mx_hostname: String,
    /// What it calls itself in its greeting.
    pub mx_helo: String,
    /// Its address.
    pub receiving_ip: String,
    /// Sessions that failed this way; may be 0 for faults that were ignored.
    pub sessions: u64,
    /// More about it; may be empty.
    pub information: String,
    /// A more precise reason; may be empty.
    pub reason: String,
}

impl FailureDetail {
    /// A fault that isn't tied to a connection.
    pub fn new(result: ResultType, reason: impl Into<String>, sessions: u64) -> Self {
        Self {
            result,
            sending_ip: String::new(),
            mx_hostname: String::new(),
            mx_helo: String::new(),
            receiving_ip: String::new(),
            sessions,
            information: String::new(),
            reason: reason.into(),
        }
    }

    fn is_like(&self, other: &Self) -> bool {
        Self { sessions: 0, ..self.clone() } == Self { sessions: 0, ..other.clone() }
    }
}

/// Sessions under one policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyResult {
    /// The policy.
    pub policy: PolicyOf,
    /// Sessions that went well.
    pub success: u64,
    /// Sessions that failed.
    pub failure: u64,
    /// How they failed.
    pub details: Vec<FailureDetail>,
}

/// Ways of failing that are kept apart for one policy; what more there is only counts as failed.
const MAX_DETAILS: usize = 200;

impl PolicyResult {
    /// No sessions yet.
    pub fn new(kind: PolicyKind, domain: &str) -> Self {
        let policy = PolicyOf { kind, strings: Vec::new(), domain: domain.to_owned(), mx_hosts: Vec::new() };
        Self { policy, success: 0, failure: 0, details: Vec::new() }
    }

    /// Adds a way of failing to those that are there.
    pub fn add(&mut self, detail: FailureDetail) {
        if let Some(same) = self.details.iter_mut().find(|d| d.is_like(&detail)) {
            same.sessions = same.sessions.saturating_add(detail.sessions);
        } else if self.details.len() < MAX_DETAILS {
            self.details.push(detail);
        }
    }
}

/// Adds results to those that are there: counts of equal policies and equal faults are added up.
pub fn merge(results: &mut Vec<PolicyResult>, more: impl IntoIterator<Item = PolicyResult>) {
    for new in more {
        if let Some(same) = results.iter_mut().find(|r| r.policy == new.policy) {
            same.success = same.success.saturating_add(new.success);
            same.failure = same.failure.saturating_add(new.failure);
            for detail in new.details {
                same.add(detail);
            }
        } else {
            results.push(new);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_ones_are_added_up() {
        let mut one = PolicyResult { success: 1, ..PolicyResult::new(PolicyKind::Sts, "a.example") };
        one.add(FailureDetail::new(ResultType::CertificateExpired, "", 1));
        let mut two = PolicyResult { failure: 2, ..PolicyResult::new(PolicyKind::Sts, "a.example") };
        two.add(FailureDetail::new(ResultType::CertificateExpired, "", 1));
        two.add(FailureDetail::new(ResultType::CertificateExpired, "other", 1));
        let mut results = vec![one];
        merge(&mut results, [two, PolicyResult::new(PolicyKind::Tlsa, "a.example")]);
        assert_eq!(results.len(), 2);
        assert_eq!((results[0].success, results[0].failure), (1, 2));
        assert_eq!(results[0].details.iter().map(|d| d.sessions).collect::<Vec<_>>(), [2, 1]);
    }

    #[test]
    fn details_are_bounded() {
        let mut result = PolicyResult::new(PolicyKind::Sts, "a.example");
        for n in 0..1000 {
            result.add(FailureDetail::new(ResultType::ValidationFailure, n.to_string(), 1));
        }
        assert_eq!(result.details.len(), MAX_DETAILS);
    }

    #[test]
    fn words() {
        for (kind, word) in WORDS {
            assert_eq!(kind.word(), word);
            assert_eq!(ResultType::from(word), kind);
        }
        assert_eq!(ResultType::from("new-one").to_string(), "new-one");
    }
}
