//! The decision by what the author's domain and the recipient want of unauthenticated mail. Reputation and content come later.

use super::{Acceptance, DecisionFuture, InboundDecision, Incoming, Refusal, Verdict, choose};
use crate::blocklists::Blocklists;
use mox_base::Path;
use mox_mailauth::dmarc::{DmarcResult, Policy, Validation};
use mox_smtp::Reply;
use mox_store::directory::LocalRecipient;
use mox_store::{SpecialUse, Store};

/// Accepts what is authenticated as it has to be, into the mailbox that the destination's rulesets choose. Mail that its author's
/// domain wants rejected is, mail that it wants quarantined goes into the Junk mailbox; unless a ruleset knows that the message is
/// forwarded, or from a mailing list that was verified.
#[derive(Clone, Debug)]
pub struct ByPolicy {
    store: Store,
    blocklists: Option<Blocklists>,
}

impl ByPolicy {
    /// For the accounts of a store.
    pub const fn new(store: Store) -> Self {
        Self { store, blocklists: None }
    }

    /// Who is on a block list of the listener isn't heard, unless a ruleset knows better.
    #[must_use]
    pub fn with_blocklists(self, blocklists: Blocklists) -> Self {
        Self { blocklists: Some(blocklists), ..self }
    }

    async fn decision(&self, incoming: &Incoming, recipient: &LocalRecipient) -> Verdict {
        let chosen = choose(&recipient.destination, incoming);
        let mut acceptance =
            Acceptance { mailbox: chosen.mailbox, reason: Vec::new(), is_forward: chosen.is_forward, is_list: chosen.is_list, seen: false };
        if acceptance.is_list {
            return Verdict::Accept(acceptance);
        }
        let authentication = &incoming.authentication;
        let dmarc = authentication.dmarc.as_ref().filter(|_| !acceptance.is_forward);
        match dmarc.map_or(Policy::None, |dmarc| dmarc.disposition()) {
            Policy::None => {}
            Policy::Reject => {
                let text = "rejecting message due to dmarc policy of its author's domain";
                return reject(Reply::new(550, (5, 7, 26), text));
            }
            // Where a ruleset put it, its owner wants it.
            Policy::Quarantine if chosen.ruleset.is_some() => {}
            Policy::Quarantine => {
                acceptance.mailbox = self.junk(&recipient.account.name).await;
                acceptance.reason = b"X-Mox-Reason: dmarc-policy;\r\n".to_vec();
            }
        }
        if let Some(text) = &recipient.destination.message_auth_required
            && authentication.from_validation(incoming.msg_from.as_ref().map(|from| &from.domain)) == Validation::None
        {
            let temporary = authentication.dmarc.as_ref().is_some_and(|dmarc| dmarc.result == DmarcResult::Temperror);
            return reject(if temporary {
                Reply::new(451, (4, 7, 26), format!("transient verification error: {text}"))
            } else {
                Reply::new(550, (5, 7, 26), text.clone())
            });
        }
        // Last, as it is the only thing that asks others.
        if let Some(blocklists) = &self.blocklists
            && let Some(listed) = blocklists.find(&incoming.blocklists, incoming.remote_ip).await
        {
            let explanation: String = listed.explanation.chars().filter(|c| !c.is_control()).take(200).collect();
            tracing::info!(zone = %listed.zone, ip = %incoming.remote_ip, explanation, "refusing mail from an address on a block list");
            // Spammers learn nothing, and who was listed by mistake tries again.
            return reject(Reply::new(451, (4, 3, 0), "error processing"));
        }
        Verdict::Accept(acceptance)
    }

    /// The account's mailbox for suspicious mail.
    async fn junk(&self, account: &str) -> String {
        // An account that can't be opened is told of when the message is filed.
        let Ok(account) = self.store.account(account).await else { return "Junk".to_owned() };
        account.mailboxes().by_use(SpecialUse::JUNK).map_or_else(|| "Junk".to_owned(), |mailbox| mailbox.name.to_string())
    }
}

const fn reject(reply: Reply) -> Verdict {
    Verdict::Reject(Refusal { reply, slow: true })
}

impl InboundDecision for ByPolicy {
    fn decide<'a>(&'a self, incoming: &'a Incoming, _rcpt_to: &'a Path, recipient: &'a LocalRecipient) -> DecisionFuture<'a> {
        Box::pin(self.decision(incoming, recipient))
    }
}
