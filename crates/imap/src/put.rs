//! Printing the words of responses into a buffer that the caller keeps, RFC 9051 §9.

use crate::token::is_atom_char;
use crate::utf7;

/// What a client can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charset {
    /// ASCII in quoted strings, other text in literals, mailbox names in modified UTF-7.
    Rev1,
    /// UTF-8, after IMAP4rev2 or UTF8=ACCEPT was enabled.
    Utf8,
}

/// A number in digits.
pub fn number(out: &mut Vec<u8>, mut n: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at = at.saturating_sub(1);
        if let Some(d) = digits.get_mut(at) {
            *d = b'0'.wrapping_add(u8::try_from(n % 10).unwrap_or(0));
        }
        n /= 10;
        if n == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(at..).unwrap_or_default());
}

/// `quoted` where the text and the client allow it, else `literal`.
pub fn string(out: &mut Vec<u8>, text: &[u8], charset: Charset) {
    let quotable = match charset {
        Charset::Rev1 => text.iter().all(|b| b.is_ascii() && !matches!(b, 0 | b'\r' | b'\n')),
        // Invalid UTF-8 goes out as it is, in a literal.
        Charset::Utf8 => !text.iter().any(|b| matches!(b, 0 | b'\r' | b'\n')) && std::str::from_utf8(text).is_ok(),
    };
    if quotable { quoted(out, text) } else { literal(out, text) }
}

/// `quoted`: for text known to hold no NUL, CR or LF.
pub fn quoted(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    for b in text {
        if matches!(b, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(*b);
    }
    out.push(b'"');
}

/// `literal`, or `literal8` when there is a NUL in it, RFC 3516 §4.2.
pub fn literal(out: &mut Vec<u8>, bytes: &[u8]) {
    if bytes.contains(&0) {
        out.push(b'~');
    }
    literal_head(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// `"{" number64 "}" CRLF`.
pub fn literal_head(out: &mut Vec<u8>, size: u64) {
    out.push(b'{');
    number(out, size);
    out.extend_from_slice(b"}\r\n");
}

/// `nstring`.
pub fn nstring(out: &mut Vec<u8>, text: Option<&[u8]>, charset: Charset) {
    match text {
        Some(text) => string(out, text, charset),
        None => out.extend_from_slice(b"NIL"),
    }
}

/// `astring`: bare where it can be an atom. `NIL` is quoted, as a client could take it for an absent string.
pub fn astring(out: &mut Vec<u8>, text: &str, charset: Charset) {
    if !text.is_empty() && !text.eq_ignore_ascii_case("NIL") && text.bytes().all(is_atom_char) {
        out.extend_from_slice(text.as_bytes());
    } else {
        string(out, text.as_bytes(), charset);
    }
}

/// A mailbox name, in the client's encoding.
pub fn mailbox(out: &mut Vec<u8>, name: &str, charset: Charset) {
    match charset {
        Charset::Rev1 => astring(out, &utf7::encode(name), charset),
        Charset::Utf8 => astring(out, name, charset),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(print: impl Fn(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        print(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn words() {
        assert_eq!(printed(|o| number(o, 0)), "0");
        assert_eq!(printed(|o| number(o, u64::MAX)), "18446744073709551615");
        assert_eq!(printed(|o| string(o, b"a\"\\", Charset::Rev1)), "\"a\\\"\\\\\"");
        assert_eq!(printed(|o| string(o, "é".as_bytes(), Charset::Rev1)), "{2}\r\né");
        assert_eq!(printed(|o| string(o, "é".as_bytes(), Charset::Utf8)), "\"é\"");
        assert_eq!(printed(|o| string(o, b"\xff", Charset::Utf8)), "{1}\r\n\u{fffd}");
        assert_eq!(printed(|o| string(o, b"a\nb", Charset::Utf8)), "{3}\r\na\nb");
        assert_eq!(printed(|o| string(o, b"a\0", Charset::Utf8)), "~{2}\r\na\0");
        assert_eq!(printed(|o| astring(o, "", Charset::Rev1)), "\"\"");
        assert_eq!(printed(|o| astring(o, "nil", Charset::Rev1)), "\"nil\"");
        assert_eq!(printed(|o| astring(o, "a/b", Charset::Rev1)), "a/b");
        assert_eq!(printed(|o| astring(o, "a]", Charset::Rev1)), "\"a]\"");
        assert_eq!(printed(|o| mailbox(o, "é x", Charset::Rev1)), "\"&AOk- x\"");
        assert_eq!(printed(|o| mailbox(o, "é x", Charset::Utf8)), "\"é x\"");
        assert_eq!(printed(|o| nstring(o, None, Charset::Utf8)), "NIL");
    }
}
