//! A message on its way in: spooled, with its structure found while it streams by. Trouble with the spool is remembered
//! and told when the message is complete; until then the client has to be listened to anyway.

use mox_delivery::spool::{Spool, SpoolSettings, SpoolWriter};
use mox_mailauth::{MessageReader, ReadMessage};
use mox_message::{Limits, Structure, StructureBuilder};
use std::io;
use std::sync::Arc;

/// A message being received.
#[derive(Debug)]
pub(crate) struct Receiver {
    builder: StructureBuilder,
    /// Reads it for verification, if it is to be verified.
    reader: Option<MessageReader>,
    writer: Option<SpoolWriter>,
    failure: Option<io::Error>,
}

/// A message that was received.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) content: Spool,
    pub(crate) structure: Structure,
    /// The header section, as far as the structure's limits go.
    pub(crate) header: Arc<[u8]>,
    /// As verification needs it.
    pub(crate) read: Option<ReadMessage>,
}

impl Default for Receiver {
    fn default() -> Self {
        Self { builder: StructureBuilder::new(Limits::default()), reader: None, writer: None, failure: None }
    }
}

impl Receiver {
    /// For a message that is to be verified.
    pub(crate) fn verifying() -> Self {
        Self { reader: Some(MessageReader::new()), ..Self::default() }
    }

    /// Whether there was a piece already.
    pub(crate) const fn has_begun(&self) -> bool {
        self.writer.is_some()
    }

    /// Appends a piece.
    pub(crate) async fn push(&mut self, piece: &[u8], settings: &SpoolSettings) {
        if self.failure.is_some() {
            return;
        }
        self.builder.push(piece);
        if let Some(reader) = &mut self.reader {
            reader.push(piece);
        }
        let writer = self.writer.get_or_insert_with(|| SpoolWriter::new(settings.clone()));
        if let Err(error) = writer.write(piece).await {
            // Nothing more is kept: the message is lost to us, and its memory is wanted back.
            self.writer = None;
            self.failure = Some(error);
        }
    }

    /// The complete message.
    ///
    /// # Errors
    /// What went wrong with the spool.
    pub(crate) async fn finish(self) -> io::Result<Received> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        let header = self.builder.header().map(Arc::<[u8]>::from);
        let structure = self.builder.finish();
        let content = match self.writer {
            Some(writer) => writer.finish().await?,
            None => Spool::from(Vec::new()),
        };
        // Without an empty line, all there is is header.
        let header = header.unwrap_or_else(|| match &content {
            Spool::Memory(bytes) => Arc::clone(bytes),
            Spool::File { .. } => Arc::from([]),
        });
        Ok(Received { content, structure, header, read: self.reader.map(MessageReader::finish) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn receive(message: &[u8], folder: &std::path::Path) -> io::Result<Received> {
        let settings = SpoolSettings { in_memory: 64 << 10, folder: folder.to_owned() };
        let mut receiver = Receiver::default();
        for piece in message.chunks(10_000) {
            receiver.push(piece, &settings).await;
        }
        receiver.finish().await
    }

    #[tokio::test]
    async fn header_and_structure_are_found_on_the_way() {
        let folder = tempfile::tempdir().unwrap();
        let message = [b"a: b\r\n\r\n".as_slice(), &b"0123456789\r\n".repeat(20_000)].concat();
        let received = receive(&message, folder.path()).await.unwrap();
        assert_eq!(received.structure.len(), message.len() as u64);
        assert_eq!(received.content.len(), message.len() as u64);
        assert_eq!(*received.header, *b"a: b\r\n\r\n");
        assert_eq!(*receive(b"a: b\r\n", folder.path()).await.unwrap().header, *b"a: b\r\n");
    }

    #[tokio::test]
    async fn trouble_with_the_file_is_told_at_the_end() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(receive(&[b'x'; 100_000], file.path()).await.is_err());
    }
}
