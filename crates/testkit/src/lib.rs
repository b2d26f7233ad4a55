//! Virtual clock, seeded randomness, DNS zones and transcripts for tests.

pub mod peers;
