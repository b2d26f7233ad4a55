//! CAPABILITY, ID, LOGOUT, NAMESPACE, CHECK.

use super::Done;
use crate::session::Session;
use mox_imap::put;
use mox_imap::response::{self, Status};

pub(crate) fn capability(s: &mut Session) -> Done {
    let text = format!("CAPABILITY {}", s.capabilities());
    response::untagged(&mut s.conn.out, &text);
    Ok(None)
}

/// RFC 9051 §6.1.3. Nothing is expunged.
pub(crate) fn logout(s: &mut Session) -> Done {
    s.selected = None;
    response::status(&mut s.conn.out, None, Status::Bye, None, "logging out");
    Ok(None)
}

/// RFC 2342: one personal namespace.
pub(crate) fn namespace(s: &mut Session) -> Done {
    response::untagged(&mut s.conn.out, "NAMESPACE ((\"\" \"/\")) NIL NIL");
    Ok(None)
}

/// RFC 3501 §6.4.1: everything is always durable.
pub(crate) fn check(s: &mut Session) -> Done {
    s.selected()?;
    Ok(None)
}

/// RFC 2971. What the client says changes nothing but the records of its logins.
pub(crate) fn id(s: &mut Session, parameters: &[(String, Option<String>)]) -> Done {
    let said = parameters.iter().map(|(k, v)| format!("{k}={:?}", v.as_deref().unwrap_or_default()));
    s.user_agent = said.collect::<Vec<_>>().join(" ");
    tracing::info!(cid = s.id, client = s.user_agent, "imap client id");
    s.flush_attempt();
    let out = &mut s.conn.out;
    out.extend_from_slice(b"* ID (\"name\" \"mox\"");
    // Versions are for those we know.
    if s.login.is_some() {
        out.extend_from_slice(b" \"version\" ");
        put::quoted(out, s.service.version.as_bytes());
    }
    out.extend_from_slice(b")\r\n");
    Ok(None)
}
