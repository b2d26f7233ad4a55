//! Tests of accounts, each on both engines.

#[cfg(test)]
mod fixture;

#[cfg(test)]
mod authors;
#[cfg(test)]
mod db;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod filing;
#[cfg(test)]
mod history;
#[cfg(test)]
mod junk;
#[cfg(test)]
mod mailboxes;
#[cfg(test)]
mod messages;
#[cfg(test)]
mod migrations;
#[cfg(test)]
mod postgres;
#[cfg(test)]
mod store;
#[cfg(test)]
mod templates;
#[cfg(test)]
mod threads;
#[cfg(test)]
mod views;
