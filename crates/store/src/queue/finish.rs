//! What came of entries: recorded, and ended in the same transaction when it was final, with all that follows from it.

use super::claim::{claim_domain, urgent_elsewhere, urgent_here};
use super::entry::{AttemptResult, DialedIps, ReportKind, stored_path};
use super::events::{Aftermath, EventEntry, EventKind, Happened, announce};
use super::suppression::{self, FailedDelivery, Source};
use super::{Claim, Claiming, HoldReason, Owner, Queue, refresh_domain, room, tally};
use crate::db::{Error, Tx};
use crate::params;
use mox_base::{QueueId, Timestamp};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// What came of one entry.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The entry.
    pub id: QueueId,
    /// The result to record.
    pub result: AttemptResult,
    /// Where connections were made to.
    pub dialed: DialedIps,
    /// Whether this was the end.
    pub ending: Ending,
    /// Whether the sender was told, or didn't want to be, that the time to deliver by has passed.
    pub told_late: bool,
}

/// How an entry goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It stays; the next attempt is already scheduled.
    Retry,
    /// It stays, and the attempt doesn't count: it ended by our own fault.
    Uncounted {
        /// When it is tried again.
        next: Timestamp,
    },
    /// As before, and isn't tried again until it can be, or somebody says so.
    Held {
        /// What has to change.
        reason: HoldReason,
    },
    /// It was delivered, and leaves the queue.
    Delivered,
    /// It won't be delivered, and leaves the queue.
    Failed,
    /// It isn't sent to such a recipient, and leaves the queue.
    Suppressed,
}

/// What [`Queue::finish`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finished {
    /// Entries that were no longer there, because an administrator removed them meanwhile: their outcome is lost.
    pub gone: Vec<QueueId>,
    /// Entries whose recipients were put on the suppression list.
    pub suppressing: Vec<QueueId>,
    /// Whether any was held.
    pub(super) held: bool,
    /// Files whose last entry is done.
    pub(super) files: Vec<String>,
}

impl Queue {
    /// Records outcomes of entries of a claimed domain, and ends the claim, in one transaction.
    ///
    /// # Errors
    /// The database failed: nothing was recorded, and the entries will be attempted again.
    pub async fn finish(
        &self,
        domain: String,
        owner: Owner,
        outcomes: Vec<Outcome>,
        aftermath: Arc<dyn Aftermath>,
    ) -> Result<Finished, Error> {
        let outcomes = Arc::new(outcomes);
        let finished = self
            .write(move |tx| {
                let mut finished = Finished::default();
                for outcome in outcomes.iter() {
                    apply(tx, outcome, &*aftermath, &mut finished)?;
                }
                refresh_domain(tx, &domain, Some(owner))?;
                Ok::<_, Error>(finished)
            })
            .await?;
        Ok(self.after_finish(finished).await)
    }

    /// As [`Queue::finish`], but goes on with the domain's next group if one is due: then the claim stays. It doesn't go on with bulk
    /// mail when something urgent waits for another domain.
    ///
    /// # Errors
    /// As [`Queue::finish`].
    pub async fn finish_and_claim(
        &self,
        domain: String,
        claiming: Claiming,
        backoff: impl Fn(&str, u32) -> Duration + Send + Sync + 'static,
        outcomes: Vec<Outcome>,
        aftermath: Arc<dyn Aftermath>,
    ) -> Result<(Finished, Option<Claim>), Error> {
        let (outcomes, backoff) = (Arc::new(outcomes), Arc::new(backoff));
        let (finished, claim) = self
            .write(move |tx| {
                let mut finished = Finished::default();
                for outcome in outcomes.iter() {
                    apply(tx, outcome, &*aftermath, &mut finished)?;
                }
                let yields = urgent_elsewhere(tx, claiming.now, &domain)? && !urgent_here(tx, claiming.now, &domain)?;
                let claim = if yields { None } else { claim_domain(tx, &claiming, &*backoff, &domain)? };
                if claim.is_none() {
                    refresh_domain(tx, &domain, Some(claiming.owner))?;
                }
                Ok::<_, Error>((finished, claim))
            })
            .await?;
        Ok((self.after_finish(finished).await, claim))
    }

    async fn after_finish(&self, mut finished: Finished) -> Finished {
        if finished.held {
            self.hold_changed.store(true, Ordering::Release);
        }
        self.wake();
        self.delete_files(std::mem::take(&mut finished.files)).await;
        finished
    }
}

fn apply(tx: &Tx<'_>, outcome: &Outcome, aftermath: &dyn Aftermath, finished: &mut Finished) -> Result<(), Error> {
    let (id, result) = (outcome.id, &outcome.result);
    let there = tx.query_opt(
        "UPDATE queue_entry SET dialed = $1 WHERE id = $2 RETURNING account, recipient",
        params![&outcome.dialed.to_text(), id],
        |row| Ok::<_, Error>((row.text(0)?.to_owned(), row.text(1)?.to_owned())),
    )?;
    let Some((account, recipient)) = there else {
        finished.gone.push(id);
        return Ok(());
    };
    if outcome.told_late {
        tx.exec("UPDATE queue_entry SET by_due = NULL WHERE id = $1", params![id])?;
    }
    record(tx, id, result)?;
    let now = result.start.after(result.duration);
    let kind = match outcome.ending {
        Ending::Retry => EventKind::Delayed,
        Ending::Delivered => EventKind::Delivered,
        Ending::Failed => EventKind::Failed,
        Ending::Suppressed => EventKind::Suppressed,
        Ending::Uncounted { next } => {
            let sql = "UPDATE queue_entry SET attempts = attempts - 1, next_attempt = $1 WHERE id = $2 AND attempts > 0";
            tx.exec(sql, params![next, id])?;
            return Ok(());
        }
        Ending::Held { reason } => {
            let sql = "UPDATE queue_entry SET attempts = CASE WHEN attempts > 0 THEN attempts - 1 ELSE 0 END, next_attempt = $1, hold = 1, \
                       hold_reason = $2 WHERE id = $3";
            tx.exec(sql, params![now, reason.code(), id])?;
            finished.held = true;
            return Ok(());
        }
    };
    let mut suppressing = false;
    // Where reports aren't taken, other mail may be: they have lists of their own.
    let is_report = || Ok::<_, Error>(EventEntry::queued(tx, id)?.is_some_and(|entry| entry.report != ReportKind::None));
    if kind == EventKind::Failed && result.code > 0 && !is_report()? {
        let recipient = stored_path(&recipient)?;
        let (code, secode) = (result.code, result.secode.as_str());
        let (error, expires) = (result.error.as_str(), aftermath.suppressed_until(&account, now));
        let failed =
            FailedDelivery { id, account: &account, recipient: &recipient, code, secode, error, source: Source::Queue, now, expires };
        suppressing = suppression::after_failure(tx, &failed)?;
        if suppressing {
            finished.suppressing.push(id);
        }
    }
    announce(tx, aftermath, Happened { id, account: &account, kind, result, suppressing, at: now })?;
    if kind != EventKind::Delayed {
        retire(tx, id, kind, now, aftermath.keep_until(&account, now), &mut finished.files)?;
    }
    Ok(())
}

/// Records a result: in place of the last that says that delivery is going on, else after all others.
pub(super) fn record(tx: &Tx<'_>, id: QueueId, result: &AttemptResult) -> Result<(), Error> {
    let changed = tx.exec(
        "UPDATE queue_result SET start = $1, duration = $2, success = $3, code = $4, secode = $5, error = $6, transport = $9, \
         host = $10, ip = $11, tls = $12 \
         WHERE entry = $7 AND number = (SELECT max(number) FROM queue_result WHERE entry = $7 AND error = $8)",
        params![
            result.start,
            micros(result),
            result.success,
            result.code,
            &super::entry::without_nul(&result.secode),
            &super::entry::without_nul(&result.error),
            id,
            AttemptResult::DELIVERING,
            &result.via.transport,
            &result.via.host,
            &result.via.ip.map(|ip| ip.to_string()).unwrap_or_default(),
            &result.via.tls,
        ],
    )?;
    if changed == 0 { append_result(tx, id, result) } else { Ok(()) }
}

pub(super) fn append_result(tx: &Tx<'_>, id: QueueId, result: &AttemptResult) -> Result<(), Error> {
    let number = tx.query_row("SELECT coalesce(max(number), 0) + 1 FROM queue_result WHERE entry = $1", params![id], |row| row.int(0))?;
    tx.exec(
        "INSERT INTO queue_result (entry, number, start, duration, success, code, secode, error, transport, host, ip, tls) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        params![
            id,
            number,
            result.start,
            micros(result),
            result.success,
            result.code,
            &super::entry::without_nul(&result.secode),
            &super::entry::without_nul(&result.error),
            &result.via.transport,
            &result.via.host,
            &result.via.ip.map(|ip| ip.to_string()).unwrap_or_default(),
            &result.via.tls,
        ],
    )?;
    Ok(())
}

fn micros(result: &AttemptResult) -> u64 {
    u64::try_from(result.duration.as_micros()).unwrap_or(u64::MAX)
}

/// Ends an entry: it is kept among the retired, or forgotten; with the last of its message, the message goes.
pub(super) fn retire(
    tx: &Tx<'_>,
    id: QueueId,
    kind: EventKind,
    now: Timestamp,
    keep_until: Option<Timestamp>,
    files: &mut Vec<String>,
) -> Result<(), Error> {
    if let Some(keep_until) = keep_until {
        tx.exec(
            "INSERT INTO queue_retired (id, base_id, account, queued, sender, from_id, recipient, domain, attempts, max_attempts, dialed, \
             last_attempt, transport, require_tls, has_8bit, smtputf8, report, size, message_id, subject, future_release, extra, last_activity, \
             success, keep_until, event, envelope_id, from_id_key) \
             SELECT e.id, e.base_id, e.account, e.queued, e.sender, e.from_id, e.recipient, e.domain, e.attempts, e.max_attempts, e.dialed, \
             e.last_attempt, e.transport, e.require_tls, m.has_8bit, m.smtputf8, m.report, m.size, m.message_id, m.subject, m.future_release, \
             m.extra, CAST($2 AS BIGINT), CAST($3 AS BIGINT), CAST($4 AS BIGINT), CAST($5 AS TEXT), m.envelope_id, e.from_id_key \
             FROM queue_entry e JOIN queue_message m ON m.id = e.message WHERE e.id = $1",
            params![id, now, kind == EventKind::Delivered, keep_until, kind.name()],
        )?;
    } else {
        tx.exec("DELETE FROM queue_result WHERE entry = $1", params![id])?;
    }
    let gone = tx.query_opt("DELETE FROM queue_entry WHERE id = $1 RETURNING message, account", params![id], |row| {
        Ok::<_, Error>((row.int(0)?, row.text(1)?.to_owned()))
    })?;
    let Some((message, account)) = gone else { return Ok(()) };
    tally::add(tx, kind.name(), 1)?;
    let freed = remove_message(tx, message, files)?.map_or(0, |message| message.size);
    room::give_back(tx, &account, 1, freed)
}

/// A message that was removed.
pub(super) struct Removed {
    pub(super) account: String,
    /// Of prefix and body.
    pub(super) size: i64,
}

/// Removes a message that no entry has any more, and of which no copy is to be filed. Who calls gives back its room.
pub(super) fn remove_message(tx: &Tx<'_>, message: i64, files: &mut Vec<String>) -> Result<Option<Removed>, Error> {
    // On PostgreSQL two servers may each end one of the last two entries: the message's row makes the second wait.
    let lock = crate::db::Sql {
        sqlite: "SELECT file FROM queue_message WHERE id = $1",
        postgres: "SELECT file FROM queue_message WHERE id = $1 FOR UPDATE",
    };
    let file = tx.query_opt(lock, params![message], |row| Ok::<_, Error>(row.opt_text(0)?.map(str::to_owned)))?.flatten();
    let others = "SELECT 1 FROM queue_entry WHERE message = $1 UNION ALL SELECT 1 FROM queue_copy WHERE message = $1 LIMIT 1";
    if tx.query_opt(others, params![message], |row| row.int(0))?.is_some() {
        return Ok(None);
    }
    files.extend(file);
    tx.query_opt("DELETE FROM queue_message WHERE id = $1 RETURNING account, size", params![message], |row| {
        Ok(Removed { account: row.text(0)?.to_owned(), size: row.int(1)? })
    })
}
