//! A message while it comes in: in memory as long as it is small, then in a file without a name, which is gone when the
//! last handle is, also after a crash.

use mox_store::queue::Body;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;

/// A complete message. Clones share the bytes.
#[derive(Clone, Debug)]
pub enum Spool {
    /// In memory.
    Memory(Arc<[u8]>),
    /// In a file.
    File {
        /// The file; its position means nothing.
        file: Arc<File>,
        /// Its length.
        len: u64,
    },
}

impl Spool {
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

    /// For the queue.
    pub fn body(&self) -> Body {
        match self {
            Self::Memory(bytes) => Body::Memory(Arc::clone(bytes)),
            Self::File { file, len } => Body::File { file: Arc::clone(file), len: *len },
        }
    }

    /// For reading it from its start. On a thread that may wait for a file.
    pub fn reader(&self) -> impl Read + use<> {
        SpoolReader { spool: self.clone(), at: 0 }
    }

    /// Its bytes from a place on, so many or all that there are. On a thread that may wait for a file.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn piece(&self, from: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut piece = Vec::new();
        let reader = SpoolReader { spool: self.clone(), at: from };
        reader.take(u64::try_from(len).unwrap_or(u64::MAX)).read_to_end(&mut piece)?;
        Ok(piece)
    }

    /// For an account's store.
    ///
    /// # Errors
    /// The process has too many open files.
    pub fn content(&self) -> io::Result<mox_store::Content> {
        Ok(match self {
            Self::Memory(bytes) => mox_store::Content::Bytes(bytes.to_vec()),
            Self::File { file, .. } => mox_store::Content::File(file.try_clone()?),
        })
    }
}

/// A place in a message.
#[derive(Debug)]
struct SpoolReader {
    spool: Spool,
    at: u64,
}

impl Read for SpoolReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = match &self.spool {
            Spool::Memory(bytes) => {
                let at = usize::try_from(self.at).unwrap_or(usize::MAX);
                bytes.get(at..).unwrap_or_default().read(buffer)?
            }
            // The position of the file is everybody's.
            Spool::File { file, .. } => file.read_at(buffer, self.at)?,
        };
        self.at = self.at.saturating_add(u64::try_from(n).unwrap_or(u64::MAX));
        Ok(n)
    }
}

impl From<Vec<u8>> for Spool {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Memory(bytes.into())
    }
}

/// Where messages are spooled.
#[derive(Clone, Debug)]
pub struct SpoolSettings {
    /// Larger messages go into a file.
    pub in_memory: usize,
    /// The folder of that file.
    pub folder: PathBuf,
}

/// A message that is coming in.
#[derive(Debug)]
pub struct SpoolWriter {
    settings: SpoolSettings,
    memory: Vec<u8>,
    file: Option<File>,
    len: u64,
}

impl SpoolWriter {
    /// An empty message.
    pub const fn new(settings: SpoolSettings) -> Self {
        Self { settings, memory: Vec::new(), file: None, len: 0 }
    }

    /// The number of bytes so far.
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are none so far.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// The file can't be written; [`io::ErrorKind::StorageFull`] when the disk is full. The message is then useless.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.memory.extend_from_slice(bytes);
        self.len = self.len.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        if self.memory.len() > self.settings.in_memory { self.spill().await } else { Ok(()) }
    }

    async fn spill(&mut self) -> io::Result<()> {
        let bytes = std::mem::take(&mut self.memory);
        let (file, folder) = (self.file.take(), self.settings.folder.clone());
        let write = move || {
            let mut file = file.map_or_else(|| unnamed(&folder), Ok)?;
            file.write_all(&bytes)?;
            Ok::<_, io::Error>(file)
        };
        self.file = Some(tokio::task::spawn_blocking(write).await.map_err(io::Error::other)??);
        Ok(())
    }

    /// The message is complete.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub async fn finish(mut self) -> io::Result<Spool> {
        if self.file.is_some() {
            self.spill().await?;
        }
        Ok(match self.file {
            Some(file) => Spool::File { file: Arc::new(file), len: self.len },
            None => Spool::Memory(self.memory.into()),
        })
    }
}

/// A new file in the folder, whose name is removed at once.
fn unnamed(folder: &std::path::Path) -> io::Result<File> {
    static COUNTER: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    std::fs::create_dir_all(folder)?;
    loop {
        let n = COUNTER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = folder.join(format!("spool-{}-{n}", std::process::id()));
        match File::options().read(true).write(true).create_new(true).open(&path) {
            Ok(file) => {
                std::fs::remove_file(&path)?;
                return Ok(file);
            }
            // Left by a process of the same id that ended between the two.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn small_stays_in_memory_large_leaves_no_name() {
        let folder = tempfile::tempdir().unwrap();
        let settings = SpoolSettings { in_memory: 10, folder: folder.path().join("tmp") };
        let mut writer = SpoolWriter::new(settings.clone());
        writer.write(b"0123456789").await.unwrap();
        let spool = writer.finish().await.unwrap();
        assert!(matches!(&spool, Spool::Memory(bytes) if **bytes == *b"0123456789"));
        assert_eq!(io::read_to_string(spool.reader()).unwrap(), "0123456789");

        let mut writer = SpoolWriter::new(settings);
        for _ in 0..5 {
            writer.write(b"0123456").await.unwrap();
        }
        let spool = writer.finish().await.unwrap();
        for _ in 0..2 {
            assert_eq!(io::read_to_string(spool.reader()).unwrap(), "0123456".repeat(5));
        }
        let Spool::File { file, len } = spool else { panic!("in memory") };
        let mut bytes = vec![0; 35];
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!((len, bytes.as_slice()), (35, b"01234560123456012345601234560123456".as_slice()));
        assert_eq!(std::fs::read_dir(folder.path().join("tmp")).unwrap().count(), 0);
    }
}
