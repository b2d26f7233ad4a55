//! What was found about mail of other domains, until they are told.

use super::DmarcStore;
use crate::db::Row;
use crate::error::Error;
use crate::params;
use mox_base::Timestamp;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

/// Rows kept of a domain; what more there is isn't reported.
const MAX_ROWS: i64 = 20_000;

/// What is the same for all evaluations that are one row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EvaluationRow {
    /// Where the policy was found, in A-labels.
    pub policy_domain: String,
    /// It is no reason by itself to send a report.
    pub optional: bool,
    /// How long a time the domain wants in a report.
    pub interval_hours: u8,
    /// Where it wants reports: URIs with their limits.
    pub addresses: Vec<String>,
    /// The policy, as XML.
    pub published: String,
    /// The row without its count, as XML.
    pub record: String,
}

/// Evaluations to be added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEvaluation {
    /// What they are.
    pub row: EvaluationRow,
    /// When they happened: within an hour.
    pub at: Timestamp,
    /// How many.
    pub count: u64,
}

/// Evaluations of one hour that are one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evaluation {
    /// The number.
    pub id: i64,
    /// What they are.
    pub row: EvaluationRow,
    /// When the first happened.
    pub first: Timestamp,
    /// When the last happened.
    pub last: Timestamp,
    /// How many.
    pub count: u64,
}

/// What there is of a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainEvaluations {
    /// In A-labels.
    pub domain: String,
    /// How many messages were evaluated.
    pub count: u64,
    /// When the first was.
    pub first: Timestamp,
    /// When the last was.
    pub last: Timestamp,
    /// Whether there is a reason to send a report.
    pub send_report: bool,
}

const COLUMNS: &str = "id, policy_domain, optional, interval_hours, addresses, published, record, first_at, last_at, count";

fn from_row(row: &Row<'_>) -> Result<Evaluation, Error> {
    Ok(Evaluation {
        id: row.int(0)?,
        row: EvaluationRow {
            policy_domain: row.text(1)?.to_owned(),
            optional: row.bool(2)?,
            interval_hours: u8::try_from(row.int(3)?).unwrap_or(24),
            addresses: row.text(4)?.lines().map(str::to_owned).collect(),
            published: row.text(5)?.to_owned(),
            record: row.text(6)?.to_owned(),
        },
        first: Timestamp::from_micros(row.int(7)?),
        last: Timestamp::from_micros(row.int(8)?),
        count: u64::try_from(row.int(9)?).unwrap_or(0),
    })
}

impl EvaluationRow {
    fn digest(&self) -> Vec<u8> {
        let mut hash = Sha256::new();
        let Self { policy_domain, optional, interval_hours, addresses, published, record } = self;
        for text in [policy_domain, published, record].into_iter().chain(addresses) {
            hash.update(text.len().to_be_bytes());
            hash.update(text);
        }
        hash.update([u8::from(*optional), *interval_hours]);
        hash.finalize().to_vec()
    }
}

/// The beginning of an hour, UTC.
fn hour_of(at: Timestamp) -> Timestamp {
    Timestamp::from_secs(at.secs().div_euclid(3600).saturating_mul(3600))
}

impl DmarcStore {
    /// Adds evaluations to those that are there. Of a domain of which there is too much already, only counts grow.
    ///
    /// # Errors
    /// The database failed.
    pub async fn add_evaluations(&self, new: Vec<NewEvaluation>) -> Result<(), Error> {
        self.db
            .write(move |tx| {
                let mut room: BTreeMap<&str, i64> = BTreeMap::new();
                for NewEvaluation { row, at, count } in &new {
                    let EvaluationRow { policy_domain, optional, interval_hours, addresses, published, record } = row;
                    let (hour, digest) = (hour_of(*at), row.digest());
                    let grown = tx.exec(
                        "UPDATE dmarc_evaluation SET count = count + $1, first_at = CASE WHEN first_at > $2 THEN $2 ELSE first_at END, \
                         last_at = CASE WHEN last_at < $2 THEN $2 ELSE last_at END WHERE policy_domain = $3 AND hour = $4 AND digest = $5",
                        params![*count, *at, policy_domain, hour, digest.as_slice()],
                    )?;
                    if grown > 0 {
                        continue;
                    }
                    let sql = "SELECT COUNT(*) FROM dmarc_evaluation WHERE policy_domain = $1";
                    let room = match room.entry(policy_domain) {
                        std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
                        std::collections::btree_map::Entry::Vacant(entry) => {
                            let there = tx.query_row(sql, params![policy_domain], |row| Ok::<_, Error>(row.int(0)?))?;
                            entry.insert(MAX_ROWS - there)
                        }
                    };
                    if *room <= 0 {
                        continue;
                    }
                    *room -= 1;
                    // Another node may have been faster.
                    tx.exec(
                        "INSERT INTO dmarc_evaluation (policy_domain, hour, digest, count, first_at, last_at, optional, interval_hours, addresses, \
                         published, record) VALUES ($1, $2, $3, $4, $5, $5, $6, $7, $8, $9, $10) \
                         ON CONFLICT (policy_domain, hour, digest) DO UPDATE SET count = dmarc_evaluation.count + excluded.count",
                        params![
                            policy_domain,
                            hour,
                            digest.as_slice(),
                            *count,
                            *at,
                            *optional,
                            *interval_hours,
                            &addresses.join("\n"),
                            published,
                            record
                        ],
                    )?;
                }
                Ok(())
            })
            .await
    }

    /// What there is by domain, in order: domains behind `after`, at most `limit`.
    ///
    /// # Errors
    /// The database failed.
    pub async fn evaluated_domains(&self, after: &str, limit: u32) -> Result<Vec<DomainEvaluations>, Error> {
        let after = after.to_owned();
        self.db
            .read(move |tx| {
                let sql = format!(
                    "SELECT policy_domain, CAST(SUM(count) AS BIGINT), MIN(first_at), MAX(last_at), MIN(optional) FROM dmarc_evaluation \
                     WHERE policy_domain > $1 GROUP BY policy_domain ORDER BY policy_domain LIMIT {limit}"
                );
                tx.query_all(&sql, params![&after], |row| {
                    Ok::<_, Error>(DomainEvaluations {
                        domain: row.text(0)?.to_owned(),
                        count: u64::try_from(row.int(1)?).unwrap_or(0),
                        first: Timestamp::from_micros(row.int(2)?),
                        last: Timestamp::from_micros(row.int(3)?),
                        send_report: row.int(4)? == 0,
                    })
                })
            })
            .await
    }

    /// The evaluations of a domain from hours that begin before this time, oldest first: those behind the number `after`, at most `limit`.
    ///
    /// # Errors
    /// The database failed.
    pub async fn evaluations(&self, domain: &str, before: Timestamp, after: i64, limit: u32) -> Result<Vec<Evaluation>, Error> {
        let domain = domain.to_owned();
        self.db
            .read(move |tx| {
                let sql = format!(
                    "SELECT {COLUMNS} FROM dmarc_evaluation WHERE policy_domain = $1 AND hour < $2 AND id > $3 ORDER BY id LIMIT {limit}"
                );
                tx.query_all(&sql, params![&domain, before, after], from_row)
            })
            .await
    }

    /// Removes evaluations that are about to be reported, as far as nothing was added to them since they were read; those that are
    /// removed. Of several who report, one has each.
    ///
    /// # Errors
    /// The database failed.
    pub async fn take_evaluations(&self, evaluations: Vec<Evaluation>) -> Result<Vec<Evaluation>, Error> {
        self.db
            .write(move |tx| {
                let mut taken = Vec::with_capacity(evaluations.len());
                for evaluation in &evaluations {
                    let sql = "DELETE FROM dmarc_evaluation WHERE id = $1 AND count = $2";
                    if tx.exec(sql, params![evaluation.id, evaluation.count])? > 0 {
                        taken.push(evaluation.clone());
                    }
                }
                Ok(taken)
            })
            .await
    }

    /// Removes the evaluations of a domain from hours that begin before this time.
    ///
    /// # Errors
    /// The database failed.
    pub async fn remove_evaluations(&self, domain: &str, before: Timestamp) -> Result<u64, Error> {
        let domain = domain.to_owned();
        let sql = "DELETE FROM dmarc_evaluation WHERE policy_domain = $1 AND hour < $2";
        self.db.write(move |tx| Ok(tx.exec(sql, params![&domain, before])?)).await
    }

    /// Removes evaluations of all domains from hours that begin before this time.
    ///
    /// # Errors
    /// The database failed.
    pub async fn remove_evaluations_before(&self, before: Timestamp) -> Result<u64, Error> {
        self.db.write(move |tx| Ok(tx.exec("DELETE FROM dmarc_evaluation WHERE hour < $1", params![before])?)).await
    }
}
