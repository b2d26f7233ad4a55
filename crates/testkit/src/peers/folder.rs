//! A temporary folder that goes with its owner, and with the process of its owner.

use super::warden::{self, Ward};
use std::io;
use std::path::Path;
use tempfile::TempDir;

/// A folder for a peer's files: removed when dropped, and also when this process is killed.
#[derive(Debug)]
pub(crate) struct Folder(TempDir);

impl Folder {
    /// A new one among the system's temporary files, with a name that starts so.
    pub(crate) fn new(prefix: &str) -> io::Result<Self> {
        Self::new_in(prefix, &std::env::temp_dir())
    }

    /// A new one in a folder of choice.
    pub(crate) fn new_in(prefix: &str, parent: &Path) -> io::Result<Self> {
        let folder = Self(tempfile::Builder::new().prefix(prefix).tempdir_in(parent)?);
        warden::guard(Ward::Folder(folder.path()))?;
        Ok(folder)
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        warden::release(Ward::Folder(self.path()));
    }
}
