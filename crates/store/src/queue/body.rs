//! The bytes of queued messages: small ones compressed in the database, so that queueing is one transaction and one
//! fsync; larger ones as files, durable before their row is committed and deleted after it is gone.

use super::Queue;
use super::entry::QueueMessageId;
use crate::db::{Error, Step, check};
use crate::params;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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
    /// In a file.
    File(Arc<std::sync::Mutex<File>>),
}

impl OpenBody {
    /// The next bytes, empty at the end.
    ///
    /// # Errors
    /// The file can't be read.
    pub async fn next_chunk(&mut self) -> io::Result<Vec<u8>> {
        match self {
            Self::Memory(cursor) => read_chunk(cursor),
            Self::File(file) => {
                let file = Arc::clone(file);
                let read = move || read_chunk(&mut *file.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
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
        let folder = self.folder.clone();
        let faults = Arc::clone(&self.db.env().faults);
        self.db
            .read(move |tx| {
                let sql = "SELECT body, file, size FROM queue_message WHERE id = $1";
                tx.query_opt(sql, params![message.0], |row| match (row.opt_blob(0)?, row.opt_text(1)?) {
                    (Some(body), _) => Ok(OpenBody::Memory(io::Cursor::new(decompress(body, row.int(2)?)?))),
                    (None, Some(file)) => {
                        check(&*faults, Step::BlobRead)?;
                        // Within the snapshot: whoever deletes the file commits first, and then the row isn't seen.
                        Ok(OpenBody::File(Arc::new(std::sync::Mutex::new(File::open(folder.join(file))?))))
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
            return self.write_file(body).map(StoredBody::File);
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

    /// Writes a file under a name that nothing else has, and makes it and its name durable.
    fn write_file(&self, body: &Body) -> Result<String, Error> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let env = self.db.env();
        check(&*env.faults, Step::BlobWrite)?;
        let (name, mut file) = loop {
            let name = format!("{:x}-{:x}", env.clock.now().micros(), COUNTER.fetch_add(1, Ordering::Relaxed));
            match File::options().write(true).create_new(true).open(self.folder.join(&name)) {
                Ok(file) => break (name, file),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e.into()),
            }
        };
        let written = match body {
            Body::Memory(bytes) => file.write_all(bytes),
            Body::File { file: from, len } => io::copy(&mut FromStart { file: from, at: 0, len: *len }, &mut file).map(|_| ()),
        };
        let durable = written.map_err(Error::from).and_then(|()| {
            check(&*env.faults, Step::BlobSync)?;
            file.sync_all()?;
            check(&*env.faults, Step::BlobSyncFolder)?;
            Ok(File::open(&*self.folder)?.sync_all()?)
        });
        if let Err(e) = durable {
            remove(&self.folder.join(&name));
            return Err(e);
        }
        Ok(name)
    }

    /// Deletes files that nothing refers to any more. A failure leaves them to the sweep at the next start.
    pub(super) async fn delete_files(&self, files: Vec<String>) {
        if files.is_empty() {
            return;
        }
        let folder = self.folder.clone();
        let deleted = tokio::task::spawn_blocking(move || files.iter().for_each(|file| remove(&folder.join(file)))).await;
        if deleted.is_err() {
            tracing::warn!("deleting files of the queue failed");
        }
    }

    /// Deletes files whose rows were never committed, or whose deletion was missed. Only for a queue that no other
    /// server writes to.
    pub(super) async fn sweep_files(&self) -> Result<(), Error> {
        let folder = self.folder.clone();
        self.db
            .read(move |tx| {
                for found in std::fs::read_dir(&*folder)? {
                    let found = found?;
                    let known = match found.file_name().to_str() {
                        Some(name) => {
                            let sql = "SELECT 1 FROM queue_message WHERE file = $1 LIMIT 1";
                            tx.query_opt(sql, params![name], |row| row.int(0))?.is_some()
                        }
                        None => false,
                    };
                    if !known {
                        tracing::info!(file = %found.path().display(), "deleting a file of the queue without an entry");
                        remove(&found.path());
                    }
                }
                Ok(())
            })
            .await
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

fn remove(path: &Path) {
    match std::fs::remove_file(path) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => tracing::warn!(error = %e, path = %path.display(), "deleting a file of the queue failed"),
    }
}

fn compress(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut compressor = zstd::bulk::Compressor::new(LEVEL)?;
    // Read errors of the disk must not become somebody's mail.
    compressor.include_checksum(true)?;
    compressor.compress(bytes)
}

fn decompress(bytes: &[u8], size: i64) -> Result<Vec<u8>, Error> {
    // `size` includes the prefix, so it is enough.
    let capacity = usize::try_from(size).unwrap_or(0);
    zstd::bulk::decompress(bytes, capacity).map_err(|e| Error::Corrupt(format!("queued message: {e}")))
}
