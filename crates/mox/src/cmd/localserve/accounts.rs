//! The accounts of a new `localserve` folder beside its own one.

use super::files::{ACCOUNT_SETTINGS, DOMAIN_SETTINGS};
use crate::cli::Failure;
use mox_base::Address;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Accounts by name, each with its address. Accounts are named by localparts, and by whole addresses where two have the same.
#[derive(Debug, Default)]
pub(super) struct Accounts(BTreeMap<String, Address>);

impl Accounts {
    /// Of comma-separated addresses.
    pub(super) fn parse(text: &str) -> Result<Self, Failure> {
        let mut accounts = BTreeMap::new();
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            let address: Address = word.parse().map_err(|e| Failure::new(format!("parsing -accounts, {word:?}"), e))?;
            let (localpart, whole) = (address.localpart.as_str(), address.to_string());
            if address.domain.ascii() == "localhost" && localpart == super::ACCOUNT || accounts.values().any(|known| *known == address) {
                return Err(Failure::Error(format!("parsing -accounts: {word} is there already")));
            }
            let taken = localpart == super::ACCOUNT || accounts.contains_key(localpart);
            let name = if taken { whole.clone() } else { localpart.to_owned() };
            if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.@".contains(&b)) {
                return Err(Failure::Error(format!("parsing -accounts: no account can be named after {word}")));
            }
            accounts.insert(name, address);
        }
        Ok(Self(accounts))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Their domains but `localhost`, as entries of domains.conf.
    pub(super) fn domains(&self) -> String {
        let mut domains: Vec<&str> = self.0.values().map(|a| a.domain.ascii()).filter(|name| *name != "localhost").collect();
        domains.sort_unstable();
        domains.dedup();
        domains.iter().fold(String::new(), |mut text, name| {
            // Writing to a string doesn't fail.
            let _ok = write!(text, "\t{name}:\n{DOMAIN_SETTINGS}");
            text
        })
    }

    /// The accounts, as entries of domains.conf.
    pub(super) fn entries(&self) -> String {
        self.0.iter().fold(String::new(), |mut text, (name, address)| {
            let domain = address.domain.ascii();
            let destination = format!("\t\tDomain: {domain}\n\t\tDestinations:\n\t\t\t{address}: nil\n");
            let _ok = write!(text, "\t{name}:\n{destination}{ACCOUNT_SETTINGS}");
            text
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let names = |text| Accounts::parse(text).unwrap().names().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(names("ann@a.example, bob@localhost"), ["ann", "bob"]);
        assert_eq!(names("ann@a.example,ann@b.example,mox@a.example"), ["ann", "ann@b.example", "mox@a.example"]);
        assert!(names("").is_empty());
        for bad in ["ann", "mox@localhost", "ann@a.example,ann@a.example", "a b@a.example", "\"a b\"@a.example"] {
            assert!(Accounts::parse(bad).is_err(), "{bad}");
        }
    }
}
