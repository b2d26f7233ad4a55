//! Copies for senders: what is to be filed in the account's mailbox for sent mail, noted in the transaction that queues the message.
//!
//! No transaction spans the queue and an account. So the queue remembers that a copy is wanted, and keeps the message for as long; the account
//! notes the copy's number with the message ([`crate::WriteTx::copy_once`]); and what a crash left between is filed at the next start,
//! once. Copies that were filed are forgotten with the next submission, so that a copy costs no commit of its own.

use super::add::{AddStep, NewEntry};
use super::entry::QueueMessageId;
use super::finish::remove_message;
use super::{Queue, room};
use crate::db::{Error, Row, Tx};
use crate::params;
use mox_base::{QueueId, Random};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A number that no other copy has, in any queue: accounts note it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CopyId(pub(crate) i64);

/// A copy that is still to be filed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentCopy {
    /// Its number.
    pub id: CopyId,
    /// In whose account.
    pub account: String,
    /// The message whose body it has.
    pub message: QueueMessageId,
    /// The header fields before that.
    pub prefix: Vec<u8>,
}

/// Makes a submission want a copy, beside what another step does.
#[derive(Debug)]
pub struct WithCopy {
    id: CopyId,
    account: String,
    prefix: Vec<u8>,
    also: Option<Arc<dyn AddStep>>,
}

impl WithCopy {
    /// In this account, with these header fields before the body.
    pub fn new(account: String, prefix: Vec<u8>, random: &dyn Random, also: Option<Arc<dyn AddStep>>) -> Self {
        Self { id: CopyId(i64::try_from(random.u64() >> 1).unwrap_or(i64::MAX)), account, prefix, also }
    }

    /// The copy's number.
    pub const fn id(&self) -> CopyId {
        self.id
    }
}

impl AddStep for WithCopy {
    fn before(&self, tx: &Tx<'_>) -> Result<Option<Vec<u8>>, Error> {
        self.also.as_ref().map_or(Ok(None), |step| step.before(tx))
    }

    fn after(&self, tx: &Tx<'_>, entries: &[NewEntry], ids: &[QueueId]) -> Result<(), Error> {
        if let Some(first) = ids.first() {
            let message = tx.query_row("SELECT message FROM queue_entry WHERE id = $1", params![*first], |row| row.int(0))?;
            tx.exec(
                "INSERT INTO queue_copy (id, account, message, prefix) VALUES ($1, $2, $3, $4)",
                params![self.id.0, &self.account, message, &self.prefix],
            )?;
        }
        self.also.as_ref().map_or(Ok(()), |step| step.after(tx, entries, ids))
    }
}

/// Numbers of copies that were filed and are still to be forgotten.
#[derive(Debug, Default)]
pub(super) struct Filed(Mutex<Vec<CopyId>>);

impl Filed {
    fn lock(&self) -> MutexGuard<'_, Vec<CopyId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn take(&self) -> Vec<CopyId> {
        std::mem::take(&mut *self.lock())
    }

    /// They weren't forgotten after all.
    pub(super) fn put_back(&self, ids: Vec<CopyId>) {
        self.lock().extend(ids);
    }
}

/// Forgets copies, and the messages that nobody else needs; their files, to be deleted after the commit.
pub(super) fn forget(tx: &Tx<'_>, ids: &[CopyId]) -> Result<Vec<String>, Error> {
    let mut files = Vec::new();
    for id in ids {
        let message = tx.query_opt("DELETE FROM queue_copy WHERE id = $1 RETURNING message", params![id.0], |row| row.int(0))?;
        if let Some(message) = message
            && let Some(removed) = remove_message(tx, message, &mut files)?
        {
            room::give_back(tx, &removed.account, 0, removed.size)?;
        }
    }
    Ok(files)
}

impl Queue {
    /// The copies that are still to be filed, at most `limit`, after this one.
    ///
    /// # Errors
    /// The database failed.
    pub async fn copies(&self, after: Option<CopyId>, limit: u64) -> Result<Vec<SentCopy>, Error> {
        let done = self.filed.lock().clone();
        let after = after.map_or(-1, |id| id.0);
        let found = self
            .db
            .read(move |tx| {
                let mut found = Vec::new();
                let sql = format!("SELECT id, account, message, prefix FROM queue_copy WHERE id > $1 ORDER BY id LIMIT {limit}");
                tx.query(&sql, params![after], |row| {
                    found.push(copy(row)?);
                    Ok::<_, Error>(())
                })?;
                Ok::<_, Error>(found)
            })
            .await?;
        Ok(found.into_iter().filter(|copy| !done.contains(&copy.id)).collect())
    }

    /// A copy was filed, or can't be: it isn't wanted any more.
    pub fn copy_filed(&self, id: CopyId) {
        self.filed.lock().push(id);
    }

    /// Forgets copies that were filed, without waiting for the next submission.
    ///
    /// # Errors
    /// The database failed; they will be forgotten later.
    pub async fn copies_forgotten(&self) -> Result<(), Error> {
        let ids = self.filed.take();
        if ids.is_empty() {
            return Ok(());
        }
        let forgotten = ids.clone();
        match self.write(move |tx| forget(tx, &forgotten)).await {
            Ok(files) => {
                self.delete_files(files).await;
                Ok(())
            }
            Err(e) => {
                self.filed.put_back(ids);
                Err(e)
            }
        }
    }

    /// Forgets all copies for an account, which is being removed.
    ///
    /// # Errors
    /// The database failed.
    pub async fn forget_copies_of(&self, account: &str) -> Result<(), Error> {
        let account = account.to_owned();
        let files = self
            .write(move |tx| {
                let ids = tx.query_all("SELECT id FROM queue_copy WHERE account = $1", params![&account], |row| {
                    Ok::<_, Error>(CopyId(row.int(0)?))
                })?;
                forget(tx, &ids)
            })
            .await?;
        self.delete_files(files).await;
        Ok(())
    }
}

fn copy(row: &Row<'_>) -> Result<SentCopy, Error> {
    Ok(SentCopy {
        id: CopyId(row.int(0)?),
        account: row.text(1)?.to_owned(),
        message: QueueMessageId(row.int(2)?),
        prefix: row.blob(3)?.to_vec(),
    })
}
