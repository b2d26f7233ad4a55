//! When SQLite's log is copied into its file, so that it can start anew.
//!
//! By itself SQLite copies inside of a commit, and whoever waits for that commit waits long. Here most of the log is copied in the
//! background while commits go on, and the little that these add is copied by the writer, after its next commit, when nobody can
//! add to it. Then all of the log has been copied, and the next transaction overwrites it from its start. That matters beyond the room
//! it takes: to sync a file that grows, its length and its new blocks are written too, which takes half as long again.
//!
//! A reader on an older snapshot keeps the log from starting anew. Then it is tried again after as many pages.

use super::sqlite;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Pages added to the log after which it is copied: 4 MiB.
const STEP: u32 = 1024;

/// Pages in the log at which the writer itself copies all that is left: 16 MiB.
const LONG: u32 = 4096;

/// The state of one log.
#[derive(Debug)]
pub(super) struct Checkpoints {
    /// Its length in pages at the last commit, written by the connection that commits.
    log: Arc<AtomicU32>,
    /// The length at which it is copied next.
    due: AtomicU32,
    /// Somebody copies.
    running: AtomicBool,
    /// Something was added while it was copied in the background.
    rest: AtomicBool,
}

/// Who is to copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Copier {
    /// Another thread, while commits go on.
    Background,
    /// The thread that writes, before it begins another transaction.
    Writer,
}

impl Checkpoints {
    pub(super) fn new() -> Self {
        Self { log: Arc::default(), due: AtomicU32::new(STEP), running: AtomicBool::new(false), rest: AtomicBool::new(false) }
    }

    /// For the connection that commits.
    pub(super) fn log(&self) -> Arc<AtomicU32> {
        Arc::clone(&self.log)
    }

    /// Whether it is time to copy.
    pub(super) fn is_due(&self) -> bool {
        let (pages, due) = (self.log.load(Ordering::Acquire), self.due.load(Ordering::Acquire));
        if pages.saturating_add(STEP) < due {
            // The log has started anew.
            self.due.store(STEP, Ordering::Release);
            return pages >= STEP;
        }
        pages >= due
    }

    /// Who is to copy now, if anybody. Asked by the thread that writes, between transactions. [`Checkpoints::copy`] must follow.
    pub(super) fn begin(&self) -> Option<Copier> {
        if !self.is_due() || self.running.swap(true, Ordering::AcqRel) {
            return None;
        }
        let pages = self.log.load(Ordering::Acquire);
        self.due.store(pages.saturating_add(STEP), Ordering::Release);
        // Without the second, the log would grow for as long as there is work.
        let writer = self.rest.swap(false, Ordering::AcqRel) || pages >= LONG;
        Some(if writer { Copier::Writer } else { Copier::Background })
    }

    /// Copies what can be copied.
    pub(super) fn copy(&self, path: &Path, copier: Copier) {
        match sqlite::checkpoint(path) {
            Ok(copied) => {
                if copier == Copier::Background && copied < self.log.load(Ordering::Acquire) {
                    self.rest.store(true, Ordering::Release);
                    self.due.store(0, Ordering::Release);
                }
            }
            Err(e) => tracing::warn!(error = %e, path = %path.display(), "checkpoint failed; a later commit tries again"),
        }
        self.running.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::Connection;

    fn add(c: &Connection, pages: u32) {
        c.execute("INSERT INTO t VALUES (zeroblob($1))", [pages * 4096]).unwrap();
    }

    #[test]
    fn the_log_starts_anew_once_all_of_it_is_copied() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let checkpoints = Checkpoints::new();
        let c = sqlite::open_writer(&path, checkpoints.log()).unwrap();
        c.execute_batch("CREATE TABLE t (data BLOB)").unwrap();
        for _ in 0..3 {
            assert_eq!(checkpoints.begin(), None);
            add(&c, STEP);
            assert_eq!(checkpoints.begin(), Some(Copier::Background));
            assert_eq!(checkpoints.begin(), None, "only once at a time");
            checkpoints.copy(&path, Copier::Background);
            assert!(!checkpoints.is_due());
            add(&c, 1);
            assert!(checkpoints.log.load(Ordering::Acquire) < 20);
        }
    }

    #[test]
    fn the_writer_copies_what_the_background_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let checkpoints = Checkpoints::new();
        let c = sqlite::open_writer(&path, checkpoints.log()).unwrap();
        c.execute_batch("CREATE TABLE t (data BLOB)").unwrap();
        add(&c, STEP);
        // What this reader doesn't see is what is added while the rest is copied.
        let reader = sqlite::open_reader(&path).unwrap();
        reader.execute_batch("BEGIN; SELECT COUNT(*) FROM t;").unwrap();
        add(&c, 1);
        assert_eq!(checkpoints.begin(), Some(Copier::Background));
        checkpoints.copy(&path, Copier::Background);
        reader.execute_batch("ROLLBACK").unwrap();
        assert_eq!(checkpoints.begin(), Some(Copier::Writer));
        checkpoints.copy(&path, Copier::Writer);
        add(&c, 1);
        assert!(checkpoints.log.load(Ordering::Acquire) < 20);
        assert_eq!(checkpoints.begin(), None);
    }

    #[test]
    fn a_reader_in_the_way_isnt_waited_for_all_the_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let checkpoints = Checkpoints::new();
        let c = sqlite::open_writer(&path, checkpoints.log()).unwrap();
        c.execute_batch("CREATE TABLE t (data BLOB)").unwrap();
        let reader = sqlite::open_reader(&path).unwrap();
        reader.execute_batch("BEGIN; SELECT COUNT(*) FROM t;").unwrap();
        add(&c, STEP);
        for copier in [Copier::Background, Copier::Writer] {
            assert_eq!(checkpoints.begin(), Some(copier));
            checkpoints.copy(&path, copier);
        }
        add(&c, 1);
        assert_eq!(checkpoints.begin(), None);
        add(&c, STEP);
        assert_eq!(checkpoints.begin(), Some(Copier::Background));
        checkpoints.copy(&path, Copier::Background);
        // As long as the reader stays, the log gets longer; at some length the writer lets nobody else try.
        add(&c, LONG);
        for _ in 0..2 {
            assert_eq!(checkpoints.begin(), Some(Copier::Writer));
            checkpoints.copy(&path, Copier::Writer);
            add(&c, STEP);
        }
        reader.execute_batch("ROLLBACK").unwrap();
        assert_eq!(checkpoints.begin(), Some(Copier::Writer));
        checkpoints.copy(&path, Copier::Writer);
        add(&c, 1);
        assert!(checkpoints.log.load(Ordering::Acquire) < 20);
    }
}
