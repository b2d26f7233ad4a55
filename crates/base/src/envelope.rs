//! What a sender may ask of the way of a message: how soon it goes, and by when it is to arrive.

use crate::Timestamp;

/// How important it is that a message goes before others, RFC 6710 §3: from -9, the least, to 9. Messages without one count as 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(i8);

impl Priority {
    /// The least and the greatest.
    const RANGE: std::ops::RangeInclusive<i8> = -9..=9;

    /// From a number in that range.
    pub fn new(n: i8) -> Option<Self> {
        Self::RANGE.contains(&n).then_some(Self(n))
    }

    /// The number.
    pub const fn get(self) -> i8 {
        self.0
    }
}

/// What happens to a message that is late, RFC 2852 §4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenLate {
    /// It comes back, and isn't delivered any more.
    Return,
    /// Its sender hears of it, and delivery goes on.
    Notify,
}

/// By when a message is to be delivered, RFC 2852.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeliverBy {
    /// The time.
    pub at: Timestamp,
    /// What happens when it has passed.
    pub late: WhenLate,
    /// Whether the sender hears of each host that the message is handed to.
    pub trace: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priorities_have_a_range() {
        assert_eq!([-10, -9, 0, 9, 10].map(|n| Priority::new(n).map(Priority::get)), [None, Some(-9), Some(0), Some(9), None]);
    }
}
