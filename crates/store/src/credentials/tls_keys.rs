//! The keys of TLS client certificates, registered to log in with.

use super::Credentials;
use crate::db::Row;
use crate::error::Error;
use crate::params;
use mox_base::{AccountId, Timestamp};

/// A registered key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsKey {
    /// SHA-256 of the SubjectPublicKeyInfo, in base64url without padding.
    pub fingerprint: String,
    /// When it was registered.
    pub created: Timestamp,
    /// `rsa-2048`, `ecdsa-p256`, `ed25519` …
    pub kind: String,
    /// What its owner calls it.
    pub name: String,
    /// Connections don't begin logged in with it; the client asks for it with EXTERNAL.
    pub no_imap_preauth: bool,
    /// The certificate it came in.
    pub cert: Vec<u8>,
    /// Whose it is.
    pub account: AccountId,
    /// The address to log in with when the client names none.
    pub login_address: String,
}

const COLUMNS: &str = "fingerprint, created, kind, name, no_imap_preauth, cert, account_id, login_address";

fn read(r: &Row<'_>) -> Result<TlsKey, Error> {
    Ok(TlsKey {
        fingerprint: r.text(0)?.to_owned(),
        created: Timestamp::from_micros(r.int(1)?),
        kind: r.text(2)?.to_owned(),
        name: r.text(3)?.to_owned(),
        no_imap_preauth: r.int(4)? != 0,
        cert: r.blob(5)?.to_vec(),
        account: AccountId(r.int(6)?),
        login_address: r.text(7)?.to_owned(),
    })
}

impl Credentials {
    /// Registers a key; false if it is registered already.
    ///
    /// # Errors
    /// The database failed.
    pub async fn add_tls_key(&self, key: &TlsKey) -> Result<bool, Error> {
        let key = key.clone();
        let sql = format!("INSERT INTO tls_key ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (fingerprint) DO NOTHING");
        let added = self.inner.db.write(move |tx| {
            let params = params![
                &key.fingerprint,
                key.created,
                &key.kind,
                &key.name,
                i64::from(key.no_imap_preauth),
                &key.cert,
                key.account,
                &key.login_address,
            ];
            Ok::<_, Error>(tx.exec(&sql, params)?)
        });
        Ok(added.await? > 0)
    }

    /// The key of this fingerprint.
    ///
    /// # Errors
    /// The database failed.
    pub async fn tls_key(&self, fingerprint: &str) -> Result<Option<TlsKey>, Error> {
        let (fingerprint, sql) = (fingerprint.to_owned(), format!("SELECT {COLUMNS} FROM tls_key WHERE fingerprint = $1"));
        self.inner.db.read(move |tx| tx.query_opt(&sql, params![&fingerprint], read)).await
    }

    /// All keys, oldest first.
    ///
    /// # Errors
    /// The database failed.
    pub async fn tls_keys(&self) -> Result<Vec<TlsKey>, Error> {
        let sql = format!("SELECT {COLUMNS} FROM tls_key ORDER BY created, fingerprint");
        self.inner.db.read(move |tx| tx.query_all(&sql, &[], read)).await
    }

    /// Forgets a key; false if there is none.
    ///
    /// # Errors
    /// The database failed.
    pub async fn remove_tls_key(&self, fingerprint: &str) -> Result<bool, Error> {
        let fingerprint = fingerprint.to_owned();
        let removed =
            self.inner.db.write(move |tx| Ok::<_, Error>(tx.exec("DELETE FROM tls_key WHERE fingerprint = $1", params![&fingerprint])?));
        Ok(removed.await? > 0)
    }
}
