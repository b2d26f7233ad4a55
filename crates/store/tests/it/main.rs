//! Tests of accounts, each on both engines.

mod fixture;

mod db;
mod faults;
mod mailboxes;
mod messages;
mod store;
mod threads;
mod views;
