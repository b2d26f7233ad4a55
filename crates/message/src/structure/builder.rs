//! Building a [`Structure`] line by line.

use super::boundary::{Boundaries, Delimiter, MAX_BOUNDARY};
use super::{Defect, Limits, Part, Structure};
use crate::decode::Encoding;
use crate::envelope::Envelope;
use crate::header::Headers;
use crate::param::{Disposition, MediaType};

/// Takes a message in pieces and finds its parts.
#[derive(Clone, Debug)]
pub struct StructureBuilder {
    limits: Limits,
    parts: Vec<Part>,
    /// The parts that are open, outermost first. Never empty before [`Self::finish`].
    stack: Vec<Frame>,
    boundaries: Boundaries,
    /// While reading the header section of the innermost open part.
    section: Option<Section>,
    /// Bytes of header sections kept so far.
    header_bytes: usize,
    /// The top-level header section, once complete.
    root_header: Option<Vec<u8>>,
    /// Where the current line starts.
    offset: u64,
    /// The start of the current line, as far as it is needed.
    line: Vec<u8>,
    line_len: u64,
    /// The last octet of the current line so far.
    last: u8,
    /// Line breaks before the current line.
    breaks: u32,
    /// The line before the current one.
    previous: Previous,
    utf8_headers: bool,
    eight_bit: bool,
    defects: Vec<(usize, Defect)>,
}

#[derive(Clone, Debug)]
struct Frame {
    part: usize,
    /// Line breaks before its body.
    breaks: u32,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    /// A leaf, a part whose header is being read, or a message part around an embedded message.
    Plain,
    Multipart {
        boundary: Vec<u8>,
        digest: bool,
        closed: bool,
    },
}

#[derive(Clone, Debug, Default)]
struct Section {
    bytes: Vec<u8>,
    too_large: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Previous {
    /// Octets of its line break: 1, 2, or 0 where there is no line or it wasn't terminated.
    line_break: u8,
    /// Whether it had anything but its line break.
    content: bool,
}

const MAX_DEFECTS: usize = 100;

impl StructureBuilder {
    /// A builder at the start of a message.
    pub fn new(limits: Limits) -> Self {
        let mut builder = Self {
            limits,
            parts: Vec::new(),
            stack: Vec::new(),
            boundaries: Boundaries::new(),
            section: None,
            header_bytes: 0,
            root_header: None,
            offset: 0,
            line: Vec::new(),
            line_len: 0,
            last: 0,
            breaks: 0,
            previous: Previous::default(),
            utf8_headers: false,
            eight_bit: false,
            defects: Vec::new(),
        };
        builder.open_part(None, 0, false);
        builder
    }

    /// Takes the next piece of the message.
    pub fn push(&mut self, mut data: &[u8]) {
        self.eight_bit |= !data.is_ascii();
        while !data.is_empty() {
            let end = data.iter().position(|b| *b == b'\n');
            let (piece, rest) = data.split_at(end.map_or(data.len(), |at| at.saturating_add(1)));
            data = rest;
            let before = if piece.len() > 1 { piece.get(piece.len() - 2).copied() } else { (self.line_len > 0).then_some(self.last) };
            self.keep(piece);
            self.line_len = self.line_len.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
            self.last = piece.last().copied().unwrap_or(self.last);
            if end.is_some() {
                self.end_line(if before == Some(b'\r') { 2 } else { 1 });
            }
        }
    }

    /// The top-level header section with its empty line, once all of it was pushed. Cut where the limits ask for it.
    pub fn header(&self) -> Option<&[u8]> {
        self.root_header.as_deref()
    }

    /// Keeps what is needed of the current line: all in headers, what may be a boundary in bodies.
    fn keep(&mut self, piece: &[u8]) {
        let cap = if let Some(section) = &self.section {
            self.utf8_headers |= !piece.is_ascii();
            let left = self
                .limits
                .section_bytes
                .saturating_sub(section.bytes.len())
                .min(self.limits.header_bytes.saturating_sub(self.header_bytes));
            // Boundaries must be recognised, and the empty line at the end, even when nothing more is kept.
            left.max(MAX_BOUNDARY).saturating_add(8)
        } else if self.boundaries.is_empty() {
            return;
        } else {
            let dash = |at: usize| match self.line.get(at) {
                Some(b) => *b == b'-',
                None => piece.get(at.saturating_sub(self.line.len())).is_none_or(|b| *b == b'-'),
            };
            if self.line_len > 0 && self.line.is_empty() || !dash(0) || !dash(1) {
                self.line.clear();
                return;
            }
            MAX_BOUNDARY.saturating_add(8)
        };
        let room = cap.saturating_sub(self.line.len()).min(piece.len());
        self.line.extend_from_slice(piece.get(..room).unwrap_or(piece));
    }

    /// The current line is complete.
    fn end_line(&mut self, line_break: u8) {
        let content = self.line_len.saturating_sub(u64::from(line_break));
        let delimiter = self.delimiter(content);
        if let Some(delimiter) = delimiter {
            self.end_header(self.offset, false);
            self.close_to(delimiter.level.saturating_add(1), u64::from(self.previous.line_break));
        }
        let blank = content == 0 && line_break > 0;
        if let Some(section) = &mut self.section {
            let complete = u64::try_from(self.line.len()).is_ok_and(|n| n == self.line_len);
            let fits = self.limits.section_bytes.saturating_sub(section.bytes.len()) >= self.line.len()
                && self.limits.header_bytes.saturating_sub(self.header_bytes) >= self.line.len();
            if complete && fits && !section.too_large {
                section.bytes.extend_from_slice(&self.line);
                self.header_bytes = self.header_bytes.saturating_add(self.line.len());
            } else {
                section.too_large = true;
            }
        }
        self.offset = self.offset.saturating_add(self.line_len);
        self.line_len = 0;
        self.line.clear();
        self.breaks = self.breaks.saturating_add(u32::from(line_break > 0));
        self.previous = Previous { line_break, content: content > 0 };
        match delimiter {
            Some(delimiter) => self.begin_after(delimiter),
            None if blank => self.end_header(self.offset, true),
            None => {}
        }
    }

    /// Whether the current line is a boundary. Its content is all but the line break.
    fn delimiter(&self, content: u64) -> Option<Delimiter> {
        if self.boundaries.is_empty() {
            return None;
        }
        let kept = usize::try_from(content).unwrap_or(usize::MAX).min(self.line.len());
        let text = self.line.get(..kept)?.strip_prefix(b"--")?;
        self.boundaries.find(text, u64::try_from(kept).is_ok_and(|n| n == content))
    }

    /// After a delimiter line: the next part of its multipart, or its epilogue.
    fn begin_after(&mut self, delimiter: Delimiter) {
        let Some(frame) = self.stack.get_mut(delimiter.level) else { return };
        let Kind::Multipart { boundary, digest, closed } = &mut frame.kind else { return };
        let (part, digest) = (frame.part, *digest);
        if delimiter.closing {
            *closed = true;
            let boundary = std::mem::take(boundary);
            self.boundaries.close(&boundary, delimiter.level);
            return;
        }
        let child = self.open_part(Some(part), self.offset, digest);
        if let Some(parent) = self.parts.get_mut(part) {
            parent.children.push(child);
        }
    }

    /// Opens a part whose header section starts here. At the limit it takes all that is left of the message.
    fn open_part(&mut self, parent: Option<usize>, at: u64, digest: bool) -> usize {
        let index = self.parts.len();
        let mut part = Part {
            parent,
            children: Vec::new(),
            message: None,
            header: at..at,
            body: at..at,
            lines: 0,
            media_type: "text".to_owned(),
            subtype: "plain".to_owned(),
            params: Vec::new(),
            explicit_type: false,
            opaque: false,
            id: None,
            description: None,
            encoding: None,
            md5: None,
            disposition: None,
            language: None,
            location: None,
            envelope: None,
        };
        if digest {
            // RFC 2046 §5.1.5.
            "message".clone_into(&mut part.media_type);
            "rfc822".clone_into(&mut part.subtype);
        } else {
            part.params.push(("charset".to_owned(), "us-ascii".to_owned()));
        }
        let last = index.saturating_add(1) >= self.limits.parts && index > 0;
        if last {
            make_opaque(&mut part);
            self.defect(index, Defect::TooManyParts);
            self.boundaries.close_all();
        } else {
            self.section = Some(Section::default());
        }
        self.parts.push(part);
        self.stack.push(Frame { part: index, breaks: self.breaks, kind: Kind::Plain });
        index
    }

    /// The header section of the innermost part, if one is being read, ends; the body starts at `body`.
    /// `descend` is false if there can be no body.
    fn end_header(&mut self, body: u64, descend: bool) {
        let Some(section) = self.section.take() else { return };
        let Some(frame) = self.stack.last_mut() else { return };
        frame.breaks = self.breaks;
        let index = frame.part;
        if !descend {
            self.defect(index, Defect::HeaderUnterminated);
        }
        let Some(part) = self.parts.get_mut(index) else { return };
        part.header.end = body;
        part.body = body..body;
        let is_message = part.parent.is_none_or(|parent| parent_is_message(&self.parts, parent));
        let headers = Headers::new(&section.bytes);
        let mut found = Vec::new();
        if let Some(part) = self.parts.get_mut(index) {
            if is_message {
                part.envelope = Some(Box::new(Envelope::of(&headers)));
            }
            if section.too_large {
                found.push(Defect::HeaderTooLarge);
                make_opaque(part);
            } else {
                describe(part, &headers, &mut found);
            }
        }
        for defect in found {
            self.defect(index, defect);
        }
        if index == 0 {
            self.root_header = Some(section.bytes);
        }
        self.descend(index, body, descend);
    }

    /// Decides what the body of a part is.
    fn descend(&mut self, index: usize, body: u64, possible: bool) {
        let Some(part) = self.parts.get_mut(index) else { return };
        let multipart = part.media_type == "multipart";
        let message = part.is("message", "rfc822") || part.is("message", "global");
        if part.opaque || !(multipart || message) {
            return;
        }
        let boundary = part.param("boundary").map(|b| b.trim_end().as_bytes().to_vec()).unwrap_or_default();
        let defect = if !possible {
            Some(Defect::HeaderUnterminated)
        } else if matches!(part.transfer_encoding(), Encoding::Base64 | Encoding::QuotedPrintable) && message {
            // RFC 2046 §5.2.1 forbids it; RFC 6532 §3.7 allows it for message/global. Its parts aren't octets of the message.
            Some(Defect::EncodedContainer)
        } else if multipart && !(1..=MAX_BOUNDARY).contains(&boundary.len()) {
            Some(Defect::BadBoundary)
        } else if self.stack.len() > self.limits.depth {
            Some(Defect::TooDeep)
        } else {
            None
        };
        if let Some(defect) = defect {
            make_opaque(part);
            self.defect(index, defect);
            return;
        }
        if multipart {
            let digest = part.subtype == "digest";
            let level = self.stack.len().saturating_sub(1);
            self.boundaries.open(&boundary, level);
            if let Some(frame) = self.stack.last_mut() {
                frame.kind = Kind::Multipart { boundary, digest, closed: false };
            }
        } else {
            let embedded = self.open_part(Some(index), body, false);
            if let Some(part) = self.parts.get_mut(index) {
                part.message = Some(embedded);
            }
            // At the limit of parts the embedded one has no header that could end.
            if self.section.is_none()
                && let Some(part) = self.parts.get_mut(embedded)
            {
                part.envelope = Some(Box::default());
            }
        }
    }

    /// Closes the parts beyond a level, innermost first. They end before the current line, and before the `line_break` octets
    /// in front of it; but not before they started.
    fn close_to(&mut self, level: usize, line_break: u64) {
        let mut end = self.offset.saturating_sub(line_break);
        while self.stack.len() > level {
            let Some(frame) = self.stack.pop() else { return };
            let level = self.stack.len();
            if let Kind::Multipart { boundary, closed, .. } = &frame.kind
                && !closed
            {
                self.boundaries.close(boundary, level);
            }
            let Some(part) = self.parts.get_mut(frame.part) else { return };
            end = end.max(part.body.start);
            part.body.end = end;
            part.lines = if end == part.body.start {
                0
            } else if end == self.offset {
                let unterminated = self.previous.line_break == 0 && self.previous.content;
                self.breaks.saturating_sub(frame.breaks).saturating_add(u32::from(unterminated))
            } else {
                self.breaks.saturating_sub(frame.breaks).saturating_sub(1).saturating_add(u32::from(self.previous.content))
            };
            let mut defect = None;
            if let Kind::Multipart { closed, .. } = frame.kind {
                if part.children.is_empty() {
                    make_opaque(part);
                    defect = Some(Defect::NoParts);
                } else if !closed {
                    defect = Some(Defect::Unclosed);
                }
            }
            if let Some(defect) = defect {
                self.defect(frame.part, defect);
            }
        }
    }

    fn defect(&mut self, part: usize, defect: Defect) {
        if self.defects.len() < MAX_DEFECTS && self.defects.last() != Some(&(part, defect)) {
            self.defects.push((part, defect));
        }
    }

    /// The end of the message.
    pub fn finish(mut self) -> Structure {
        if self.line_len > 0 {
            self.end_line(0);
        }
        self.end_header(self.offset, false);
        self.close_to(0, 0);
        Structure { parts: self.parts, utf8_headers: self.utf8_headers, eight_bit: self.eight_bit, defects: self.defects }
    }
}

fn parent_is_message(parts: &[Part], parent: usize) -> bool {
    parts.get(parent).is_some_and(|p| p.media_type == "message")
}

fn make_opaque(part: &mut Part) {
    "application".clone_into(&mut part.media_type);
    "octet-stream".clone_into(&mut part.subtype);
    part.opaque = true;
    if !part.explicit_type {
        part.params.clear();
    }
}

/// Takes the `Content-…` fields; of several of a name the first counts.
fn describe(part: &mut Part, headers: &Headers<'_>, defects: &mut Vec<Defect>) {
    let mut seen_type = false;
    for field in headers.fields() {
        if field.name.is_empty() {
            defects.push(Defect::BadHeaderLine);
            continue;
        }
        if !field.name.get(..8).is_some_and(|start| start.eq_ignore_ascii_case(b"content-")) {
            continue;
        }
        let text = |slot: &mut Option<String>| {
            slot.get_or_insert_with(|| field.text());
        };
        match field.name.get(8..).unwrap_or_default().to_ascii_lowercase().as_slice() {
            b"type" if !seen_type => {
                seen_type = true;
                part.explicit_type = true;
                if let Some(parsed) = MediaType::parse(&field.unfolded()) {
                    (part.media_type, part.subtype, part.params) = (parsed.media_type, parsed.subtype, parsed.params);
                } else {
                    defects.push(Defect::BadContentType);
                    part.params.clear();
                    make_opaque(part);
                }
            }
            b"transfer-encoding" if part.encoding.is_none() => {
                part.encoding = Some(crate::param::strip_comment(&field.unfolded()).to_ascii_lowercase()).filter(|e| !e.is_empty());
            }
            b"id" => text(&mut part.id),
            b"description" => text(&mut part.description),
            b"md5" => text(&mut part.md5),
            b"language" => text(&mut part.language),
            b"location" => text(&mut part.location),
            b"disposition" if part.disposition.is_none() => part.disposition = Disposition::parse(&field.unfolded()),
            _ => {}
        }
    }
}
