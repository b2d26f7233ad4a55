//! What other domains say about TLS, and what came of it: MTA-STS policies, results to be reported, reports received. And keys of
//! our own session tickets.
//!
//! A database of its own, `tls`. Policies and reports are kept as the texts that they are; what they mean is decided elsewhere.
//! Losing it loses no mail: policies are fetched again, and a day's results are missing in reports.

mod policies;
mod reports;
mod results;
mod schema;
mod seen;
#[cfg(test)]
mod tests;
mod tickets;

pub use policies::KeptPolicy;
pub use reports::{NewReport, ReceivedReport, SessionSummary};
pub use results::{DayResults, ResultKey};
pub use seen::SeenTls;

use crate::db::Database;
use crate::error::Error;
use crate::reports::ReportSuppressions;
use crate::store::Store;
use mox_base::Random;
use std::sync::Arc;

/// The database. Clones are handles to the same one.
#[derive(Clone, Debug)]
pub struct TlsStore {
    db: Database,
    random: Arc<dyn Random>,
}

impl TlsStore {
    /// Opens it, making its tables when missing.
    ///
    /// # Errors
    /// The database can't be opened.
    pub async fn open(store: &Store) -> Result<Self, Error> {
        Ok(Self { db: store.database("tls", &schema::SCHEMA).await?, random: Arc::clone(store.random()) })
    }

    /// Addresses that get no TLS reports.
    pub fn suppressions(&self) -> ReportSuppressions {
        ReportSuppressions::new(self.db.clone(), "tls_suppressed")
    }

    /// Finishes what was begun and closes the database.
    pub async fn close(&self) {
        self.db.close().await;
    }
}
