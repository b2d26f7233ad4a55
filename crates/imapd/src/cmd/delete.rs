//! DELETE, RFC 9051 §6.3.5.

use super::Done;
use crate::session::Session;
use mox_store::{Error, MailboxName};

pub(crate) async fn run(s: &mut Session, name: &str) -> Done {
    let name = MailboxName::parse(name).map_err(Error::from)?;
    s.mailbox_updates();
    let (account, origin) = (s.account()?, s.id);
    account
        .write(move |w| {
            w.set_origin(origin);
            let id = w.mailboxes().by_name(name.as_str()).ok_or(Error::NoMailbox)?.id;
            w.delete_mailbox(id)
        })
        .await?;
    s.absorb_mailboxes();
    Ok(None)
}
