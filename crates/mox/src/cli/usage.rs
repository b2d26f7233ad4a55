//! Usage and help, printed from the table of commands.

use super::{Command, Failure, GLOBAL_FLAGS, Outcome, print};
use crate::cmd;
use std::fmt::Write;
use std::process::ExitCode;

const WRONG: u8 = 2;

/// Usage of all listed commands.
pub(super) fn all() -> ExitCode {
    let globals: String = GLOBAL_FLAGS.iter().fold(String::new(), |text, flag| match flag.value {
        Some(_) if flag.name == "config" => format!("{text} [-config config/mox.conf]"),
        Some(value) => format!("{text} [-{} {value}]", flag.name),
        None => format!("{text} [-{}]", flag.name),
    });
    let mut lines = vec![format!("mox{globals} ...")];
    lines.extend(cmd::all().filter(|c| c.listed).flat_map(synopses));
    eprint!("{}", list(&lines));
    ExitCode::from(WRONG)
}

/// Usage of the commands that start with the same word, or of all.
pub(super) fn of_group(args: &[String]) -> ExitCode {
    let first = args.first().map_or("", String::as_str);
    let lines: Vec<String> = cmd::all().filter(|c| c.words.split(' ').next() == Some(first)).flat_map(synopses).collect();
    if lines.is_empty() {
        return all();
    }
    eprint!("{}", list(&lines));
    ExitCode::from(WRONG)
}

/// Usage and help of one command, used wrongly.
pub(super) fn of_command(command: &Command) -> ExitCode {
    eprint!("{}", full(command));
    ExitCode::from(WRONG)
}

/// `mox help …`, to standard output.
pub(super) fn help(words: &[String]) -> Outcome {
    if words.is_empty() {
        return Err(Failure::Usage);
    }
    let wanted = words.join(" ");
    if let Some(command) = cmd::all().find(|c| c.words == wanted) {
        return print(&full(command));
    }
    let prefix = format!("{wanted} ");
    let commands = cmd::all().filter(|c| c.words.starts_with(&prefix));
    let summaries: String = commands.map(|c| format!("mox {}\n\t{}\n", c.words, c.help.lines().next().unwrap_or_default())).collect();
    if !summaries.is_empty() {
        return print(&summaries);
    }
    eprintln!("{wanted}: unknown command");
    Err(Failure::Exit(WRONG))
}

/// `mox helpall`: everything, for the manual.
pub(super) fn help_all() -> Outcome {
    let listed = cmd::all().filter(|c| c.listed);
    print(&listed.map(|command| format!("# mox {}\n\n{}\n", command.words, full(command))).collect::<String>())
}

fn synopses(command: &Command) -> impl Iterator<Item = String> + use<> {
    let words = command.words;
    command.params.iter().map(move |params| format!("mox {words} {params}").trim_end().to_owned())
}

/// `usage: ` before the first line, spaces before the others.
fn list(lines: &[String]) -> String {
    let mut text = String::new();
    for (n, line) in lines.iter().enumerate() {
        text.push_str(if n == 0 { "usage: " } else { "       " });
        text.push_str(line);
        text.push('\n');
    }
    text
}

fn full(command: &Command) -> String {
    let mut text = list(&synopses(command).collect::<Vec<_>>());
    for flag in command.flags {
        // Writing to a string doesn't fail.
        let _ok = match flag.value {
            Some(value) => writeln!(text, "  -{} {value}\n    \t{}", flag.name, flag.help),
            None => writeln!(text, "  -{}\n    \t{}", flag.name, flag.help),
        };
    }
    text.push('\n');
    text.push_str(command.help.trim_end());
    text.push('\n');
    text
}
