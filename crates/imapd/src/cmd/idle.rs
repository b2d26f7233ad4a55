//! IDLE, RFC 2177: changes are told as they come, and no memory is held between them.

use super::Done;
use crate::conn::End;
use crate::session::Session;
use mox_imap::response;

pub(crate) async fn run(s: &mut Session) -> Done {
    s.flush_attempt();
    response::continuation(&mut s.conn.out, "idling");
    let account = s.account()?;
    // Before the first look: what changes after it is heard of.
    let mut watch = account.watch_mailbox(s.selected.as_ref().map(|selected| selected.id));
    loop {
        // Boxed: while waiting, only the wait is in memory.
        Box::pin(s.updates()).await?;
        s.conn.flush().await?;
        match s.conn.reader.line() {
            Ok(Some(line)) if line.eq_ignore_ascii_case(b"DONE") => return Ok(None),
            Ok(None) => {}
            Ok(Some(_)) | Err(_) => return Err(End::Closed.into()),
        }
        s.conn.shrink();
        let wait = s.service.limits.read;
        tokio::select! {
            more = watch.changed() => {
                if !more {
                    // The store is being closed, and there is nothing more to tell.
                    return Err(End::Stopping.into());
                }
            }
            read = s.conn.read(wait) => read?,
        }
    }
}
