//! Who has which address: conflicts between accounts, aliases and addresses for reports.

use super::Checker;
use crate::domain::{Alias, DomainConfig};
use crate::dynamic::Dynamic;
use crate::problem::FieldPath;
use crate::text::DestinationKey;
use crate::value::UnicodeDomain;
use mox_base::{Address, Domain, Localpart};
use std::collections::{BTreeMap, BTreeSet};

/// Whose an address is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// An account's, under this key of its destinations.
    Account {
        /// Name of the account.
        account: String,
        /// Key in its destinations.
        destination: DestinationKey,
    },
    /// An alias, with this localpart in its domain.
    Alias {
        /// Localpart as written.
        localpart: Localpart,
    },
}

/// All addresses in their canonical form.
#[derive(Clone, Debug, Default)]
pub struct AddressTable {
    addresses: BTreeMap<Address, Owner>,
    catchalls: BTreeMap<Domain, (String, DestinationKey)>,
}

impl AddressTable {
    /// The owner of a canonical address, without looking at catchalls.
    pub fn exact(&self, canonical: &Address) -> Option<&Owner> {
        self.addresses.get(canonical)
    }

    /// The account that takes what no other address of a domain takes.
    pub fn catchall(&self, domain: &Domain) -> Option<&str> {
        self.catchalls.get(domain).map(|(account, _)| account.as_str())
    }

    /// The account that has an address: through separators and catchalls, but not through an alias.
    pub fn account(&self, dynamic: &Dynamic, address: &Address) -> Option<&str> {
        let canonical = canonical(dynamic, address)?;
        match self.addresses.get(&canonical) {
            Some(Owner::Account { account, .. }) => Some(account),
            Some(Owner::Alias { .. }) => None,
            None => self.catchall(&address.domain),
        }
    }
}

/// The form in which an address is compared; none if its domain isn't ours.
pub(crate) fn canonical(dynamic: &Dynamic, address: &Address) -> Option<Address> {
    let domain = dynamic.domains.get(&address.domain)?;
    Some(Address::new(domain.canonical_localpart(&address.localpart), address.domain.clone()))
}

pub(super) fn resolve(c: &mut Checker<'_>, dynamic: &Dynamic) -> AddressTable {
    let mut table = AddressTable::default();
    for (name, account) in &dynamic.accounts {
        let at = FieldPath::root("Accounts").key(name).field("Destinations");
        for key in account.destinations.keys() {
            add_destination(c, &at.key(&key.to_string()), dynamic, &mut table, name, key);
        }
    }
    for (name, domain) in &dynamic.domains {
        let at = FieldPath::root("Domains").key(&name.to_string()).field("Aliases");
        for localpart in domain.aliases.keys() {
            add_alias(c, &at.key(&localpart.to_string()), name, domain, localpart, &mut table);
        }
    }
    for (name, domain) in &dynamic.domains {
        let at = FieldPath::root("Domains").key(&name.to_string()).field("Aliases");
        for (localpart, alias) in &domain.aliases {
            let at = at.key(&localpart.to_string()).field("Addresses");
            check_members(c, &at, &format!("domain {name}: alias {localpart}"), alias, dynamic, &table);
        }
    }
    warn_of_shadows(c, dynamic, &table);
    table
}

fn add_destination(c: &mut Checker<'_>, at: &FieldPath, dynamic: &Dynamic, table: &mut AddressTable, account: &str, key: &DestinationKey) {
    let who = format!("account {account:?}: destination \"{key}\"");
    let domain = match key {
        DestinationKey::Catchall(domain) => domain,
        DestinationKey::Address(address) => &address.domain,
        // Reported when it couldn't be completed.
        DestinationKey::Localpart(_) => return,
    };
    let Some(config) = dynamic.domains.get(domain) else {
        return c.error(at, format!("{who}: domain {domain} is not configured"));
    };
    let DestinationKey::Address(address) = key else {
        if let Some((other, _)) = table.catchalls.get(domain) {
            return c.error(at, format!("{who}: account {other:?} has the catchall address already"));
        }
        table.catchalls.insert(domain.clone(), (account.to_owned(), key.clone()));
        return;
    };
    if let Some(separator) = config.separators().into_iter().find(|s| address.localpart.as_str().contains(s)) {
        return c.error(at, format!("{who}: localpart has the domain's separator {separator:?}"));
    }
    let canonical = Address::new(config.canonical_localpart(&address.localpart), domain.clone());
    match table.addresses.get(&canonical) {
        Some(Owner::Account { account: other, destination }) => {
            c.error(at, format!("{who}: same address as destination \"{destination}\" of account {other:?}"));
        }
        Some(Owner::Alias { .. }) | None => {
            let owner = Owner::Account { account: account.to_owned(), destination: key.clone() };
            table.addresses.insert(canonical, owner);
        }
    }
}

fn add_alias(
    c: &mut Checker<'_>,
    at: &FieldPath,
    name: &UnicodeDomain,
    domain: &DomainConfig,
    localpart: &Localpart,
    table: &mut AddressTable,
) {
    let who = format!("domain {name}: alias {localpart}");
    if let Some(separator) = domain.separators().into_iter().find(|s| localpart.as_str().contains(s)) {
        return c.error(at, format!("{who}: localpart has the domain's separator {separator:?}"));
    }
    let canonical = Address::new(domain.canonical_localpart(localpart), name.domain().clone());
    match table.addresses.get(&canonical) {
        Some(Owner::Account { account, .. }) => c.error(at, format!("{who}: is an address of account {account:?}")),
        Some(Owner::Alias { localpart: other }) => c.error(at, format!("{who}: same address as alias {other}")),
        None => {
            table.addresses.insert(canonical, Owner::Alias { localpart: localpart.clone() });
        }
    }
}

fn check_members(c: &mut Checker<'_>, at: &FieldPath, who: &str, alias: &Alias, dynamic: &Dynamic, table: &AddressTable) {
    if alias.addresses.is_empty() {
        c.error(at, format!("{who}: no addresses"));
    }
    let mut seen = BTreeSet::new();
    for (i, member) in alias.addresses.iter().enumerate() {
        let at = at.item(i);
        let exact = canonical(dynamic, member).and_then(|canonical| table.exact(&canonical));
        let exact = exact.filter(|_| canonical(dynamic, member).as_ref() == Some(member));
        match exact {
            Some(Owner::Account { .. }) => {}
            Some(Owner::Alias { .. }) => c.error(&at, format!("{who}: member {member} is an alias itself")),
            None => c.error(&at, format!("{who}: member {member} is no address of a local account")),
        }
        if !seen.insert(member) {
            c.error(&at, format!("{who}: duplicate member {member}"));
        }
    }
}

/// Reports come first: an account doesn't get mail for an address that is also one for reports.
fn warn_of_shadows(c: &mut Checker<'_>, dynamic: &Dynamic, table: &AddressTable) {
    for (name, domain) in &dynamic.domains {
        for (field, report) in [("DMARC", &domain.dmarc), ("TLSRPT", &domain.tlsrpt)] {
            let Some(report) = report else { continue };
            let of = report.domain.as_ref().unwrap_or(name.domain());
            let Some(config) = dynamic.domains.get(of) else { continue };
            let address = Address::new(config.folded(report.localpart()), of.clone());
            if let Some(Owner::Account { account, .. }) = table.exact(&address) {
                let at = FieldPath::root("Domains").key(&name.to_string()).field(field).field("Localpart");
                let message = format!("domain {name}: {field}: reports to {address} shadow the same address of account {account:?}");
                c.warn(&at, message);
            }
        }
    }
}
