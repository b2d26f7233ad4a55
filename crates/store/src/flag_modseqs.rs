//! When flags of messages last changed: mod-sequences, RFC 7162 §3.1, packed.
//!
//! A message's row has the mod-sequence that it came with, and is never written again. Flags themselves are bitmaps, see `index`;
//! when they were changed is kept here, in a row per [`BLOCK`] UIDs of those that were changed at all. Neighbours with the same
//! mod-sequence are one run, so flagging a thousand messages writes a few short rows instead of a thousand.
//!
//! A row has its runs in ascending order, three numbers each in LEB128: UIDs left out before it, UIDs in it less one, and by how
//! much its mod-sequence is above that of the run before, with the sign in the lowest bit.

use crate::db::{Error, Tx};
use crate::params;
use crate::uidset::UidSet;
use mox_base::{AccountId, MailboxId, ModSeq, Uid};
use std::collections::BTreeMap;

/// UIDs in a row.
const BLOCK: u32 = 256;

/// Rows held in memory at a time.
const ROWS: usize = 256;

/// Adjacent UIDs that changed together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    first: u32,
    last: u32,
    modseq: i64,
}

/// The last changes of flags of messages in a range of UIDs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FlagModSeqs {
    /// Ascending, disjoint.
    runs: Vec<Run>,
}

/// The runs of each row in a range.
type Blocks = BTreeMap<i64, Vec<Run>>;

impl FlagModSeqs {
    /// Reads those of messages within a range of UIDs, or the first of them. Up to the UID that is returned, it has all.
    pub(crate) fn load(tx: &Tx<'_>, account: AccountId, mailbox: MailboxId, first: Uid, last: Uid) -> Result<(Self, Uid), Error> {
        let blocks = load(tx, account, mailbox, number(first.get()), number(last.get()))?;
        let full = blocks.len() >= ROWS;
        let end = blocks.keys().next_back().filter(|_| full).and_then(|block| Uid::new(end(*block)));
        Ok((Self { runs: blocks.into_values().flatten().collect() }, end.map_or(last, |end| end.min(last))))
    }

    /// When a message's flags last changed, if they ever did.
    pub(crate) fn modseq(&self, uid: Uid) -> Option<i64> {
        let uid = uid.get();
        let run = self.runs.get(self.runs.partition_point(|r| r.last < uid))?;
        (run.first <= uid).then_some(run.modseq)
    }

    /// UIDs whose flags changed after a mod-sequence.
    pub(crate) fn after(&self, since: u64) -> UidSet {
        let later = |run: &&Run| u64::try_from(run.modseq).is_ok_and(|modseq| modseq > since);
        UidSet::from_ranges(self.runs.iter().filter(later).map(|r| (r.first, r.last)))
    }

    /// All UIDs whose flags ever changed, and the last change.
    pub(crate) fn all(&self) -> (UidSet, i64) {
        let last = self.runs.iter().map(|r| r.modseq).max().unwrap_or(0);
        (self.after(0), last)
    }
}

/// Notes that flags of messages were changed.
pub(crate) fn note(tx: &Tx<'_>, account: AccountId, mailbox: MailboxId, uids: &UidSet, modseq: ModSeq) -> Result<(), Error> {
    change(tx, account, mailbox, uids, Some(modseq.as_i64()))
}

/// Forgets messages that were removed.
pub(crate) fn forget(tx: &Tx<'_>, account: AccountId, mailbox: MailboxId, uids: &UidSet) -> Result<(), Error> {
    change(tx, account, mailbox, uids, None)
}

fn change(tx: &Tx<'_>, account: AccountId, mailbox: MailboxId, uids: &UidSet, modseq: Option<i64>) -> Result<(), Error> {
    // Ranges of UIDs by their blocks, and these in stretches that are read at once.
    let mut parts: BTreeMap<i64, Vec<(u32, u32)>> = BTreeMap::new();
    for (first, last) in uids.ranges() {
        let mut from = first;
        loop {
            let end = last.min(from | (BLOCK - 1));
            parts.entry(number(from)).or_default().push((from, end));
            match end.checked_add(1) {
                Some(next) if end < last => from = next,
                _ => break,
            }
        }
    }
    let mut numbers = parts.keys().copied().peekable();
    let mut known = Blocks::new();
    while let Some(first) = numbers.next() {
        let mut last = first;
        for _ in 1..ROWS {
            let Some(next) = numbers.next_if_eq(&last.saturating_add(1)) else { break };
            last = next;
        }
        known.append(&mut load(tx, account, mailbox, first, last)?);
    }
    for (block, ranges) in parts {
        let old = known.remove(&block);
        let mut runs = old.clone().unwrap_or_default();
        for range in ranges {
            set(&mut runs, range, modseq);
        }
        match (old, runs.is_empty()) {
            (Some(old), false) if old == runs => {}
            (Some(_), false) => {
                tx.exec(
                    "UPDATE flag_modseqs SET runs = $4 WHERE account_id = $1 AND mailbox_id = $2 AND block = $3",
                    params![account, mailbox, block, &encode(block, &runs)],
                )?;
            }
            (None, false) => {
                tx.exec(
                    "INSERT INTO flag_modseqs (account_id, mailbox_id, block, runs) VALUES ($1, $2, $3, $4)",
                    params![account, mailbox, block, &encode(block, &runs)],
                )?;
            }
            (Some(_), true) => {
                tx.exec(
                    "DELETE FROM flag_modseqs WHERE account_id = $1 AND mailbox_id = $2 AND block = $3",
                    params![account, mailbox, block],
                )?;
            }
            (None, true) => {}
        }
    }
    Ok(())
}

fn load(tx: &Tx<'_>, account: AccountId, mailbox: MailboxId, first: i64, last: i64) -> Result<Blocks, Error> {
    let mut blocks = Blocks::new();
    tx.query(
        &format!(
            "SELECT block, runs FROM flag_modseqs WHERE account_id = $1 AND mailbox_id = $2 AND block BETWEEN $3 AND $4 \
             ORDER BY block LIMIT {ROWS}"
        ),
        params![account, mailbox, first, last],
        |r| {
            let block = r.int(0)?;
            let runs =
                decode(block, r.blob(1)?).ok_or_else(|| Error::Corrupt(format!("flag_modseqs, mailbox {mailbox}, block {block}")))?;
            blocks.insert(block, runs);
            Ok::<_, Error>(())
        },
    )?;
    Ok(blocks)
}

/// The block of a UID.
fn number(uid: u32) -> i64 {
    i64::from(uid / BLOCK)
}

/// Gives a range a mod-sequence, or none.
fn set(runs: &mut Vec<Run>, (first, last): (u32, u32), modseq: Option<i64>) {
    let mut all = Vec::with_capacity(runs.len().saturating_add(2));
    all.extend(runs.iter().filter(|r| r.first < first).map(|r| Run { last: r.last.min(first.saturating_sub(1)), ..*r }));
    all.extend(modseq.map(|modseq| Run { first, last, modseq }));
    all.extend(runs.iter().filter(|r| r.last > last).map(|r| Run { first: r.first.max(last.saturating_add(1)), ..*r }));
    // Neighbours that changed together are one.
    all.dedup_by(|next, run| {
        let joins = run.modseq == next.modseq && run.last.checked_add(1) == Some(next.first);
        if joins {
            run.last = next.last;
        }
        joins
    });
    *runs = all;
}

fn encode(block: i64, runs: &[Run]) -> Vec<u8> {
    let mut out = Vec::with_capacity(runs.len().saturating_mul(5));
    let mut at = start(block);
    let mut before = 0i64;
    for run in runs {
        put(&mut out, u64::from(run.first.saturating_sub(at)));
        put(&mut out, u64::from(run.last.saturating_sub(run.first)));
        let above = run.modseq.saturating_sub(before);
        put(&mut out, ((above << 1) ^ (above >> 63)).cast_unsigned());
        (at, before) = (run.last.saturating_add(1), run.modseq);
    }
    out
}

fn decode(block: i64, mut data: &[u8]) -> Option<Vec<Run>> {
    let mut runs = Vec::new();
    let mut at = start(block);
    let end = end(block);
    let mut modseq = 0i64;
    while !data.is_empty() {
        let first = at.checked_add(u32::try_from(take(&mut data)?).ok()?)?;
        let last = first.checked_add(u32::try_from(take(&mut data)?).ok()?)?;
        let above = take(&mut data)?;
        modseq = modseq.checked_add((above >> 1).cast_signed() ^ -(above & 1).cast_signed())?;
        if last > end {
            return None;
        }
        runs.push(Run { first, last, modseq });
        at = last.saturating_add(1);
    }
    Some(runs)
}

/// The first UID of a block.
fn start(block: i64) -> u32 {
    u32::try_from(block.saturating_mul(i64::from(BLOCK))).unwrap_or(u32::MAX)
}

/// The last UID of a block.
fn end(block: i64) -> u32 {
    start(block) | (BLOCK - 1)
}

fn put(out: &mut Vec<u8>, mut n: u64) {
    while let Some(low) = u8::try_from(n & 0x7f).ok().filter(|_| n > 0x7f) {
        out.push(low | 0x80);
        n >>= 7;
    }
    out.extend(u8::try_from(n));
}

fn take(data: &mut &[u8]) -> Option<u64> {
    let mut n = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = data.split_first()?;
        *data = rest;
        n |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(n);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(all: &[(u32, u32, i64)]) -> Vec<Run> {
        all.iter().map(|&(first, last, modseq)| Run { first, last, modseq }).collect()
    }

    #[test]
    fn ranges_are_set_cut_and_joined() {
        let mut r = Vec::new();
        set(&mut r, (10, 20), Some(5));
        set(&mut r, (15, 16), Some(7));
        assert_eq!(r, runs(&[(10, 14, 5), (15, 16, 7), (17, 20, 5)]));
        set(&mut r, (21, 30), Some(5));
        assert_eq!(r, runs(&[(10, 14, 5), (15, 16, 7), (17, 30, 5)]));
        set(&mut r, (15, 16), Some(5));
        assert_eq!(r, runs(&[(10, 30, 5)]));
        set(&mut r, (0, 11), None);
        set(&mut r, (13, 13), None);
        set(&mut r, (29, 255), None);
        assert_eq!(r, runs(&[(12, 12, 5), (14, 28, 5)]));
        set(&mut r, (0, 255), Some(9));
        assert_eq!(r, runs(&[(0, 255, 9)]));
        let flagged = FlagModSeqs { runs: runs(&[(12, 12, 5), (14, 28, 9)]) };
        let at = |uid| flagged.modseq(Uid::new(uid).unwrap());
        assert_eq!([at(11), at(12), at(13), at(14), at(28), at(29)], [None, Some(5), None, Some(9), Some(9), None]);
        assert_eq!(flagged.after(5), UidSet::from_ranges([(14, 28)]));
        assert_eq!(flagged.all(), (UidSet::from_ranges([(12, 12), (14, 28)]), 9));
    }

    #[test]
    fn rows_come_back() {
        let last = i64::from(u32::MAX / BLOCK);
        for (block, all) in [
            (0, runs(&[(1, 1, 3)])),
            (0, runs(&[(0, 255, i64::MAX)])),
            (2, runs(&[(512, 513, 100), (515, 515, 7), (516, 600, 300), (767, 767, 1)])),
            (last, runs(&[(u32::MAX - 1, u32::MAX, 40)])),
        ] {
            let data = encode(block, &all);
            assert_eq!(decode(block, &data), Some(all));
            for cut in 1..data.len() {
                assert!(decode(block, &data[..cut]).is_none_or(|r| r.len() < 4));
            }
        }
        // Beyond its block; a number without end.
        assert_eq!(decode(0, &[0x80, 2, 0, 2]), None);
        assert_eq!(decode(0, &[0xff; 12]), None);
        assert_eq!(decode(0, &[]), Some(Vec::new()));
        // Each message for itself, one after the other.
        let single: Vec<Run> = (0..BLOCK).map(|n| Run { first: n, last: n, modseq: 1_000_000 + i64::from(n) }).collect();
        assert!(encode(0, &single).len() < 800);
    }
}
