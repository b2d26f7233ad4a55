//! Header sections: raw access to the bytes of a message, and values that are safe to write.
//!
//! [`Headers`] looks at the header section at the start of some bytes without copying. It yields every line of the section, broken
//! ones included, so that what is read can be reassembled octet for octet; a field without a usable name has an empty one.
//! Lines end in CRLF or LF. [`HeaderName`] and [`HeaderValue`] can't hold what would end a field early.

use crate::{charset, encoded_word};
use std::borrow::Cow;
use std::fmt;

/// The header section at the start of a message or part, RFC 5322 §2.1.
#[derive(Clone, Copy, Debug)]
pub struct Headers<'a> {
    bytes: &'a [u8],
}

/// One field, with its continuation lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// All its bytes, the final line break included.
    pub raw: &'a [u8],
    /// The name as written, without the colon; empty if the line has none or the name isn't one.
    pub name: &'a [u8],
    /// What follows the colon, folded and with its line breaks; the whole line where there is no name.
    pub value: &'a [u8],
}

impl<'a> Headers<'a> {
    /// The header section that the bytes start with. What follows the empty line is ignored.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// The fields, in order.
    pub const fn fields(&self) -> Fields<'a> {
        Fields { rest: self.bytes }
    }

    /// All fields of a name, in any case.
    pub fn all<'n>(&self, name: &'n str) -> impl Iterator<Item = Field<'a>> + use<'a, 'n> {
        self.fields().filter(move |f| f.is(name))
    }

    /// The first field of a name, in any case.
    pub fn first(&self, name: &str) -> Option<Field<'a>> {
        self.all(name).next()
    }

    /// The value of the first field of a name: unfolded, not decoded.
    pub fn text(&self, name: &str) -> Option<String> {
        self.first(name).map(|f| f.text())
    }

    /// The value of the first field of a name: unfolded, encoded words decoded.
    pub fn decoded(&self, name: &str) -> Option<String> {
        self.first(name).map(|f| f.decoded())
    }

    /// The bytes of the section, with the empty line that ends it if there is one.
    pub fn section(&self) -> &'a [u8] {
        let mut fields = self.fields();
        while fields.next().is_some() {}
        let blank = blank_line(fields.rest);
        let len = self.bytes.len().saturating_sub(fields.rest.len()).saturating_add(blank);
        self.bytes.get(..len).unwrap_or(self.bytes)
    }

    /// The section's bytes without the fields for which `drop` holds; its empty line stays.
    pub fn without(&self, mut drop: impl FnMut(&Field<'a>) -> bool) -> Vec<u8> {
        let section = self.section();
        let mut out = Vec::with_capacity(section.len());
        let mut fields = self.fields();
        for field in fields.by_ref() {
            if !drop(&field) {
                out.extend_from_slice(field.raw);
            }
        }
        let kept = blank_line(fields.rest);
        out.extend_from_slice(fields.rest.get(..kept).unwrap_or_default());
        out
    }
}

/// Iterator over [`Field`]s.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        if self.rest.is_empty() || blank_line(self.rest) > 0 {
            return None;
        }
        let mut end = line_len(self.rest);
        // Continuation lines start with white space. One that is otherwise empty still continues, RFC 5322 §4.2.
        while let Some(b' ' | b'\t') = self.rest.get(end) {
            end = end.saturating_add(line_len(self.rest.get(end..).unwrap_or_default()));
        }
        let (raw, rest) = self.rest.split_at(end.min(self.rest.len()));
        self.rest = rest;
        Some(Field::of(raw))
    }
}

/// Length of the empty line at the start, 0 if there is none.
fn blank_line(bytes: &[u8]) -> usize {
    match bytes {
        [b'\r', b'\n', ..] => 2,
        [b'\n', ..] => 1,
        _ => 0,
    }
}

fn line_len(bytes: &[u8]) -> usize {
    bytes.iter().position(|b| *b == b'\n').map_or(bytes.len(), |at| at.saturating_add(1))
}

impl<'a> Field<'a> {
    fn of(raw: &'a [u8]) -> Self {
        let nameless = Self { raw, name: &[], value: raw };
        let Some(colon) = raw.iter().position(|b| *b == b':') else { return nameless };
        let (before, after) = raw.split_at(colon);
        // White space before the colon is obsolete syntax, RFC 5322 §4.5.
        let name = before.trim_ascii_end();
        if name.is_empty() || !name.iter().all(|b| b.is_ascii_graphic()) {
            return nameless;
        }
        Self { raw, name, value: after.get(1..).unwrap_or_default() }
    }

    /// Whether this field has the name, in any case.
    pub fn is(&self, name: &str) -> bool {
        !self.name.is_empty() && self.name.eq_ignore_ascii_case(name.as_bytes())
    }

    /// The value unfolded: lines trimmed and joined with one space.
    pub fn unfolded(&self) -> Cow<'a, [u8]> {
        let value = self.value.trim_ascii();
        if !value.contains(&b'\n') {
            return Cow::Borrowed(value);
        }
        let mut out = Vec::with_capacity(value.len());
        for line in value.split(|b| *b == b'\n') {
            let line = line.trim_ascii();
            if !line.is_empty() {
                if !out.is_empty() {
                    out.push(b' ');
                }
                out.extend_from_slice(line);
            }
        }
        Cow::Owned(out)
    }

    /// The value unfolded, as text; bytes that aren't UTF-8 are taken as windows-1252.
    pub fn text(&self) -> String {
        charset::guess(&self.unfolded()).into_owned()
    }

    /// The value unfolded, encoded words decoded, RFC 2047.
    pub fn decoded(&self) -> String {
        encoded_word::decode(&self.unfolded())
    }
}

/// The canonical spelling of a field name: each word capitalised, as `Message-Id`.
pub fn canonical_name(name: &str) -> String {
    let mut start = true;
    name.chars()
        .map(|c| {
            let c = if start { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() };
            start = c == '-';
            c
        })
        .collect()
}

/// A field name that can be written: printable ASCII without colon, RFC 5322 §3.6.8.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HeaderName(Cow<'static, str>);

/// A field value that can be written: one line, no control characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct HeaderValue(String);

/// Why a text can't be written into a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Empty, or with a character other than printable ASCII, or with a colon.
    #[error("not a header field name")]
    Name,
    /// With a line break, NUL or other control character.
    #[error("control character in header field value")]
    Value,
}

impl HeaderName {
    /// A name, spelled as given.
    ///
    /// # Errors
    /// See [`HeaderError::Name`].
    pub fn new(name: &str) -> Result<Self, HeaderError> {
        if name.is_empty() || name.len() > 200 || !name.bytes().all(|b| b.is_ascii_graphic() && b != b':') {
            return Err(HeaderError::Name);
        }
        Ok(Self(Cow::Owned(name.to_owned())))
    }

    /// A name known when compiling.
    ///
    /// # Panics
    /// If it isn't one, which a test or the compiler finds.
    pub const fn from_static(name: &'static str) -> Self {
        let bytes = name.as_bytes();
        assert!(!bytes.is_empty(), "empty header field name");
        let mut at = 0;
        while at < bytes.len() {
            assert!(bytes[at].is_ascii_graphic() && bytes[at] != b':', "not a header field name");
            at += 1;
        }
        Self(Cow::Borrowed(name))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl HeaderValue {
    /// A value, as it will be written.
    ///
    /// # Errors
    /// See [`HeaderError::Value`].
    pub fn new(value: &str) -> Result<Self, HeaderError> {
        if value.chars().any(char::is_control) { Err(HeaderError::Value) } else { Ok(Self(value.to_owned())) }
    }

    /// A value in which each control character became a space: for text from peers that is only informative.
    #[must_use]
    pub fn cleaned(value: &str) -> Self {
        Self(value.chars().map(|c| if c.is_control() { ' ' } else { c }).collect())
    }

    /// The value.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for HeaderValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEADER: &[u8] = b"Subject: a\r\n  b\r\nX : y\r\nbroken\r\nsubject:c\n\t\r\n\r\nBody: x\r\n";

    #[test]
    fn fields_and_bytes() {
        let h = Headers::new(HEADER);
        let names: Vec<&[u8]> = h.fields().map(|f| f.name).collect();
        assert_eq!(names, [b"Subject".as_slice(), b"X", b"", b"subject"]);
        assert_eq!(h.text("SUBJECT").unwrap(), "a b");
        assert_eq!(h.all("subject").map(|f| f.text()).collect::<Vec<_>>(), ["a b", "c"]);
        assert_eq!(h.first("subject").unwrap().raw, b"Subject: a\r\n  b\r\n");
        assert_eq!(h.section(), &HEADER[..HEADER.len() - 9]);
        assert_eq!(h.without(|f| f.is("subject")), b"X : y\r\nbroken\r\n\r\n");
        assert_eq!(Headers::new(b"\r\nx").section(), b"\r\n");
        assert_eq!(Headers::new(b"").section(), b"");
    }

    #[test]
    fn values_cannot_end_a_field() {
        assert_eq!(HeaderValue::new("a\r\nBcc: x"), Err(HeaderError::Value));
        assert_eq!(HeaderValue::new("a\0"), Err(HeaderError::Value));
        assert_eq!(HeaderValue::cleaned("a\r\nb").as_str(), "a  b");
        assert_eq!(HeaderName::new("A:"), Err(HeaderError::Name));
        assert_eq!(HeaderName::new("Ä"), Err(HeaderError::Name));
        assert_eq!(canonical_name("mESSAGE-id"), "Message-Id");
    }

    proptest! {
        #[test]
        fn fields_reassemble(bytes in "[a:\r\n \t]{0,60}") {
            let h = Headers::new(bytes.as_bytes());
            prop_assert_eq!(h.without(|_| false), h.section().to_vec());
            prop_assert!(bytes.as_bytes().starts_with(h.section()));
        }
    }
}
