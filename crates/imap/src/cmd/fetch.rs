//! FETCH: what is asked of messages, RFC 9051 §6.4.5, with BINARY (RFC 3516), CONDSTORE (RFC 7162) and PREVIEW (RFC 8970).

use super::{Command, Context};
use crate::cursor::{Cursor, Error, Parsed};
use crate::put::{self, Charset};
use crate::set::{SequenceSet, sequence_set};
use crate::token::{astring, keyword, list1, number64, nz_number};

/// `FETCH` or `UID FETCH`.
#[derive(Clone, Debug, PartialEq)]
pub struct Fetch {
    /// `UID FETCH`: the set holds UIDs.
    pub uid: bool,
    /// Which messages.
    pub set: SequenceSet,
    /// What about them, in the order asked.
    pub items: Vec<FetchItem>,
    /// Only those changed since, RFC 7162 §3.1.4.1.
    pub changed_since: Option<u64>,
}

/// One thing asked of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchItem {
    /// `UID`.
    Uid,
    /// `FLAGS`.
    Flags,
    /// `INTERNALDATE`.
    InternalDate,
    /// `RFC822.SIZE`.
    Size,
    /// `MODSEQ`.
    ModSeq,
    /// `ENVELOPE`.
    Envelope,
    /// `BODY`, the structure without extension data.
    Body,
    /// `BODYSTRUCTURE`.
    BodyStructure,
    /// `PREVIEW`, with or without `(LAZY)`.
    Preview,
    /// `BODY[…]`, `BODY.PEEK[…]` and the RFC822 forms.
    Section(SectionItem),
    /// `BINARY[…]` and `BINARY.PEEK[…]`.
    Binary {
        /// Whether `\Seen` stays as it is.
        peek: bool,
        /// Which part, empty for the message.
        part: Vec<u32>,
        /// Which bytes of it.
        partial: Option<Partial>,
    },
    /// `BINARY.SIZE[…]`.
    BinarySize(Vec<u32>),
}

impl FetchItem {
    /// Whether fetching this sets `\Seen`.
    pub const fn marks_seen(&self) -> bool {
        match self {
            Self::Section(section) => !section.peek,
            Self::Binary { peek, .. } => !*peek,
            _ => false,
        }
    }
}

/// `"<" number64 "." nz-number64 ">"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partial {
    /// First byte.
    pub origin: u64,
    /// At most so many.
    pub count: u64,
}

/// Bytes of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SectionItem {
    /// Whether `\Seen` stays as it is.
    pub peek: bool,
    /// Which bytes.
    pub section: Section,
    /// Which of these.
    pub partial: Option<Partial>,
    /// Asked by its name of RFC 822 times, which is the name in the answer.
    pub old_name: Option<&'static str>,
}

/// `section-spec`, RFC 9051 §9.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Which part, empty for the message.
    pub part: Vec<u32>,
    /// What of it.
    pub text: SectionText,
}

/// `section-text`, RFC 9051 §9.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SectionText {
    /// All.
    Whole,
    /// `HEADER`.
    Header,
    /// `HEADER.FIELDS`, in MIME's canonical capitals.
    Fields(Vec<String>),
    /// `HEADER.FIELDS.NOT`, in MIME's canonical capitals.
    FieldsNot(Vec<String>),
    /// `TEXT`.
    Text,
    /// `MIME`.
    Mime,
}

/// The most parts a part number may have: deeper structures aren't read.
const PART_DEPTH: usize = 100;

pub(super) fn fetch(c: &mut Cursor<'_>, _: &Context) -> Parsed<Command> {
    fetch_or_uid(c, false)
}

pub(super) fn uid_fetch(c: &mut Cursor<'_>, _: &Context) -> Parsed<Command> {
    fetch_or_uid(c, true)
}

/// `fetch = "FETCH" SP sequence-set SP ("ALL" / "FULL" / "FAST" / fetch-att / "(" fetch-att *(SP fetch-att) ")") [SP fetch-modifiers]`,
/// RFC 9051 §9, RFC 4466 §6.
fn fetch_or_uid(c: &mut Cursor<'_>, uid: bool) -> Parsed<Command> {
    use FetchItem::{Body, Envelope, Flags, InternalDate, Size};
    c.sp()?;
    let set = sequence_set(c)?;
    c.sp()?;
    let items = if c.peek() == Some(b'(') {
        list1(c, fetch_att)?
    } else {
        let start = c.clone();
        match keyword_until_bracket(c)?.as_str() {
            "ALL" => vec![Flags, InternalDate, Size, Envelope],
            "FAST" => vec![Flags, InternalDate, Size],
            "FULL" => vec![Flags, InternalDate, Size, Envelope, Body],
            _ => {
                *c = start;
                vec![fetch_att(c)?]
            }
        }
    };
    let mut changed_since = None;
    if c.eat(b' ') {
        list1(c, |c| {
            let start = c.clone();
            if keyword(c)? != "CHANGEDSINCE" || changed_since.is_some() {
                return start.bad("CHANGEDSINCE, once");
            }
            c.sp()?;
            // Zero isn't in the grammar, but iOS Mail sends it.
            changed_since = Some(number64(c)?);
            Ok(())
        })?;
    }
    Ok(Command::Fetch(Fetch { uid, set, items, changed_since }))
}

/// An item's name in upper case, up to its bracket.
fn keyword_until_bracket(c: &mut Cursor<'_>) -> Parsed<String> {
    let name = c.take_while1(|b| b.is_ascii_alphanumeric() || b == b'.', "fetch item")?;
    Ok(String::from_utf8_lossy(name).to_ascii_uppercase())
}

/// `fetch-att`, RFC 9051 §9.
fn fetch_att(c: &mut Cursor<'_>) -> Parsed<FetchItem> {
    let start = c.clone();
    let name = keyword_until_bracket(c)?;
    let bracket = c.peek() == Some(b'[');
    Ok(match (name.as_str(), bracket) {
        ("UID", false) => FetchItem::Uid,
        ("FLAGS", false) => FetchItem::Flags,
        ("INTERNALDATE", false) => FetchItem::InternalDate,
        ("RFC822.SIZE", false) => FetchItem::Size,
        ("MODSEQ", false) => FetchItem::ModSeq,
        ("ENVELOPE", false) => FetchItem::Envelope,
        ("BODY", false) => FetchItem::Body,
        ("BODYSTRUCTURE", false) => FetchItem::BodyStructure,
        ("PREVIEW", false) => {
            // Generating is fast: LAZY makes no difference, RFC 8970 §3.1.
            let _: bool = c.eat_text(b" (LAZY)");
            FetchItem::Preview
        }
        ("BODY", true) => FetchItem::Section(body_section(c, false)?),
        ("BODY.PEEK", true) => FetchItem::Section(body_section(c, true)?),
        ("RFC822", false) => old(false, SectionText::Whole, "RFC822"),
        ("RFC822.HEADER", false) => old(true, SectionText::Header, "RFC822.HEADER"),
        ("RFC822.TEXT", false) => old(false, SectionText::Text, "RFC822.TEXT"),
        ("BINARY" | "BINARY.PEEK", true) => {
            let part = section_binary(c)?;
            FetchItem::Binary { peek: name == "BINARY.PEEK", part, partial: partial(c)? }
        }
        ("BINARY.SIZE", true) => FetchItem::BinarySize(section_binary(c)?),
        _ => return start.bad("fetch item"),
    })
}

const fn old(peek: bool, text: SectionText, name: &'static str) -> FetchItem {
    FetchItem::Section(SectionItem { peek, section: Section { part: Vec::new(), text }, partial: None, old_name: Some(name) })
}

fn body_section(c: &mut Cursor<'_>, peek: bool) -> Parsed<SectionItem> {
    let section = section(c)?;
    Ok(SectionItem { peek, section, partial: partial(c)?, old_name: None })
}

/// `section = "[" [section-spec] "]"`, RFC 9051 §9.
fn section(c: &mut Cursor<'_>) -> Parsed<Section> {
    c.expect(b'[', "[")?;
    let part = section_part(c)?;
    let text = if c.peek() == Some(b']') { SectionText::Whole } else { section_text(c, !part.is_empty())? };
    c.expect(b']', "]")?;
    Ok(Section { part, text })
}

/// `section-part = nz-number *("." nz-number)`, and the dot before a `section-text`.
fn section_part(c: &mut Cursor<'_>) -> Parsed<Vec<u32>> {
    let mut part = Vec::new();
    while c.peek().is_some_and(|b| b.is_ascii_digit()) {
        part.push(nz_number(c)?);
        if part.len() > PART_DEPTH {
            return c.bad("fewer levels");
        }
        if c.peek() == Some(b']') {
            break;
        }
        c.expect(b'.', "dot")?;
        if !c.peek().is_some_and(|b| b.is_ascii_alphanumeric()) {
            return c.bad("part number or section name");
        }
    }
    Ok(part)
}

/// `section-text = section-msgtext / "MIME"`, RFC 9051 §9.
fn section_text(c: &mut Cursor<'_>, of_part: bool) -> Parsed<SectionText> {
    let start = c.clone();
    Ok(match keyword_until_bracket(c)?.as_str() {
        "HEADER" => SectionText::Header,
        "HEADER.FIELDS" => SectionText::Fields(header_list(c)?),
        "HEADER.FIELDS.NOT" => SectionText::FieldsNot(header_list(c)?),
        "TEXT" => SectionText::Text,
        "MIME" if of_part => SectionText::Mime,
        _ => return start.bad("section name"),
    })
}

/// `header-list = "(" header-fld-name *(SP header-fld-name) ")"`, RFC 9051 §9.
fn header_list(c: &mut Cursor<'_>) -> Parsed<Vec<String>> {
    c.sp()?;
    list1(c, |c| astring(c).map(|name| canonical(&name)))
}

/// `Message-Id` for `MESSAGE-ID`.
fn canonical(name: &str) -> String {
    let mut start = true;
    name.chars()
        .map(|ch| {
            let out = if start { ch.to_ascii_uppercase() } else { ch.to_ascii_lowercase() };
            start = ch == '-';
            out
        })
        .collect()
}

/// `section-binary = "[" [section-part] "]"`, RFC 9051 §9.
fn section_binary(c: &mut Cursor<'_>) -> Parsed<Vec<u32>> {
    c.expect(b'[', "[")?;
    let part = section_part(c)?;
    c.expect(b']', "]")?;
    Ok(part)
}

/// `partial = "<" number64 "." nz-number64 ">"`, RFC 9051 §9.
fn partial(c: &mut Cursor<'_>) -> Parsed<Option<Partial>> {
    if !c.eat(b'<') {
        return Ok(None);
    }
    let origin = number64(c)?;
    c.expect(b'.', "dot")?;
    let at = c.at();
    let count = number64(c)?;
    if count == 0 {
        return Err(Error::Bad { at, expected: "number above zero" });
    }
    c.expect(b'>', ">")?;
    Ok(Some(Partial { origin, count }))
}

/// `1.2.3`.
pub fn print_part(out: &mut Vec<u8>, part: &[u32]) {
    for (i, n) in part.iter().enumerate() {
        if i > 0 {
            out.push(b'.');
        }
        put::number(out, u64::from(*n));
    }
}

impl SectionItem {
    /// The name in the response: `BODY[…]<origin>`.
    pub fn print_name(&self, out: &mut Vec<u8>) {
        if let Some(name) = self.old_name {
            out.extend_from_slice(name.as_bytes());
            return;
        }
        out.extend_from_slice(b"BODY[");
        print_part(out, &self.section.part);
        if !self.section.part.is_empty() && self.section.text != SectionText::Whole {
            out.push(b'.');
        }
        let fields = match &self.section.text {
            SectionText::Whole => None,
            SectionText::Header => {
                out.extend_from_slice(b"HEADER");
                None
            }
            SectionText::Text => {
                out.extend_from_slice(b"TEXT");
                None
            }
            SectionText::Mime => {
                out.extend_from_slice(b"MIME");
                None
            }
            SectionText::Fields(fields) => {
                out.extend_from_slice(b"HEADER.FIELDS (");
                Some(fields)
            }
            SectionText::FieldsNot(fields) => {
                out.extend_from_slice(b"HEADER.FIELDS.NOT (");
                Some(fields)
            }
        };
        if let Some(fields) = fields {
            for (i, field) in fields.iter().enumerate() {
                if i > 0 {
                    out.push(b' ');
                }
                put::astring(out, field, Charset::Rev1);
            }
            out.push(b')');
        }
        out.push(b']');
        if let Some(partial) = self.partial {
            out.push(b'<');
            put::number(out, partial.origin);
            out.push(b'>');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::parse;
    use super::*;

    fn items(text: &str) -> Option<Vec<FetchItem>> {
        match parse(&format!("fetch 1:* {text}")) {
            Ok(Command::Fetch(f)) => Some(f.items),
            _ => None,
        }
    }

    #[test]
    fn plain_items() {
        use FetchItem::*;
        for (text, want) in [
            ("fast", Some(vec![Flags, InternalDate, Size])),
            ("ALL", Some(vec![Flags, InternalDate, Size, Envelope])),
            ("(uid flags)", Some(vec![Uid, Flags])),
            ("body", Some(vec![Body])),
            ("(BODYSTRUCTURE modseq)", Some(vec![BodyStructure, ModSeq])),
            ("(preview (lazy) uid)", Some(vec![Preview, Uid])),
            ("binary.size[1.2]", Some(vec![BinarySize(vec![1, 2])])),
            ("()", None),
            ("(fast)", None),
            ("x", None),
        ] {
            assert_eq!(items(text), want, "{text}");
        }
    }

    #[test]
    fn section_names_come_back() {
        for (text, want) in [
            ("body[]", "BODY[]"),
            ("body.peek[]<0.5>", "BODY[]<0>"),
            ("body[1.2]", "BODY[1.2]"),
            ("body[1.mime]", "BODY[1.MIME]"),
            ("body[2.header.fields (to SUBJECT \"x y\")]<7.1>", "BODY[2.HEADER.FIELDS (To Subject \"X y\")]<7>"),
            ("body[header.fields.not (message-id)]", "BODY[HEADER.FIELDS.NOT (Message-Id)]"),
            ("rfc822.text", "RFC822.TEXT"),
        ] {
            let Some([FetchItem::Section(item)]) = items(text).as_deref().map(|i| <&[_; 1]>::try_from(i).unwrap().clone()) else {
                panic!("{text}")
            };
            let mut out = Vec::new();
            item.print_name(&mut out);
            assert_eq!(String::from_utf8_lossy(&out), want);
        }
    }

    #[test]
    fn refuses() {
        for text in [
            "body[mime]",
            "body[0]",
            "body[1.]",
            "body[1..2]",
            "body[1]<0.0>",
            "body[1]<0>",
            "body[header.fields ()]",
            "body[x]",
            "binary[header]",
            "body[",
            "(uid",
            "flags (changedsince)",
            "flags (changedsince 1 changedsince 2)",
        ] {
            assert_eq!(items(text), None, "{text}");
        }
    }

    #[test]
    fn part_numbers_have_a_depth() {
        let section = |depth: usize| format!("body[{}]", vec!["1"; depth].join("."));
        assert!(items(&section(100)).is_some() && items(&section(101)).is_none());
    }

    #[test]
    fn modifiers() {
        let Ok(Command::Fetch(f)) = parse("uid fetch 1 flags (changedsince 0)") else { panic!() };
        assert_eq!((f.uid, f.changed_since), (true, Some(0)));
    }
}
