//! Writing a message in chunks, RFC 3030: octets as they are, without dots to be stuffed, each chunk after a command that says how long it is.
//!
//! Without BINARYMIME a message in chunks is still made of lines (RFC 3030 §2), so what can't be sent with DATA can't be sent with BDAT. Pieces are
//! gathered into chunks of a fixed size; one is held back until there is more, because the last one has to say so.

use crate::dot::BadData;
use bytes::{Bytes, BytesMut};

/// Octets in a chunk, but for the last one. Each costs a reply; each is held in memory.
pub const CHUNK: usize = 128 * 1024;

/// A message on its way.
#[derive(Debug)]
pub struct ChunkWriter {
    pending: BytesMut,
    at: At,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    LineStart,
    Line,
    /// After a CR.
    Cr,
}

impl Default for ChunkWriter {
    fn default() -> Self {
        Self { pending: BytesMut::new(), at: At::LineStart }
    }
}

impl ChunkWriter {
    /// Takes the next octets of the message.
    ///
    /// # Errors
    /// [`BadData::BareLineEnd`]; the transaction must then be abandoned.
    pub fn write(&mut self, input: &[u8]) -> Result<(), BadData> {
        let mut rest = input;
        while let Some((&first, after)) = rest.split_first() {
            if self.at == At::Cr {
                if first != b'\n' {
                    return Err(BadData::BareLineEnd);
                }
                self.at = At::LineStart;
                rest = after;
                continue;
            }
            let end = rest.iter().position(|b| matches!(b, b'\r' | b'\n')).unwrap_or(rest.len());
            let (_inside, after) = rest.split_at_checked(end).unwrap_or((rest, &[]));
            match after.split_first() {
                Some((b'\r', after)) => (self.at, rest) = (At::Cr, after),
                Some(_) => return Err(BadData::BareLineEnd),
                None => (self.at, rest) = (At::Line, &[]),
            }
        }
        self.pending.extend_from_slice(input);
        Ok(())
    }

    /// A chunk that isn't the last, once there is more than one.
    pub fn chunk(&mut self) -> Option<Bytes> {
        (self.pending.len() > CHUNK).then(|| self.pending.split_to(CHUNK).freeze())
    }

    /// The last chunk.
    ///
    /// # Errors
    /// [`BadData`] when the message ends within a line; the transaction must then be abandoned.
    pub fn finish(self) -> Result<Bytes, BadData> {
        match self.at {
            At::LineStart => Ok(self.pending.freeze()),
            At::Cr => Err(BadData::BareLineEnd),
            At::Line => Err(BadData::NoFinalLineEnd),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sent(message: &[u8], piece: usize) -> Result<Vec<Bytes>, BadData> {
        let mut writer = ChunkWriter::default();
        let mut chunks = Vec::new();
        for piece in message.chunks(piece) {
            writer.write(piece)?;
            while let Some(chunk) = writer.chunk() {
                chunks.push(chunk);
            }
        }
        chunks.push(writer.finish()?);
        Ok(chunks)
    }

    #[test]
    fn only_whole_lines_are_sent() {
        for (message, want) in [
            (&b""[..], Ok(())),
            (b"a\r\n.\r\n..b\r\n", Ok(())),
            (b"a", Err(BadData::NoFinalLineEnd)),
            (b"a\r", Err(BadData::BareLineEnd)),
            (b"a\nb\r\n", Err(BadData::BareLineEnd)),
            (b"a\rb\r\n", Err(BadData::BareLineEnd)),
            (b"a\r\r\n", Err(BadData::BareLineEnd)),
            (b"\n", Err(BadData::BareLineEnd)),
        ] {
            for piece in [1, 2, 100] {
                assert_eq!(sent(message, piece).map(|_| ()), want, "{message:?} in pieces of {piece}");
            }
        }
    }

    #[test]
    fn the_last_chunk_is_empty_only_for_an_empty_message() {
        let line = [&[b'x'; 126][..], b"\r\n"].concat();
        for (lines, want) in [(0, vec![0]), (1, vec![128]), (1024, vec![CHUNK]), (1025, vec![CHUNK, 128]), (2048, vec![CHUNK, CHUNK])] {
            let message = line.repeat(lines);
            let lengths: Vec<usize> = sent(&message, 1 << 20).unwrap().iter().map(Bytes::len).collect();
            assert_eq!(lengths, want, "{lines} lines");
        }
    }

    proptest! {
        #[test]
        fn chunks_together_are_the_message(lines in proptest::collection::vec(0usize..998, 0..600), piece in 1usize..300_000) {
            let message: Vec<u8> = lines.iter().flat_map(|n| [&b".".repeat(*n)[..], b"\r\n"].concat()).collect();
            prop_assert_eq!(sent(&message, piece).unwrap().concat(), message);
        }

        #[test]
        fn bdat_and_data_refuse_the_same(message in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'.'), Just(b'x')], 0..12)) {
            let mut dots = crate::dot::DotWriter::default();
            let mut out = BytesMut::new();
            let with_dots = dots.write(&message, &mut out).and_then(|()| dots.finish(&mut out));
            prop_assert_eq!(sent(&message, 3).map(|_| ()), with_dots);
        }
    }
}
