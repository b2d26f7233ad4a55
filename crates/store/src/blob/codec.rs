//! Blocks: zstd frames with checksums.

use super::BLOCK;
use crate::error::Error;
use std::cell::RefCell;
use std::io::{self, Cursor};
use zstd::bulk::{Compressor, Decompressor};

/// Fast: mail is read and written far more often than disks are bought.
const LEVEL: i32 = 1;

/// Contexts are large; each thread keeps its own.
struct Contexts {
    compressor: Compressor<'static>,
    decompressor: Decompressor<'static>,
}

thread_local! {
    static CONTEXTS: RefCell<Option<Contexts>> = const { RefCell::new(None) };
}

fn with<T>(f: impl FnOnce(&mut Contexts) -> io::Result<T>) -> io::Result<T> {
    CONTEXTS.with_borrow_mut(|slot| {
        if let Some(contexts) = slot {
            return f(contexts);
        }
        let mut compressor = Compressor::new(LEVEL)?;
        compressor.set_parameter(zstd::zstd_safe::CParameter::ChecksumFlag(true))?;
        f(slot.insert(Contexts { compressor, decompressor: Decompressor::new()? }))
    })
}

/// Compresses a block.
pub(crate) fn encode_block(data: &[u8]) -> Result<Vec<u8>, Error> {
    Ok(with(|c| c.compressor.compress(data))?)
}

/// Decompresses a block of `size` bytes, verifies its checksum and appends it to `out`, which is as it was if that fails.
pub(crate) fn decode_block(frame: &[u8], size: usize, out: &mut Vec<u8>) -> Result<(), Error> {
    let start = out.len();
    // One byte more, so that a frame that is too long shows.
    out.reserve(size.min(BLOCK).saturating_add(1));
    let mut cursor = Cursor::new(std::mem::take(out));
    cursor.set_position(u64::try_from(start).unwrap_or(u64::MAX));
    let done = with(|c| c.decompressor.decompress_to_buffer(frame, &mut cursor));
    *out = cursor.into_inner();
    let wrong = match done {
        Ok(_) if out.len() == start.saturating_add(size) => return Ok(()),
        Ok(_) => "wrong size",
        Err(_) => "checksum doesn't match",
    };
    out.truncate(start);
    Err(Error::Blob("block".to_owned(), wrong))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flipped_bit_shows() {
        let data: Vec<u8> = (0..5000u32).flat_map(|n| n.to_le_bytes()).collect();
        let frame = encode_block(&data).unwrap();
        let mut out = b"before".to_vec();
        decode_block(&frame, data.len(), &mut out).unwrap();
        assert_eq!(out, [b"before", data.as_slice()].concat());
        out.truncate(6);
        assert!(decode_block(&frame, data.len() - 1, &mut out).is_err());
        assert_eq!(out, b"before");
        for at in (0..frame.len()).step_by(97) {
            let mut bad = frame.clone();
            bad[at] ^= 4;
            match decode_block(&bad, data.len(), &mut out) {
                Ok(()) => assert_eq!(out.get(6..), Some(data.as_slice()), "byte {at}"),
                Err(_) => assert_eq!(out, b"before", "byte {at}"),
            }
            out.truncate(6);
        }
        let empty = encode_block(b"").unwrap();
        decode_block(&empty, 0, &mut out).unwrap();
        assert_eq!(out, b"before");
    }
}
