//! Message bytes at rest.
//!
//! A blob is cut into blocks of [`BLOCK`] bytes, each compressed, with a checksum that is verified whenever it is read. A
//! blob of one block, as most mail is, lies in the database; a larger one is a file of frames, and the database has their
//! sizes, so that a range is read without reading what is before it. Files are written, synced and named before the
//! transaction that refers to them, deleted after the one that doesn't any more; what a crash leaves between is swept when
//! the account is opened.

mod codec;
mod folder;

pub use folder::Folder;

pub(crate) use codec::{decode_block, encode_block};

use crate::error::Error;
use mox_base::Timestamp;
use std::fmt;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Uncompressed bytes of a block; a blob of at most this size lies in the database.
pub const BLOCK: usize = 64 << 10;

/// Files of one account's large blobs, or objects.
pub trait BlobStore: Send + Sync + fmt::Debug {
    /// Stores bytes under a new name, durably.
    ///
    /// # Errors
    /// Nothing is stored then, or nothing that [`BlobStore::list`] doesn't show.
    fn put(&self, name: &str, data: &mut dyn FnMut(&mut Vec<u8>) -> Result<bool, Error>) -> Result<(), Error>;

    /// Opens bytes for reading from an offset.
    ///
    /// # Errors
    /// There are none of this name, or they can't be read.
    fn open(&self, name: &str, offset: u64) -> Result<Box<dyn Read + Send>, Error>;

    /// Deletes bytes; fine if there are none.
    ///
    /// # Errors
    /// They can't be deleted.
    fn delete(&self, name: &str) -> Result<(), Error>;

    /// All names, also of what was never finished, and when they were written.
    ///
    /// # Errors
    /// The folder can't be read.
    fn list(&self) -> Result<Vec<(String, Timestamp)>, Error>;
}

/// A blob's file that was written before the transaction that will refer to it. Deleted if that doesn't happen.
#[derive(Debug)]
pub(crate) struct Pending {
    store: Arc<dyn BlobStore>,
    name: String,
    kept: AtomicBool,
}

impl Pending {
    pub(crate) fn new(store: Arc<dyn BlobStore>, name: String) -> Self {
        Self { store, name, kept: AtomicBool::new(false) }
    }

    /// From now on the file is the transaction's. If its commit fails it may exist all the same, so the file stays
    /// until it is known to be an orphan.
    pub(crate) fn keep(&self) {
        self.kept.store(true, Ordering::Release);
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.kept.load(Ordering::Acquire)
            && let Err(e) = self.store.delete(&self.name)
        {
            tracing::warn!(error = %e, name = self.name, "unused blob not deleted; it goes when the account is opened again");
        }
    }
}
