//! `mox version`.

use crate::cli::{Command, Invocation, Outcome};

pub(super) const COMMANDS: &[Command] = &[Command {
    words: "version",
    params: &[""],
    listed: true,
    help: "Print the version.",
    flags: &[],
    args: 0..=0,
    run: version,
}];

/// What this is.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

#[expect(clippy::print_stdout, reason = "the command's result")]
fn version(_: &Invocation) -> Outcome {
    println!("mox {VERSION} {}/{}", std::env::consts::OS, std::env::consts::ARCH);
    Ok(())
}
