//! CREATE, RFC 9051 §6.3.4, with special uses, RFC 6154 §3.

use super::Done;
use super::list::ROLES;
use crate::error::Failure;
use crate::session::Session;
use mox_imap::cmd::mailbox::Create;
use mox_imap::response::{Code, ListLine};
use mox_store::{MailboxName, SpecialUse};

pub(crate) async fn run(s: &mut Session, create: Create) -> Done {
    let mut special_use = SpecialUse::NONE;
    for attribute in &create.uses {
        let role = ROLES.iter().find(|(_, name)| name.eq_ignore_ascii_case(attribute));
        let (role, _) = role.ok_or_else(|| Failure::code(Code::UseAttr, format!("unsupported special use {attribute}")))?;
        special_use = special_use | *role;
    }
    // A slash at the end only announces children, RFC 9051 §6.3.4.
    let sent = create.mailbox.trim_end_matches('/');
    let name = MailboxName::parse(sent).map_err(mox_store::Error::from)?;
    s.mailbox_updates();
    let (account, origin, leaf) = (s.account()?, s.id, name.clone());
    let created = account
        .write(move |w| {
            w.set_origin(origin);
            w.create_mailbox(&leaf, special_use)
        })
        .await?;
    s.absorb_mailboxes();
    let charset = s.charset();
    for mailbox in &created.created {
        let normalized = mailbox.name == name && name.as_str() != create.mailbox && !name.as_str().starts_with("Inbox/");
        let old_name = (s.enabled.rev2 && normalized).then_some(create.mailbox.as_str());
        let line = ListLine { attributes: vec!["\\Subscribed"], name: mailbox.name.as_str(), old_name, ..ListLine::default() };
        line.print(&mut s.conn.out, "LIST", charset);
    }
    Ok(None)
}
