//! Which of the open boundaries a line is, in time linear in the line, however many are open.
//!
//! A line may be the boundary of any enclosing multipart, and a boundary may be a prefix of another, so comparing with each is quadratic
//! in nested messages. Instead each prefix of the line that could be a boundary is looked up by a rolling hash. The hash is
//! keyed at random, so nobody can make collisions; what it finds is compared octet by octet.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

/// The longest boundary we look for. RFC 2046 §5.1.1 allows 70 characters.
pub(super) const MAX_BOUNDARY: usize = 256;

/// A prime, 2^61 - 1.
const PRIME: u64 = (1 << 61) - 1;

/// The open boundaries and the levels they belong to.
#[derive(Clone, Debug)]
pub(super) struct Boundaries {
    base: u64,
    /// By hash, the texts with the levels at which they are open, outermost first.
    open: HashMap<u64, Vec<(Vec<u8>, usize)>>,
}

/// A line that is a boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Delimiter {
    pub(super) level: usize,
    /// Whether it is followed by `--`, so that no part follows.
    pub(super) closing: bool,
}

impl Boundaries {
    pub(super) fn new() -> Self {
        Self { base: RandomState::new().hash_one(0_u8) % (PRIME - 256) + 256, open: HashMap::new() }
    }

    fn step(&self, hash: u64, byte: u8) -> u64 {
        let next = u128::from(hash) * u128::from(self.base) + u128::from(byte) + 1;
        u64::try_from(next % u128::from(PRIME)).unwrap_or(0)
    }

    fn hash(&self, text: &[u8]) -> u64 {
        text.iter().fold(0, |hash, byte| self.step(hash, *byte))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    pub(super) fn open(&mut self, text: &[u8], level: usize) {
        let hash = self.hash(text);
        self.open.entry(hash).or_default().push((text.to_vec(), level));
    }

    /// Forgets the boundary of a level.
    pub(super) fn close(&mut self, text: &[u8], level: usize) {
        let hash = self.hash(text);
        if let Some(open) = self.open.get_mut(&hash) {
            open.retain(|(_, at)| *at != level);
            if open.is_empty() {
                self.open.remove(&hash);
            }
        }
    }

    pub(super) fn close_all(&mut self) {
        self.open.clear();
    }

    /// Looks at a line without its leading `--` and its line break. `complete` says whether the line ends where the slice does; if not,
    /// the slice has more than [`MAX_BOUNDARY`] + 2 octets of it.
    ///
    /// `--boundary` is one when followed by white space, `--` or nothing: some software extends the string of an outer
    /// multipart for its inner ones. The longest match counts, and of equal ones the innermost.
    pub(super) fn find(&self, line: &[u8], complete: bool) -> Option<Delimiter> {
        let mut found = None;
        let mut hash = 0;
        for at in 0..=MAX_BOUNDARY.min(line.len()) {
            let (text, rest) = line.split_at(at);
            let closing = rest.starts_with(b"--");
            let ends = closing || matches!(rest.first(), Some(b' ' | b'\t')) || (rest.is_empty() && complete);
            if ends && let Some(open) = self.open.get(&hash) {
                found = open.iter().rev().find(|(t, _)| t == text).map(|(_, level)| Delimiter { level: *level, closing }).or(found);
            }
            match rest.first() {
                Some(byte) => hash = self.step(hash, *byte),
                None => break,
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longest_and_innermost() {
        let mut b = Boundaries::new();
        b.open(b"x", 0);
        b.open(b"x y", 1);
        b.open(b"x", 2);
        let at = |level, closing| Some(Delimiter { level, closing });
        for (line, want) in [
            ("x", at(2, false)),
            ("x--", at(2, true)),
            ("x  ", at(2, false)),
            ("x z", at(2, false)),
            ("x y", at(1, false)),
            ("x y--", at(1, true)),
            ("xy", None),
            ("x-", None),
            ("", None),
        ] {
            assert_eq!(b.find(line.as_bytes(), true), want, "{line}");
        }
        b.close(b"x", 2);
        assert_eq!(b.find(b"x", true), at(0, false));
    }
}
