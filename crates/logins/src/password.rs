//! Logging in with an address and a password, from the limit to the record: for protocols without SASL.

use crate::attempt::Attempt;
use crate::logins::{Login, Logins, normalized};
use mox_base::Secret;
use mox_sasl::server::Wrong;
use mox_sasl::{Answer, Ask, AuthResult};
use std::net::IpAddr;

/// Who wants to log in, and how: what a record says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// As in [`Attempt`].
    pub protocol: &'static str,
    /// As in [`Attempt`].
    pub mechanism: &'static str,
    /// The client's address.
    pub remote_ip: IpAddr,
    /// Ours.
    pub local_ip: IpAddr,
    /// What TLS agreed on, in its form for logs.
    pub tls: Option<String>,
    /// What the client says it is; may be empty.
    pub user_agent: String,
}

/// Why a login was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Too many failures from this address or its networks: not even looked at.
    #[error("too many failed logins from your address or network")]
    Limited,
    /// No such address, or not its password. The client isn't told which.
    #[error("bad user or password")]
    Wrong(Wrong),
    /// The password is right, but the account may not log in; the text is for its owner.
    #[error("login is disabled: {0}")]
    Disabled(String),
    /// A fault of ours.
    #[error("cannot verify credentials now")]
    Unavailable,
}

impl Refused {
    /// Under which name the attempt is recorded.
    pub const fn result(&self) -> AuthResult {
        match self {
            Self::Limited | Self::Wrong(Wrong::Credentials) => AuthResult::BadCreds,
            Self::Wrong(Wrong::User) => AuthResult::BadUser,
            Self::Wrong(Wrong::Password) => AuthResult::BadPassword,
            Self::Disabled(_) => AuthResult::LoginDisabled,
            Self::Wrong(Wrong::NoKeys) | Self::Unavailable => AuthResult::Error,
        }
    }
}

impl Logins {
    /// Verifies an address and its password: asks the limit on failures, counts the outcome, records the attempt.
    ///
    /// # Errors
    /// See [`Refused`]. What is refused by the limit isn't recorded.
    pub async fn log_in(&self, client: &Client, user: &str, password: Secret<String>) -> Result<Login, Refused> {
        if self.is_limited(client.protocol, client.remote_ip) {
            return Err(Refused::Limited);
        }
        let user = normalized(user);
        let outcome = self.check(&user, password).await;
        self.ended(client, user, &outcome);
        outcome
    }

    /// Counts the outcome of an attempt and records it.
    pub(crate) fn ended(&self, client: &Client, user: String, outcome: &Result<Login, Refused>) {
        match outcome {
            Ok(_) => self.succeeded(client.remote_ip),
            Err(Refused::Wrong(_)) => self.failed(client.remote_ip),
            // The client was right, or we don't know.
            Err(Refused::Limited | Refused::Disabled(_) | Refused::Unavailable) => {}
        }
        let found = self.find(&user);
        self.record(Attempt {
            protocol: client.protocol,
            account: found.map(|login| login.account.name.clone()),
            login_address: user,
            remote_ip: client.remote_ip,
            local_ip: client.local_ip,
            tls: client.tls.clone(),
            certificate: None,
            user_agent: client.user_agent.clone(),
            mechanism: client.mechanism,
            result: outcome.as_ref().map_or_else(Refused::result, |_| AuthResult::Ok),
        });
    }

    async fn check(&self, user: &str, password: Secret<String>) -> Result<Login, Refused> {
        match self.verify(Ask::Verify { user: user.to_owned(), password }).await {
            Answer::Right => {}
            Answer::Wrong(wrong) => return Err(Refused::Wrong(wrong)),
            Answer::Keys(_) | Answer::FakeKeys(..) | Answer::Unavailable => return Err(Refused::Unavailable),
        }
        // It may have been removed while we hashed.
        self.find(user).ok_or(Refused::Wrong(Wrong::User))?.enabled()
    }
}

impl Login {
    /// Itself, if its account may log in.
    pub(crate) fn enabled(self) -> Result<Self, Refused> {
        match &self.account.login_disabled {
            Some(text) => Err(Refused::Disabled(text.clone())),
            None => Ok(self),
        }
    }
}
