//! `mox stop`.

use crate::cli::{Command, Failure, Invocation, Outcome};
use crate::ctl::{self, Request};

pub(super) const COMMANDS: &[Command] = &[Command {
    words: "stop",
    params: &[""],
    listed: true,
    help: "Stop the running server.\n\n\
        Who connects is told to come back later, sessions that wait are ended, and others have 3 seconds to finish what they are doing. The command returns when the server's process has ended.",
    flags: &[],
    args: 0..=0,
    run: stop,
}];

#[expect(clippy::print_stdout, reason = "the command's result")]
fn stop(invocation: &Invocation) -> Outcome {
    let mut stream = ctl::connect(&super::data_dir(invocation)?)?;
    ctl::send(&mut stream, &Request::Stop)?;
    // The connection ends with the process.
    let mut rest = Vec::new();
    std::io::Read::read_to_end(&mut stream, &mut rest).map_err(|e| Failure::new("waiting for the server to stop", e))?;
    if !rest.is_empty() {
        return Err(Failure::Error("unexpected answer to stop".into()));
    }
    println!("mox stopped");
    Ok(())
}
