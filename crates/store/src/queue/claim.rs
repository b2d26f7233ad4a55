//! Claiming what is due: one domain at a time, under a lease.

use super::entry::{AttemptResult, Entry, QueuedMessage};
use super::suppression::is_suppressed;
use super::{Queue, refresh_domain};
use crate::db::{Error, Sql, Tx};
use crate::params;
use mox_base::{Host, Timestamp};
use std::sync::Arc;
use std::time::Duration;

/// Who claims: a number that no other server process has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner(pub i64);

/// The most entries that are delivered together besides the first: as many recipients as a transaction has.
const MAX_GROUP: i64 = 999;

/// What to claim.
#[derive(Clone, Copy, Debug)]
pub struct Claiming {
    /// Who claims.
    pub owner: Owner,
    /// Now: entries due later aren't claimed.
    pub now: Timestamp,
    /// At most so many domains.
    pub domains: usize,
    /// How long the claims hold unless renewed.
    pub lease: Duration,
    /// A number that is one more for each claim. Of four claims, three are of what is urgent, as long as there is any; the fourth is
    /// of what has waited longest, so that bulk mail goes on, too.
    pub turn: u64,
}

impl Claiming {
    /// Whether it is the turn of what has waited longest.
    const fn is_for_all(&self) -> bool {
        self.turn % 4 == 3
    }
}

/// A domain, and the entries now to be delivered to it together. Until it is finished, released or its lease ends,
/// nobody else gets entries of the domain.
#[derive(Debug)]
pub struct Claim {
    /// The domain or address literal.
    pub host: Host,
    /// At least one, of one submission, sender, number of attempts, transport and TLS requirement. As they were before
    /// the claim, except that this attempt is counted and the next scheduled.
    pub entries: Vec<Entry>,
    /// Their message.
    pub message: QueuedMessage,
}

impl Claim {
    /// The name under which the domain is claimed.
    pub fn domain(&self) -> String {
        self.host.to_string()
    }
}

impl Queue {
    /// Claims due entries, the earliest first, at most one group per domain. In the same transaction their attempt is
    /// counted and noted as being delivered, and the next attempt scheduled `backoff(account, attempts before)` from now, so that
    /// a crash costs an attempt and nothing else.
    ///
    /// # Errors
    /// The database failed; nothing was claimed, or its lease ends by itself.
    pub async fn claim(
        &self,
        claiming: Claiming,
        backoff: impl Fn(&str, u32) -> Duration + Send + Sync + 'static,
    ) -> Result<Vec<Claim>, Error> {
        if claiming.domains == 0 {
            return Ok(Vec::new());
        }
        let backoff = Arc::new(backoff);
        self.write(move |tx| claim(tx, &claiming, &*backoff)).await
    }

    /// Extends the lease of a claimed domain.
    ///
    /// # Errors
    /// The database failed.
    pub async fn renew(&self, domain: String, owner: Owner, until: Timestamp) -> Result<(), Error> {
        let sql = "UPDATE queue_domain SET leased_until = $1 WHERE domain = $2 AND owner = $3 AND leased_until > 0";
        self.write(move |tx| tx.exec(sql, params![until, &domain, owner.0]).map(|_| ())).await
    }

    /// Gives up a claim without an outcome: the entries stay, with the next attempt as scheduled.
    ///
    /// # Errors
    /// The database failed; then the lease ends by itself.
    pub async fn release(&self, domain: String, owner: Owner) -> Result<(), Error> {
        self.write(move |tx| refresh_domain(tx, &domain, Some(owner))).await?;
        self.changed.notify_one();
        Ok(())
    }
}

/// Domains with something due.
pub(super) const DUE: &str = "SELECT domain FROM queue_domain WHERE next_due <= $1 AND leased_until <= $1 ORDER BY next_due, domain";

/// Domains with something urgent due.
pub(super) const DUE_URGENT: &str =
    "SELECT domain FROM queue_domain WHERE next_urgent <= $1 AND leased_until <= $1 ORDER BY next_urgent, domain";

/// A domain's entry of a class that is due first.
pub(super) const FIRST: &str = "FROM queue_entry e WHERE e.domain = $1 AND e.hold = 0 AND e.bulk = $2 AND e.next_attempt <= $3 \
     ORDER BY e.next_attempt, e.id LIMIT 1";

/// Those that are delivered together with it. SQLite is told the index: it would look at all that is due for the domain.
pub(super) const GROUP: Sql<'static> = Sql { sqlite: "FROM queue_entry e INDEXED BY queue_entry_base", postgres: "FROM queue_entry e" };

pub(super) const GROUP_WHERE: &str = "WHERE e.base_id = $1 AND e.domain = $2 AND e.id <> $3 AND e.attempts = $4 AND e.next_attempt <= $5 \
     AND e.hold = 0 AND coalesce(e.require_tls, -1) = $6 AND e.transport = $7 ORDER BY e.id LIMIT";

fn claim(tx: &Tx<'_>, claiming: &Claiming, backoff: &dyn Fn(&str, u32) -> Duration) -> Result<Vec<Claim>, Error> {
    let mut claims = Vec::with_capacity(claiming.domains);
    for (domain, turn) in due_domains(tx, claiming)? {
        match claim_domain(tx, &Claiming { turn, ..*claiming }, backoff, &domain)? {
            Some(claim) => claims.push(claim),
            None => refresh_domain(tx, &domain, None)?,
        }
    }
    Ok(claims)
}

/// The domains to claim, each with its turn.
fn due_domains(tx: &Tx<'_>, claiming: &Claiming) -> Result<Vec<(String, u64)>, Error> {
    let select = |sql: &str| -> Result<std::vec::IntoIter<String>, Error> {
        // The limit is in the text: SQLite would plan again for each value of a parameter there.
        let sql = format!("{sql} LIMIT {}", claiming.domains);
        let domains =
            tx.query_all(Sql { sqlite: &sql, postgres: &format!("{sql} FOR UPDATE SKIP LOCKED") }, params![claiming.now], |row| {
                Ok::<_, Error>(row.text(0)?.to_owned())
            })?;
        Ok(domains.into_iter())
    };
    let (mut urgent, mut all) = (select(DUE_URGENT)?, select(DUE)?);
    let mut chosen: Vec<(String, u64)> = Vec::with_capacity(claiming.domains);
    for turn in (0..).map(|n| claiming.turn.wrapping_add(n)).take(claiming.domains) {
        let is_new = |domain: &String| !chosen.iter().any(|(earlier, _)| earlier == domain);
        let next =
            if (Claiming { turn, ..*claiming }).is_for_all() { all.find(is_new) } else { urgent.find(is_new).or_else(|| all.find(is_new)) };
        match next {
            Some(domain) => chosen.push((domain, turn)),
            None => break,
        }
    }
    Ok(chosen)
}

/// Whether something urgent is due for another domain to which nobody is delivering.
pub(super) fn urgent_elsewhere(tx: &Tx<'_>, now: Timestamp, domain: &str) -> Result<bool, Error> {
    let sql = "SELECT 1 FROM queue_domain WHERE next_urgent <= $1 AND leased_until <= $1 AND domain <> $2 LIMIT 1";
    Ok(tx.query_opt(sql, params![now, domain], |row| row.int(0))?.is_some())
}

/// Whether the domain has something urgent that is due.
pub(super) fn urgent_here(tx: &Tx<'_>, now: Timestamp, domain: &str) -> Result<bool, Error> {
    Ok(tx.query_opt(&format!("SELECT e.id {FIRST}"), params![domain, 0, now], |row| row.int(0))?.is_some())
}

/// Claims the next due group of a domain that nobody else has.
pub(super) fn claim_domain(
    tx: &Tx<'_>,
    claiming: &Claiming,
    backoff: &dyn Fn(&str, u32) -> Duration,
    domain: &str,
) -> Result<Option<Claim>, Error> {
    let claim = claim_group(tx, claiming, backoff, domain)?;
    if claim.is_some() {
        let until = claiming.now.after(claiming.lease);
        tx.exec("UPDATE queue_domain SET leased_until = $1, owner = $2 WHERE domain = $3", params![until, claiming.owner.0, domain])?;
        refresh_domain(tx, domain, None)?;
    }
    Ok(claim)
}

fn claim_group(tx: &Tx<'_>, claiming: &Claiming, backoff: &dyn Fn(&str, u32) -> Duration, domain: &str) -> Result<Option<Claim>, Error> {
    let columns = Entry::COLUMNS;
    let first = |bulk: i64| tx.query_opt(&format!("SELECT {columns} {FIRST}"), params![domain, bulk, claiming.now], Entry::from_row);
    let first = match first(0)? {
        Some(urgent) if !claiming.is_for_all() => Some(urgent),
        urgent => urgent.into_iter().chain(first(1)?).min_by_key(|e| (e.next_attempt, e.id)),
    };
    let Some(first) = first else { return Ok(None) };
    let mut entries = Vec::new();
    if let Some(base) = first.base {
        let group = |from: &str| format!("SELECT {columns} {from} {GROUP_WHERE} {MAX_GROUP}");
        let (sqlite, postgres) = (group(GROUP.sqlite), group(GROUP.postgres));
        tx.query(
            Sql { sqlite: &sqlite, postgres: &postgres },
            params![base, domain, first.id, first.attempts, first.next_attempt, first.require_tls.map_or(-1, i64::from), &first.transport],
            |row| {
                entries.push(Entry::from_row(row)?);
                Ok::<_, Error>(())
            },
        )?;
    }
    let (next_attempt, resume) = when_next(&first, claiming.now, backoff);
    let message_id = first.message;
    let host = first.recipient.host.clone();
    entries.insert(0, first);
    for entry in &mut entries {
        begin_attempt(tx, entry, claiming.now, next_attempt)?;
        entry.resume = resume;
    }
    let message = tx.query_row(
        &format!("SELECT {} FROM queue_message m WHERE m.id = $1", QueuedMessage::COLUMNS),
        params![message_id.0],
        QueuedMessage::from_row,
    )?;
    Ok(Some(Claim { host, entries, message }))
}

/// When the attempt after this one is due: not after the time to deliver by, so that then it is returned, or its sender told. If this
/// one is only due because that time has come: when it would have been due.
fn when_next(entry: &Entry, now: Timestamp, backoff: &dyn Fn(&str, u32) -> Duration) -> (Timestamp, Option<Timestamp>) {
    let next = now.after(backoff(&entry.account, entry.attempts));
    match (entry.by_due, entry.last_attempt) {
        (Some(by), _) if by > now => (next.min(by), None),
        (Some(_), Some(last)) => {
            let resume = last.after(backoff(&entry.account, entry.attempts.saturating_sub(1)));
            (next, Some(resume).filter(|resume| *resume > now))
        }
        _ => (next, None),
    }
}

fn begin_attempt(tx: &Tx<'_>, entry: &mut Entry, now: Timestamp, next: Timestamp) -> Result<(), Error> {
    let last = "SELECT error FROM queue_result WHERE entry = $1 ORDER BY number DESC LIMIT 1";
    let last = tx.query_opt(last, params![entry.id], |row| Ok::<_, Error>(row.text(0)? == AttemptResult::DELIVERING))?;
    entry.unfinished = last == Some(true);
    entry.suppressed = is_suppressed(tx, &entry.account, &entry.recipient, now)?;
    entry.attempts = entry.attempts.saturating_add(1);
    entry.last_attempt = Some(now);
    entry.next_attempt = next;
    tx.exec(
        "UPDATE queue_entry SET attempts = $1, last_attempt = $2, next_attempt = $3 WHERE id = $4",
        params![entry.attempts, now, next, entry.id],
    )?;
    let result = AttemptResult::failed(now, AttemptResult::DELIVERING);
    super::finish::append_result(tx, entry.id, &result)
}
