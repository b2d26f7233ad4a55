//! A stored message as the webapi and the incoming webhook show it: header, texts, structure.
//!
//! The message's structure is known; its bytes are read in pieces, so that a large attachment costs time but no memory. Texts are
//! at most [`MAX_TEXT`] bytes.

use mox_message::decode::{CrlfText, Encoding, TransferDecoder};
use mox_message::{AddressList, DateTime, Envelope, Headers, Part, Structure, charset};
use mox_webapi::{Message, NameAddress, Structure as WireStructure, Time};
use std::ops::Range;

/// The most of a text that is shown, in bytes of UTF-8 before line breaks become LF.
pub const MAX_TEXT: usize = 1 << 20;

/// Bytes read at once.
const PIECE: u64 = 64 << 10;

/// The texts and the structure of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// The first plain text.
    pub text: String,
    /// The first HTML.
    pub html: String,
    /// The parts.
    pub structure: WireStructure,
}

/// Reads texts and structure. `bytes` gives a range of the message's bytes.
///
/// # Errors
/// Those of `bytes`.
pub fn content<E>(structure: &Structure, mut bytes: impl FnMut(Range<u64>) -> Result<Vec<u8>, E>) -> Result<Content, E> {
    let (plain, html) = select(structure);
    let mut text = |part: Option<&Part>| part.map_or(Ok(String::new()), |part| text(part, &mut bytes));
    let (text, html) = (text(plain)?, text(html)?);
    Ok(Content { text, html, structure: describe(structure, structure.root(), &mut bytes)? })
}

/// Header and texts of a message, as `MessageGet` gives them.
pub fn message(header: &[u8], structure: &Structure, content: &Content) -> Message {
    let empty = Envelope::default();
    let envelope = structure.root().envelope.as_deref().unwrap_or(&empty);
    Message {
        from: addresses(&envelope.from),
        to: addresses(&envelope.to),
        cc: addresses(&envelope.cc),
        bcc: addresses(&envelope.bcc),
        reply_to: addresses(&envelope.reply_to),
        message_id: envelope.message_id.clone().unwrap_or_default(),
        references: references(&Headers::new(header)),
        date: envelope.date().map(time),
        subject: envelope.subject().unwrap_or_default(),
        text: content.text.clone(),
        html: content.html.clone(),
    }
}

/// The mailboxes of a list. What is no valid address is shown as it is.
pub fn addresses(list: &AddressList) -> Vec<NameAddress> {
    let one = |mailbox: &mox_message::Mailbox| {
        let address = mailbox.address().map_or_else(
            || match (mailbox.localpart.as_str(), mailbox.host.as_str()) {
                ("", "") => String::new(),
                (localpart, host) => format!("{localpart}@{host}"),
            },
            |address| address.to_string(),
        );
        NameAddress { name: mailbox.decoded_name(), address }
    };
    list.mailboxes().map(one).collect()
}

/// A header's time on the wire.
pub fn time(date: DateTime) -> Time {
    Time { at: date.timestamp, offset_minutes: date.offset_minutes.into() }
}

/// The ids that a message refers to, with their brackets; the one it answers comes first if it isn't among the others.
fn references(headers: &Headers<'_>) -> Vec<String> {
    let ids = |name: &str| -> Vec<String> { headers.all(name).flat_map(|field| message_ids(&field.text())).collect() };
    let mut references = ids("References");
    if let Some(answered) = ids("In-Reply-To").into_iter().next()
        && !references.contains(&answered)
    {
        references.insert(0, answered);
    }
    references
}

/// All `<…>` of a text. One interrupted by another `<` is dropped; white space inside comes from broken folding.
fn message_ids(text: &str) -> Vec<String> {
    let mut ids = Vec::new();
    let mut open: Option<String> = None;
    for c in text.chars() {
        match (&mut open, c) {
            (_, '<') => open = Some(String::new()),
            (Some(id), '>') => {
                if !id.is_empty() {
                    ids.push(format!("<{id}>"));
                }
                open = None;
            }
            (Some(_), ' ' | '\t') | (None, _) => {}
            (Some(id), c) => id.push(c),
        }
    }
    ids
}

/// What a part can be shown as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    Text,
    Html,
}

fn shown(part: &Part) -> Option<Shown> {
    if !part.explicit_type && !part.opaque || part.is("text", "plain") {
        Some(Shown::Text)
    } else {
        part.is("text", "html").then_some(Shown::Html)
    }
}

/// The parts that are the message's plain text and its HTML.
fn select(structure: &Structure) -> (Option<&Part>, Option<&Part>) {
    match shown(structure.root()) {
        Some(Shown::Text) => (Some(structure.root()), None),
        Some(Shown::Html) => (None, Some(structure.root())),
        None => select_below(structure, structure.root()).unwrap_or((None, None)),
    }
}

/// Among the children: the first text, or all kinds of an alternative, of which later ones are better. Else within the children, in
/// their order. As deep as structures go.
fn select_below<'s>(structure: &'s Structure, part: &'s Part) -> Option<(Option<&'s Part>, Option<&'s Part>)> {
    let (mut text, mut html) = (None, None);
    for child in structure.children(part) {
        match shown(child) {
            Some(Shown::Text) => text = Some(child),
            Some(Shown::Html) => html = Some(child),
            None => continue,
        }
        if !part.is("multipart", "alternative") {
            break;
        }
    }
    if text.is_some() || html.is_some() {
        return Some((text, html));
    }
    structure.children(part).find_map(|child| select_below(structure, child))
}

/// The text of a part in UTF-8, with LF.
fn text<E>(part: &Part, bytes: &mut impl FnMut(Range<u64>) -> Result<Vec<u8>, E>) -> Result<String, E> {
    let mut decoded = Vec::new();
    let mut decoder = TransferDecoder::new(part.transfer_encoding());
    let mut ended = true;
    for range in pieces(&part.body) {
        decoder.push(&bytes(range)?, &mut decoded);
        // No character set needs more bytes than UTF-8 by more than this.
        if decoded.len() > 4 * MAX_TEXT {
            ended = false;
            break;
        }
    }
    if ended {
        decoder.finish(&mut decoded);
    }
    let mut text = charset::decode_as_named(part.param("charset").unwrap_or_default(), &decoded).into_owned();
    text.truncate(text.floor_char_boundary(MAX_TEXT));
    Ok(text.replace("\r\n", "\n"))
}

fn describe<E>(structure: &Structure, part: &Part, bytes: &mut impl FnMut(Range<u64>) -> Result<Vec<u8>, E>) -> Result<WireStructure, E> {
    let mut parts = Vec::with_capacity(part.children.len());
    for child in structure.children(part) {
        parts.push(describe(structure, child, bytes)?);
    }
    let decoded_size = if part.is_multipart() { 0 } else { decoded_size(part, bytes)? };
    Ok(WireStructure {
        content_type: format!("{}/{}", part.media_type, part.subtype),
        content_type_params: if part.explicit_type { part.params.iter().cloned().collect() } else { Default::default() },
        content_id: part.id.clone().unwrap_or_default(),
        content_disposition: part.disposition.as_ref().map(|d| d.kind.clone()).unwrap_or_default(),
        filename: part.file_name().unwrap_or_default(),
        decoded_size,
        parts,
    })
}

/// The size of a body without its transfer encoding, of text with CRLF.
fn decoded_size<E>(part: &Part, bytes: &mut impl FnMut(Range<u64>) -> Result<Vec<u8>, E>) -> Result<i64, E> {
    let mut decoder = PartDecoder::new(part);
    let mut size = 0u64;
    let mut count = |piece: Vec<u8>| size = size.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
    for range in pieces(&part.body) {
        count(decoder.push(&bytes(range)?));
    }
    count(decoder.finish());
    Ok(i64::try_from(size).unwrap_or(i64::MAX))
}

/// Takes the transfer encoding off a part's body; text gets CRLF. For bodies that come in pieces.
#[derive(Debug)]
pub struct PartDecoder {
    decoder: TransferDecoder,
    crlf: Option<CrlfText>,
}

impl PartDecoder {
    /// At the start of the body of a part.
    pub fn new(part: &Part) -> Self {
        Self { decoder: TransferDecoder::new(part.transfer_encoding()), crlf: part.is_text().then(CrlfText::default) }
    }

    /// What the next piece of the body decodes to.
    pub fn push(&mut self, piece: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(piece.len());
        self.decoder.push(piece, &mut out);
        self.with_crlf(out)
    }

    /// What was held back at the end.
    pub fn finish(mut self) -> Vec<u8> {
        let mut out = Vec::new();
        std::mem::replace(&mut self.decoder, TransferDecoder::new(Encoding::Binary)).finish(&mut out);
        self.with_crlf(out)
    }

    fn with_crlf(&mut self, bytes: Vec<u8>) -> Vec<u8> {
        let Some(crlf) = &mut self.crlf else { return bytes };
        let mut out = Vec::with_capacity(bytes.len());
        crlf.push(&bytes, &mut out);
        out
    }
}

/// A range in pieces.
pub fn pieces(range: &Range<u64>) -> impl Iterator<Item = Range<u64>> + use<> {
    let (mut start, end) = (range.start, range.end);
    std::iter::from_fn(move || {
        let piece = start..end.min(start.saturating_add(PIECE));
        start = piece.end;
        (!piece.is_empty()).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    fn read(message: &str) -> Content {
        let message = message.replace('\n', "\r\n");
        let bytes = |range: Range<u64>| {
            let at = |n: u64| usize::try_from(n).unwrap();
            Ok::<_, Infallible>(message.as_bytes()[at(range.start)..at(range.end)].to_vec())
        };
        content(&Structure::of(message.as_bytes()), bytes).unwrap()
    }

    fn texts(message: &str) -> (String, String) {
        let content = read(message);
        (content.text, content.html)
    }

    #[test]
    fn a_single_part() {
        assert_eq!(texts("Subject: x\n\nhi\nthere\n"), ("hi\nthere\n".to_owned(), String::new()));
        assert_eq!(texts("Content-Type: text/html\n\n<p>\n"), (String::new(), "<p>\n".to_owned()));
        assert_eq!(texts("Content-Type: image/png\n\nx"), (String::new(), String::new()));
        let latin = "Content-Type: text/plain; charset=iso-8859-1\nContent-Transfer-Encoding: quoted-printable\n\nK=F6ln\n";
        assert_eq!(texts(latin).0, "Köln\n");
        // What claims to be UTF-8 and isn't.
        assert_eq!(texts(&latin.replace("iso-8859-1", "utf-8")).0, "K\u{fffd}ln\n");
    }

    fn multipart(subtype: &str, parts: &[&str]) -> String {
        let parts: String = parts.iter().map(|part| format!("--{subtype}\n{part}\n")).collect();
        format!("Content-Type: multipart/{subtype}; boundary={subtype}\n\n{parts}--{subtype}--\n")
    }

    const PLAIN: &str = "Content-Type: text/plain\n\nplain";
    const OTHER: &str = "\nuntyped";
    const HTML: &str = "Content-Type: text/html\n\n<html>";
    const IMAGE: &str = "Content-Type: image/png\nContent-Disposition: Attachment; filename=\"a b.png\"\nContent-ID: <i@x>\nContent-Transfer-Encoding: base64\n\nAAAA";

    #[test]
    fn which_parts_are_shown() {
        let alternative = multipart("alternative", &[PLAIN, HTML]);
        let pairs = [
            (multipart("mixed", &[PLAIN, HTML]), ("plain", "")),
            (multipart("mixed", &[HTML, PLAIN]), ("", "<html>")),
            (multipart("mixed", &[IMAGE, PLAIN]), ("plain", "")),
            (alternative.clone(), ("plain", "<html>")),
            (multipart("alternative", &[PLAIN, HTML, OTHER]), ("untyped", "<html>")),
            (multipart("mixed", &[&alternative, IMAGE]), ("plain", "<html>")),
            (multipart("mixed", &[&multipart("related", &[&alternative, IMAGE]), IMAGE]), ("plain", "<html>")),
            // Direct children come first, whatever is in the others.
            (multipart("mixed", &[&alternative, "\nuntyped"]), ("untyped", "")),
            (multipart("mixed", &[IMAGE]), ("", "")),
        ];
        for (message, (text, html)) in pairs {
            assert_eq!(texts(&message), (text.to_owned(), html.to_owned()), "{message}");
        }
    }

    #[test]
    fn structures() {
        let structure = read(&multipart("mixed", &["Content-Type: text/plain; Charset=UTF-8\n\na\nb", IMAGE])).structure;
        assert_eq!((structure.content_type.as_str(), structure.decoded_size), ("multipart/mixed", 0));
        let [text, image] = structure.parts.as_slice() else { panic!("{structure:?}") };
        assert_eq!((text.decoded_size, text.content_type_params["charset"].as_str()), (4, "UTF-8"));
        assert_eq!((image.decoded_size, image.filename.as_str(), image.content_id.as_str()), (3, "a b.png", "<i@x>"));
        assert_eq!(image.content_disposition, "attachment");
        let nested = read(&multipart("mixed", &[&format!("Content-Type: message/rfc822\n\n{}", multipart("related", &[PLAIN]))]));
        assert!(nested.structure.parts[0].parts.is_empty() && nested.structure.parts[0].decoded_size > 0);
    }

    #[test]
    fn long_texts_are_cut() {
        let line = format!("{}\n", "ä".repeat(30));
        let text = texts(&format!("Content-Type: text/plain; charset=utf-8\n\n{}", line.repeat(30_000))).0;
        assert!(text.len() <= MAX_TEXT && text.len() > MAX_TEXT - 20_000, "{}", text.len());
        assert!(text.starts_with(&line));
    }

    #[test]
    fn headers() {
        let header = "From: =?utf-8?q?J=C3=B6?= <jo@xn--bcher-kva.example>, broken@-, Group: a@b.example;\r\nIn-Reply-To: <C@d>\r\nReferences: junk <A@b>\r\n <B b@c>\r\nSubject: =?utf-8?q?=C3=A4?=\r\nDate: Mon, 23 Nov 2026 05:03:16 +0100\r\nMessage-ID: <X@y>\r\n\r\n";
        let message = message(header.as_bytes(), &Structure::of(header.as_bytes()), &Content::default());
        let name = |name: &str, address: &str| NameAddress { name: name.to_owned(), address: address.to_owned() };
        assert_eq!(message.from, [name("Jö", "jo@bücher.example"), name("", "broken@-"), name("", "a@b.example")]);
        assert_eq!(message.references, ["<C@d>", "<A@b>", "<Bb@c>"]);
        assert_eq!(message.date.map(|d| d.to_string()).as_deref(), Some("2026-11-23T05:03:16+01:00"));
        assert_eq!((message.subject.as_str(), message.message_id.as_str()), ("ä", "<X@y>"));
    }
}
