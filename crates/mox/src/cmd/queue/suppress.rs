//! `mox queue suppress …`: to whom an account's mail isn't sent any more.

use super::task;
use crate::cli::{Command, Flag, Invocation, Outcome};
use crate::ctl::QueueTask;

const ACCOUNT: Flag = Flag::text("account", "string", "account whose suppression list is meant; default all");

pub(super) const COMMANDS: &[Command] = &[
    Command {
        words: "queue suppress list",
        params: &["[-account account]"],
        listed: true,
        help: "List suppressed addresses.\n\n\
        Mail of an account to an address on its list isn't sent. Failures that say that an address is no good add it to the list.",
        flags: &[ACCOUNT],
        args: 0..=0,
        run: list,
    },
    Command {
        words: "queue suppress add",
        params: &["account address"],
        listed: true,
        help: "Add an address to the suppression list of an account.\n\n\
        Addresses are compared in lower case, without dots in the localpart and without what follows a \"+\" or \"-\" in it.",
        flags: &[],
        args: 2..=2,
        run: |invocation| task(invocation, QueueTask::SuppressAdd { account: text(invocation, 0), address: text(invocation, 1) }),
    },
    Command {
        words: "queue suppress remove",
        params: &["account address"],
        listed: true,
        help: "Remove an address from the suppression list of an account.",
        flags: &[],
        args: 2..=2,
        run: |invocation| task(invocation, QueueTask::SuppressRemove { account: text(invocation, 0), address: text(invocation, 1) }),
    },
    Command {
        words: "queue suppress lookup",
        params: &["[-account account] address"],
        listed: true,
        help: "Check whether an address is on a suppression list.\n\n\
        Without an account, all lists are looked at, and the first entry found is printed.",
        flags: &[ACCOUNT],
        args: 1..=1,
        run: lookup,
    },
];

fn text(invocation: &Invocation, at: usize) -> String {
    invocation.arg(at).to_owned()
}

fn account(invocation: &Invocation) -> String {
    invocation.flags.text("account").unwrap_or_default().to_owned()
}

fn list(invocation: &Invocation) -> Outcome {
    task(invocation, QueueTask::SuppressList { account: account(invocation) })
}

fn lookup(invocation: &Invocation) -> Outcome {
    task(invocation, QueueTask::SuppressLookup { account: account(invocation), address: text(invocation, 0) })
}
