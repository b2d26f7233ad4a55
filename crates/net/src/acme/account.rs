//! Our account with a provider: found by its key, registered when there is none.
//!
//! A key that the provider doesn't know (made by Go's server at its start, or for another provider of that name) is put away, as the
//! library can't register one together with an external account. So is one of RSA, with which it can't sign.

use super::ask::Asking;
use super::files::Files;
use super::provider::{AcmeError, Settings};
use crate::http::Client;
use crate::pem;
use instant_acme::{Account, AccountBuilder, Error, ExternalAccountKey, Key, NewAccount};
use mox_base::Secret;
use rustls::pki_types::PrivatePkcs8KeyDer;

/// What the file of the account's key says of itself.
const NOTE: &str = "account key of mox for ACME";

/// Ties our account to one that exists with the provider, RFC 8555 §7.3.4.
#[derive(Clone, Debug)]
pub struct ExternalAccount {
    /// The key's name.
    pub key_id: String,
    /// The key.
    pub key: Secret<Vec<u8>>,
}

/// The account, if the provider knows one of the key on disk.
pub(super) async fn existing(settings: &Settings, client: &Client) -> Result<Option<Account>, AcmeError> {
    let Some(text) = read_key(settings).await? else { return Ok(None) };
    let block = pem::blocks(&text).into_iter().find(|block| block.label == "PRIVATE KEY");
    let der = PrivatePkcs8KeyDer::from(block.ok_or(AcmeError::AccountKey("no PEM block PRIVATE KEY".into()))?.der);
    let key = match Key::from_pkcs8_der(der.clone_key()) {
        Ok(key) => key,
        Err(_) if is_rsa(der.secret_pkcs8_der()) => {
            let why = "its RSA key isn't supported; CAA records that name the account have to be changed";
            tracing::warn!(target: "autotls", provider = settings.name, why, "the acme account can't be used, there will be a new one");
            return Ok(None);
        }
        Err(error) => return Err(AcmeError::AccountKey(format!("only ECDSA P-256 is supported: {error}"))),
    };
    match builder(settings, client).from_key((key, der.into()), settings.directory_url.clone()).await {
        Ok((account, _)) => Ok(Some(account)),
        // RFC 8555 §7.3.1.
        Err(Error::Api(problem)) if problem.r#type.as_deref() == Some("urn:ietf:params:acme:error:accountDoesNotExist") => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether a key in PKCS #8 is one of RSA, which administrators may have put in place of the one that Go's server makes.
fn is_rsa(der: &[u8]) -> bool {
    /// `rsaEncryption`, RFC 8017 appendix C.
    const RSA: &[u8] = &[0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
    der.windows(RSA.len()).any(|window| window == RSA)
}

/// The account, registered if need be.
pub(super) async fn ensure(settings: &Settings, client: &Client) -> Result<Account, AcmeError> {
    if let Some(account) = existing(settings, client).await? {
        return Ok(account);
    }
    let contact = format!("mailto:{}", settings.contact);
    let new = NewAccount { contact: &[&contact], terms_of_service_agreed: true, only_return_existing: false };
    let external = settings.external_account.as_ref().map(|e| ExternalAccountKey::new(e.key_id.clone(), e.key.expose()));
    let (account, credentials) = builder(settings, client).create(&new, settings.directory_url.clone(), external.as_ref()).await?;
    let text = pem::encode_noted("PRIVATE KEY", Some(NOTE), credentials.private_key().secret_pkcs8_der());
    let files = settings.files.clone();
    blocking(move || {
        if files.account_key()?.is_some() {
            files.retire_account_key()?;
        }
        files.write_account_key(&text)
    })
    .await?;
    tracing::info!(target: "autotls", provider = settings.name, url = account.id(), "registered acme account");
    Ok(account)
}

/// The URL of the account at the provider, for CAA records, RFC 8657 §3; none without an account.
///
/// # Errors
/// See [`AcmeError`].
pub async fn account_url(files: Files, directory_url: &str, user_agent: &str, client: &Client) -> Result<Option<String>, AcmeError> {
    let settings = Settings::for_lookup(files, directory_url, user_agent);
    Ok(existing(&settings, client).await?.map(|account| account.id().to_owned()))
}

fn builder(settings: &Settings, client: &Client) -> AccountBuilder {
    Account::builder_with_http(Box::new(Asking { client: client.clone(), user_agent: settings.user_agent.clone() }))
}

async fn read_key(settings: &Settings) -> Result<Option<String>, AcmeError> {
    let files = settings.files.clone();
    Ok(blocking(move || files.account_key()).await?)
}

/// Files, off the reactor.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> std::io::Result<T> + Send + 'static) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other)?
}
