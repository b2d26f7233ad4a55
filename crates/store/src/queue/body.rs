//! The bytes of queued messages: small ones compressed in the database, so that queueing is one transaction and one
//! fsync; larger ones as blobs ([`crate::blob::BlobStore`]), durable before their row is committed and deleted after it is gone. What a
//! crash left of those is swept when the queue is opened.

use super::entry::QueueMessageId;
use super::{Queue, tally};
use crate::blob::BlobStore;
use crate::db::{Env, Error, Location};
use crate::params;
use mox_base::Timestamp;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Mutex, PoisonError};

/// Larger bodies are files.
const INLINE: u64 = 64 << 10;

/// Read from files at once.
const CHUNK: usize = 64 << 10;

const LEVEL: i32 = 1;

/// A message's bytes on their way into the queue.
#[derive(Clone, Debug)]
pub enum Body {
    /// In memory.
    Memory(Arc<[u8]>),
    /// In a file, which is copied and stays the caller's.
    File {
        /// The file; its position doesn't matter.
        file: Arc<File>,
        /// How long it is.
        len: u64,
    },
}

impl Body {
    /// The number of bytes.
    pub fn len(&self) -> u64 {
        match self {
            Self::Memory(bytes) => u64::try_from(bytes.len()).unwrap_or(u64::MAX),
            Self::File { len, .. } => *len,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Where a body is kept.
#[derive(Debug)]
pub(super) enum StoredBody {
    Inline(Vec<u8>),
    File(String),
}

impl StoredBody {
    pub(super) fn inline(&self) -> Option<&[u8]> {
        if let Self::Inline(bytes) = self { Some(bytes) } else { None }
    }

    pub(super) fn file(&self) -> Option<&str> {
        if let Self::File(name) = self { Some(name) } else { None }
    }
}

/// A queued message's body, being read. What it reads is there even if the message leaves the queue meanwhile.
#[derive(Debug)]
pub enum OpenBody {
    /// In memory; what is left of it.
    Memory(io::Cursor<Vec<u8>>),
    /// Elsewhere.
    Stored(Reading),
}

/// A blob being read. Clones go on where the other stopped.
#[derive(Clone)]
pub struct Reading(Arc<Mutex<Box<dyn Read + Send>>>);

impl fmt::Debug for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reading").finish_non_exhaustive()
    }
}

impl OpenBody {
    /// The next bytes, empty at the end.
    ///
    /// # Errors
    /// The file can't be read.
    pub async fn next_chunk(&mut self) -> io::Result<Vec<u8>> {
        match self {
            Self::Memory(cursor) => read_chunk(cursor),
            Self::Stored(reading) => {
                let reading = reading.clone();
                let read = move || read_chunk(&mut *reading.0.lock().unwrap_or_else(PoisonError::into_inner));
                tokio::task::spawn_blocking(read).await.map_err(io::Error::other)?
            }
        }
    }

    /// All that is left, at most `limit` bytes.
    ///
    /// # Errors
    /// The file can't be read.
    pub async fn read_up_to(&mut self, limit: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while bytes.len() < limit {
            let chunk = self.next_chunk().await?;
            if chunk.is_empty() {
                break;
            }
            bytes.extend_from_slice(&chunk);
        }
        bytes.truncate(limit);
        Ok(bytes)
    }
}

fn read_chunk(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut chunk = Vec::with_capacity(CHUNK);
    from.take(CHUNK as u64).read_to_end(&mut chunk)?;
    Ok(chunk)
}

impl Queue {
    /// Opens a queued message's body, without its prefix; none if the message has left the queue.
    ///
    /// # Errors
    /// The database failed, or the file is missing or can't be read.
    pub async fn open_body(&self, message: QueueMessageId) -> Result<Option<OpenBody>, Error> {
        let blobs = Arc::clone(&self.blobs);
        self.db
            .read(move |tx| {
                let sql = "SELECT body, file, size FROM queue_message WHERE id = $1";
                tx.query_opt(sql, params![message.0], |row| match (row.opt_blob(0)?, row.opt_text(1)?) {
                    (Some(body), _) => Ok(OpenBody::Memory(io::Cursor::new(decompress(body, row.int(2)?)?))),
                    (None, Some(file)) => {
                        // Within the snapshot: whoever deletes the file commits first, and then the row isn't seen.
                        let reader = blobs.open(file, 0).map_err(blob_error)?;
                        Ok(OpenBody::Stored(Reading(Arc::new(Mutex::new(reader)))))
                    }
                    (None, None) => Err(Error::Corrupt(format!("queued message {} has no body", message.0))),
                })
            })
            .await
    }

    pub(super) async fn store_body(&self, body: &Body) -> Result<StoredBody, Error> {
        let (queue, body) = (self.clone(), body.clone());
        tokio::task::spawn_blocking(move || queue.store_body_now(&body)).await.map_err(|_| Error::Panicked)?
    }

    fn store_body_now(&self, body: &Body) -> Result<StoredBody, Error> {
        if body.len() > INLINE {
            return self.write_blob(body).map(StoredBody::File);
        }
        let compressed = match body {
            Body::Memory(bytes) => compress(bytes)?,
            Body::File { file, len } => {
                let mut bytes = Vec::new();
                FromStart { file, at: 0, len: *len }.read_to_end(&mut bytes)?;
                compress(&bytes)?
            }
        };
        Ok(StoredBody::Inline(compressed))
    }

    /// Stores a body under a name that nothing else has, durably.
    fn write_blob(&self, body: &Body) -> Result<String, Error> {
        let mut id = [0; 16];
        self.random.fill(&mut id);
        let name: String = id.iter().map(|b| format!("{b:02x}")).collect();
        let (mut memory, mut spool);
        let reader: &mut dyn Read = match body {
            Body::Memory(bytes) => {
                memory = io::Cursor::new(&**bytes);
                &mut memory
            }
            Body::File { file, len } => {
                spool = FromStart { file, at: 0, len: *len };
                &mut spool
            }
        };
        let mut left = body.len();
        let mut next = |out: &mut Vec<u8>| {
            let wanted = left.min(CHUNK as u64);
            let read = u64::try_from(reader.take(wanted).read_to_end(out)?).unwrap_or(0);
            if read < wanted {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            left = left.saturating_sub(read);
            Ok(left > 0)
        };
        self.blobs.put(&name, &mut next).map_err(blob_error)?;
        Ok(name)
    }

    /// Deletes bodies that nothing refers to any more. A failure leaves them to the sweep at the next start.
    pub(super) async fn delete_files(&self, files: Vec<String>) {
        if files.is_empty() {
            return;
        }
        let blobs = Arc::clone(&self.blobs);
        let delete = move || {
            for file in &files {
                if let Err(e) = blobs.delete(file) {
                    tracing::warn!(error = %e, file, "deleting a body of the queue failed");
                }
            }
        };
        if tokio::task::spawn_blocking(delete).await.is_err() {
            tracing::warn!("deleting bodies of the queue failed");
        }
    }

    /// Deletes bodies whose rows were never committed, or whose deletion was missed, if they were written before this: when
    /// nobody can be about to commit their rows.
    pub(super) async fn sweep(&self, before: Timestamp, alone: bool) -> Result<(), Error> {
        let blobs = Arc::clone(&self.blobs);
        self.db
            .read(move |tx| {
                // A shared database that is new may be the wrong one.
                if !alone && tally::all(tx)?.get(tally::QUEUED).is_none_or(|n| *n == 0) {
                    return Ok(());
                }
                for (file, written) in blobs.list().map_err(blob_error)? {
                    let sql = "SELECT 1 FROM queue_message WHERE file = $1 LIMIT 1";
                    if written < before && tx.query_opt(sql, params![&file], |row| row.int(0))?.is_none() {
                        tracing::info!(file, "deleting a body of the queue without an entry");
                        blobs.delete(&file).map_err(blob_error)?;
                    }
                }
                Ok(())
            })
            .await
    }
}

/// Makes sure that a database that is about to be made isn't made in place of one that was lost or moved: its bodies would be deleted.
pub(super) async fn check_unused(env: &Env, location: &Location, blobs: &Arc<dyn BlobStore>) -> Result<(), Error> {
    let Location::Sqlite(path) = location else { return Ok(()) };
    let (path, blobs) = (path.clone(), Arc::clone(blobs));
    let check = move || {
        if !path.try_exists()? && !blobs.list().map_err(blob_error)?.is_empty() {
            return Err(Error::Misplaced("the queue's folder has messages, but queue.db, which they belong to, is missing"));
        }
        Ok(())
    };
    env.runtime.spawn_blocking(check).await.unwrap_or(Err(Error::Panicked))
}

/// What the queue says of a blob that it can't read or write.
pub(super) fn blob_error(e: crate::Error) -> Error {
    match e {
        crate::Error::Db(e) => e,
        e => Error::Corrupt(e.to_string()),
    }
}

/// Reads a file from its start without moving its position, which others may share.
struct FromStart<'f> {
    file: &'f File,
    at: u64,
    len: u64,
}

impl Read for FromStart<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.len.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        let n = self.file.read_at(buffer.get_mut(..wanted).unwrap_or_default(), self.at)?;
        if n == 0 && wanted > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at = self.at.saturating_add(u64::try_from(n).unwrap_or(0));
        Ok(n)
    }
}

fn compress(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut compressor = zstd::bulk::Compressor::new(LEVEL)?;
    // Read errors of the disk must not become somebody's mail.
    compressor.include_checksum(true)?;
    compressor.compress(bytes)
}

pub(super) fn decompress(bytes: &[u8], size: i64) -> Result<Vec<u8>, Error> {
    // `size` includes the prefix, so it is enough.
    let capacity = usize::try_from(size).unwrap_or(0);
    zstd::bulk::decompress(bytes, capacity).map_err(|e| Error::Corrupt(format!("queued message: {e}")))
}
