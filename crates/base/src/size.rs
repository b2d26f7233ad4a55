//! Numbers of bytes, with the units people write.

use std::fmt;
use std::str::FromStr;

/// A number of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// A number of bytes from KiB.
    pub const fn kib(n: u64) -> Self {
        Self(n.saturating_mul(1 << 10))
    }

    /// A number of bytes from MiB.
    pub const fn mib(n: u64) -> Self {
        Self(n.saturating_mul(1 << 20))
    }

    /// As a length in memory; saturates on 32-bit machines.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, suffix) = match self.0 {
            n if n >= 1 << 30 && n % (1 << 30) == 0 => (1 << 30, "g"),
            n if n >= 1 << 20 && n % (1 << 20) == 0 => (1 << 20, "m"),
            n if n >= 1 << 10 && n % (1 << 10) == 0 => (1 << 10, "k"),
            _ => (1, ""),
        };
        write!(f, "{}{suffix}", self.0 / unit)
    }
}

/// Why a text is no size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a size: want digits with an optional unit k, m, g or t")]
pub struct ByteSizeError;

impl FromStr for ByteSize {
    type Err = ByteSizeError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let lower = s.trim().to_ascii_lowercase();
        let (digits, shift) = match lower.as_bytes().last() {
            Some(b'k') => (&lower[..lower.len() - 1], 10),
            Some(b'm') => (&lower[..lower.len() - 1], 20),
            Some(b'g') => (&lower[..lower.len() - 1], 30),
            Some(b't') => (&lower[..lower.len() - 1], 40),
            _ => (lower.as_str(), 0),
        };
        let n: u64 = digits.parse().map_err(|_| ByteSizeError)?;
        n.checked_mul(1 << shift).map(Self).ok_or(ByteSizeError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, want) in [
            ("0", Some(0)),
            ("12", Some(12)),
            ("2k", Some(2048)),
            ("1G", Some(1 << 30)),
            ("", None),
            ("x", None),
            ("99999999999999t", None),
        ] {
            assert_eq!(text.parse().ok(), want.map(ByteSize), "{text}");
        }
        assert_eq!(ByteSize(1 << 21).to_string(), "2m");
        assert_eq!(ByteSize(1500).to_string(), "1500");
    }
}
