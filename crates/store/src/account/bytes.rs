//! Reading message bytes.
//!
//! Bytes are decompressed from the database's own memory into the caller's buffer: between the two is no copy of a whole message.

use super::read::{MessageRow, ReadTx};
use crate::blob::{BLOCK, BlobStore, decode_block};
use crate::db::{self, Row};
use crate::error::{Error, corrupt};
use crate::params;
use mox_base::{BlobId, ByteSize, MessageId};
use std::io::Read;
use std::ops::Range;

/// Where a message's bytes are: columns `size, name, blocks, data` of `blob`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stored<'r> {
    size: u64,
    /// Of a file, with the compressed sizes of its blocks.
    file: Option<(&'r str, &'r [u8])>,
    data: &'r [u8],
}

impl ReadTx<'_> {
    /// Appends a range of a message's bytes to `out`; what is beyond its end is left out. The size of the whole message.
    ///
    /// # Errors
    /// [`Error::NoMessage`]; [`Error::Blob`] if the bytes aren't what was stored.
    pub fn message_bytes(&self, id: MessageId, range: Range<u64>, out: &mut Vec<u8>) -> Result<ByteSize, Error> {
        let sql = "SELECT b.size, b.name, b.blocks, b.data FROM message m JOIN blob b ON b.account_id = m.account_id AND b.id = m.blob_id \
                   WHERE m.account_id = $1 AND m.id = $2";
        let read = |r: &Row<'_>| {
            let stored = Stored::of(r, 0)?;
            stored.append(&*self.scope.blobs, range, out)?;
            Ok::<_, Error>(ByteSize(stored.size))
        };
        self.tx.query_opt(sql, params![self.account(), id], read)?.ok_or(Error::NoMessage)
    }

    /// As [`ReadTx::message_bytes`], of all bytes of a blob; for checks.
    pub(crate) fn blob_bytes(&self, id: BlobId, out: &mut Vec<u8>) -> Result<(), Error> {
        let sql = "SELECT size, name, blocks, data FROM blob WHERE account_id = $1 AND id = $2";
        self.tx.query_row(sql, params![self.account(), id], |r| Stored::of(r, 0)?.append(&*self.scope.blobs, 0..u64::MAX, out))
    }
}

impl MessageRow<'_> {
    /// Appends a range of the message's bytes to `out`; what is beyond its end is left out.
    ///
    /// # Errors
    /// As [`ReadTx::message_bytes`], or the columns weren't asked for.
    pub fn append_bytes(&self, r: &ReadTx<'_>, range: Range<u64>, out: &mut Vec<u8>) -> Result<(), Error> {
        self.stored()?.append(&*r.scope.blobs, range, out)
    }
}

impl<'r> Stored<'r> {
    /// From a row whose columns they are, beginning with this one.
    pub(super) fn of(r: &'r Row<'_>, first: usize) -> Result<Self, db::Error> {
        let at = |n: usize| first.saturating_add(n);
        let file = match r.opt_text(at(1))? {
            Some(name) => Some((name, r.opt_blob(at(2))?.unwrap_or_default())),
            None => None,
        };
        Ok(Self { size: u64::try_from(r.int(first)?).map_err(|_| corrupt("blob"))?, file, data: r.opt_blob(at(3))?.unwrap_or_default() })
    }

    fn append(self, blobs: &dyn BlobStore, range: Range<u64>, out: &mut Vec<u8>) -> Result<(), Error> {
        let end = range.end.min(self.size);
        let start = range.start.min(end);
        match self.file {
            None => append_block(self.data, self.size, start..end, out),
            Some(_) if start == end => Ok(()),
            Some((name, sizes)) => self.append_file(blobs, name, sizes, start..end, out),
        }
    }

    fn append_file(self, blobs: &dyn BlobStore, name: &str, sizes: &[u8], range: Range<u64>, out: &mut Vec<u8>) -> Result<(), Error> {
        let block = u64::try_from(BLOCK).unwrap_or(u64::MAX);
        let mut sizes = sizes.chunks_exact(4).filter_map(|c| c.first_chunk().map(|b| u64::from(u32::from_le_bytes(*b))));
        let first = range.start.checked_div(block).unwrap_or(0);
        let skipped = sizes.by_ref().take(usize::try_from(first).unwrap_or(usize::MAX)).sum();
        let mut file = blobs.open(name, skipped)?;
        let mut frame = Vec::new();
        let mut at = first.saturating_mul(block);
        for size in sizes {
            if at >= range.end {
                break;
            }
            frame.clear();
            file.by_ref().take(size).read_to_end(&mut frame)?;
            let length = self.size.saturating_sub(at).min(block);
            let within = range.start.saturating_sub(at)..range.end.saturating_sub(at).min(length);
            append_block(&frame, length, within, out).map_err(|_| Error::Blob(name.to_owned(), "checksum doesn't match"))?;
            at = at.saturating_add(length);
        }
        if at < range.end { Err(Error::Blob(name.to_owned(), "too short")) } else { Ok(()) }
    }
}

/// Appends a range of a block of `length` bytes.
fn append_block(frame: &[u8], length: u64, range: Range<u64>, out: &mut Vec<u8>) -> Result<(), Error> {
    let start = out.len();
    decode_block(frame, usize::try_from(length).unwrap_or(usize::MAX), out)?;
    let at = |n: u64| start.saturating_add(usize::try_from(n).unwrap_or(usize::MAX)).min(out.len());
    let (from, to) = (at(range.start), at(range.end));
    out.truncate(to);
    if from > start {
        out.drain(start..from);
    }
    Ok(())
}
