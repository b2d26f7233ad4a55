//! `mox queue webhook …`: calls that wait, and calls that are done.

use super::{ask, id};
use crate::cli::{Command, Failure, Flag, Flags, Invocation, Outcome};
use crate::ctl::{Request, WebhookFilter, WebhookSort, WebhookTask};
use mox_store::queue::parse_duration;

const IDS: Flag = Flag::text("ids", "value", "comma-separated list of webhook IDs");
const N: Flag = Flag::text("n", "int", "number of webhooks to return (default 0, for all)");
const ACCOUNT: Flag = Flag::text("account", "string", "account whose webhook it is");
const SUBMITTED: Flag = Flag::text(
    "submitted",
    "string",
    "filter by time of submission relative to now, value must start with \"<\" (before now) or \">\" (after now)",
);
const NEXT_ATTEMPT: Flag = Flag::text(
    "nextattempt",
    "string",
    "filter by time of next call relative to now, value must start with \"<\" (before now) or \">\" (after now)",
);
const LAST_ACTIVITY: Flag = Flag::text(
    "lastactivity",
    "string",
    "filter by time of last activity relative to now, value must start with \"<\" (before now) or \">\" (after now)",
);
const EVENT: Flag = Flag::text(
    "event",
    "value",
    "event this webhook is about: incoming, delivered, suppressed, delayed, failed, relayed, expanded, canceled, unrecognized",
);
const ASC: Flag = Flag::bool("asc", "sort ascending instead of descending (default)");

const FILTER: &[Flag] = &[IDS, N, ACCOUNT, SUBMITTED, NEXT_ATTEMPT, EVENT];

pub(super) const COMMANDS: &[Command] = &[
    Command {
        words: "queue webhook list",
        params: &["[filtersortflags]"],
        listed: true,
        help: "List webhooks that wait to be called.\n\n\
        For each: id, account, times of the next and the last attempt, how the last one failed, and the URL. Filters are combined; without any, all are listed.",
        flags: &[
            IDS,
            N,
            ACCOUNT,
            SUBMITTED,
            NEXT_ATTEMPT,
            EVENT,
            Flag::text("sort", "value", "field to sort by, \"nextattempt\" (default) or \"queued\""),
            ASC,
        ],
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
        flags: &[
            IDS,
            N,
            ACCOUNT,
            SUBMITTED,
            NEXT_ATTEMPT,
            EVENT,
            Flag::bool("now", "count the duration from now instead of from the next attempt"),
        ],
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
    let text = invocation.arg(0);
    let micros = parse_duration(text).ok_or_else(|| Failure::Error(format!("parsing duration: invalid duration {text:?}")))?;
    let task = WebhookTask::Schedule { filter: filter(&invocation.flags)?, from_now: invocation.flags.bool("now"), micros };
    perform(invocation, task)
}

fn sort(invocation: &Invocation, default: &str) -> Result<WebhookSort, Failure> {
    let submitted = match invocation.flags.text("sort").unwrap_or_default() {
        "queued" | "submitted" => true,
        field if field.is_empty() || field == default => false,
        other => return Err(Failure::Error(format!("bad sort field {other:?}"))),
    };
    Ok(WebhookSort { submitted, ascending: invocation.flags.bool("asc") })
}

fn filter(flags: &Flags) -> Result<WebhookFilter, Failure> {
    let text = |name: &str| flags.text(name).map(str::to_owned);
    let ids = flags.text("ids").unwrap_or_default().split(',').filter(|id| !id.is_empty());
    Ok(WebhookFilter {
        max: flags.text("n").map_or(Ok(0), str::parse).map_err(|e| Failure::new("parsing -n", e))?,
        ids: ids.map(str::parse).collect::<Result<_, _>>().map_err(|e| Failure::new("parsing -ids", e))?,
        account: text("account"),
        submitted: text("submitted"),
        next_attempt: text("nextattempt"),
        last_activity: text("lastactivity"),
        event: text("event"),
    })
}
