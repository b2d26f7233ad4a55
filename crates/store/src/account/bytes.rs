//! Reading message bytes.

use super::read::ReadTx;
use crate::blob::{BLOCK, decode_block};
use crate::db::{self, Row};
use crate::error::{Error, corrupt};
use crate::params;
use mox_base::{BlobId, ByteSize, MessageId};
use std::io::Read;
use std::ops::Range;

/// Where a message's bytes are.
#[derive(Clone, Debug)]
struct Stored {
    size: u64,
    name: Option<String>,
    blocks: Vec<u8>,
    data: Vec<u8>,
}

impl ReadTx<'_> {
    /// Appends a range of a message's bytes to `out`; what is beyond its end is left out. The size of the whole message.
    ///
    /// # Errors
    /// [`Error::NoMessage`]; [`Error::Blob`] if the bytes aren't what was stored.
    pub fn message_bytes(&self, id: MessageId, range: Range<u64>, out: &mut Vec<u8>) -> Result<ByteSize, Error> {
        let stored = self
            .tx
            .query_opt(
                "SELECT b.size, b.name, b.blocks, b.data FROM message m JOIN blob b ON b.account_id = m.account_id AND b.id = m.blob_id \
                 WHERE m.account_id = $1 AND m.id = $2",
                params![self.account(), id],
                stored,
            )?
            .ok_or(Error::NoMessage)?;
        self.read_stored(&stored, range, out)?;
        Ok(ByteSize(stored.size))
    }

    /// As [`ReadTx::message_bytes`], of all bytes of a blob; for checks.
    pub(crate) fn blob_bytes(&self, id: BlobId, out: &mut Vec<u8>) -> Result<(), Error> {
        let sql = "SELECT size, name, blocks, data FROM blob WHERE account_id = $1 AND id = $2";
        let stored = self.tx.query_row(sql, params![self.account(), id], stored)?;
        self.read_stored(&stored, 0..stored.size, out)
    }

    fn read_stored(&self, stored: &Stored, range: Range<u64>, out: &mut Vec<u8>) -> Result<(), Error> {
        let end = range.end.min(stored.size);
        let start = range.start.min(end);
        let block = u64::try_from(BLOCK).unwrap_or(u64::MAX);
        let mut decoded = Vec::new();
        let mut frame = Vec::new();
        let Some(name) = &stored.name else {
            decode_block(&stored.data, usize::try_from(stored.size).unwrap_or(usize::MAX), &mut decoded)?;
            out.extend_from_slice(slice(&decoded, start, end));
            return Ok(());
        };
        let sizes: Vec<u64> =
            stored.blocks.chunks_exact(4).filter_map(|c| c.first_chunk().map(|b| u32::from_le_bytes(*b).into())).collect();
        let first = start.checked_div(block).unwrap_or(0);
        let skipped = sizes.iter().take(usize::try_from(first).unwrap_or(usize::MAX)).sum();
        if start == end {
            return Ok(());
        }
        let mut file = self.scope.blobs.open(name, skipped)?;
        let mut at = first.saturating_mul(block);
        for size in sizes.iter().skip(usize::try_from(first).unwrap_or(usize::MAX)) {
            if at >= end {
                break;
            }
            frame.clear();
            file.by_ref().take(*size).read_to_end(&mut frame)?;
            let length = stored.size.saturating_sub(at).min(block);
            decode_block(&frame, usize::try_from(length).unwrap_or(usize::MAX), &mut decoded)
                .map_err(|_| Error::Blob(name.clone(), "checksum doesn't match"))?;
            out.extend_from_slice(slice(&decoded, start.saturating_sub(at), end.saturating_sub(at)));
            at = at.saturating_add(length);
        }
        if at < end { Err(Error::Blob(name.clone(), "too short")) } else { Ok(()) }
    }
}

fn stored(r: &Row<'_>) -> Result<Stored, db::Error> {
    Ok(Stored {
        size: u64::try_from(r.int(0)?).map_err(|_| corrupt("blob"))?,
        name: r.opt_text(1)?.map(str::to_owned),
        blocks: r.opt_blob(2)?.unwrap_or_default().to_vec(),
        data: r.opt_blob(3)?.unwrap_or_default().to_vec(),
    })
}

fn slice(data: &[u8], start: u64, end: u64) -> &[u8] {
    let at = |n: u64| usize::try_from(n).unwrap_or(usize::MAX).min(data.len());
    data.get(at(start)..at(end)).unwrap_or_default()
}
