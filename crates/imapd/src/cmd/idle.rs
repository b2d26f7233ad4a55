//! IDLE, RFC 2177: changes are told as they come, and no memory is held between them.

use super::Done;
use crate::conn::End;
use crate::session::Session;
use mox_imap::response;
use mox_store::Notice;

pub(crate) async fn run(s: &mut Session) -> Done {
    s.flush_attempt();
    response::continuation(&mut s.conn.out, "idling");
    loop {
        // What was noticed so far is told now; further notices end the wait.
        if let Some(login) = &mut s.login {
            while matches!(login.watch.try_next(), Some(Notice::Changes(_) | Notice::Overflow)) {}
        }
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
        let Session { conn, login, .. } = s;
        let Some(login) = login else { return Err(End::Closed.into()) };
        tokio::select! {
            notice = login.watch.next() => {
                if matches!(notice, Notice::Closed) {
                    // The store is being closed, and there is nothing more to tell.
                    return Err(End::Stopping.into());
                }
            }
            read = conn.read(wait) => read?,
        }
    }
}
