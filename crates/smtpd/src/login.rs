//! Logging in: what follows from credentials that are right, and from those that are wrong.

use crate::connection::Connection;
use crate::pace::{Pace, pause};
use mox_logins::{Attempt, Login};
use mox_sasl::server::Wrong;
use mox_sasl::{AuthResult, Failure, Mechanism};
use mox_smtp::Reply;
use mox_smtp::server::Answer;
use std::time::Duration;

/// The name of logging in with a certificate alone.
const CERTIFICATE: &str = "tlsclientauth";

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

    fn find(&self, user: &str) -> Option<Login> {
        self.service.logins.find(user)
    }

    /// Finds out whom the client's certificate stands for, if it showed one; gives whether that is a login already. A
    /// certificate that we don't know is none: clients send what they have.
    pub(crate) async fn look_at_certificate(&mut self) -> bool {
        let fingerprint = self.stream.tls().and_then(|tls| tls.client.as_ref()).map(|client| client.fingerprint.clone());
        let (true, Some(fingerprint)) = (self.is_submission(), fingerprint) else { return false };
        let Some(owner) = self.service.logins.certificate(&fingerprint, self.remote_ip()).await else { return false };
        let login = owner.login;
        self.certificate = Some(login.clone());
        // Whoever may not log in hears why when it tries to.
        if owner.needs_external || login.account.login_disabled.is_some() {
            return false;
        }
        self.service.logins.succeeded(self.remote_ip());
        self.record(Some(login.address.to_string()), Some(login.account.name.clone()), CERTIFICATE, AuthResult::Ok);
        self.login = Some(login);
        true
    }

    /// EXTERNAL: the certificate stands for its account, with any of its addresses.
    pub(crate) fn verify_external(&self, user: Option<&str>) -> mox_sasl::Answer {
        let account = |login: &Login| login.account.name.clone();
        let of_certificate = self.certificate.as_ref().map(account);
        let wanted = match user {
            Some(user) => self.find(user).as_ref().map(account),
            None => of_certificate.clone(),
        };
        if of_certificate.is_some() && wanted == of_certificate {
            mox_sasl::Answer::Right
        } else {
            mox_sasl::Answer::Wrong(Wrong::Credentials)
        }
    }

    /// The credentials are right: may this user log in here?
    pub(crate) fn log_in(&mut self, user: Option<String>, mechanism: Mechanism) -> Answer {
        let found = match &user {
            Some(user) => self.find(user),
            None => self.certificate.clone(),
        };
        let Some(login) = found else {
            // Removed while it logged in.
            self.attempt(user, None, mechanism, AuthResult::Error);
            return Answer::Refuse(Reply::new(451, (4, 3, 0), "error processing"));
        };
        // Who has shown a certificate is that account, and no other.
        if self.certificate.as_ref().is_some_and(|owner| owner.account.name != login.account.name) {
            self.count_failure();
            self.attempt(user, Some(login.account.name.clone()), mechanism, AuthResult::BadCreds);
            return Answer::Refuse(Reply::new(535, (5, 7, 8), "authentication doesn't match that of the tls client certificate"));
        }
        let (address, account) = (login.address.to_string(), login.account.name.clone());
        if let Some(text) = &login.account.login_disabled {
            let reply = Reply::new(525, (5, 7, 13), text);
            self.attempt(Some(address), Some(account), mechanism, AuthResult::LoginDisabled);
            return Answer::Refuse(reply);
        }
        self.pace = Pace::Normal;
        self.auth_failures = 0;
        self.service.logins.succeeded(self.remote_ip());
        self.attempt(Some(address), Some(account), mechanism, AuthResult::Ok);
        self.login = Some(login);
        Answer::Ok
    }

    fn count_failure(&mut self) {
        self.auth_failures = self.auth_failures.saturating_add(1);
        self.service.logins.failed(self.remote_ip());
        if self.auth_failures >= SLOW_AFTER {
            self.pace = Pace::Slow;
        }
    }

    pub(crate) fn auth_failed(&mut self, user: Option<String>, mechanism: Mechanism, failure: &Failure) {
        if failure.counts() {
            self.count_failure();
        }
        if *failure == Failure::ScramFinal(mox_sasl::scram::Error::ChannelBindingsDontMatch) {
            tracing::warn!(cid = self.cid, user, "channel bindings differ, perhaps someone is in the middle of the connection");
        }
        let account = user.as_deref().and_then(|user| self.find(user)).map(|login| login.account.name.clone());
        self.attempt(user, account, mechanism, failure.result());
    }

    fn attempt(&self, login_address: Option<String>, account: Option<String>, mechanism: Mechanism, result: AuthResult) {
        self.record(login_address, account, mechanism.label(), result);
    }

    fn record(&self, login_address: Option<String>, account: Option<String>, name: &'static str, result: AuthResult) {
        tracing::info!(cid = self.cid, mechanism = name, result = result.name(), account, "authentication");
        self.service.logins.record(Attempt {
            protocol: "submission",
            account,
            login_address: login_address.unwrap_or_default(),
            remote_ip: self.remote_ip(),
            local_ip: self.stream.local_addr().ip(),
            tls: self.stream.tls().map(mox_net::TlsInfo::log_form),
            certificate: self.stream.tls().and_then(|tls| tls.client.as_ref()).map(|client| client.fingerprint.clone()),
            user_agent: String::new(),
            mechanism: name,
            result,
        });
    }
}
