//! IDLE, RFC 2177: changes are told as they come, and no memory is held between them.

use super::Done;
use crate::conn::End;
use crate::session::Session;
use mox_imap::response;

pub(crate) async fn run(s: &mut Session) -> Done {
    s.flush_attempt();
    response::continuation(&mut s.conn.out, "idling");
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
        let Session { conn, login, .. } = s;
        let Some(login) = login else { return Err(End::Closed.into()) };
        tokio::select! {
            _ = login.watch.next() => {}
            read = conn.read(wait) => read?,
        }
    }
}
