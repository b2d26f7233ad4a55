//! Character sets of mail, to UTF-8.
//!
//! Labels are those of the WHATWG (`gb2312`, `iso-2022-jp`, `windows-31j` and so on work), because that is what mail clients
//! understand. Absent and unknown labels, and those that lie, must not lose text: bytes that are UTF-8 are taken as UTF-8,
//! others as windows-1252, in which every byte is some character.

use encoding_rs::{Encoding, REPLACEMENT, UTF_8, WINDOWS_1252};
use std::borrow::Cow;

/// Decodes bytes in a named character set, and takes its word for it: what isn't in it becomes U+FFFD, in UTF-8, too. For programs, which
/// should get the same as from every other decoder.
pub fn decode_as_named<'a>(label: &str, bytes: &'a [u8]) -> Cow<'a, str> {
    match Encoding::for_label(without_language(label).as_bytes()) {
        Some(encoding) if encoding == UTF_8 => UTF_8.decode_with_bom_removal(bytes).0,
        _ => decode(label, bytes),
    }
}

/// Decodes bytes in a named character set. Never fails: what can't be decoded becomes U+FFFD, or some character if UTF-8 was named.
pub fn decode<'a>(label: &str, bytes: &'a [u8]) -> Cow<'a, str> {
    let label = without_language(label);
    if is_unspecific(label) {
        return guess(bytes);
    }
    match Encoding::for_label(label.as_bytes()) {
        Some(encoding) if encoding == UTF_8 => guess(bytes),
        Some(encoding) if encoding != REPLACEMENT => encoding.decode_with_bom_removal(bytes).0,
        _ => guess(bytes),
    }
}

/// RFC 2231 §5: a language may follow the name in an encoded word.
fn without_language(label: &str) -> &str {
    let label = label.trim();
    label.split_once('*').map_or(label, |(charset, _)| charset)
}

/// Whether the label says nothing: absent, or ASCII, which mail with other bytes often claims to be.
fn is_unspecific(label: &str) -> bool {
    label.is_empty()
        || label.eq_ignore_ascii_case("us-ascii")
        || label.eq_ignore_ascii_case("ascii")
        || label.eq_ignore_ascii_case("unknown-8bit")
}

/// Bytes without a usable character set: UTF-8 if they are, else windows-1252.
pub fn guess(bytes: &[u8]) -> Cow<'_, str> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        // Cut in the middle of a character is still UTF-8: texts are read up to a limit.
        Err(e) if e.error_len().is_none() && !bytes.get(..e.valid_up_to()).unwrap_or_default().is_ascii() => String::from_utf8_lossy(bytes),
        Err(_) => WINDOWS_1252.decode_without_bom_handling(bytes).0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels() {
        for (label, bytes, want) in [
            ("utf-8", "ä€".as_bytes(), "ä€"),
            ("ISO-8859-1", b"\xe4".as_slice(), "ä"),
            ("us-ascii", b"\xe4", "ä"),
            ("", "ä".as_bytes(), "ä"),
            ("utf-8", b"\xe4b", "äb"),
            ("iso-2022-jp", b"\x1b$B4A;z\x1b(B", "漢字"),
            ("gb2312", b"\xba\xba\xd7\xd6", "汉字"),
            ("koi8-r", b"\xc1", "а"),
            ("x-unheard-of", b"a\xe4", "aä"),
            ("iso-8859-1*de", b"\xe4", "ä"),
            ("iso-2022-kr", b"abc", "abc"),
        ] {
            assert_eq!(decode(label, bytes), want, "{label}");
            let strictly = decode_as_named(label, bytes);
            assert_eq!(strictly, if label == "utf-8" && bytes == b"\xe4b" { "\u{fffd}b" } else { want }, "{label}");
        }
    }
}
