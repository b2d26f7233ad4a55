//! `mox cid`: from the id in a `Received` field to the connection in the log.

use crate::cli::{Command, Failure, Invocation, Outcome};
use mox_base::Timestamp;
use mox_smtpd::ConnectionIds;

pub(super) const COMMANDS: &[Command] = &[Command {
    words: "cid",
    params: &["cid"],
    listed: true,
    help: "Tell the connection number behind an ID in a Received header.\n\n\
        Log lines carry the number of their connection as \"cid\". A Received header shows it encrypted with receivedid.key in the data directory, so only whoever has that key can find the log lines of a message.",
    flags: &[],
    args: 1..=1,
    run: cid,
}];

#[expect(clippy::print_stdout, reason = "the command's result")]
fn cid(invocation: &Invocation) -> Outcome {
    let path = super::data_dir(invocation)?.join("receivedid.key");
    let key = std::fs::read(&path).map_err(|e| Failure::new(format!("reading {}", path.display()), e))?;
    let key = key.try_into().map_err(|_| Failure::Error(format!("{}: not a key of 24 bytes", path.display())))?;
    let ids = ConnectionIds::new(&key, Timestamp::EPOCH).map_err(|e| Failure::new("using key", e))?;
    let number = ids.number(invocation.arg(0)).map_err(|e| Failure::new("parsing id", e))?;
    println!("{number:x}");
    Ok(())
}
