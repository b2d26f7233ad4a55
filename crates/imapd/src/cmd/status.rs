//! STATUS, RFC 9051 §6.3.11: from counters, whatever the mailbox' size.

use super::Done;
use crate::error::Failure;
use crate::session::Session;
use mox_imap::cmd::mailbox::StatusItem;
use mox_imap::response::{self, Code};
use mox_store::{Mailbox, MailboxName};

pub(crate) async fn run(s: &mut Session, name: &str, items: &[StatusItem]) -> Done {
    let name = MailboxName::parse(name).map_err(mox_store::Error::from)?;
    let mailboxes = s.login()?.account.mailboxes();
    let mailbox = mailboxes.by_name(name.as_str()).ok_or_else(|| Failure::code(Code::NonExistent, "no such mailbox"))?;
    print(s, mailbox, items);
    Ok(None)
}

/// Prints the STATUS response of a mailbox. Asking for HIGHESTMODSEQ enables CONDSTORE, RFC 7162 §3.1.
pub(crate) fn print(s: &mut Session, mailbox: &Mailbox, items: &[StatusItem]) {
    if items.contains(&StatusItem::HighestModSeq) {
        s.enabled.condstore = true;
    }
    let values: Vec<_> = items.iter().map(|item| (*item, value(mailbox, *item))).collect();
    let charset = s.charset();
    response::mailbox_status(&mut s.conn.out, mailbox.name.as_str(), &values, charset);
}

fn value(m: &Mailbox, item: StatusItem) -> Option<u64> {
    Some(match item {
        StatusItem::Messages => u64::from(m.counts.messages),
        StatusItem::UidNext => u64::from(m.uidnext.get()),
        StatusItem::UidValidity => u64::from(m.uidvalidity.get()),
        StatusItem::Unseen => u64::from(m.counts.unseen),
        StatusItem::Deleted => u64::from(m.counts.deleted),
        StatusItem::Size => m.counts.size.0,
        StatusItem::Recent => 0,
        // No limit of this mailbox' own, RFC 7889 §3.
        StatusItem::AppendLimit => return None,
        StatusItem::HighestModSeq => m.modseq.get(),
    })
}
