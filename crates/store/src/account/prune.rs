//! Forgetting what changed long ago.
//!
//! The table `change` would grow with each change for ever. A transaction that is the first of its day notes how far history
//! had got; what was before such a note of long ago is forgotten, and so is what lies very many changes back. First the
//! account says so (`forgotten`): who asks for what changed since before then is told to look at everything, RFC 7162
//! §3.2.5.2. Then the rows go, with the mailboxes that were deleted before then, a few in each of the following transactions.

use super::core::{AccountScope, Core};
use crate::db::{self, Tx};
use crate::params;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// Rows deleted in one transaction at most.
const ROWS: i64 = 500;

/// Mailboxes looked at in one transaction at most.
const MAILBOXES: usize = 16;

const DAY: i64 = 24 * 3600;

/// How much history an account keeps: clients that come back within it needn't read everything again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct History {
    /// For how long, in whole days.
    pub age: Duration,
    /// And no more than this many operations.
    pub operations: u64,
}

/// A year, and a million operations.
impl Default for History {
    fn default() -> Self {
        Self { age: Duration::from_secs(365 * 24 * 3600), operations: 1_000_000 }
    }
}

/// Where forgetting is.
#[derive(Debug)]
pub(super) struct Pruning {
    keep: History,
    /// The day of the last note.
    noted: AtomicI64,
    /// The mailbox to look at next; [`DONE`] if all were.
    next: AtomicI64,
}

const DONE: i64 = i64::MAX;

impl Pruning {
    pub(super) fn new(keep: History) -> Self {
        // A crash may have left rows.
        Self { keep, noted: AtomicI64::new(i64::MIN), next: AtomicI64::new(0) }
    }
}

impl AccountScope {
    /// Notes how far history has got, once a day, and forgets some of what is old.
    pub(super) fn prune(&self, tx: &Tx<'_>, core: &mut Core) -> Result<(), db::Error> {
        let pruning = &self.pruning;
        if !core.changes.is_empty() {
            let today = self.clock.now().secs().div_euclid(DAY);
            if pruning.noted.swap(today, Ordering::AcqRel) != today && self.note(tx, core, today)? {
                pruning.next.store(0, Ordering::Release);
            }
        }
        let next = pruning.next.load(Ordering::Acquire);
        if next != DONE {
            // Should the commit fail, rows stay until the next round.
            let after = if core.now.state.forgotten == 0 { DONE } else { self.delete_some(tx, core.now.state.forgotten, next)? };
            pruning.next.store(after, Ordering::Release);
        }
        Ok(())
    }

    /// Whether there is now more to forget.
    fn note(&self, tx: &Tx<'_>, core: &mut Core, today: i64) -> Result<bool, db::Error> {
        let done = core.base.state.modseq;
        let insert = "INSERT INTO history_note (account_id, day, modseq) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
        tx.exec(insert, params![self.id, today, done])?;
        let keep = self.pruning.keep;
        let old = today.saturating_sub(i64::try_from(keep.age.as_secs()).unwrap_or(i64::MAX) / DAY);
        let select = "SELECT COALESCE(MAX(modseq), 0) FROM history_note WHERE account_id = $1 AND day <= $2";
        let by_age = tx.query_row(select, params![self.id, old], |r| r.int(0))?;
        tx.exec("DELETE FROM history_note WHERE account_id = $1 AND day <= $2", params![self.id, old])?;
        let by_number = done.saturating_sub(i64::try_from(keep.operations).unwrap_or(i64::MAX));
        let forgotten = by_age.max(by_number);
        let more = forgotten > core.now.state.forgotten;
        if more {
            core.now.state.forgotten = forgotten;
        }
        Ok(more)
    }

    /// Deletes rows of forgotten changes, from this mailbox on (0 stands for the list of mailboxes); the mailbox to go on with.
    fn delete_some(&self, tx: &Tx<'_>, forgotten: i64, from: i64) -> Result<i64, db::Error> {
        // A mailbox that was deleted has nothing to tell any more once that is forgotten.
        let mut mailboxes = Vec::new();
        if from == 0 {
            mailboxes.push((0, false));
        }
        tx.query(
            &format!(
                "SELECT id, CASE WHEN expunged <> 0 AND modseq <= $3 THEN 1 ELSE 0 END FROM mailbox WHERE account_id = $1 AND id >= $2 ORDER BY id LIMIT {MAILBOXES}"
            ),
            params![self.id, from, forgotten],
            |r| {
                mailboxes.push((r.int(0)?, r.int(1)? != 0));
                Ok::<_, db::Error>(())
            },
        )?;
        let complete = mailboxes.len() < MAILBOXES;
        let mut left = ROWS;
        let mut next = DONE;
        for (id, gone) in mailboxes {
            let oldest = format!(
                "SELECT COUNT(*), COALESCE(MAX(o.modseq), 0) FROM (SELECT modseq FROM change WHERE account_id = $1 AND mailbox_id = $2 \
                 AND modseq <= $3 ORDER BY modseq LIMIT {left}) o"
            );
            let (rows, up_to) = tx.query_row(&oldest, params![self.id, id, forgotten], |r| Ok::<_, db::Error>((r.int(0)?, r.int(1)?)))?;
            if rows > 0 {
                tx.exec("DELETE FROM change WHERE account_id = $1 AND mailbox_id = $2 AND modseq <= $3", params![self.id, id, up_to])?;
            }
            left = left.saturating_sub(rows);
            if left <= 0 {
                return Ok(id);
            }
            if gone {
                tx.exec("DELETE FROM keyword WHERE account_id = $1 AND mailbox_id = $2", params![self.id, id])?;
                tx.exec("DELETE FROM mailbox WHERE account_id = $1 AND id = $2", params![self.id, id])?;
            }
            next = id.saturating_add(1);
        }
        Ok(if complete { DONE } else { next })
    }
}
