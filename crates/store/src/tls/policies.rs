//! MTA-STS policies, kept as long as they are valid. RFC 8461 §3.2.

use super::TlsStore;
use crate::db::Row;
use crate::error::Error;
use crate::params;
use mox_base::Timestamp;
use std::time::Duration;

/// Policies that nobody needed for so long are removed.
const UNUSED: Duration = Duration::from_secs(180 * 24 * 3600);

/// A policy, or the memory of one that couldn't be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptPolicy {
    /// Whose, in A-labels.
    pub domain: String,
    /// When it was first kept.
    pub inserted: Timestamp,
    /// Until when it may be used.
    pub valid_end: Timestamp,
    /// When it was last confirmed.
    pub updated: Timestamp,
    /// When it was last needed.
    pub used: Timestamp,
    /// There is no policy: fetching it failed.
    pub backoff: bool,
    /// The id of its DNS record.
    pub record_id: String,
    /// The policy's text.
    pub policy: String,
}

const COLUMNS: &str = "domain, inserted, valid_end, updated, used, backoff, record_id, policy";

fn from_row(row: &Row<'_>) -> Result<KeptPolicy, Error> {
    let time = |at| row.int(at).map(Timestamp::from_micros);
    Ok(KeptPolicy {
        domain: row.text(0)?.to_owned(),
        inserted: time(1)?,
        valid_end: time(2)?,
        updated: time(3)?,
        used: time(4)?,
        backoff: row.bool(5)?,
        record_id: row.text(6)?.to_owned(),
        policy: row.text(7)?.to_owned(),
    })
}

impl TlsStore {
    /// What is kept of a domain and still valid.
    ///
    /// # Errors
    /// The database failed.
    pub async fn policy(&self, domain: &str, now: Timestamp) -> Result<Option<KeptPolicy>, Error> {
        let domain = domain.to_owned();
        self.db
            .read(move |tx| {
                let sql = format!("SELECT {COLUMNS} FROM mtasts_policy WHERE domain = $1 AND valid_end > $2");
                tx.query_opt(&sql, params![&domain, now], from_row)
            })
            .await
    }

    /// Keeps a policy in place of the one there is, unless that was updated after `seen`: then somebody else was faster.
    ///
    /// # Errors
    /// The database failed.
    pub async fn keep_policy(&self, policy: KeptPolicy, seen: Option<Timestamp>) -> Result<(), Error> {
        self.db
            .write(move |tx| {
                let KeptPolicy { domain, inserted, valid_end, updated, used, backoff, record_id, policy } = &policy;
                tx.exec(
                    "INSERT INTO mtasts_policy (domain, inserted, valid_end, updated, used, backoff, record_id, policy) \
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
                     ON CONFLICT (domain) DO UPDATE SET valid_end = excluded.valid_end, updated = excluded.updated, used = excluded.used, \
                     backoff = excluded.backoff, record_id = excluded.record_id, policy = excluded.policy \
                     WHERE mtasts_policy.updated <= $9",
                    params![domain, *inserted, *valid_end, *updated, *used, *backoff, record_id, policy, seen.unwrap_or(*updated)],
                )?;
                Ok(())
            })
            .await
    }

    /// Notes that a policy was needed.
    ///
    /// # Errors
    /// The database failed.
    pub async fn policy_used(&self, domain: &str, now: Timestamp) -> Result<(), Error> {
        let domain = domain.to_owned();
        self.db
            .write(move |tx| {
                tx.exec("UPDATE mtasts_policy SET used = $1 WHERE domain = $2", params![now, &domain])?;
                Ok(())
            })
            .await
    }

    /// Removes a policy, unless it was updated after `seen`.
    ///
    /// # Errors
    /// The database failed.
    pub async fn remove_policy(&self, domain: &str, seen: Timestamp) -> Result<(), Error> {
        let domain = domain.to_owned();
        self.db
            .write(move |tx| {
                tx.exec("DELETE FROM mtasts_policy WHERE domain = $1 AND updated <= $2", params![&domain, seen])?;
                Ok(())
            })
            .await
    }

    /// Removes policies that weren't needed for half a year; those that are left and weren't updated after `before`.
    ///
    /// # Errors
    /// The database failed.
    pub async fn policies_to_refresh(&self, now: Timestamp, before: Timestamp) -> Result<Vec<KeptPolicy>, Error> {
        self.db
            .write(move |tx| {
                tx.exec("DELETE FROM mtasts_policy WHERE used < $1", params![now.before(UNUSED)])?;
                let sql = format!("SELECT {COLUMNS} FROM mtasts_policy WHERE updated < $1 ORDER BY updated LIMIT 100000");
                tx.query_all(&sql, params![before], from_row)
            })
            .await
    }

    /// All policies, by domain.
    ///
    /// # Errors
    /// The database failed.
    pub async fn policies(&self) -> Result<Vec<KeptPolicy>, Error> {
        self.db
            .read(move |tx| {
                let sql = format!("SELECT {COLUMNS} FROM mtasts_policy ORDER BY domain LIMIT 100000");
                tx.query_all(&sql, &[], from_row)
            })
            .await
    }
}
