//! Filing one message into several accounts, so that doing it again after a failure doubles nothing.
//!
//! No transaction spans accounts. When the server ends halfway through the members of a list, some have the message, and
//! the sender, who heard nothing, sends it again. So such a delivery is a [`Filing`]: a row in the server's database, made
//! before anybody has the message and found again by a digest of envelope and bytes. Each account notes the filing with
//! the message, in one transaction ([`WriteTx::file_once`](crate::WriteTx::file_once)).
//!
//! A filing that wasn't finished goes on when the same message comes again. One that was is gone: who sends the same bytes twice on
//! purpose has them delivered twice. Where several processes share a PostgreSQL, one can't tell whether another's filing is
//! going on or was left, and takes the same bytes at the same time for the same delivery.

use crate::db::{self, Database};
use crate::error::Error;
use crate::params;
use mox_base::{Clock, Timestamp};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Senders give up earlier, RFC 5321 §4.5.4.1: nobody comes back for an older filing.
const KEEP: Duration = Duration::from_secs(10 * 24 * 3600);

/// What is filed, as far as recognising it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilingKey([u8; 32]);

impl FilingKey {
    /// For a message with this envelope.
    ///
    /// # Errors
    /// The message can't be read.
    pub fn of(envelope: &[&str], message: &mut dyn Read) -> io::Result<Self> {
        let mut digest = Sha256::new();
        for word in envelope {
            digest.update(word.as_bytes());
            // No word of an envelope has one, so that none runs into the next.
            digest.update([0]);
        }
        let mut buffer = vec![0; 16 << 10];
        loop {
            match message.read(&mut buffer) {
                Ok(0) => return Ok(Self(digest.finalize().into())),
                Ok(n) => digest.update(buffer.get(..n).unwrap_or_default()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }
}

/// A delivery into several accounts that is going on. Dropped without [`Filing::finish`], it waits for its sender to try again.
#[derive(Debug)]
pub struct Filing {
    mark: FilingMark,
    busy: Arc<Mutex<Busy>>,
}

/// What an account notes of a filing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilingMark {
    pub(crate) id: i64,
    /// The oldest that may still go on: what accounts noted of earlier ones is of no use any more.
    pub(crate) oldest: i64,
}

/// Filings of this process, by number.
#[derive(Debug, Default)]
struct Busy {
    /// Those that go on.
    active: BTreeSet<i64>,
    /// Those whose row is still to be deleted.
    finished: BTreeSet<i64>,
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Filing {
    /// For the accounts.
    pub const fn mark(&self) -> FilingMark {
        self.mark
    }

    /// All that were to get the message have it.
    pub fn finish(self) {
        lock(&self.busy).finished.insert(self.mark.id);
    }
}

impl Drop for Filing {
    fn drop(&mut self) {
        lock(&self.busy).active.remove(&self.mark.id);
    }
}

/// The filings of a store.
#[derive(Debug)]
pub(crate) struct Filings {
    server: Database,
    clock: Arc<dyn Clock>,
    busy: Arc<Mutex<Busy>>,
}

impl Filings {
    pub(crate) fn new(server: Database, clock: Arc<dyn Clock>) -> Self {
        Self { server, clock, busy: Arc::default() }
    }

    pub(crate) async fn begin(&self, key: impl FnOnce() -> Result<FilingKey, Error> + Send + 'static) -> Result<Filing, Error> {
        let busy = Arc::clone(&self.busy);
        let now = self.clock.now();
        let (filing, forgotten) = self.server.run_after(key, move |tx, (), key| begin(tx, &busy, key, now)).await?;
        self.forgotten(&forgotten);
        Ok(filing)
    }

    /// Deletes the rows of finished filings. They don't wait for the next one.
    pub(crate) async fn tidy(&self) -> Result<(), Error> {
        let finished: Vec<i64> = lock(&self.busy).finished.iter().copied().collect();
        if finished.is_empty() {
            return Ok(());
        }
        let ids = finished.clone();
        self.server.write(move |tx| forget(tx, &ids)).await?;
        self.forgotten(&finished);
        Ok(())
    }

    /// Only once their deletion is committed: until then nobody may take them for abandoned ones.
    fn forgotten(&self, ids: &[i64]) {
        let mut busy = lock(&self.busy);
        for id in ids {
            busy.finished.remove(id);
        }
    }
}

fn begin(tx: &db::Tx<'_>, busy: &Arc<Mutex<Busy>>, key: &FilingKey, now: Timestamp) -> Result<(Filing, Vec<i64>), Error> {
    if tx.is_postgres() {
        // Another process' filing with a smaller number must not become visible after we looked for the oldest.
        tx.query("SELECT CAST(pg_advisory_xact_lock(74520020) AS TEXT)", &[], |_| Ok::<_, Error>(()))?;
    }
    let finished: Vec<i64> = lock(busy).finished.iter().copied().collect();
    forget(tx, &finished)?;
    tx.exec("DELETE FROM filing WHERE started < $1", params![now.before(KEEP)])?;
    let mut id = None;
    tx.query("SELECT id FROM filing WHERE key = $1 ORDER BY id", params![&key.0], |r| {
        let found = r.int(0)?;
        if id.is_none() && !lock(busy).active.contains(&found) {
            id = Some(found);
        }
        Ok::<_, Error>(())
    })?;
    let id = match id {
        Some(id) => id,
        None => {
            let insert = "INSERT INTO filing (key, started) VALUES ($1, $2) RETURNING id";
            tx.query_row(insert, params![&key.0, now], |r| Ok::<_, Error>(r.int(0)?))?
        }
    };
    let oldest = tx.query_row("SELECT MIN(id) FROM filing", &[], |r| Ok::<_, Error>(r.int(0)?))?;
    // From here on it is active; if the commit fails, it is dropped with this closure's result.
    lock(busy).active.insert(id);
    Ok((Filing { mark: FilingMark { id, oldest }, busy: Arc::clone(busy) }, finished))
}

fn forget(tx: &db::Tx<'_>, ids: &[i64]) -> Result<(), Error> {
    for id in ids {
        tx.exec("DELETE FROM filing WHERE id = $1", params![*id])?;
    }
    Ok(())
}
