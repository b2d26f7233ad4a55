//! Changing flags and keywords.

use super::WriteTx;
use crate::change::ChangeKind;
use crate::db;
use crate::error::Error;
use crate::flag_modseqs::{self, FlagModSeqs};
use crate::flags::{Flags, Keyword};
use crate::index::Bit;
use crate::params;
use crate::uidset::UidSet;
use mox_base::{ByteSize, MailboxId, ModSeq, Uid};

/// How flags are changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlagOp {
    /// These are set, others stay.
    Add,
    /// These are cleared, others stay.
    Remove,
    /// These are set, all others cleared.
    Replace,
}

/// A change of flags and keywords.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlagChange {
    /// How.
    pub op: FlagOp,
    /// Which flags.
    pub flags: Flags,
    /// Which keywords.
    pub keywords: Vec<Keyword>,
}

/// What changing flags did.
#[derive(Clone, Debug, PartialEq)]
pub struct Flagged {
    /// Messages that are there and weren't refused: changed or not.
    pub done: UidSet,
    /// Those whose flags are different now.
    pub changed: UidSet,
    /// Those that were left alone because they had changed since, RFC 7162 §3.1.3.
    pub modified: UidSet,
    /// The change, if anything changed.
    pub modseq: Option<ModSeq>,
}

impl WriteTx<'_> {
    /// Changes flags of messages. Those that are gone are skipped. With `unchanged_since`, so are those that have changed after it.
    ///
    /// # Errors
    /// [`Error::NoMailbox`]; [`Error::TooManyKeywords`].
    pub fn store_flags(
        &mut self,
        mailbox: MailboxId,
        uids: &UidSet,
        change: &FlagChange,
        unchanged_since: Option<u64>,
    ) -> Result<Flagged, Error> {
        let there = self.index(mailbox)?.existing(uids);
        let modified = match unchanged_since {
            Some(since) => self.changed_after(mailbox, &there, since)?,
            None => UidSet::new(),
        };
        let done = &there - &modified;
        if done.is_empty() {
            return Ok(Flagged { done, changed: UidSet::new(), modified, modseq: None });
        }
        let keywords = match change.op {
            FlagOp::Remove => {
                let known = self.mailbox(mailbox)?;
                change.keywords.iter().filter_map(|k| known.keyword(k.as_str())).collect()
            }
            FlagOp::Add | FlagOp::Replace => self.keyword_indexes(mailbox, &change.keywords)?,
        };
        let changed = self.would_change(mailbox, &done, change, &keywords)?;
        if changed.is_empty() {
            return Ok(Flagged { done, changed, modified, modseq: None });
        }
        let modseq = self.modseq();
        flag_modseqs::note(self.tx, self.account(), mailbox, &changed, modseq)?;
        let before = self.tally(mailbox, &changed)?;
        self.update_index(mailbox, &changed, change, &keywords)?;
        let after = self.tally(mailbox, &changed)?;
        let m = self.mailbox_mut(mailbox)?;
        before.take_from(m, ByteSize(0));
        after.add_to(m, ByteSize(0));
        self.changed(ChangeKind::Flags(mailbox, changed.clone()));
        Ok(Flagged { done, changed, modified, modseq: Some(modseq) })
    }

    /// Those of `uids` that changed after a mod-sequence.
    fn changed_after(&self, mailbox: MailboxId, uids: &UidSet, since: u64) -> Result<UidSet, Error> {
        let mut found = UidSet::new();
        let (Some(first), Some(last)) = (uids.first(), uids.last()) else { return Ok(found) };
        self.tx.query(
            "SELECT uid FROM message_state WHERE account_id = $1 AND mailbox_id = $2 AND uid BETWEEN $3 AND $4 AND modseq > $5",
            params![self.account(), mailbox, first, last, since],
            |r| {
                if let Some(uid) = u32::try_from(r.int(0)?).ok().and_then(Uid::new)
                    && uids.contains(uid)
                {
                    found.insert(uid);
                }
                Ok::<_, db::Error>(())
            },
        )?;
        let mut next = Some(first);
        while let Some(from) = next.filter(|from| *from <= last) {
            let (flagged, end) = FlagModSeqs::load(self.tx, self.account(), mailbox, from, last)?;
            found = &found | &(&flagged.after(since) & uids);
            next = end.next();
        }
        Ok(found)
    }

    /// Those whose flags or keywords would be different afterwards.
    fn would_change(&mut self, mailbox: MailboxId, set: &UidSet, change: &FlagChange, keywords: &[u16]) -> Result<UidSet, Error> {
        let known = u16::try_from(self.mailbox(mailbox)?.keywords.len()).unwrap_or(u16::MAX);
        let index = self.index(mailbox)?;
        let mut changed = UidSet::new();
        for flag in Flags::EACH {
            let has = index.flagged(set, flag);
            match (change.op, change.flags.has(flag)) {
                (FlagOp::Add | FlagOp::Replace, true) => changed = &changed | &(set - &has),
                (FlagOp::Remove, true) | (FlagOp::Replace, false) => changed = &changed | &has,
                (FlagOp::Add | FlagOp::Remove, false) => {}
            }
        }
        for idx in 0..known {
            let named = keywords.contains(&idx);
            match (change.op, named) {
                (FlagOp::Add | FlagOp::Replace, true) => changed = &changed | &(set - &index.keyworded(set, idx)),
                (FlagOp::Remove, true) | (FlagOp::Replace, false) => changed = &changed | &index.keyworded(set, idx),
                (FlagOp::Add | FlagOp::Remove, false) => {}
            }
        }
        Ok(changed)
    }

    fn update_index(&mut self, mailbox: MailboxId, set: &UidSet, change: &FlagChange, keywords: &[u16]) -> Result<(), Error> {
        let known = u16::try_from(self.mailbox(mailbox)?.keywords.len()).unwrap_or(u16::MAX);
        let index = self.index(mailbox)?;
        for flag in Flags::EACH {
            match (change.op, change.flags.has(flag)) {
                (FlagOp::Add | FlagOp::Replace, true) => index.set_flag(set, flag, Bit::Set),
                (FlagOp::Remove, true) | (FlagOp::Replace, false) => index.set_flag(set, flag, Bit::Clear),
                (FlagOp::Add | FlagOp::Remove, false) => {}
            }
        }
        for idx in 0..known {
            match (change.op, keywords.contains(&idx)) {
                (FlagOp::Add | FlagOp::Replace, true) => index.set_keyword(set, idx, Bit::Set),
                (FlagOp::Remove, true) | (FlagOp::Replace, false) => index.set_keyword(set, idx, Bit::Clear),
                (FlagOp::Add | FlagOp::Remove, false) => {}
            }
        }
        Ok(())
    }
}
