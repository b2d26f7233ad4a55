//! TLS reports that others sent us.

use super::TlsStore;
use crate::db::Row;
use crate::error::Error;
use crate::params;
use crate::reports::{MAX_COUNT, ReceivedTable, ReportFilter, digest};
use mox_base::Timestamp;

const TABLE: ReceivedTable = ReceivedTable("tls_report");

/// A report about one of our domains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewReport {
    /// The domain reported on, in A-labels.
    pub domain: String,
    /// The domain of the sender.
    pub from_domain: String,
    /// The envelope's sender.
    pub mail_from: String,
    /// It is about our host rather than a domain.
    pub host_report: bool,
    /// The first second reported on.
    pub begin: Timestamp,
    /// The last second.
    pub end: Timestamp,
    /// Sessions with the domain that went well.
    pub success: u64,
    /// Sessions with the domain that failed.
    pub failure: u64,
    /// JSON.
    pub report: String,
}

/// A report with its number and when it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedReport {
    /// The number.
    pub id: i64,
    /// When it came.
    pub received: Timestamp,
    /// What came.
    pub report: NewReport,
}

/// What all reports about a domain add up to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionSummary {
    /// In A-labels.
    pub domain: String,
    /// The number of reports.
    pub reports: u64,
    /// Sessions that went well.
    pub success: u64,
    /// Sessions that failed.
    pub failure: u64,
}

const COLUMNS: &str = "id, received, domain, from_domain, mail_from, host_report, begin_at, end_at, success, failure, report";

fn from_row(row: &Row<'_>) -> Result<ReceivedReport, Error> {
    Ok(ReceivedReport {
        id: row.int(0)?,
        received: Timestamp::from_micros(row.int(1)?),
        report: NewReport {
            domain: row.text(2)?.to_owned(),
            from_domain: row.text(3)?.to_owned(),
            mail_from: row.text(4)?.to_owned(),
            host_report: row.bool(5)?,
            begin: Timestamp::from_micros(row.int(6)?),
            end: Timestamp::from_micros(row.int(7)?),
            success: u64::try_from(row.int(8)?).unwrap_or(0),
            failure: u64::try_from(row.int(9)?).unwrap_or(0),
            report: row.text(10)?.to_owned(),
        },
    })
}

impl TlsStore {
    /// Keeps reports, except those that are there already; how many are new.
    ///
    /// # Errors
    /// The database failed.
    pub async fn add_reports(&self, reports: Vec<NewReport>, now: Timestamp) -> Result<usize, Error> {
        self.db
            .write(move |tx| {
                let mut added = 0;
                for report in &reports {
                    let digest = digest([&report.domain, &report.from_domain, &report.report].map(|text| text.as_bytes()));
                    let NewReport { domain, from_domain, mail_from, host_report, begin, end, success, failure, report } = report;
                    let new = tx.exec(
                        "INSERT INTO tls_report (received, domain, from_domain, mail_from, host_report, begin_at, end_at, success, failure, digest, \
                         report) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT (digest) DO NOTHING",
                        params![
                            now,
                            domain,
                            from_domain,
                            mail_from,
                            *host_report,
                            *begin,
                            *end,
                            (*success).min(MAX_COUNT),
                            (*failure).min(MAX_COUNT),
                            digest.as_slice(),
                            report
                        ],
                    )?;
                    added += usize::from(new > 0);
                }
                Ok(added)
            })
            .await
    }

    /// Reports, newest first.
    ///
    /// # Errors
    /// The database failed.
    pub async fn reports(&self, filter: ReportFilter) -> Result<Vec<ReceivedReport>, Error> {
        TABLE.list(&self.db, COLUMNS, filter, from_row).await
    }

    /// A report.
    ///
    /// # Errors
    /// The database failed.
    pub async fn report(&self, id: i64) -> Result<Option<ReceivedReport>, Error> {
        let sql = format!("SELECT {COLUMNS} FROM tls_report WHERE id = $1");
        self.db.read(move |tx| tx.query_opt(&sql, params![id], from_row)).await
    }

    /// What reports about domains add up to, in order of the domains. `before` and `limit` of the filter don't matter.
    ///
    /// # Errors
    /// The database failed.
    pub async fn report_summaries(&self, filter: ReportFilter) -> Result<Vec<SessionSummary>, Error> {
        let summary = |row: &Row<'_>| {
            let count = |at| row.int(at).map(|n| u64::try_from(n).unwrap_or(0));
            Ok(SessionSummary { domain: row.text(0)?.to_owned(), reports: count(1)?, success: count(2)?, failure: count(3)? })
        };
        TABLE.sums(&self.db, &["success", "failure"], filter, summary).await
    }

    /// Removes reports that came before this time.
    ///
    /// # Errors
    /// The database failed.
    pub async fn remove_reports_before(&self, before: Timestamp) -> Result<u64, Error> {
        TABLE.remove_before(&self.db, before).await
    }
}
