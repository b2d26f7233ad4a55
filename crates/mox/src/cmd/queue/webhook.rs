//! `mox queue webhook …`: calls that wait, and calls that are done.

use super::retired::LAST_ACTIVITY;
use super::{ASC, NOW, SUBMITTED, ask, id, ids, max, micros, sorts_by};
use crate::cli::{Command, Failure, Flag, Flags, Invocation, Outcome, joined};
use crate::ctl::{Request, WebhookFilter, WebhookSort, WebhookTask};

const IDS: Flag = Flag::text("ids", "value", "comma-separated list of webhook IDs");
const N: Flag = Flag::text("n", "int", "number of webhooks to return (default 0, for all)");
const ACCOUNT: Flag = Flag::text("account", "string", "account whose webhook it is");
const NEXT_ATTEMPT: Flag = Flag::text(
    "nextattempt",
    "string",
    "filter by time of next call relative to now, value must start with \"<\" (before now) or \">\" (after now)",
);
const EVENT: Flag = Flag::text(
    "event",
    "value",
    "event this webhook is about: incoming, delivered, suppressed, delayed, failed, relayed, expanded, canceled, unrecognized",
);
const FILTER: &[Flag] = &[IDS, N, ACCOUNT, SUBMITTED, NEXT_ATTEMPT, EVENT];

const LIST: [Flag; FILTER.len() + 2] =
    joined(&[FILTER, &[Flag::text("sort", "value", "field to sort by, \"nextattempt\" (default) or \"queued\""), ASC]]);

const SCHEDULE: [Flag; FILTER.len() + 1] = joined(&[FILTER, &[NOW]]);

pub(super) const COMMANDS: &[Command] = &[
    Command {
        words: "queue webhook list",
        params: &["[filtersortflags]"],
        listed: true,
        help: "List webhooks that wait to be called.\n\n\
        For each: id, account, times of the next and the last attempt, how the last one failed, and the URL. Filters are combined; without any, all are listed.",
        flags: &LIST,
        args: 0..=0,
        run: |invocation| {
            let sort = sort(invocation, "nextattempt")?;
            perform(invocation, WebhookTask::List(filter(&invocation.flags)?, sort))
        },
    },
    Command {
        words: "queue webhook schedule",
        params: &["[filterflags] [-now] duration"],
        listed: true,
        help: "Change when matching webhooks are called next.\n\n\
        The duration, such as 30m or -2h, is added to the time of the next attempt, or with -now to the current time. To have everything called at once: \"mox queue webhook schedule -now 0\".",
        flags: &SCHEDULE,
        args: 1..=1,
        run: schedule,
    },
    Command {
        words: "queue webhook cancel",
        params: &["[filterflags]"],
        listed: true,
        help: "Give up calling the matching webhooks.\n\n\
        They are no longer called, and are listed as retired, as failed, if their account keeps retired webhooks.",
        flags: FILTER,
        args: 0..=0,
        run: |invocation| perform(invocation, WebhookTask::Cancel(filter(&invocation.flags)?)),
    },
    Command {
        words: "queue webhook print",
        params: &["id"],
        listed: true,
        help: "Print a webhook that waits to be called, as JSON.\n\n\
        With its body, the results of all attempts, and the value of its Authorization header, which is a secret.",
        flags: &[],
        args: 1..=1,
        run: |invocation| perform(invocation, WebhookTask::Print(id(invocation)?)),
    },
    Command {
        words: "queue webhook retired list",
        params: &["[filtersortflags]"],
        listed: true,
        help: "List webhooks that are done.\n\n\
        They are kept as long as their account's KeepRetiredWebhookPeriod says, whether the call succeeded or not. Filters are combined; without any, all are listed.",
        flags: &[
            IDS,
            N,
            ACCOUNT,
            SUBMITTED,
            LAST_ACTIVITY,
            EVENT,
            Flag::text("sort", "value", "field to sort by, \"lastactivity\" (default) or \"queued\""),
            ASC,
        ],
        args: 0..=0,
        run: |invocation| {
            let sort = sort(invocation, "lastactivity")?;
            perform(invocation, WebhookTask::RetiredList(filter(&invocation.flags)?, sort))
        },
    },
    Command {
        words: "queue webhook retired print",
        params: &["id"],
        listed: true,
        help: "Print a webhook that is done, as JSON.\n\nWith its body and the results of all attempts.",
        flags: &[],
        args: 1..=1,
        run: |invocation| perform(invocation, WebhookTask::RetiredPrint(id(invocation)?)),
    },
];

fn perform(invocation: &Invocation, task: WebhookTask) -> Outcome {
    ask(invocation, &Request::Webhook(task))
}

fn schedule(invocation: &Invocation) -> Outcome {
    let (filter, micros) = (filter(&invocation.flags)?, micros(invocation)?);
    let task = WebhookTask::Schedule { filter, from_now: invocation.flags.bool("now"), micros };
    perform(invocation, task)
}

fn sort(invocation: &Invocation, default: &str) -> Result<WebhookSort, Failure> {
    let submitted = sorts_by(&invocation.flags, default, &["queued", "submitted"])?;
    Ok(WebhookSort { submitted, ascending: invocation.flags.bool("asc") })
}

fn filter(flags: &Flags) -> Result<WebhookFilter, Failure> {
    let text = |name: &str| flags.text(name).map(str::to_owned);
    Ok(WebhookFilter {
        max: max(flags)?,
        ids: ids(flags)?,
        account: text("account"),
        submitted: text("submitted"),
        next_attempt: text("nextattempt"),
        last_activity: text("lastactivity"),
        event: text("event"),
    })
}
