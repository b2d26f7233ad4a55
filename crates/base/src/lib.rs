//! The vocabulary of mail, and the ports to the outside world.
//!
//! Everything here is a value that says what has been checked ([`Localpart`], [`Domain`], [`Uid`], [`ModSeq`] …) or a
//! trait through which the rest of the server meets the outside: [`Clock`], [`Random`] and [`Lookup`]. Values are made
//! once, at the edge, and are then passed on without being checked again. Nothing here does I/O.

pub mod address;
pub mod dns;
pub mod domain;
pub mod envelope;
pub mod extended;
pub mod ids;
pub mod localpart;
pub mod ports;
pub mod prefix;
pub mod secret;
pub mod size;
pub mod time;

pub use address::{Address, Host, Path};
pub use dns::{Answer, Lookup, LookupError, LookupFuture, Mx, Record, RecordKind, Srv, Tlsa, reverse_name};
pub use domain::{Domain, DomainError};
pub use envelope::{DeliverBy, Priority, WhenLate};
pub use extended::ExtendedError;
pub use ids::{AccountId, BlobId, MailboxId, MessageId, ModSeq, QueueId, Uid, UidValidity};
pub use localpart::{Localpart, LocalpartError};
pub use ports::{Clock, Random};
pub use prefix::{IpPrefix, IpPrefixError};
pub use secret::Secret;
pub use size::ByteSize;
pub use time::Timestamp;
