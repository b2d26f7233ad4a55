//! The SMTP service: mail from other servers, and from our users.
//!
//! [`Service`] holds what connections share, [`Service::connection`] serves one. The protocol is in `mox_smtp::server`; here
//! is what it asks: who may log in, whose mail is taken, for whom, and what becomes of a message. Mail passes through one
//! function each way: `delivery::inbound::Inbound::deliver` and `delivery::submit::Submitter::submit`.
//!
//! A message is spooled while it comes in, in memory or in a file, and `250` is said when the store or the queue have
//! it for good. Clients that guess passwords or send what is rejected are served slowly.
//!
//! Incoming mail is authenticated by `verify`, with SPF, DKIM and DMARC; what follows from that is `delivery`'s decision.

mod bounce;
mod connection;
mod dns;
mod ids;
mod incoming;
mod local_dns;
mod login;
mod metrics;
mod pace;
mod policy;
mod service;
mod settings;
mod simulate;
mod spool;
mod submission;
mod trace;
mod verify;

pub use ids::{BadId, BadKey, ConnectionIds};
pub use metrics::Metrics;
pub use mox_delivery::signing::SharedSelectors;
pub use service::{Listener, Parts, Service};
pub use settings::{ListenerSettings, Settings};
