//! CLOSE and UNSELECT, RFC 9051 §6.4.1 and §6.4.2.

use super::Done;
use crate::session::Session;
use mox_store::Error;

/// Expunges without telling, if it may, and deselects. Works also when the mailbox was deleted meanwhile.
pub(crate) async fn close(s: &mut Session) -> Done {
    let Some(selected) = s.selected.take() else { return Ok(None) };
    if selected.read_only || selected.deleted {
        return Ok(None);
    }
    // Only what the client knows: it can't mean other messages.
    let known = selected.view.uids();
    let (account, id, origin) = (s.account()?, selected.id, s.id);
    let removed = account
        .write(move |w| {
            w.set_origin(origin);
            w.expunge_deleted(id, &known)
        })
        .await;
    match removed {
        Ok(_) | Err(Error::NoMailbox) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub(crate) fn unselect(s: &mut Session) -> Done {
    s.selected = None;
    Ok(None)
}
