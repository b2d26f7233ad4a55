//! Blocks, compressed, with checksums.
//!
//! Most mail is a few KB of text, and opening a mailbox reads much of it at once: there a zstd frame costs more time in setting up
//! its tables than in unpacking. So a small block is packed with LZ4, which has none and unpacks several times as fast, for half
//! as much again on disk. Larger blocks are zstd frames with their own checksums, which shrinks attachments in base64, too.
//!
//! A small block is a byte that says how it is packed, the CRC-32 of what it unpacks to, little-endian, and the packed bytes. Its
//! first byte tells it from a zstd frame, which earlier versions wrote for blocks of all sizes.

use super::BLOCK;
use crate::error::Error;
use lz4_flex::block::{self, CompressTable};
use std::cell::RefCell;
use std::io::{self, Cursor};
use zstd::bulk::{Compressor, Decompressor};

/// Fast: mail is read and written far more often than disks are bought.
const LEVEL: i32 = 1;

/// Blocks up to this size are small.
const SMALL: usize = 16 << 10;

/// First bytes: of a zstd frame, and of small blocks that couldn't or could be made smaller.
const ZSTD: u8 = 0x28;
const PLAIN: u8 = 0;
const LZ4: u8 = 1;

/// How a small block is packed, and its checksum.
const HEAD: usize = 5;

/// Contexts are large; each thread keeps its own.
struct Contexts {
    compressor: Compressor<'static>,
    decompressor: Decompressor<'static>,
}

thread_local! {
    static CONTEXTS: RefCell<Option<Contexts>> = const { RefCell::new(None) };
    static TABLE: RefCell<Option<CompressTable>> = const { RefCell::new(None) };
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
    if data.len() > SMALL {
        return Ok(with(|c| c.compressor.compress(data))?);
    }
    let mut out = vec![0; HEAD.saturating_add(block::get_maximum_output_size(data.len()))];
    let packed = out.get_mut(HEAD..).and_then(|room| {
        TABLE.with_borrow_mut(|table| block::compress_into_with_table(data, room, table.get_or_insert_with(CompressTable::small)).ok())
    });
    let kind = match packed.filter(|n| *n < data.len()) {
        Some(length) => {
            out.truncate(HEAD.saturating_add(length));
            LZ4
        }
        None => {
            out.truncate(HEAD);
            out.extend_from_slice(data);
            PLAIN
        }
    };
    if let Some((first, rest)) = out.split_first_mut()
        && let Some(sum) = rest.first_chunk_mut()
    {
        (*first, *sum) = (kind, crc32fast::hash(data).to_le_bytes());
    }
    out.shrink_to_fit();
    Ok(out)
}

/// Decompresses a block of `size` bytes, verifies its checksum and appends it to `out`, which is as it was if that fails.
pub(crate) fn decode_block(frame: &[u8], size: usize, out: &mut Vec<u8>) -> Result<(), Error> {
    let start = out.len();
    let done = match frame.split_first() {
        Some((&ZSTD, _)) => decode_zstd(frame, size, out),
        Some((kind, rest)) => decode_small(*kind, rest, size, out),
        None => Err("empty"),
    };
    done.map_err(|wrong| {
        out.truncate(start);
        Error::Blob("block".to_owned(), wrong)
    })
}

const WRONG_SUM: &str = "checksum doesn't match";

fn decode_small(kind: u8, rest: &[u8], size: usize, out: &mut Vec<u8>) -> Result<(), &'static str> {
    let (sum, packed) = rest.split_first_chunk::<4>().ok_or("too short")?;
    let start = out.len();
    match kind {
        PLAIN => out.extend_from_slice(packed),
        LZ4 => {
            if size > SMALL {
                return Err("wrong size");
            }
            out.resize(start.saturating_add(size), 0);
            let room = out.get_mut(start..).unwrap_or_default();
            let length = block::decompress_into(packed, room).map_err(|_| WRONG_SUM)?;
            out.truncate(start.saturating_add(length));
        }
        _ => return Err("packed in an unknown way"),
    }
    let data = out.get(start..).unwrap_or_default();
    if crc32fast::hash(data).to_le_bytes() != *sum {
        return Err(WRONG_SUM);
    }
    if data.len() == size { Ok(()) } else { Err("wrong size") }
}

fn decode_zstd(frame: &[u8], size: usize, out: &mut Vec<u8>) -> Result<(), &'static str> {
    let start = out.len();
    // One byte more, so that a frame that is too long shows.
    out.reserve(size.min(BLOCK).saturating_add(1));
    let mut cursor = Cursor::new(std::mem::take(out));
    cursor.set_position(u64::try_from(start).unwrap_or(u64::MAX));
    let done = with(|c| c.decompressor.decompress_to_buffer(frame, &mut cursor));
    *out = cursor.into_inner();
    match done {
        Ok(_) if out.len() == start.saturating_add(size) => Ok(()),
        Ok(_) => Err("wrong size"),
        Err(_) => Err(WRONG_SUM),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(n: u32) -> Vec<u8> {
        (0..n).flat_map(|n| n.to_le_bytes()).collect()
    }

    /// Whatever is packed comes back, however it is packed, and damage never goes unnoticed.
    fn check(data: &[u8], frame: &[u8]) {
        let mut out = b"before".to_vec();
        decode_block(frame, data.len(), &mut out).unwrap();
        assert_eq!(out, [b"before", data].concat());
        out.truncate(6);
        assert!(decode_block(frame, data.len().wrapping_sub(1), &mut out).is_err());
        assert!(decode_block(frame, data.len() + 1, &mut out).is_err());
        assert_eq!(out, b"before");
        for at in (0..frame.len()).step_by(1 + frame.len() / 300) {
            let mut bad = frame.to_vec();
            bad[at] ^= 4;
            match decode_block(&bad, data.len(), &mut out) {
                // zstd has bits that mean nothing.
                Ok(()) => assert_eq!(out.get(6..), Some(data), "byte {at}"),
                Err(_) => assert_eq!(out, b"before", "byte {at}"),
            }
            out.truncate(6);
            if !data.is_empty() {
                assert!(decode_block(&frame[..at], data.len(), &mut out).is_err(), "cut at {at}");
                assert_eq!(out, b"before");
            }
        }
    }

    #[test]
    fn blocks_of_all_sizes_come_back_and_a_flipped_bit_shows() {
        let text = "A line that occurs again and again.\r\n".repeat(2000).into_bytes();
        for size in [0, 1, 12, 13, 100, 4000, SMALL - 1, SMALL, SMALL + 1, BLOCK] {
            let data = &text[..size];
            let frame = encode_block(data).unwrap();
            assert!(frame.len() <= size + HEAD, "{size}");
            assert!(size < 1000 || frame.len() < size / 2, "{size}: {}", frame.len());
            check(data, &frame);
        }
        check(&numbers(5000), &encode_block(&numbers(5000)).unwrap());
        check(&numbers(2000), &encode_block(&numbers(2000)).unwrap());
    }

    #[test]
    fn small_blocks_that_cannot_be_made_smaller_are_kept_as_they_are() {
        let mut state = 1u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state.to_le_bytes()[6]
        })
        .take(3000)
        .collect();
        let frame = encode_block(&noise).unwrap();
        assert_eq!((frame[0], frame.len()), (PLAIN, noise.len() + HEAD));
        check(&noise, &frame);
    }

    #[test]
    fn small_blocks_of_earlier_versions_are_read() {
        let data = numbers(900);
        let frame = with(|c| c.compressor.compress(&data)).unwrap();
        check(&data, &frame);
    }

    #[test]
    fn a_size_that_is_a_lie_takes_no_memory() {
        let mut out = Vec::new();
        let frame = encode_block(b"some text, some text, some text, some text").unwrap();
        assert!(decode_block(&frame, usize::MAX, &mut out).is_err());
        assert!(out.capacity() < 1 << 20);
    }
}
