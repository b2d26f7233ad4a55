//! Encoded words of header fields, RFC 2047: reading and writing.
//!
//! Reading is lenient: words inside quoted strings are decoded too, characters split over adjacent words are joined, raw
//! 8-bit text is taken as UTF-8 or windows-1252. It takes linear time, because no part of an encoded word contains a `?`.

use crate::charset;
use crate::decode::{Encoding, TransferDecoder};

/// A piece of the text between two adjacent decoded words, waiting for whether the next word continues it.
struct Pending {
    charset: String,
    bytes: Vec<u8>,
}

/// Decodes an unfolded field value into text, RFC 2047 §6.
pub fn decode(value: &[u8]) -> String {
    let mut out = String::with_capacity(value.len());
    let mut rest = value;
    let mut pending: Option<Pending> = None;
    // Text not yet written: from the start of `plain` up to where we look.
    while let Some(at) = find(rest, b"=?") {
        let (before, from) = rest.split_at(at);
        let Some((word, after)) = encoded_word(from) else {
            flush(&mut pending, &mut out);
            let (skipped, after) = rest.split_at(at.saturating_add(2).min(rest.len()));
            out.push_str(&charset::guess(skipped));
            rest = after;
            continue;
        };
        // White space between adjacent encoded words isn't displayed, RFC 2047 §6.2.
        let adjacent = pending.is_some() && before.iter().all(u8::is_ascii_whitespace);
        if !adjacent {
            flush(&mut pending, &mut out);
            out.push_str(&charset::guess(before));
        }
        match &mut pending {
            Some(open) if open.charset.eq_ignore_ascii_case(&word.charset) => open.bytes.extend_from_slice(&word.bytes),
            _ => {
                flush(&mut pending, &mut out);
                pending = Some(word);
            }
        }
        rest = after;
    }
    flush(&mut pending, &mut out);
    out.push_str(&charset::guess(rest));
    out
}

fn flush(pending: &mut Option<Pending>, out: &mut String) {
    if let Some(word) = pending.take() {
        // Line breaks and NULs hidden in an encoded word must not come out as such.
        out.extend(charset::decode(&word.charset, &word.bytes).chars().map(|c| if c.is_control() && c != '\t' { ' ' } else { c }));
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|w| w == needle)
}

/// `encoded-word = "=?" charset "?" encoding "?" encoded-text "?="`, RFC 2047 §2. The input starts with `=?`.
fn encoded_word(from: &[u8]) -> Option<(Pending, &[u8])> {
    let rest = from.get(2..)?;
    let (charset, rest) = until_question_mark(rest)?;
    let (encoding, rest) = until_question_mark(rest)?;
    let (text, rest) = until_question_mark(rest)?;
    let after = rest.strip_prefix(b"=")?;
    if charset.is_empty() || charset.len() > 64 || !charset.iter().all(u8::is_ascii_graphic) {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len());
    match encoding {
        b"B" | b"b" => {
            let mut decoder = TransferDecoder::new(Encoding::Base64);
            decoder.push(text, &mut bytes);
            decoder.finish(&mut bytes);
        }
        b"Q" | b"q" => decode_q(text, &mut bytes),
        _ => return None,
    }
    let charset = String::from_utf8_lossy(charset).into_owned();
    Some((Pending { charset, bytes }, after))
}

fn until_question_mark(s: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = s.iter().position(|b| *b == b'?')?;
    let (before, rest) = s.split_at(at);
    Some((before, rest.get(1..)?))
}

/// The "Q" encoding, RFC 2047 §4.2.
fn decode_q(text: &[u8], out: &mut Vec<u8>) {
    let mut bytes = text.iter().copied().enumerate();
    while let Some((i, b)) = bytes.next() {
        match b {
            b'_' => out.push(b' '),
            b'=' => match text.get(i.saturating_add(1)..i.saturating_add(3)).and_then(hex) {
                Some(decoded) => {
                    out.push(decoded);
                    bytes.nth(1);
                }
                None => out.push(b),
            },
            _ => out.push(b),
        }
    }
}

/// Two hexadecimal digits.
pub(crate) fn hex(digits: &[u8]) -> Option<u8> {
    let [high, low] = digits else { return None };
    let value = |d: u8| char::from(d).to_digit(16).and_then(|v| u8::try_from(v).ok());
    Some(value(*high)? << 4 | value(*low)?)
}

/// The most bytes of text in one encoded word, so that it stays within 75 characters when each byte takes three:
/// RFC 2047 §2.
const WORD_BYTES: usize = 20;

/// Encodes text as one or more encoded words, UTF-8 with the "Q" encoding, joined by spaces. Characters aren't split.
pub fn encode(text: &str) -> String {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut bytes = 0;
    for c in text.chars() {
        if bytes + c.len_utf8() > WORD_BYTES {
            words.push(std::mem::take(&mut word));
            bytes = 0;
        }
        bytes += c.len_utf8();
        let mut buf = [0; 4];
        for b in c.encode_utf8(&mut buf).bytes() {
            match b {
                b' ' => word.push('_'),
                // Safe in a phrase too, RFC 2047 §5 (3).
                _ if b.is_ascii_alphanumeric() || b"!*+-/".contains(&b) => word.push(char::from(b)),
                _ => word.push_str(&format!("={b:02X}")),
            }
        }
    }
    words.push(word);
    let words: Vec<String> = words.iter().map(|w| format!("=?utf-8?q?{w}?=")).collect();
    words.join(" ")
}

/// Encodes the words of a text that need it, as for a `Subject:`. A run of neighbouring words that need it is encoded
/// together with the spaces between them, because readers drop white space between encoded words, RFC 2047 §6.2.
pub fn encode_words(text: &str) -> String {
    let mut out: Vec<String> = Vec::new();
    let mut run: Option<String> = None;
    for word in text.split(' ') {
        // An empty word, of two spaces in a row, belongs to the run before it: between two runs it would get lost.
        let encode_it =
            !word.is_ascii() || word.contains("=?") || word.bytes().any(|b| b.is_ascii_control()) || (word.is_empty() && run.is_some());
        match (&mut run, encode_it) {
            (Some(open), true) => {
                open.push(' ');
                open.push_str(word);
            }
            (None, true) => run = Some(word.to_owned()),
            (_, false) => {
                out.extend(run.take().map(|r| encode(&r)));
                out.push(word.to_owned());
            }
        }
    }
    out.extend(run.take().map(|r| encode(&r)));
    out.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn decodes() {
        // The examples of RFC 2047 §8, then what real mail has.
        for (value, want) in [
            ("=?ISO-8859-1?Q?a?=", "a"),
            ("=?ISO-8859-1?Q?a?= b", "a b"),
            ("=?ISO-8859-1?Q?a?= =?ISO-8859-1?Q?b?=", "ab"),
            ("=?ISO-8859-1?Q?a?=  =?ISO-8859-1?Q?b?=", "ab"),
            ("=?ISO-8859-1?Q?a_b?=", "a b"),
            ("=?ISO-8859-1?Q?a?= =?ISO-8859-2?Q?_b?=", "a b"),
            (
                "=?ISO-8859-1?B?SWYgeW91IGNhbiByZWFkIHRoaXMgeW8=?= =?ISO-8859-2?B?dSB1bmRlcnN0YW5kIHRoZSBleGFtcGxlLg==?=",
                "If you can read this you understand the example.",
            ),
            ("=?utf-8?q?=C3?= =?utf-8?q?=A4?=", "ä"),
            ("=?utf-8?q?=zz=4?=", "=zz=4"),
            ("=?utf-8?x?a?= =?utf-8?q?b", "=?utf-8?x?a?= =?utf-8?q?b"),
            ("a=?utf-8?q?b?=c", "abc"),
            ("=?=?=?", "=?=?=?"),
            ("=?iso-2022-jp?B?GyRCNEE7ehsoQg==?=", "漢字"),
            ("=?utf-8?q?a=0D=0ABcc:_x?=", "a  Bcc: x"),
        ] {
            assert_eq!(decode(value.as_bytes()), want, "{value}");
        }
        assert_eq!(decode(b"caf\xe9"), "café");
    }

    #[test]
    fn neighbours_keep_their_space() {
        assert_eq!(encode_words("hällo wörld and möre"), "=?utf-8?q?h=C3=A4llo_w=C3=B6rld?= and =?utf-8?q?m=C3=B6re?=");
        assert_eq!(encode_words("plain text"), "plain text");
    }

    proptest! {
        #[test]
        fn words_round_trip(text in "[a-zä€ =?_]{0,80}") {
            prop_assert_eq!(decode(encode_words(&text).as_bytes()), text.clone());
            prop_assert_eq!(decode(encode(&text).as_bytes()), text.clone());
            prop_assert!(encode(&text).split(' ').all(|w| w.len() <= 75));
        }

        #[test]
        fn any_bytes(value: Vec<u8>) {
            decode(&value);
        }
    }
}
