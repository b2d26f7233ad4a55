//! Time and chance as arguments, so that schedules and keys can be tested.

use crate::Timestamp;
use std::time::Duration;

/// The time of day, and a clock for measuring.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// The time of day, in UTC.
    fn now(&self) -> Timestamp;

    /// Time since an arbitrary start, never going back.
    fn monotonic(&self) -> Duration;

    /// The server's time zone at that time, in minutes east of UTC; UTC where nobody says.
    fn offset_minutes(&self, _at: Timestamp) -> i16 {
        0
    }
}

/// A source of randomness: the operating system's in the server, seeded in tests.
pub trait Random: Send + Sync + std::fmt::Debug {
    /// Fills the buffer with unpredictable bytes.
    fn fill(&self, buf: &mut [u8]);

    /// A random 64-bit number.
    fn u64(&self) -> u64 {
        let mut b = [0; 8];
        self.fill(&mut b);
        u64::from_le_bytes(b)
    }

    /// A number in `0..n`, without noticeable bias for the small `n` that schedules use; 0 when `n` is 0.
    fn below(&self, n: u64) -> u64 {
        self.u64().checked_rem(n).unwrap_or(0)
    }
}
