//! Where tests make things fail.

use std::fmt;
use std::io;

/// A step that can fail in real life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Opening a database or connecting to it.
    Connect,
    /// Beginning a transaction.
    Begin,
    /// Running a statement.
    Statement,
    /// Before a commit: nothing is durable.
    Commit,
    /// After a commit whose success can't be told: everything is durable.
    Committed,
    /// Creating and writing a blob's file.
    BlobWrite,
    /// Making a blob's file durable.
    BlobSync,
    /// Giving a blob's file its name.
    BlobRename,
    /// Making a blob's name durable.
    BlobSyncFolder,
    /// Reading a blob's file.
    BlobRead,
    /// Deleting a blob's file.
    BlobDelete,
    /// Listing blobs' files.
    BlobList,
}

/// Asked before each step; an error makes it fail. Production uses [`NoFaults`].
pub trait Faults: Send + Sync + fmt::Debug {
    /// Fails the step, or lets it pass.
    ///
    /// # Errors
    /// The error that the step shall fail with.
    fn check(&self, step: Step) -> io::Result<()>;
}

/// Nothing fails but what fails by itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoFaults;

impl Faults for NoFaults {
    fn check(&self, _step: Step) -> io::Result<()> {
        Ok(())
    }
}

pub(crate) fn check(faults: &dyn Faults, step: Step) -> Result<(), super::Error> {
    faults.check(step).map_err(super::Error::Io)
}
