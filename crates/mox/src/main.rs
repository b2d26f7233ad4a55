//! mox, a mail server in one binary.
//!
//! `main` reads the command line, finds the command in the table of [`cmd`] and runs it. What serves mail is put together in
//! [`wire`], from the configuration; [`ctl`] is how commands talk to a running server. Real clocks, randomness and logging
//! are made here and handed down.

mod cli;
mod cmd;
mod ctl;
mod log;
mod ports;
mod wire;

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args_os().skip(1).map(|a| a.to_string_lossy().into_owned()).collect();
    cli::main(&args)
}
