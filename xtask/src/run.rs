//! Running other programs: cargo, git, apt and the server, always from the top of the work tree.

use crate::Failure;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The top of the work tree: the folder above this package's.
pub(crate) fn top() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// The cargo that runs this task, so that a nested build uses the same toolchain.
pub(crate) fn cargo() -> Command {
    let mut command = command(&std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()));
    // Set by the outer `cargo run` for this package; a nested cargo must not see them.
    for name in ["CARGO_MANIFEST_DIR", "CARGO_MANIFEST_PATH", "CARGO_PKG_NAME", "CARGO_PKG_VERSION"] {
        command.env_remove(name);
    }
    command
}

/// A program run in the top of the work tree, without standard input.
pub(crate) fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.current_dir(top()).stdin(Stdio::null());
    command
}

/// Runs to the end, output shown; an exit status other than 0 is a failure.
pub(crate) fn run(command: &mut Command) -> Result<(), Failure> {
    let status = command.status().map_err(|e| format!("{}: {e}", words(command)))?;
    if status.success() { Ok(()) } else { Err(format!("{}: {status}", words(command))) }
}

/// Runs to the end and returns what was written to standard output.
pub(crate) fn stdout(command: &mut Command) -> Result<String, Failure> {
    let output = output(command)?;
    if !output.status.success() {
        return Err(format!("{}: {}\n{}", words(command), output.status, String::from_utf8_lossy(&output.stderr)));
    }
    String::from_utf8(output.stdout).map_err(|e| format!("{}: {e}", words(command)))
}

/// Runs to the end and returns everything, whatever the exit status.
pub(crate) fn output(command: &mut Command) -> Result<Output, Failure> {
    command.output().map_err(|e| format!("{}: {e}", words(command)))
}

fn words(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|a| a.to_string_lossy().into_owned()));
    words.join(" ")
}

/// Where cargo puts what it builds.
pub(crate) fn target_dir() -> PathBuf {
    let set = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    set.map_or_else(|| top().join("target"), |dir| top().join(dir))
}
