//! Sets of UIDs.

use mox_base::Uid;
use roaring::RoaringBitmap;
use std::ops::{BitAnd, BitOr, RangeInclusive, Sub};

/// A set of UIDs, compressed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UidSet(pub(crate) RoaringBitmap);

impl UidSet {
    /// The empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// From ranges of numbers, both ends included; zero is left out.
    pub fn from_ranges(ranges: impl IntoIterator<Item = (u32, u32)>) -> Self {
        let mut set = RoaringBitmap::new();
        for (first, last) in ranges {
            set.insert_range(first.max(1)..=last);
        }
        Self(set)
    }

    /// Adds a UID.
    pub fn insert(&mut self, uid: Uid) {
        self.0.insert(uid.get());
    }

    /// Whether it has a UID.
    pub fn contains(&self, uid: Uid) -> bool {
        self.0.contains(uid.get())
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many UIDs it has.
    pub fn len(&self) -> u64 {
        self.0.len()
    }

    /// The lowest UID.
    pub fn first(&self) -> Option<Uid> {
        self.0.min().and_then(Uid::new)
    }

    /// The highest UID.
    pub fn last(&self) -> Option<Uid> {
        self.0.max().and_then(Uid::new)
    }

    /// Its UIDs, ascending.
    pub fn iter(&self) -> impl Iterator<Item = Uid> + '_ {
        self.0.iter().filter_map(Uid::new)
    }

    /// Its ranges of adjacent UIDs, ascending.
    pub fn ranges(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        let mut iter = self.0.iter();
        std::iter::from_fn(move || iter.next_range().map(|r| (*r.start(), *r.end())))
            // The bitmap gives ranges within its containers.
            .scan_adjacent()
    }

    /// The part of it from `first` on.
    #[must_use]
    pub fn starting_at(&self, first: Uid) -> Self {
        let mut set = self.0.clone();
        set.remove_range(0..first.get());
        Self(set)
    }

    /// The part of it within a range.
    pub(crate) fn within(&self, range: RangeInclusive<u32>) -> RoaringBitmap {
        let mut set = RoaringBitmap::new();
        set.insert_range(range);
        set &= &self.0;
        set
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        to_bytes(&self.0)
    }
}

/// The serialized form of a bitmap; contiguous runs take a few bytes.
pub(crate) fn to_bytes(bitmap: &RoaringBitmap) -> Vec<u8> {
    let mut out = Vec::with_capacity(bitmap.serialized_size());
    // Writing to a vector can't fail.
    _ = bitmap.serialize_into(&mut out);
    out
}

impl FromIterator<Uid> for UidSet {
    fn from_iter<I: IntoIterator<Item = Uid>>(uids: I) -> Self {
        Self(uids.into_iter().map(Uid::get).collect())
    }
}

impl From<Uid> for UidSet {
    fn from(uid: Uid) -> Self {
        std::iter::once(uid).collect()
    }
}

impl BitAnd for &UidSet {
    type Output = UidSet;

    fn bitand(self, other: Self) -> UidSet {
        UidSet(&self.0 & &other.0)
    }
}

impl BitOr for &UidSet {
    type Output = UidSet;

    fn bitor(self, other: Self) -> UidSet {
        UidSet(&self.0 | &other.0)
    }
}

impl Sub for &UidSet {
    type Output = UidSet;

    fn sub(self, other: Self) -> UidSet {
        UidSet(&self.0 - &other.0)
    }
}

trait ScanAdjacent: Iterator<Item = (u32, u32)> + Sized {
    /// Joins ranges that touch.
    fn scan_adjacent(self) -> Adjacent<Self> {
        Adjacent { inner: self, next: None }
    }
}

impl<I: Iterator<Item = (u32, u32)>> ScanAdjacent for I {}

struct Adjacent<I> {
    inner: I,
    next: Option<(u32, u32)>,
}

impl<I: Iterator<Item = (u32, u32)>> Iterator for Adjacent<I> {
    type Item = (u32, u32);

    fn next(&mut self) -> Option<(u32, u32)> {
        let mut range = self.next.take().or_else(|| self.inner.next())?;
        for following in self.inner.by_ref() {
            if range.1.checked_add(1) == Some(following.0) {
                range.1 = following.1;
            } else {
                self.next = Some(following);
                break;
            }
        }
        Some(range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_join_across_containers() {
        let set = UidSet::from_ranges([(0, 3), (5, 5), (65_530, 65_540), (200_000, 200_000)]);
        assert_eq!(set.ranges().collect::<Vec<_>>(), [(1, 3), (5, 5), (65_530, 65_540), (200_000, 200_000)]);
        assert_eq!(UidSet::from_ranges([(1, u32::MAX)]).ranges().collect::<Vec<_>>(), [(1, u32::MAX)]);
        assert_eq!(set.starting_at(Uid::new(65_540).unwrap()).len(), 2);
        assert_eq!(UidSet::new().ranges().next(), None);
    }
}
