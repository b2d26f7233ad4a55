//! `mox version`.

use crate::cli::{Command, Invocation, Outcome};

pub(super) const COMMANDS: &[Command] = &[Command {
    words: "version",
    params: &[""],
    listed: true,
    help: "Print the version, and which system and processor it was built for.",
    flags: &[],
    args: 0..=0,
    run: version,
}];

/// What this is.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

#[expect(clippy::print_stdout, reason = "the command's result")]
fn version(_: &Invocation) -> Outcome {
    // Architectures by the names that scripts know from the Go server.
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        arch => arch,
    };
    println!("{VERSION}\n{}/{arch}", std::env::consts::OS);
    Ok(())
}
