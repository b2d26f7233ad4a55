//! What tests bring instead of the world: time that stands still, chance that repeats, DNS as a literal, broken input, faults by
//! number, and real programs as peers.
//!
//! A dev-dependency only. [`VirtualClock`], [`SeededRandom`] and [`Zone`] implement the ports of `mox-base`; they are
//! cheap to clone, and clones share their state, so a test keeps one in hand while the code under test has another.

pub mod clock;
pub mod faults;
pub mod mutate;
pub mod peers;
pub mod random;
pub mod zone;

pub use clock::VirtualClock;
pub use faults::Faults;
pub use mutate::Mutator;
pub use random::SeededRandom;
pub use zone::Zone;
