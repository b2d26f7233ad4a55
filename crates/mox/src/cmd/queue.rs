//! `mox queue …`: looking into the queue, and changing it.

mod holdrules;
mod retired;
mod suppress;
mod webhook;

use crate::cli::{Command, Failure, Flag, Flags, Invocation, Outcome, joined};
use crate::ctl::{self, QueueAction, QueueFilter, QueueSort, QueueTask, Request};
use mox_store::queue::parse_duration;

const IDS: Flag = Flag::text("ids", "value", "comma-separated list of message IDs");
const N: Flag = Flag::text("n", "int", "number of messages to return (default 0, for all)");
const ACCOUNT: Flag = Flag::text("account", "string", "account that queued the message");
const FROM: Flag = Flag::text("from", "string", "from address of message, use \"@example.com\" to match all messages for a domain");
const TO: Flag = Flag::text("to", "string", "recipient address of message, use \"@example.com\" to match all messages for a domain");
const SUBMITTED: Flag = Flag::text(
    "submitted",
    "string",
    "filter by time of submission relative to now, value must start with \"<\" (before now) or \">\" (after now)",
);
const NEXT_ATTEMPT: Flag = Flag::text(
    "nextattempt",
    "string",
    "filter by time of next delivery attempt relative to now, value must start with \"<\" (before now) or \">\" (after now)",
);
const TRANSPORT: Flag = Flag::text("transport", "string", "transport to use for messages, empty string sets the default behaviour");
const HOLD: Flag = Flag::text("hold", "value", "true or false, whether to match only messages that are (not) on hold");

/// Of all lists of the queue.
const ASC: Flag = Flag::bool("asc", "sort ascending instead of descending (default)");
const NOW: Flag = Flag::bool("now", "count the duration from now instead of from the next attempt");

const FILTER: &[Flag] = &[IDS, N, ACCOUNT, FROM, TO, SUBMITTED, NEXT_ATTEMPT, TRANSPORT, HOLD];

const LIST: [Flag; FILTER.len() + 2] =
    joined(&[FILTER, &[Flag::text("sort", "value", "field to sort by, \"nextattempt\" (default) or \"queued\""), ASC]]);

const SCHEDULE: [Flag; FILTER.len() + 1] = joined(&[FILTER, &[NOW]]);

/// The groups of commands, in the order of the usage.
pub(super) const COMMANDS: &[&[Command]] = &[holdrules::COMMANDS, ENTRIES, retired::COMMANDS, suppress::COMMANDS, webhook::COMMANDS];

const ENTRIES: &[Command] = &[
    Command {
        words: "queue list",
        params: &["[filtersortflags]"],
        listed: true,
        help: "List what waits in the queue.\n\n\
        For each recipient of a message: id, times of the last and next attempt, and how the last one failed. Filters are combined; without any, all is listed.",
        flags: &LIST,
        args: 0..=0,
        run: list,
    },
    Command {
        words: "queue hold",
        params: &["[filterflags]"],
        listed: true,
        help: "Stop attempts for the matching entries.\n\n\
        What is on hold stays in the queue, however long, until \"queue unhold\", or until it is dropped.",
        flags: FILTER,
        args: 0..=0,
        run: |invocation| act(invocation, QueueAction::Hold(true)),
    },
    Command {
        words: "queue unhold",
        params: &["[filterflags]"],
        listed: true,
        help: "Allow attempts for the matching entries again.\n\n\
        They are attempted when their next attempt is due, which \"queue schedule\" can change.",
        flags: FILTER,
        args: 0..=0,
        run: |invocation| act(invocation, QueueAction::Hold(false)),
    },
    Command {
        words: "queue schedule",
        params: &["[filterflags] [-now] duration"],
        listed: true,
        help: "Change when matching entries are attempted next.\n\n\
        The duration, such as 30m or -2h, is added to the time of the next attempt, or with -now to the current time. To have everything attempted at once: \"mox queue schedule -now 0\".",
        flags: &SCHEDULE,
        args: 1..=1,
        run: schedule,
    },
    Command {
        words: "queue requiretls",
        params: &["[filterflags] {yes | no | default}"],
        listed: true,
        help: "Change what TLS delivery of the matching entries needs.\n\n\
        - yes: verified TLS up to the recipient's server, as if the REQUIRETLS extension had been used at submission\n\
        - no: TLS is tried and never verified, as with a header \"TLS-Required: No\"; servers further on don't see this\n\
        - default: what the recipient's domain asks for, else TLS where it is offered",
        flags: FILTER,
        args: 1..=1,
        run: require_tls,
    },
    Command {
        words: "queue transport",
        params: &["[filterflags] transport"],
        listed: true,
        help: "Set the transport that the matching entries use.\n\n\
        The name is one of those configured in mox.conf. It is used for all further attempts, whatever the routes say; with an empty name, routes decide again.",
        flags: FILTER,
        args: 1..=1,
        run: |invocation| act(invocation, QueueAction::Transport(invocation.arg(0).to_owned())),
    },
    Command {
        words: "queue fail",
        params: &["[filterflags]"],
        listed: true,
        help: "Give up delivery of the matching entries.\n\n\
        As if the last attempt had failed: the senders get a DSN that says that the delivery was canceled, webhooks tell of a failure, and the entries leave the queue.",
        flags: FILTER,
        args: 0..=0,
        run: |invocation| act(invocation, QueueAction::Fail),
    },
    Command {
        words: "queue drop",
        params: &["[filterflags]"],
        listed: true,
        help: "Delete the matching entries.\n\n\
        The sender isn't told. They are listed as retired if their account keeps retired messages. \"queue dump\" can save a message before.",
        flags: FILTER,
        args: 0..=0,
        run: |invocation| act(invocation, QueueAction::Drop),
    },
    Command {
        words: "queue dump",
        params: &["id"],
        listed: true,
        help: "Print a queued message.\n\n\
        As it will be sent, with all of its headers, on standard output.",
        flags: &[],
        args: 1..=1,
        run: dump,
    },
];

fn list(invocation: &Invocation) -> Outcome {
    act(invocation, QueueAction::List(sort(invocation, "nextattempt")?))
}

/// By what and how a list is sorted.
fn sort(invocation: &Invocation, default: &str) -> Result<QueueSort, Failure> {
    let queued = sorts_by(&invocation.flags, default, &["queued"])?;
    Ok(QueueSort { queued, ascending: invocation.flags.bool("asc") })
}

/// Whether a list isn't sorted by its default field, but by that with one of the other names.
fn sorts_by(flags: &Flags, default: &str, other: &[&str]) -> Result<bool, Failure> {
    match flags.text("sort").unwrap_or_default() {
        field if other.contains(&field) => Ok(true),
        field if field.is_empty() || field == default => Ok(false),
        field => Err(Failure::Error(format!("bad sort field {field:?}"))),
    }
}

/// The parameter as a duration, in microseconds.
fn micros(invocation: &Invocation) -> Result<i64, Failure> {
    let text = invocation.arg(0);
    parse_duration(text).ok_or_else(|| Failure::Error(format!("parsing duration: invalid duration {text:?}")))
}

/// The most rows wanted, 0 for all.
fn max(flags: &Flags) -> Result<u64, Failure> {
    flags.text("n").map_or(Ok(0), str::parse).map_err(|e| Failure::new("parsing -n", e))
}

/// The ids wanted, none for all.
fn ids(flags: &Flags) -> Result<Vec<i64>, Failure> {
    // Given and empty isn't all: a script's variable may have been meant.
    let ids = flags.text("ids").into_iter().flat_map(|ids| ids.split(','));
    ids.map(str::parse).collect::<Result<_, _>>().map_err(|e| Failure::new("parsing -ids", e))
}

fn task(invocation: &Invocation, task: QueueTask) -> Outcome {
    ask(invocation, &Request::QueueTask(task))
}

fn id(invocation: &Invocation) -> Result<i64, Failure> {
    invocation.arg(0).parse().map_err(|e| Failure::new("parsing id", e))
}

fn schedule(invocation: &Invocation) -> Outcome {
    act(invocation, QueueAction::Schedule { from_now: invocation.flags.bool("now"), micros: micros(invocation)? })
}

fn require_tls(invocation: &Invocation) -> Outcome {
    let require = match invocation.arg(0) {
        "yes" => Some(true),
        "no" => Some(false),
        "default" => None,
        _ => return Err(Failure::Usage),
    };
    act(invocation, QueueAction::RequireTls(require))
}

fn dump(invocation: &Invocation) -> Outcome {
    ask(invocation, &Request::QueueDump { id: id(invocation)? })
}

fn act(invocation: &Invocation, action: QueueAction) -> Outcome {
    let filter = filter(&invocation.flags)?;
    ask(invocation, &Request::Queue { filter, action })
}

fn ask(invocation: &Invocation, request: &Request) -> Outcome {
    let mut stream = ctl::connect(&super::data_dir(invocation)?)?;
    ctl::request(&mut stream, request, &mut std::io::stdout())
}

fn filter(flags: &Flags) -> Result<QueueFilter, Failure> {
    let text = |name: &str| flags.text(name).map(str::to_owned);
    let hold = flags.text("hold").filter(|h| !h.is_empty());
    let success = match flags.text("result").unwrap_or_default() {
        "" => None,
        "success" => Some(true),
        "failure" => Some(false),
        other => return Err(Failure::Error(format!("bad result {other:?}, want \"success\" or \"failure\""))),
    };
    Ok(QueueFilter {
        max: max(flags)?,
        ids: ids(flags)?,
        account: text("account"),
        from: text("from"),
        to: text("to"),
        submitted: text("submitted"),
        next_attempt: text("nextattempt"),
        transport: text("transport"),
        hold: hold.map(str::parse).transpose().map_err(|e| Failure::new("parsing -hold", e))?,
        last_activity: text("lastactivity"),
        success,
    })
}
