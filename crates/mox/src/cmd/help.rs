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
        help: "Print the help of every command.\n\n\
        The reference of commands in the documentation is made from it.",
        flags: &[],
        args: 0..=0,
        run: help_all,
    },
];
