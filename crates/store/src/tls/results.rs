//! Results of sessions, by policy domain, day and recipient domain, until they are reported. RFC 8460 §4.

use super::TlsStore;
use crate::db::{Row, Sql};
use crate::error::Error;
use crate::params;
use mox_base::Timestamp;

/// Which results belong together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ResultKey {
    /// The domain whose policy it is, in A-labels: the recipient domain or an MX host.
    pub policy_domain: String,
    /// `YYYYMMDD`, UTC.
    pub day: i64,
    /// The recipient domain in A-labels.
    pub recipient_domain: String,
}

/// The results of a day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DayResults {
    /// Of what.
    pub key: ResultKey,
    /// The policy domain is an MX host.
    pub is_host: bool,
    /// Something in it asks for a report.
    pub send_report: bool,
    /// Sent to the recipient domain.
    pub sent_recipient: bool,
    /// Sent to the policy domain.
    pub sent_policy: bool,
    /// JSON.
    pub results: String,
}

const COLUMNS: &str = "policy_domain, day, recipient_domain, is_host, send_report, sent_recipient, sent_policy, results";

fn from_row(row: &Row<'_>) -> Result<DayResults, Error> {
    Ok(DayResults {
        key: ResultKey { policy_domain: row.text(0)?.to_owned(), day: row.int(1)?, recipient_domain: row.text(2)?.to_owned() },
        is_host: row.bool(3)?,
        send_report: row.bool(4)?,
        sent_recipient: row.bool(5)?,
        sent_policy: row.bool(6)?,
        results: row.text(7)?.to_owned(),
    })
}

impl TlsStore {
    /// Adds to the results of a day: `merge` gets what is there, empty at first, and gives what is to be there. Once a report is
    /// to be sent, it stays so.
    ///
    /// # Errors
    /// The database failed.
    pub async fn add_results(
        &self,
        key: ResultKey,
        (is_host, send_report): (bool, bool),
        now: Timestamp,
        merge: impl Fn(&str) -> String + Send + 'static,
    ) -> Result<(), Error> {
        self.db
            .write(move |tx| {
                let ResultKey { policy_domain, day, recipient_domain } = &key;
                tx.exec(
                    "INSERT INTO tls_result (policy_domain, day, recipient_domain, created, updated, is_host, send_report, sent_recipient, \
                     sent_policy, results) VALUES ($1, $2, $3, $4, $4, $5, 0, 0, 0, '') ON CONFLICT (policy_domain, day, recipient_domain) DO NOTHING",
                    params![policy_domain, *day, recipient_domain, now, is_host],
                )?;
                let sql = Sql {
                    sqlite: "SELECT results FROM tls_result WHERE policy_domain = $1 AND day = $2 AND recipient_domain = $3",
                    postgres: "SELECT results FROM tls_result WHERE policy_domain = $1 AND day = $2 AND recipient_domain = $3 FOR UPDATE",
                };
                let there =
                    tx.query_row(sql, params![policy_domain, *day, recipient_domain], |row| Ok::<_, Error>(row.text(0)?.to_owned()))?;
                let merged = merge(&there);
                tx.exec(
                    "UPDATE tls_result SET updated = $1, is_host = $2, send_report = CASE WHEN send_report <> 0 THEN 1 ELSE $3 END, results = $4 \
                     WHERE policy_domain = $5 AND day = $6 AND recipient_domain = $7",
                    params![now, is_host, send_report, &merged, policy_domain, *day, recipient_domain],
                )?;
                Ok(())
            })
            .await
    }

    /// All results of a day.
    ///
    /// # Errors
    /// The database failed.
    pub async fn results(&self, day: i64) -> Result<Vec<DayResults>, Error> {
        self.db
            .read(move |tx| {
                let sql = format!("SELECT {COLUMNS} FROM tls_result WHERE day = $1 ORDER BY policy_domain, recipient_domain LIMIT 1000000");
                tx.query_all(&sql, params![day], from_row)
            })
            .await
    }

    /// Notes that results are in a report that is about to be sent, to their recipient domain or their policy domain. False when
    /// they had been: somebody else sends it.
    ///
    /// # Errors
    /// The database failed.
    pub async fn mark_sent(&self, keys: Vec<ResultKey>, to_recipient: bool) -> Result<bool, Error> {
        self.db
            .write(move |tx| {
                let column = if to_recipient { "sent_recipient" } else { "sent_policy" };
                let sql = format!(
                    "UPDATE tls_result SET {column} = 1 WHERE policy_domain = $1 AND day = $2 AND recipient_domain = $3 AND {column} = 0"
                );
                let mut any = false;
                for ResultKey { policy_domain, day, recipient_domain } in &keys {
                    any |= tx.exec(&sql, params![policy_domain, *day, recipient_domain])? > 0;
                }
                Ok(any)
            })
            .await
    }

    /// Removes results.
    ///
    /// # Errors
    /// The database failed.
    pub async fn remove_results(&self, keys: Vec<ResultKey>) -> Result<(), Error> {
        self.db
            .write(move |tx| {
                for ResultKey { policy_domain, day, recipient_domain } in &keys {
                    tx.exec(
                        "DELETE FROM tls_result WHERE policy_domain = $1 AND day = $2 AND recipient_domain = $3",
                        params![policy_domain, *day, recipient_domain],
                    )?;
                }
                Ok(())
            })
            .await
    }

    /// Removes results of days before this one.
    ///
    /// # Errors
    /// The database failed.
    pub async fn remove_results_before(&self, day: i64) -> Result<u64, Error> {
        self.db.write(move |tx| Ok(tx.exec("DELETE FROM tls_result WHERE day < $1", params![day])?)).await
    }

    /// Results of all days in order of policy domain, day and recipient domain: those behind `after`, at most `limit`.
    ///
    /// # Errors
    /// The database failed.
    pub async fn list_results(&self, after: Option<ResultKey>, limit: u32) -> Result<Vec<DayResults>, Error> {
        let after = after.unwrap_or(ResultKey { policy_domain: String::new(), day: 0, recipient_domain: String::new() });
        self.db
            .read(move |tx| {
                let ResultKey { policy_domain, day, recipient_domain } = &after;
                let sql = format!(
                    "SELECT {COLUMNS} FROM tls_result WHERE policy_domain > $1 OR (policy_domain = $1 AND (day > $2 OR (day = $2 AND \
                     recipient_domain > $3))) ORDER BY policy_domain, day, recipient_domain LIMIT {limit}"
                );
                tx.query_all(&sql, params![policy_domain, *day, recipient_domain], from_row)
            })
            .await
    }
}
