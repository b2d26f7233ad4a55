//! Certificates from a provider by ACME, RFC 8555: got when they are first asked for, and renewed.
//!
//! An [`Acme`] is one provider of the configuration. [`crate::ServerTls::with_acme`] asks it for a certificate in the middle of a
//! handshake; the first handshake for a name waits for the order, others that come meanwhile wait for the same one.
//! [`Acme::run`] renews, and gets what should be there from the start. The provider's questions (challenges) are answered over
//! TLS by those same sockets (tls-alpn-01, RFC 8737) and over HTTP with [`Acme::http_answer`] (http-01).
//!
//! Only names that were allowed get certificates. Keys stay the same over renewals. Account and certificates are kept in files
//! as Go's autocert has them. A failure leaves what is there in use, and is followed by a pause.

mod account;
mod answers;
mod ask;
mod entry;
mod files;
#[cfg(test)]
mod hostile_tests;
mod metrics;
mod order;
mod provider;
mod run;
mod schedule;

pub use account::{ExternalAccount, account_url};
pub use answers::NoAnswer;
pub use files::Files;
pub use metrics::Metrics;
pub use provider::{Acme, AcmeError, CertificateState, Challenges, Ports, Settings};
