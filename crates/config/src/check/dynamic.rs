//! Checks of `domains.conf` as a whole, and against `mox.conf`.

use super::{AddressTable, Checker, DkimKeys, account, addresses, domain, web};
use crate::dynamic::{Dynamic, Route};
use crate::fixed::Static;
use crate::problem::FieldPath;
use crate::text::DestinationKey;
use mox_base::Address;
use std::collections::BTreeSet;

/// Checks all of it; also completes destinations that are a localpart only.
pub(crate) fn check_dynamic(c: &mut Checker<'_>, fixed: &Static, dynamic: &mut Dynamic) -> (DkimKeys, AddressTable) {
    complete_destinations(c, dynamic);
    let dynamic = &*dynamic;
    check_static_accounts(c, fixed, dynamic);
    check_routes(c, &FieldPath::root("Routes"), "", &dynamic.routes, fixed);
    let mut keys = DkimKeys::new();
    for (name, config) in &dynamic.domains {
        let at = FieldPath::root("Domains").key(&name.to_string());
        domain::check_domain(c, &at, name, config, dynamic, fixed);
        domain::read_keys(c, &at.field("DKIM"), name, config, &mut keys);
        check_routes(c, &at.field("Routes"), &format!("domain {name}: "), &config.routes, fixed);
    }
    check_account_names(c, dynamic);
    for (name, config) in &dynamic.accounts {
        let at = FieldPath::root("Accounts").key(name);
        account::check_account(c, &at, name, config, dynamic);
        check_routes(c, &at.field("Routes"), &format!("account {name:?}: "), &config.routes, fixed);
    }
    let table = addresses::resolve(c, dynamic);
    web::check_web(c, fixed, dynamic);
    let mut seen = BTreeSet::new();
    for (i, zone) in dynamic.monitor_dnsbls.iter().enumerate() {
        if !seen.insert(zone) {
            c.error(&FieldPath::root("MonitorDNSBLs").item(i), format!("dnsbl {zone}: duplicate zone"));
        }
    }
    (keys, table)
}

/// Destinations of a localpart only, from before destinations had domains, get the account's.
fn complete_destinations(c: &mut Checker<'_>, dynamic: &mut Dynamic) {
    for (name, account) in &mut dynamic.accounts {
        let old: Vec<_> = account.destinations.keys().filter(|k| matches!(k, DestinationKey::Localpart(_))).cloned().collect();
        for key in old {
            let DestinationKey::Localpart(localpart) = &key else { continue };
            let at = FieldPath::root("Accounts").key(name).field("Destinations").key(&key.to_string());
            let Some(domain) = account.domain.clone() else {
                c.error(&at, format!("account {name:?}: destination \"{key}\" has no domain, and neither has the account"));
                continue;
            };
            let full = DestinationKey::Address(Address::new(localpart.clone(), domain));
            let Some(destination) = account.destinations.remove(&key) else { continue };
            if account.destinations.contains_key(&full) {
                c.error(&at, format!("account {name:?}: destination \"{key}\" is also there as \"{full}\""));
                continue;
            }
            c.warn(&at, format!("account {name:?}: destination \"{key}\" without domain is deprecated, using \"{full}\""));
            account.destinations.insert(full, destination);
        }
    }
}

/// Accounts that `mox.conf` names.
fn check_static_accounts(c: &mut Checker<'_>, fixed: &Static, dynamic: &Dynamic) {
    let at = FieldPath::root("Accounts");
    if !dynamic.accounts.contains_key(&fixed.postmaster.account) {
        c.error(&at, format!("postmaster account {:?} of mox.conf doesn't exist", fixed.postmaster.account));
    }
    if let Some(reports) = &fixed.host_tlsrpt
        && !dynamic.accounts.contains_key(&reports.account)
    {
        c.error(&at, format!("HostTLSRPT account {:?} of mox.conf doesn't exist", reports.account));
    }
}

fn check_routes(c: &mut Checker<'_>, at: &FieldPath, who: &str, routes: &[Route], fixed: &Static) {
    for (i, route) in routes.iter().enumerate() {
        if !fixed.transports.contains_key(&route.transport) {
            let message = format!("{who}route {}: unknown transport {:?}", i + 1, route.transport);
            c.error(&at.item(i).field("Transport"), message);
        }
    }
}

/// The name of an account is the name of its directory.
fn check_account_names(c: &mut Checker<'_>, dynamic: &Dynamic) {
    let mut lower = BTreeSet::new();
    for name in dynamic.accounts.keys() {
        let at = FieldPath::root("Accounts").key(name);
        if let Err(message) = account_name(name) {
            c.error(&at, format!("account {name:?}: {message}"));
        }
        if !lower.insert(name.to_lowercase()) {
            c.warn(&at, format!("account {name:?}: another account differs in upper and lower case only"));
        }
    }
}

/// Whether a text can be the name of an account.
///
/// # Errors
/// Why it can't.
pub(crate) fn account_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("account name is empty".to_owned());
    }
    if name.starts_with('.') || name.contains(['/', '\\']) || name.chars().any(char::is_control) {
        return Err("account name can't start with a dot or have slashes or control characters".to_owned());
    }
    if name.len() > 200 {
        return Err("account name is too long".to_owned());
    }
    Ok(())
}
