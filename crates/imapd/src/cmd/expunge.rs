//! EXPUNGE and UID EXPUNGE, RFC 9051 §6.4.3 and §6.4.9.

use super::Done;
use crate::session::Session;
use mox_imap::SequenceSet;
use mox_imap::response::Code;

/// Removes what has `\Deleted`. The removals are told with the updates at the end of the command, with those of others.
pub(crate) async fn run(s: &mut Session, uids: Option<&SequenceSet>) -> Done {
    let selected = s.writable()?;
    let among = match uids {
        Some(set) => selected.uids(set, true)?,
        None => selected.view.uids(),
    };
    let (account, id, origin) = (s.account()?, selected.id, s.id);
    let modseq = account
        .write(move |w| {
            w.set_origin(origin);
            let expunged = w.expunge_deleted(id, &among)?;
            Ok::<_, mox_store::Error>(match expunged.modseq {
                Some(modseq) => modseq,
                None => w.mailbox(id)?.modseq,
            })
        })
        .await?;
    Ok(s.enabled.condstore.then_some(Code::HighestModSeq(modseq)))
}
