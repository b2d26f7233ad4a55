//! The accounts of the configuration in the store: made when they are new, with their first mailboxes.

use mox_config::{Dynamic, InitialMailboxes, Static};
use mox_store::{MailboxName, SpecialUse, Store};
use std::collections::BTreeSet;

/// Makes the accounts that are configured and not there yet. Accounts that aren't configured any more stay untouched.
///
/// # Errors
/// A text for the operator.
pub(super) async fn ensure(store: &Store, fixed: &Static, dynamic: &Dynamic) -> Result<(), String> {
    let known: BTreeSet<String> = store.account_names().await.map_err(|e| format!("listing accounts: {e}"))?.into_iter().collect();
    let mailboxes = initial_mailboxes(fixed);
    for name in dynamic.accounts.keys().filter(|name| !known.contains(*name)) {
        store.ensure_account(name, &mailboxes).await.map_err(|e| format!("making account {name:?}: {e}"))?;
        tracing::info!(account = name, "account made");
    }
    Ok(())
}

/// The mailboxes of a new account besides Inbox.
fn initial_mailboxes(fixed: &Static) -> Vec<(MailboxName, SpecialUse)> {
    let named = |name: &str, special_use| match MailboxName::parse(name) {
        Ok(name) => Some((name, special_use)),
        Err(error) => {
            tracing::warn!(%error, name, "not making initial mailbox");
            None
        }
    };
    if let Some(InitialMailboxes { special_use, regular }) = &fixed.initial_mailboxes {
        let special = [
            (&special_use.sent, SpecialUse::SENT),
            (&special_use.archive, SpecialUse::ARCHIVE),
            (&special_use.trash, SpecialUse::TRASH),
            (&special_use.draft, SpecialUse::DRAFTS),
            (&special_use.junk, SpecialUse::JUNK),
        ];
        let special = special.into_iter().filter_map(|(name, role)| named(name.as_ref()?.as_str(), role));
        return special.chain(regular.iter().filter_map(|name| named(name.as_str(), SpecialUse::NONE))).collect();
    }
    let roles = [
        ("Sent", SpecialUse::SENT),
        ("Archive", SpecialUse::ARCHIVE),
        ("Trash", SpecialUse::TRASH),
        ("Drafts", SpecialUse::DRAFTS),
        ("Junk", SpecialUse::JUNK),
    ];
    if fixed.default_mailboxes.is_empty() {
        return roles.into_iter().filter_map(|(name, role)| named(name, role)).collect();
    }
    // The deprecated setting goes by what names start with.
    let role = |name: &str| roles.into_iter().find(|(start, _)| name.starts_with(start)).map_or(SpecialUse::NONE, |(_, role)| role);
    fixed.default_mailboxes.iter().filter_map(|name| named(name.as_str(), role(name.as_str()))).collect()
}
