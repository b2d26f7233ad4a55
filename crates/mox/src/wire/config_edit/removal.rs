//! Removing accounts and addresses: what must not be left behind, and what goes with them.

use super::super::services::Shared;
use super::{address_key, domain_of};
use crate::ctl::ConfigEdit;
use mox_base::{Address, Domain};
use mox_config::DestinationKey;
use mox_delivery::outbound::Runner;
use mox_store::queue::{Filter, Page, Sort};

/// Queue entries looked at at a time.
const PAGE: u64 = 1000;

/// What of the configuration's surroundings forbids a change.
///
/// # Errors
/// A database failed, or the change names what can't be.
pub(super) async fn obstacle(shared: &Shared, change: &ConfigEdit) -> Result<Option<String>, String> {
    let uses: Box<dyn Fn(&Address) -> bool + Send + Sync> = match change {
        ConfigEdit::AddressRemove { address } => match address_key(address)? {
            DestinationKey::Address(removed) => {
                let directory = shared.directory.current();
                let removed = directory.canonical(&removed);
                Box::new(move |used| directory.canonical(used) == removed)
            }
            DestinationKey::Catchall(domain) => by_catchall(shared, domain),
            DestinationKey::Localpart(_) => return Ok(None),
        },
        ConfigEdit::DomainRemove { domain } => {
            let domain = domain_of(domain)?;
            Box::new(move |used| used.domain == domain)
        }
        _ => return Ok(None),
    };
    for (_, key) in shared.logins.tls_keys(None).await.map_err(|e| e.to_string())? {
        if key.login_address.parse().is_ok_and(|address| uses(&address)) {
            return Ok(Some(format!("tls public key {} logs in with {}, remove it first", key.fingerprint, key.login_address)));
        }
    }
    if matches!(change, ConfigEdit::AddressRemove { .. }) && sender_in_queue(shared, &uses).await? {
        return Ok(Some("messages from this address are in the queue, let them go or drop them first".to_owned()));
    }
    Ok(None)
}

/// Addresses that only a domain's catchall makes an account's.
fn by_catchall(shared: &Shared, domain: Domain) -> Box<dyn Fn(&Address) -> bool + Send + Sync> {
    let (snapshot, directory) = (shared.live.snapshot(), shared.directory.current());
    let own: Vec<Address> = snapshot
        .dynamic
        .accounts
        .values()
        .flat_map(|account| account.destinations.keys())
        .filter_map(|key| match key {
            DestinationKey::Address(address) => Some(directory.canonical(address)),
            _ => None,
        })
        .collect();
    Box::new(move |used| used.domain == domain && !own.contains(&directory.canonical(used)))
}

async fn sender_in_queue(shared: &Shared, uses: &(dyn Fn(&Address) -> bool + Send + Sync)) -> Result<bool, String> {
    let mut sort = Sort::default();
    loop {
        let rows = shared.queue.list(Filter::default(), sort, Page { limit: PAGE }).await.map_err(|e| e.to_string())?;
        let Some(last) = rows.last().map(|listed| &listed.row) else { return Ok(false) };
        sort.after = Some((last.next_attempt, last.id));
        let of = |path: &mox_base::Path| path.address().is_some_and(|address| uses(&address));
        if rows.iter().any(|listed| listed.row.sender.as_ref().is_some_and(of)) {
            return Ok(true);
        }
    }
}

/// Whether an account that isn't configured is still in the store.
///
/// # Errors
/// The database failed.
pub(super) async fn is_left_over(shared: &Shared, account: &str) -> Result<bool, String> {
    let names = shared.store.account_names().await.map_err(|e| e.to_string())?;
    Ok(names.iter().any(|name| name == account))
}

/// Removes what an account has, after it has gone from the configuration's files.
///
/// # Errors
/// A text for the operator, who can try again.
pub(super) async fn remove_account(shared: &Shared, runner: &Runner, account: &str) -> Result<(), String> {
    let failed = |what: &str, error: &dyn std::fmt::Display| format!("account is no longer configured, but {what} failed: {error}");
    // Its addresses still lead to it, so that reports on its messages end where they should.
    let filter = Filter { account: Some(account.to_owned()), ..Filter::default() };
    runner.fail(filter).await.map_err(|e| failed("ending its messages in the queue", &e))?;
    shared.apply().await?;
    let webhooks = mox_store::webhook::Filter { account: Some(account.to_owned()), ..Default::default() };
    let now = shared.store.clock().now();
    shared.queue.webhooks().cancel(webhooks, now, |_| None).await.map_err(|e| failed("canceling its webhooks", &e))?;
    shared.queue.unsuppress_all(account).await.map_err(|e| failed("forgetting its suppressed addresses", &e))?;
    shared.queue.forget_copies_of(account).await.map_err(|e| failed("forgetting copies of its messages", &e))?;
    match shared.store.account(account).await {
        Ok(opened) => {
            let id = opened.id();
            drop(opened);
            shared.store.remove_account(account).await.map_err(|e| failed("deleting its mail", &e))?;
            shared.logins.forget_account(id, account).await.map_err(|e| failed("forgetting its password", &e))
        }
        Err(mox_store::Error::NoAccount) => Ok(()),
        Err(error) => Err(failed("opening it", &error)),
    }
}
