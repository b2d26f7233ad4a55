//! The fixtures for real components, tried on each other.

mod peers;
