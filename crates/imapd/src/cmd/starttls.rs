//! STARTTLS, RFC 9051 §6.2.1.

use super::Done;
use crate::conn::End;
use crate::error::Failure;
use crate::session::Session;
use mox_imap::cmd::Head;
use mox_imap::response::{self, Status};

/// Upgrades the connection. Answers by itself: what follows the OK is TLS already.
pub(crate) async fn run(s: &mut Session, head: &Head) -> Done {
    if s.conn.stream.tls().is_some() {
        return Err(Failure::bad("TLS is active already"));
    }
    let Some(tls) = s.listener.tls.clone() else { return Err(Failure::bad("TLS is not available")) };
    response::status(&mut s.conn.out, Some(&head.tag), Status::Ok, None, &format!("begin TLS negotiation ({:x})", s.id));
    s.conn.flush().await?;
    // What the client sent behind the command goes to TLS, and never to the protocol.
    let unread = s.conn.reader.input.split();
    s.conn.reader.discard_input();
    if let Err(error) = s.conn.stream.start_tls(&tls, &unread).await {
        tracing::info!(cid = s.id, remote = %s.remote, %error, "tls handshake after starttls failed");
        return Err(End::Closed.into());
    }
    s.look_up_certificate().await;
    Err(Failure::Answered)
}
