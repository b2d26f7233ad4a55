//! TLS: what servers and clients need for handshakes, and what came of one.
//!
//! rustls with aws-lc-rs, given explicitly, so there is no process-wide default to install. Post-quantum key exchange is preferred.
//! TLS 1.2 and 1.3 only: older versions in a configuration mean 1.2.
//! [`Certificates`] are ours and can be replaced while serving, [`HostKey`]s outlive them; [`ServerTls`] is one listening socket's configuration, with
//! session tickets of its own; [`ClientTls`] is for connecting, and [`Check`] for judging by what a domain has published.

mod certs;
mod check;
mod client;
mod client_cert;
mod client_options;
mod end_point;
mod host_key;
#[cfg(test)]
mod hostile_tests;
mod info;
mod server;
mod signature;
mod subject;
mod tickets;
mod verify;

pub use certs::{CertError, Certificates, KeyCert};
pub use check::{Check, DaneCheck, Fault, Findings, NoMatch, Severity};
pub use client::{ClientTls, RootsError, read_roots};
pub use client_cert::{CertificateError, ClientCert};
pub use client_options::{ClientTlsOptions, OptionsError};
pub use host_key::{HostKey, HostKeyError, KeyKind};
pub use info::{HandshakeError, Refusal, TlsInfo};
pub use server::{ACME_ALPN, AcmeFallback, MinVersion, ServerTls, ServerTlsOptions, UnknownSni};
pub use subject::TlsaSubject;
pub use tickets::TicketKeys;

pub use rustls::Error;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use std::sync::{Arc, LazyLock};

/// The one provider of cryptography.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(aws_lc_rs::default_provider()));
    Arc::clone(&PROVIDER)
}
