//! Attempts to log in, as services report them.

use crate::logins::Logins;
use mox_sasl::AuthResult;
use mox_store::credentials::LoginAttempt;
use std::net::IpAddr;

/// An attempt to log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// `submission`, `imap`, `webmail`, `webaccount`, `webadmin` or `webapi`.
    pub protocol: &'static str,
    /// The account, if it is known; `(admin)` for the administrator.
    pub account: Option<String>,
    /// What the client called itself.
    pub login_address: String,
    /// The client's address.
    pub remote_ip: IpAddr,
    /// Ours.
    pub local_ip: IpAddr,
    /// What TLS agreed on, in its form for logs.
    pub tls: Option<String>,
    /// The fingerprint of the client's certificate.
    pub certificate: Option<String>,
    /// What the client says it is; may be empty.
    pub user_agent: String,
    /// The mechanism in lower case, or `tlsclientauth`, `weblogin`, `websession`, `httpbasic`, `(unrecognized)`.
    pub mechanism: &'static str,
    /// What came of it.
    pub result: AuthResult,
}

impl Logins {
    /// Counts, logs and records an attempt, without waiting. Limits on failures are another matter: see [`Self::failed`].
    pub fn record(&self, attempt: Attempt) {
        self.metrics().attempt(attempt.protocol, attempt.mechanism, attempt.result.name());
        let attempt = LoginAttempt {
            account: attempt.account.unwrap_or_else(|| "-".to_owned()),
            login_address: attempt.login_address,
            remote_ip: attempt.remote_ip.to_string(),
            local_ip: attempt.local_ip.to_string(),
            tls: attempt.tls.unwrap_or_default(),
            tls_public_key: attempt.certificate.unwrap_or_default(),
            protocol: attempt.protocol.to_owned(),
            user_agent: attempt.user_agent,
            mechanism: attempt.mechanism.to_owned(),
            result: attempt.result.name().to_owned(),
        };
        // Each request with a session is an attempt: too many for a log.
        if attempt.mechanism != "websession" {
            tracing::info!(
                target: "store",
                address = attempt.login_address,
                account = attempt.account,
                protocol = attempt.protocol,
                authmech = attempt.mechanism,
                result = attempt.result,
                clientip = attempt.remote_ip,
                localip = attempt.local_ip,
                tls = attempt.tls,
                useragent = attempt.user_agent,
                tlspubkeyfp = attempt.tls_public_key,
                "login attempt"
            );
        }
        self.keep(attempt);
    }
}
