//! Validation of our own: hickory, from the root's keys.
//!
//! Whether an answer is authentic comes from the proof of each of its records, the aliases followed included, never from
//! a reply's AD flag.

use super::record::{record, record_type};
use super::system::System;
use super::wildcard::Wildcards;
use super::{Found, ResolverLimits};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::ResolverOpts;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::dnssec::Proof;
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{self, Name, RecordType};
use mox_base::{Answer, ExtendedError, LookupError, Record, RecordKind};
use std::sync::Arc;
use std::time::Duration;

/// How many aliases are followed one by one.
const MAX_ALIASES: usize = 8;

/// hickory with the system's name servers.
#[derive(Debug)]
pub(super) struct Hickory {
    resolver: TokioResolver,
    /// For answers that hickory doesn't believe.
    wildcards: Option<Wildcards>,
    validates: bool,
}

impl Hickory {
    /// One that validates.
    ///
    /// # Errors
    /// When hickory refuses its configuration.
    pub(super) fn validating(system: &System, limits: &ResolverLimits) -> Result<Self, LookupError> {
        Self::new(system, limits, true)
    }

    /// One that takes answers as they come, none of them authentic.
    ///
    /// # Errors
    /// When hickory refuses its configuration.
    pub(super) fn plain(system: &System, limits: &ResolverLimits) -> Result<Self, LookupError> {
        Self::new(system, limits, false)
    }

    fn new(system: &System, limits: &ResolverLimits, validates: bool) -> Result<Self, LookupError> {
        let mut builder = TokioResolver::builder_with_config(system.config.clone(), TokioRuntimeProvider::default());
        *builder.options_mut() = options(system, limits, validates);
        if let Some(anchors) = system.anchors.as_ref().filter(|_| validates) {
            builder = builder.with_trust_anchor(Arc::clone(&anchors.0));
        }
        let resolver = builder.build().map_err(|e| LookupError::Temporary(e.to_string()))?;
        Ok(Self { resolver, wildcards: validates.then(|| Wildcards::new(system, limits)).transpose()?, validates })
    }

    /// Whether the name servers give us what validation needs.
    ///
    /// # Errors
    /// When they don't answer now.
    pub(super) async fn is_possible(&self) -> Result<bool, LookupError> {
        // The root is signed for certain: without a proof for it, there won't be one for anything.
        match self.resolver.lookup(Name::root(), RecordType::NS).await {
            Ok(answer) => Ok(authentic(answer.answers())),
            Err(NetError::Dns(_)) => Ok(false),
            Err(e) => Err(error(e)),
        }
    }

    /// The records of a kind at an absolute name.
    ///
    /// # Errors
    /// See [`LookupError`].
    pub(super) async fn query(&self, name: Name, kind: RecordKind) -> Found {
        match self.validated(name.clone(), kind).await {
            // hickory wants a denial at the end of aliases to be one of the first name, and takes it for bogus.
            Err(bogus @ LookupError::Bogus(_)) if kind != RecordKind::Cname => self.along_aliases(name, kind).await.unwrap_or(Err(bogus)),
            found => found,
        }
    }

    /// The same, with each alias on the way looked up and validated by itself; none if that doesn't lead anywhere.
    async fn along_aliases(&self, mut name: Name, kind: RecordKind) -> Option<Found> {
        let mut authentic = true;
        for _ in 0..MAX_ALIASES {
            let alias = self.validated(name, RecordKind::Cname).await.ok()?;
            let [Record::Cname(target)] = alias.records.as_slice() else { return None };
            authentic &= alias.authentic;
            name = Name::from_ascii(target).ok()?;
            name.set_fqdn(true);
            match self.validated(name.clone(), kind).await {
                Ok(answer) => return Some(Ok(Answer { authentic: authentic && answer.authentic, ..answer })),
                Err(LookupError::NotFound { authentic: proven }) => {
                    return Some(Err(LookupError::NotFound { authentic: authentic && proven }));
                }
                // Perhaps an alias again.
                Err(LookupError::Bogus(_)) => {}
                Err(e) => return Some(Err(e)),
            }
        }
        None
    }

    async fn validated(&self, name: Name, kind: RecordKind) -> Found {
        match (self.ask(name.clone(), kind).await, &self.wildcards) {
            (Err(LookupError::Bogus(_)), Some(wildcards)) => wildcards.query(&name, kind).await.map_err(LookupError::Bogus),
            (found, _) => found,
        }
    }

    async fn ask(&self, name: Name, kind: RecordKind) -> Found {
        let found = match self.resolver.lookup(name.clone(), record_type(kind)).await {
            Ok(found) => found,
            Err(NetError::Dns(DnsError::NoRecordsFound(none))) if is_denial(none.response_code) => {
                // A denial that hickory could prove comes this way, too. That of another name is one at the end of aliases.
                let proven = self.validates && *none.query.name() == name && none.authorities.as_deref().is_some_and(denies);
                return Err(LookupError::NotFound { authentic: proven });
            }
            Err(e) => return Err(error(e)),
        };
        let answers = found.answers();
        let records: Vec<Record> =
            answers.iter().filter(|r| r.record_type() == record_type(kind)).filter_map(|r| record(&r.data)).collect();
        let authentic = self.validates && authentic(answers);
        if records.is_empty() {
            return Err(LookupError::NotFound { authentic });
        }
        let ttl = answers.iter().map(|r| r.ttl).min().unwrap_or(0);
        Ok(Answer { records, authentic, ttl: Duration::from_secs(u64::from(ttl)) })
    }
}

/// What hickory is told.
pub(super) fn options(system: &System, limits: &ResolverLimits, validates: bool) -> ResolverOpts {
    let mut options = system.options.clone();
    options.timeout = options.timeout.min(limits.attempt);
    options.cache_size = limits.cache_entries;
    options.positive_max_ttl = Some(limits.positive_ttl);
    options.negative_max_ttl = Some(limits.negative_ttl);
    options.edns0 = true;
    options.preserve_intermediates = true;
    options.validate = validates;
    options
}

const fn is_denial(code: ResponseCode) -> bool {
    matches!(code, ResponseCode::NXDomain | ResponseCode::NoError)
}

/// Whether the records beside an empty answer are all validated, with the proof that there is nothing among them.
fn denies(authorities: &[rr::Record]) -> bool {
    authentic(authorities) && authorities.iter().any(|r| matches!(r.record_type(), RecordType::NSEC | RecordType::NSEC3))
}

/// Whether every record has been validated; signatures themselves don't count.
fn authentic(answers: &[rr::Record]) -> bool {
    let mut records = answers.iter().filter(|r| r.record_type() != RecordType::RRSIG).peekable();
    records.peek().is_some() && records.all(|r| r.proof == Proof::Secure)
}

/// For a start: [`Wildcards`] looks for the reason.
fn bogus() -> LookupError {
    LookupError::Bogus(ExtendedError::new(ExtendedError::BOGUS, ""))
}

fn error(e: NetError) -> LookupError {
    match e {
        NetError::Dns(DnsError::NoRecordsFound(none)) => LookupError::Temporary(none.response_code.to_string()),
        NetError::Dns(DnsError::Nsec { response, proof, .. }) => {
            let denied = is_denial(response.response_code);
            match proof {
                _ if !denied => LookupError::Temporary(response.response_code.to_string()),
                // A denial through aliases is proven only if the aliases are.
                Proof::Secure => {
                    let aliases = response.answers.iter().filter(|r| r.record_type() != RecordType::RRSIG);
                    LookupError::NotFound { authentic: aliases.into_iter().all(|r| r.proof == Proof::Secure) }
                }
                Proof::Insecure => LookupError::NotFound { authentic: false },
                Proof::Bogus => bogus(),
                Proof::Indeterminate => LookupError::Temporary("denial of existence can't be validated".into()),
            }
        }
        NetError::Dns(DnsError::DnssecBogus) => bogus(),
        NetError::Timeout => LookupError::timeout(),
        e => LookupError::Temporary(e.to_string()),
    }
}
