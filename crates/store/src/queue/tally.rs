//! Totals for the conservation law: what was ever queued is still there, or was ended in one of the ways there are.
//!
//! They are kept in the transactions that they count. PostgreSQL's connections have rows of their own, so that nodes don't
//! wait for each other at a total.

use crate::db::{Error, Sql, Tx};
use crate::params;
use std::collections::BTreeMap;

/// Entries that were added. Those that were ended are counted under the names of [`super::EventKind`].
pub(crate) const QUEUED: &str = "queued";

/// Webhooks that were added.
pub(crate) const WEBHOOKS: &str = "webhooks";

/// Webhooks that were ended, in whatever way.
pub(crate) const WEBHOOKS_ENDED: &str = "webhooks ended";

/// Counts.
pub(crate) fn add(tx: &Tx<'_>, kind: &str, n: usize) -> Result<(), Error> {
    let conflict = "ON CONFLICT (shard, kind) DO UPDATE SET n = queue_tally.n + excluded.n";
    let sqlite = format!("INSERT INTO queue_tally (shard, kind, n) VALUES (0, $1, $2) {conflict}");
    let postgres = format!("INSERT INTO queue_tally (shard, kind, n) VALUES (pg_backend_pid() % 64, $1, $2) {conflict}");
    tx.exec(Sql { sqlite: &sqlite, postgres: &postgres }, params![kind, n])?;
    Ok(())
}

/// All totals.
pub(super) fn all(tx: &Tx<'_>) -> Result<BTreeMap<String, i64>, Error> {
    let mut totals = BTreeMap::new();
    tx.query("SELECT kind, CAST(SUM(n) AS BIGINT) FROM queue_tally GROUP BY kind", &[], |row| {
        totals.insert(row.text(0)?.to_owned(), row.int(1)?);
        Ok::<_, Error>(())
    })?;
    Ok(totals)
}
