//! Verifying signatures, RFC 6376 §6.
//!
//! What a signature claims is checked before its key is looked up, so that hopeless ones cost no lookup. Keys of all signatures
//! are looked up at once. Each signature gets its own result; none decides about the message.

use super::record::{KeyError, KeyLookup, KeyRecord, VerifyError, lookup_key};
use super::sign::signed_data;
use super::signature::{Algorithm, Signature};
use crate::reader::{Candidate, HeaderProblem, ReadMessage};
use crate::suffix::is_public_suffix;
use crate::tags::{TagError, without_signature};
use crate::together::together;
use mox_base::{Domain, Lookup, LookupError, Timestamp};
use mox_message::Headers;
use std::fmt;
use std::time::Duration;

/// How far clocks may differ before a signature counts as expired.
const SKEW: Duration = Duration::from_secs(300);

/// How far in the future a signature may have been made: clocks of senders are sometimes set to local time.
const MAX_FUTURE: Duration = Duration::from_secs(24 * 3600);

/// What came of a signature, RFC 8601 §2.7.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DkimStatus {
    /// Not signed, or by a domain that only tests.
    None,
    /// The domain takes responsibility for the message.
    Pass,
    /// The signature doesn't match the message.
    Fail,
    /// It may match, but isn't acceptable.
    Policy,
    /// DNS failed; asking again later may help.
    Temperror,
    /// It can't be verified, now or later.
    Permerror,
}

impl DkimStatus {
    /// As in header fields.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Policy => "policy",
            Self::Temperror => "temperror",
            Self::Permerror => "permerror",
        }
    }
}

impl fmt::Display for DkimStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a signature didn't pass.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DkimProblem {
    /// The field can't be read.
    #[error("bad signature: {0}")]
    Syntax(#[from] TagError),
    /// RFC 6376 §5.4.
    #[error("from header is not signed")]
    FromNotSigned,
    /// Its `x=` is past.
    #[error("signature is expired")]
    Expired,
    /// Its `t=` is more than a day ahead.
    #[error("signature is from the future")]
    Future,
    /// Nobody can speak for all domains below a public suffix.
    #[error("signing domain is a top-level domain or public suffix")]
    PublicSuffix,
    /// Not one of those we verify.
    #[error("algorithm {0} is not supported")]
    Algorithm(String),
    /// Neither simple nor relaxed.
    #[error("unknown canonicalization")]
    Canonicalization,
    /// None but `dns/txt` is defined.
    #[error("unknown query method")]
    QueryMethod,
    /// Anything could be appended.
    #[error("body length is limited")]
    BodyLength,
    /// It could be any other.
    #[error("subject header is not signed")]
    SubjectNotSigned,
    /// No key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The key's `h=`.
    #[error("key does not allow the hash algorithm")]
    HashNotAllowed,
    /// The key's `k=`.
    #[error("key is of another type than the signature")]
    KeyType,
    /// An empty key, RFC 6376 §3.6.1.
    #[error("key is revoked")]
    Revoked,
    /// The key's `p=` isn't what its `k=` says.
    #[error("unusable public key")]
    BadKey,
    /// RFC 8301 §3.2.
    #[error("rsa key is too small")]
    WeakKey,
    /// More than 4096 bits.
    #[error("rsa key is too large")]
    LargeKey,
    /// The key's `s=`.
    #[error("key is not for email")]
    NotForEmail,
    /// The key's `t=s`.
    #[error("key is not for subdomains of the signing domain")]
    Subdomain,
    /// The header was changed, or signed with another key.
    #[error("signature does not match")]
    SignatureMismatch,
    /// The body was changed.
    #[error("body hash does not match")]
    BodyMismatch,
}

/// What came of a signature, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DkimOutcome {
    /// The result.
    pub status: DkimStatus,
    /// The signature; none if it can't be read.
    pub signature: Option<Signature>,
    /// The key, with the text of its record, if there was one.
    pub record: Option<(KeyRecord, String)>,
    /// Whether the key, or its absence, was authentic.
    pub authentic: bool,
    /// Why it isn't pass.
    pub problem: Option<DkimProblem>,
}

impl DkimOutcome {
    /// The domain that vouches for the message, if it passed.
    pub fn verified_domain(&self) -> Option<&Domain> {
        self.signature.as_ref().filter(|_| self.status == DkimStatus::Pass).map(|s| &s.domain)
    }
}

/// How signatures are judged.
#[derive(Clone, Copy, Debug)]
pub struct DkimSettings<'a> {
    /// The time.
    pub now: Timestamp,
    /// A domain whose signatures count although it is a top-level domain: `localhost`, for trying things out.
    pub accept_top_level: Option<&'a Domain>,
}

impl ReadMessage {
    /// What comes of each signature of DKIM, in order.
    ///
    /// # Errors
    /// The header section can't be read.
    pub async fn verify_dkim(&self, lookup: &dyn Lookup, settings: &DkimSettings<'_>) -> Result<Vec<DkimOutcome>, HeaderProblem> {
        if let Some(problem) = self.problem {
            return Err(problem);
        }
        let verify = |candidate| -> std::pin::Pin<Box<dyn Future<Output = DkimOutcome> + Send + '_>> {
            Box::pin(self.verify_one(lookup, settings, candidate))
        };
        Ok(together(self.dkim.iter().map(verify).collect()).await)
    }

    /// What is known of the signatures when there was no time to verify them.
    pub fn unverified_dkim(&self) -> Vec<DkimOutcome> {
        let problem = || DkimProblem::Key(KeyError::Dns(LookupError::timeout()));
        let outcome = |candidate: &Candidate| DkimOutcome {
            status: DkimStatus::Temperror,
            signature: candidate.signature.as_ref().ok().cloned(),
            record: None,
            authentic: false,
            problem: Some(problem()),
        };
        self.dkim.iter().map(outcome).collect()
    }

    async fn verify_one(&self, lookup: &dyn Lookup, settings: &DkimSettings<'_>, candidate: &Candidate) -> DkimOutcome {
        let signature = match &candidate.signature {
            Ok(signature) => signature,
            Err(e) => {
                let problem = Some(DkimProblem::Syntax(e.clone()));
                return DkimOutcome { status: DkimStatus::Permerror, signature: None, record: None, authentic: false, problem };
            }
        };
        let outcome = |(status, problem): (DkimStatus, Option<DkimProblem>), record, authentic| DkimOutcome {
            status,
            signature: Some(signature.clone()),
            record,
            authentic,
            problem,
        };
        let algorithm = match precheck(signature, settings) {
            Ok(algorithm) => algorithm,
            Err((status, problem)) => return outcome((status, Some(problem)), None, false),
        };
        let KeyLookup { record, authentic } = lookup_key(lookup, &signature.selector, &signature.domain).await;
        let (record, text) = match record {
            Ok(found) => found,
            Err(e) => {
                let status = match e {
                    KeyError::NotFound | KeyError::Syntax(_) => DkimStatus::Permerror,
                    KeyError::Dns(_) | KeyError::NotDkim | KeyError::Several => DkimStatus::Temperror,
                };
                return outcome((status, Some(e.into())), None, authentic);
            }
        };
        let result = match self.check(signature, &candidate.raw, algorithm, &record) {
            Ok(()) => (DkimStatus::Pass, None),
            // The domain only tests: as if not signed, RFC 6376 §3.6.1.
            Err((_, problem)) if record.has_flag("y") => (DkimStatus::None, Some(problem)),
            Err((status, problem)) => (status, Some(problem)),
        };
        outcome(result, Some((record, text)), authentic)
    }

    fn check(&self, signature: &Signature, raw: &[u8], algorithm: Algorithm, record: &KeyRecord) -> Result<(), (DkimStatus, DkimProblem)> {
        let permanent = |problem| Err((DkimStatus::Permerror, problem));
        if !record.allows_sha256() {
            return permanent(DkimProblem::HashNotAllowed);
        }
        if record.key_type != algorithm.key_type() {
            return permanent(DkimProblem::KeyType);
        }
        if record.key.is_empty() {
            return permanent(DkimProblem::Revoked);
        }
        if !record.is_for_email() {
            return permanent(DkimProblem::NotForEmail);
        }
        if record.has_flag("s") && signature.identity.as_ref().is_some_and(|(_, domain)| *domain != signature.domain) {
            return permanent(DkimProblem::Subdomain);
        }
        self.check_signature(signature, raw, algorithm, record)
    }

    /// Whether header and body are what was signed.
    pub(crate) fn check_signature(
        &self,
        signature: &Signature,
        raw: &[u8],
        algorithm: Algorithm,
        record: &KeyRecord,
    ) -> Result<(), (DkimStatus, DkimProblem)> {
        let (header, body) = signature.canonicalization.ok_or((DkimStatus::Permerror, DkimProblem::Canonicalization))?;
        let names: Vec<&str> = signature.headers.iter().map(String::as_str).collect();
        let data = signed_data(&Headers::new(&self.header), &names, header, &without_signature(raw));
        record.verify(algorithm, &data, &signature.signature).map_err(|e| match e {
            VerifyError::Key => (DkimStatus::Permerror, DkimProblem::BadKey),
            VerifyError::Weak => (DkimStatus::Permerror, DkimProblem::WeakKey),
            VerifyError::Large => (DkimStatus::Permerror, DkimProblem::LargeKey),
            VerifyError::Mismatch => (DkimStatus::Fail, DkimProblem::SignatureMismatch),
        })?;
        if self.body_hash(body, signature.length).is_some_and(|hash| hash.as_slice() == signature.body_hash) {
            Ok(())
        } else {
            Err((DkimStatus::Fail, DkimProblem::BodyMismatch))
        }
    }
}

/// What can be said of a signature without its key.
fn precheck(signature: &Signature, settings: &DkimSettings<'_>) -> Result<Algorithm, (DkimStatus, DkimProblem)> {
    let permanent = |problem| Err((DkimStatus::Permerror, problem));
    if !signature.covers("From") {
        return permanent(DkimProblem::FromNotSigned);
    }
    let seconds = |t: Timestamp| u64::try_from(t.secs()).unwrap_or(0);
    if signature.expires.is_some_and(|expires| expires < seconds(settings.now.before(SKEW))) {
        return permanent(DkimProblem::Expired);
    }
    if signature.signed_at.is_some_and(|signed| signed > seconds(settings.now.after(MAX_FUTURE))) {
        return permanent(DkimProblem::Future);
    }
    if is_public_suffix(&signature.domain) && settings.accept_top_level != Some(&signature.domain) {
        return permanent(DkimProblem::PublicSuffix);
    }
    let Some(algorithm) = Algorithm::of(&signature.algorithm) else {
        return permanent(DkimProblem::Algorithm(signature.algorithm.clone()));
    };
    if signature.canonicalization.is_none() {
        return permanent(DkimProblem::Canonicalization);
    }
    let methods = &signature.query_methods;
    if !methods.is_empty() && !methods.iter().any(|q| q.eq_ignore_ascii_case("dns/txt")) {
        return permanent(DkimProblem::QueryMethod);
    }
    if signature.length.is_some() {
        return Err((DkimStatus::Policy, DkimProblem::BodyLength));
    }
    if !signature.covers("Subject") {
        return Err((DkimStatus::Policy, DkimProblem::SubjectNotSigned));
    }
    Ok(algorithm)
}
