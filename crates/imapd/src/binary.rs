//! Parts as what they stand for, their transfer encoding undone, for BINARY, RFC 3516.
//!
//! A part is decoded in pieces, twice: once to know its length, which IMAP says first, and once to send it. So memory doesn't depend on its
//! size.

use crate::section::{FieldsOf, append_fields};
use mox_base::MessageId;
use mox_message::Structure;
use mox_message::decode::{CrlfText, Encoding, TransferDecoder};
use mox_store::{Error, ReadTx};
use std::ops::Range;

/// Raw bytes decoded at once.
const PIECE: u64 = 128 * 1024;

/// A part being decoded.
#[derive(Debug)]
pub(crate) struct Decoded {
    message: MessageId,
    /// What is left to be decoded.
    raw: Range<u64>,
    decoder: Option<TransferDecoder>,
    /// Text gets CRLF line ends.
    crlf: Option<CrlfText>,
    /// What comes before the first piece.
    head: Vec<u8>,
}

/// What a part is once decoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Measure {
    pub(crate) length: u64,
    /// It has a NUL somewhere.
    pub(crate) nul: bool,
}

impl Decoded {
    /// The start of a leaf part, or of the whole message: a message of one part comes without its Content-Transfer-Encoding and
    /// with its body decoded, others as they are, RFC 3516 §4.2. None if there is no such leaf.
    pub(crate) fn open(r: &ReadTx<'_>, message: MessageId, structure: &Structure, part: &[u32]) -> Result<Option<Self>, Error> {
        let Some(found) = structure.section(part) else { return Ok(None) };
        let whole = part.is_empty();
        if !found.is_leaf() {
            let as_is = Self {
                message,
                raw: 0..structure.len(),
                decoder: Some(TransferDecoder::new(Encoding::Binary)),
                crlf: None,
                head: Vec::new(),
            };
            return Ok(whole.then_some(as_is));
        }
        let mut head = Vec::new();
        if whole {
            let mut header = Vec::new();
            r.message_bytes(message, found.header.clone(), &mut header)?;
            append_fields(&mut head, &header, FieldsOf::NotNamed(&["Content-Transfer-Encoding".to_owned()]));
        }
        let decoder = Some(TransferDecoder::new(found.transfer_encoding()));
        Ok(Some(Self { message, raw: found.body.clone(), decoder, crlf: found.is_text().then(CrlfText::default), head }))
    }

    /// Decodes to the end.
    pub(crate) fn measure(mut self, r: &ReadTx<'_>) -> Result<Measure, Error> {
        let mut measure = Measure::default();
        while let Some(piece) = self.next(r)? {
            measure.length = measure.length.saturating_add(piece.len() as u64);
            measure.nul |= piece.contains(&0);
        }
        Ok(measure)
    }

    /// The next piece, none at the end.
    pub(crate) fn next(&mut self, r: &ReadTx<'_>) -> Result<Option<Vec<u8>>, Error> {
        if !self.head.is_empty() {
            return Ok(Some(std::mem::take(&mut self.head)));
        }
        let Some(decoder) = &mut self.decoder else { return Ok(None) };
        let mut plain = Vec::new();
        if self.raw.start < self.raw.end {
            let to = self.raw.start.saturating_add(PIECE).min(self.raw.end);
            let mut raw = Vec::new();
            r.message_bytes(self.message, self.raw.start..to, &mut raw)?;
            decoder.push(&raw, &mut plain);
            self.raw.start = to;
        } else if let Some(decoder) = self.decoder.take() {
            decoder.finish(&mut plain);
        }
        Ok(Some(match &mut self.crlf {
            Some(crlf) => {
                let mut text = Vec::with_capacity(plain.len());
                crlf.push(&plain, &mut text);
                text
            }
            None => plain,
        }))
    }
}
