//! The MIME structure of a message: its parts with exact octet offsets, RFC 2045 and RFC 2046.
//!
//! [`StructureBuilder`] takes a message in pieces of any size as it streams by, keeps header sections but no bodies, and works line
//! by line with an explicit stack: no recursion, linear time, memory bounded by [`Limits`]. It never fails. What is broken or
//! exceeds a limit becomes an opaque leaf (`application/octet-stream`) whose offsets are still exact, and a [`Defect`].
//!
//! Ranges are octets from the start of the message. A part's header range has the empty line at its end; the line break before
//! a boundary belongs to the boundary, RFC 2046 §5.1.1. A part lies within its parent's body.

mod boundary;
mod builder;
mod codec;

pub use builder::StructureBuilder;
pub use codec::DecodeError;

use crate::decode::Encoding;
use crate::envelope::Envelope;
use crate::header::Headers;
use crate::param::{Disposition, Params, param};
use std::ops::Range;

/// What the builder accepts before it stops looking inside.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Levels of multiparts and embedded messages.
    pub depth: usize,
    /// Number of parts, multiparts and embedded messages counted too; at least two.
    pub parts: usize,
    /// Bytes of one header section.
    pub section_bytes: usize,
    /// Bytes of all header sections together.
    pub header_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { depth: 100, parts: 10_000, section_bytes: 1 << 20, header_bytes: 1 << 20 }
    }
}

/// Something wrong with a message, or too much of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Defect {
    /// A header section, or all of them, larger than the limit.
    HeaderTooLarge,
    /// A header section that ended without an empty line, at a boundary or the end.
    HeaderUnterminated,
    /// A line in a header section that is no field.
    BadHeaderLine,
    /// A `Content-Type` that can't be read.
    BadContentType,
    /// A multipart without a usable boundary parameter.
    BadBoundary,
    /// A multipart or message with a transfer encoding that hides its parts.
    EncodedContainer,
    /// A multipart in which no boundary was found.
    NoParts,
    /// A multipart whose closing boundary is missing.
    Unclosed,
    /// Nesting deeper than the limit.
    TooDeep,
    /// More parts than the limit.
    TooManyParts,
}

/// A part: the whole message, a body part, or an embedded message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The multipart or message part that this is in; none for the whole message.
    pub parent: Option<usize>,
    /// The body parts of a multipart; never empty for one that isn't opaque.
    pub children: Vec<usize>,
    /// The embedded message of message/rfc822 and message/global.
    pub message: Option<usize>,
    /// The header section, with the empty line at its end.
    pub header: Range<u64>,
    /// The body, not transfer-decoded.
    pub body: Range<u64>,
    /// Lines of the body; a last line without line break counts.
    pub lines: u32,
    /// The media type, lower case. Of opaque parts `application`.
    pub media_type: String,
    /// The subtype, lower case. Of opaque parts `octet-stream`.
    pub subtype: String,
    /// The parameters; a default text/plain part has its `charset`.
    pub params: Params,
    /// Whether the type comes from a `Content-Type` field rather than being the default.
    pub explicit_type: bool,
    /// Whether we didn't look inside although the type would have asked for it, or couldn't read the type.
    pub opaque: bool,
    /// `Content-ID`.
    pub id: Option<String>,
    /// `Content-Description`, encoded words not decoded.
    pub description: Option<String>,
    /// `Content-Transfer-Encoding`, lower case, as written.
    pub encoding: Option<String>,
    /// `Content-MD5`.
    pub md5: Option<String>,
    /// `Content-Disposition`.
    pub disposition: Option<Disposition>,
    /// `Content-Language`.
    pub language: Option<String>,
    /// `Content-Location`.
    pub location: Option<String>,
    /// For the whole message and embedded messages: the envelope.
    pub envelope: Option<Box<Envelope>>,
}

impl Part {
    /// Whether the type is this one; both in lower case.
    pub fn is(&self, media_type: &str, subtype: &str) -> bool {
        self.media_type == media_type && self.subtype == subtype
    }

    /// Whether the part has body parts.
    pub const fn is_multipart(&self) -> bool {
        !self.children.is_empty()
    }

    /// Whether there is nothing below this part.
    pub const fn is_leaf(&self) -> bool {
        self.children.is_empty() && self.message.is_none()
    }

    /// Whether the part is text, RFC 2046 §4.1.
    pub fn is_text(&self) -> bool {
        self.media_type == "text"
    }

    /// The value of a parameter of the type, by its lower-case name.
    pub fn param(&self, name: &str) -> Option<&str> {
        param(&self.params, name)
    }

    /// The transfer encoding.
    pub fn transfer_encoding(&self) -> Encoding {
        self.encoding.as_deref().map_or(Encoding::SevenBit, Encoding::of)
    }

    /// The file name: of the disposition, else the type's `name`.
    pub fn file_name(&self) -> Option<String> {
        let name = self.disposition.as_ref().and_then(|d| param(&d.params, "filename")).or_else(|| self.param("name"))?;
        Some(crate::param::decode_file_name(name))
    }

    /// Whether the part is marked as an attachment.
    pub fn is_attachment(&self) -> bool {
        self.disposition.as_ref().is_some_and(|d| d.kind == "attachment")
    }
}

/// The structure of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Structure {
    /// Never empty; the whole message first, each part before those in it.
    parts: Vec<Part>,
    /// Whether a header section has bytes beyond ASCII, so that sending needs SMTPUTF8, RFC 6531 §3.7.1.
    pub utf8_headers: bool,
    /// Whether the message has bytes beyond ASCII anywhere, so that sending needs 8BITMIME, RFC 6152.
    pub eight_bit: bool,
    /// Defects and the part they are of; at most 100 are kept.
    pub defects: Vec<(usize, Defect)>,
}

impl Structure {
    /// The structure of a message in memory, with the default limits.
    pub fn of(message: &[u8]) -> Self {
        let mut builder = StructureBuilder::new(Limits::default());
        builder.push(message);
        builder.finish()
    }

    /// All parts: the whole message first, each part before those in it.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The part that is the whole message.
    #[expect(clippy::missing_panics_doc, reason = "a structure always has its root")]
    pub fn root(&self) -> &Part {
        assert!(!self.parts.is_empty(), "a structure always has its root");
        &self.parts[0]
    }

    /// The part at an index of [`Part::children`] and the like.
    pub fn part(&self, index: usize) -> Option<&Part> {
        self.parts.get(index)
    }

    /// The body parts of a multipart.
    pub fn children<'s>(&'s self, part: &'s Part) -> impl Iterator<Item = &'s Part> {
        part.children.iter().filter_map(|i| self.parts.get(*i))
    }

    /// The message embedded in a part.
    pub fn message_of(&self, part: &Part) -> Option<&Part> {
        self.parts.get(part.message?)
    }

    /// Length of the message.
    pub fn len(&self) -> u64 {
        self.root().body.end
    }

    /// Whether the message has no bytes at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The part with a number such as `1.2`, RFC 9051 §6.4.5.1; no number is the whole message.
    ///
    /// A message that is no multipart has its body as part 1. Numbers go on inside an embedded message as if it were a message of
    /// its own: `2.1` of a message/rfc822 part 2 is the first part of the embedded message, or its only body.
    pub fn section(&self, numbers: &[u32]) -> Option<&Part> {
        let mut part = self.root();
        // Whether `part` is a message whose own body hasn't been counted as its part 1.
        let mut message = true;
        for number in numbers {
            if !message && let Some(embedded) = self.message_of(part) {
                part = embedded;
                message = true;
            }
            if part.is_multipart() {
                let index = usize::try_from(*number).ok()?.checked_sub(1)?;
                part = self.parts.get(*part.children.get(index)?)?;
                message = false;
            } else if message && *number == 1 {
                message = false;
            } else {
                return None;
            }
        }
        Some(part)
    }

    /// The structure after `prefix`, complete header fields, was put in front of the message. The fields must not be ones that
    /// describe content (`Content-…`).
    #[must_use]
    pub fn with_prefix(mut self, prefix: &[u8]) -> Self {
        let by = u64::try_from(prefix.len()).unwrap_or(u64::MAX);
        let shift = |r: &mut Range<u64>| *r = r.start.saturating_add(by)..r.end.saturating_add(by);
        for part in &mut self.parts {
            shift(&mut part.header);
            shift(&mut part.body);
        }
        if let Some(root) = self.parts.first_mut() {
            root.header.start = 0;
            let own = root.envelope.take().map_or_else(Envelope::default, |e| *e);
            root.envelope = Some(Box::new(own.behind(Envelope::of(&Headers::new(prefix)))));
        }
        if !prefix.is_ascii() {
            self.utf8_headers = true;
            self.eight_bit = true;
        }
        self
    }
}

#[cfg(test)]
mod tests;
