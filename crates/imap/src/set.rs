//! Sets of message numbers, as clients write them and as they are answered, kept as ranges: `1:4294967295` is one range.

use crate::cursor::{Cursor, Parsed};
use crate::put;
use crate::token::nz_number;

/// `seq-number = nz-number / "*"`, RFC 9051 §9.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeqNumber {
    /// A sequence number or UID.
    Number(u32),
    /// The largest in use.
    Last,
}

impl SeqNumber {
    const fn resolve(self, last: u32) -> u32 {
        match self {
            Self::Number(n) => n,
            Self::Last => last,
        }
    }
}

/// `sequence-set`, RFC 9051 §9, with the `$` of RFC 5182.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SequenceSet {
    /// `$`, the saved search result.
    Saved,
    /// Ranges as written, each end first or last.
    Ranges(Vec<(SeqNumber, SeqNumber)>),
}

impl SequenceSet {
    /// The set as ascending ranges, with `last` for `*`. `None` for [`SequenceSet::Saved`].
    pub fn resolve(&self, last: u32) -> Option<RangeSet> {
        match self {
            Self::Saved => None,
            Self::Ranges(ranges) => Some(ranges.iter().map(|(a, b)| (a.resolve(last), b.resolve(last))).collect()),
        }
    }

    /// Whether a message sequence number is named that a mailbox of `exists` messages doesn't have; `*` in an empty
    /// mailbox is one, RFC 9051 §9 `seq-number`.
    pub fn exceeds(&self, exists: u32) -> bool {
        let outside = |n: SeqNumber| match n {
            SeqNumber::Number(n) => n > exists,
            SeqNumber::Last => exists == 0,
        };
        match self {
            Self::Saved => false,
            Self::Ranges(ranges) => ranges.iter().any(|(a, b)| outside(*a) || outside(*b)),
        }
    }
}

fn seq_number(c: &mut Cursor<'_>) -> Parsed<SeqNumber> {
    if c.eat(b'*') { Ok(SeqNumber::Last) } else { nz_number(c).map(SeqNumber::Number) }
}

/// `sequence-set = (seq-number / seq-range) ["," sequence-set] / seq-last-command`, RFC 9051 §9.
pub fn sequence_set(c: &mut Cursor<'_>) -> Parsed<SequenceSet> {
    if c.eat(b'$') {
        return Ok(SequenceSet::Saved);
    }
    let mut ranges = Vec::new();
    loop {
        let first = seq_number(c)?;
        let second = if c.eat(b':') { seq_number(c)? } else { first };
        ranges.push((first, second));
        if !c.eat(b',') {
            return Ok(SequenceSet::Ranges(ranges));
        }
    }
}

/// Numbers in ascending order without duplicates, as ranges with a gap between each two.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeSet(Vec<(u32, u32)>);

impl RangeSet {
    /// Without numbers.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Ranges, first and last included, ascending.
    pub fn ranges(&self) -> &[(u32, u32)] {
        &self.0
    }

    /// Whether there is no number in it.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many numbers there are.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|(a, b)| u64::from(b.saturating_sub(*a)).saturating_add(1)).sum()
    }

    /// Whether this number is in it.
    pub fn contains(&self, n: u32) -> bool {
        let after = self.0.partition_point(|(first, _)| *first <= n);
        after.checked_sub(1).and_then(|i| self.0.get(i)).is_some_and(|(_, last)| n <= *last)
    }

    /// Every number, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().flat_map(|(a, b)| *a..=*b)
    }

    /// The smallest.
    pub fn first(&self) -> Option<u32> {
        self.0.first().map(|r| r.0)
    }

    /// The largest.
    pub fn last(&self) -> Option<u32> {
        self.0.last().map(|r| r.1)
    }

    /// Adds a number that is larger than all others, cheaply.
    pub fn push(&mut self, n: u32) {
        match self.0.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(n) => *last = n,
            Some((_, last)) if *last >= n => {
                let all = std::mem::take(self).0.into_iter().chain([(n, n)]).collect();
                *self = all;
            }
            _ => self.0.push((n, n)),
        }
    }

    /// As `1:3,5`; nothing when empty.
    pub fn print(&self, out: &mut Vec<u8>) {
        for (i, (first, last)) in self.0.iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            put::number(out, u64::from(*first));
            if last > first {
                out.push(b':');
                put::number(out, u64::from(*last));
            }
        }
    }
}

/// From ranges in any order, overlapping or not, either end first; zeroes are left out.
impl FromIterator<(u32, u32)> for RangeSet {
    fn from_iter<I: IntoIterator<Item = (u32, u32)>>(ranges: I) -> Self {
        let mut all: Vec<(u32, u32)> = ranges.into_iter().map(|(a, b)| (a.min(b).max(1), a.max(b))).filter(|(a, b)| a <= b).collect();
        all.sort_unstable();
        let mut merged: Vec<(u32, u32)> = Vec::with_capacity(all.len());
        for (first, last) in all {
            match merged.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
                _ => merged.push((first, last)),
            }
        }
        Self(merged)
    }
}

/// From numbers, cheaply when ascending.
impl FromIterator<u32> for RangeSet {
    fn from_iter<I: IntoIterator<Item = u32>>(numbers: I) -> Self {
        let mut set = Self::new();
        for n in numbers {
            set.push(n);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<SequenceSet> {
        let mut c = Cursor::new(text.as_bytes());
        sequence_set(&mut c).and_then(|s| c.end().map(|()| s)).ok()
    }

    fn check(text: &str, last: u32, want: &str) {
        let set = parse(text).and_then(|s| s.resolve(last)).unwrap_or_default();
        let mut out = Vec::new();
        set.print(&mut out);
        assert_eq!(String::from_utf8_lossy(&out), want, "{text}");
        assert_eq!(set.count(), set.iter().take(100_000).count() as u64);
    }

    #[test]
    fn sets() {
        check("5,1:3,2:4", 9, "1:5");
        check("7:5", 9, "5:7");
        check("*", 9, "9");
        check("12:*", 9, "9:12");
        check("*:4", 9, "4:9");
        check("1,1,1", 9, "1");
        check("4294967295", 9, "4294967295");
        check("*", 0, "");
    }

    #[test]
    fn refuses() {
        for text in ["", "0", "1:", ",1", "1,", "1:0", "4294967296", "a", "$,1", "1 "] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn exceeding() {
        for (text, exists, want) in [("1:5", 5, false), ("6", 5, true), ("*", 0, true), ("*", 1, false), ("1:*", 3, false)] {
            assert_eq!(parse(text).unwrap().exceeds(exists), want, "{text}");
        }
    }

    #[test]
    fn membership() {
        let set: RangeSet = [(2, 4), (8, 8)].into_iter().collect();
        let got: Vec<u32> = (0..10).filter(|n| set.contains(*n)).collect();
        assert_eq!(got, [2, 3, 4, 8]);
        let mut pushed: RangeSet = [1, 2, 5].into_iter().collect();
        pushed.push(3);
        assert_eq!(pushed.ranges(), [(1, 3), (5, 5)]);
    }
}
