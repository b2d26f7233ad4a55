//! API keys: passwords of an account for the webapi only, each with what it may do.
//!
//! No other service takes them: they are asked for here and nowhere else. What the words of a key's scope mean is for the service
//! to know; whether it is anybody's, and has not ended, is decided here.

use crate::logins::{Login, Logins, normalized};
use crate::password::{Client, Refused};
use mox_base::{Address, Secret, Timestamp};
use mox_sasl::server::Wrong;
use mox_store::Error;
use mox_store::credentials::{ApiKey, MAX_API_KEYS, NewApiKey};

/// The longest name of a key, in bytes.
const MAX_NAME: usize = 100;

/// A key to be made, by names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedApiKey {
    /// The account that it is for.
    pub account: String,
    /// What to call it.
    pub name: String,
    /// What it may be used for; empty for everything.
    pub scopes: Vec<String>,
    /// The only author that it may send as, or none.
    pub from: Option<Address>,
    /// When it ends, or never.
    pub expires: Option<Timestamp>,
}

/// Why a key isn't made.
#[derive(Debug, thiserror::Error)]
pub enum AddApiKeyError {
    /// There is no such account.
    #[error("no such account")]
    Account,
    /// The name is empty, too long, or has control characters.
    #[error("a key needs a name, of at most {MAX_NAME} bytes")]
    Name,
    /// The account may not send with the address.
    #[error("the account may not send with this address")]
    From,
    /// It would have ended before it is made.
    #[error("the key would have ended already")]
    Expired,
    /// The account has enough of them.
    #[error("the account has {MAX_API_KEYS} keys already")]
    TooMany,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] Error),
}

impl Logins {
    /// As [`Self::log_in`], and instead of the password an API key is as good: then with the key, which limits what may be done.
    ///
    /// # Errors
    /// See [`Refused`]. What is refused by the limit isn't recorded.
    pub async fn log_in_or_key(&self, client: &Client, user: &str, password: Secret<String>) -> Result<(Login, Option<ApiKey>), Refused> {
        let key = match self.credentials().api_key(&password).await {
            // Removed, or a password that looks like a key.
            Ok(None) => return self.log_in(client, user, password).await.map(|login| (login, None)),
            Ok(Some(key)) => Ok(key),
            Err(error) => Err(error),
        };
        let client = Client { mechanism: "apikey", ..client.clone() };
        if self.is_limited(client.protocol, client.remote_ip) {
            return Err(Refused::Limited);
        }
        let user = normalized(user);
        let outcome = match &key {
            Ok(key) => self.key_owner(&user, key).await,
            Err(error) => {
                tracing::error!(%error, "looking up api key");
                Err(Refused::Unavailable)
            }
        };
        self.ended(&client, user, &outcome);
        let (login, key) = (outcome?, key.map_err(|_| Refused::Unavailable)?);
        if let Err(error) = self.credentials().note_api_key_use(&key).await {
            tracing::error!(%error, "noting use of api key");
        }
        Ok((login, Some(key)))
    }

    async fn key_owner(&self, user: &str, key: &ApiKey) -> Result<Login, Refused> {
        let login = self.find(user).ok_or(Refused::Wrong(Wrong::User))?;
        let id = self.store().account(&login.account.name).await.map(|account| account.id());
        let id = id.map_err(|error| {
            tracing::error!(%error, "opening account");
            Refused::Unavailable
        })?;
        if id != key.account || key.expires.is_some_and(|at| at <= self.store().clock().now()) {
            return Err(Refused::Wrong(Wrong::Credentials));
        }
        login.enabled()
    }

    /// Makes a key for an account; with its text, which can't be had again.
    ///
    /// # Errors
    /// See [`AddApiKeyError`].
    pub async fn add_api_key(&self, wanted: WantedApiKey) -> Result<(ApiKey, Secret<String>), AddApiKeyError> {
        let WantedApiKey { account, name, scopes, from, expires } = wanted;
        let directory = self.directory();
        if directory.account(&account).is_none() {
            return Err(AddApiKeyError::Account);
        }
        if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
            return Err(AddApiKeyError::Name);
        }
        if from.as_ref().is_some_and(|from| directory.check_sender(&account, from).is_err()) {
            return Err(AddApiKeyError::From);
        }
        if expires.is_some_and(|at| at <= self.store().clock().now()) {
            return Err(AddApiKeyError::Expired);
        }
        let account = self.store().account(&account).await?.id();
        let added = self.credentials().add_api_key(NewApiKey { account, name, scopes, from, expires }).await?;
        added.ok_or(AddApiKeyError::TooMany)
    }

    /// The keys of an account, or of all that are configured, with the names of their accounts, oldest first.
    ///
    /// # Errors
    /// The database failed.
    pub async fn api_keys(&self, account: Option<&str>) -> Result<Vec<(String, ApiKey)>, Error> {
        let keys = self.credentials().api_keys().await?;
        let mut named = Vec::new();
        for settings in self.directory().accounts().filter(|settings| account.is_none_or(|wanted| wanted == settings.name)) {
            let id = self.store().account(&settings.name).await?.id();
            named.extend(keys.iter().filter(|key| key.account == id).map(|key| (settings.name.clone(), key.clone())));
        }
        named.sort_by(|(_, a), (_, b)| (a.created, &a.id).cmp(&(b.created, &b.id)));
        Ok(named)
    }

    /// Forgets a key; false if there is none with this id. What is being done with it goes on.
    ///
    /// # Errors
    /// The database failed.
    pub async fn remove_api_key(&self, id: &str) -> Result<bool, Error> {
        self.credentials().remove_api_key(id).await
    }
}
