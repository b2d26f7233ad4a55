//! Logging in: who the client says it is, whether that is so, and what is counted and recorded of it.
//!
//! LOGIN and AUTHENTICATE come together in [`Session::decide`], which turns the outcome of checking credentials into a login or
//! a failure. Failures cost the client time on this connection, and count towards the limit that all services share.

use crate::accounts::{CertificateOwner, LoginAttempt};
use crate::error::Failure;
use crate::session::{Login, Preauthenticated, Session};
use mox_base::Address;
use mox_imap::response::Code;
use mox_sasl::server::Wrong;
use mox_sasl::{Answer, Ask, AuthResult, Mechanism, scram};
use mox_store::directory::LocalRecipient;
use std::time::Duration;

/// Failures on a connection after which each further one waits.
const FREE_FAILURES: u32 = 3;

/// Failures on a connection after which it gets slow.
const SLOW_AFTER: u32 = 3;

/// How long the record of an attempt waits for the client to say what it is.
const ID_PATIENCE: Duration = Duration::from_secs(1);

/// The name of a mechanism in metrics and records.
pub(crate) const fn variant(mechanism: Mechanism) -> &'static str {
    match mechanism {
        Mechanism::Plain => "plain",
        Mechanism::Login => "login",
        Mechanism::CramMd5 => "cram-md5",
        Mechanism::Scram { hash: scram::Hash::Sha1, plus: false } => "scram-sha-1",
        Mechanism::Scram { hash: scram::Hash::Sha1, plus: true } => "scram-sha-1-plus",
        Mechanism::Scram { hash: scram::Hash::Sha256, plus: false } => "scram-sha-256",
        Mechanism::Scram { hash: scram::Hash::Sha256, plus: true } => "scram-sha-256-plus",
        Mechanism::External => "external",
    }
}

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
        self.service.metrics.authentication(variant, result.name());
        let now = self.service.clock.now();
        if result == AuthResult::Ok {
            self.failed = 0;
            self.conn.slow = false;
            self.service.failed_logins.reset(self.remote, now);
        } else {
            // A full limiter is full already.
            let _: bool = self.service.failed_logins.add(self.remote, now);
            self.conn.slow = self.failed >= SLOW_AFTER && !self.service.limits.penalty.is_zero();
            tracing::info!(cid = self.id, remote = %self.remote, user, mechanism = variant, result = result.name(), "failed login");
        }
        self.flush_attempt();
        let tls = self.conn.stream.tls();
        let attempt = LoginAttempt {
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
            self.service.accounts.login_attempt(*attempt);
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
        let Ask::External { user } = ask else { return self.service.accounts.verify(ask).await };
        let owner = self.certificate.as_ref();
        let right = owner.is_some_and(|owner| {
            // Any address of the account will do.
            user.is_none_or(|user| self.find_user(&user).is_some_and(|found| found.account.name == owner.account))
        });
        if right { Answer::Right } else { Answer::Wrong(Wrong::Credentials) }
    }

    /// Looks up the client's certificate. One that is nobody's is as good as none.
    pub(crate) async fn look_up_certificate(&mut self) {
        let client = self.conn.stream.tls().and_then(|t| t.client.as_ref());
        let Some(client) = client.filter(|_| !self.listener.no_client_certificates) else { return };
        if !self.service.failed_logins.allows(self.remote, self.service.clock.now()) {
            return;
        }
        let fingerprint = client.fingerprint.clone();
        self.certificate = self.service.accounts.certificate(&fingerprint).await.map(Box::new);
    }

    /// Who is logged in by certificate from the beginning, on connections that begin with TLS.
    pub(crate) fn certificate_login(&mut self) -> Option<Preauthenticated> {
        let owner: CertificateOwner = self.certificate.as_deref().filter(|o| !o.no_imap_preauth)?.clone();
        let found = self.find_user(&owner.login_address).filter(|f| f.account.name == owner.account)?;
        let result = if found.account.login_disabled.is_some() { AuthResult::LoginDisabled } else { AuthResult::Ok };
        self.end_attempt("tlsclientauth", &owner.login_address, Some(&owner.account), result);
        (result == AuthResult::Ok).then_some(Preauthenticated { account: owner.account, address: owner.login_address })
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
        if self.certificate.as_ref().is_some_and(|owner| owner.account != name) {
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
        let watch = account.watch();
        let mailboxes = account.mailboxes();
        self.login = Some(Login { account, disabled, watch, mailboxes });
        let limits = self.reader_limits();
        self.conn.reader.set_limits(limits);
        Ok(())
    }

    /// Whose address it is.
    pub(crate) fn find_user(&self, user: &str) -> Option<LocalRecipient> {
        let address: Address = user.parse().ok()?;
        self.service.directory.current().login(&address).ok()
    }
}

/// The same for unknown users and wrong passwords.
pub(crate) fn bad_credentials() -> Failure {
    Failure::code(Code::AuthenticationFailed, "bad user or password")
}
