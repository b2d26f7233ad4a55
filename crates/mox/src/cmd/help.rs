//! `mox help`, `mox helpall`.

use crate::cli::{Command, help, help_all};

pub(super) const COMMANDS: &[Command] = &[
    Command {
        words: "help",
        params: &["[command ...]"],
        listed: true,
        help: "Print help about a command.\n\nIf the words are the start of several commands, the summary of each of them is printed.",
        flags: &[],
        args: 0..=usize::MAX,
        run: help,
    },
    Command {
        words: "helpall",
        params: &[""],
        listed: false,
        help: "Print all detailed help and usage information for all listed commands.\n\nUsed to generate documentation.",
        flags: &[],
        args: 0..=0,
        run: help_all,
    },
];
