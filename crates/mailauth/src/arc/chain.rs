//! The ARC sets of a message, RFC 8617 §4, put in order.

use crate::dkim::{Flavor, Signature};
use crate::tags::{TagError, Tags, base64};
use mox_base::Domain;
use mox_message::{Field, Headers};
use std::collections::BTreeMap;

/// RFC 8617 §4.2.1.
pub(super) const MAX_SETS: u8 = 50;

/// What a seal says about the chain before it, RFC 8617 §4.4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// It is the first.
    None,
    /// The chain was good.
    Pass,
    /// It was broken.
    Fail,
}

impl Claimed {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Pass => "pass",
            Self::Fail => "fail",
        }
    }
}

/// Why header fields are no chain; it counts as broken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// A field that can't be read.
    #[error("bad {0}: {1}")]
    Syntax(&'static str, TagError),
    /// Numbers are 1 to 50.
    #[error("bad instance number in {0}")]
    Instance(&'static str),
    /// A field that its set has already.
    #[error("duplicate {0} of instance {1}")]
    Duplicate(&'static str, u8),
    /// A set without one of its three fields, or a number that is left out.
    #[error("incomplete arc set {0}")]
    Incomplete(u8),
    /// A seal that may not be there: `none` later than first, `pass` first.
    #[error("seal of instance {0} claims what it can't")]
    Claim(u8),
}

/// The sets of a message, the first at the start. At least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    pub(super) sets: Vec<ArcSet>,
}

/// The fields that one handler added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ArcSet {
    /// `ARC-Authentication-Results`.
    pub(super) results: Vec<u8>,
    /// `ARC-Message-Signature`.
    pub(super) message: Vec<u8>,
    pub(super) signature: Signature,
    /// `ARC-Seal`.
    pub(super) seal_field: Vec<u8>,
    pub(super) seal: Seal,
}

/// The values of `ARC-Seal`, RFC 8617 §4.1.3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seal {
    pub(super) algorithm: String,
    pub(super) claimed: Claimed,
    pub(super) domain: Domain,
    pub(super) selector: Domain,
    pub(super) signature: Vec<u8>,
}

#[derive(Default)]
struct Partial {
    results: Option<Vec<u8>>,
    message: Option<(Vec<u8>, Signature)>,
    seal: Option<(Vec<u8>, Seal)>,
}

const RESULTS: &str = "ARC-Authentication-Results";
const MESSAGE: &str = "ARC-Message-Signature";
const SEAL: &str = "ARC-Seal";

impl Chain {
    /// The chain of a message; none if it has no fields of ARC.
    ///
    /// # Errors
    /// See [`ChainError`].
    pub(crate) fn find(headers: &Headers<'_>) -> Result<Option<Self>, ChainError> {
        let mut partial: BTreeMap<u8, Partial> = BTreeMap::new();
        for field in headers.fields() {
            if field.is(RESULTS) {
                let instance = results_instance(&field)?;
                fill(&mut partial.entry(instance).or_default().results, field.raw.to_vec(), RESULTS, instance)?;
            } else if field.is(MESSAGE) {
                let text = String::from_utf8_lossy(field.value);
                let instance = instance(&text, MESSAGE)?;
                let signature = Signature::parse(&text, Flavor::Arc).map_err(|e| ChainError::Syntax(MESSAGE, e))?;
                fill(&mut partial.entry(instance).or_default().message, (field.raw.to_vec(), signature), MESSAGE, instance)?;
            } else if field.is(SEAL) {
                let text = String::from_utf8_lossy(field.value);
                let instance = instance(&text, SEAL)?;
                let seal = Seal::parse(&text).map_err(|e| ChainError::Syntax(SEAL, e))?;
                fill(&mut partial.entry(instance).or_default().seal, (field.raw.to_vec(), seal), SEAL, instance)?;
            }
        }
        if partial.is_empty() {
            return Ok(None);
        }
        let mut sets = Vec::with_capacity(partial.len());
        for (number, (instance, set)) in (1_u8..).zip(partial) {
            let (Some(results), Some((message, signature)), Some((seal_field, seal))) = (set.results, set.message, set.seal) else {
                return Err(ChainError::Incomplete(instance));
            };
            if instance != number {
                return Err(ChainError::Incomplete(number));
            }
            // RFC 8617 §5.2 step 3.
            if (seal.claimed == Claimed::None) != (instance == 1) && seal.claimed != Claimed::Fail {
                return Err(ChainError::Claim(instance));
            }
            sets.push(ArcSet { results, message, signature, seal_field, seal });
        }
        Ok(Some(Self { sets }))
    }

    /// The message signature that has to hold.
    pub(crate) fn newest_signature(&self) -> Option<&Signature> {
        self.sets.last().map(|set| &set.signature)
    }
}

fn fill<T>(slot: &mut Option<T>, value: T, what: &'static str, instance: u8) -> Result<(), ChainError> {
    if slot.is_some() {
        return Err(ChainError::Duplicate(what, instance));
    }
    *slot = Some(value);
    Ok(())
}

/// The number in `i=` of a tag list.
fn instance(text: &str, what: &'static str) -> Result<u8, ChainError> {
    let tags = Tags::parse(text).map_err(|e| ChainError::Syntax(what, e))?;
    number(tags.require("i").map_err(|e| ChainError::Syntax(what, e))?).ok_or(ChainError::Instance(what))
}

/// The number at the start of `ARC-Authentication-Results`, RFC 8617 §4.1.1.
fn results_instance(field: &Field<'_>) -> Result<u8, ChainError> {
    let text = field.text();
    let first = text.split(';').next().unwrap_or_default();
    let value = first.split_once('=').filter(|(name, _)| name.trim() == "i").map(|(_, value)| value.trim());
    value.and_then(number).ok_or(ChainError::Instance(RESULTS))
}

fn number(text: &str) -> Option<u8> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|n| digits && (1..=MAX_SETS).contains(n))
}

impl Seal {
    fn parse(text: &str) -> Result<Self, TagError> {
        let tags = Tags::parse(text)?;
        // A seal covers ARC's fields and nothing else, RFC 8617 §4.1.3.
        if tags.find("h").is_some() {
            return Err(TagError::Value("h"));
        }
        let claimed = match tags.require("cv")?.to_ascii_lowercase().as_str() {
            "none" => Claimed::None,
            "pass" => Claimed::Pass,
            "fail" => Claimed::Fail,
            _ => return Err(TagError::Value("cv")),
        };
        tags.number("t")?;
        Ok(Self {
            algorithm: tags.require("a")?.to_ascii_lowercase(),
            claimed,
            domain: Domain::parse_lax(tags.require("d")?).map_err(|_| TagError::Value("d"))?,
            selector: Domain::parse_lax(tags.require("s")?).map_err(|_| TagError::Value("s"))?,
            signature: base64(tags.require("b")?).ok_or(TagError::Value("b"))?,
        })
    }
}
