//! Bodies as what they stand for: transfer encodings undone, character sets converted, HTML as text.

mod html;
mod preview;
mod transfer;

pub use html::html_to_text;
pub use preview::{preview, preview_of_text};
pub use transfer::{CrlfText, Encoding, TransferDecoder, decode};

use crate::charset;
use crate::structure::Part;

/// The text of a text part, as UTF-8; HTML becomes plain text. None for other parts.
///
/// `body` is the part's body as it is in the message, or the start of it. At most `limit` bytes are decoded.
pub fn text_of(part: &Part, body: &[u8], limit: usize) -> Option<String> {
    if !part.is_text() {
        return None;
    }
    let bytes = decode(part.transfer_encoding(), body, limit);
    let text = charset::decode(part.param("charset").unwrap_or_default(), &bytes);
    Some(if part.subtype == "html" { html_to_text(&text, limit) } else { text.into_owned() })
}

/// The size of a body once decoded as BINARY serves it, RFC 3516: text with CRLF line breaks. None for unknown encodings.
pub fn decoded_size(part: &Part, body: &[u8]) -> Option<u64> {
    binary(part, body).map(|b| u64::try_from(b.len()).unwrap_or(u64::MAX))
}

/// A body decoded as BINARY serves it, RFC 3516: text with CRLF line breaks. None for unknown encodings.
pub fn binary(part: &Part, body: &[u8]) -> Option<Vec<u8>> {
    let encoding = part.transfer_encoding();
    if encoding == Encoding::Unknown {
        return None;
    }
    let decoded = decode(encoding, body, usize::MAX);
    if !part.is_text() {
        return Some(decoded);
    }
    let mut out = Vec::with_capacity(decoded.len());
    CrlfText::default().push(&decoded, &mut out);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::structure::Structure;

    fn text(message: &[u8]) -> Option<String> {
        let s = Structure::of(message);
        let body = &message[usize::try_from(s.root().body.start).unwrap()..];
        text_of(s.root(), body, 1 << 20)
    }

    #[test]
    fn texts() {
        assert_eq!(text(b"\r\nabc").as_deref(), Some("abc"));
        assert_eq!(text(b"Content-Type: text/plain; charset=iso-2022-jp\r\n\r\n\x1b$B4A;z\x1b(B\r\n").as_deref(), Some("漢字\r\n"));
        assert_eq!(
            text(b"Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n<p>a=C3=A4</p>").as_deref(),
            Some("aä\n")
        );
        assert_eq!(text(b"Content-Type: image/png\r\n\r\nx"), None);
    }

    #[test]
    fn binary_text_has_crlf() {
        let s = Structure::of(b"Content-Transfer-Encoding: base64\r\n\r\nYQpi");
        assert_eq!(binary(s.root(), b"YQpi").as_deref(), Some(b"a\r\nb".as_slice()));
        assert_eq!(decoded_size(s.root(), b"YQpi"), Some(4));
        let s = Structure::of(b"Content-Transfer-Encoding: x-uue\r\n\r\n");
        assert_eq!(binary(s.root(), b""), None);
    }
}
