//! Validating a chain, RFC 8617 §5.2.

use super::chain::{Chain, ChainError, Claimed};
use crate::dkim::{Algorithm, Canonicalization, DkimProblem, KeyError, KeyLookup, KeyRecord, canonical_field, lookup_key};
use crate::reader::{HeaderProblem, ReadMessage};
use crate::tags::without_signature;
use crate::together::together;
use mox_base::{Domain, Lookup, LookupError};
use std::fmt;

/// What a chain is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ArcStatus {
    /// There is none.
    None,
    /// Every set is as its handler made it, and the message as the last one saw it.
    Pass,
    /// It is broken.
    Fail,
}

impl ArcStatus {
    /// As in header fields.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Pass => "pass",
            Self::Fail => "fail",
        }
    }
}

impl fmt::Display for ArcStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a chain is broken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArcProblem {
    /// The message's header can't be read.
    #[error(transparent)]
    Header(#[from] HeaderProblem),
    /// The fields make no chain.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The last handler found it broken.
    #[error("chain was found broken by instance {0}")]
    Claimed(usize),
    /// The message isn't what the last handler saw.
    #[error("message signature of instance {0}: {1}")]
    Message(usize, DkimProblem),
    /// A seal doesn't hold.
    #[error("seal of instance {0}: {1}")]
    Seal(usize, DkimProblem),
}

/// What came of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArcOutcome {
    /// The result.
    pub status: ArcStatus,
    /// Who sealed, the first at the start; empty if the fields make no chain.
    pub sealers: Vec<Domain>,
    /// What the newest seal claims about the chain before it.
    pub claimed: Option<Claimed>,
    /// Why it is broken.
    pub problem: Option<ArcProblem>,
    /// Whether all keys were authentic.
    pub authentic: bool,
}

impl ArcOutcome {
    /// For a message without a chain.
    pub const fn none() -> Self {
        Self { status: ArcStatus::None, sealers: Vec::new(), claimed: None, problem: None, authentic: false }
    }

    /// Who handed the message on, if all handlers' sets hold: the domain of the newest set, whose key signed the message as it is.
    pub fn last_sealer(&self) -> Option<&Domain> {
        self.sealers.last().filter(|_| self.status == ArcStatus::Pass)
    }

    /// Whether it failed because DNS did: the chain may hold.
    pub const fn is_unsure(&self) -> bool {
        matches!(
            self.problem,
            Some(ArcProblem::Message(_, DkimProblem::Key(KeyError::Dns(_))) | ArcProblem::Seal(_, DkimProblem::Key(KeyError::Dns(_))))
        )
    }
}

impl ReadMessage {
    /// Whether the message has fields of ARC.
    pub const fn is_sealed(&self) -> bool {
        !matches!(self.arc, Ok(None))
    }

    /// What is known of the chain when there was no time to verify it.
    pub fn unverified_arc(&self) -> ArcOutcome {
        if !self.is_sealed() {
            return ArcOutcome::none();
        }
        let problem = DkimProblem::Key(KeyError::Dns(LookupError::timeout()));
        let problem =
            Some(ArcProblem::Message(self.arc.as_ref().ok().and_then(Option::as_ref).map_or(1, |chain| chain.sets.len()), problem));
        ArcOutcome { status: ArcStatus::Fail, problem, ..ArcOutcome::none() }
    }

    /// What comes of the message's chain.
    pub async fn verify_arc(&self, lookup: &dyn Lookup) -> ArcOutcome {
        let broken = |problem, sealers, claimed, authentic| ArcOutcome {
            status: ArcStatus::Fail,
            sealers,
            claimed,
            problem: Some(problem),
            authentic,
        };
        if let Some(problem) = self.problem {
            return broken(problem.into(), Vec::new(), None, false);
        }
        let chain = match &self.arc {
            Err(e) => return broken(e.clone().into(), Vec::new(), None, false),
            Ok(None) => return ArcOutcome::none(),
            Ok(Some(chain)) => chain,
        };
        let sealers: Vec<Domain> = chain.sets.iter().map(|set| set.seal.domain.clone()).collect();
        let newest = chain.sets.len();
        let claimed = chain.sets.last().map(|set| set.seal.claimed);
        // Step 2. An earlier one can't be mended either.
        if let Some(at) = chain.sets.iter().position(|set| set.seal.claimed == Claimed::Fail) {
            return broken(ArcProblem::Claimed(at.saturating_add(1)), sealers, claimed, false);
        }
        let (keys, authentic) = chain.keys(lookup).await;
        let problem = self.check_chain(chain, newest, keys).err();
        let status = if problem.is_none() { ArcStatus::Pass } else { ArcStatus::Fail };
        ArcOutcome { status, sealers, claimed, problem, authentic }
    }

    /// Steps 4 and 6: the newest message signature, then the seals from the newest to the first.
    fn check_chain(&self, chain: &Chain, newest: usize, keys: Vec<Result<KeyRecord, DkimProblem>>) -> Result<(), ArcProblem> {
        let mut keys = keys.into_iter();
        if let (Some(set), Some(key)) = (chain.sets.last(), keys.next()) {
            let bad = |problem| ArcProblem::Message(newest, problem);
            // A signature that covers seals could never be checked after the next one, RFC 8617 §4.1.2.
            if set.signature.covers("ARC-Seal") {
                return Err(bad(DkimProblem::SignatureMismatch));
            }
            let (key, algorithm) = usable(key, &set.signature.algorithm).map_err(bad)?;
            self.check_signature(&set.signature, &set.message, algorithm, &key).map_err(|(_, problem)| bad(problem))?;
        }
        for (instance, key) in (1..=newest).rev().zip(keys) {
            let bad = |problem| ArcProblem::Seal(instance, problem);
            let Some(set) = chain.sets.get(instance.saturating_sub(1)) else { break };
            let (key, algorithm) = usable(key, &set.seal.algorithm).map_err(bad)?;
            let data = chain.sealed_data(instance);
            key.verify(algorithm, &data, &set.seal.signature).map_err(|_| bad(DkimProblem::SignatureMismatch))?;
        }
        Ok(())
    }
}

/// The key and how to use it, if it may be used.
fn usable(key: Result<KeyRecord, DkimProblem>, algorithm: &str) -> Result<(KeyRecord, Algorithm), DkimProblem> {
    let key = key?;
    let algorithm = Algorithm::of(algorithm).ok_or_else(|| DkimProblem::Algorithm(algorithm.to_owned()))?;
    if key.key_type != algorithm.key_type() {
        return Err(DkimProblem::KeyType);
    }
    if key.key.is_empty() {
        return Err(DkimProblem::Revoked);
    }
    if !key.allows_sha256() {
        return Err(DkimProblem::HashNotAllowed);
    }
    Ok((key, algorithm))
}

impl Chain {
    /// The keys of the newest message signature and of the seals from the newest on, and whether all were authentic.
    async fn keys(&self, lookup: &dyn Lookup) -> (Vec<Result<KeyRecord, DkimProblem>>, bool) {
        let newest = self.sets.last().map(|set| (&set.signature.selector, &set.signature.domain));
        let wanted = newest.into_iter().chain(self.sets.iter().rev().map(|set| (&set.seal.selector, &set.seal.domain)));
        let wanted: Vec<(&Domain, &Domain)> = wanted.collect();
        // Handlers mostly use one key for both, and often handle a message more than once.
        let mut distinct = wanted.clone();
        distinct.sort();
        distinct.dedup();
        let look_up = |(selector, domain)| -> std::pin::Pin<Box<dyn Future<Output = KeyLookup> + Send + '_>> {
            Box::pin(lookup_key(lookup, selector, domain))
        };
        let found = together(distinct.iter().copied().map(look_up).collect()).await;
        let authentic = found.iter().all(|lookup| lookup.authentic);
        let of = |pair: &(&Domain, &Domain)| {
            let lookup = distinct.iter().zip(&found).find(|(d, _)| *d == pair).map(|(_, lookup)| lookup);
            match lookup.map(|l| &l.record) {
                Some(Ok((record, _))) => Ok(record.clone()),
                Some(Err(e)) => Err(DkimProblem::Key(e.clone())),
                None => Err(DkimProblem::BadKey),
            }
        };
        (wanted.iter().map(of).collect(), authentic)
    }

    /// What the seal of an instance signs, RFC 8617 §5.1.1: all fields of all sets up to its own, which is last, without the
    /// signature.
    pub(super) fn sealed_data(&self, instance: usize) -> Vec<u8> {
        let mut data = Vec::new();
        let relaxed = Canonicalization::Relaxed;
        for (number, set) in (1..=instance).zip(&self.sets) {
            canonical_field(relaxed, &set.results, &mut data);
            canonical_field(relaxed, &set.message, &mut data);
            if number == instance {
                canonical_field(relaxed, &without_signature(&set.seal_field), &mut data);
            } else {
                canonical_field(relaxed, &set.seal_field, &mut data);
            }
        }
        data
    }
}
