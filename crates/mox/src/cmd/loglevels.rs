//! `mox loglevels`.

use crate::cli::{Command, Invocation, Outcome};
use crate::ctl::{self, Request};

pub(super) const COMMANDS: &[Command] = &[Command {
    words: "loglevels",
    params: &["[level [pkg]]"],
    listed: true,
    help: "Print the log levels, or set a new default log level, or a level for the given package.\n\n\
        By default, a single log level applies to all logging in mox. But for each package, an overriding log level can be configured. \
        Examples of packages: smtpserver, smtpclient, queue, imapserver, spf, dkim, dmarc, store.\n\n\
        Specify a package and an empty level to remove the level of the package. Changes are lost with a restart of mox.\n\n\
        Valid labels: error, info, debug, trace, traceauth, tracedata.",
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
