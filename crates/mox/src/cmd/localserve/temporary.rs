//! The folder of `-temp`: in memory where possible, and removed in the end.
//!
//! A server that is killed can't remove its folder. So each holds a lock on a file in it, which ends with its process however that ends,
//! and each that starts removes the folders whose file nobody holds.

use crate::cli::Failure;
use crate::ports::SystemRandom;
use mox_base::Random as _;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

const PREFIX: &str = "mox-localserve-";

/// The file that is locked.
const LOCK: &str = ".running";

/// A folder that is removed in the end.
#[derive(Debug)]
pub(super) struct TemporaryDir {
    path: PathBuf,
    _lock: File,
}

impl TemporaryDir {
    /// A new one, in memory where there is such a file system.
    pub(super) fn new() -> Result<Self, Failure> {
        let memory = Path::new("/dev/shm");
        let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        remove_abandoned(&parent);
        Self::within(&parent).map_err(|e| Failure::new(format!("creating a directory in {}", parent.display()), e))
    }

    fn within(parent: &Path) -> io::Result<Self> {
        let mut number = [0; 8];
        SystemRandom.fill(&mut number);
        let path = parent.join(format!("{PREFIX}{:016x}", u64::from_be_bytes(number)));
        DirBuilder::new().mode(0o700).create(&path)?;
        // Nobody sees the file before it is locked.
        let unseen = path.join(".starting");
        let lock = File::create(&unseen)?;
        lock.lock()?;
        std::fs::rename(unseen, path.join(LOCK))?;
        Ok(Self { path, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for TemporaryDir {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            tracing::warn!(dir = %self.path.display(), %error, "removing temporary directory");
        }
    }
}

/// Removes what servers of this user that were killed have left. What can't be looked at is left alone.
fn remove_abandoned(parent: &Path) {
    let Ok(entries) = std::fs::read_dir(parent) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX)) {
        // Of the entry itself: a link isn't followed.
        let ours = entry.metadata().is_ok_and(|m| m.is_dir() && m.uid() == nix::unistd::getuid().as_raw());
        if !ours {
            continue;
        }
        let Ok(lock) = File::open(entry.path().join(LOCK)) else { continue };
        if lock.try_lock().is_ok() {
            match std::fs::remove_dir_all(entry.path()) {
                Ok(()) => tracing::info!(dir = %entry.path().display(), "removed the directory of a server that was killed"),
                Err(error) => tracing::warn!(dir = %entry.path().display(), %error, "removing the directory of a server that was killed"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_uses_is_removed() {
        let parent = tempfile::tempdir().unwrap();
        let used = TemporaryDir::within(parent.path()).unwrap();
        // As after a kill: the lock is gone, the folder isn't.
        let mut killed = TemporaryDir::within(parent.path()).unwrap();
        killed._lock = File::open(parent.path()).unwrap();
        let others = [parent.path().join("mox-localserve-starting"), parent.path().join("something-else")];
        for dir in &others {
            std::fs::create_dir(dir).unwrap();
        }
        std::fs::write(others[1].join(LOCK), "").unwrap();
        std::os::unix::fs::symlink(&others[1], parent.path().join("mox-localserve-link")).unwrap();
        remove_abandoned(parent.path());
        assert!(used.path().join(LOCK).exists() && !killed.path().exists());
        assert!(others.iter().all(|dir| dir.exists()) && others[1].join(LOCK).exists());
        let path = used.path().to_owned();
        drop(used);
        assert!(!path.exists());
    }
}
