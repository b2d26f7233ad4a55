//! What the services ask about credentials, answered from the directory and the store.

use mox_base::{Address, Secret};
use mox_sasl::server::Wrong;
use mox_sasl::{Answer, Ask, scram};
use mox_store::credentials::{Credentials, LoginAttempt, LoginAttempts, Scram, ScramHash, Verdict};
use mox_store::directory::{AccountSettings, SharedDirectory};
use mox_store::{Error, Store};
use std::sync::{Arc, Mutex, PoisonError};
use tokio_util::task::TaskTracker;

/// Credentials of all accounts, for all services.
#[derive(Debug)]
pub(super) struct Logins {
    store: Store,
    credentials: Credentials,
    directory: SharedDirectory,
    /// None once we are shutting down.
    attempts: Mutex<Option<LoginAttempts>>,
    tasks: TaskTracker,
}

impl Logins {
    /// `tasks` owns the recording of attempts.
    pub(super) const fn new(
        store: Store,
        credentials: Credentials,
        directory: SharedDirectory,
        attempts: LoginAttempts,
        tasks: TaskTracker,
    ) -> Self {
        Self { store, credentials, directory, attempts: Mutex::new(Some(attempts)), tasks }
    }

    /// Sets the password of an account that is configured.
    pub(super) async fn set_password(&self, account: &str, password: String) -> Result<(), String> {
        let account = self.store.account(account).await.map_err(|e| e.to_string())?;
        self.credentials.set_password(account.id(), &Secret::new(password)).await.map_err(|e| e.to_string())
    }

    /// No more attempts are recorded, so that their writer can end.
    pub(super) fn close(&self) {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Records an attempt without keeping the session waiting.
    fn record(&self, attempt: LoginAttempt) {
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
        let attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(attempts) = attempts {
            self.tasks.spawn(async move { attempts.record(attempt).await });
        }
    }

    async fn answer(&self, ask: Ask) -> Answer {
        match self.try_answer(ask).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::error!(%error, "verifying credentials");
                Answer::Unavailable
            }
        }
    }

    async fn try_answer(&self, ask: Ask) -> Result<Answer, Error> {
        match ask {
            Ask::Verify { user, password } => {
                let Some(account) = self.account(&user) else {
                    self.credentials.verify_nobodys(&password).await?;
                    return Ok(Answer::Wrong(Wrong::User));
                };
                let id = self.store.account(&account.name).await?.id();
                Ok(match self.credentials.verify_password(id, &password).await? {
                    Verdict::Right => Answer::Right,
                    Verdict::Wrong | Verdict::Absent => Answer::Wrong(Wrong::Password),
                })
            }
            Ask::VerifyCramMd5 { user, challenge, digest } => {
                let Some(account) = self.account(&user) else { return Ok(Answer::Wrong(Wrong::User)) };
                let id = self.store.account(&account.name).await?.id();
                Ok(match self.credentials.verify_cram_md5(id, challenge.as_bytes(), &digest).await? {
                    Verdict::Right => Answer::Right,
                    Verdict::Wrong => Answer::Wrong(Wrong::Password),
                    Verdict::Absent => Answer::NoKeys,
                })
            }
            Ask::ScramKeys { user, hash } => {
                let Some(account) = self.account(&user) else {
                    return Ok(Answer::FakeKeys(scram::Keys::fake(hash, self.credentials.installation_secret(), &user)));
                };
                let id = self.store.account(&account.name).await?.id();
                let kept = match hash {
                    scram::Hash::Sha1 => ScramHash::Sha1,
                    scram::Hash::Sha256 => ScramHash::Sha256,
                };
                let keys = self.credentials.scram(id, kept).await?;
                Ok(keys.map_or(Answer::NoKeys, |Scram { salt, iterations, stored_key, server_key }| {
                    Answer::Keys(scram::Keys { salt, iterations, stored_key, server_key })
                }))
            }
            // Client certificates can't be registered yet, so none stands for anybody.
            Ask::External { .. } => Ok(Answer::Wrong(Wrong::Credentials)),
        }
    }

    fn account(&self, user: &str) -> Option<Arc<AccountSettings>> {
        let address: Address = user.parse().ok()?;
        Some(self.directory.current().login(&address).ok()?.account)
    }
}

impl mox_smtpd::Accounts for Logins {
    fn verify(&self, ask: Ask) -> mox_smtpd::Asked<'_, Answer> {
        Box::pin(self.answer(ask))
    }

    fn certificate<'a>(&'a self, _: &'a str) -> mox_smtpd::Asked<'a, Option<mox_smtpd::CertificateOwner>> {
        Box::pin(std::future::ready(None))
    }

    fn login_attempt(&self, attempt: mox_smtpd::LoginAttempt) {
        self.record(LoginAttempt {
            account: attempt.account.unwrap_or_else(|| "-".to_owned()),
            login_address: attempt.login_address,
            remote_ip: attempt.remote_ip.to_string(),
            local_ip: attempt.local_ip.to_string(),
            tls: attempt.tls.unwrap_or_default(),
            tls_public_key: attempt.certificate.unwrap_or_default(),
            protocol: "submission".to_owned(),
            user_agent: String::new(),
            mechanism: attempt.mechanism.to_owned(),
            result: attempt.result.name().to_owned(),
        });
    }
}

impl mox_imapd::Accounts for Logins {
    fn verify(&self, ask: Ask) -> mox_imapd::Asked<'_, Answer> {
        Box::pin(self.answer(ask))
    }

    fn certificate<'a>(&'a self, _: &'a str) -> mox_imapd::Asked<'a, Option<mox_imapd::CertificateOwner>> {
        Box::pin(std::future::ready(None))
    }

    fn login_attempt(&self, attempt: mox_imapd::LoginAttempt) {
        self.record(LoginAttempt {
            account: attempt.account.unwrap_or_else(|| "-".to_owned()),
            login_address: attempt.login_address,
            remote_ip: attempt.remote_ip.to_string(),
            local_ip: attempt.local_ip.to_string(),
            tls: attempt.tls.unwrap_or_default(),
            tls_public_key: attempt.certificate.unwrap_or_default(),
            protocol: "imap".to_owned(),
            user_agent: attempt.user_agent,
            mechanism: attempt.mechanism.to_owned(),
            result: attempt.result.name().to_owned(),
        });
    }
}
