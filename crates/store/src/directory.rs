//! Who has which address: the configuration's domains, accounts, destinations and aliases as one immutable value.
//!
//! The binary builds a [`Directory`] from the configuration and swaps it as a whole in [`SharedDirectory`] when that
//! changes; sessions hold on to what they looked up. The lookup is one algorithm for recipients, senders and logins,
//! which differ in what they accept (see [`Directory::recipient`], [`Directory::check_sender`], [`Directory::login`]).
//! Lookups are a few hash probes, whatever the number of addresses. Nothing here does I/O.

mod settings;
#[cfg(test)]
mod tests;

pub use settings::{
    AccountSettings, AliasSettings, AutomaticJunkFlags, Destination, DestinationKey, DomainSettings, HeaderPattern, HostTlsReports,
    MailboxOf, OutgoingWebhook, ReportAddress, Reports, Ruleset, Settings, SmtpError, SmtpErrorKind, WebhookTarget,
};

use mox_base::{Address, Domain, Host, Localpart, Path};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};

/// The localpart that every mail host has, RFC 5321 §4.5.1.
const POSTMASTER: &str = "postmaster";

/// Before the id in an address of the postmaster, whatever separators its domain has.
pub const POSTMASTER_SEPARATOR: &str = "+";

/// An address of an account, and how mail for it is delivered.
#[derive(Clone, Debug)]
pub struct LocalRecipient {
    /// Whose it is.
    pub account: Arc<AccountSettings>,
    /// Where mail goes.
    pub destination: Arc<Destination>,
    /// The canonical address: `localpart@domain` with the Unicode domain, `@domain` for a catchall, `postmaster` for
    /// the server's own. Also the key of what is kept per address.
    pub canonical: String,
}

/// A list of local addresses under one address.
#[derive(Clone, Debug)]
pub struct Alias {
    /// The address of the list, canonical.
    pub address: Address,
    /// The addresses behind it, at least one.
    pub members: Vec<AliasMember>,
    /// Whether anyone may post, not only members.
    pub post_public: bool,
    /// Whether members may see who the members are.
    pub list_members: bool,
    /// Whether members may send with the alias as sender.
    pub allow_msg_from: bool,
}

/// One address behind an alias.
#[derive(Clone, Debug)]
pub struct AliasMember {
    /// The member's own address, as `Delivered-To` shows it.
    pub address: Address,
    /// The account and destination.
    pub recipient: LocalRecipient,
}

/// Whom mail for an address reaches.
#[derive(Clone, Debug)]
pub enum Recipient {
    /// One account.
    Account(LocalRecipient),
    /// All members of an alias.
    Alias(Arc<Alias>),
}

/// Why an address leads nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// The domain isn't ours, or is only configured for reports about it: mail for it goes elsewhere.
    #[error("domain not found")]
    DomainNotFound,
    /// The domain is ours, and the administrator disabled it for now.
    #[error("domain is temporarily disabled")]
    DomainDisabled,
    /// The domain is ours, the localpart is unknown.
    #[error("address not found")]
    AddressNotFound,
}

/// Why an account may not send with an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SenderError {
    /// The domain is disabled for now.
    #[error("domain is temporarily disabled")]
    DomainDisabled,
    /// The address isn't the account's.
    #[error("address doesn't belong to the account")]
    NotAllowed,
}

/// Why settings make no directory. The configuration is checked with better messages before; these keep the promises
/// of the types.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DirectoryError {
    /// An account that is referred to doesn't exist.
    #[error("unknown account {0:?}")]
    UnknownAccount(String),
    /// Two accounts of one name.
    #[error("account {0:?} exists twice")]
    DuplicateAccount(String),
    /// An address in a domain that isn't configured.
    #[error("domain {0} is not configured")]
    UnknownDomain(Domain),
    /// An address has two owners.
    #[error("address {0} exists twice")]
    DuplicateAddress(String),
    /// An alias without members, or with one that is no destination's address.
    #[error("alias {alias}: member {member} is no local address")]
    UnknownMember {
        /// The alias.
        alias: Address,
        /// The member.
        member: String,
    },
}

/// The resolved configuration of addresses. Immutable; see the module.
#[derive(Debug)]
pub struct Directory {
    hostname: Domain,
    mail_hosts: HashSet<Domain>,
    postmaster: LocalRecipient,
    host_tls_reports: Option<(Localpart, LocalRecipient)>,
    domains: BTreeMap<Domain, DomainEntry>,
    accounts: BTreeMap<String, Arc<AccountSettings>>,
    /// By canonical address.
    addresses: HashMap<Address, Recipient>,
    catchalls: HashMap<Domain, LocalRecipient>,
    /// Takes what nobody has, in localserve.
    everything: Option<LocalRecipient>,
}

#[derive(Debug)]
struct DomainEntry {
    settings: Arc<DomainSettings>,
    /// Localparts of report addresses at this domain, matched before separators.
    reports: Vec<Localpart>,
    /// Whether there is any address at the domain; without one it isn't hosted here.
    hosted: bool,
}

impl Directory {
    /// Resolves settings.
    ///
    /// # Errors
    /// See [`DirectoryError`].
    pub fn new(settings: Settings) -> Result<Self, DirectoryError> {
        let mut accounts = BTreeMap::new();
        let mut destinations = Vec::new();
        for (account, of_account) in settings.accounts {
            let account = Arc::new(account);
            destinations.extend(of_account.into_iter().map(|(key, destination)| (Arc::clone(&account), key, destination)));
            if let Some(twice) = accounts.insert(account.name.clone(), account) {
                return Err(DirectoryError::DuplicateAccount(twice.name.clone()));
            }
        }
        let postmaster = special(&accounts, &settings.postmaster, None, POSTMASTER)?;
        let host_tls_reports = match &settings.host_tls_reports {
            Some(HostTlsReports { localpart, to }) => {
                let canonical = format!("{}@{}", localpart, settings.hostname);
                Some((localpart.clone(), special(&accounts, to, Some(Reports::HostTls), &canonical)?))
            }
            None => None,
        };
        let mut directory = Self {
            mail_hosts: settings.listener_hostnames.into_iter().chain([settings.hostname.clone()]).collect(),
            hostname: settings.hostname,
            postmaster,
            host_tls_reports,
            domains: BTreeMap::new(),
            accounts,
            addresses: HashMap::new(),
            catchalls: HashMap::new(),
            everything: None,
        };
        let domains: Vec<_> = settings.domains.into_iter().map(Arc::new).collect();
        for domain in &domains {
            let entry = DomainEntry { settings: Arc::clone(domain), reports: Vec::new(), hosted: false };
            directory.domains.insert(domain.domain.clone(), entry);
        }
        directory.collect_report_localparts(&domains)?;
        for (account, key, destination) in destinations {
            directory.add_destination(account, key, destination)?;
        }
        directory.add_report_addresses(&domains)?;
        for domain in &domains {
            for alias in &domain.aliases {
                directory.add_alias(&domain.domain, alias)?;
            }
        }
        if let Some(address) = &settings.everything {
            match directory.find(address, Purpose::Login) {
                Ok(Recipient::Account(recipient)) => directory.everything = Some(recipient),
                _ => return Err(DirectoryError::UnknownMember { alias: address.clone(), member: address.to_string() }),
            }
        }
        Ok(directory)
    }

    /// The domain where reports of `domain` arrive must be ours.
    fn hosted(&mut self, domain: &Domain) -> Result<&mut DomainEntry, DirectoryError> {
        self.domains.get_mut(domain).ok_or_else(|| DirectoryError::UnknownDomain(domain.clone()))
    }

    fn collect_report_localparts(&mut self, domains: &[Arc<DomainSettings>]) -> Result<(), DirectoryError> {
        for report in domains.iter().flat_map(|d| d.dmarc_reports.iter().chain(&d.tls_reports)) {
            let entry = self.hosted(&report.domain)?;
            let localpart = entry.settings.fold_case(&report.localpart);
            entry.reports.push(localpart);
            entry.hosted = true;
        }
        Ok(())
    }

    fn add_destination(
        &mut self,
        account: Arc<AccountSettings>,
        key: DestinationKey,
        destination: Destination,
    ) -> Result<(), DirectoryError> {
        let destination = Arc::new(destination);
        match key {
            DestinationKey::Address(address) => {
                self.hosted(&address.domain)?.hosted = true;
                let canonical = self.canonical(&address);
                let recipient = LocalRecipient { account, destination, canonical: canonical.to_string() };
                if self.addresses.insert(canonical, Recipient::Account(recipient)).is_some() {
                    return Err(DirectoryError::DuplicateAddress(address.to_string()));
                }
            }
            DestinationKey::CatchAll(domain) => {
                self.hosted(&domain)?.hosted = true;
                let recipient = LocalRecipient { account, destination, canonical: format!("@{domain}") };
                if self.catchalls.insert(domain.clone(), recipient).is_some() {
                    return Err(DirectoryError::DuplicateAddress(format!("@{domain}")));
                }
            }
        }
        Ok(())
    }

    /// Report addresses take precedence over a destination of the same address.
    fn add_report_addresses(&mut self, domains: &[Arc<DomainSettings>]) -> Result<(), DirectoryError> {
        for domain in domains {
            let reports = [(&domain.dmarc_reports, Reports::Dmarc), (&domain.tls_reports, Reports::DomainTls)];
            for (report, kind) in reports.into_iter().filter_map(|(report, kind)| Some((report.as_ref()?, kind))) {
                let localpart = self.hosted(&report.domain)?.settings.fold_case(&report.localpart);
                let address = Address::new(localpart, report.domain.clone());
                let recipient = special(&self.accounts, &report.to, Some(kind), &address.to_string())?;
                self.addresses.insert(address, Recipient::Account(recipient));
            }
        }
        Ok(())
    }

    fn add_alias(&mut self, domain: &Domain, alias: &AliasSettings) -> Result<(), DirectoryError> {
        let address = self.canonical(&Address::new(alias.localpart.clone(), domain.clone()));
        let unknown = |member: String| DirectoryError::UnknownMember { alias: address.clone(), member };
        let mut members = Vec::with_capacity(alias.members.len());
        for member in &alias.members {
            let canonical = self.canonical(member);
            let Some(Recipient::Account(recipient)) = self.addresses.get(&canonical) else {
                return Err(unknown(member.to_string()));
            };
            members.push(AliasMember { address: canonical, recipient: recipient.clone() });
        }
        if members.is_empty() {
            return Err(unknown(String::new()));
        }
        let resolved = Alias {
            address: address.clone(),
            members,
            post_public: alias.post_public,
            list_members: alias.list_members,
            allow_msg_from: alias.allow_msg_from,
        };
        self.hosted(domain)?.hosted = true;
        match self.addresses.insert(address, Recipient::Alias(Arc::new(resolved))) {
            None => Ok(()),
            Some(_) => Err(DirectoryError::DuplicateAddress(format!("{}@{domain}", alias.localpart))),
        }
    }

    /// The name of this mail server.
    pub const fn hostname(&self) -> &Domain {
        &self.hostname
    }

    /// The domain's settings, also for domains that only get reports.
    pub fn domain(&self, domain: &Domain) -> Option<&Arc<DomainSettings>> {
        self.domains.get(domain).map(|entry| &entry.settings)
    }

    /// All configured domains, in order of their names.
    pub fn domains(&self) -> impl Iterator<Item = &Arc<DomainSettings>> {
        self.domains.values().map(|entry| &entry.settings)
    }

    /// Whether mail for the domain is received here: it is configured and has at least one address.
    pub fn is_local(&self, domain: &Domain) -> bool {
        self.domains.get(domain).is_some_and(|entry| entry.hosted)
    }

    /// The account of a name.
    pub fn account(&self, name: &str) -> Option<&Arc<AccountSettings>> {
        self.accounts.get(name)
    }

    /// All accounts, in order of their names.
    pub fn accounts(&self) -> impl Iterator<Item = &Arc<AccountSettings>> {
        self.accounts.values()
    }

    /// Where mail for `<postmaster>` without a domain goes, RFC 5321 §4.5.1.
    pub const fn postmaster(&self) -> &LocalRecipient {
        &self.postmaster
    }

    /// Whether an address is the server's own postmaster, who can't be refused.
    pub fn is_postmaster(&self, path: &Path) -> bool {
        let at_host = path.host.domain().is_some_and(|domain| self.mail_hosts.contains(domain));
        at_host && path.localpart.as_str().eq_ignore_ascii_case(POSTMASTER)
    }

    /// The id in an address of the postmaster, `postmaster+id`: by these, what comes back about a message that the server itself sent is
    /// recognised. Anything that could be somebody else's address is none.
    pub fn postmaster_id<'p>(&self, path: &'p Path) -> Option<&'p str> {
        path.host.domain().filter(|domain| self.has_postmaster(domain)).and_then(|_| postmaster_id(&path.localpart))
    }

    fn has_postmaster(&self, domain: &Domain) -> bool {
        self.mail_hosts.contains(domain) || self.domains.get(domain).is_some_and(|entry| entry.hosted && !entry.settings.disabled)
    }

    /// Whom mail for an address reaches. Address literals are never ours, RFC 5321 §4.1.3 notwithstanding: they only
    /// attract spam.
    ///
    /// # Errors
    /// See [`AddressError`]. In localserve, where everything is accepted, only address literals fail.
    pub fn recipient(&self, path: &Path) -> Result<Recipient, AddressError> {
        let Host::Domain(domain) = &path.host else { return Err(AddressError::DomainNotFound) };
        let found = self.find(&Address::new(path.localpart.clone(), domain.clone()), Purpose::Delivery);
        match (&self.everything, found) {
            (Some(recipient), Err(_)) => Ok(Recipient::Account(recipient.clone())),
            (_, found) => found,
        }
    }

    /// Checks that an account may use an address as MAIL FROM or in From: it is its own (also through separators or a
    /// catchall), or an alias for sending of which the account has a member address.
    ///
    /// # Errors
    /// See [`SenderError`].
    pub fn check_sender(&self, account: &str, address: &Address) -> Result<(), SenderError> {
        let allowed = match self.find(address, Purpose::Sending) {
            Ok(Recipient::Account(recipient)) => recipient.account.name == account,
            Ok(Recipient::Alias(alias)) => alias.allow_msg_from && alias.members.iter().any(|m| m.recipient.account.name == account),
            Err(AddressError::DomainDisabled) => return Err(SenderError::DomainDisabled),
            Err(AddressError::DomainNotFound | AddressError::AddressNotFound) => false,
        };
        if allowed { Ok(()) } else { Err(SenderError::NotAllowed) }
    }

    /// The account that logs in with an address. Whether it may ([`AccountSettings::login_disabled`]) is to be checked
    /// after the credentials.
    ///
    /// # Errors
    /// See [`AddressError`]; a disabled domain doesn't matter.
    pub fn login(&self, address: &Address) -> Result<LocalRecipient, AddressError> {
        match self.find(address, Purpose::Login)? {
            Recipient::Account(recipient) => Ok(recipient),
            Recipient::Alias(_) => Err(AddressError::AddressNotFound),
        }
    }

    fn find(&self, address: &Address, purpose: Purpose) -> Result<Recipient, AddressError> {
        let postmaster = address.localpart.as_str().eq_ignore_ascii_case(POSTMASTER);
        let takes_postmaster = purpose == Purpose::Delivery;
        if postmaster && takes_postmaster && self.mail_hosts.contains(&address.domain) {
            return Ok(Recipient::Account(self.postmaster.clone()));
        }
        if takes_postmaster && postmaster_id(&address.localpart).is_some() && self.has_postmaster(&address.domain) {
            return Ok(Recipient::Account(self.postmaster.clone()));
        }
        if let Some((localpart, recipient)) = &self.host_tls_reports
            && address.domain == self.hostname
            && localpart.to_lowercase() == address.localpart.to_lowercase()
        {
            return Ok(Recipient::Account(recipient.clone()));
        }
        let entry = self.domains.get(&address.domain).filter(|entry| entry.hosted).ok_or(AddressError::DomainNotFound)?;
        if entry.settings.disabled && purpose != Purpose::Login {
            return Err(AddressError::DomainDisabled);
        }
        let found = match self.addresses.get(&self.canonical(address)) {
            Some(Recipient::Alias(_)) if purpose == Purpose::Login => None,
            found => found,
        };
        if let Some(found) = found {
            return Ok(found.clone());
        }
        if let Some(catchall) = self.catchalls.get(&address.domain) {
            return Ok(Recipient::Account(catchall.clone()));
        }
        if postmaster && takes_postmaster {
            return Ok(Recipient::Account(self.postmaster.clone()));
        }
        Err(AddressError::AddressNotFound)
    }

    /// An address in the form in which it is looked up and compared: case folded unless the domain says otherwise, and
    /// without what follows a separator. Addresses of other domains are returned as they are.
    #[must_use]
    pub fn canonical(&self, address: &Address) -> Address {
        let Some(entry) = self.domains.get(&address.domain) else { return address.clone() };
        let domain = address.domain.clone();
        let localpart = if address.localpart.as_str().eq_ignore_ascii_case(POSTMASTER) {
            address.localpart.to_lowercase()
        } else {
            entry.settings.fold_case(&address.localpart)
        };
        let separators = &entry.settings.separators;
        // Report addresses are configured with separators in them (`dmarc-reports` where `-` is one), so they go first.
        let is_report = |report: &Localpart| {
            let rest = localpart.as_str().strip_prefix(report.as_str());
            rest.is_some_and(|rest| rest.is_empty() || separators.iter().any(|s| rest.starts_with(s.as_str())))
        };
        if let Some(report) = entry.reports.iter().find(|report| is_report(report)) {
            return Address::new(report.clone(), domain);
        }
        let cut = separators.iter().fold(localpart.as_str(), |text, s| text.split_once(s.as_str()).map_or(text, |(before, _)| before));
        // A prefix of a valid localpart is one.
        Address::new(Localpart::from_decoded(cut).unwrap_or_else(|_| localpart.clone()), domain)
    }
}

/// What an address is looked up for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Delivery,
    Sending,
    Login,
}

fn special(
    accounts: &BTreeMap<String, Arc<AccountSettings>>,
    to: &MailboxOf,
    reports: Option<Reports>,
    canonical: &str,
) -> Result<LocalRecipient, DirectoryError> {
    let account = accounts.get(&to.account).ok_or_else(|| DirectoryError::UnknownAccount(to.account.clone()))?;
    let destination = Arc::new(Destination { mailbox: to.mailbox.clone(), reports, ..Destination::default() });
    Ok(LocalRecipient { account: Arc::clone(account), destination, canonical: canonical.to_owned() })
}

/// The directory in effect. Clones share it; whoever works on one mail or session takes [`Self::current`] once.
#[derive(Clone, Debug)]
pub struct SharedDirectory {
    current: Arc<RwLock<Arc<Directory>>>,
}

impl SharedDirectory {
    /// Starts with a directory.
    #[must_use]
    pub fn new(directory: Directory) -> Self {
        Self { current: Arc::new(RwLock::new(Arc::new(directory))) }
    }

    /// The directory in effect now.
    #[must_use]
    pub fn current(&self) -> Arc<Directory> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts another directory into effect, as a whole.
    pub fn replace(&self, directory: Directory) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(directory);
    }
}

/// What follows `postmaster+`, if it is an id as the queue makes them: 22 letters, digits, `-` and `_`.
fn postmaster_id(localpart: &Localpart) -> Option<&str> {
    let (name, id) = localpart.as_str().split_once(POSTMASTER_SEPARATOR)?;
    let is_id = id.len() == 22 && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    (is_id && name.eq_ignore_ascii_case(POSTMASTER)).then_some(id)
}
