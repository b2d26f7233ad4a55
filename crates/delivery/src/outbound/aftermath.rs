//! What follows from what happened to entries of the queue: how long they are remembered, and which webhooks tell of it.

use mox_base::Timestamp;
use mox_store::directory::SharedDirectory;
use mox_store::queue::{Aftermath, Event, EventKind};
use mox_store::webhook::NewWebhook;
use std::time::Duration;

/// How long retired entries of accounts that are gone are kept.
const KEEP_WITHOUT_ACCOUNT: Duration = Duration::from_secs(7 * 24 * 3600);

/// As accounts are configured.
#[derive(Clone, Debug)]
pub struct AccountAftermath {
    directory: SharedDirectory,
}

impl AccountAftermath {
    /// For the accounts of a directory.
    pub const fn new(directory: SharedDirectory) -> Self {
        Self { directory }
    }
}

impl Aftermath for AccountAftermath {
    fn keep_until(&self, account: &str, now: Timestamp) -> Option<Timestamp> {
        let directory = self.directory.current();
        let period = directory.account(account).map_or(KEEP_WITHOUT_ACCOUNT, |account| account.keep_retired_messages);
        (period > Duration::ZERO).then(|| now.after(period))
    }

    fn is_announced(&self, _account: &str, _kind: EventKind) -> bool {
        false
    }

    fn webhook(&self, _event: &Event<'_>) -> Option<NewWebhook> {
        None
    }
}
