//! A message on its way in: spooled, with its structure found while it streams by. Trouble with the spool is remembered
//! and told when the message is complete; until then the client has to be listened to anyway.

use mox_base::Domain;
use mox_delivery::spool::{Spool, SpoolSettings, SpoolWriter};
use mox_mailauth::{MessageReader, ReadMessage};
use mox_message::compose::authserv_id;
use mox_message::{Field, Headers, Limits, Structure, StructureBuilder};
use std::io;
use std::sync::Arc;

/// Bytes of a message copied at a time.
const PIECE: usize = 256 << 10;

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

    /// The message is for a list, too.
    pub(crate) fn expect_sealing(&mut self) {
        if let Some(reader) = &mut self.reader {
            reader.expect_sealing();
        }
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

impl Received {
    /// The message without what others wrote in our name: fields `Authentication-Results` that say that we checked something,
    /// RFC 8601 §5. What was read for verification is still the message as it came, so that a signature of such a field, however
    /// odd, verifies.
    ///
    /// # Errors
    /// The spool fails.
    pub(crate) async fn without_results_of(self, us: &Domain, settings: &SpoolSettings) -> io::Result<Self> {
        let ours = |field: &Field<'_>| {
            let id = field.is("Authentication-Results").then(|| authserv_id(&String::from_utf8_lossy(field.value))).flatten();
            id.is_some_and(|id| id.trim_end_matches('.').parse::<Domain>().is_ok_and(|id| id == *us))
        };
        self.without(ours, settings).await
    }

    /// The message without the header fields for which `drop` holds. Everything else stays as it is.
    ///
    /// # Errors
    /// The spool fails.
    pub(crate) async fn without(self, drop: impl Fn(&Field<'_>) -> bool, settings: &SpoolSettings) -> io::Result<Self> {
        let headers = Headers::new(&self.header);
        if !headers.fields().any(|field| drop(&field)) {
            return Ok(self);
        }
        let before = u64::try_from(headers.section().len()).unwrap_or(u64::MAX);
        let kept = headers.without(drop);
        let mut rewritten = Receiver::default();
        rewritten.push(&kept, settings).await;
        let mut at = before;
        loop {
            let (content, from) = (self.content.clone(), at);
            let piece = tokio::task::spawn_blocking(move || content.piece(from, PIECE)).await.map_err(io::Error::other)??;
            if piece.is_empty() {
                break;
            }
            at = at.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
            rewritten.push(&piece, settings).await;
        }
        Ok(Self { read: self.read, ..rewritten.finish().await? })
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
    async fn nobody_speaks_in_our_name() {
        let folder = tempfile::tempdir().unwrap();
        let settings = SpoolSettings { in_memory: 64 << 10, folder: folder.path().to_owned() };
        let us = "host.example".parse().unwrap();
        let body = b"0123456789\r\n".repeat(20_000);
        for body in [b"body\r\n".as_slice(), b"", &body] {
            let ours = "AUTHENTICATION-results:\r\n\t(x) \"Host.example\" 1; spf=pass\r\nAuthentication-Results: host.example\r\n";
            let others = "Authentication-Results: other.example; spf=pass\r\nX: host.example;\r\nbroken\r\n";
            let message = [ours.as_bytes(), others.as_bytes(), b"\r\n", body].concat();
            let received = receive(&message, folder.path()).await.unwrap().without_results_of(&us, &settings).await.unwrap();
            let mut kept = Vec::new();
            std::io::Read::read_to_end(&mut received.content.reader(), &mut kept).unwrap();
            assert!(kept == [others.as_bytes(), b"\r\n", body].concat());
            assert_eq!(received.structure.len(), kept.len() as u64);
            assert_eq!(*received.header, *[others.as_bytes(), b"\r\n"].concat());
        }
    }

    #[tokio::test]
    async fn trouble_with_the_file_is_told_at_the_end() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(receive(&[b'x'; 100_000], file.path()).await.is_err());
    }
}
