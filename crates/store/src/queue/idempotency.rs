//! Requests that may be repeated: a key that a client chose, and what it was answered, for a day.
//!
//! The key is taken and the answer kept in the transaction that queues the message, so that whatever happens, a repeated request either
//! finds that the message is queued and what was answered, or that nothing was done.

use super::Queue;
use super::add::{AddStep, NewEntry};
use crate::db::{Error, Sql, Tx};
use crate::params;
use mox_base::{QueueId, Timestamp};
use std::fmt;
use std::time::Duration;

/// How long a key is remembered.
pub const KEPT: Duration = Duration::from_secs(24 * 3600);

/// A request that can be recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestKey {
    /// Whose request.
    pub account: String,
    /// What its client calls it.
    pub key: String,
    /// Of all that was requested.
    pub digest: [u8; 32],
}

/// What was answered to the first request with a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EarlierAnswer {
    /// The digest of that request: another one means that the key is used for something else.
    pub digest: [u8; 32],
    /// The answer.
    pub answer: Vec<u8>,
}

impl EarlierAnswer {
    /// As [`super::AddError::Answered`] carries it.
    fn to_bytes(&self) -> Vec<u8> {
        [self.digest.as_slice(), &self.answer].concat()
    }

    /// From there; none if it isn't from [`OncePerKey`].
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (digest, answer) = bytes.split_first_chunk()?;
        Some(Self { digest: *digest, answer: answer.to_vec() })
    }
}

/// Makes the answer from the ids of the entries.
pub type MakeAnswer = dyn Fn(&[NewEntry], &[QueueId]) -> Vec<u8> + Send + Sync;

/// Queues a message for one of all requests with a key.
pub struct OncePerKey {
    request: RequestKey,
    now: Timestamp,
    answer: Box<MakeAnswer>,
}

impl fmt::Debug for OncePerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OncePerKey").field("request", &self.request).finish_non_exhaustive()
    }
}

impl OncePerKey {
    /// For a request, with what makes its answer.
    pub fn new(request: RequestKey, now: Timestamp, answer: Box<MakeAnswer>) -> Self {
        Self { request, now, answer }
    }
}

impl AddStep for OncePerKey {
    fn before(&self, tx: &Tx<'_>) -> Result<Option<Vec<u8>>, Error> {
        Ok(take(tx, &self.request, self.now)?.map(|earlier| earlier.to_bytes()))
    }

    fn after(&self, tx: &Tx<'_>, entries: &[NewEntry], ids: &[QueueId]) -> Result<(), Error> {
        keep_answer(tx, &self.request, &(self.answer)(entries, ids))
    }
}

/// Takes the key, or gives the answer of who has it.
fn take(tx: &Tx<'_>, request: &RequestKey, now: Timestamp) -> Result<Option<EarlierAnswer>, Error> {
    let RequestKey { account, key, digest } = request;
    tx.exec("DELETE FROM queue_request WHERE created <= $1", params![now.before(KEPT)])?;
    // Taking the key waits for another server that has taken it in a transaction that isn't finished.
    let taken = tx.exec(
        "INSERT INTO queue_request (account, request_key, digest, answer, created) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (account, request_key) DO NOTHING",
        params![account, key, digest.as_slice(), b"".as_slice(), now],
    )?;
    if taken > 0 {
        return Ok(None);
    }
    earlier(tx, account, key, now)?.map_or_else(|| Err(Error::NoRow("queue_request".to_owned())), |earlier| Ok(Some(earlier)))
}

fn keep_answer(tx: &Tx<'_>, request: &RequestKey, answer: &[u8]) -> Result<(), Error> {
    let sql = "UPDATE queue_request SET answer = $3 WHERE account = $1 AND request_key = $2";
    tx.exec(sql, params![&request.account, &request.key, answer])?;
    Ok(())
}

fn earlier(tx: &Tx<'_>, account: &str, key: &str, now: Timestamp) -> Result<Option<EarlierAnswer>, Error> {
    let found = tx.query_opt(
        Sql::from("SELECT digest, answer FROM queue_request WHERE account = $1 AND request_key = $2 AND created > $3"),
        params![account, key, now.before(KEPT)],
        |row| Ok::<_, Error>(<[u8; 32]>::try_from(row.blob(0)?).ok().zip(Some(row.blob(1)?.to_vec()))),
    )?;
    Ok(found.flatten().map(|(digest, answer)| EarlierAnswer { digest, answer }))
}

impl Queue {
    /// What was answered to an earlier request with the key.
    ///
    /// # Errors
    /// The database failed.
    pub async fn earlier_answer(&self, account: &str, key: &str, now: Timestamp) -> Result<Option<EarlierAnswer>, Error> {
        let (account, key) = (account.to_owned(), key.to_owned());
        self.db.read(move |tx| earlier(tx, &account, &key, now)).await
    }

    /// Takes a key for a request of which each part has a key of its own: whatever comes of the parts, no other request gets it. An
    /// answer if it was taken before, by the same request or another one.
    ///
    /// # Errors
    /// The database failed.
    pub async fn take_key(&self, request: RequestKey, now: Timestamp) -> Result<Option<EarlierAnswer>, Error> {
        self.write(move |tx| take(tx, &request, now)).await
    }

    /// Replaces the answer to a request, when something became of it after it was queued.
    ///
    /// # Errors
    /// The database failed.
    pub async fn replace_answer(&self, request: RequestKey, answer: Vec<u8>) -> Result<(), Error> {
        self.write(move |tx| keep_answer(tx, &request, &answer)).await
    }
}
