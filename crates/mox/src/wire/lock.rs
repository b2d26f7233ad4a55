//! One server for each data directory.
//!
//! A server keeps in memory what is in its databases, and has a control socket of one name: two on the same directory would file mail
//! twice or not at all. So a server holds a lock on a file there, which ends with its process however that ends. Servers that share a
//! PostgreSQL database have data directories of their own.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;
use std::time::Duration;

/// The file that is locked.
const NAME: &str = "server.lock";

/// How long the one before may take to end, and how often we look.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(50);

/// While it is held, no other server uses the directory.
#[derive(Debug)]
pub(crate) struct DataLock {
    _file: File,
}

/// Takes the lock; none if another server has it.
///
/// # Errors
/// A text for the operator.
pub(crate) fn try_lock(data_dir: &Path) -> Result<Option<DataLock>, String> {
    let path = data_dir.join(NAME);
    let fail = |e: io::Error| format!("locking {}: {e}", path.display());
    make(data_dir).map_err(fail)?;
    let file = OpenOptions::new().read(true).append(true).create(true).open(&path).map_err(fail)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(DataLock { _file: file })),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(e)) => Err(fail(e)),
    }
}

/// Makes the directory if there is none, durably as far as its name in the one above goes.
fn make(data_dir: &Path) -> io::Result<()> {
    if data_dir.is_dir() {
        return Ok(());
    }
    std::fs::create_dir_all(data_dir)?;
    match data_dir.parent() {
        Some(above) if !above.as_os_str().is_empty() => File::open(above)?.sync_all(),
        _ => Ok(()),
    }
}

/// Takes the lock, once a server that is about to end has left it.
///
/// # Errors
/// A text for the operator: also if there is a server that goes on.
pub(super) async fn lock(data_dir: &Path) -> Result<DataLock, String> {
    let wait = async {
        loop {
            if let Some(lock) = try_lock(data_dir)? {
                return Ok(lock);
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| Err(in_use(data_dir)))
}

/// What is said about a directory that another server has.
pub(crate) fn in_use(data_dir: &Path) -> String {
    format!("another server is running on data directory {}", data_dir.display())
}
