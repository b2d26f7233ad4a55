//! Input that is nearly right: what a careless, broken or hostile peer sends instead of what it should.
//!
//! A [`Mutator`] changes valid input in a few places, by its seed: the same seed makes the same changes, so a test that goes through
//! seeds tries the same inputs each time, and says with which one it failed. Bytes are set, flipped, inserted, removed, repeated and
//! cut; of JSON single values and members are replaced by others of every kind, also such as are too large, too deep or of the wrong type.

use crate::SeededRandom;
use mox_base::Random as _;
use std::ops::Range;

/// Values that somebody hasn't thought of.
const VALUES: &[&str] = &[
    "null",
    "true",
    "0",
    "-1",
    "1e400",
    "18446744073709551616",
    "9223372036854775807",
    "0.5",
    "[]",
    "{}",
    "[null]",
    "{\"\":{\"\":[]}}",
    "\"\"",
    "\"\\u0000\"",
    "\"\\r\\nX: y\"",
    "\"\\ud83d\\ude00 \\u202e\"",
    "\"\\ud83d\"",
    "\"valid\"",
    "\"invalid\"",
    "\"9999-12-31T23:59:59Z\"",
    "\"0000-01-01T00:00:00Z\"",
    "\"-262143-01-01T00:00:00Z\"",
    "\"2024-02-30T25:61:61+99:99\"",
    "\"http://192.0.2.7:99999/\"",
    "\"http://[::1\"",
    "\"javascript:alert(1)\"",
    "\"//\"",
    "\".\"",
    "\"*\"",
];

/// Makes changes, the same ones for a seed.
#[derive(Debug)]
pub struct Mutator {
    random: SeededRandom,
}

impl Mutator {
    /// The one with this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { random: SeededRandom::new(seed) }
    }

    /// A number below another one; 0 below 0.
    pub fn below(&self, n: usize) -> usize {
        usize::try_from(self.random.below(n as u64)).unwrap_or(0)
    }

    /// One of several.
    ///
    /// # Panics
    /// When there is none.
    pub fn one_of<'a, T>(&self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    /// Bytes with one to three changes.
    pub fn bytes(&self, bytes: &[u8]) -> Vec<u8> {
        let mut out = bytes.to_vec();
        for _ in 0..=self.below(3) {
            let at = self.below(out.len());
            let piece = at..at.saturating_add(1 + self.below(40)).min(out.len());
            match self.below(8) {
                0 | 1 if !out.is_empty() => out[at] = self.byte(),
                2 | 3 if !out.is_empty() => out[at] ^= 1 << self.below(8),
                4 => drop(out.splice(at..at, (0..=self.below(6)).map(|_| self.byte()))),
                5 => drop(out.drain(piece)),
                6 => {
                    let again = out[piece].to_vec();
                    drop(out.splice(at..at, again));
                }
                _ => out.truncate(at),
            }
        }
        out
    }

    /// JSON of which values or members were replaced, repeated or left out; now and then it isn't JSON any more.
    pub fn json(&self, text: &str) -> Vec<u8> {
        if self.below(8) == 0 {
            return self.bytes(text.as_bytes());
        }
        let mut out = text.to_owned();
        for _ in 0..=self.below(2) {
            let values = values(&out);
            if values.is_empty() {
                break;
            }
            let place = self.one_of(&values).clone();
            let value = out[place.clone()].to_owned();
            let new = match self.below(10) {
                0 => format!("{}{}", "[".repeat(1000), "]".repeat(1000)),
                1 => format!("\"{}\"", "x".repeat(100_000)),
                2 => format!("[{value},{value}]"),
                3 => format!("{{\"a\":{value}}}"),
                4 => out[self.one_of(&values).clone()].to_owned(),
                // Elsewhere the value repeated is a second member, of the same name or another one.
                5 => format!("{value},\"status\":{value}"),
                _ => (*self.one_of(VALUES)).to_owned(),
            };
            out.replace_range(place, &new);
        }
        out.into_bytes()
    }

    fn byte(&self) -> u8 {
        let odd = b"\0\r\n \t\"'\\<>{}[]:;,.@%=\x7f\x80\xff";
        if self.below(2) == 0 { *self.one_of(odd) } else { u8::try_from(self.below(256)).unwrap_or(0) }
    }
}

/// Where the values of a JSON text are, those in others included; names of members aren't values.
fn values(text: &str) -> Vec<Range<usize>> {
    let (mut found, mut open) = (Vec::new(), Vec::new());
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let start = at;
        at += 1;
        match byte {
            b'[' | b'{' => open.push(start),
            b']' | b'}' => found.extend(open.pop().map(|from| from..at)),
            b'"' => {
                while let Some(byte) = bytes.get(at) {
                    at += if *byte == b'\\' { 2 } else { 1 };
                    if *byte == b'"' {
                        break;
                    }
                }
                at = at.min(bytes.len());
                if !text.is_char_boundary(at) || text[at..].trim_start().starts_with(':') {
                    continue;
                }
                found.push(start..at);
            }
            b'0'..=b'9' | b'-' | b'a'..=b'z' => {
                while bytes.get(at).is_some_and(|b| b.is_ascii_alphanumeric() || b"+-.".contains(b)) {
                    at += 1;
                }
                found.push(start..at);
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const TEXT: &str = r#"{"a": [1, -2.5e3, "x\"y", null], "b": {"c": true}}"#;

    #[test]
    fn values_of_json() {
        let found: Vec<&str> = values(TEXT).into_iter().map(|place| &TEXT[place]).collect();
        let list = r#"[1, -2.5e3, "x\"y", null]"#;
        assert_eq!(found, ["1", "-2.5e3", r#""x\"y""#, "null", list, "true", r#"{"c": true}"#, TEXT]);
        assert_eq!(values("\"open \\").len(), 1);
    }

    #[test]
    fn the_same_for_a_seed_and_different_for_others() {
        let all = |make: &dyn Fn(&Mutator) -> Vec<u8>| (0..200).map(|seed| make(&Mutator::new(seed))).collect::<Vec<_>>();
        for make in [&(|m: &Mutator| m.bytes(TEXT.as_bytes())) as &dyn Fn(&Mutator) -> Vec<u8>, &|m| m.json(TEXT)] {
            assert_eq!(all(make), all(make));
            assert!(all(make).into_iter().collect::<BTreeSet<_>>().len() > 100);
        }
        assert!((0..200).all(|seed| Mutator::new(seed).bytes(b"").len() < 100));
    }
}
