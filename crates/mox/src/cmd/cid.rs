//! `mox cid`: from the id in a `Received` field to the connection in the log.

use crate::cli::{Command, Failure, Invocation, Outcome};
use mox_base::Timestamp;
use mox_smtpd::ConnectionIds;

pub(super) const COMMANDS: &[Command] = &[Command {
    words: "cid",
    params: &["cid"],
    listed: true,
    help: "Turn an ID from a Received header into a cid, for looking up in logs.\n\n\
        A cid is essentially a connection counter initialized when mox starts. Each log line contains a cid. \
        Received headers added by mox contain a unique ID that can be decrypted to a cid by admin of a mox instance only.",
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
