//! Flags and keywords of messages.

use std::fmt;
use std::ops::{BitAnd, BitOr, Not};
use std::sync::Arc;

/// A set of the ten flags that every mailbox knows. Junk and NotJunk are independent: both set means neutral.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags(u16);

impl Flags {
    /// No flag.
    pub const NONE: Self = Self(0);
    /// `\Seen`.
    pub const SEEN: Self = Self(1);
    /// `\Answered`.
    pub const ANSWERED: Self = Self(1 << 1);
    /// `\Flagged`.
    pub const FLAGGED: Self = Self(1 << 2);
    /// `$Forwarded`.
    pub const FORWARDED: Self = Self(1 << 3);
    /// `$Junk`.
    pub const JUNK: Self = Self(1 << 4);
    /// `$NotJunk`.
    pub const NOTJUNK: Self = Self(1 << 5);
    /// `\Deleted`.
    pub const DELETED: Self = Self(1 << 6);
    /// `\Draft`.
    pub const DRAFT: Self = Self(1 << 7);
    /// `$Phishing`.
    pub const PHISHING: Self = Self(1 << 8);
    /// `$MDNSent`.
    pub const MDNSENT: Self = Self(1 << 9);
    /// All ten, single, in the order of their bits.
    pub const EACH: [Self; 10] = [
        Self::SEEN,
        Self::ANSWERED,
        Self::FLAGGED,
        Self::FORWARDED,
        Self::JUNK,
        Self::NOTJUNK,
        Self::DELETED,
        Self::DRAFT,
        Self::PHISHING,
        Self::MDNSENT,
    ];
    /// All ten.
    pub const ALL: Self = Self(0x3ff);

    /// A set from its bits, as [`Flags::bits`] gives them; others are dropped.
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits & Self::ALL.0)
    }

    /// The bits, in the order of [`Flags::EACH`].
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// Whether it has all of `other`.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether it is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Its flags, single.
    pub fn each(self) -> impl Iterator<Item = Self> {
        Self::EACH.into_iter().filter(move |f| self.has(*f))
    }
}

impl BitOr for Flags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitAnd for Flags {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl Not for Flags {
    type Output = Self;

    fn not(self) -> Self {
        Self::from_bits(!self.0)
    }
}

/// Bytes of a keyword at most.
pub const MAX_KEYWORD: usize = 255;

/// A keyword: lower case, a flag keyword of RFC 9051 §9, none of the ten flags. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Keyword(Arc<str>);

/// Why a text is no keyword.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid keyword")]
pub struct KeywordError;

impl Keyword {
    /// Checks a keyword and makes it lower case.
    ///
    /// # Errors
    /// It is empty, too long, has characters that keywords can't have, or is one of the ten flags.
    pub fn parse(text: &str) -> Result<Self, KeywordError> {
        let allowed = |b: u8| (0x21..=0x7e).contains(&b) && !b"(){%*\"\\]".contains(&b);
        if text.is_empty() || text.len() > MAX_KEYWORD || !text.bytes().all(allowed) {
            return Err(KeywordError);
        }
        let lower = text.to_ascii_lowercase();
        if matches!(lower.as_str(), "$forwarded" | "$junk" | "$notjunk" | "$phishing" | "$mdnsent") {
            return Err(KeywordError);
        }
        Ok(Self(lower.into()))
    }

    /// The keyword.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A keyword that was checked when it was stored.
    pub(crate) fn stored(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Keyword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keywords() {
        for (text, want) in [
            ("Work", Some("work")),
            ("$label1", Some("$label1")),
            ("$Junk", None),
            ("\\Seen", None),
            ("", None),
            ("a b", None),
            ("a]", None),
            ("ä", None),
            (&"k".repeat(255), Some("k".repeat(255).as_str())),
            (&"k".repeat(256), None),
        ] {
            assert_eq!(Keyword::parse(text).ok().as_ref().map(Keyword::as_str), want, "{text}");
        }
    }
}
