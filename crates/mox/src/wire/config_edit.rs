//! Changes of the configuration on behalf of commands: made, checked, written, and taken into use.

mod removal;

use super::services::Shared;
use crate::ctl::ConfigEdit;
use mox_base::{Address, Domain, Timestamp};
use mox_config::edit::{self, Changed, NewDomain};
use mox_config::{DestinationKey, Dynamic, EditError, Live, Paths, UnicodeDomain, schema::Key};
use mox_delivery::outbound::Runner;
use rcgen::KeyPair;
use std::fmt::Display;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// Makes a change. When this returns without error, it is in the file and in use.
pub(super) async fn edit(shared: &Shared, runner: &Runner, change: ConfigEdit) -> Result<(), String> {
    if let Some(reason) = removal::obstacle(shared, &change).await? {
        return Err(reason);
    }
    let removed = match &change {
        ConfigEdit::AccountRemove { account } => Some(account.clone()),
        _ => None,
    };
    // An account that went from the configuration, but not from the store, because of a crash or an editor.
    if let Some(account) = &removed
        && !shared.live.snapshot().dynamic.accounts.contains_key(account)
        && removal::is_left_over(shared, account).await?
    {
        return removal::remove_account(shared, runner, account).await;
    }
    let live = Arc::clone(&shared.live);
    let now = shared.store.clock().now();
    // Keys are generated and files written in there.
    let edited = tokio::task::spawn_blocking(move || make(&live, change, now));
    edited.await.map_err(|e| format!("changing the configuration: {e}"))??;
    match removed {
        Some(account) => removal::remove_account(shared, runner, &account).await,
        None => shared.apply().await,
    }
}

fn make(live: &Live, change: ConfigEdit, now: Timestamp) -> Result<(), String> {
    match change {
        ConfigEdit::AccountAdd { account, address } => {
            let address = address_of(&address)?;
            // Names that can't be folders are refused below.
            let is_name = matches!(*Path::new(&account).components().collect::<Vec<_>>(), [Component::Normal(_)]);
            if is_name && live.paths().data("accounts").join(&account).exists() {
                return Err(format!("account directory for {account:?} already exists"));
            }
            edited(live, |dynamic| edit::add_account(dynamic, &account, &address))
        }
        ConfigEdit::AccountRemove { account } => edited(live, |dynamic| edit::remove_account(dynamic, &account)),
        ConfigEdit::AddressRemove { address } => {
            let key = address_key(&address)?;
            edited(live, |dynamic| edit::remove_address(dynamic, &key))
        }
        ConfigEdit::AccountDisable { account, message } => {
            edited(live, |dynamic| edit::set_login_disabled(dynamic, &account, message.as_deref()))
        }
        ConfigEdit::AddressAdd { address, account } => {
            let key = address_key(&address)?;
            edited(live, |dynamic| edit::add_address(dynamic, key, &account))
        }
        ConfigEdit::DomainAdd { domain, account, localpart, disabled } => {
            let localpart = localpart.map(|text| text.parse().map_err(|e| bad("localpart", &text, e))).transpose()?;
            add_domain(live, domain_of(&domain)?, account, localpart, disabled, now)
        }
        ConfigEdit::DomainRemove { domain } => remove_domain(live, &domain_of(&domain)?),
        ConfigEdit::DomainDisable { domain, disabled } => {
            let domain = domain_of(&domain)?;
            edited(live, |dynamic| edit::set_domain_disabled(dynamic, &domain, disabled))
        }
        ConfigEdit::AliasAdd { alias, members } => {
            let (alias, members) = (address_of(&alias)?, addresses_of(&members)?);
            edited(live, |dynamic| edit::add_alias(dynamic, &alias, members))
        }
        ConfigEdit::AliasUpdate { alias, post_public, list_members, allow_msg_from } => {
            let alias = address_of(&alias)?;
            edited(live, |dynamic| edit::update_alias(dynamic, &alias, post_public, list_members, allow_msg_from))
        }
        ConfigEdit::AliasRemove { alias } => {
            let alias = address_of(&alias)?;
            edited(live, |dynamic| edit::remove_alias(dynamic, &alias))
        }
        ConfigEdit::AliasAddMembers { alias, members } => {
            let (alias, members) = (address_of(&alias)?, addresses_of(&members)?);
            edited(live, |dynamic| edit::add_members(dynamic, &alias, members))
        }
        ConfigEdit::AliasRemoveMembers { alias, members } => {
            let (alias, members) = (address_of(&alias)?, addresses_of(&members)?);
            edited(live, |dynamic| edit::remove_members(dynamic, &alias, &members))
        }
    }
}

fn edited(live: &Live, change: impl FnOnce(&mut Dynamic) -> Changed) -> Result<(), String> {
    live.edit(change).map(drop).map_err(|e: EditError<_>| e.to_string())
}

fn bad(what: &str, text: &str, error: impl Display) -> String {
    format!("{what} {text:?}: {error}")
}

/// An address, or `@domain`.
fn address_key(text: &str) -> Result<DestinationKey, String> {
    match DestinationKey::parse_key(text)? {
        DestinationKey::Localpart(_) => Err(format!("{text:?} is no address")),
        key => Ok(key),
    }
}

fn address_of(text: &str) -> Result<Address, String> {
    text.parse().map_err(|e| bad("address", text, e))
}

fn addresses_of(texts: &[String]) -> Result<Vec<Address>, String> {
    texts.iter().map(|text| address_of(text)).collect()
}

fn domain_of(text: &str) -> Result<Domain, String> {
    text.parse().map_err(|e| bad("domain", text, e))
}

/// Two new keys, so that one can take over when the other gets old. Their files go again when the domain can't be added.
fn add_domain(
    live: &Live,
    domain: Domain,
    account: String,
    localpart: Option<mox_base::Localpart>,
    disabled: bool,
    now: Timestamp,
) -> Result<(), String> {
    let mut made = Vec::new();
    let result = ['a', 'b'].into_iter().try_fold(Vec::new(), |mut selectors, letter| {
        let selector = domain_of(&format!("{:04}{letter}", now.date().0))?;
        let file = write_key(live.paths(), &selector, &domain, now)?;
        made.push(live.paths().config(&file));
        selectors.push((UnicodeDomain::from(selector), file));
        Ok::<_, String>(selectors)
    });
    let result = result.and_then(|selectors| {
        let new = NewDomain { domain, disabled, account, localpart, selectors, policy_id: compact(now) };
        edited(live, |dynamic| edit::add_domain(dynamic, live.settings(), new))
    });
    if result.is_err() {
        for file in made {
            // What is left is harmless, and what went wrong before is more important.
            drop(std::fs::remove_file(file));
        }
    }
    result
}

/// `20060102T150405`.
fn compact(now: Timestamp) -> String {
    Timestamp::from_secs(now.secs()).rfc3339().chars().filter(char::is_ascii_alphanumeric).filter(|c| *c != 'Z').collect()
}

/// Makes a key and gives its path, relative to the directory of the configuration.
fn write_key(paths: &Paths, selector: &Domain, domain: &Domain, now: Timestamp) -> Result<String, String> {
    let pair = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).map_err(|e| format!("generating DKIM key: {e}"))?;
    let record = format!("{}._domainkey.{}", selector.ascii(), domain.ascii());
    let at = Timestamp::from_secs(now.secs()).rfc3339();
    let note = format!("Note: rsa-2048 dkim private key for {record}, generated by mox on {at}\n\n");
    let mut pem = pair.serialize_pem();
    if let Some(first) = pem.find('\n') {
        pem.insert_str(first + 1, &note);
    }
    let name = format!("dkim/{record}.{}.rsa2048.privatekey.pkcs8.pem", compact(now));
    write_new(&paths.config(&name), pem.as_bytes()).map_err(|e| format!("writing {name}: {e}"))?;
    Ok(name)
}

/// Writes a file that must not exist yet, durably: the configuration will name it. Nothing is left if that fails.
fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let Some(directory) = path.parent() else { return Err(io::ErrorKind::InvalidInput.into()) };
    std::fs::DirBuilder::new().recursive(true).mode(0o770).create(directory)?;
    let mut file = std::fs::File::options().write(true).create_new(true).mode(0o660).open(path)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| {
        // Its name, and that of its folder, which may be new as well.
        let above = directory.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
        [directory, above].into_iter().try_for_each(|folder| std::fs::File::open(folder)?.sync_all())
    });
    if written.is_err() {
        // What went wrong is more important.
        drop(std::fs::remove_file(path));
    }
    written
}

/// Keys that no other domain uses are put aside: their public half is in DNS for a while, and mistakes happen.
fn remove_domain(live: &Live, domain: &Domain) -> Result<(), String> {
    let before = key_files(live, |name| name == domain);
    edited(live, |dynamic| edit::remove_domain(dynamic, domain))?;
    let used = key_files(live, |_| true);
    for file in before.into_iter().filter(|file| !used.contains(file)) {
        if let Err(error) = put_aside(&file) {
            tracing::error!(%error, file = %file.display(), "moving the key of a removed domain");
        }
    }
    Ok(())
}

fn key_files(live: &Live, of: impl Fn(&Domain) -> bool) -> Vec<PathBuf> {
    let snapshot = live.snapshot();
    let domains = snapshot.dynamic.domains.iter().filter(|(name, _)| of(name.domain()));
    let selectors = domains.filter_map(|(_, config)| config.dkim.as_ref()).flat_map(|dkim| dkim.selectors.values());
    selectors.map(|selector| live.paths().config(&selector.private_key_file)).collect()
}

fn put_aside(file: &Path) -> io::Result<()> {
    let (Some(directory), Some(name)) = (file.parent(), file.file_name()) else { return Ok(()) };
    let old = directory.join("old");
    std::fs::DirBuilder::new().recursive(true).mode(0o770).create(&old)?;
    let to = old.join(name);
    if to.exists() {
        return Err(io::Error::other("there is one of that name in old"));
    }
    std::fs::rename(file, to)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATIC: &str = "DataDir: data\nLogLevel: info\nHostname: mx.example.org\nListeners:\n\tpublic:\n\t\tIPs:\n\t\t\t- 127.0.0.1\nPostmaster:\n\tAccount: ann\n\tMailbox: Postmaster\n";
    const DYNAMIC: &str = "Domains:\n\texample.org:\n\t\tLocalpartCatchallSeparator: +\nAccounts:\n\tann:\n\t\tDomain: example.org\n\t\tDestinations:\n\t\t\tann@example.org: nil\n";

    fn live() -> (tempfile::TempDir, Live) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("mox.conf"), STATIC).unwrap();
        std::fs::write(dir.path().join("domains.conf"), DYNAMIC).unwrap();
        let outside = mox_config::Outside { user_known: &|_| true, read_tls_keys: false };
        let live = Live::open(&dir.path().join("mox.conf"), &outside).unwrap().0;
        (dir, live)
    }

    fn files(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            std::fs::read_dir(dir).into_iter().flatten().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_domain_comes_with_keys_and_goes_with_them() {
        let (dir, live) = live();
        let now = Timestamp::parse_rfc3339("2026-11-25T15:04:05.5Z").unwrap();
        let add = |account: &str, localpart: Option<&str>| {
            let edit = ConfigEdit::DomainAdd {
                domain: "new.example".to_owned(),
                account: account.to_owned(),
                localpart: localpart.map(str::to_owned),
                disabled: false,
            };
            make(&live, edit, now)
        };
        assert_eq!(add("bob", None).unwrap_err(), "account \"bob\" doesn't exist, and needs a localpart to be made");
        assert!(files(&dir.path().join("dkim")).is_empty(), "keys go again");
        add("bob", Some("bob")).unwrap();
        let keys = ["a", "b"].map(|l| format!("2026{l}._domainkey.new.example.20261125T150405.rsa2048.privatekey.pkcs8.pem"));
        assert_eq!(files(&dir.path().join("dkim")), keys);
        let pem = std::fs::read_to_string(dir.path().join("dkim").join(&keys[0])).unwrap();
        assert!(pem.starts_with("-----BEGIN PRIVATE KEY-----\nNote: rsa-2048 dkim private key for 2026a._domainkey.new.example, generated by mox on 2026-11-25T15:04:05Z\n\n"));
        assert_eq!(live.snapshot().dkim_keys.len(), 2);

        let remove = ConfigEdit::DomainRemove { domain: "new.example".to_owned() };
        assert!(make(&live, remove.clone(), now).unwrap_err().starts_with("config error: account \"bob\""));
        let address = DestinationKey::Address(address_of("bob@new.example").unwrap());
        live.edit(|dynamic| edit::remove_address(dynamic, &address)).unwrap();
        make(&live, remove, now).unwrap();
        live.edit(|dynamic| edit::remove_account(dynamic, "bob")).unwrap();
        assert_eq!(files(&dir.path().join("dkim")), ["old"]);
        assert_eq!(files(&dir.path().join("dkim/old")), keys);
        assert_eq!(std::fs::read_to_string(dir.path().join("domains.conf")).unwrap(), DYNAMIC);
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let (dir, live) = live();
        let now = Timestamp::EPOCH;
        for (edit, want) in [
            (ConfigEdit::AddressAdd { address: "x".to_owned(), account: "ann".to_owned() }, "\"x\" is no address"),
            (ConfigEdit::AccountAdd { account: "bob".to_owned(), address: "bob".to_owned() }, "address \"bob\": no @ in address"),
            (ConfigEdit::AliasRemove { alias: "x@example.org".to_owned() }, "alias x@example.org doesn't exist"),
            (ConfigEdit::DomainRemove { domain: "a b".to_owned() }, "domain \"a b\": bad character in domain name"),
        ] {
            assert_eq!(make(&live, edit, now).unwrap_err(), want);
        }
        std::fs::create_dir_all(dir.path().join("data/accounts/bob")).unwrap();
        let edit = ConfigEdit::AccountAdd { account: "bob".to_owned(), address: "bob@example.org".to_owned() };
        assert_eq!(make(&live, edit, now).unwrap_err(), "account directory for \"bob\" already exists");
        for name in ["", ".", "..", "../bob"] {
            let edit = ConfigEdit::AccountAdd { account: name.to_owned(), address: "bob@example.org".to_owned() };
            assert!(!make(&live, edit, now).unwrap_err().contains("already exists"), "{name}");
        }
    }
}
