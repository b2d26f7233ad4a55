//! COPY and MOVE, RFC 9051 §6.4.7 and §6.4.8, RFC 6851.

use super::Done;
use crate::error::{Failure, or_try_create};
use crate::session::Session;
use mox_imap::RangeSet;
use mox_imap::cmd::messages::Transfer;
use mox_imap::response::{self, Code, Status};
use mox_store::{Copied, Error, MailboxName};

#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Copy,
    Move,
}

pub(crate) async fn copy(s: &mut Session, t: &Transfer) -> Done {
    let copied = transfer(s, t, How::Copy).await?;
    Ok(Some(copy_uid(&copied)))
}

pub(crate) async fn mov(s: &mut Session, t: &Transfer) -> Done {
    s.writable()?;
    let moved = transfer(s, t, How::Move).await?;
    // Before the EXPUNGEs, which come with the updates at the end, RFC 6851 §4.3.
    response::status(&mut s.conn.out, None, Status::Ok, Some(&copy_uid(&moved)), "moved");
    Ok(None)
}

async fn transfer(s: &mut Session, t: &Transfer, how: How) -> Result<Copied, Failure> {
    let selected = s.selected()?;
    let uids = selected.uids(&t.set, t.uid)?;
    if uids.is_empty() {
        return Err(Failure::no("no matching messages"));
    }
    let name = MailboxName::parse(&t.mailbox).map_err(Error::from)?;
    let (account, from, origin) = (s.account()?, selected.id, s.id);
    account
        .write(move |w| {
            w.set_origin(origin);
            let to = w.mailboxes().by_name(name.as_str()).ok_or(Error::NoMailbox)?.id;
            let copied = match how {
                How::Copy => w.copy_messages(from, &uids, to)?,
                How::Move => w.move_messages(from, &uids, to)?,
            };
            // All or nothing: some were removed by others, which the client is told now, RFC 9051 §6.4.7.
            if copied.from.len() as u64 != uids.len() { Err(Error::NoMessage) } else { Ok(copied) }
        })
        .await
        .map_err(or_try_create)
}

fn copy_uid(copied: &Copied) -> Code {
    let set = |uids: &[mox_base::Uid]| uids.iter().map(|u| u.get()).collect::<RangeSet>();
    Code::CopyUid(copied.uidvalidity, set(&copied.from), set(&copied.to))
}
