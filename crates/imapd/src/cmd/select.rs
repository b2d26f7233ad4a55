//! SELECT and EXAMINE, RFC 9051 §6.3.2 and §6.3.3.

use super::Done;
use crate::session::{Selected, Session};
use mox_imap::cmd::mailbox::Select;
use mox_imap::response::{self, Code, ListLine, Status};
use mox_store::{MailboxName, UidSet};

pub(crate) async fn run(s: &mut Session, select: Select) -> Done {
    if select.condstore {
        s.enabled.condstore = true;
    }
    // The old mailbox is gone whatever becomes of the new one, RFC 9051 §6.3.2.
    if s.selected.take().is_some() {
        response::status(&mut s.conn.out, None, Status::Ok, Some(&Code::Closed), "closed");
    }
    let name = MailboxName::parse(&select.mailbox).map_err(mox_store::Error::from)?;
    s.mailbox_updates();
    let login = s.login()?;
    let id = login.mailboxes.by_name(name.as_str()).ok_or(mox_store::Error::NoMailbox)?.id;
    let view = login.account.view(id).await?;
    let (rev2, condstore, charset) = (s.enabled.rev2, s.enabled.condstore, s.charset());
    let out = &mut s.conn.out;
    let mailbox = view.mailbox();
    let mut keywords: Vec<&str> = mailbox.keywords.iter().map(|k| k.as_str()).collect();
    keywords.sort_unstable();
    let ok = |out: &mut Vec<u8>, code: Code| response::status(out, None, Status::Ok, Some(&code), "x");
    response::untagged(out, &format!("FLAGS {}", response::flag_names(keywords.iter().copied(), None)));
    // Nothing can be changed after EXAMINE.
    let permanent = if select.read_only { "()".to_owned() } else { response::flag_names(keywords, Some("\\*")) };
    ok(out, Code::PermanentFlags(permanent));
    if !rev2 {
        response::untagged(out, "0 RECENT");
    }
    response::counted(out, view.exists(), "EXISTS");
    if !rev2 && let Some((seq, _)) = view.first_unseen() {
        ok(out, Code::Unseen(seq));
    }
    ok(out, Code::UidValidity(mailbox.uidvalidity));
    ok(out, Code::UidNext(mailbox.uidnext.get()));
    ListLine { name: mailbox.name.as_str(), ..ListLine::default() }.print(out, "LIST", charset);
    if condstore {
        ok(out, Code::HighestModSeq(view.modseq()));
    }
    s.selected = Some(Selected { id, read_only: select.read_only, view, saved: UidSet::new(), deleted: false });
    Ok(Some(if select.read_only { Code::ReadOnly } else { Code::ReadWrite }))
}
