//! TLS reports that others sent us.

use super::TlsStore;
use crate::error::Error;
use crate::params;
use mox_base::Timestamp;

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

impl TlsStore {
    /// Keeps reports.
    ///
    /// # Errors
    /// The database failed.
    pub async fn add_reports(&self, reports: Vec<NewReport>, now: Timestamp) -> Result<(), Error> {
        self.db
            .write(move |tx| {
                for NewReport { domain, from_domain, mail_from, host_report, report } in &reports {
                    tx.exec(
                        "INSERT INTO tls_report (received, domain, from_domain, mail_from, host_report, report) VALUES ($1, $2, $3, $4, $5, $6)",
                        params![now, domain, from_domain, mail_from, *host_report, report],
                    )?;
                }
                Ok(())
            })
            .await
    }

    /// Reports, newest first: about a domain, or all.
    ///
    /// # Errors
    /// The database failed.
    pub async fn reports(&self, domain: Option<&str>, limit: u32) -> Result<Vec<ReceivedReport>, Error> {
        let domain = domain.unwrap_or_default().to_owned();
        self.db
            .read(move |tx| {
                let sql = format!(
                    "SELECT id, received, domain, from_domain, mail_from, host_report, report FROM tls_report \
                     WHERE $1 = '' OR domain = $1 ORDER BY received DESC, id DESC LIMIT {limit}"
                );
                let mut found = Vec::new();
                tx.query(&sql, params![&domain], |row| {
                    found.push(ReceivedReport {
                        id: row.int(0)?,
                        received: Timestamp::from_micros(row.int(1)?),
                        report: NewReport {
                            domain: row.text(2)?.to_owned(),
                            from_domain: row.text(3)?.to_owned(),
                            mail_from: row.text(4)?.to_owned(),
                            host_report: row.bool(5)?,
                            report: row.text(6)?.to_owned(),
                        },
                    });
                    Ok::<_, Error>(())
                })?;
                Ok(found)
            })
            .await
    }
}
