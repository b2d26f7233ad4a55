//! `mox loglevels`.

use crate::cli::{Command, Invocation, Outcome};
use crate::ctl::{self, Request};

pub(super) const COMMANDS: &[Command] = &[Command {
    words: "loglevels",
    params: &["[level [pkg]]"],
    listed: true,
    help: "Print or change the log levels of the running server.\n\n\
        Without parameters, levels are printed, a line for each: the default and those of packages that have one of their own, such as smtpserver, smtpclient, queue, imapserver, store. With a level, the default is set; with a package too, the level of that package, and an empty level (\"\") makes the package follow the default again.\n\n\
        Levels are error, info, debug, trace, traceauth and tracedata; the last two write credentials and message contents to the log. The configuration file isn't changed, so a restart forgets it.",
    flags: &[],
    args: 0..=2,
    run: log_levels,
}];

fn log_levels(invocation: &Invocation) -> Outcome {
    let request = if invocation.args.is_empty() {
        Request::LogLevels
    } else {
        Request::SetLogLevel { level: invocation.arg(0).to_owned(), package: invocation.arg(1).to_owned() }
    };
    let mut stream = ctl::connect(&super::data_dir(invocation)?)?;
    ctl::request(&mut stream, &request, &mut std::io::stdout())
}
