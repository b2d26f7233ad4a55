//! Which bytes of a message a FETCH section means, RFC 9051 §6.4.5.1.

use mox_imap::cmd::fetch::{Partial, Section, SectionText};
use mox_message::{Headers, Part, Structure};
use std::ops::Range;

/// Where the bytes of a section come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source<'s> {
    /// A slice of the message.
    Range(Range<u64>),
    /// Fields of a header section, which is a slice of the message, and the empty line behind them.
    Fields(Range<u64>, FieldsOf<'s>),
}

/// Which fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FieldsOf<'s> {
    /// Those named.
    Named(&'s [String]),
    /// All others.
    NotNamed(&'s [String]),
    /// Those that describe a body part.
    Content,
}

/// The source of a section; none when there is no such part, or the part has no such thing, as a header that isn't a message's.
pub(crate) fn source<'s>(structure: &Structure, section: &'s Section) -> Option<Source<'s>> {
    let part = structure.section(&section.part)?;
    if section.part.is_empty() {
        let root = structure.root();
        return Some(match &section.text {
            SectionText::Whole => Source::Range(0..structure.len()),
            SectionText::Mime => return None,
            text => of_message(root, text),
        });
    }
    match &section.text {
        SectionText::Whole => Some(Source::Range(part.body.clone())),
        SectionText::Mime => Some(Source::Fields(part.header.clone(), FieldsOf::Content)),
        text => structure.message_of(part).map(|message| of_message(message, text)),
    }
}

fn of_message<'s>(message: &Part, text: &'s SectionText) -> Source<'s> {
    let header = message.header.clone();
    match text {
        SectionText::Fields(names) => Source::Fields(header, FieldsOf::Named(names)),
        SectionText::FieldsNot(names) => Source::Fields(header, FieldsOf::NotNamed(names)),
        SectionText::Header => Source::Range(header),
        SectionText::Text | SectionText::Whole | SectionText::Mime => Source::Range(message.body.clone()),
    }
}

/// Appends the wanted fields of a header section as they are, and an empty line.
pub(crate) fn append_fields(out: &mut Vec<u8>, section: &[u8], wanted: FieldsOf<'_>) {
    let named = |names: &[String], name: &[u8]| names.iter().any(|n| n.as_bytes().eq_ignore_ascii_case(name));
    for field in Headers::new(section).fields() {
        let take = match wanted {
            FieldsOf::Named(names) => named(names, field.name),
            FieldsOf::NotNamed(names) => !named(names, field.name),
            FieldsOf::Content => field.name.get(..8).is_some_and(|start| start.eq_ignore_ascii_case(b"content-")),
        };
        if take {
            out.extend_from_slice(field.raw);
        }
    }
    // RFC 9051 §6.4.5.1: the empty line is part of all header sections.
    out.extend_from_slice(b"\r\n");
}

/// The part of `length` bytes that a partial means: offset and count.
pub(crate) fn window(length: u64, partial: Option<Partial>) -> Range<u64> {
    match partial {
        None => 0..length,
        Some(p) => {
            let start = p.origin.min(length);
            start..start.saturating_add(p.count).min(length)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: &str = "Subject: outer\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\npreamble\r\n--x\r\nContent-Type: text/plain\r\nX-Other: y\r\n\r\nhi\r\n--x\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\nTo: a@x.example\r\n\r\nbody\r\n--x--\r\nepilogue\r\n";

    fn get(message: &str, part: &[u32], text: SectionText) -> Option<String> {
        let structure = Structure::of(message.as_bytes());
        let slice = |r: Range<u64>| &message.as_bytes()[usize::try_from(r.start).unwrap()..usize::try_from(r.end).unwrap()];
        let mut bytes = Vec::new();
        match source(&structure, &Section { part: part.to_vec(), text })? {
            Source::Range(range) => bytes.extend_from_slice(slice(range)),
            Source::Fields(range, wanted) => append_fields(&mut bytes, slice(range), wanted),
        }
        Some(String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn sections_of_a_multipart() {
        use SectionText::{Fields, FieldsNot, Header, Mime, Text, Whole};
        let at = MESSAGE.find("preamble").unwrap();
        for (part, text, want) in [
            (&[][..], Whole, Some(MESSAGE)),
            (&[], Header, Some(&MESSAGE[..at])),
            (&[], Text, Some(&MESSAGE[at..])),
            (&[], Fields(vec!["SUBJECT".into(), "To".into()]), Some("Subject: outer\r\n\r\n")),
            (&[], FieldsNot(vec!["Content-Type".into()]), Some("Subject: outer\r\n\r\n")),
            (&[1], Whole, Some("hi")),
            (&[1], Mime, Some("Content-Type: text/plain\r\n\r\n")),
            (&[1], Header, None),
            (&[2], Header, Some("Subject: inner\r\nTo: a@x.example\r\n\r\n")),
            (&[2], Text, Some("body")),
            (&[2], Fields(vec!["to".into()]), Some("To: a@x.example\r\n\r\n")),
            (&[2, 1], Whole, Some("body")),
            (&[3], Whole, None),
            (&[1, 1], Whole, None),
        ] {
            assert_eq!(get(MESSAGE, part, text.clone()).as_deref(), want, "{part:?} {text:?}");
        }
    }

    #[test]
    fn a_message_without_parts_has_part_1() {
        let message = "Subject: x\r\n\r\nhello\r\n";
        assert_eq!(get(message, &[1], SectionText::Whole).as_deref(), Some("hello\r\n"));
        assert_eq!(get(message, &[1], SectionText::Mime).as_deref(), Some("\r\n"));
        assert_eq!(get(message, &[2], SectionText::Whole), None);
    }

    #[test]
    fn windows() {
        let partial = |origin, count| Some(Partial { origin, count });
        assert_eq!(window(10, None), 0..10);
        assert_eq!(window(10, partial(2, 5)), 2..7);
        assert_eq!(window(10, partial(8, 5)), 8..10);
        assert_eq!(window(10, partial(20, 5)), 10..10);
        assert_eq!(window(10, partial(1, u64::MAX)), 1..10);
    }
}
