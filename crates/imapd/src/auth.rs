//! Logging in: who the client says it is, whether that is so, and what is counted and recorded of it.
//!
//! LOGIN and AUTHENTICATE come together in [`Session::decide`], which turns the outcome of checking credentials into a login or
//! a failure. Failures cost the client time on this connection, and count towards the limit that all services share.

use crate::error::Failure;
use crate::session::{Login, Preauthenticated, Session};
use mox_imap::response::Code;
use mox_logins::Attempt;
use mox_sasl::server::Wrong;
use mox_sasl::{Answer, Ask, AuthResult};
use std::time::Duration;

/// Failures on a connection after which each further one waits.
const FREE_FAILURES: u32 = 3;

/// Failures on a connection after which it gets slow.
const SLOW_AFTER: u32 = 3;

/// How long the record of an attempt waits for the client to say what it is.
const ID_PATIENCE: Duration = Duration::from_secs(1);

impl Session {
    /// Before credentials are looked at: those who failed before wait.
    pub(crate) async fn begin_attempt(&mut self) {
        let over = self.failed.saturating_sub(FREE_FAILURES);
        if over > 0 {
            tokio::time::sleep(self.service.limits.penalty.saturating_mul(over)).await;
        }
        self.failed = self.failed.saturating_add(1);
    }

    /// After an attempt: counts and records it.
    pub(crate) fn end_attempt(&mut self, variant: &'static str, user: &str, account: Option<&str>, result: AuthResult) {
        if result == AuthResult::Ok {
            self.failed = 0;
            self.conn.slow = false;
            self.service.logins.succeeded(self.remote);
        } else {
            self.service.logins.failed(self.remote);
            self.conn.slow = self.failed >= SLOW_AFTER && !self.service.limits.penalty.is_zero();
            tracing::info!(cid = self.id, remote = %self.remote, user, mechanism = variant, result = result.name(), "failed login");
        }
        self.flush_attempt();
        let tls = self.conn.stream.tls();
        let attempt = Attempt {
            protocol: "imap",
            account: account.map(str::to_owned).or_else(|| self.find_user(user).map(|u| u.account.name.clone())),
            login_address: user.to_owned(),
            remote_ip: self.remote,
            local_ip: self.local,
            tls: tls.map(mox_net::TlsInfo::log_form),
            certificate: tls.and_then(|t| t.client.as_ref()).map(|c| c.fingerprint.clone()),
            user_agent: String::new(),
            mechanism: variant,
            result,
        };
        self.attempt = Some((self.service.clock.monotonic(), Box::new(attempt)));
    }

    /// Records the last attempt, with what the client says it is.
    pub(crate) fn flush_attempt(&mut self) {
        if let Some((_, mut attempt)) = self.attempt.take() {
            attempt.user_agent.clone_from(&self.user_agent);
            self.service.logins.record(*attempt);
        }
    }

    /// As above, if the client had time to say what it is.
    pub(crate) fn flush_old_attempt(&mut self) {
        let now = self.service.clock.monotonic();
        if self.attempt.as_ref().is_some_and(|(at, _)| now.saturating_sub(*at) >= ID_PATIENCE) {
            self.flush_attempt();
        }
    }

    /// Answers a question of a SASL exchange.
    pub(crate) async fn answer(&self, ask: Ask) -> Answer {
        let Ask::External { user } = ask else { return self.service.logins.verify(ask).await };
        let owner = self.certificate.as_ref();
        let right = owner.is_some_and(|owner| {
            // Any address of the account will do.
            user.is_none_or(|user| self.find_user(&user).is_some_and(|found| found.account.name == owner.login.account.name))
        });
        if right { Answer::Right } else { Answer::Wrong(Wrong::Credentials) }
    }

    /// Looks up the client's certificate. One that is nobody's is as good as none.
    pub(crate) async fn look_up_certificate(&mut self) {
        let client = self.conn.stream.tls().and_then(|t| t.client.as_ref());
        let Some(client) = client.filter(|_| !self.listener.no_client_certificates) else { return };
        let fingerprint = client.fingerprint.clone();
        self.certificate = self.service.logins.certificate(&fingerprint, self.remote).await.map(Box::new);
    }

    /// Who is logged in by certificate from the beginning, on connections that begin with TLS.
    pub(crate) fn certificate_login(&mut self) -> Option<Preauthenticated> {
        let login = self.certificate.as_deref().filter(|owner| !owner.needs_external)?.login.clone();
        let (account, address) = (login.account.name.clone(), login.address.to_string());
        let result = if login.account.login_disabled.is_some() { AuthResult::LoginDisabled } else { AuthResult::Ok };
        self.end_attempt("tlsclientauth", &address, Some(&account), result);
        (result == AuthResult::Ok).then_some(Preauthenticated { account, address })
    }

    /// Credentials were right: is there a reason against logging in?
    pub(crate) async fn decide(&mut self, variant: &'static str, user: &str) -> Result<Option<Code>, Failure> {
        let Some(found) = self.find_user(user) else {
            // Gone between the check and now.
            self.end_attempt(variant, user, None, AuthResult::BadUser);
            return Err(bad_credentials());
        };
        let name = found.account.name.clone();
        // RFC 9051 has no word on it; a certificate and a password for different people are suspicious.
        if self.certificate.as_ref().is_some_and(|owner| owner.login.account.name != name) {
            self.end_attempt(variant, user, Some(&name), AuthResult::BadCreds);
            return Err(Failure::code(Code::AuthenticationFailed, "account differs from that of the client certificate"));
        }
        if let Some(text) = &found.account.login_disabled {
            self.end_attempt(variant, user, Some(&name), AuthResult::LoginDisabled);
            // Without a code: clients would ask for another password.
            return Err(Failure::no(text.clone()));
        }
        if let Err(error) = self.log_in(&name).await {
            self.end_attempt(variant, user, Some(&name), AuthResult::Error);
            return Err(error.into());
        }
        self.end_attempt(variant, user, Some(&name), AuthResult::Ok);
        tracing::info!(cid = self.id, remote = %self.remote, user, account = name, mechanism = variant, "login");
        Ok(Some(Code::Capability(self.capabilities())))
    }

    /// Opens the account.
    pub(crate) async fn log_in(&mut self, name: &str) -> Result<(), mox_store::Error> {
        let account = self.service.store.account(name).await?;
        let mut disabled = Vec::new();
        if let Some(settings) = self.service.directory.current().account(name) {
            account.configure(settings);
            disabled.clone_from(&settings.imap_capabilities_disabled);
        }
        let mailboxes = account.mailboxes();
        self.login = Some(Login { account, disabled, mailboxes });
        let limits = self.reader_limits();
        self.conn.reader.set_limits(limits);
        Ok(())
    }

    /// Whose address it is.
    pub(crate) fn find_user(&self, user: &str) -> Option<mox_logins::Login> {
        self.service.logins.find(user)
    }
}

/// The same for unknown users and wrong passwords.
pub(crate) fn bad_credentials() -> Failure {
    Failure::code(Code::AuthenticationFailed, "bad user or password")
}
