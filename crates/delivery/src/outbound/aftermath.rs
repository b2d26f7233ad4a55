//! What follows from what happened to entries of the queue: how long they are remembered, and which webhooks tell of it.

use crate::webhook::{Facts, outgoing};
use mox_base::Timestamp;
use mox_store::directory::{AccountSettings, SharedDirectory};
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

    fn suppressed_until(&self, account: &str, now: Timestamp) -> Option<Timestamp> {
        let directory = self.directory.current();
        directory.account(account).and_then(|account| suppressed_until(account, now))
    }

    fn is_announced(&self, account: &str, kind: EventKind) -> bool {
        let directory = self.directory.current();
        directory.account(account).and_then(|account| account.outgoing_webhook.as_ref()).is_some_and(|hook| hook.wants(kind))
    }

    fn webhook(&self, event: &Event<'_>) -> Option<NewWebhook> {
        let directory = self.directory.current();
        let Event { kind, entry, result, suppressing, at } = event;
        let facts = Facts {
            event: *kind,
            dsn: false,
            suppressing: *suppressing,
            queue_id: entry.id,
            from_id: entry.from_id.as_deref(),
            message_id: &entry.message_id,
            subject: &entry.subject,
            extra: &entry.extra,
            code: result.code,
            secode: &result.secode,
            error: &result.error,
            now: *at,
        };
        outgoing(directory.account(&entry.account)?, &facts)
    }
}

/// Until when an address is suppressed to which an account's mail failed now; none for ever.
pub(crate) fn suppressed_until(account: &AccountSettings, now: Timestamp) -> Option<Timestamp> {
    (account.suppression_period > Duration::ZERO).then(|| now.after(account.suppression_period))
}
