//! `multipart/form-data`, RFC 7578, as it streams in.
//!
//! Bytes are pushed in pieces of any size; what comes out is the head of each part, its body in pieces, and its end. Only the head of a
//! part and what may be the start of a boundary are kept.

use mox_message::{Disposition, Headers, param::param};

/// The largest head of a part.
const MAX_HEAD: usize = 16 << 10;

/// RFC 2046 §5.1.1.
const MAX_BOUNDARY: usize = 70;

/// What is known of a part before its body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PartHead {
    /// The field's name.
    pub(crate) name: String,
    /// The file's name without folders; none if it is no file.
    pub(crate) file_name: Option<String>,
    /// `Content-Type`, or empty.
    pub(crate) content_type: String,
    /// `Content-ID`, or empty.
    pub(crate) content_id: String,
}

/// What a form consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A part begins.
    Head(PartHead),
    /// More of its body.
    Body(Vec<u8>),
    /// It ends.
    End,
}

/// Why a form can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MultipartError {
    /// The content type has no usable boundary.
    #[error("no multipart boundary param in Content-Type")]
    Boundary,
    /// It ended before its last boundary.
    #[error("multipart: unexpected end")]
    Truncated,
    /// Something other than a line break follows a boundary.
    #[error("multipart: malformed boundary line")]
    BoundaryLine,
    /// The head of a part is too large.
    #[error("multipart: header of a part too large")]
    Head,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the first boundary, or in a body.
    Until { in_part: bool },
    /// Behind a boundary.
    Line,
    /// In the head of a part.
    Head,
    /// Behind the last boundary.
    Done,
}

/// Reads a form.
#[derive(Debug)]
pub(crate) struct Multipart {
    /// With the line break and dashes in front.
    delimiter: Vec<u8>,
    buffer: Vec<u8>,
    state: State,
}

impl Multipart {
    /// A form with this boundary.
    pub(crate) fn new(boundary: &str) -> Result<Self, MultipartError> {
        if boundary.is_empty() || boundary.len() > MAX_BOUNDARY || !boundary.bytes().all(|b| (0x20..0x7f).contains(&b)) {
            return Err(MultipartError::Boundary);
        }
        // The first boundary may be at the very start: as if a line ended before it.
        Ok(Self { delimiter: format!("\r\n--{boundary}").into_bytes(), buffer: b"\r\n".to_vec(), state: State::Until { in_part: false } })
    }

    /// Takes more bytes.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if self.state != State::Done {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// Whether the form is complete.
    pub(crate) fn finish(&self) -> Result<(), MultipartError> {
        if self.state == State::Done { Ok(()) } else { Err(MultipartError::Truncated) }
    }

    /// The next event, none until more is pushed.
    pub(crate) fn next(&mut self) -> Result<Option<Event>, MultipartError> {
        loop {
            match self.state {
                State::Done => return Ok(None),
                State::Until { in_part } => {
                    let (length, found) = match find(&self.buffer, &self.delimiter) {
                        Some(at) => (at, true),
                        // The end may be the start of a delimiter.
                        None => (self.buffer.len().saturating_sub(self.delimiter.len().saturating_sub(1)), false),
                    };
                    let rest = self.buffer.split_off(length);
                    let body = std::mem::replace(&mut self.buffer, rest);
                    if in_part && !body.is_empty() {
                        return Ok(Some(Event::Body(body)));
                    }
                    if !found {
                        return Ok(None);
                    }
                    self.buffer.drain(..self.delimiter.len());
                    self.state = State::Line;
                    if in_part {
                        return Ok(Some(Event::End));
                    }
                }
                State::Line => {
                    // Spaces may follow a boundary, RFC 2046 §5.1.1.
                    let padding = self.buffer.iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
                    let after = self.buffer.get(padding..).unwrap_or_default();
                    if padding == 0 && after.starts_with(b"--") {
                        self.state = State::Done;
                        self.buffer = Vec::new();
                    } else if after.starts_with(b"\r\n") {
                        self.buffer.drain(..padding);
                        self.state = State::Head;
                    } else if after.len() < 2 && padding < MAX_HEAD {
                        return Ok(None);
                    } else {
                        return Err(MultipartError::BoundaryLine);
                    }
                }
                State::Head => {
                    // The line break behind the boundary is still there: with it, an empty head ends as others do.
                    let Some(end) = find(&self.buffer, b"\r\n\r\n") else {
                        return if self.buffer.len() > MAX_HEAD { Err(MultipartError::Head) } else { Ok(None) };
                    };
                    if end > MAX_HEAD {
                        return Err(MultipartError::Head);
                    }
                    let head = head(self.buffer.get(2..end.saturating_add(2)).unwrap_or_default());
                    self.buffer.drain(..end.saturating_add(4));
                    self.state = State::Until { in_part: true };
                    return Ok(Some(Event::Head(head)));
                }
            }
        }
    }
}

fn head(section: &[u8]) -> PartHead {
    let headers = Headers::new(section);
    let field = |name: &str| headers.text(name).unwrap_or_default().trim().to_owned();
    let disposition =
        headers.first("Content-Disposition").and_then(|f| Disposition::parse(&f.unfolded())).filter(|d| d.kind == "form-data");
    let params = disposition.map(|d| d.params).unwrap_or_default();
    let base = |name: &str| name.rsplit('/').next().unwrap_or_default().to_owned();
    PartHead {
        name: param(&params, "name").unwrap_or_default().to_owned(),
        file_name: param(&params, "filename").map(base),
        content_type: field("Content-Type"),
        content_id: field("Content-ID"),
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    let first = *needle.first()?;
    let mut from = 0_usize;
    loop {
        let at = from.checked_add(haystack.get(from..)?.iter().position(|b| *b == first)?)?;
        if haystack.get(at..)?.starts_with(needle) {
            return Some(at);
        }
        from = at.checked_add(1)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Name, file name and body.
    type Part = (String, Option<String>, Vec<u8>);

    /// The parts of a form that is pushed in pieces of a size.
    fn parts(form: &[u8], piece: usize) -> Result<Vec<Part>, MultipartError> {
        let mut multipart = Multipart::new("b").unwrap();
        let mut parts: Vec<Part> = Vec::new();
        for bytes in form.chunks(piece) {
            multipart.push(bytes);
            while let Some(event) = multipart.next()? {
                match event {
                    Event::Head(head) => parts.push((head.name, head.file_name, Vec::new())),
                    Event::Body(body) => parts.last_mut().unwrap().2.extend(body),
                    Event::End => {}
                }
            }
        }
        multipart.finish().map(|()| parts)
    }

    const FORM: &[u8] = b"preamble\r\n--b \r\nContent-Disposition: form-data; name=\"request\"\r\n\r\n{}\r\n--b\r\nContent-Disposition: form-data; name=f; filename=\"../a b.png\"\r\nContent-Type: image/png\r\n\r\n\r\n--not\r\n-\r\n\r\n--b\r\n\r\nnameless\r\n--b\r\nContent-Disposition: form-data; name=e\r\n\r\n\r\n--b--\r\nepilogue";

    #[test]
    fn parts_in_any_pieces() {
        let want = vec![
            ("request".to_owned(), None, b"{}".to_vec()),
            ("f".to_owned(), Some("a b.png".to_owned()), b"\r\n--not\r\n-\r\n".to_vec()),
            (String::new(), None, b"nameless".to_vec()),
            ("e".to_owned(), None, Vec::new()),
        ];
        for piece in 1..FORM.len() {
            assert_eq!(parts(FORM, piece), Ok(want.clone()), "{piece}");
        }
    }

    #[test]
    fn broken_forms() {
        for (form, want) in [
            (b"".as_slice(), MultipartError::Truncated),
            (b"--b\r\n\r\nx", MultipartError::Truncated),
            (b"--b\r\n\r\nx\r\n--b", MultipartError::Truncated),
            (b"--bx\r\n", MultipartError::BoundaryLine),
        ] {
            assert_eq!(parts(form, 3), Err(want), "{form:?}");
        }
        let long = [b"--b\r\nX: ".as_slice(), &b"x".repeat(MAX_HEAD)].concat();
        assert_eq!(parts(&long, 1000), Err(MultipartError::Head));
        for boundary in ["", "ä", &"x".repeat(71)] {
            assert!(Multipart::new(boundary).is_err());
        }
    }

    proptest! {
        #[test]
        fn never_panics(form in "(\r\n|--b|-|[a-z:]|\r|\n){0,60}", piece in 1_usize..9) {
            let whole = parts(form.as_bytes(), usize::MAX);
            prop_assert_eq!(parts(form.as_bytes(), piece), whole);
        }
    }
}
