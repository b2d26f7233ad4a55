//! Client certificates: whom their keys stand for, and registering them.
//!
//! Only the key counts, by the SHA-256 of its SubjectPublicKeyInfo. Who issued a certificate, for which name and until when, is as
//! meaningless here as in an SSH key file.

use crate::logins::{Login, Logins};
use mox_net::{CertificateError, ClientCert};
use mox_store::Error;
use mox_store::credentials::TlsKey;
use std::net::IpAddr;

/// Whom a client certificate stands for.
#[derive(Clone, Debug)]
pub struct CertificateOwner {
    /// The address to log in with when the client names none, and its account.
    pub login: Login,
    /// Whether the certificate alone is no login, only with EXTERNAL: for clients that don't understand a connection that
    /// begins logged in.
    pub needs_external: bool,
}

/// Why a client certificate isn't registered.
#[derive(Debug, thiserror::Error)]
pub enum AddKeyError {
    /// Nobody logs in with this address.
    #[error("no account logs in with this address")]
    Address,
    /// Not a certificate, or a key we don't take.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// It is somebody's already.
    #[error("this key is registered already")]
    Exists,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] Error),
}

impl Logins {
    /// Whose the key of a client certificate is, by its fingerprint. None if it is nobody's, or if the client has failed too often:
    /// a connection then goes on as if there were no certificate, for clients send what they have.
    pub async fn certificate(&self, fingerprint: &str, ip: IpAddr) -> Option<CertificateOwner> {
        if !self.allows(ip) {
            return None;
        }
        match self.owner(fingerprint).await {
            Ok(owner) => owner,
            Err(error) => {
                tracing::error!(%error, "looking up client certificate");
                None
            }
        }
    }

    async fn owner(&self, fingerprint: &str) -> Result<Option<CertificateOwner>, Error> {
        let Some(key) = self.credentials().tls_key(fingerprint).await? else { return Ok(None) };
        let Some(login) = self.find(&key.login_address) else { return Ok(None) };
        // The address may be another account's by now.
        if self.store().account(&login.account.name).await?.id() != key.account {
            return Ok(None);
        }
        Ok(Some(CertificateOwner { login, needs_external: key.no_imap_preauth }))
    }

    /// Registers a client certificate, in DER, for an address. Without a name, the certificate's is taken.
    ///
    /// # Errors
    /// See [`AddKeyError`].
    pub async fn add_tls_key(&self, address: &str, name: &str, no_imap_preauth: bool, der: &[u8]) -> Result<TlsKey, AddKeyError> {
        let login = self.find(address).ok_or(AddKeyError::Address)?;
        let cert = ClientCert::from_der(der)?;
        let key = TlsKey {
            created: self.store().clock().now(),
            kind: cert.key_kind()?,
            name: if name.is_empty() { cert.name() } else { name.to_owned() },
            no_imap_preauth,
            account: self.store().account(&login.account.name).await?.id(),
            login_address: login.address.to_string(),
            fingerprint: cert.fingerprint,
            cert: cert.der,
        };
        if self.credentials().add_tls_key(&key).await? { Ok(key) } else { Err(AddKeyError::Exists) }
    }

    /// The registered keys of an account, or of all, with the names of their accounts, oldest first. Keys of accounts that
    /// aren't configured any more are not among them.
    ///
    /// # Errors
    /// The database failed.
    pub async fn tls_keys(&self, account: Option<&str>) -> Result<Vec<(String, TlsKey)>, Error> {
        let mut named = Vec::new();
        for key in self.credentials().tls_keys().await? {
            let Some(login) = self.find(&key.login_address) else { continue };
            let name = &login.account.name;
            if account.is_none_or(|wanted| wanted == name) && self.store().account(name).await?.id() == key.account {
                named.push((name.clone(), key));
            }
        }
        Ok(named)
    }

    /// A registered key with the name of its account.
    ///
    /// # Errors
    /// The database failed.
    pub async fn tls_key(&self, fingerprint: &str) -> Result<Option<(String, TlsKey)>, Error> {
        let Some(key) = self.credentials().tls_key(fingerprint).await? else { return Ok(None) };
        let name = self.find(&key.login_address).map_or_else(String::new, |login| login.account.name.clone());
        Ok(Some((name, key)))
    }

    /// Forgets a registered key; false if there is none.
    ///
    /// # Errors
    /// The database failed.
    pub async fn remove_tls_key(&self, fingerprint: &str) -> Result<bool, Error> {
        self.credentials().remove_tls_key(fingerprint).await
    }
}
