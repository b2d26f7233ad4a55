//! Passwords: setting and verifying them, the keys that mechanisms without the password need, API keys, login attempts.
//!
//! Everything is in a database of its own, `auth`, by the account's id, which is never used again: whoever gets a name after
//! somebody else doesn't get their password. New passwords are hashed with argon2id. What is missing or made in an older way (bcrypt
//! hashes of Go mox, SCRAM keys with fewer iterations) is made anew when the password is next seen. Hashing runs on a bounded number of
//! blocking threads. A verified password is remembered for some minutes
//! as a keyed hash bound to the version of the credential, so that ten thousand clients that reconnect don't mean ten
//! thousand hashes; a change of the password makes what was remembered worthless at once.

mod api_keys;
mod attempt;
mod derive;
mod hash;
mod password;
mod remember;
mod schema;
mod tls_keys;

pub use api_keys::{ApiKey, MAX_API_KEYS, NewApiKey};
pub use attempt::{LoginAttempt, LoginAttempts, LoginAttemptsWriter, LoginRecord};
pub use derive::{CramMd5, SCRAM_ITERATIONS, Scram, ScramHash};
pub use hash::{hash_password, verify_hash};
pub use password::{MAX_BYTES, MIN_BYTES, Prepared, Refused};
pub use tls_keys::TlsKey;

use crate::db::{self, Database, Tx};
use crate::error::Error;
use crate::params;
use crate::store::Store;
use mox_base::{AccountId, Clock, Random, Secret};
use remember::Remembered;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Semaphore;

/// The credentials of all accounts. Clones are handles to the same ones.
#[derive(Clone, Debug)]
pub struct Credentials {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    db: Database,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    hashers: Semaphore,
    remembered: Mutex<Remembered>,
    installation: Secret<Vec<u8>>,
}

/// What came of verifying a password or a proof of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is the account's.
    Right,
    /// It isn't.
    Wrong,
    /// The account has no password, or none from which what is needed was kept.
    Absent,
}

/// Why a password wasn't set.
#[derive(Debug, thiserror::Error)]
pub enum SetError {
    /// It can't be anybody's.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] Error),
}

/// Passwords hashed at once. Each takes 19 MiB and a core.
const HASHERS: usize = 2;

/// A row of `credential`, as far as verifying needs it.
#[derive(Clone, Debug)]
struct Kept {
    version: i64,
    hash: String,
    /// Of SCRAM's keys, the fewest; none where some are missing.
    iterations: Option<i64>,
}

impl Kept {
    /// Whether everything is as it would be made of a new password.
    fn is_current(&self) -> bool {
        hash::is_current(&self.hash) && self.iterations.is_some_and(|n| n >= i64::from(SCRAM_ITERATIONS))
    }
}

impl Credentials {
    /// Opens the credentials of a store.
    ///
    /// # Errors
    /// The database can't be opened.
    pub async fn open(store: &Store) -> Result<Self, Error> {
        let db = store.database("auth", &schema::SCHEMA).await?;
        let (clock, random) = (Arc::clone(store.clock()), Arc::clone(store.random()));
        let mut secret = vec![0; 32];
        random.fill(&mut secret);
        let installation = db.write(move |tx| installation_secret(tx, &secret)).await?;
        let mut key = [0; 32];
        random.fill(&mut key);
        let inner = Inner {
            db,
            clock,
            random,
            hashers: Semaphore::new(HASHERS),
            remembered: Mutex::new(Remembered::new(key)),
            installation: Secret::new(installation),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Sets the password of an account.
    ///
    /// # Errors
    /// See [`SetError`].
    pub async fn set_password(&self, account: AccountId, password: &Secret<String>) -> Result<(), SetError> {
        let prepared = Prepared::new(password.expose())?;
        prepared.check_length()?;
        let forms = self.hashing({
            let random = Arc::clone(&self.inner.random);
            move || derive::Forms::of(&prepared, &*random)
        });
        let forms = forms.await?;
        let now = self.inner.clock.now();
        self.inner
            .db
            .write(move |tx| {
                let version = version(tx, account)?.saturating_add(1);
                tx.exec("DELETE FROM credential WHERE account_id = $1", params![account])?;
                tx.exec(
                    "INSERT INTO credential (account_id, version, changed, hash, cram_md5, sha1_salt, sha1_iterations, sha1_stored, sha1_server, \
                     sha256_salt, sha256_iterations, sha256_stored, sha256_server) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
                    params![
                        account,
                        version,
                        now,
                        &forms.hash,
                        forms.cram_md5.expose(),
                        &forms.sha1.salt,
                        forms.sha1.iterations,
                        forms.sha1.stored_key.expose(),
                        forms.sha1.server_key.expose(),
                        &forms.sha256.salt,
                        forms.sha256.iterations,
                        forms.sha256.stored_key.expose(),
                        forms.sha256.server_key.expose(),
                    ],
                )?;
                Ok::<_, Error>(())
            })
            .await?;
        Ok(())
    }

    /// Takes over a password hash, bcrypt or argon2id. Mechanisms that need other keys have none until the password is seen.
    ///
    /// # Errors
    /// The database failed.
    pub async fn import_hash(&self, account: AccountId, hash: &str) -> Result<(), Error> {
        let (hash, now) = (hash.to_owned(), self.inner.clock.now());
        self.inner
            .db
            .write(move |tx| {
                let version = version(tx, account)?.saturating_add(1);
                tx.exec("DELETE FROM credential WHERE account_id = $1", params![account])?;
                tx.exec(
                    "INSERT INTO credential (account_id, version, changed, hash) VALUES ($1, $2, $3, $4)",
                    params![account, version, now, &hash],
                )?;
                Ok(())
            })
            .await
    }

    /// Forgets the password, the keys and the login attempts of an account that is being removed.
    ///
    /// # Errors
    /// The database failed.
    pub async fn remove(&self, account: AccountId, name: &str) -> Result<(), Error> {
        let name = name.to_owned();
        self.inner
            .db
            .write(move |tx| {
                tx.exec("DELETE FROM login_attempt WHERE account = $1", params![&name])?;
                tx.exec("DELETE FROM credential WHERE account_id = $1", params![account])?;
                tx.exec("DELETE FROM tls_key WHERE account_id = $1", params![account])?;
                tx.exec("DELETE FROM api_key WHERE account_id = $1", params![account])?;
                Ok(())
            })
            .await
    }

    /// Whether this is the account's password.
    ///
    /// # Errors
    /// The database failed.
    pub async fn verify_password(&self, account: AccountId, password: &Secret<String>) -> Result<Verdict, Error> {
        // A text that can't be a password, or is absurdly long, is a wrong one.
        let Ok(prepared) = Prepared::new(password.expose()) else { return Ok(Verdict::Wrong) };
        let Some(kept) = self.kept(account).await? else {
            self.hashing(move || hash::same_effort(prepared.expose())).await?;
            return Ok(Verdict::Absent);
        };
        let token = self.remembered().token(account, kept.version, &kept.hash, &prepared);
        if self.remembered().contains(&token, self.inner.clock.monotonic()) {
            return Ok(Verdict::Right);
        }
        let right = self
            .hashing({
                let (inner, hash, prepared) = (Arc::clone(&self.inner), kept.hash.clone(), prepared.clone());
                // Others with the same password may have been verified while we waited.
                move || {
                    let known = lock(&inner.remembered).contains(&token, inner.clock.monotonic());
                    known || verify_hash(&hash, prepared.expose())
                }
            })
            .await?;
        if !right {
            return Ok(Verdict::Wrong);
        }
        self.remembered().insert(token, self.inner.clock.monotonic());
        if !kept.is_current()
            && let Err(error) = self.upgrade(account, kept, prepared).await
        {
            // Nothing that the user has to wait for, or should be refused for: what there is goes on being good.
            tracing::warn!(%error, account = account.0, "renewing what is kept of a password");
        }
        Ok(Verdict::Right)
    }

    /// Takes as long as verifying a password does, for users who don't exist.
    ///
    /// # Errors
    /// Hashing failed.
    pub async fn verify_nobodys(&self, password: &Secret<String>) -> Result<(), Error> {
        let Ok(prepared) = Prepared::new(password.expose()) else { return Ok(()) };
        self.hashing(move || hash::same_effort(prepared.expose())).await
    }

    /// The account's SCRAM keys.
    ///
    /// # Errors
    /// The database failed.
    pub async fn scram(&self, account: AccountId, hash: ScramHash) -> Result<Option<Scram>, Error> {
        let sql = match hash {
            ScramHash::Sha1 => "SELECT sha1_salt, sha1_iterations, sha1_stored, sha1_server FROM credential WHERE account_id = $1",
            ScramHash::Sha256 => {
                "SELECT sha256_salt, sha256_iterations, sha256_stored, sha256_server FROM credential WHERE account_id = $1"
            }
        };
        let found = self.inner.db.read(move |tx| {
            tx.query_opt(sql, params![account], |r| {
                let (Some(salt), Some(iterations), Some(stored), Some(server)) =
                    (r.opt_blob(0)?, r.opt_int(1)?, r.opt_blob(2)?, r.opt_blob(3)?)
                else {
                    return Ok::<_, Error>(None);
                };
                let iterations = u32::try_from(iterations).map_err(|_| db::Error::Corrupt("scram iterations".to_owned()))?;
                Ok(Some(Scram {
                    salt: salt.to_vec(),
                    iterations,
                    stored_key: Secret::new(stored.to_vec()),
                    server_key: Secret::new(server.to_vec()),
                }))
            })
        });
        Ok(found.await?.flatten())
    }

    /// Whether the digest is the HMAC-MD5 of the challenge keyed with the account's password, RFC 2195.
    ///
    /// # Errors
    /// The database failed.
    pub async fn verify_cram_md5(&self, account: AccountId, challenge: &[u8], digest: &[u8; 16]) -> Result<Verdict, Error> {
        let found = self.inner.db.read(move |tx| {
            tx.query_opt("SELECT cram_md5 FROM credential WHERE account_id = $1", params![account], |r| {
                Ok::<_, Error>(r.opt_blob(0)?.map(<[u8]>::to_vec))
            })
        });
        let Some(state) = found.await?.flatten() else { return Ok(Verdict::Absent) };
        let keys = CramMd5::from_bytes(&state).ok_or_else(|| db::Error::Corrupt("cram-md5 state".to_owned()))?;
        Ok(if keys.verify(challenge, digest) { Verdict::Right } else { Verdict::Wrong })
    }

    /// A secret of the installation, from which keys for users who don't exist are made, so that they never change.
    pub fn installation_secret(&self) -> &Secret<Vec<u8>> {
        &self.inner.installation
    }

    /// Login attempts: the handle to record them with, and the writer to run.
    pub fn login_attempts(&self) -> (LoginAttempts, LoginAttemptsWriter) {
        attempt::channel(self.inner.db.clone(), Arc::clone(&self.inner.clock))
    }

    /// The newest login attempts that were recorded, of an account or of all.
    ///
    /// # Errors
    /// The database failed.
    pub async fn recorded_attempts(&self, account: Option<&str>, limit: u32) -> Result<Vec<LoginRecord>, Error> {
        let account = account.map(str::to_owned);
        self.inner.db.read(move |tx| attempt::list(tx, account.as_deref(), limit)).await
    }

    /// Finishes what was begun and closes the database.
    pub async fn close(&self) {
        self.inner.db.close().await;
    }

    async fn kept(&self, account: AccountId) -> Result<Option<Kept>, Error> {
        let found = self.inner.db.read(move |tx| {
            let sql = "SELECT version, hash, sha1_iterations, sha256_iterations FROM credential WHERE account_id = $1";
            tx.query_opt(sql, params![account], |r| {
                let fewest = r.opt_int(2)?.zip(r.opt_int(3)?).map(|(a, b)| a.min(b));
                Ok::<_, Error>(Kept { version: r.int(0)?, hash: r.text(1)?.to_owned(), iterations: fewest })
            })
        });
        found.await
    }

    /// Makes anew what is missing, or isn't as for a new password, unless that was changed meanwhile. The hash stays if it is of the right
    /// kind, so that what is remembered of the password stays good.
    async fn upgrade(&self, account: AccountId, kept: Kept, prepared: Prepared) -> Result<(), Error> {
        let random = Arc::clone(&self.inner.random);
        let hash = Some(kept.hash.clone()).filter(|hash| hash::is_current(hash));
        let making = self.hashing(move || match hash {
            Some(hash) => derive::Forms::with_hash(hash, &prepared, &*random),
            None => derive::Forms::of(&prepared, &*random),
        });
        let new = making.await?;
        self.inner
            .db
            .write(move |tx| {
                tx.exec(
                    "UPDATE credential SET hash = $1, cram_md5 = $2, sha1_salt = $3, sha1_iterations = $4, sha1_stored = $5, sha1_server = $6, \
                     sha256_salt = $7, sha256_iterations = $8, sha256_stored = $9, sha256_server = $10 \
                     WHERE account_id = $11 AND version = $12 AND hash = $13",
                    params![
                        &new.hash,
                        new.cram_md5.expose(),
                        &new.sha1.salt,
                        new.sha1.iterations,
                        new.sha1.stored_key.expose(),
                        new.sha1.server_key.expose(),
                        &new.sha256.salt,
                        new.sha256.iterations,
                        new.sha256.stored_key.expose(),
                        new.sha256.server_key.expose(),
                        account,
                        kept.version,
                        &kept.hash,
                    ],
                )?;
                Ok(())
            })
            .await
    }

    fn remembered(&self) -> std::sync::MutexGuard<'_, Remembered> {
        lock(&self.inner.remembered)
    }

    /// Runs work that takes long on a blocking thread, when it is its turn.
    async fn hashing<T: Send + 'static>(&self, f: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
        let _turn = self.inner.hashers.acquire().await.map_err(|_| db::Error::Closed)?;
        Ok(tokio::task::spawn_blocking(f).await.map_err(|_| db::Error::Panicked)?)
    }
}

fn lock<T>(m: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

fn version(tx: &Tx<'_>, account: AccountId) -> Result<i64, Error> {
    Ok(tx.query_opt("SELECT version FROM credential WHERE account_id = $1", params![account], |r| r.int(0))?.unwrap_or(0))
}

fn installation_secret(tx: &Tx<'_>, new: &[u8]) -> Result<Vec<u8>, Error> {
    tx.exec("INSERT INTO auth_secret (id, secret) VALUES (1, $1) ON CONFLICT (id) DO NOTHING", params![new])?;
    tx.query_row("SELECT secret FROM auth_secret WHERE id = 1", &[], |r| Ok(r.blob(0)?.to_vec()))
}

#[cfg(test)]
mod tests;
