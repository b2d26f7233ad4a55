//! STORE and UID STORE, RFC 9051 §6.4.6, with UNCHANGEDSINCE, RFC 7162 §3.1.3.

use super::{Done, enable};
use crate::error::Failure;
use crate::render;
use crate::session::Session;
use crate::updates::modseqs;
use mox_imap::cmd::messages::{Store, StoreMode};
use mox_imap::response::Code;
use mox_imap::{Flag, RangeSet};
use mox_store::{Error, FlagChange, FlagOp, Flags, Keyword, UidSet};
use std::sync::Arc;

pub(crate) async fn run(s: &mut Session, store: Store) -> Done {
    let selected = s.writable()?;
    let uids = selected.uids(&store.set, store.uid)?;
    let (id, old) = (selected.id, Arc::clone(&selected.view));
    let (flags, keywords) = split(&store.flags)?;
    if store.unchanged_since.is_some() {
        enable::condstore(s);
    }
    let (account, origin) = (s.account()?, s.id);
    let op = match store.mode {
        StoreMode::Replace => FlagOp::Replace,
        StoreMode::Add => FlagOp::Add,
        StoreMode::Remove => FlagOp::Remove,
    };
    let change = FlagChange { op, flags, keywords };
    let since = store.unchanged_since;
    let flagged = account
        .write(move |w| {
            w.set_origin(origin);
            w.store_flags(id, &uids, &change, since)
        })
        .await?;
    let new = account.view(id).await?;

    // Our own change isn't told again, unless others' came with it: then hearing of it twice does no harm.
    let diff = new.diff(&old);
    let ours = diff.added.is_empty() && diff.removed.is_empty() && (&diff.flags - &flagged.changed).is_empty();
    if ours && let Some(selected) = &mut s.selected {
        selected.view = Arc::clone(&new);
    }
    let condstore = s.enabled.condstore;
    let described = if store.silent && !condstore { flagged.modified.clone() } else { &flagged.done | &flagged.modified };
    let found = if condstore && !described.is_empty() { Some(modseqs(&account, &new, &described).await?) } else { None };
    let out = &mut s.conn.out;
    new.for_each(&described, |entry| {
        let Some(seq) = (if ours { Some(entry.seq) } else { old.seq(entry.uid) }) else { return };
        render::head(out, seq, entry.uid);
        // What wasn't changed is told as it is now, so that the client can decide again.
        if !store.silent || flagged.modified.contains(entry.uid) {
            out.push(b' ');
            render::flags(out, entry.flags, entry.keywords, new.mailbox());
        }
        if let Some(modseq) = found.as_ref().and_then(|f| f.get(&entry.uid)) {
            render::modseq(out, *modseq);
        }
        out.extend_from_slice(b")\r\n");
    });
    if flagged.modified.is_empty() {
        return Ok(None);
    }
    Ok(Some(Code::Modified(numbers(&flagged.modified, store.uid, |uid| old.seq(uid)))))
}

/// UIDs as such, or as sequence numbers.
fn numbers(uids: &UidSet, as_uids: bool, seq: impl Fn(mox_base::Uid) -> Option<u32>) -> RangeSet {
    if as_uids { uids.ranges().collect() } else { uids.iter().filter_map(seq).collect() }
}

/// Flags of a command as the store has them.
pub(crate) fn split(flags: &[Flag]) -> Result<(Flags, Vec<Keyword>), Failure> {
    let mut set = Flags::NONE;
    let mut keywords = Vec::new();
    for flag in flags {
        set = set
            | match flag {
                Flag::Seen => Flags::SEEN,
                Flag::Answered => Flags::ANSWERED,
                Flag::Flagged => Flags::FLAGGED,
                Flag::Deleted => Flags::DELETED,
                Flag::Draft => Flags::DRAFT,
                Flag::Forwarded => Flags::FORWARDED,
                Flag::Junk => Flags::JUNK,
                Flag::NotJunk => Flags::NOTJUNK,
                Flag::Phishing => Flags::PHISHING,
                Flag::MdnSent => Flags::MDNSENT,
                Flag::Keyword(name) => {
                    keywords.push(Keyword::parse(name).map_err(Error::from)?);
                    Flags::NONE
                }
            };
    }
    Ok((set, keywords))
}
