//! Moving mail: into mailboxes, into the queue, and from the queue to other hosts.
//!
//! - [`inbound`]: what came over SMTP is decided upon and filed. The one function between SMTP and store.
//! - [`submit`]: what is to be sent goes into the queue. The one function between submission and queue.
//! - [`outbound`]: from the queue to other hosts, with retries and DSNs.
//! - [`webhook`]: programs are told of what happened, over HTTP.
//! - [`signing`]: DKIM keys by domain.
//! - [`dmarc`]: other domains are told of mail that claims to be from them; [`reports`] has what all reports need.
//! - [`blocklists`]: lists of senders of spam, asked about clients.
//! - [`tls`]: what recipient domains want of TLS, and reports about it.
//! - [`spool`]: a message while it comes in.
//! - [`copies`]: copies of sent mail, for those who sent it.
//! - [`content`]: a stored message as the webapi and webhooks show it.
//!
//! Time, chance, DNS and connections are passed in, so that all of it is tested without waiting and without a network.

pub mod blocklists;
pub mod content;
pub mod copies;
pub mod dmarc;
pub mod inbound;
pub mod metrics;
pub mod outbound;
pub mod reports;
pub mod signing;
pub mod spool;
pub mod submit;
pub mod tls;
pub mod webhook;
