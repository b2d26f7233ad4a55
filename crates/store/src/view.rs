//! A mailbox at one moment: UIDs, sequence numbers and flags, for sessions.
//!
//! A [`View`] never changes. Sessions on a mailbox share the newest, and hold an older one until their protocol lets them
//! tell their client what is different, which is [`View::diff`]. Everything is rank, select and set operations on bitmaps;
//! nothing costs the length of the mailbox unless it lists it.

use crate::flags::{Flags, Keyword};
use crate::index::{Chunk, Index, chunk_of, flag_index, range_of};
use crate::mailbox::Mailbox;
use crate::uidset::UidSet;
use mox_base::{ModSeq, Uid};
use roaring::RoaringBitmap;
use std::sync::{Arc, OnceLock, Weak};

/// A mailbox at one moment.
#[derive(Clone, Debug)]
pub struct View {
    mailbox: Arc<Mailbox>,
    index: Index,
    /// For each chunk the number of messages before it.
    starts: Vec<u32>,
    exists: u32,
    /// What is different from the first older view that was asked for: that of most sessions, thousands perhaps.
    changed: OnceLock<(Weak<Self>, Arc<Diff>)>,
}

/// A message in a view.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'v> {
    /// Its sequence number, from 1.
    pub seq: u32,
    /// Its UID.
    pub uid: Uid,
    /// Its flags.
    pub flags: Flags,
    /// The indexes of its keywords, ascending, see [`Mailbox::keywords`].
    pub keywords: &'v [u16],
}

/// What is different between two views of a mailbox.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Diff {
    /// Messages that are new.
    pub added: UidSet,
    /// Messages that are gone.
    pub removed: UidSet,
    /// Messages in both, with other flags or keywords.
    pub flags: UidSet,
}

impl View {
    pub(crate) fn new(mailbox: Arc<Mailbox>, index: Index) -> Self {
        let mut exists = 0u32;
        let mut starts = Vec::with_capacity(index.chunks.len());
        for (_, chunk) in &index.chunks {
            starts.push(exists);
            exists = exists.saturating_add(chunk.len());
        }
        Self { mailbox, index, starts, exists, changed: OnceLock::new() }
    }

    pub(crate) fn index(&self) -> &Index {
        &self.index
    }

    /// The mailbox' row at that moment: name, UIDVALIDITY, UIDNEXT, counters, keywords.
    pub fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
    }

    /// The last change that is in this view.
    pub fn modseq(&self) -> ModSeq {
        self.mailbox.modseq
    }

    /// How many messages there are.
    pub fn exists(&self) -> u32 {
        self.exists
    }

    /// The UID of the message with a sequence number, from 1.
    pub fn uid(&self, seq: u32) -> Option<Uid> {
        let n = seq.checked_sub(1)?;
        let i = self.starts.partition_point(|start| *start <= n).checked_sub(1)?;
        let within = n.checked_sub(*self.starts.get(i)?)?;
        self.index.chunks.get(i)?.1.uids.select(within).and_then(Uid::new)
    }

    /// The sequence number of a message.
    pub fn seq(&self, uid: Uid) -> Option<u32> {
        let uid = uid.get();
        let i = self.index.chunks.binary_search_by_key(&chunk_of(uid), |c| c.0).ok()?;
        let chunk = &self.index.chunks.get(i)?.1;
        if !chunk.uids.contains(uid) {
            return None;
        }
        let rank = u32::try_from(chunk.uids.rank(uid)).ok()?;
        self.starts.get(i)?.checked_add(rank)
    }

    /// Whether there is a message with this UID.
    pub fn contains(&self, uid: Uid) -> bool {
        self.index.chunk(chunk_of(uid.get())).is_some_and(|c| c.uids.contains(uid.get()))
    }

    /// The highest UID.
    pub fn last_uid(&self) -> Option<Uid> {
        self.index.chunks.last().and_then(|c| c.1.uids.max()).and_then(Uid::new)
    }

    /// The UIDs of all messages.
    pub fn uids(&self) -> UidSet {
        let mut all = RoaringBitmap::new();
        for (_, chunk) in &self.index.chunks {
            all |= &*chunk.uids;
        }
        UidSet(all)
    }

    /// Those of `set` that are there.
    pub fn existing(&self, set: &UidSet) -> UidSet {
        self.index.existing(set)
    }

    /// The UIDs of the messages in ranges of sequence numbers, both ends included.
    pub fn uids_of_seqs(&self, ranges: impl IntoIterator<Item = (u32, u32)>) -> UidSet {
        let mut set = RoaringBitmap::new();
        for (first, last) in ranges {
            let (Some(from), Some(to)) = (self.uid(first.max(1)), self.uid(last.min(self.exists))) else { continue };
            if from > to {
                continue;
            }
            let (from, to) = (from.get(), to.get());
            let begin = self.index.chunks.partition_point(|c| c.0 < chunk_of(from));
            for (number, chunk) in self.index.chunks.iter().skip(begin) {
                let range = range_of(*number);
                if *range.start() > to {
                    break;
                }
                if *range.start() >= from && *range.end() <= to {
                    set |= &*chunk.uids;
                } else {
                    let mut part = RoaringBitmap::new();
                    part.insert_range(from.max(*range.start())..=to.min(*range.end()));
                    set |= part & &*chunk.uids;
                }
            }
        }
        UidSet(set)
    }

    /// The messages that have a flag (a single one).
    pub fn with_flag(&self, flag: Flags) -> UidSet {
        let i = flag_index(flag);
        let mut set = RoaringBitmap::new();
        for bits in self.index.chunks.iter().filter_map(|c| c.1.flags.get(i)) {
            set |= &**bits;
        }
        UidSet(set)
    }

    /// The messages that have a keyword, in lower case.
    pub fn with_keyword(&self, name: &str) -> UidSet {
        let mut set = RoaringBitmap::new();
        if let Some(idx) = self.mailbox.keyword(name) {
            for bits in self.index.chunks.iter().filter_map(|c| c.1.keyword(idx)) {
                set |= &**bits;
            }
        }
        UidSet(set)
    }

    /// The first message without `\Seen`: its sequence number and UID.
    pub fn first_unseen(&self) -> Option<(u32, Uid)> {
        let seen = flag_index(Flags::SEEN);
        for ((_, chunk), start) in self.index.chunks.iter().zip(&self.starts) {
            let seen = chunk.flags.get(seen)?;
            if seen.len() == chunk.uids.len() {
                continue;
            }
            // The first `n` UIDs are seen as long as the n-th of both sets are the same.
            let unseen = (&*chunk.uids - &**seen).min()?;
            let rank = u32::try_from(chunk.uids.rank(unseen)).ok()?;
            return Some((start.checked_add(rank)?, Uid::new(unseen)?));
        }
        None
    }

    /// The flags of a message and the indexes of its keywords.
    pub fn flags(&self, uid: Uid) -> Option<(Flags, Vec<u16>)> {
        self.contains(uid).then(|| self.index.flags(uid.get()))
    }

    /// The names of keywords by their indexes.
    pub fn keyword_names<'v>(&'v self, indexes: &'v [u16]) -> impl Iterator<Item = &'v Keyword> {
        crate::index::names(&self.mailbox.keywords, indexes)
    }

    /// Calls `f` for each message of `set` that is there, ascending.
    pub fn for_each(&self, set: &UidSet, mut f: impl FnMut(Entry<'_>)) {
        self.for_each_while(set, |entry| {
            f(entry);
            true
        });
    }

    /// As [`View::for_each`], ending when `f` returns false.
    pub fn for_each_while(&self, set: &UidSet, mut f: impl FnMut(Entry<'_>) -> bool) {
        let mut scratch = Vec::new();
        for ((number, chunk), start) in self.index.chunks.iter().zip(&self.starts) {
            let part = set.within(range_of(*number)) & &*chunk.uids;
            let more = match part.len() {
                0 => true,
                n if n < 256 => self.each_of_few(chunk, *start, &part, &mut f),
                _ => each_of_many(chunk, *start, &part, &mut scratch, &mut f),
            };
            if !more {
                return;
            }
        }
    }

    fn each_of_few(&self, chunk: &Chunk, start: u32, part: &RoaringBitmap, f: &mut impl FnMut(Entry<'_>) -> bool) -> bool {
        for uid in part {
            let (flags, keywords) = self.index.flags(uid);
            let rank = u32::try_from(chunk.uids.rank(uid)).unwrap_or(0);
            let Some(uid) = Uid::new(uid) else { continue };
            if !f(Entry { seq: start.saturating_add(rank), uid, flags, keywords: &keywords }) {
                return false;
            }
        }
        true
    }

    /// What is different from an older view of the same mailbox.
    pub fn diff(&self, old: &Arc<Self>) -> Arc<Diff> {
        // The weak reference keeps the address from being another view's.
        let (from, diff) = self.changed.get_or_init(|| (Arc::downgrade(old), Arc::new(self.compare(old))));
        if std::ptr::eq(from.as_ptr(), Arc::as_ptr(old)) { Arc::clone(diff) } else { Arc::new(self.compare(old)) }
    }

    fn compare(&self, old: &Self) -> Diff {
        let mut diff = Diff::default();
        let numbers = self.index.chunks.iter().chain(&old.index.chunks).map(|c| c.0);
        let mut numbers: Vec<u16> = numbers.collect();
        numbers.sort_unstable();
        numbers.dedup();
        let none = Arc::new(Chunk::default());
        for number in numbers {
            let now = self.index.chunk(number).unwrap_or(&none);
            let was = old.index.chunk(number).unwrap_or(&none);
            if Arc::ptr_eq(now, was) {
                continue;
            }
            if !Arc::ptr_eq(&now.uids, &was.uids) {
                diff.added.0 |= &*now.uids - &*was.uids;
                diff.removed.0 |= &*was.uids - &*now.uids;
            }
            for (a, b) in now.flags.iter().zip(&was.flags) {
                if !Arc::ptr_eq(a, b) {
                    diff.flags.0 |= &**a ^ &**b;
                }
            }
            let indexes = now.keywords.iter().chain(&was.keywords).map(|k| k.0);
            let empty = Arc::default();
            for idx in indexes {
                let (a, b) = (now.keyword(idx).unwrap_or(&empty), was.keyword(idx).unwrap_or(&empty));
                if !Arc::ptr_eq(a, b) {
                    diff.flags.0 |= &**a ^ &**b;
                }
            }
        }
        diff.flags = &(&diff.flags - &diff.added) - &diff.removed;
        diff
    }
}

/// For many messages the bitmaps are first spread out, from the first to the last of them, so that each message costs a few nanoseconds.
fn each_of_many(chunk: &Chunk, start: u32, part: &RoaringBitmap, scratch: &mut Vec<u16>, f: &mut impl FnMut(Entry<'_>) -> bool) -> bool {
    let (Some(first), Some(last)) = (part.min(), part.max()) else { return true };
    let place = |uid: u32| usize::try_from(uid.saturating_sub(first)).unwrap_or(usize::MAX);
    scratch.clear();
    scratch.resize(place(last).saturating_add(1), 0);
    for (flag, bits) in Flags::EACH.into_iter().zip(&chunk.flags) {
        for uid in bits.range(first..=last) {
            if let Some(flags) = scratch.get_mut(place(uid)) {
                *flags |= flag.bits();
            }
        }
    }
    let mut keywords: Vec<(u32, u16)> = Vec::new();
    for (idx, bits) in &chunk.keywords {
        keywords.extend((&**bits & part).into_iter().map(|uid| (uid, *idx)));
    }
    keywords.sort_unstable();
    let mut keywords = keywords.into_iter().peekable();
    let mut own: Vec<u16> = Vec::new();
    let mut wanted = part.iter().peekable();
    let before = u32::try_from(chunk.uids.rank(first)).unwrap_or(u32::MAX).saturating_sub(1);
    let mut seq = start.saturating_add(before);
    for uid in chunk.uids.range(first..=last) {
        seq = seq.saturating_add(1);
        match wanted.peek() {
            None => break,
            Some(want) if *want != uid => continue,
            Some(_) => _ = wanted.next(),
        }
        own.clear();
        while let Some((_, idx)) = keywords.next_if(|k| k.0 <= uid) {
            own.push(idx);
        }
        let flags = Flags::from_bits(scratch.get(place(uid)).copied().unwrap_or(0));
        let Some(uid) = Uid::new(uid) else { continue };
        if !f(Entry { seq, uid, flags, keywords: &own }) {
            return false;
        }
    }
    true
}
