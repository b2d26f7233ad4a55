//! Changes of the dynamic configuration, as commands and admin pages make them: on a copy, which [`crate::Live::edit`]
//! then checks, writes and makes active. What the checks find isn't looked for here; only what they can't see is, such
//! as that something that is to be removed is there.

use crate::account::{Account, AutomaticJunkFlags, Destination, JunkFilter, JunkParams, SubjectPass};
use crate::check::canonical;
use crate::domain::{Alias, Dkim, DomainConfig, MtaSts, MtaStsMode, ReportAddress, Selector};
use crate::dynamic::Dynamic;
use crate::fixed::Static;
use crate::schema::Scalar;
use crate::text::{AsciiText, DestinationKey, DurationText, MxPattern};
use crate::value::{AsciiLocalpart, MailboxName, Pattern, UnicodeDomain};
use mox_base::{Address, Domain, Localpart};
use std::collections::BTreeMap;
use std::time::Duration;

/// Why a change isn't possible.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// It is there already.
    #[error("{0} already exists")]
    Exists(String),
    /// It isn't there.
    #[error("{0} doesn't exist")]
    Missing(String),
    /// It is needed.
    #[error("{0}")]
    InUse(String),
    /// A value that can't be.
    #[error("{0}")]
    Bad(String),
}

/// A result of a change.
pub type Changed = Result<(), ChangeError>;

fn account_mut<'a>(dynamic: &'a mut Dynamic, name: &str) -> Result<&'a mut Account, ChangeError> {
    dynamic.accounts.get_mut(name).ok_or_else(|| ChangeError::Missing(format!("account {name:?}")))
}

fn domain_mut<'a>(dynamic: &'a mut Dynamic, name: &Domain) -> Result<&'a mut DomainConfig, ChangeError> {
    dynamic.domains.get_mut(name).ok_or_else(|| ChangeError::Missing(format!("domain {name}")))
}

fn alias_mut<'a>(dynamic: &'a mut Dynamic, address: &Address) -> Result<&'a mut Alias, ChangeError> {
    let alias = domain_mut(dynamic, &address.domain)?.aliases.get_mut(&address.localpart);
    alias.ok_or_else(|| ChangeError::Missing(format!("alias {address}")))
}

/// A new account with usual settings and one address.
///
/// # Errors
/// When the name is taken.
pub fn add_account(dynamic: &mut Dynamic, name: &str, address: &Address) -> Changed {
    crate::check::account_name(name).map_err(ChangeError::Bad)?;
    if dynamic.accounts.contains_key(name) {
        return Err(ChangeError::Exists(format!("account {name:?}")));
    }
    let pattern = |text| Pattern::new(text).map_err(ChangeError::Bad);
    let account = Account {
        domain: Some(address.domain.clone()),
        destinations: BTreeMap::from([(DestinationKey::Address(address.clone()), Destination::default())]),
        subject_pass: Some(SubjectPass { period: Duration::from_secs(12 * 3600) }),
        rejects_mailbox: Some(MailboxName::new("Rejects").map_err(ChangeError::Bad)?),
        automatic_junk_flags: Some(AutomaticJunkFlags {
            enabled: true,
            junk_mailbox_regexp: Some(pattern("^(junk|spam)")?),
            neutral_mailbox_regexp: Some(pattern("^(inbox|introbox|neutral|postmaster|dmarc|tlsrpt|rejects)")?),
            not_junk_mailbox_regexp: None,
        }),
        junk_filter: Some(JunkFilter {
            threshold: 0.95,
            params: JunkParams {
                onegrams: true,
                max_power: 0.01,
                top_words: 10,
                ignore_words: 0.1,
                rare_words: 2,
                ..JunkParams::default()
            },
        }),
        no_custom_password: true,
        ..Account::default()
    };
    dynamic.accounts.insert(name.to_owned(), account);
    Ok(())
}

/// Removes an account; what still needs it is for the checks.
///
/// # Errors
/// When there is none.
pub fn remove_account(dynamic: &mut Dynamic, name: &str) -> Changed {
    dynamic.accounts.remove(name).map(drop).ok_or_else(|| ChangeError::Missing(format!("account {name:?}")))
}

/// Refuses logins to an account with a text, or allows them again.
///
/// # Errors
/// When there is no such account, or the text isn't short printable ASCII.
pub fn set_login_disabled(dynamic: &mut Dynamic, name: &str, text: Option<&str>) -> Changed {
    let text = text.map(|text| if text.is_empty() { Err("message is empty".to_owned()) } else { AsciiText::new(text) });
    account_mut(dynamic, name)?.login_disabled = text.transpose().map_err(ChangeError::Bad)?;
    Ok(())
}

/// A new address or catchall for an account.
///
/// # Errors
/// When there is no such account, or it has the address.
pub fn add_address(dynamic: &mut Dynamic, key: DestinationKey, account: &str) -> Changed {
    let destinations = &mut account_mut(dynamic, account)?.destinations;
    if destinations.contains_key(&key) {
        return Err(ChangeError::Exists(format!("address {key}")));
    }
    destinations.insert(key, Destination::default());
    Ok(())
}

/// Removes an address from the account that has it, with what refers to it: logins with unique addresses, and its
/// membership in aliases.
///
/// # Errors
/// When no account has it, or it is the last member of an alias.
pub fn remove_address(dynamic: &mut Dynamic, key: &DestinationKey) -> Changed {
    let owner = dynamic.accounts.iter().find(|(_, account)| account.destinations.contains_key(key));
    let owner = owner.map(|(name, _)| name.clone()).ok_or_else(|| ChangeError::Missing(format!("address {key}")))?;
    let compared = dynamic.clone();
    let same = |address: &Address| match key {
        DestinationKey::Address(removed) => canonical(&compared, address) == canonical(&compared, removed),
        DestinationKey::Catchall(domain) => address.domain == *domain,
        DestinationKey::Localpart(_) => false,
    };
    let account = account_mut(dynamic, &owner)?;
    account.destinations.remove(key);
    account.from_id_login_addresses.retain(|address| !same(address));
    let DestinationKey::Address(removed) = key else { return Ok(()) };
    for (name, domain) in &mut dynamic.domains {
        for (localpart, alias) in &mut domain.aliases {
            alias.addresses.retain(|member| member != removed);
            if alias.addresses.is_empty() {
                return Err(ChangeError::InUse(format!("address {key} is the last member of alias {localpart}@{name}")));
            }
        }
    }
    Ok(())
}

/// A new domain.
#[derive(Clone, Debug)]
pub struct NewDomain {
    /// Its name.
    pub domain: Domain,
    /// Whether it starts disabled.
    pub disabled: bool,
    /// Account for its reports and its postmaster.
    pub account: String,
    /// Set when the account is new: the localpart of its address.
    pub localpart: Option<Localpart>,
    /// Selectors with the files of their keys, in the order of their names; the first signs.
    pub selectors: Vec<(UnicodeDomain, String)>,
    /// Id of the MTA-STS policy: the time of now.
    pub policy_id: String,
}

/// Adds a domain with usual settings, and its account if that is new.
///
/// # Errors
/// When the domain is there, or the account and whether it is new don't fit.
pub fn add_domain(dynamic: &mut Dynamic, fixed: &Static, new: NewDomain) -> Changed {
    let NewDomain { domain, disabled, account, localpart, selectors, policy_id } = new;
    if dynamic.domains.contains_key(&domain) {
        return Err(ChangeError::Exists(format!("domain {domain}")));
    }
    let client = Domain::parse(&format!("mail.{}", domain.ascii())).map_err(|e| ChangeError::Bad(e.to_string()))?;
    let report = |localpart: &str, mailbox: &str| {
        Ok(ReportAddress {
            localpart: AsciiLocalpart::parse(localpart)?,
            domain: None,
            account: account.clone(),
            mailbox: MailboxName::new(mailbox)?,
        })
    };
    let report = |localpart, mailbox| report(localpart, mailbox).map_err(ChangeError::Bad);
    let serves_policies = fixed.listeners.values().any(|l| l.mtasts_https.as_ref().is_some_and(|s| s.enabled));
    let config = DomainConfig {
        disabled,
        client_settings_domain: Some(client),
        localpart_catchall_separator: "+".to_owned(),
        dkim: dkim(selectors),
        dmarc: Some(report("dmarcreports", "DMARC")?),
        tlsrpt: Some(report("tlsreports", "TLSRPT")?),
        mtasts: serves_policies.then(|| MtaSts {
            policy_id,
            mode: MtaStsMode::Enforce,
            max_age: Duration::from_secs(24 * 3600),
            mx: vec![MxPattern { wildcard: false, domain: fixed.hostname.domain().clone() }],
        }),
        ..DomainConfig::default()
    };
    dynamic.domains.insert(domain.clone().into(), config);
    match (dynamic.accounts.contains_key(&account), localpart) {
        (false, Some(localpart)) => add_account(dynamic, &account, &Address::new(localpart, domain)),
        (false, None) => Err(ChangeError::Bad(format!("account {account:?} doesn't exist, and needs a localpart to be made"))),
        (true, Some(_)) => Err(ChangeError::Bad(format!("account {account:?} exists, a localpart is only for a new one"))),
        (true, None) if account == fixed.postmaster.account => Ok(()),
        (true, None) => {
            let postmaster = Localpart::from_decoded("postmaster").map_err(|e| ChangeError::Bad(e.to_string()))?;
            add_address(dynamic, DestinationKey::Address(Address::new(postmaster, domain)), &account)
        }
    }
}

fn dkim(selectors: Vec<(UnicodeDomain, String)>) -> Option<Dkim> {
    let sign = selectors.first().map(|(name, _)| name.clone())?;
    let selector = |(name, private_key_file)| {
        let expiration = Some(DurationText::from_text("72h", Duration::from_secs(72 * 3600)));
        let selector = Selector {
            hash: None,
            // Survives what relays do to white space.
            canonicalization: crate::domain::Canonicalization { header_relaxed: true, body_relaxed: true },
            headers: Vec::new(),
            dont_seal_headers: false,
            expiration,
            private_key_file,
        };
        (name, selector)
    };
    Some(Dkim { selectors: selectors.into_iter().map(selector).collect(), sign: vec![sign] })
}

/// Removes a domain; addresses that are left in it are for the checks.
///
/// # Errors
/// When there is none.
pub fn remove_domain(dynamic: &mut Dynamic, name: &Domain) -> Changed {
    dynamic.domains.remove(name).map(drop).ok_or_else(|| ChangeError::Missing(format!("domain {name}")))
}

/// Disables or enables a domain.
///
/// # Errors
/// When there is none.
pub fn set_domain_disabled(dynamic: &mut Dynamic, name: &Domain, disabled: bool) -> Changed {
    domain_mut(dynamic, name)?.disabled = disabled;
    Ok(())
}

/// A new alias, to which anyone may send.
///
/// # Errors
/// When its domain isn't there or the alias is.
pub fn add_alias(dynamic: &mut Dynamic, address: &Address, members: Vec<Address>) -> Changed {
    let domain = domain_mut(dynamic, &address.domain)?;
    if domain.aliases.contains_key(&address.localpart) {
        return Err(ChangeError::Exists(format!("alias {address}")));
    }
    let alias = Alias { addresses: members, post_public: true, list_members: false, allow_msg_from: false };
    domain.aliases.insert(address.localpart.clone(), alias);
    Ok(())
}

/// Changes the settings of an alias that are given.
///
/// # Errors
/// When there is none.
pub fn update_alias(
    dynamic: &mut Dynamic,
    address: &Address,
    post_public: Option<bool>,
    list_members: Option<bool>,
    allow_msg_from: Option<bool>,
) -> Changed {
    let alias = alias_mut(dynamic, address)?;
    alias.post_public = post_public.unwrap_or(alias.post_public);
    alias.list_members = list_members.unwrap_or(alias.list_members);
    alias.allow_msg_from = allow_msg_from.unwrap_or(alias.allow_msg_from);
    Ok(())
}

/// Removes an alias.
///
/// # Errors
/// When there is none.
pub fn remove_alias(dynamic: &mut Dynamic, address: &Address) -> Changed {
    let removed = domain_mut(dynamic, &address.domain)?.aliases.remove(&address.localpart);
    removed.map(drop).ok_or_else(|| ChangeError::Missing(format!("alias {address}")))
}

/// Adds members to an alias.
///
/// # Errors
/// When there is no such alias. Members that are in it are found by the checks.
pub fn add_members(dynamic: &mut Dynamic, address: &Address, members: Vec<Address>) -> Changed {
    alias_mut(dynamic, address)?.addresses.extend(members);
    Ok(())
}

/// Removes members from an alias.
///
/// # Errors
/// When one isn't in it, or none would be left.
pub fn remove_members(dynamic: &mut Dynamic, address: &Address, members: &[Address]) -> Changed {
    let alias = alias_mut(dynamic, address)?;
    if let Some(missing) = members.iter().find(|member| !alias.addresses.contains(member)) {
        return Err(ChangeError::Missing(format!("member {missing} of alias {address}")));
    }
    alias.addresses.retain(|member| !members.contains(member));
    if alias.addresses.is_empty() {
        return Err(ChangeError::InUse(format!("alias {address} would have no members")));
    }
    Ok(())
}
