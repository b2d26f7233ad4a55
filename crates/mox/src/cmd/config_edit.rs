//! `mox config …`, those that change: the running server makes the change, checks it, writes domains.conf and takes it into
//! use.

use crate::cli::{Command, Failure, Flag, Invocation, Outcome, print};
use crate::ctl::{self, ConfigEdit, Request};

const DISABLED: &[Flag] = &[Flag::bool("disabled", "the domain starts disabled: no mail is accepted for it, nor sent from it")];

const ALIAS_SETTINGS: &[Flag] = &[
    Flag::text("postpublic", "bool", "anyone may send to the alias, instead of members only; empty is as before"),
    Flag::text("listmembers", "bool", "members can see the members; empty is as before"),
    Flag::text("allowmsgfrom", "bool", "members may send with the alias as From address; empty is as before"),
];

pub(super) const COMMANDS: &[Command] = &[
    Command {
        words: "config account add",
        params: &["account address"],
        listed: true,
        help: "Add an account with an address.\n\n\
            The domain of the address must be configured. The account has no password yet: nobody can log in before \"mox setaccountpassword\".",
        flags: &[],
        args: 2..=2,
        run: |i| {
            let account = i.arg(0).to_owned();
            let said = format!("account added, set a password with \"mox setaccountpassword {account}\"");
            change(i, ConfigEdit::AccountAdd { account, address: i.arg(1).to_owned() }, &said)
        },
    },
    Command {
        words: "config account rm",
        params: &["account"],
        listed: true,
        help: "Remove an account with all its mail.\n\n\
            Its messages in the queue fail, its webhooks are canceled, its suppressed addresses and keys for logging in are forgotten, and its mail is deleted: there is no way back. \
            Refused while something else in the configuration needs the account: as postmaster, for reports, or as a member of an alias.",
        flags: &[],
        args: 1..=1,
        run: |i| change(i, ConfigEdit::AccountRemove { account: i.arg(0).to_owned() }, "account removed"),
    },
    Command {
        words: "config account disable",
        params: &["account message"],
        listed: true,
        help: "Refuse logins to an account.\n\n\
            Whoever logs in with the right password gets the message. Mail for the account is still accepted.",
        flags: &[],
        args: 2..=2,
        run: |i| {
            let (account, message) = (i.arg(0).to_owned(), Some(i.arg(1).to_owned()));
            change(i, ConfigEdit::AccountDisable { account, message }, "account disabled")
        },
    },
    Command {
        words: "config account enable",
        params: &["account"],
        listed: true,
        help: "Allow logins to an account again.\n\nUndoes \"mox config account disable\".",
        flags: &[],
        args: 1..=1,
        run: |i| change(i, ConfigEdit::AccountDisable { account: i.arg(0).to_owned(), message: None }, "account enabled"),
    },
    Command {
        words: "config address add",
        params: &["address account"],
        listed: true,
        help: "Add an address to an account.\n\n\
            The domain of the address must be configured. With @domain, the account gets all mail for the domain that no other address gets.",
        flags: &[],
        args: 2..=2,
        run: |i| {
            let (address, account) = (i.arg(0).to_owned(), i.arg(1).to_owned());
            change(i, ConfigEdit::AddressAdd { address, account }, "address added")
        },
    },
    Command {
        words: "config address rm",
        params: &["address"],
        listed: true,
        help: "Remove an address from its account.\n\n\
            It also goes from the aliases it is a member of. Mail that was delivered to it stays. With @domain, the domain has no catchall any more. \
            Refused while a TLS public key logs in with the address, or messages from it are in the queue.",
        flags: &[],
        args: 1..=1,
        run: |i| change(i, ConfigEdit::AddressRemove { address: i.arg(0).to_owned() }, "address removed"),
    },
    Command {
        words: "config domain add",
        params: &["[-disabled] domain account [localpart]"],
        listed: true,
        help: "Add a domain, with keys for DKIM and addresses for reports.\n\n\
            The account gets the reports and the mail for the domain's postmaster. If it doesn't exist it is made, with the localpart as its \
            address at the domain. The localpart is only possible, and needed, for a new account.",
        flags: DISABLED,
        args: 2..=3,
        run: add_domain,
    },
    Command {
        words: "config domain rm",
        params: &["domain"],
        listed: true,
        help: "Remove a domain.\n\n\
            No address may be left in it. Its DKIM keys are moved to the directory \"old\" next to them.",
        flags: &[],
        args: 1..=1,
        run: |i| {
            let said = "domain removed, remember to remove its DNS records";
            change(i, ConfigEdit::DomainRemove { domain: i.arg(0).to_owned() }, said)
        },
    },
    Command {
        words: "config domain disable",
        params: &["domain"],
        listed: true,
        help: "Disable a domain.\n\nMail for it is refused for now, and none is sent from it. Logging in with its addresses is possible.",
        flags: &[],
        args: 1..=1,
        run: |i| change(i, ConfigEdit::DomainDisable { domain: i.arg(0).to_owned(), disabled: true }, "domain disabled"),
    },
    Command {
        words: "config domain enable",
        params: &["domain"],
        listed: true,
        help: "Enable a domain again.\n\nUndoes \"mox config domain disable\".",
        flags: &[],
        args: 1..=1,
        run: |i| change(i, ConfigEdit::DomainDisable { domain: i.arg(0).to_owned(), disabled: false }, "domain enabled"),
    },
    Command {
        words: "config alias add",
        params: &["alias@domain rcpt1@domain ..."],
        listed: true,
        help: "Add an alias: an address that delivers to several addresses.\n\nThe addresses must be of accounts of this server. Anyone may send to the alias.",
        flags: &[],
        args: 2..=usize::MAX,
        run: |i| change(i, ConfigEdit::AliasAdd { alias: i.arg(0).to_owned(), members: members(i) }, ""),
    },
    Command {
        words: "config alias update",
        params: &["[-postpublic false|true -listmembers false|true -allowmsgfrom false|true] alias@domain"],
        listed: true,
        help: "Change the settings of an alias.\n\nSettings that aren't given stay as they are.",
        flags: ALIAS_SETTINGS,
        args: 1..=1,
        run: update_alias,
    },
    Command {
        words: "config alias rm",
        params: &["alias@domain"],
        listed: true,
        help: "Remove an alias.\n\nIts members keep their addresses.",
        flags: &[],
        args: 1..=1,
        run: |i| change(i, ConfigEdit::AliasRemove { alias: i.arg(0).to_owned() }, ""),
    },
    Command {
        words: "config alias addaddr",
        params: &["alias@domain rcpt1@domain ..."],
        listed: true,
        help: "Add members to an alias.\n\nThe addresses must be of accounts of this server.",
        flags: &[],
        args: 2..=usize::MAX,
        run: |i| change(i, ConfigEdit::AliasAddMembers { alias: i.arg(0).to_owned(), members: members(i) }, ""),
    },
    Command {
        words: "config alias rmaddr",
        params: &["alias@domain rcpt1@domain ..."],
        listed: true,
        help: "Remove members from an alias.\n\nThe last member can't be removed; remove the alias instead.",
        flags: &[],
        args: 2..=usize::MAX,
        run: |i| change(i, ConfigEdit::AliasRemoveMembers { alias: i.arg(0).to_owned(), members: members(i) }, ""),
    },
];

/// Has the server make a change, and says that it is done.
fn change(invocation: &Invocation, edit: ConfigEdit, said: &str) -> Outcome {
    let mut stream = ctl::connect(&super::data_dir(invocation)?)?;
    ctl::request(&mut stream, &Request::Config { edit }, &mut std::io::stdout())?;
    if said.is_empty() { Ok(()) } else { print(&format!("{said}\n")) }
}

fn members(invocation: &Invocation) -> Vec<String> {
    invocation.args.iter().skip(1).cloned().collect()
}

fn add_domain(invocation: &Invocation) -> Outcome {
    let edit = ConfigEdit::DomainAdd {
        domain: invocation.arg(0).to_owned(),
        account: invocation.arg(1).to_owned(),
        localpart: invocation.args.get(2).cloned(),
        disabled: invocation.flags.bool("disabled"),
    };
    let said = format!("domain added, see the DNS records it needs with \"mox config dnsrecords {}\"", invocation.arg(0));
    change(invocation, edit, &said)
}

fn update_alias(invocation: &Invocation) -> Outcome {
    let setting = |name: &str| match invocation.flags.text(name) {
        None | Some("") => Ok(None),
        Some("true") => Ok(Some(true)),
        Some("false") => Ok(Some(false)),
        Some(other) => Err(Failure::Error(format!("-{name} {other:?}: expected true or false"))),
    };
    let edit = ConfigEdit::AliasUpdate {
        alias: invocation.arg(0).to_owned(),
        post_public: setting("postpublic")?,
        list_members: setting("listmembers")?,
        allow_msg_from: setting("allowmsgfrom")?,
    };
    change(invocation, edit, "")
}
