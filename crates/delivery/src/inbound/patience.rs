//! Making mail of new authors wait: whoever sends to many strangers gets less of it done, and a correspondent isn't kept twice.

use super::{Acceptance, Inbound, Incoming};
use mox_mailauth::dmarc::Validation;
use mox_store::directory::LocalRecipient;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long the sender of a message waits before it is stored, if its author is new to the account.
#[derive(Clone, Debug, Default)]
pub struct Patience {
    /// How long; zero for not at all.
    pub first_time: Duration,
    /// Cancelled when nobody is to wait any more.
    pub stop: CancellationToken,
}

impl Incoming {
    /// Whether it is certain that the message is from the domain in its From.
    pub(super) fn author_is_verified(&self) -> bool {
        self.authentication.from_validation(self.msg_from.as_ref().map(|from| &from.domain)) != Validation::None
    }
}

impl Inbound {
    /// Waits, if that is what an accepted message deserves; once for all its recipients.
    pub(super) async fn wait_for_stranger(&self, incoming: &Incoming, recipient: &LocalRecipient, how: &Acceptance, waited: &mut bool) {
        let Patience { first_time, stop } = &incoming.patience;
        // Where something is known of the message, for good or bad, the author isn't a stranger.
        let is_plain = !how.is_forward && !how.is_list && !how.seen && (how.reason.is_empty() || how.reason.starts_with(NO_BAD_SIGNALS));
        if *waited
            || first_time.is_zero()
            || recipient.account.no_first_time_sender_delay
            || !is_plain
            || self.is_known(incoming, recipient).await
        {
            return;
        }
        *waited = true;
        tracing::debug!(account = recipient.account.name, "first message of its author, waiting");
        tokio::select! {
            () = tokio::time::sleep(*first_time) => {}
            () = stop.cancelled() => {}
        }
    }

    async fn is_known(&self, incoming: &Incoming, recipient: &LocalRecipient) -> bool {
        let Some(author) = incoming.msg_from.clone() else { return false };
        let verified = incoming.author_is_verified();
        let known = async { self.store.account(&recipient.account.name).await?.read(move |tx| tx.knows_author(&author, verified)).await };
        known.await.unwrap_or_else(|error| {
            tracing::error!(account = recipient.account.name, %error, "looking for earlier mail of an author");
            true
        })
    }
}

/// How the explanation of a decision begins that had nothing to go by.
const NO_BAD_SIGNALS: &[u8] = b"X-Mox-Reason: no-bad-signals";
