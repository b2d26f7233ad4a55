//! API keys: random passwords of an account for the webapi only, each with what it may do.
//!
//! A key's text is `moxkey_<id>_<secret>`, in letters and digits. The id is public: it names the key in lists and finds its row. The secret has
//! 160 random bits, so a plain SHA-256 of the text is all that is kept: nobody finds the text by trying. It is shown once, when it is made.

use super::Credentials;
use crate::db::{self, Row};
use crate::error::Error;
use crate::params;
use mox_base::{AccountId, Address, Random, Secret, Timestamp};
use sha2::{Digest as _, Sha256};
use std::time::Duration;
use subtle::ConstantTimeEq as _;

/// The most keys of an account.
pub const MAX_API_KEYS: u64 = 100;

const PREFIX: &str = "moxkey_";
const ID: usize = 8;
const SECRET: usize = 32;

/// Without letters that look like digits.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// The last use is noted at most so often.
const USE_NOTED: Duration = Duration::from_secs(60);

/// An API key, without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// What it is called in lists; the start of its text.
    pub id: String,
    /// Whose it is.
    pub account: AccountId,
    /// What its owner calls it.
    pub name: String,
    /// What it may be used for, in words of those who check it; empty for everything.
    pub scopes: Vec<String>,
    /// The only author that it may send as; none for those of the account.
    pub from: Option<Address>,
    /// When it was made.
    pub created: Timestamp,
    /// When it ends.
    pub expires: Option<Timestamp>,
    /// When it was last used, give or take a minute.
    pub used: Option<Timestamp>,
}

/// A key to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewApiKey {
    /// See [`ApiKey`].
    pub account: AccountId,
    /// See [`ApiKey`].
    pub name: String,
    /// Words without spaces, see [`ApiKey`].
    pub scopes: Vec<String>,
    /// See [`ApiKey`].
    pub from: Option<Address>,
    /// See [`ApiKey`].
    pub expires: Option<Timestamp>,
}

const COLUMNS: &str = "id, account_id, name, scopes, sender, created, expires, used";

fn read(r: &Row<'_>) -> Result<ApiKey, Error> {
    let from = r.opt_text(4)?.map(str::parse).transpose();
    Ok(ApiKey {
        id: r.text(0)?.to_owned(),
        account: AccountId(r.int(1)?),
        name: r.text(2)?.to_owned(),
        scopes: r.text(3)?.split_whitespace().map(str::to_owned).collect(),
        from: from.map_err(|_| db::Error::Corrupt("sender of api key".to_owned()))?,
        created: Timestamp::from_micros(r.int(5)?),
        expires: r.opt_int(6)?.map(Timestamp::from_micros),
        used: r.opt_int(7)?.map(Timestamp::from_micros),
    })
}

/// Random letters and digits, five bits each.
fn word(random: &dyn Random, length: usize) -> String {
    let mut bytes = vec![0; length];
    random.fill(&mut bytes);
    bytes.into_iter().filter_map(|b| ALPHABET.get(usize::from(b % 32))).map(|b| char::from(*b)).collect()
}

/// The id in a text that has the form of a key.
fn id_in(text: &str) -> Option<&str> {
    let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
    let of = |word: &str, length| word.len() == length && word.bytes().all(|b| ALPHABET.contains(&b));
    (of(id, ID) && of(secret, SECRET)).then_some(id)
}

impl Credentials {
    /// Makes a key; with its text, which isn't kept. None if the account has [`MAX_API_KEYS`] already.
    ///
    /// # Errors
    /// The database failed.
    pub async fn add_api_key(&self, new: NewApiKey) -> Result<Option<(ApiKey, Secret<String>)>, Error> {
        let (random, created) = (&*self.inner.random, self.inner.clock.now());
        let NewApiKey { account, name, scopes, from, expires } = new;
        let key = ApiKey { id: word(random, ID), account, name, scopes, from, created, expires, used: None };
        let text = format!("{PREFIX}{}_{}", key.id, word(random, SECRET));
        let hash: [u8; 32] = Sha256::digest(&text).into();
        let row = key.clone();
        let added = self.inner.db.write(move |tx| {
            let count = tx.query_row("SELECT count(*) FROM api_key WHERE account_id = $1", params![row.account], |r| r.int(0))?;
            if u64::try_from(count).unwrap_or(u64::MAX) >= MAX_API_KEYS {
                return Ok(false);
            }
            let from = row.from.as_ref().map(ToString::to_string);
            tx.exec(
                "INSERT INTO api_key (id, account_id, hash, name, scopes, sender, created, expires) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
                params![&row.id, row.account, &hash, &row.name, &row.scopes.join(" "), from.as_deref(), row.created, row.expires],
            )?;
            Ok::<_, Error>(true)
        });
        Ok(if added.await? { Some((key, Secret::new(text))) } else { None })
    }

    /// The key of this text, also if it has ended; none for any other text.
    ///
    /// # Errors
    /// The database failed.
    pub async fn api_key(&self, text: &Secret<String>) -> Result<Option<ApiKey>, Error> {
        let Some(id) = id_in(text.expose()).map(str::to_owned) else { return Ok(None) };
        let hash: [u8; 32] = Sha256::digest(text.expose()).into();
        let sql = format!("SELECT {COLUMNS}, hash FROM api_key WHERE id = $1");
        let found = self.inner.db.read(move |tx| {
            tx.query_opt(&sql, params![&id], |r| {
                let right: bool = r.blob(8)?.ct_eq(&hash).into();
                Ok::<_, Error>(if right { Some(read(r)?) } else { None })
            })
        });
        Ok(found.await?.flatten())
    }

    /// Notes that a key is used, unless that was noted just before.
    ///
    /// # Errors
    /// The database failed.
    pub async fn note_api_key_use(&self, key: &ApiKey) -> Result<(), Error> {
        let now = self.inner.clock.now();
        if key.used.is_some_and(|used| now.since(used) < USE_NOTED) {
            return Ok(());
        }
        let (id, before) = (key.id.clone(), now.before(USE_NOTED));
        self.inner
            .db
            .write(move |tx| {
                tx.exec("UPDATE api_key SET used = $1 WHERE id = $2 AND (used IS NULL OR used <= $3)", params![now, &id, before])?;
                Ok(())
            })
            .await
    }

    /// All keys, oldest first.
    ///
    /// # Errors
    /// The database failed.
    pub async fn api_keys(&self) -> Result<Vec<ApiKey>, Error> {
        let sql = format!("SELECT {COLUMNS} FROM api_key ORDER BY created, id");
        self.inner.db.read(move |tx| tx.query_all(&sql, &[], read)).await
    }

    /// Forgets a key; false if there is none with this id.
    ///
    /// # Errors
    /// The database failed.
    pub async fn remove_api_key(&self, id: &str) -> Result<bool, Error> {
        let id = id.to_owned();
        let removed = self.inner.db.write(move |tx| Ok::<_, Error>(tx.exec("DELETE FROM api_key WHERE id = $1", params![&id])?));
        Ok(removed.await? > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mox_testkit::SeededRandom;

    #[test]
    fn the_form_of_a_key() {
        let random = SeededRandom::new(1);
        let (id, secret) = (word(&random, ID), word(&random, SECRET));
        assert_eq!(id_in(&format!("moxkey_{id}_{secret}")), Some(id.as_str()));
        for other in [
            String::new(),
            "moxmoxmox".to_owned(),
            format!("moxkey_{id}_{secret}0"),
            format!("moxkey_{secret}_{id}"),
            format!("moxkey_{id}{secret}"),
            format!("moxkey_{id}_{}", "i".repeat(SECRET)),
        ] {
            assert_eq!(id_in(&other), None, "{other}");
        }
    }
}
