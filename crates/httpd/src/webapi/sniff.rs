//! The media type of bytes whose sender doesn't say, by how they begin: the table of the WHATWG's MIME Sniffing standard.

/// Bytes that are looked at.
const LOOKED_AT: usize = 512;

/// Beginnings of HTML in upper case, behind white space and before a space or `>`, §7.1.
const HTML: [&[u8]; 17] = [
    b"<!DOCTYPE HTML",
    b"<HTML",
    b"<HEAD",
    b"<SCRIPT",
    b"<IFRAME",
    b"<H1",
    b"<DIV",
    b"<FONT",
    b"<TABLE",
    b"<A",
    b"<STYLE",
    b"<TITLE",
    b"<B",
    b"<BODY",
    b"<BR",
    b"<P",
    b"<!--",
];

/// Exact beginnings.
const EXACT: [(&[u8], &str); 26] = [
    (b"%PDF-", "application/pdf"),
    (b"%!PS-Adobe-", "application/postscript"),
    (b"\xfe\xff", "text/plain; charset=utf-16be"),
    (b"\xff\xfe", "text/plain; charset=utf-16le"),
    (b"\xef\xbb\xbf", "text/plain; charset=utf-8"),
    (b"\x00\x00\x01\x00", "image/x-icon"),
    (b"\x00\x00\x02\x00", "image/x-icon"),
    (b"BM", "image/bmp"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"ID3", "audio/mpeg"),
    (b"OggS\x00", "application/ogg"),
    (b"MThd\x00\x00\x00\x06", "audio/midi"),
    (b"\x1a\x45\xdf\xa3", "video/webm"),
    (b"\x00\x01\x00\x00", "font/ttf"),
    (b"OTTO", "font/otf"),
    (b"ttcf", "font/collection"),
    (b"wOFF", "font/woff"),
    (b"wOF2", "font/woff2"),
    (b"\x1f\x8b\x08", "application/x-gzip"),
    (b"PK\x03\x04", "application/zip"),
    (b"Rar!\x1a\x07\x00", "application/x-rar-compressed"),
    (b"Rar!\x1a\x07\x01\x00", "application/x-rar-compressed"),
    (b"\x00asm", "application/wasm"),
];

/// Kinds in a container: its first four bytes, four bytes of any value, and what follows.
const CONTAINED: [(&[u8], &[u8], &str); 4] = [
    (b"RIFF", b"WEBPVP", "image/webp"),
    (b"FORM", b"AIFF", "audio/aiff"),
    (b"RIFF", b"AVI ", "video/avi"),
    (b"RIFF", b"WAVE", "audio/wave"),
];

/// The media type; `application/octet-stream` if it can't be told.
pub(super) fn media_type(data: &[u8]) -> &'static str {
    let data = data.get(..LOOKED_AT).unwrap_or(data);
    let text = data.get(data.iter().take_while(|b| matches!(b, b'\t' | b'\n' | b'\x0c' | b'\r' | b' ')).count()..).unwrap_or_default();
    let is_tag = |tag: &[u8]| {
        let (start, after) = (text.get(..tag.len()), text.get(tag.len()));
        start.is_some_and(|s| s.eq_ignore_ascii_case(tag)) && (tag == b"<!--" || matches!(after, Some(b' ' | b'>')))
    };
    if HTML.iter().any(|tag| is_tag(tag)) {
        return "text/html; charset=utf-8";
    }
    if text.starts_with(b"<?xml") {
        return "text/xml; charset=utf-8";
    }
    if let Some((_, kind)) = EXACT.iter().find(|(start, _)| data.starts_with(start)) {
        return kind;
    }
    let contained = |outer: &[u8], inner: &[u8]| data.starts_with(outer) && data.get(8..).is_some_and(|rest| rest.starts_with(inner));
    if let Some((_, _, kind)) = CONTAINED.iter().find(|(outer, inner, _)| contained(outer, inner)) {
        return kind;
    }
    if is_mp4(data) {
        return "video/mp4";
    }
    // §7.1: bytes that no text has.
    let binary = |b: &u8| matches!(b, 0x00..=0x08 | 0x0b | 0x0e..=0x1a | 0x1c..=0x1f);
    if data.iter().any(binary) { "application/octet-stream" } else { "text/plain; charset=utf-8" }
}

/// §6.2.1: a box `ftyp` with a brand that starts with `mp4`.
fn is_mp4(data: &[u8]) -> bool {
    let Some((size, rest)) = data.split_first_chunk::<4>() else { return false };
    let size = usize::try_from(u32::from_be_bytes(*size)).unwrap_or(usize::MAX);
    if data.len() < size || size % 4 != 0 || !rest.starts_with(b"ftyp") {
        return false;
    }
    let brands = data.get(8..size).unwrap_or_default().chunks_exact(4).enumerate();
    brands.into_iter().any(|(i, brand)| i != 1 && brand.starts_with(b"mp4"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds() {
        for (data, want) in [
            (b"".as_slice(), "text/plain; charset=utf-8"),
            (b"hello\n", "text/plain; charset=utf-8"),
            (b" \n<!doctype html><p>", "text/html; charset=utf-8"),
            (b"<br>", "text/html; charset=utf-8"),
            (b"<brx>", "text/plain; charset=utf-8"),
            (b"<!--x", "text/html; charset=utf-8"),
            (b"\t<?xml version", "text/xml; charset=utf-8"),
            (b"%PDF-1.7", "application/pdf"),
            (b"\x89PNG\r\n\x1a\n\0", "image/png"),
            (b"RIFF\0\0\0\0WAVEfmt", "audio/wave"),
            (b"\0\0\0\x14ftypisom\0\0\0\0mp42", "video/mp4"),
            (b"PK\x03\x04", "application/zip"),
            (b"a\0b", "application/octet-stream"),
        ] {
            assert_eq!(media_type(data), want, "{data:?}");
        }
    }
}
