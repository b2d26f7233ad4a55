//! What DMARC and TLS reports have in common in the store: which of those received are asked for, and addresses that get none of ours.

use crate::db::{Database, Row};
use crate::error::Error;
use crate::params;
use mox_base::Timestamp;
use sha2::{Digest as _, Sha256};

/// Which of the reports that others sent us are listed: newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReportFilter {
    /// About this domain, in A-labels.
    pub domain: Option<String>,
    /// About a time that ends at or after this.
    pub start: Option<Timestamp>,
    /// About a time that begins before this.
    pub end: Option<Timestamp>,
    /// Older than the report of this number: for the next page.
    pub before: Option<i64>,
    /// At most so many; 0 for a page of 100.
    pub limit: u32,
}

/// What one report counts for at most in a sum, so that sums stay numbers whatever others write.
pub(crate) const MAX_COUNT: u64 = 1 << 40;

/// By this a report is known that comes again.
pub(crate) fn digest(parts: [&[u8]; 3]) -> Vec<u8> {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(part.len().to_be_bytes());
        digest.update(part);
    }
    digest.finalize().to_vec()
}

/// Reports that others sent, in a table with columns `id`, `received`, `domain`, `begin_at` and `end_at` besides its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReceivedTable(pub(crate) &'static str);

impl ReceivedTable {
    /// Those that a filter wants, newest first.
    pub(crate) async fn list<T: Send + 'static>(
        self,
        db: &Database,
        columns: &'static str,
        filter: ReportFilter,
        from_row: fn(&Row<'_>) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        let limit = if filter.limit == 0 { 100 } else { filter.limit };
        let before = filter.before.unwrap_or(i64::MAX);
        let (domain, start, end) = bounds(filter);
        db.read(move |tx| {
            let sql = format!(
                "SELECT {columns} FROM {} WHERE ($1 = '' OR domain = $1) AND end_at >= $2 AND begin_at < $3 AND id < $4 \
                 ORDER BY id DESC LIMIT {limit}",
                self.0
            );
            tx.query_all(&sql, params![&domain, start, end, before], from_row)
        })
        .await
    }

    /// For each domain, in order: the domain, how many reports, and the sums of these columns.
    pub(crate) async fn sums<T: Send + 'static>(
        self,
        db: &Database,
        columns: &'static [&'static str],
        filter: ReportFilter,
        from_row: fn(&Row<'_>) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        let (domain, start, end) = bounds(filter);
        db.read(move |tx| {
            let sums: Vec<String> = columns.iter().map(|column| format!("CAST(SUM({column}) AS BIGINT)")).collect();
            let sql = format!(
                "SELECT domain, COUNT(*), {} FROM {} WHERE ($1 = '' OR domain = $1) AND end_at >= $2 AND begin_at < $3 \
                 GROUP BY domain ORDER BY domain",
                sums.join(", "),
                self.0
            );
            tx.query_all(&sql, params![&domain, start, end], from_row)
        })
        .await
    }

    /// Removes those that came before this time.
    pub(crate) async fn remove_before(self, db: &Database, before: Timestamp) -> Result<u64, Error> {
        let sql = format!("DELETE FROM {} WHERE received < $1", self.0);
        db.write(move |tx| Ok(tx.exec(&sql, params![before])?)).await
    }
}

/// Domain, begin and end, as statements have them.
fn bounds(filter: ReportFilter) -> (String, i64, i64) {
    let (start, end) = (filter.start.map_or(i64::MIN, Timestamp::micros), filter.end.map_or(i64::MAX, Timestamp::micros));
    (filter.domain.unwrap_or_default(), start, end)
}

/// An address that gets no reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SuppressedAddress {
    /// The address.
    pub address: String,
    /// When it was added.
    pub inserted: Timestamp,
    /// Until when.
    pub until: Timestamp,
    /// Why.
    pub comment: String,
}

/// Addresses that get no reports, each for some time.
#[derive(Clone, Debug)]
pub struct ReportSuppressions {
    db: Database,
    table: &'static str,
}

impl ReportSuppressions {
    /// Those in a table with columns `address`, `inserted`, `until` and `comment`.
    pub(crate) const fn new(db: Database, table: &'static str) -> Self {
        Self { db, table }
    }

    /// Adds an address, or changes until when it is there and why. The time never gets shorter.
    ///
    /// # Errors
    /// The database failed.
    pub async fn add(&self, address: SuppressedAddress) -> Result<(), Error> {
        let sql = format!(
            "INSERT INTO {table} (address, inserted, until, comment) VALUES ($1, $2, $3, $4) ON CONFLICT (address) DO UPDATE SET \
             until = CASE WHEN {table}.until > excluded.until THEN {table}.until ELSE excluded.until END, comment = excluded.comment",
            table = self.table
        );
        self.db
            .write(move |tx| {
                let SuppressedAddress { address, inserted, until, comment } = &address;
                tx.exec(&sql, params![address, *inserted, *until, comment])?;
                Ok(())
            })
            .await
    }

    /// Addresses whose time isn't over, in order: those behind `after`, at most `limit`.
    ///
    /// # Errors
    /// The database failed.
    pub async fn list(&self, now: Timestamp, after: &str, limit: u32) -> Result<Vec<SuppressedAddress>, Error> {
        let after = after.to_owned();
        let sql = format!(
            "SELECT address, inserted, until, comment FROM {} WHERE until > $1 AND address > $2 ORDER BY address LIMIT {limit}",
            self.table
        );
        self.db
            .read(move |tx| {
                tx.query_all(&sql, params![now, &after], |row| {
                    Ok::<_, Error>(SuppressedAddress {
                        address: row.text(0)?.to_owned(),
                        inserted: Timestamp::from_micros(row.int(1)?),
                        until: Timestamp::from_micros(row.int(2)?),
                        comment: row.text(3)?.to_owned(),
                    })
                })
            })
            .await
    }

    /// Those of some addresses that get no reports now.
    ///
    /// # Errors
    /// The database failed.
    pub async fn among(&self, addresses: Vec<String>, now: Timestamp) -> Result<Vec<String>, Error> {
        let sql = format!("SELECT address FROM {} WHERE address = $1 AND until > $2", self.table);
        self.db
            .read(move |tx| {
                let mut found = Vec::new();
                for address in &addresses {
                    found.extend(tx.query_opt(&sql, params![address, now], |row| Ok::<_, Error>(row.text(0)?.to_owned()))?);
                }
                Ok(found)
            })
            .await
    }

    /// Changes until when an address gets none; false if it isn't there.
    ///
    /// # Errors
    /// The database failed.
    pub async fn extend(&self, address: &str, until: Timestamp) -> Result<bool, Error> {
        let address = address.to_owned();
        let sql = format!("UPDATE {} SET until = $1 WHERE address = $2", self.table);
        self.db.write(move |tx| Ok(tx.exec(&sql, params![until, &address])? > 0)).await
    }

    /// Removes an address; false if it isn't there.
    ///
    /// # Errors
    /// The database failed.
    pub async fn remove(&self, address: &str) -> Result<bool, Error> {
        let address = address.to_owned();
        let sql = format!("DELETE FROM {} WHERE address = $1", self.table);
        self.db.write(move |tx| Ok(tx.exec(&sql, params![&address])? > 0)).await
    }

    /// Removes addresses whose time is over.
    ///
    /// # Errors
    /// The database failed.
    pub async fn remove_expired(&self, now: Timestamp) -> Result<u64, Error> {
        let sql = format!("DELETE FROM {} WHERE until <= $1", self.table);
        self.db.write(move |tx| Ok(tx.exec(&sql, params![now])?)).await
    }
}
