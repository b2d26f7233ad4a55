//! SQLite: files in WAL mode, durable at each commit.

use super::{Error, Param, Row};
use rusqlite::{Connection, OpenFlags, Statement};
use std::path::Path;
use std::time::Duration;

/// Another connection's lock is waited for this long; only checkpoints and other processes hold one against us.
const BUSY: Duration = Duration::from_secs(10);

/// Statements kept prepared per connection; a store's connection uses about sixty.
const STATEMENTS: usize = 128;

/// Opens a connection, creating the file if asked to write.
pub(super) fn open(path: &Path, write: bool) -> Result<Connection, Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let c = Connection::open_with_flags(path, if write { flags | OpenFlags::SQLITE_OPEN_CREATE } else { flags })?;
    c.busy_timeout(BUSY)?;
    c.set_prepared_statement_cache_capacity(STATEMENTS);
    // FULL syncs the log at each commit: NORMAL could lose the last ones in a power failure. Checkpoints are ours to
    // start, in the background; the automatic one, at 64 MiB, only catches a background that doesn't keep up.
    c.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 16384;
         PRAGMA journal_size_limit = 8388608; PRAGMA temp_store = MEMORY;
         PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;",
    )?;
    c.execute_batch(if write { "PRAGMA cache_size = -8192;" } else { "PRAGMA cache_size = -4096; PRAGMA query_only = ON;" })?;
    Ok(c)
}

/// Copies what has been committed from the log into the file, without keeping anyone waiting.
pub(super) fn checkpoint(path: &Path) -> Result<(), Error> {
    let c = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    c.busy_timeout(BUSY)?;
    c.execute_batch("PRAGMA synchronous = FULL;")?;
    c.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
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
