//! A mailbox' UIDs and flags as bitmaps, in chunks of 65,536 UIDs that are shared between versions.
//!
//! A version of a mailbox is a list of shared chunks, a chunk a handful of shared bitmaps. A change copies the bitmaps it
//! touches, in the chunks it touches, and nothing else: appending to a mailbox of a million messages copies a bitmap of one
//! chunk, of a few bytes while its UIDs are contiguous. What has to be written to the database is found by comparing
//! pointers with the version from which the transaction started.

use crate::db::{Error, Tx};
use crate::flags::{Flags, Keyword};
use crate::params;
use crate::uidset::{UidSet, to_bytes};
use mox_base::{AccountId, MailboxId};
use roaring::RoaringBitmap;
use std::ops::RangeInclusive;
use std::sync::Arc;

/// Kinds of bitmaps in the database: UIDs, then flags, then keywords.
const KIND_UIDS: i64 = 0;
const KIND_FLAGS: i64 = 1;
const KIND_KEYWORDS: i64 = 16;

/// The messages of a chunk. Bitmaps hold whole UIDs, all with the chunk's upper 16 bits.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chunk {
    pub(crate) uids: Arc<RoaringBitmap>,
    pub(crate) flags: [Arc<RoaringBitmap>; 10],
    /// By keyword index, ascending; only those in use.
    pub(crate) keywords: Vec<(u16, Arc<RoaringBitmap>)>,
}

impl Chunk {
    pub(crate) fn len(&self) -> u32 {
        u32::try_from(self.uids.len()).unwrap_or(u32::MAX)
    }

    pub(crate) fn keyword(&self, idx: u16) -> Option<&Arc<RoaringBitmap>> {
        self.keywords.binary_search_by_key(&idx, |k| k.0).ok().and_then(|i| self.keywords.get(i)).map(|k| &k.1)
    }

    fn keyword_mut(&mut self, idx: u16) -> Option<&mut Arc<RoaringBitmap>> {
        let i = match self.keywords.binary_search_by_key(&idx, |k| k.0) {
            Ok(i) => i,
            Err(i) => {
                self.keywords.insert(i, (idx, Arc::default()));
                i
            }
        };
        self.keywords.get_mut(i).map(|k| &mut k.1)
    }

    /// All its bitmaps with their kinds in the database.
    fn bitmaps(&self) -> impl Iterator<Item = (i64, &Arc<RoaringBitmap>)> {
        std::iter::once((KIND_UIDS, &self.uids))
            .chain((KIND_FLAGS..).zip(&self.flags))
            .chain(self.keywords.iter().map(|(idx, b)| (KIND_KEYWORDS.saturating_add(i64::from(*idx)), b)))
    }

    fn bitmap(&self, kind: i64) -> Option<&Arc<RoaringBitmap>> {
        self.bitmaps().find(|b| b.0 == kind).map(|b| b.1)
    }

    fn bitmap_mut(&mut self, kind: i64) -> Option<&mut Arc<RoaringBitmap>> {
        if kind == KIND_UIDS {
            return Some(&mut self.uids);
        }
        if kind >= KIND_KEYWORDS {
            return self.keyword_mut(u16::try_from(kind.saturating_sub(KIND_KEYWORDS)).ok()?);
        }
        self.flags.get_mut(usize::try_from(kind.saturating_sub(KIND_FLAGS)).ok()?)
    }
}

/// Which messages a change touches, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bit {
    Set,
    Clear,
}

/// All chunks of a mailbox.
#[derive(Clone, Debug, Default)]
pub(crate) struct Index {
    /// Ascending by the upper 16 bits of their UIDs.
    pub(crate) chunks: Vec<(u16, Arc<Chunk>)>,
}

pub(crate) fn chunk_of(uid: u32) -> u16 {
    u16::try_from(uid >> 16).unwrap_or(u16::MAX)
}

pub(crate) fn range_of(chunk: u16) -> RangeInclusive<u32> {
    let first = u32::from(chunk) << 16;
    first..=first | 0xffff
}

impl Index {
    pub(crate) fn chunk(&self, number: u16) -> Option<&Arc<Chunk>> {
        let i = self.chunks.binary_search_by_key(&number, |c| c.0).ok()?;
        self.chunks.get(i).map(|c| &c.1)
    }

    fn chunk_mut(&mut self, number: u16) -> Option<&mut Chunk> {
        let i = match self.chunks.binary_search_by_key(&number, |c| c.0) {
            Ok(i) => i,
            Err(i) => {
                self.chunks.insert(i, (number, Arc::default()));
                i
            }
        };
        self.chunks.get_mut(i).map(|c| Arc::make_mut(&mut c.1))
    }

    /// The chunks that a set touches, with the part of the set in each.
    pub(crate) fn parts<'s>(&'s self, set: &'s UidSet) -> impl Iterator<Item = (u16, &'s Arc<Chunk>, RoaringBitmap)> {
        self.chunks.iter().filter_map(|(number, chunk)| {
            let part = set.within(range_of(*number));
            (!part.is_empty()).then_some((*number, chunk, part))
        })
    }

    /// Those of `set` that are there.
    pub(crate) fn existing(&self, set: &UidSet) -> UidSet {
        let mut found = RoaringBitmap::new();
        for (_, chunk, part) in self.parts(set) {
            found |= part & &*chunk.uids;
        }
        UidSet(found)
    }

    /// Those of `set` that are there and have a flag.
    pub(crate) fn flagged(&self, set: &UidSet, flag: Flags) -> UidSet {
        let i = flag_index(flag);
        let mut found = RoaringBitmap::new();
        for (_, chunk, part) in self.parts(set) {
            if let Some(bits) = chunk.flags.get(i) {
                found |= part & &**bits;
            }
        }
        UidSet(found)
    }

    /// Those of `set` that are there and have a keyword.
    pub(crate) fn keyworded(&self, set: &UidSet, idx: u16) -> UidSet {
        let mut found = RoaringBitmap::new();
        for (_, chunk, part) in self.parts(set) {
            if let Some(bits) = chunk.keyword(idx) {
                found |= part & &**bits;
            }
        }
        UidSet(found)
    }

    /// Messages that have flags or keywords, but aren't there: none.
    pub(crate) fn strays(&self) -> UidSet {
        let mut strays = RoaringBitmap::new();
        for (_, chunk) in &self.chunks {
            for (_, bits) in chunk.bitmaps() {
                strays |= &**bits - &*chunk.uids;
            }
        }
        UidSet(strays)
    }

    /// The flags of one message and the indexes of its keywords.
    pub(crate) fn flags(&self, uid: u32) -> (Flags, Vec<u16>) {
        let Some(chunk) = self.chunk(chunk_of(uid)) else { return (Flags::NONE, Vec::new()) };
        let mut flags = Flags::NONE;
        for (flag, bits) in Flags::EACH.into_iter().zip(&chunk.flags) {
            if bits.contains(uid) {
                flags = flags | flag;
            }
        }
        (flags, chunk.keywords.iter().filter(|(_, b)| b.contains(uid)).map(|(idx, _)| *idx).collect())
    }

    pub(crate) fn insert(&mut self, uid: u32, flags: Flags, keywords: &[u16]) {
        let Some(chunk) = self.chunk_mut(chunk_of(uid)) else { return };
        Arc::make_mut(&mut chunk.uids).insert(uid);
        for flag in flags.each() {
            if let Some(bits) = chunk.flags.get_mut(flag_index(flag)) {
                Arc::make_mut(bits).insert(uid);
            }
        }
        for idx in keywords {
            if let Some(bits) = chunk.keyword_mut(*idx) {
                Arc::make_mut(bits).insert(uid);
            }
        }
    }

    /// Removes messages with their flags.
    pub(crate) fn remove(&mut self, set: &UidSet) {
        for number in self.parts(set).map(|p| p.0).collect::<Vec<_>>() {
            let part = set.within(range_of(number));
            let Some(chunk) = self.chunk_mut(number) else { continue };
            let keywords = chunk.keywords.iter_mut().map(|k| &mut k.1);
            for bits in std::iter::once(&mut chunk.uids).chain(&mut chunk.flags).chain(keywords) {
                if !bits.is_disjoint(&part) {
                    *Arc::make_mut(bits) -= &part;
                }
            }
        }
    }

    pub(crate) fn set_flag(&mut self, set: &UidSet, flag: Flags, to: Bit) {
        let kind = KIND_FLAGS.saturating_add(i64::try_from(flag_index(flag)).unwrap_or(0));
        self.set_kind(set, kind, to);
    }

    pub(crate) fn set_keyword(&mut self, set: &UidSet, idx: u16, to: Bit) {
        self.set_kind(set, KIND_KEYWORDS.saturating_add(i64::from(idx)), to);
    }

    fn set_kind(&mut self, set: &UidSet, kind: i64, to: Bit) {
        for number in self.parts(set).map(|p| p.0).collect::<Vec<_>>() {
            let Some(chunk) = self.chunk_mut(number) else { continue };
            let part = set.within(range_of(number)) & &*chunk.uids;
            let Some(bits) = chunk.bitmap_mut(kind) else { continue };
            match to {
                Bit::Set if !part.is_subset(bits) => *Arc::make_mut(bits) |= part,
                Bit::Clear if !part.is_disjoint(bits) => *Arc::make_mut(bits) -= part,
                Bit::Set | Bit::Clear => {}
            }
        }
    }

    pub(crate) fn load(tx: &Tx<'_>, account: AccountId, mailbox: MailboxId) -> Result<Self, Error> {
        let mut index = Self::default();
        tx.query(
            "SELECT chunk, kind, bits FROM mailbox_bitmap WHERE account_id = $1 AND mailbox_id = $2 ORDER BY chunk, kind",
            params![account, mailbox],
            |row| {
                let bad = || Error::Corrupt(format!("bitmap of mailbox {mailbox}"));
                let number = u16::try_from(row.int(0)?).map_err(|_| bad())?;
                let bits = RoaringBitmap::deserialize_from(row.blob(2)?).map_err(|_| bad())?;
                if bits.min().is_some_and(|uid| chunk_of(uid) != number) || bits.max().is_some_and(|uid| chunk_of(uid) != number) {
                    return Err(bad());
                }
                let place = index.chunk_mut(number).and_then(|c| c.bitmap_mut(row.int(1).unwrap_or(-1))).ok_or_else(bad)?;
                *place = Arc::new(bits);
                Ok::<_, Error>(())
            },
        )?;
        index.chunks.retain(|(_, c)| !c.uids.is_empty());
        Ok(index)
    }

    /// Writes the bitmaps that differ from `before`, and packs them.
    pub(crate) fn save(&mut self, tx: &Tx<'_>, account: AccountId, mailbox: MailboxId, before: &Self) -> Result<(), Error> {
        for (number, chunk) in &mut self.chunks {
            let old = before.chunk(*number);
            if old.is_some_and(|old| Arc::ptr_eq(old, chunk)) {
                continue;
            }
            let changed: Vec<i64> = chunk
                .bitmaps()
                .filter(|(kind, bits)| !old.and_then(|o| o.bitmap(*kind)).map_or(bits.is_empty(), |old| Arc::ptr_eq(old, bits)))
                .map(|(kind, _)| kind)
                .collect();
            for kind in changed {
                let known = old.and_then(|o| o.bitmap(kind)).is_some_and(|b| !b.is_empty());
                let Some(bits) = Arc::make_mut(chunk).bitmap_mut(kind) else { continue };
                let packed = Arc::make_mut(bits);
                packed.optimize();
                let key = params![account, mailbox, *number, kind];
                if packed.is_empty() {
                    tx.exec("DELETE FROM mailbox_bitmap WHERE account_id = $1 AND mailbox_id = $2 AND chunk = $3 AND kind = $4", key)?;
                    continue;
                }
                let bytes = to_bytes(packed);
                let row = params![account, mailbox, *number, kind, &bytes];
                if !known {
                    tx.exec("INSERT INTO mailbox_bitmap (account_id, mailbox_id, chunk, kind, bits) VALUES ($1, $2, $3, $4, $5)", row)?;
                } else {
                    tx.exec(
                        "UPDATE mailbox_bitmap SET bits = $5 WHERE account_id = $1 AND mailbox_id = $2 AND chunk = $3 AND kind = $4",
                        row,
                    )?;
                }
            }
        }
        self.chunks.retain(|(_, c)| !c.uids.is_empty());
        Ok(())
    }
}

/// The place of a single flag among the ten.
pub(crate) fn flag_index(flag: Flags) -> usize {
    usize::try_from(flag.bits().trailing_zeros()).unwrap_or(usize::MAX)
}

/// The keywords with these indexes.
pub(crate) fn names<'m>(all: &'m [Keyword], idx: &'m [u16]) -> impl Iterator<Item = &'m Keyword> {
    idx.iter().filter_map(|i| all.get(usize::from(*i)))
}
