//! `mox config account|address|alias …`, those that read: who has which address. They look into the files, so that they
//! work whether or not the server runs.

use super::config::load;
use crate::cli::{Command, Failure, Invocation, Outcome, print};
use mox_base::{Address, Domain};
use mox_config::{Alias, Snapshot};

pub(super) const COMMANDS: &[Command] = &[
    Command {
        words: "config account list",
        params: &[""],
        listed: true,
        help: "List all accounts.\n\n\
            The name of each account, one on each line. Accounts that can't log in are marked as disabled.",
        flags: &[],
        args: 0..=0,
        run: list_accounts,
    },
    Command {
        words: "config account addresses",
        params: &["account"],
        listed: true,
        help: "List the addresses of an account.\n\nA catchall address is printed as @domain.",
        flags: &[],
        args: 1..=1,
        run: list_addresses,
    },
    Command {
        words: "config address account",
        params: &["address"],
        listed: true,
        help: "Print the account that an address belongs to.\n\n\
            Separators and catchall addresses are considered, as they are in delivery. Aliases are not.",
        flags: &[],
        args: 1..=1,
        run: print_account,
    },
    Command {
        words: "config alias list",
        params: &["domain"],
        listed: true,
        help: "List the aliases of a domain.\n\nThe address of each, one on each line.",
        flags: &[],
        args: 1..=1,
        run: list_aliases,
    },
    Command {
        words: "config alias print",
        params: &["alias"],
        listed: true,
        help: "Print the settings and members of an alias.\n\nThe alias is an address.",
        flags: &[],
        args: 1..=1,
        run: print_alias,
    },
];

fn print_lines(lines: impl IntoIterator<Item = String>) -> Outcome {
    print(&lines.into_iter().map(|line| line + "\n").collect::<String>())
}

fn list_accounts(invocation: &Invocation) -> Outcome {
    let (_, snapshot) = load(invocation, false)?;
    print_lines(account_lines(&snapshot))
}

fn account_lines(snapshot: &Snapshot) -> Vec<String> {
    let line = |(name, disabled): (&String, bool)| if disabled { format!("{name}\t(disabled)") } else { name.clone() };
    snapshot.dynamic.accounts.iter().map(|(name, account)| line((name, account.login_disabled.is_some()))).collect()
}

fn list_addresses(invocation: &Invocation) -> Outcome {
    let (_, snapshot) = load(invocation, false)?;
    let account = snapshot.dynamic.accounts.get(invocation.arg(0));
    let account = account.ok_or_else(|| Failure::Error(format!("account {:?}: no such account", invocation.arg(0))))?;
    let mut addresses: Vec<String> = account.destinations.keys().map(ToString::to_string).collect();
    addresses.sort();
    print_lines(addresses)
}

fn print_account(invocation: &Invocation) -> Outcome {
    let (_, snapshot) = load(invocation, false)?;
    print_lines([account_of(&snapshot, invocation.arg(0))?])
}

fn account_of(snapshot: &Snapshot, address: &str) -> Result<String, Failure> {
    let address: Address = address.parse().map_err(|e| Failure::new("parsing address", e))?;
    let domain = snapshot.dynamic.domains.get(&address.domain);
    let domain = domain.ok_or_else(|| Failure::new("looking up address", "domain not found"))?;
    if domain.disabled {
        return Err(Failure::new("looking up address", "domain is disabled"));
    }
    let account = snapshot.addresses.account(&snapshot.dynamic, &address);
    account.map(str::to_owned).ok_or_else(|| Failure::new("looking up address", "address not found"))
}

fn list_aliases(invocation: &Invocation) -> Outcome {
    let (_, snapshot) = load(invocation, false)?;
    let name: Domain = invocation.arg(0).parse().map_err(|e| Failure::new("parsing domain", e))?;
    let domain = snapshot.dynamic.domains.get(&name).ok_or_else(|| Failure::Error(format!("domain {name}: no such domain")))?;
    let mut addresses: Vec<String> = domain.aliases.keys().map(|localpart| format!("{localpart}@{name}")).collect();
    addresses.sort();
    print_lines(addresses)
}

fn print_alias(invocation: &Invocation) -> Outcome {
    let (_, snapshot) = load(invocation, false)?;
    let address: Address = invocation.arg(0).parse().map_err(|e| Failure::new("parsing alias", e))?;
    let domain = snapshot.dynamic.domains.get(&address.domain);
    let domain = domain.ok_or_else(|| Failure::Error(format!("domain {}: no such domain", address.domain)))?;
    let alias = domain.aliases.get(&address.localpart);
    print_lines(alias_lines(alias.ok_or_else(|| Failure::Error(format!("alias {address}: no such alias")))?))
}

fn alias_lines(alias: &Alias) -> Vec<String> {
    let mut lines = vec![
        format!("# postpublic {}", alias.post_public),
        format!("# listmembers {}", alias.list_members),
        format!("# allowmsgfrom {}", alias.allow_msg_from),
        "# members:".to_owned(),
    ];
    lines.extend(alias.addresses.iter().map(ToString::to_string));
    lines
}
