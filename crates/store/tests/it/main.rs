//! Tests of accounts, each on both engines.

mod fixture;

mod faults;
mod mailboxes;
mod messages;
mod store;
mod threads;
mod views;
