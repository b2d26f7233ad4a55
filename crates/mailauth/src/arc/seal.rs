//! Adding a set to a message that is handed on, RFC 8617 §5.1.

use super::chain::{Claimed, MAX_SETS};
use super::verify::{ArcOutcome, ArcStatus};
use crate::dkim::{Canonicalization, DkimSelector, canonical_field, signed_data};
use crate::reader::ReadMessage;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mox_base::{Domain, Timestamp};
use mox_message::Headers;
use mox_message::fold::FoldedField;

/// Who seals, and what is to be said.
#[derive(Clone, Copy, Debug)]
pub struct Sealing<'a> {
    /// The domain that seals.
    pub domain: &'a Domain,
    /// Its key.
    pub selector: &'a DkimSelector,
    /// The value of our `Authentication-Results`: what we found out.
    pub results: &'a str,
    /// The time.
    pub now: Timestamp,
}

/// Why a message isn't sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The chain was found broken before, or its fields make none: nobody may add to it, RFC 8617 §5.1.
    #[error("chain is broken")]
    Broken,
    /// It has 50 sets already.
    #[error("chain is full")]
    Full,
    /// Whether the chain holds isn't known.
    #[error("chain could not be verified")]
    Unsure,
    /// The message was read without hashing it for sealing, or its header can't be read.
    #[error("message was not read for sealing")]
    NotRead,
    /// The key failed.
    #[error("signing failed")]
    Key,
}

/// The three fields of a new set, each with its line break. They go in front of the message.
///
/// # Errors
/// See [`SealError`].
pub fn seal(message: &ReadMessage, chain: &ArcOutcome, sealing: &Sealing<'_>) -> Result<String, SealError> {
    let before = match &message.arc {
        Ok(before) => before.as_ref(),
        Err(_) => return Err(SealError::Broken),
    };
    if chain.claimed == Some(Claimed::Fail) {
        return Err(SealError::Broken);
    }
    // What is said of a chain stays for ever, RFC 8617 §5.1.1.
    if chain.is_unsure() {
        return Err(SealError::Unsure);
    }
    let sets = before.map_or(0, |chain| chain.sets.len());
    if sets >= usize::from(MAX_SETS) {
        return Err(SealError::Full);
    }
    let instance = sets.saturating_add(1);
    let hash = message.body_hash(Canonicalization::Relaxed, None).filter(|_| message.problem.is_none()).ok_or(SealError::NotRead)?;
    let mut results = FoldedField::new("ARC-Authentication-Results");
    results.token(&format!("i={instance};")).text(sealing.results);
    let results = results.finish();
    let signature = message_signature(message, sealing, instance, hash)?;
    let claimed = match chain.status {
        ArcStatus::None => Claimed::None,
        ArcStatus::Pass => Claimed::Pass,
        ArcStatus::Fail => Claimed::Fail,
    };
    let mut seal = FoldedField::new("ARC-Seal");
    seal.token(&format!("i={instance};")).token(&format!("a={};", sealing.selector.key.algorithm()));
    seal.token(&format!("t={};", sealing.now.secs())).token(&format!("cv={};", claimed.name()));
    seal.token(&format!("d={};", sealing.domain.ascii())).token(&format!("s={};", sealing.selector.name.ascii()));
    seal.token("b=");
    // A broken chain is left out: its fields may be anything, RFC 8617 §5.1.2.
    let mut data = Vec::new();
    if let (Some(before), ArcStatus::Pass) = (before, chain.status) {
        let relaxed = Canonicalization::Relaxed;
        for set in &before.sets {
            [&set.results, &set.message, &set.seal_field].into_iter().for_each(|field| canonical_field(relaxed, field, &mut data));
        }
    }
    canonical_field(Canonicalization::Relaxed, results.as_bytes(), &mut data);
    canonical_field(Canonicalization::Relaxed, signature.as_bytes(), &mut data);
    canonical_field(Canonicalization::Relaxed, seal.finish().trim_end().as_bytes(), &mut data);
    let sealed = sealing.selector.key.sign(&data).ok_or(SealError::Key)?;
    Ok(format!("{}{signature}{results}", seal.data(&STANDARD.encode(sealed)).finish()))
}

/// `ARC-Message-Signature`, relaxed in header and body: more handlers may follow.
fn message_signature(message: &ReadMessage, sealing: &Sealing<'_>, instance: usize, hash: &[u8]) -> Result<String, SealError> {
    let headers = Headers::new(message.header());
    let selector = sealing.selector;
    let signed = selector.headers.iter().map(String::as_str).chain(["MIME-Version", "DKIM-Signature"]);
    let names: Vec<&str> = signed.flat_map(|name| headers.all(name).map(move |_| name)).collect();
    let mut f = FoldedField::new("ARC-Message-Signature");
    f.token(&format!("i={instance};")).token(&format!("a={};", selector.key.algorithm())).token("c=relaxed/relaxed;");
    f.token(&format!("d={};", sealing.domain.ascii())).token(&format!("s={};", selector.name.ascii()));
    f.token(&format!("t={};", sealing.now.secs()));
    for (i, name) in names.iter().enumerate() {
        let end = if i.saturating_add(1) == names.len() { ';' } else { ':' };
        if i == 0 {
            f.token(&format!("h={name}{end}"));
        } else {
            f.glued(&format!("{name}{end}"));
        }
    }
    f.token("bh=").data(&STANDARD.encode(hash)).glued(";");
    f.token("b=");
    let data = signed_data(&headers, &names, Canonicalization::Relaxed, f.finish().trim_end().as_bytes());
    let signature = selector.key.sign(&data).ok_or(SealError::Key)?;
    Ok(f.data(&STANDARD.encode(signature)).finish())
}
