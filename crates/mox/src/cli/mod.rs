//! The command line: global flags, the longest matching command, its flags and parameters.
//!
//! It behaves as Go's `flag` package does, which scripts around mox rely on: `-name value`, `-name=value`, one dash or
//! two, parsing stops at the first parameter. No argument parser for Rust can be bent to that, and the table of commands that usage and
//! help are printed from is wanted anyway; so this is ours. Exit status: 0 fine, 1 failed, 2 used wrongly.

mod flags;
mod usage;

pub(crate) use flags::{Flag, Flags, joined};

use crate::cmd;
use crate::log::{Format, Log};
use std::io::Write;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::process::ExitCode;

/// A command. Usage, help and dispatch come from this.
pub(crate) struct Command {
    /// The words that name it.
    pub(crate) words: &'static str,
    /// What follows them in the usage: one entry for each form.
    pub(crate) params: &'static [&'static str],
    /// Whether usage lists it.
    pub(crate) listed: bool,
    /// Paragraphs. The first line is a summary.
    pub(crate) help: &'static str,
    /// Its flags.
    pub(crate) flags: &'static [Flag],
    /// How many parameters it takes.
    pub(crate) args: RangeInclusive<usize>,
    /// Does it.
    pub(crate) run: fn(&Invocation) -> Outcome,
}

/// How a command ends.
pub(crate) type Outcome = Result<(), Failure>;

/// Why a command didn't succeed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It failed; the message goes to standard error. Exit status 1.
    Error(String),
    /// It was used wrongly; its usage is printed. Exit status 2.
    Usage,
    /// It said what was wrong itself.
    Exit(u8),
}

impl Failure {
    /// A failure of the form `what: error`.
    pub(crate) fn new(what: impl std::fmt::Display, error: impl std::fmt::Display) -> Self {
        Self::Error(format!("{what}: {error}"))
    }
}

/// Flags before the command.
#[derive(Clone, Debug)]
pub(crate) struct Globals {
    /// The static configuration file.
    pub(crate) config: PathBuf,
    /// The log level, if given.
    pub(crate) log_level: Option<mox_config::LogLevel>,
    /// Whether protocol violations are errors.
    pub(crate) pedantic: bool,
    /// Whether accounts and queue are verified when they are closed.
    pub(crate) check_consistency: bool,
}

/// A command as called.
pub(crate) struct Invocation {
    /// Flags before it.
    pub(crate) globals: Globals,
    /// Its own flags.
    pub(crate) flags: Flags,
    /// Its parameters, as many as it takes.
    pub(crate) args: Vec<String>,
}

impl Invocation {
    /// A parameter; empty when there are fewer.
    pub(crate) fn arg(&self, n: usize) -> &str {
        self.args.get(n).map_or("", String::as_str)
    }
}

const GLOBAL_FLAGS: &[Flag] = &[
    Flag::text("config", "file", "configuration file, domains.conf is in the same directory; default $MOXCONF or config/mox.conf"),
    Flag::text("loglevel", "level", "log level for commands: error, info, debug, trace, traceauth, tracedata"),
    Flag::bool("pedantic", "protocol violations are errors"),
    Flag::bool(
        "checkconsistency",
        "for tests: verifies all of an account when it is closed, and the queue, and aborts if anything is wrong; expensive",
    ),
    Flag::text("cpuprof", "file", "for scripts that give it: no profile is written, and a warning says so; use perf instead"),
    Flag::text("memprof", "file", "as -cpuprof; use heaptrack instead"),
    Flag::text("trace", "file", "as -cpuprof; use -loglevel trace or strace instead"),
];

/// Flags of mox in Go for profiles of its runtime, of which there is none here, and what does the same from outside.
const PROFILES: [(&str, &str); 3] = [("cpuprof", "perf"), ("memprof", "heaptrack"), ("trace", "strace")];

/// Runs the command of a command line.
pub(crate) fn main(args: &[String]) -> ExitCode {
    let Ok((flags, rest)) = flags::parse(GLOBAL_FLAGS, args) else {
        return usage::all();
    };
    let log_level = match flags.text("loglevel").filter(|l| !l.is_empty()).map(str::parse).transpose() {
        Ok(level) => level,
        Err(e) => {
            eprintln!("unknown loglevel {:?}: {e}", flags.text("loglevel").unwrap_or_default());
            return ExitCode::from(1);
        }
    };
    for (flag, program) in PROFILES {
        if flags.text(flag).is_some_and(|file| !file.is_empty()) {
            eprintln!("warning: -{flag}: no profile is written, use {program}");
        }
    }
    let config =
        flags.text("config").map(PathBuf::from).or_else(|| std::env::var_os("MOXCONF").filter(|v| !v.is_empty()).map(PathBuf::from));
    let globals = Globals {
        config: config.unwrap_or_else(|| PathBuf::from("config/mox.conf")),
        log_level,
        pedantic: flags.bool("pedantic"),
        check_consistency: flags.bool("checkconsistency"),
    };
    let Some((command, rest)) = find(rest) else {
        return usage::of_group(rest);
    };
    let Ok((flags, args)) = flags::parse(command.flags, rest) else {
        return usage::of_command(command);
    };
    if !command.args.contains(&args.len()) {
        return usage::of_command(command);
    }
    // Servers log in their own way, once they know how.
    if !matches!(command.words, "serve" | "localserve") {
        Log::start(Format::Command, globals.log_level.unwrap_or(mox_config::LogLevel::Info));
    }
    let invocation = Invocation { globals, flags, args: args.to_vec() };
    match (command.run)(&invocation) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage) => usage::of_command(command),
        Err(Failure::Exit(status)) => ExitCode::from(status),
        Err(Failure::Error(message)) => {
            eprintln!("{message}");
            ExitCode::from(1)
        }
    }
}

/// The command that the most words at the start name, and what follows them.
fn find(args: &[String]) -> Option<(&'static Command, &[String])> {
    let length = |command: &Command| command.words.split(' ').count();
    let named = cmd::all().filter(|c| c.words.split(' ').map(Some).eq(args.iter().take(length(c)).map(|a| Some(a.as_str()))));
    let command = named.max_by_key(|c| length(c))?;
    Some((command, args.get(length(command)..).unwrap_or_default()))
}

/// Prints a command's result. That nobody reads on is no failure: `mox helpall | head`.
pub(crate) fn print(text: &str) -> Outcome {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::new("writing output", error)),
        _ => Ok(()),
    }
}

/// `mox help …`.
pub(crate) fn help(invocation: &Invocation) -> Outcome {
    usage::help(&invocation.args)
}

/// `mox helpall`.
pub(crate) fn help_all(_: &Invocation) -> Outcome {
    usage::help_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn the_longest_command_wins() {
        for (line, want, rest) in
            [("queue list -asc", Some("queue list"), 1), ("version", Some("version"), 0), ("queue", None, 0), ("nothing", None, 0)]
        {
            let line = args(line);
            let found = find(&line);
            assert_eq!(found.map(|f| f.0.words), want);
            assert_eq!(found.map_or(0, |f| f.1.len()), rest);
        }
    }

    #[test]
    fn every_command_is_named_once_and_explained() {
        let mut words: Vec<&str> = cmd::all().map(|c| c.words).collect();
        let count = words.len();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), count);
        for command in cmd::all() {
            assert!(!command.help.is_empty() && !command.params.is_empty(), "{}", command.words);
        }
    }
}
