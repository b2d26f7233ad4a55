//! Logging in: what follows from credentials that are right, and from those that are wrong.

use crate::accounts::LoginAttempt;
use crate::connection::{Connection, Login};
use crate::pace::{Pace, pause};
use mox_base::Address;
use mox_sasl::{AuthResult, Failure, Mechanism};
use mox_smtp::Reply;
use mox_smtp::server::Answer;
use std::time::Duration;

/// Failures in a connection before it becomes slow, and before each attempt has to wait.
const SLOW_AFTER: u32 = 3;

impl Connection {
    /// Each attempt after the third failure waits a second longer.
    pub(crate) async fn delay_guesser(&self) {
        let seconds = self.auth_failures.saturating_sub(SLOW_AFTER);
        if seconds > 0 {
            pause(Duration::from_secs(seconds.into()), &self.service.stop).await;
        }
    }

    /// The credentials are right: may this user log in here?
    pub(crate) fn log_in(&mut self, user: Option<String>, mechanism: Mechanism) -> Answer {
        let found = user.and_then(|user| {
            let address: Address = user.parse().ok()?;
            let recipient = self.service.directory.current().login(&address).ok()?;
            Some(Login { address, account: recipient.account })
        });
        let Some(login) = found else {
            // Removed while it logged in.
            self.attempt(None, None, mechanism, AuthResult::Error);
            return Answer::Refuse(Reply::new(451, (4, 3, 0), "error processing"));
        };
        let (address, account) = (login.address.to_string(), login.account.name.clone());
        if let Some(text) = &login.account.login_disabled {
            let reply = Reply::new(525, (5, 7, 13), text);
            self.attempt(Some(address), Some(account), mechanism, AuthResult::LoginDisabled);
            return Answer::Refuse(reply);
        }
        self.pace = Pace::Normal;
        self.auth_failures = 0;
        self.service.failed_logins.reset(self.remote_ip(), self.service.clock.now());
        self.attempt(Some(address), Some(account), mechanism, AuthResult::Ok);
        self.login = Some(login);
        Answer::Ok
    }

    pub(crate) fn auth_failed(&mut self, user: Option<String>, mechanism: Mechanism, failure: &Failure) {
        if failure.counts() {
            self.auth_failures = self.auth_failures.saturating_add(1);
            self.service.failed_logins.add(self.remote_ip(), self.service.clock.now());
            if self.auth_failures >= SLOW_AFTER {
                self.pace = Pace::Slow;
            }
        }
        if *failure == Failure::ScramFinal(mox_sasl::scram::Error::ChannelBindingsDontMatch) {
            tracing::warn!(cid = self.cid, user, "channel bindings differ, perhaps someone is in the middle of the connection");
        }
        let address = user.as_deref().and_then(|user| user.parse::<Address>().ok());
        let account = address.and_then(|address| self.service.directory.current().login(&address).ok());
        self.attempt(user, account.map(|r| r.account.name.clone()), mechanism, failure.result());
    }

    fn attempt(&self, login_address: Option<String>, account: Option<String>, mechanism: Mechanism, result: AuthResult) {
        let name = mechanism_label(mechanism);
        self.service.metrics.authentication(self.kind(), name, result.name());
        tracing::info!(cid = self.cid, mechanism = name, result = result.name(), account, "authentication");
        self.service.accounts.login_attempt(LoginAttempt {
            account,
            login_address: login_address.unwrap_or_default(),
            remote_ip: self.remote_ip(),
            local_ip: self.stream.local_addr().ip(),
            tls: self.stream.tls().map(mox_net::TlsInfo::log_form),
            mechanism: name,
            result,
        });
    }
}

/// The mechanism as it is counted and recorded: in lower case.
const fn mechanism_label(mechanism: Mechanism) -> &'static str {
    use mox_sasl::scram::Hash;
    match mechanism {
        Mechanism::Plain => "plain",
        Mechanism::Login => "login",
        Mechanism::CramMd5 => "cram-md5",
        Mechanism::Scram { hash: Hash::Sha1, plus: false } => "scram-sha-1",
        Mechanism::Scram { hash: Hash::Sha1, plus: true } => "scram-sha-1-plus",
        Mechanism::Scram { hash: Hash::Sha256, plus: false } => "scram-sha-256",
        Mechanism::Scram { hash: Hash::Sha256, plus: true } => "scram-sha-256-plus",
        Mechanism::External => "external",
    }
}
