//! `mox queue retired …`: what has left the queue.

use super::{ACCOUNT, FROM, IDS, N, SUBMITTED, TO, TRANSPORT, act, id, task};
use crate::cli::{Command, Failure, Flag, Invocation, Outcome};
use crate::ctl::{QueueAction, QueueSort, QueueTask};

pub(super) const COMMANDS: &[Command] = &[
    Command {
        words: "queue retired list",
        params: &["[filtersortflags]"],
        listed: true,
        help: "List messages that have left the queue.\n\n\
        They are kept as long as their account's KeepRetiredMessagePeriod says, whether they were delivered or not. Filters are combined; without any, all are listed.",
        flags: &[
            IDS,
            N,
            ACCOUNT,
            FROM,
            TO,
            SUBMITTED,
            Flag::text(
                "lastactivity",
                "string",
                "filter by time of last activity relative to now, value must start with \"<\" (before now) or \">\" (after now)",
            ),
            TRANSPORT,
            Flag::text("result", "value", "\"success\" or \"failure\" as result of delivery"),
            Flag::text("sort", "value", "field to sort by, \"lastactivity\" (default) or \"queued\""),
            Flag::bool("asc", "sort ascending instead of descending (default)"),
        ],
        args: 0..=0,
        run: list,
    },
    Command {
        words: "queue retired print",
        params: &["id"],
        listed: true,
        help: "Print a message that has left the queue, as JSON.\n\nWith the results of all attempts.",
        flags: &[],
        args: 1..=1,
        run: |invocation| task(invocation, QueueTask::RetiredPrint(id(invocation)?)),
    },
];

fn list(invocation: &Invocation) -> Outcome {
    let queued = match invocation.flags.text("sort").unwrap_or("lastactivity") {
        "lastactivity" | "" => false,
        "queued" => true,
        other => return Err(Failure::Error(format!("bad sort field {other:?}"))),
    };
    act(invocation, QueueAction::RetiredList(QueueSort { queued, ascending: invocation.flags.bool("asc") }))
}
