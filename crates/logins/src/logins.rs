//! The logins of all accounts: what SASL asks, answered from the directory and the store.

use crate::metrics::Metrics;
use mox_base::{AccountId, Address, IpPrefix, Secret};
use mox_net::RateLimit;
use mox_sasl::server::Wrong;
use mox_sasl::{Answer, Ask, scram};
use mox_store::credentials::{Credentials, LoginAttempt, LoginAttempts, LoginRecord, Scram, ScramHash, SetError, Verdict};
use mox_store::directory::{AccountSettings, Directory, SharedDirectory};
use mox_store::{Error, Store};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use tokio_util::task::TaskTracker;
use unicode_normalization::UnicodeNormalization as _;

/// The logins of all accounts, for all services. Clones are the same.
#[derive(Clone, Debug)]
pub struct Logins {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Store,
    credentials: Credentials,
    directory: SharedDirectory,
    failures: RateLimit,
    metrics: Metrics,
    /// None once we are shutting down.
    attempts: Mutex<Option<LoginAttempts>>,
    tasks: TaskTracker,
}

/// Who an address stands for.
#[derive(Clone, Debug)]
pub struct Login {
    /// The address as it was given.
    pub address: Address,
    /// Its account.
    pub account: Arc<AccountSettings>,
}

impl Logins {
    /// For the accounts of a directory. `tasks` owns the recording of attempts, which ends after [`Self::close`].
    pub fn new(store: Store, credentials: Credentials, directory: SharedDirectory, metrics: Metrics, tasks: TaskTracker) -> Self {
        Self::sparing(&[], store, credentials, directory, metrics, tasks)
    }

    /// The same, with networks whose failures don't count.
    pub fn sparing(
        networks: &[IpPrefix],
        store: Store,
        credentials: Credentials,
        directory: SharedDirectory,
        metrics: Metrics,
        tasks: TaskTracker,
    ) -> Self {
        let (attempts, writer) = credentials.login_attempts();
        tasks.spawn(writer.run());
        let (attempts, failures) = (Mutex::new(Some(attempts)), RateLimit::failed_authentication().sparing(networks));
        Self { inner: Arc::new(Inner { store, credentials, directory, failures, metrics, attempts, tasks }) }
    }

    /// Whom an address logs in as, if it is one to log in with.
    pub fn find(&self, user: &str) -> Option<Login> {
        let address: Address = user.parse().ok()?;
        let account = self.inner.directory.current().login(&address).ok()?.account;
        Some(Login { address, account })
    }

    /// Whether a client has failed too often to try again; counted as a refusal if so. `protocol` as in [`crate::Attempt`].
    pub fn is_limited(&self, protocol: &'static str, ip: IpAddr) -> bool {
        let limited = !self.allows(ip);
        if limited {
            self.inner.metrics.limited(protocol);
        }
        limited
    }

    pub(crate) fn allows(&self, ip: IpAddr) -> bool {
        self.inner.failures.allows(ip, self.inner.store.clock().now())
    }

    /// Counts a failure against the client.
    pub fn failed(&self, ip: IpAddr) {
        // A full limit can't get fuller.
        let _counted: bool = self.inner.failures.add(ip, self.inner.store.clock().now());
    }

    /// Forgets the client's failures.
    pub fn succeeded(&self, ip: IpAddr) {
        self.inner.failures.reset(ip, self.inner.store.clock().now());
    }

    /// Answers what an exchange asks. [`Ask::External`] is between the connection and its certificate: asked here, it is nobody's.
    pub async fn verify(&self, ask: Ask) -> Answer {
        match self.try_verify(ask).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::error!(%error, "verifying credentials");
                Answer::Unavailable
            }
        }
    }

    async fn try_verify(&self, ask: Ask) -> Result<Answer, Error> {
        let credentials = &self.inner.credentials;
        match ask {
            Ask::Verify { user, password } => {
                let Some(login) = self.find(&user) else {
                    credentials.verify_nobodys(&password).await?;
                    return Ok(Answer::Wrong(Wrong::User));
                };
                let id = self.inner.store.account(&login.account.name).await?.id();
                Ok(match credentials.verify_password(id, &password).await? {
                    Verdict::Right => Answer::Right,
                    Verdict::Wrong | Verdict::Absent => Answer::Wrong(Wrong::Password),
                })
            }
            Ask::VerifyCramMd5 { user, challenge, digest } => {
                let Some(login) = self.find(&user) else { return Ok(Answer::Wrong(Wrong::User)) };
                let id = self.inner.store.account(&login.account.name).await?.id();
                Ok(match credentials.verify_cram_md5(id, challenge.as_bytes(), &digest).await? {
                    Verdict::Right => Answer::Right,
                    Verdict::Wrong => Answer::Wrong(Wrong::Password),
                    Verdict::Absent => {
                        tell_of_missing_secret(&login, "CRAM-MD5");
                        Answer::Wrong(Wrong::NoKeys)
                    }
                })
            }
            Ask::ScramKeys { user, hash } => {
                let fake =
                    |why| Answer::FakeKeys(scram::Keys::fake(hash, credentials.installation_secret(), &self.spelled_alike(&user)), why);
                let Some(login) = self.find(&user) else { return Ok(fake(Wrong::User)) };
                let id = self.inner.store.account(&login.account.name).await?.id();
                let kept = match hash {
                    scram::Hash::Sha1 => ScramHash::Sha1,
                    scram::Hash::Sha256 => ScramHash::Sha256,
                };
                let keys = credentials.scram(id, kept).await?;
                let Some(Scram { salt, iterations, stored_key, server_key }) = keys else {
                    tell_of_missing_secret(&login, "SCRAM");
                    return Ok(fake(Wrong::NoKeys));
                };
                Ok(Answer::Keys(scram::Keys { salt, iterations, stored_key, server_key }))
            }
            Ask::External { .. } => Ok(Answer::Wrong(Wrong::Credentials)),
        }
    }

    /// A user name as all the spellings that mean the same user: theirs have the same salt, too.
    fn spelled_alike(&self, user: &str) -> String {
        let canonical = |address: &Address| self.inner.directory.current().canonical(address).to_string();
        user.parse().as_ref().map_or_else(|_| user.to_lowercase(), canonical)
    }

    /// Sets the password of an account that is configured.
    ///
    /// # Errors
    /// See [`SetError`].
    pub async fn set_password(&self, account: &str, password: &Secret<String>) -> Result<(), SetError> {
        let id = self.inner.store.account(account).await?.id();
        self.inner.credentials.set_password(id, password).await
    }

    /// Forgets the password, the keys and the attempts of an account that was removed.
    ///
    /// # Errors
    /// The database failed.
    pub async fn forget_account(&self, id: AccountId, name: &str) -> Result<(), Error> {
        self.inner.credentials.remove(id, name).await
    }

    /// The newest attempts, of an account or of all.
    ///
    /// # Errors
    /// The database failed.
    pub async fn attempts(&self, account: Option<&str>, limit: u32) -> Result<Vec<LoginRecord>, Error> {
        self.inner.credentials.recorded_attempts(account, limit).await
    }

    /// No more attempts are recorded, so that their writer can end.
    pub fn close(&self) {
        self.inner.attempts.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    pub(crate) fn keep(&self, attempt: LoginAttempt) {
        let attempts = self.inner.attempts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(attempts) = attempts {
            self.inner.tasks.spawn(async move { attempts.record(attempt).await });
        }
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }

    pub(crate) fn directory(&self) -> Arc<Directory> {
        self.inner.directory.current()
    }

    pub(crate) fn store(&self) -> &Store {
        &self.inner.store
    }

    pub(crate) fn credentials(&self) -> &Credentials {
        &self.inner.credentials
    }
}

/// The client hears that its password is wrong, as anybody else does; so who could help has to look here.
fn tell_of_missing_secret(login: &Login, mechanism: &'static str) {
    tracing::warn!(account = login.account.name, mechanism, "no secret for this mechanism is kept, the password has to be set again");
}

/// A user name as it is looked up.
pub(crate) fn normalized(user: &str) -> String {
    user.nfc().collect()
}
