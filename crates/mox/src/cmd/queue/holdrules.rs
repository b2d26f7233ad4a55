//! `mox queue holdrules …`: what is to wait in the queue until somebody looks at it.

use super::{id, task};
use crate::cli::{Command, Flag, Invocation, Outcome};
use crate::ctl::QueueTask;

pub(super) const COMMANDS: &[Command] = &[
    Command {
        words: "queue holdrules list",
        params: &[""],
        listed: true,
        help: "List the hold rules.\n\nMessages that match a rule when they are queued are put on hold.",
        flags: &[],
        args: 0..=0,
        run: |invocation| task(invocation, QueueTask::HoldRulesList),
    },
    Command {
        words: "queue holdrules add",
        params: &["[ruleflags]"],
        listed: true,
        help: "Add a hold rule.\n\n\
        New messages that match all given parts are put on hold, and so are matching messages that are in the queue already. \
        A rule without any part matches everything. Domains match exactly, without those below them.",
        flags: &[
            Flag::text("account", "string", "account that queues the message"),
            Flag::text("senderdom", "string", "domain of the sender, in MAIL FROM"),
            Flag::text("recipientdom", "string", "domain of the recipient, in RCPT TO"),
        ],
        args: 0..=0,
        run: add,
    },
    Command {
        words: "queue holdrules remove",
        params: &["ruleid"],
        listed: true,
        help: "Remove a hold rule.\n\nMessages on hold stay so, see \"queue unhold\".",
        flags: &[],
        args: 1..=1,
        run: |invocation| task(invocation, QueueTask::HoldRulesRemove(id(invocation)?)),
    },
];

fn add(invocation: &Invocation) -> Outcome {
    let text = |name: &str| invocation.flags.text(name).unwrap_or_default().to_owned();
    let rule =
        QueueTask::HoldRulesAdd { account: text("account"), sender_domain: text("senderdom"), recipient_domain: text("recipientdom") };
    task(invocation, rule)
}
