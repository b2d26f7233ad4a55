//! Looking at domains and servers from outside, for those who run one.
//!
//! - [`dnscheck`]: what is published for one of our domains, against what its configuration wants.
//! - [`session`]: an SMTP session up to the point where somebody types on, with TLS as wanted.
//! - [`dane`]: TLS verified by TLSA records, for one server or for the mail hosts of a domain.
//! - [`rdap`]: how old a domain is, from its registry.
//! - [`dnsbl`]: whether our own addresses are on block lists.
//!
//! Commands and the admin page ask here; nothing here prints. DNS, connections and time are passed in.

pub mod dane;
pub mod dnsbl;
pub mod dnscheck;
pub mod rdap;
pub mod session;
mod together;
