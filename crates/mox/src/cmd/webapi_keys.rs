//! `mox webapi key …`: passwords for the webapi only, each for some methods.

use crate::cli::{Command, Failure, Flag, Invocation, Outcome};
use crate::ctl::{self, ApiKeyTask, Request};
use mox_store::queue::parse_duration;

const ADD_FLAGS: &[Flag] = &[
    Flag::text("from", "address", "the only address that messages can be sent from with the key (default all addresses of the account)"),
    Flag::text("expires", "duration", "how long the key is valid, such as 720h (default until it is removed)"),
];

pub(super) const COMMANDS: &[Command] = &[
    Command {
        words: "webapi key list",
        params: &["[account]"],
        listed: true,
        help: "List the API keys of accounts.\n\n\
            Each line has a key's id, which is also in its text, its name, the account, what it may be used for, the address it may send from, \
            and when it was made, ends, and was last used.",
        flags: &[],
        args: 0..=1,
        run: |i| task(i, ApiKeyTask::List { account: i.arg(0).to_owned() }),
    },
    Command {
        words: "webapi key add",
        params: &["[-from address] [-expires duration] account name [scope ...]"],
        listed: true,
        help: "Make an API key for an account, and print it.\n\n\
            An API key is used instead of the password of the account, for the webapi only: SMTP and IMAP don't take it. It is printed this once; \
            the server only keeps a hash of it. Programs with a key of their own need not know the password, and can be shut out one by one.\n\n\
            With scopes, the key can only be used for some methods: send, read, change, suppressions, templates, queue, or methods by their names. \
            Without, for all.",
        flags: ADD_FLAGS,
        args: 2..=usize::MAX,
        run: add,
    },
    Command {
        words: "webapi key rm",
        params: &["id"],
        listed: true,
        help: "Remove an API key.\n\nIt can't be used any more, at once. The id is as \"mox webapi key list\" prints it.",
        flags: &[],
        args: 1..=1,
        run: |i| task(i, ApiKeyTask::Remove { id: i.arg(0).to_owned() }),
    },
];

fn task(invocation: &Invocation, task: ApiKeyTask) -> Outcome {
    let mut stream = ctl::connect(&super::data_dir(invocation)?)?;
    ctl::request(&mut stream, &Request::ApiKeys(task), &mut std::io::stdout())
}

fn add(invocation: &Invocation) -> Outcome {
    let text = |name| invocation.flags.text(name).unwrap_or_default();
    let lifetime = match text("expires") {
        "" => None,
        text => Some(parse_duration(text).ok_or_else(|| Failure::new("parsing -expires", format!("bad duration {text:?}")))?),
    };
    let scopes = invocation.args.get(2..).unwrap_or_default().to_vec();
    let (account, name) = (invocation.arg(0).to_owned(), invocation.arg(1).to_owned());
    task(invocation, ApiKeyTask::Add { account, name, scopes, from: text("from").to_owned(), lifetime })
}
