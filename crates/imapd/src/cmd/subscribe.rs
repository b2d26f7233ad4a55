//! SUBSCRIBE and UNSUBSCRIBE, RFC 9051 §6.3.7 and §6.3.8.

use super::Done;
use crate::session::Session;
use mox_store::{Error, MailboxName};

/// The mailbox needn't exist.
pub(crate) async fn subscribe(s: &mut Session, name: &str) -> Done {
    let name = MailboxName::parse(name).map_err(Error::from)?;
    s.mailbox_updates();
    let (account, origin) = (s.account()?, s.id);
    account
        .write(move |w| {
            w.set_origin(origin);
            w.subscribe(&name)
        })
        .await?;
    s.absorb_mailboxes();
    Ok(None)
}

/// Fine when there is a mailbox of that name that isn't subscribed.
pub(crate) async fn unsubscribe(s: &mut Session, name: &str) -> Done {
    let name = MailboxName::parse(name).map_err(Error::from)?;
    s.mailbox_updates();
    let (account, origin) = (s.account()?, s.id);
    account
        .write(move |w| {
            w.set_origin(origin);
            w.unsubscribe(&name)
        })
        .await?;
    s.absorb_mailboxes();
    Ok(None)
}
