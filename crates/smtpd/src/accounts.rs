//! What the service asks about credentials, and tells of logins.

use mox_base::Address;
use mox_sasl::AuthResult;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;

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
