//! Sealing what is passed on, RFC 8617 §5.1: mail to a list leaves the hands that its author trusted, and whoever gets it from a
//! member later can see what we found out about it.
//!
//! The list's domain seals, with one of the keys with which it signs. Its set says what all members' `Authentication-Results` say.

use super::{Acceptance, Incoming};
use crate::signing::SharedSelectors;
use mox_base::{Domain, Timestamp};
use mox_mailauth::DkimSelector;
use mox_mailauth::arc::{ArcOutcome, SealError, Sealing, seal};

/// The fields of a new set, to be put in front of the message; empty if it isn't sealed.
pub(super) fn sealed(incoming: &Incoming, selectors: &SharedSelectors, domain: &Domain, now: Timestamp) -> String {
    let (Some(read), Some(selectors)) = (&incoming.read, selectors.of(domain)) else { return String::new() };
    let Some(selector) = sealing_selector(&selectors) else { return String::new() };
    // Without what only holds for one of the members.
    let how = Acceptance { mailbox: String::new(), reason: Vec::new(), is_forward: false, is_list: false, seen: false };
    let field = incoming.authentication.field(incoming, &how);
    let Some((_, results)) = field.split_once(':') else { return String::new() };
    let none = ArcOutcome::none();
    let chain = incoming.authentication.arc.as_ref().unwrap_or(&none);
    match seal(read, chain, &Sealing { domain, selector, results, now }) {
        Ok(fields) => fields,
        // RFC 8617 §5.1: then nobody may.
        Err(SealError::Broken | SealError::Full | SealError::Unsure) => String::new(),
        Err(error @ (SealError::NotRead | SealError::Key)) => {
            tracing::error!(%domain, %error, "sealing a message to a list");
            String::new()
        }
    }
}

/// Only `rsa-sha256` is defined for ARC (RFC 8617 §4.1.3 refers to RFC 6376), so other keys only where there is no such one.
fn sealing_selector(selectors: &[DkimSelector]) -> Option<&DkimSelector> {
    selectors.iter().find(|selector| selector.key.algorithm() == "rsa-sha256").or_else(|| selectors.first())
}
