//! What the service asks about accounts: credentials, and how much a user may send.

use mox_base::{Address, Path};
use mox_sasl::AuthResult;
use mox_store::directory::AccountSettings;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

/// A future of [`Accounts`].
pub type Asked<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The accounts' secrets and records.
pub trait Accounts: Send + Sync + std::fmt::Debug {
    /// Answers a question about credentials; never [`mox_sasl::Ask::External`].
    fn verify(&self, ask: mox_sasl::Ask) -> Asked<'_, mox_sasl::Answer>;

    /// Whose the public key of a client certificate is, by its fingerprint; none if it is nobody's.
    fn certificate<'a>(&'a self, fingerprint: &'a str) -> Asked<'a, Option<CertificateOwner>>;

    /// Records an attempt to log in. Doesn't wait.
    fn login_attempt(&self, attempt: LoginAttempt);

    /// Whether a user may send to these recipients now, by what was sent in the past 24 hours.
    fn may_send<'a>(&'a self, account: &'a Arc<AccountSettings>, recipients: &'a [Path]) -> Asked<'a, Result<(), SendLimit>>;

    /// Remembers that a user has sent to these recipients.
    fn sent<'a>(&'a self, account: &'a Arc<AccountSettings>, recipients: &'a [Path]) -> Asked<'a, ()>;
}

/// Whom a client certificate stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateOwner {
    /// The account's name.
    pub account: String,
    /// The address to log in with, when the client names none.
    pub login_address: Address,
    /// Whether the certificate alone is no login, only with AUTH EXTERNAL.
    pub needs_external: bool,
}

/// An attempt to log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginAttempt {
    /// The account, if it is known.
    pub account: Option<String>,
    /// What the client called itself.
    pub login_address: String,
    /// The client's address.
    pub remote_ip: IpAddr,
    /// Ours.
    pub local_ip: IpAddr,
    /// What TLS agreed on.
    pub tls: Option<String>,
    /// The fingerprint of the client's certificate.
    pub certificate: Option<String>,
    /// The mechanism, in lower case.
    pub mechanism: &'static str,
    /// What came of it.
    pub result: AuthResult,
}

/// Why a user may not send now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendLimit {
    /// Too many messages.
    #[error("account has sent too many messages in the past 24 hours")]
    Messages,
    /// Too many recipients who were never written to before.
    #[error("account has written to too many new recipients in the past 24 hours")]
    FirstTimeRecipients,
    /// A fault of ours.
    #[error("looking up what was sent: {0}")]
    Unavailable(String),
}
