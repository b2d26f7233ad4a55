//! RENAME, RFC 9051 §6.3.6.

use super::Done;
use crate::session::Session;
use mox_store::{Error, MailboxName};

/// Renames a mailbox and all below it. What changed is told like changes by others, so the client needn't know the rules.
pub(crate) async fn run(s: &mut Session, from: &str, to: &str) -> Done {
    let from = MailboxName::parse(from).map_err(Error::from)?;
    let to = MailboxName::parse(to.trim_end_matches('/')).map_err(Error::from)?;
    let (account, origin) = (s.account()?, s.id);
    account
        .write(move |w| {
            w.set_origin(origin);
            let id = w.mailboxes().by_name(from.as_str()).ok_or(Error::NoMailbox)?.id;
            w.rename_mailbox(id, &to)
        })
        .await?;
    Ok(None)
}
