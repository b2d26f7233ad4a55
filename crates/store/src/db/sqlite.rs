//! SQLite: files in WAL mode, durable at each commit.

use super::{Error, Param, Row};
use rusqlite::config::DbConfig;
use rusqlite::hooks::Wal;
use rusqlite::{Connection, OpenFlags, Statement};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Another connection's lock is waited for this long; only checkpoints and other processes hold one against us.
const BUSY: Duration = Duration::from_secs(10);

/// Statements kept prepared per connection; a store's connection uses about sixty.
const STATEMENTS: usize = 128;

/// Opens a connection for reading.
pub(super) fn open_reader(path: &Path) -> Result<Connection, Error> {
    let c = open(path, OpenFlags::empty())?;
    c.execute_batch("PRAGMA cache_size = -1024; PRAGMA query_only = ON;")?;
    Ok(c)
}

/// Opens a connection for writing, creating the file if there is none. At each commit `log_pages` becomes the length of the log.
pub(super) fn open_writer(path: &Path, log_pages: Arc<AtomicU32>) -> Result<Connection, Error> {
    let mut c = open(path, OpenFlags::SQLITE_OPEN_CREATE)?;
    // FULL syncs the log at each commit: NORMAL could lose the last ones in a power failure.
    c.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA journal_size_limit = 33554432; PRAGMA cache_size = -1024;",
    )?;
    // Instead of the automatic checkpoints, which are done inside a commit: ours are in the background.
    c.wal_hook(Some(move |_: &mut Wal, pages: i32| {
        log_pages.store(u32::try_from(pages).unwrap_or(0), Ordering::Release);
        Ok(())
    }))?;
    Ok(c)
}

fn open(path: &Path, flags: OpenFlags) -> Result<Connection, Error> {
    let c = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    c.busy_timeout(BUSY)?;
    c.set_prepared_statement_cache_capacity(STATEMENTS);
    // Plans don't depend on bound values; else statements are compiled again for each use, as clearing their values spoils them.
    c.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    c.execute_batch("PRAGMA temp_store = MEMORY; PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;")?;
    Ok(c)
}

/// Copies what has been committed from the log into the file, without keeping anyone waiting. The length of the part of the log that is
/// copied, in pages.
pub(super) fn checkpoint(path: &Path) -> Result<u32, Error> {
    let c = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    c.busy_timeout(BUSY)?;
    c.execute_batch("PRAGMA synchronous = FULL;")?;
    // Whether it was blocked, the length of the log, and of what is copied.
    let copied: i64 = c.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(2))?;
    Ok(u32::try_from(copied).unwrap_or(0))
}

/// Runs BEGIN, COMMIT and the like, which are kept prepared as all statements are.
pub(super) fn control(c: &Connection, sql: &str) -> Result<(), Error> {
    c.prepare_cached(sql)?.execute([])?;
    Ok(())
}

pub(super) fn exec(c: &Connection, sql: &str, params: &[Param<'_>]) -> Result<u64, Error> {
    let mut statement = c.prepare_cached(sql)?;
    bind(&mut statement, params)?;
    Ok(u64::try_from(statement.raw_execute()?).unwrap_or(0))
}

pub(super) fn query(c: &Connection, sql: &str, params: &[Param<'_>], each: &mut dyn FnMut(&Row<'_>) -> bool) -> Result<(), Error> {
    let mut statement = c.prepare_cached(sql)?;
    bind(&mut statement, params)?;
    let mut rows = statement.raw_query();
    while let Some(row) = rows.next()? {
        if !each(&Row::Sqlite(row)) {
            break;
        }
    }
    Ok(())
}

/// To SQLite, `$2` is a name: it numbers parameters in the order in which they first appear.
fn bind(statement: &mut Statement<'_>, params: &[Param<'_>]) -> Result<(), Error> {
    for i in 1..=statement.parameter_count() {
        let param = statement
            .parameter_name(i)
            .and_then(|name| name.get(1..))
            .and_then(|n| n.parse::<usize>().ok())
            .and_then(|n| params.get(n.checked_sub(1)?))
            .ok_or_else(|| Error::Corrupt("a parameter without a value".to_owned()))?;
        statement.raw_bind_parameter(i, param)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::StatementStatus;

    #[test]
    fn statements_are_compiled_once() {
        let dir = tempfile::tempdir().unwrap();
        let c = open_writer(&dir.path().join("db"), Arc::default()).unwrap();
        c.execute_batch("CREATE TABLE t (k INTEGER, v INTEGER); CREATE INDEX i ON t (k);").unwrap();
        let sql = "SELECT v FROM t WHERE k = $1 ORDER BY v LIMIT $2";
        for n in 0..10 {
            query(&c, sql, &[Param::Int(n), Param::Int(n % 3)], &mut |_| true).unwrap();
        }
        assert_eq!(c.prepare_cached(sql).unwrap().get_status(StatementStatus::RePrepare), 0);
    }
}
