//! Reports as they come in messages: transfer-encoded, packed, and from strangers. Nothing unpacks to more than its limit.

use flate2::Compression;
use flate2::read::{GzEncoder, MultiGzDecoder};
use mox_message::{Part, decode};
use std::io::{Cursor, Error, ErrorKind, Read};

/// The largest message in which a report is looked for.
pub const MAX_MESSAGE: usize = 15 * 1024 * 1024;

/// What a report may unpack to.
pub const MAX_REPORT: usize = 20 * 1024 * 1024;

/// The bytes of a part, without its transfer encoding; empty if the part isn't of this message.
pub(crate) fn content(message: &[u8], part: &Part) -> Vec<u8> {
    let range = usize::try_from(part.body.start).ok().zip(usize::try_from(part.body.end).ok());
    let body = range.and_then(|(start, end)| message.get(start..end)).unwrap_or_default();
    // Decoding never makes a body longer than the message was.
    decode::decode(part.transfer_encoding(), body, MAX_MESSAGE)
}

/// Unpacks gzip; several members, one behind the other, are one, RFC 1952 §2.2.
///
/// # Errors
/// It isn't gzip, or of [`ErrorKind::FileTooLarge`] when there is more than [`MAX_REPORT`] in it.
pub(crate) fn gunzip(data: &[u8]) -> Result<Vec<u8>, Error> {
    bounded(MultiGzDecoder::new(data))
}

/// Unpacks a zip archive with one file in it.
///
/// # Errors
/// As of [`gunzip`]; also when there isn't exactly one file.
pub(crate) fn unzip(data: &[u8]) -> Result<Vec<u8>, Error> {
    let invalid = |e: zip::result::ZipError| Error::new(ErrorKind::InvalidData, e);
    let mut archive = zip::ZipArchive::new(Cursor::new(data)).map_err(invalid)?;
    if archive.len() != 1 {
        return Err(Error::new(ErrorKind::InvalidData, format!("zip archive with {} files, want 1", archive.len())));
    }
    bounded(archive.by_index(0).map_err(invalid)?)
}

/// Packs with gzip.
///
/// # Errors
/// None that is known of: it happens in memory.
pub(crate) fn gzip(data: &[u8]) -> Result<Vec<u8>, Error> {
    let mut packed = Vec::new();
    GzEncoder::new(data, Compression::default()).read_to_end(&mut packed)?;
    Ok(packed)
}

fn bounded(unpacking: impl Read) -> Result<Vec<u8>, Error> {
    let mut out = Vec::new();
    let limit = u64::try_from(MAX_REPORT).unwrap_or(u64::MAX);
    unpacking.take(limit.saturating_add(1)).read_to_end(&mut out)?;
    if out.len() > MAX_REPORT { Err(Error::from(ErrorKind::FileTooLarge)) } else { Ok(out) }
}
