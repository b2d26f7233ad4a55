//! Looking for text in messages: header fields and text parts, decoded, without regard to case.

use mox_message::decode::TransferDecoder;
use mox_message::{Headers, Part, charset};
use std::ops::Range;

/// Raw bytes read at once.
const PIECE: u64 = 256 * 1024;

/// Decoded bytes looked at once.
const WINDOW: usize = 1024 * 1024;

/// Whether a field of this name has a value with `needle` (in lower case) in it; whether there is one, if that is empty.
pub(crate) fn in_field(section: &[u8], name: &str, needle: &str) -> bool {
    Headers::new(section).all(name).any(|field| needle.is_empty() || field.decoded().to_lowercase().contains(needle))
}

/// Whether a header section has `needle` (in lower case) in it, as it is written or decoded.
pub(crate) fn in_section(section: &[u8], needle: &str) -> bool {
    String::from_utf8_lossy(section).to_lowercase().contains(needle)
        || Headers::new(section).fields().any(|field| field.decoded().to_lowercase().contains(needle))
}

/// Whether a text part has `needle` (in lower case) in it. `read` gives ranges of the message. Memory doesn't depend on the part's size.
pub(crate) fn in_part<E>(part: &Part, needle: &str, mut read: impl FnMut(Range<u64>) -> Result<Vec<u8>, E>) -> Result<bool, E> {
    let mut decoder = TransferDecoder::new(part.transfer_encoding());
    let mut window = Window { charset: part.param("charset").unwrap_or("utf-8"), needle, decoded: Vec::new(), tail: String::new() };
    let mut at = part.body.start;
    while at < part.body.end {
        let to = at.saturating_add(PIECE).min(part.body.end);
        decoder.push(&read(at..to)?, &mut window.decoded);
        at = to;
        if window.decoded.len() >= WINDOW && window.look(false) {
            return Ok(true);
        }
    }
    decoder.finish(&mut window.decoded);
    Ok(window.look(true))
}

struct Window<'a> {
    charset: &'a str,
    needle: &'a str,
    decoded: Vec<u8>,
    /// The end of what was looked at, where a match may begin.
    tail: String,
}

impl Window<'_> {
    /// Looks at whole lines, as character sets with shift states start anew on each; at all that there is when it is the last.
    fn look(&mut self, last: bool) -> bool {
        let newline = self.decoded.iter().rposition(|b| *b == b'\n').map(|i| i.saturating_add(1));
        let cut = if last { self.decoded.len() } else { newline.unwrap_or(self.decoded.len()) };
        let rest = self.decoded.split_off(cut);
        let lines = std::mem::replace(&mut self.decoded, rest);
        self.tail.push_str(&charset::decode(self.charset, &lines).to_lowercase());
        if self.tail.contains(self.needle) {
            return true;
        }
        let mut keep = self.tail.len().saturating_sub(self.needle.len());
        while !self.tail.is_char_boundary(keep) {
            keep = keep.saturating_sub(1);
        }
        self.tail.drain(..keep);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mox_message::Structure;

    fn found(message: &str, needle: &str) -> bool {
        let structure = Structure::of(message.as_bytes());
        let read =
            |r: Range<u64>| Ok::<_, ()>(message.as_bytes()[usize::try_from(r.start).unwrap()..usize::try_from(r.end).unwrap()].to_vec());
        in_part(structure.root(), &needle.to_lowercase(), read).unwrap()
    }

    #[test]
    fn decoded_parts() {
        let qp = "Content-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nGr=FC=DFe =\r\naus K=F6ln\r\n";
        assert!(found(qp, "GRÜß") && found(qp, "grüße aus köln") && !found(qp, "=FC"));
        assert!(found("Subject: x\r\n\r\nHello World", "hello"));
        assert!(!found("Subject: x\r\n\r\nHello", "subject"));
    }

    #[test]
    fn matches_cross_windows() {
        let line = format!("{}\r\n", "x".repeat(1000));
        let mut message = String::from("Subject: x\r\n\r\n");
        while message.len() < 3 * WINDOW {
            message.push_str(&line);
            if message.len() % 7 == 0 {
                message.push_str("abc\r\ndef\r\n");
            }
        }
        assert!(found(&message, "abc\r\ndef"));
        assert!(!found(&message, "abd"));
    }

    #[test]
    fn headers() {
        let header = b"Subject: =?utf-8?q?=C3=84rger?=\r\nTo: a@x.example,\r\n b@x.example\r\n\r\n";
        assert!(in_field(header, "subject", "ärger") && !in_field(header, "subject", "=c3"));
        assert!(in_field(header, "TO", "a@x.example, b@") && in_field(header, "to", "") && !in_field(header, "cc", ""));
        assert!(in_section(header, "=c3=84") && in_section(header, "ärger") && !in_section(header, "zorn"));
    }
}
