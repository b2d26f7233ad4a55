//! `mox queue retired …`: what has left the queue.

use super::{ACCOUNT, ASC, FROM, IDS, N, SUBMITTED, TO, TRANSPORT, act, id, sort, task};
use crate::cli::{Command, Flag, Invocation, Outcome};
use crate::ctl::{QueueAction, QueueTask};

/// Of all lists of what is done.
pub(super) const LAST_ACTIVITY: Flag = Flag::text(
    "lastactivity",
    "string",
    "filter by time of last activity relative to now, value must start with \"<\" (before now) or \">\" (after now)",
);

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
            LAST_ACTIVITY,
            TRANSPORT,
            Flag::text("result", "value", "\"success\" or \"failure\" as result of delivery"),
            Flag::text("sort", "value", "field to sort by, \"lastactivity\" (default) or \"queued\""),
            ASC,
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
    act(invocation, QueueAction::RetiredList(sort(invocation, "lastactivity")?))
}
