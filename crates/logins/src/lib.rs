//! Who may log in: one answer for SMTP submission, IMAP and HTTP.
//!
//! [`Logins`] stands between the services and what they must agree on: addresses (the directory), secrets and registered keys of client
//! certificates (the store's credentials), the limit on failures of a client's address, and the records of attempts. Services with
//! SASL pass on what an exchange asks ([`Logins::verify`]) and report what came of it; services with an address and
//! a password call [`Logins::log_in`], which does all of it, or [`Logins::log_in_or_key`]. What a client hears, and how long it waits, is theirs.
//!
//! Limits: failures are counted per address and network ([`mox_net::RateLimit::failed_authentication`]); recording never keeps a
//! service waiting.

mod api_keys;
mod attempt;
mod certificates;
mod logins;
mod metrics;
mod password;

pub use api_keys::{AddApiKeyError, WantedApiKey};
pub use attempt::Attempt;
pub use certificates::{AddKeyError, CertificateOwner};
pub use logins::{Login, Logins};
pub use metrics::Metrics;
pub use password::{Client, Refused};
