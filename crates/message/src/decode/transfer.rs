//! Content transfer encodings, RFC 2045 §6, as a stream and leniently: what isn't valid is skipped or kept, never an error.

use crate::encoded_word::hex;

/// How a body is encoded for transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// Short lines of ASCII; also where nothing is said.
    SevenBit,
    /// Short lines.
    EightBit,
    /// Any bytes.
    Binary,
    /// RFC 2045 §6.8.
    Base64,
    /// RFC 2045 §6.7.
    QuotedPrintable,
    /// Something else, which can't be decoded.
    Unknown,
}

impl Encoding {
    /// The encoding of a `Content-Transfer-Encoding` value, in any case.
    pub fn of(value: &str) -> Self {
        match value.trim().to_ascii_lowercase().as_str() {
            "" | "7bit" => Self::SevenBit,
            "8bit" => Self::EightBit,
            "binary" => Self::Binary,
            "base64" => Self::Base64,
            "quoted-printable" => Self::QuotedPrintable,
            _ => Self::Unknown,
        }
    }
}

/// Decodes a body that comes in pieces of any size. Unknown encodings are passed through.
#[derive(Clone, Debug)]
pub struct TransferDecoder {
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    Identity,
    /// Bits collected, and how many characters they came from.
    Base64 {
        bits: u32,
        chars: u8,
    },
    /// What may be the start of something special: white space that may end a line, or `=` and what follows it.
    QuotedPrintable {
        held: Vec<u8>,
    },
}

impl TransferDecoder {
    /// A decoder at the start of a body.
    pub const fn new(encoding: Encoding) -> Self {
        let state = match encoding {
            Encoding::Base64 => State::Base64 { bits: 0, chars: 0 },
            Encoding::QuotedPrintable => State::QuotedPrintable { held: Vec::new() },
            _ => State::Identity,
        };
        Self { state }
    }

    /// Takes the next piece; appends what it decodes to.
    pub fn push(&mut self, input: &[u8], out: &mut Vec<u8>) {
        match &mut self.state {
            State::Identity => out.extend_from_slice(input),
            State::Base64 { bits, chars } => {
                for byte in input {
                    base64_byte(*byte, bits, chars, out);
                }
            }
            State::QuotedPrintable { held } => {
                for byte in input {
                    quoted_printable_byte(*byte, held, out);
                }
            }
        }
    }

    /// The end of the body; appends what was held back.
    pub fn finish(self, out: &mut Vec<u8>) {
        match self.state {
            State::Identity => {}
            State::Base64 { bits, chars } => base64_rest(bits, chars, out),
            State::QuotedPrintable { held } => {
                // White space at the end of a line is transport padding, RFC 2045 §6.7 (3); a lone `=` a soft break.
                if held.first() == Some(&b'=') {
                    release_escape(&held, out);
                }
            }
        }
    }
}

fn base64_byte(byte: u8, bits: &mut u32, chars: &mut u8, out: &mut Vec<u8>) {
    let value = match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        b'=' => {
            // Padding ends a unit; concatenated encodings go on behind it.
            base64_rest(*bits, *chars, out);
            (*bits, *chars) = (0, 0);
            return;
        }
        // RFC 2045 §6.8: other characters must be ignored.
        _ => return,
    };
    *bits = *bits << 6 | u32::from(value);
    *chars += 1;
    if *chars == 4 {
        let [_, a, b, c] = bits.to_be_bytes();
        out.extend_from_slice(&[a, b, c]);
        (*bits, *chars) = (0, 0);
    }
}

fn base64_rest(bits: u32, chars: u8, out: &mut Vec<u8>) {
    match chars {
        2 => {
            let [_, a, _, _] = (bits << 12).to_be_bytes();
            out.push(a);
        }
        3 => {
            let [_, a, b, _] = (bits << 6).to_be_bytes();
            out.extend_from_slice(&[a, b]);
        }
        _ => {}
    }
}

/// The most white space held back: lines of encoded text are at most 76 characters.
const MAX_HELD: usize = 1000;

fn quoted_printable_byte(byte: u8, held: &mut Vec<u8>, out: &mut Vec<u8>) {
    if held.first() == Some(&b'=') {
        let after = held.get(1..).unwrap_or_default();
        let padding = after.iter().all(|b| matches!(b, b' ' | b'\t' | b'\r'));
        match byte {
            // A soft line break, maybe with padding before the line break.
            b'\n' if padding => {
                held.clear();
                return;
            }
            b' ' | b'\t' | b'\r' if padding && held.len() < MAX_HELD => {
                held.push(byte);
                return;
            }
            _ if after.is_empty() && byte.is_ascii_hexdigit() => {
                held.push(byte);
                return;
            }
            _ => {}
        }
        if after.len() == 1
            && let Some(decoded) = hex(&[after.first().copied().unwrap_or_default(), byte])
        {
            out.push(decoded);
            held.clear();
            return;
        }
        // No escape after all: kept as it is, RFC 2045 §6.7 note to implementors.
        out.append(held);
    }
    match byte {
        b'=' => {
            out.append(held);
            held.push(byte);
        }
        b' ' | b'\t' => {
            if held.len() >= MAX_HELD || held.last() == Some(&b'\r') {
                out.append(held);
            }
            held.push(byte);
        }
        b'\r' => {
            if held.last() == Some(&b'\r') {
                out.append(held);
            }
            held.push(byte);
        }
        b'\n' => {
            // Of what was held only a CR is more than padding.
            if held.last() == Some(&b'\r') {
                out.push(b'\r');
            }
            held.clear();
            out.push(b'\n');
        }
        _ => {
            out.append(held);
            out.push(byte);
        }
    }
}

fn release_escape(held: &[u8], out: &mut Vec<u8>) {
    let padding = held.iter().skip(1).all(|b| matches!(b, b' ' | b'\t' | b'\r'));
    if !padding {
        out.extend_from_slice(held);
    }
}

/// Makes line breaks of decoded text CRLF, as a stream. Other bytes pass.
#[derive(Clone, Copy, Debug, Default)]
pub struct CrlfText {
    after_cr: bool,
}

impl CrlfText {
    /// Takes the next piece; appends it with CRLF line breaks.
    pub fn push(&mut self, input: &[u8], out: &mut Vec<u8>) {
        out.reserve(input.len());
        for line in input.split_inclusive(|b| *b == b'\n') {
            let text = line.strip_suffix(b"\n").unwrap_or(line);
            let has_cr = if text.is_empty() { self.after_cr } else { text.ends_with(b"\r") };
            out.extend_from_slice(text);
            if text.len() < line.len() {
                out.extend_from_slice(if has_cr { b"\n" } else { b"\r\n" });
            }
            self.after_cr = line.ends_with(b"\r");
        }
    }
}

/// Decodes a whole body, up to about `limit` bytes of output.
pub fn decode(encoding: Encoding, body: &[u8], limit: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let mut decoder = TransferDecoder::new(encoding);
    for piece in body.chunks(64 << 10) {
        decoder.push(piece, &mut out);
        if out.len() >= limit {
            out.truncate(limit);
            return out;
        }
    }
    decoder.finish(&mut out);
    out.truncate(limit);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(encoding: Encoding, body: &str) -> String {
        String::from_utf8(decode(encoding, body.as_bytes(), usize::MAX)).unwrap()
    }

    #[test]
    fn base64() {
        for (body, want) in
            [("YWJj", "abc"), ("YW\r\nJjZA==", "abcd"), ("YQ==YmM=", "abc"), ("YWI", "ab"), ("Y", ""), ("", ""), (" YW*J j", "abc")]
        {
            assert_eq!(all(Encoding::Base64, body), want, "{body}");
        }
    }

    #[test]
    fn quoted_printable() {
        for (body, want) in [
            ("a=3Db", "a=b"),
            ("a=3db", "a=b"),
            ("a=\r\nb", "ab"),
            ("a= \t\r\nb", "ab"),
            ("a=\nb", "ab"),
            ("a \t\r\nb", "a\r\nb"),
            ("a \nb", "a\nb"),
            ("a  ", "a"),
            ("a=", "a"),
            ("a=4", "a=4"),
            ("a=xy=", "a=xy"),
            ("a=4x", "a=4x"),
            ("a==41", "a=A"),
            ("a \r b", "a \r b"),
            ("a\r\r\n", "a\r\r\n"),
        ] {
            assert_eq!(all(Encoding::QuotedPrintable, body), want, "{body:?}");
        }
    }

    #[test]
    fn text_gets_crlf() {
        let mut out = Vec::new();
        let mut text = CrlfText::default();
        text.push(b"a\nb\r", &mut out);
        text.push(b"\nc\r", &mut out);
        assert_eq!(out, b"a\r\nb\r\nc\r");
    }

    proptest! {
        #[test]
        fn same_however_it_is_split(body in "[aA4=\r\n \t+]{0,40}", at in 0_usize..40) {
            for encoding in [Encoding::Base64, Encoding::QuotedPrintable, Encoding::Unknown] {
                let at = at.min(body.len());
                let (mut out, mut d) = (Vec::new(), TransferDecoder::new(encoding));
                d.push(&body.as_bytes()[..at], &mut out);
                d.push(&body.as_bytes()[at..], &mut out);
                d.finish(&mut out);
                prop_assert_eq!(out, decode(encoding, body.as_bytes(), usize::MAX));
            }
        }
    }
}
