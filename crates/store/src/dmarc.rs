//! DMARC: what was found about mail of other domains until they are told, and what others tell us of ours. RFC 7489 §7.
//!
//! A database of its own, `dmarc`. Evaluations are rows of reports, with a count, by domain and hour; reports are kept packed, with the numbers by
//! which they are listed. Both are XML whose meaning is decided elsewhere. Losing it loses no mail.

mod evaluations;
mod reports;
mod schema;
#[cfg(test)]
mod tests;

pub use evaluations::{DomainEvaluations, Evaluation, EvaluationRow, NewEvaluation};
pub use reports::{DmarcCounts, DomainSummary, NewDmarcReport, ReceivedDmarcReport};

use crate::db::Database;
use crate::error::Error;
use crate::reports::ReportSuppressions;
use crate::store::Store;

/// The database. Clones are handles to the same one.
#[derive(Clone, Debug)]
pub struct DmarcStore {
    db: Database,
}

impl DmarcStore {
    /// Opens it, making its tables when missing.
    ///
    /// # Errors
    /// The database can't be opened.
    pub async fn open(store: &Store) -> Result<Self, Error> {
        Ok(Self { db: store.database("dmarc", &schema::SCHEMA).await? })
    }

    /// Addresses that get no DMARC reports.
    pub fn suppressions(&self) -> ReportSuppressions {
        ReportSuppressions::new(self.db.clone(), "dmarc_suppressed")
    }

    /// Finishes what was begun and closes the database.
    pub async fn close(&self) {
        self.db.close().await;
    }
}
