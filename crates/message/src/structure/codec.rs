//! A structure as bytes, for the database: compact, versioned, and checked when read back.
//!
//! Numbers are LEB128, texts have their length in front, absent texts are distinguished from empty ones. Offsets are stored as
//! differences from the parent's body. Reading checks that every range lies within its parent and every index refers to a
//! later part, so rotten or hostile bytes give an error and never a structure that lies.

use super::{Defect, Part, Structure};
use crate::address::{AddressEntry, AddressList, Mailbox};
use crate::envelope::Envelope;
use crate::param::{Disposition, Params};

/// The first byte.
const VERSION: u8 = 1;

/// The most parts accepted when reading.
const MAX_PARTS: u64 = 1_000_000;

/// Bytes that aren't a structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A version this program doesn't know.
    #[error("unknown version {0} of message structure")]
    Version(u8),
    /// Damaged.
    #[error("damaged message structure")]
    Damaged,
}

impl Structure {
    /// The structure as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer(vec![VERSION]);
        w.number(u64::from(self.utf8_headers) | u64::from(self.eight_bit) << 1);
        w.length(self.defects.len());
        for (part, defect) in &self.defects {
            w.length(*part);
            w.number(u64::from(defect_code(*defect)));
        }
        w.length(self.parts.len());
        for part in &self.parts {
            w.part(part);
        }
        w.0
    }

    /// The structure from its bytes.
    ///
    /// # Errors
    /// See [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (version, rest) = bytes.split_first().ok_or(DecodeError::Damaged)?;
        if *version != VERSION {
            return Err(DecodeError::Version(*version));
        }
        let mut r = Reader(rest);
        r.structure().ok_or(DecodeError::Damaged)
    }
}

const DEFECTS: [Defect; 10] = [
    Defect::HeaderTooLarge,
    Defect::HeaderUnterminated,
    Defect::BadHeaderLine,
    Defect::BadContentType,
    Defect::BadBoundary,
    Defect::EncodedContainer,
    Defect::NoParts,
    Defect::Unclosed,
    Defect::TooDeep,
    Defect::TooManyParts,
];

fn defect_code(defect: Defect) -> u8 {
    DEFECTS.iter().zip(0..).find(|(d, _)| **d == defect).map_or(0, |(_, code)| code)
}

struct Writer(Vec<u8>);

impl Writer {
    fn number(&mut self, mut n: u64) {
        loop {
            let low = u8::try_from(n & 0x7f).unwrap_or(0);
            n >>= 7;
            if n == 0 {
                self.0.push(low);
                return;
            }
            self.0.push(low | 0x80);
        }
    }

    fn length(&mut self, n: usize) {
        self.number(u64::try_from(n).unwrap_or(u64::MAX));
    }

    fn text(&mut self, s: &str) {
        self.length(s.len());
        self.0.extend_from_slice(s.as_bytes());
    }

    fn optional(&mut self, s: Option<&String>) {
        match s {
            None => self.number(0),
            Some(s) => {
                self.length(s.len().saturating_add(1));
                self.0.extend_from_slice(s.as_bytes());
            }
        }
    }

    fn params(&mut self, params: &Params) {
        self.length(params.len());
        for (name, value) in params {
            self.text(name);
            self.text(value);
        }
    }

    fn part(&mut self, part: &Part) {
        let fields = [&part.id, &part.description, &part.encoding, &part.md5, &part.language, &part.location];
        let mut flags = u64::from(part.explicit_type) | u64::from(part.opaque) << 1;
        flags |=
            u64::from(part.message.is_some()) << 2 | u64::from(part.disposition.is_some()) << 3 | u64::from(part.envelope.is_some()) << 4;
        for (field, bit) in fields.iter().zip(5..) {
            flags |= u64::from(field.is_some()) << bit;
        }
        self.number(flags);
        self.length(part.parent.map_or(0, |p| p.saturating_add(1)));
        self.number(part.header.start);
        self.number(part.header.end.saturating_sub(part.header.start));
        self.number(part.body.end.saturating_sub(part.body.start));
        self.number(u64::from(part.lines));
        self.text(&part.media_type);
        self.text(&part.subtype);
        self.params(&part.params);
        for field in fields.into_iter().flatten() {
            self.text(field);
        }
        if let Some(disposition) = &part.disposition {
            self.text(&disposition.kind);
            self.params(&disposition.params);
        }
        if let Some(envelope) = &part.envelope {
            self.envelope(envelope);
        }
    }

    fn envelope(&mut self, e: &Envelope) {
        for text in [&e.date_raw, &e.subject_raw, &e.in_reply_to, &e.message_id] {
            self.optional(text.as_ref());
        }
        for list in [&e.from, &e.sender, &e.reply_to, &e.to, &e.cc, &e.bcc] {
            self.length(list.0.len());
            for entry in &list.0 {
                match entry {
                    AddressEntry::Mailbox(mailbox) => {
                        self.number(0);
                        self.mailbox(mailbox);
                    }
                    AddressEntry::Group { name, members } => {
                        self.length(members.len().saturating_add(1));
                        self.text(name);
                        for member in members {
                            self.mailbox(member);
                        }
                    }
                }
            }
        }
    }

    fn mailbox(&mut self, m: &Mailbox) {
        self.text(&m.name);
        self.text(&m.localpart);
        self.text(&m.host);
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn number(&mut self) -> Option<u64> {
        let mut n = 0_u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            let bits = u64::from(*byte & 0x7f);
            let shifted = bits << shift;
            if shifted >> shift != bits {
                return None;
            }
            n |= shifted;
            if *byte & 0x80 == 0 {
                return Some(n);
            }
        }
        None
    }

    /// A number of things, each of which takes at least a byte: so no length can ask for more memory than the input has.
    fn count(&mut self) -> Option<usize> {
        let n = usize::try_from(self.number()?).ok()?;
        (n <= self.0.len()).then_some(n)
    }

    fn take(&mut self, len: usize) -> Option<String> {
        let (text, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        String::from_utf8(text.to_vec()).ok()
    }

    fn text(&mut self) -> Option<String> {
        let len = self.count()?;
        self.take(len)
    }

    /// `Some(None)` is an absent text.
    fn optional(&mut self) -> Option<Option<String>> {
        match usize::try_from(self.number()?).ok()?.checked_sub(1) {
            None => Some(None),
            Some(len) => self.take(len).map(Some),
        }
    }

    fn params(&mut self) -> Option<Params> {
        let n = self.count()?;
        (0..n).map(|_| Some((self.text()?, self.text()?))).collect()
    }

    fn structure(&mut self) -> Option<Structure> {
        let flags = self.number()?;
        let defects = self.count()?;
        let defects: Vec<(usize, Defect)> = (0..defects)
            .map(|_| {
                let part = usize::try_from(self.number()?).ok()?;
                Some((part, *DEFECTS.get(usize::try_from(self.number()?).ok()?)?))
            })
            .collect::<Option<_>>()?;
        let n = self.count().filter(|n| (1..=MAX_PARTS).contains(&u64::try_from(*n).unwrap_or(u64::MAX)))?;
        let mut parts: Vec<Part> = Vec::new();
        for index in 0..n {
            let (part, is_message_part) = self.part()?;
            match part.parent {
                None if index == 0 => {}
                Some(parent) if index > 0 => {
                    let parent = parts.get_mut(parent)?;
                    if part.header.start < parent.body.start || part.body.end > parent.body.end {
                        return None;
                    }
                    // A message part has one embedded message; everything else with parts in it is a multipart.
                    if parent.message == Some(usize::MAX) {
                        parent.message = Some(index);
                    } else if parent.message.is_none() {
                        parent.children.push(index);
                    } else {
                        return None;
                    }
                }
                _ => return None,
            }
            let mut part = part;
            // Replaced when the embedded message comes.
            part.message = is_message_part.then_some(usize::MAX);
            parts.push(part);
        }
        let complete = parts.iter().all(|p| p.message != Some(usize::MAX)) && defects.iter().all(|(part, _)| *part < n);
        if !complete || !self.0.is_empty() {
            return None;
        }
        Some(Structure { parts, utf8_headers: flags & 1 != 0, eight_bit: flags & 2 != 0, defects })
    }

    fn part(&mut self) -> Option<(Part, bool)> {
        let flags = self.number()?;
        let parent = usize::try_from(self.number()?).ok()?.checked_sub(1);
        let start = self.number()?;
        let middle = start.checked_add(self.number()?)?;
        let end = middle.checked_add(self.number()?)?;
        let lines = u32::try_from(self.number()?).ok()?;
        let (media_type, subtype, params) = (self.text()?, self.text()?, self.params()?);
        let mut field = |bit: u32| if flags >> bit & 1 != 0 { self.text().map(Some) } else { Some(None) };
        let (id, description, encoding) = (field(5)?, field(6)?, field(7)?);
        let (md5, language, location) = (field(8)?, field(9)?, field(10)?);
        let disposition = if flags & 8 != 0 { Some(Disposition { kind: self.text()?, params: self.params()? }) } else { None };
        let envelope = if flags & 16 != 0 { Some(Box::new(self.envelope()?)) } else { None };
        let part = Part {
            parent,
            children: Vec::new(),
            message: None,
            header: start..middle,
            body: middle..end,
            lines,
            media_type,
            subtype,
            params,
            explicit_type: flags & 1 != 0,
            opaque: flags & 2 != 0,
            id,
            description,
            encoding,
            md5,
            disposition,
            language,
            location,
            envelope,
        };
        Some((part, flags & 4 != 0))
    }

    fn envelope(&mut self) -> Option<Envelope> {
        let (date_raw, subject_raw) = (self.optional()?, self.optional()?);
        let (in_reply_to, message_id) = (self.optional()?, self.optional()?);
        let (from, sender, reply_to) = (self.list()?, self.list()?, self.list()?);
        let (to, cc, bcc) = (self.list()?, self.list()?, self.list()?);
        Some(Envelope { date_raw, subject_raw, from, sender, reply_to, to, cc, bcc, in_reply_to, message_id })
    }

    fn list(&mut self) -> Option<AddressList> {
        let n = self.count()?;
        let entries = (0..n).map(|_| {
            let members = self.number()?;
            if members == 0 {
                return self.mailbox().map(AddressEntry::Mailbox);
            }
            let name = self.text()?;
            let members = (1..members).map(|_| self.mailbox()).collect::<Option<_>>()?;
            Some(AddressEntry::Group { name, members })
        });
        Some(AddressList(entries.collect::<Option<_>>()?))
    }

    fn mailbox(&mut self) -> Option<Mailbox> {
        Some(Mailbox { name: self.text()?, localpart: self.text()?, host: self.text()? })
    }
}
