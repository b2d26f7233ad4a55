//! A destination's rulesets: the first that matches says where a message goes.

use super::Incoming;
use mox_base::Domain;
use mox_mailauth::arc::ArcOutcome;
use mox_message::Headers;
use mox_store::directory::{Destination, HeaderPattern, Ruleset};

/// What rulesets say about a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// Where it goes.
    pub mailbox: String,
    /// The ruleset that matched, by its place among the destination's.
    pub ruleset: Option<usize>,
    /// Whether it was forwarded, so that the connection tells nothing about the sender.
    pub is_forward: bool,
    /// Whether it is from a list whose mail isn't judged.
    pub is_list: bool,
}

/// Where a message for a destination goes.
pub fn choose(destination: &Destination, incoming: &Incoming) -> Chosen {
    let matching = destination.rulesets.iter().enumerate().find(|(_, ruleset)| matches(ruleset, incoming));
    match matching {
        Some((i, ruleset)) => Chosen {
            mailbox: ruleset.mailbox.clone(),
            ruleset: Some(i),
            is_forward: ruleset.is_forward,
            is_list: ruleset.list_allow_domain.as_ref().is_some_and(|list| incoming.verified_domains.contains(list)),
        },
        None => Chosen { mailbox: destination.mailbox.clone(), ruleset: None, is_forward: false, is_list: false },
    }
}

/// Whether all given conditions hold. A ruleset without any never matches.
fn matches(ruleset: &Ruleset, incoming: &Incoming) -> bool {
    let Ruleset { smtp_mail_from, msg_from, verified_domain, headers, is_forward, .. } = ruleset;
    if smtp_mail_from.is_none() && msg_from.is_none() && verified_domain.is_none() && headers.is_empty() {
        return false;
    }
    let mail_from = || incoming.mail_from.as_ref().map(ToString::to_string).unwrap_or_default();
    // Of a forwarder that is trusted, a seal is as good as a signature: its key signed the message as it is.
    let sealer = incoming.authentication.arc.as_ref().and_then(ArcOutcome::last_sealer).filter(|_| *is_forward);
    let verified = |domain: &Domain| incoming.verified_domains.iter().chain(sealer).any(|verified| verified.is_within(domain));
    smtp_mail_from.as_ref().is_none_or(|pattern| pattern.is_match(&mail_from()))
        && msg_from.as_ref().is_none_or(|pattern| incoming.msg_from.as_ref().is_some_and(|from| pattern.is_match(&from.to_string())))
        && verified_domain.as_ref().is_none_or(verified)
        && headers.iter().all(|pattern| header_matches(pattern, &incoming.header))
}

fn header_matches(pattern: &HeaderPattern, header: &[u8]) -> bool {
    Headers::new(header).fields().any(|field| {
        let name = String::from_utf8_lossy(field.name).to_lowercase();
        pattern.name.is_match(&name) && pattern.value.is_match(field.text().trim().to_lowercase().as_str())
    })
}
