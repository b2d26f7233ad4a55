//! Numbers that identify things. Each is a type of its own, so that swapping two doesn't compile.

use std::fmt;
use std::num::{NonZeroU32, NonZeroU64};

macro_rules! row_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub i64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

row_id! {
    /// An account's row, never reused, not even when an account of the same name is made again.
    AccountId
}
row_id! {
    /// An IMAP mailbox's row within its account; stays the same when it is renamed.
    MailboxId
}
row_id! {
    /// A stored message's row within its account; stays the same when it is moved. Not the `Message-ID` header.
    MessageId
}
row_id! {
    /// The bytes of a stored message within its account; copies of one message share one.
    BlobId
}
row_id! {
    /// A queue entry: one recipient of one submission. Sequential, never reused.
    QueueId
}

/// A message's number in its mailbox, strictly ascending, RFC 9051 §2.3.1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uid(NonZeroU32);

impl Uid {
    /// The first UID of an empty mailbox.
    pub const FIRST: Self = Self(NonZeroU32::MIN);
    /// The largest UID there can be; also what `*` stands for in an empty mailbox' sequence sets.
    pub const MAX: Self = Self(NonZeroU32::MAX);

    /// A UID from a number, none for zero.
    pub const fn new(n: u32) -> Option<Self> {
        match NonZeroU32::new(n) {
            Some(n) => Some(Self(n)),
            None => None,
        }
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0.get()
    }

    /// The UID after this one, none at the end of the 32-bit range.
    pub fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(Self)
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The epoch of a mailbox's UIDs, RFC 9051 §2.3.1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UidValidity(NonZeroU32);

impl UidValidity {
    /// A UIDVALIDITY from a number, none for zero.
    pub const fn new(n: u32) -> Option<Self> {
        match NonZeroU32::new(n) {
            Some(n) => Some(Self(n)),
            None => None,
        }
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0.get()
    }
}

impl fmt::Display for UidValidity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Position in an account's history of changes, RFC 7162 §3.1. Never zero, at most 63 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModSeq(NonZeroU64);

impl ModSeq {
    /// The smallest mod-sequence.
    pub const FIRST: Self = Self(NonZeroU64::MIN);

    /// A mod-sequence from a number, none for zero or for more than 63 bits.
    pub const fn new(n: u64) -> Option<Self> {
        if n > i64::MAX as u64 {
            return None;
        }
        match NonZeroU64::new(n) {
            Some(n) => Some(Self(n)),
            None => None,
        }
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0.get()
    }

    /// The number as databases keep it.
    pub const fn as_i64(self) -> i64 {
        self.0.get().cast_signed()
    }
}

impl fmt::Display for ModSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_and_64_bits_are_no_modseq() {
        assert_eq!(ModSeq::new(0), None);
        assert_eq!(ModSeq::new(1 << 63), None);
        assert_eq!(ModSeq::new(i64::MAX as u64).map(ModSeq::as_i64), Some(i64::MAX));
    }

    #[test]
    fn uid_ends_at_32_bits() {
        assert_eq!(Uid::FIRST.next(), Uid::new(2));
        assert_eq!(Uid::MAX.next(), None);
    }
}
