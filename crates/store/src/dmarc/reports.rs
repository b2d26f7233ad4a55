//! Aggregate reports that others sent us.

use super::DmarcStore;
use crate::db::Row;
use crate::error::Error;
use crate::params;
use crate::reports::{MAX_COUNT, ReceivedTable, ReportFilter, digest};
use mox_base::Timestamp;

const TABLE: ReceivedTable = ReceivedTable("dmarc_report");

/// Messages by what was said of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DmarcCounts {
    /// All.
    pub total: u64,
    /// Treated as any others.
    pub none: u64,
    /// Treated as suspicious.
    pub quarantine: u64,
    /// Refused.
    pub reject: u64,
    /// Without an aligned signature that verifies.
    pub dkim_fail: u64,
    /// Without an aligned pass of SPF.
    pub spf_fail: u64,
    /// To which the policy wasn't applied.
    pub overridden: u64,
}

/// A report about one of our domains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewDmarcReport {
    /// The domain reported on, in A-labels.
    pub domain: String,
    /// The domain of the sender.
    pub from_domain: String,
    /// Who reports.
    pub organization: String,
    /// Its number for the reporter.
    pub report_id: String,
    /// The first second reported on.
    pub begin: Timestamp,
    /// The last second.
    pub end: Timestamp,
    /// What it adds up to.
    pub counts: DmarcCounts,
    /// XML, gzipped.
    pub report: Vec<u8>,
}

/// A report with its number and when it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedDmarcReport {
    /// The number.
    pub id: i64,
    /// When it came.
    pub received: Timestamp,
    /// What came; in lists, without the report itself.
    pub report: NewDmarcReport,
}

/// What all reports about a domain add up to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainSummary {
    /// In A-labels.
    pub domain: String,
    /// The number of reports.
    pub reports: u64,
    /// What they say.
    pub counts: DmarcCounts,
}

const COLUMNS: &str = "id, received, domain, from_domain, organization, report_id, begin_at, end_at, total, disp_none, disp_quarantine, \
    disp_reject, dkim_fail, spf_fail, overridden";

fn from_row(row: &Row<'_>) -> Result<ReceivedDmarcReport, Error> {
    Ok(ReceivedDmarcReport {
        id: row.int(0)?,
        received: Timestamp::from_micros(row.int(1)?),
        report: NewDmarcReport {
            domain: row.text(2)?.to_owned(),
            from_domain: row.text(3)?.to_owned(),
            organization: row.text(4)?.to_owned(),
            report_id: row.text(5)?.to_owned(),
            begin: Timestamp::from_micros(row.int(6)?),
            end: Timestamp::from_micros(row.int(7)?),
            counts: counts(row, 8)?,
            report: Vec::new(),
        },
    })
}

fn counts(row: &Row<'_>, at: usize) -> Result<DmarcCounts, Error> {
    let count = |n: usize| row.int(at + n).map(|n| u64::try_from(n).unwrap_or(0));
    Ok(DmarcCounts {
        total: count(0)?,
        none: count(1)?,
        quarantine: count(2)?,
        reject: count(3)?,
        dkim_fail: count(4)?,
        spf_fail: count(5)?,
        overridden: count(6)?,
    })
}

impl DmarcStore {
    /// Keeps a report; false when the same one is there already.
    ///
    /// # Errors
    /// The database failed.
    pub async fn add_report(&self, report: NewDmarcReport, now: Timestamp) -> Result<bool, Error> {
        let digest = digest([report.domain.as_bytes(), report.from_domain.as_bytes(), &report.report]);
        self.db
            .write(move |tx| {
                let NewDmarcReport { domain, from_domain, organization, report_id, begin, end, counts, report } = &report;
                let of = |count: u64| count.min(MAX_COUNT);
                let added = tx.exec(
                    "INSERT INTO dmarc_report (received, domain, from_domain, organization, report_id, begin_at, end_at, total, disp_none, \
                     disp_quarantine, disp_reject, dkim_fail, spf_fail, overridden, digest, report) \
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16) ON CONFLICT (digest) DO NOTHING",
                    params![
                        now,
                        domain,
                        from_domain,
                        &without_nul(organization),
                        &without_nul(report_id),
                        *begin,
                        *end,
                        of(counts.total),
                        of(counts.none),
                        of(counts.quarantine),
                        of(counts.reject),
                        of(counts.dkim_fail),
                        of(counts.spf_fail),
                        of(counts.overridden),
                        digest.as_slice(),
                        report.as_slice()
                    ],
                )?;
                Ok(added > 0)
            })
            .await
    }

    /// Reports without their content, newest first.
    ///
    /// # Errors
    /// The database failed.
    pub async fn reports(&self, filter: ReportFilter) -> Result<Vec<ReceivedDmarcReport>, Error> {
        TABLE.list(&self.db, COLUMNS, filter, from_row).await
    }

    /// A report with its content.
    ///
    /// # Errors
    /// The database failed.
    pub async fn report(&self, id: i64) -> Result<Option<ReceivedDmarcReport>, Error> {
        self.db
            .read(move |tx| {
                let sql = format!("SELECT {COLUMNS}, report FROM dmarc_report WHERE id = $1");
                tx.query_opt(&sql, params![id], |row| {
                    let mut found = from_row(row)?;
                    found.report.report = row.blob(15)?.to_vec();
                    Ok::<_, Error>(found)
                })
            })
            .await
    }

    /// What reports about domains add up to, in order of the domains. `before` and `limit` of the filter don't matter.
    ///
    /// # Errors
    /// The database failed.
    pub async fn report_summaries(&self, filter: ReportFilter) -> Result<Vec<DomainSummary>, Error> {
        const SUMS: &[&str] = &["total", "disp_none", "disp_quarantine", "disp_reject", "dkim_fail", "spf_fail", "overridden"];
        let summary = |row: &Row<'_>| {
            let reports = u64::try_from(row.int(1)?).unwrap_or(0);
            Ok(DomainSummary { domain: row.text(0)?.to_owned(), reports, counts: counts(row, 2)? })
        };
        TABLE.sums(&self.db, SUMS, filter, summary).await
    }

    /// Removes reports that came before this time.
    ///
    /// # Errors
    /// The database failed.
    pub async fn remove_reports_before(&self, before: Timestamp) -> Result<u64, Error> {
        TABLE.remove_before(&self.db, before).await
    }
}

/// PostgreSQL's texts have no NUL.
fn without_nul(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}
