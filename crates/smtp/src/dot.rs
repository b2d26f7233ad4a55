//! Message data: reading and writing lines with dots, RFC 5321 §4.5.2, and chunks, RFC 3030.
//!
//! The reader decides what ends a message, so it decides whether mail can be smuggled. Only `CRLF . CRLF` ends it. Of the
//! nine ways to put a dot between two of CRLF, LF and CR, the other eight are refused after the real end: another server
//! may have taken them for the end, and what follows for a second message. A bare LF elsewhere is stored as CRLF.

use bytes::{BufMut as _, BytesMut};

/// What was noticed while reading message data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Octets as stored.
    pub size: u64,
    /// Whether any octet is 0x80 or above.
    pub eight_bit: bool,
    /// Whether there is an empty line, which ends the header section.
    pub separator: bool,
    /// Whether line ends were found with which mail can be smuggled; the message must be refused.
    pub bad_line_ends: bool,
}

impl Facts {
    /// Notes decoded octets.
    fn note(&mut self, octets: &[u8]) {
        self.size = self.size.saturating_add(u64::try_from(octets.len()).unwrap_or(u64::MAX));
        self.eight_bit = self.eight_bit || !octets.is_ascii();
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// After CRLF, or at the beginning.
    LineStart,
    /// After a bare LF.
    LfLineStart,
    /// Within a line.
    Line,
    /// After a CR within a line.
    Cr,
    /// After a CR at the start of a line: an empty line, if LF follows.
    EmptyCr,
    /// After CRLF and a dot.
    Dot,
    /// After CRLF, dot, CR.
    DotCr,
    /// After bare LF and a dot.
    LfDot,
    /// After bare LF, dot, CR.
    LfDotCr,
    /// The end was seen.
    End,
}

/// Decodes what follows DATA.
#[derive(Debug)]
pub struct DotReader {
    at: At,
    facts: Facts,
}

impl Default for DotReader {
    fn default() -> Self {
        Self { at: At::LineStart, facts: Facts::default() }
    }
}

impl DotReader {
    /// Decodes input into `out`, up to the end of data at most; gives how many octets of the input were used. Whether the
    /// end was reached is in [`Self::is_done`].
    pub fn read(&mut self, input: &[u8], out: &mut BytesMut) -> usize {
        let start = out.len();
        let mut rest = input;
        while self.at != At::End {
            // The inside of lines, nearly everything, is copied in one go.
            if self.at == At::Line {
                let end = rest.iter().position(|b| matches!(b, b'\r' | b'\n')).unwrap_or(rest.len());
                let (inside, after) = rest.split_at_checked(end).unwrap_or((rest, &[]));
                out.extend_from_slice(inside);
                rest = after;
            }
            let Some((&octet, after)) = rest.split_first() else { break };
            rest = after;
            self.at = self.step(octet, out);
        }
        self.facts.note(out.get(start..).unwrap_or_default());
        input.len().saturating_sub(rest.len())
    }

    fn step(&mut self, octet: u8, out: &mut BytesMut) -> At {
        match (self.at, octet) {
            (At::LineStart, b'.') => At::Dot,
            (At::LfLineStart, b'.') => At::LfDot,
            (At::LineStart | At::LfLineStart, b'\r') => At::EmptyCr,
            (At::LineStart | At::LfLineStart, b'\n') => {
                self.facts.separator = true;
                self.line_end(out, At::LfLineStart)
            }
            (At::Line, b'\r') => At::Cr,
            (At::Line, b'\n') => self.line_end(out, At::LfLineStart),
            (At::Cr, b'\n') => self.line_end(out, At::LineStart),
            (At::EmptyCr, b'\n') => {
                self.facts.separator = true;
                self.line_end(out, At::LineStart)
            }
            (At::DotCr, b'\n') => At::End,
            (At::Dot, b'\r') => At::DotCr,
            (At::LfDot, b'\r') => At::LfDotCr,
            // CRLF . LF, LF . LF and LF . CRLF: somebody's idea of the end.
            (At::Dot | At::LfDot, b'\n') => {
                self.facts.bad_line_ends = true;
                At::LfLineStart
            }
            (At::LfDotCr, b'\n') => {
                self.facts.bad_line_ends = true;
                At::LineStart
            }
            // A CR without LF, in five places.
            (At::Cr | At::EmptyCr | At::DotCr | At::LfDotCr, _) => {
                self.facts.bad_line_ends = true;
                match octet {
                    b'\r' => At::Cr,
                    _ => At::Line,
                }
            }
            // The dot of a line after CRLF is removed, RFC 5321 §4.5.2; after a bare LF there is no rule to remove it.
            (At::LfDot, _) => {
                out.put_u8(b'.');
                out.put_u8(octet);
                At::Line
            }
            (At::LineStart | At::LfLineStart | At::Line | At::Dot, _) => {
                out.put_u8(octet);
                At::Line
            }
            (At::End, _) => At::End,
        }
    }

    fn line_end(&mut self, out: &mut BytesMut, next: At) -> At {
        out.put_slice(b"\r\n");
        next
    }

    /// Whether the end of data was seen.
    pub fn is_done(&self) -> bool {
        self.at == At::End
    }

    /// What was noticed.
    pub const fn facts(&self) -> Facts {
        self.facts
    }
}

/// Decodes the chunks of BDAT. Without BINARYMIME they hold lines, RFC 3030 §2, so that bare LF and CR are treated as in
/// DATA, and a last line without its end gets one: what is stored can then be sent on with DATA.
#[derive(Debug)]
pub struct ChunkReader {
    at: At,
    facts: Facts,
}

impl Default for ChunkReader {
    fn default() -> Self {
        Self { at: At::LineStart, facts: Facts::default() }
    }
}

impl ChunkReader {
    /// Decodes octets of a chunk into `out`.
    pub fn read(&mut self, input: &[u8], out: &mut BytesMut) {
        let start = out.len();
        let mut rest = input;
        loop {
            if self.at == At::Line {
                let end = rest.iter().position(|b| matches!(b, b'\r' | b'\n')).unwrap_or(rest.len());
                let (inside, after) = rest.split_at_checked(end).unwrap_or((rest, &[]));
                out.extend_from_slice(inside);
                rest = after;
            }
            let Some((&octet, after)) = rest.split_first() else { break };
            rest = after;
            self.at = match (self.at, octet) {
                (At::Cr | At::EmptyCr, b'\n') | (_, b'\n') => {
                    self.facts.separator |= matches!(self.at, At::LineStart | At::EmptyCr);
                    out.put_slice(b"\r\n");
                    At::LineStart
                }
                (At::Cr | At::EmptyCr, _) => {
                    self.facts.bad_line_ends = true;
                    At::Line
                }
                (At::LineStart, b'\r') => At::EmptyCr,
                (_, b'\r') => At::Cr,
                (_, _) => {
                    out.put_u8(octet);
                    At::Line
                }
            };
        }
        self.facts.note(out.get(start..).unwrap_or_default());
    }

    /// Ends the message: completes its last line.
    pub fn finish(&mut self, out: &mut BytesMut) {
        let start = out.len();
        match self.at {
            At::LineStart => {}
            At::Cr | At::EmptyCr => self.facts.bad_line_ends = true,
            _ => out.put_slice(b"\r\n"),
        }
        self.facts.note(out.get(start..).unwrap_or_default());
    }

    /// What was noticed.
    pub const fn facts(&self) -> Facts {
        self.facts
    }
}

/// Why message data can't be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadData {
    /// A CR or LF by itself.
    #[error("bare carriage return or line feed in message")]
    BareLineEnd,
    /// The last line has no end.
    #[error("message doesn't end in a line end")]
    NoFinalLineEnd,
}

/// Encodes a message for DATA: a dot before each line that begins with one.
#[derive(Debug)]
pub struct DotWriter {
    at: At,
}

impl Default for DotWriter {
    fn default() -> Self {
        Self { at: At::LineStart }
    }
}

impl DotWriter {
    /// Encodes the next octets of the message.
    ///
    /// # Errors
    /// [`BadData::BareLineEnd`]; the transaction must then be abandoned by closing the connection.
    pub fn write(&mut self, input: &[u8], out: &mut BytesMut) -> Result<(), BadData> {
        let mut rest = input;
        while !rest.is_empty() {
            match self.at {
                At::Cr => {
                    let Some((b'\n', after)) = rest.split_first() else { return Err(BadData::BareLineEnd) };
                    out.put_u8(b'\n');
                    rest = after;
                    self.at = At::LineStart;
                }
                _ => {
                    if self.at == At::LineStart && rest.first() == Some(&b'.') {
                        out.put_u8(b'.');
                    }
                    let end = rest.iter().position(|b| matches!(b, b'\r' | b'\n')).unwrap_or(rest.len());
                    let (inside, after) = rest.split_at_checked(end).unwrap_or((rest, &[]));
                    out.extend_from_slice(inside);
                    self.at = At::Line;
                    rest = after;
                    match rest.split_first() {
                        Some((b'\r', after)) => {
                            out.put_u8(b'\r');
                            self.at = At::Cr;
                            rest = after;
                        }
                        Some(_) => return Err(BadData::BareLineEnd),
                        None => {}
                    }
                }
            }
        }
        Ok(())
    }

    /// Writes the end of data.
    ///
    /// # Errors
    /// [`BadData`] when the message ends within a line.
    pub fn finish(&self, out: &mut BytesMut) -> Result<(), BadData> {
        match self.at {
            At::LineStart => {
                out.put_slice(b".\r\n");
                Ok(())
            }
            At::Cr => Err(BadData::BareLineEnd),
            _ => Err(BadData::NoFinalLineEnd),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Decodes whole; gives decoded text, facts, and what of the input is left, or none without an end.
    fn read(input: &[u8]) -> Option<(String, Facts, usize)> {
        let mut reader = DotReader::default();
        let mut out = BytesMut::new();
        let used = reader.read(input, &mut out);
        reader.is_done().then(|| (String::from_utf8_lossy(&out).into_owned(), reader.facts(), input.len() - used))
    }

    #[test]
    fn only_crlf_dot_crlf_ends_and_the_other_eight_are_refused() {
        let ends = ["\r\n", "\n", "\r"];
        for before in ends {
            for after in ends {
                let input = format!("a{before}.{after}b\r\n.\r\n");
                let (text, facts, left) = read(input.as_bytes()).unwrap();
                if (before, after) == ("\r\n", "\r\n") {
                    assert_eq!((text.as_str(), facts.bad_line_ends, left), ("a\r\n", false, 6));
                } else {
                    assert!(facts.bad_line_ends && left == 0, "{input:?}");
                }
            }
        }
    }

    #[test]
    fn decodes() {
        for (input, want) in [
            ("\r\n.\r\n", "\r\n"),
            (".\r\n", ""),
            ("..\r\n.\r\n", ".\r\n"),
            (".a\r\n.\r\n", "a\r\n"),
            ("...\r\n.\r\n", "..\r\n"),
            ("a\nb\r\n.\r\n", "a\r\nb\r\n"),
            ("a\n.b\r\n.\r\n", "a\r\n.b\r\n"),
            ("a\n\r\n.\r\n", "a\r\n\r\n"),
        ] {
            let (text, facts, _) = read(input.as_bytes()).unwrap();
            assert_eq!((text.as_str(), facts.bad_line_ends), (want, false), "{input:?}");
            assert_eq!(facts.size, want.len() as u64);
        }
    }

    #[test]
    fn facts() {
        assert!(!read(b"a: b\r\n.\r\n").unwrap().1.separator);
        for input in ["a: b\r\n\r\n.\r\n", "a: b\n\nc\r\n.\r\n", "\r\n.\r\n"] {
            assert!(read(input.as_bytes()).unwrap().1.separator, "{input:?}");
        }
        assert!(read("\u{e9}\r\n.\r\n".as_bytes()).unwrap().1.eight_bit);
        assert_eq!(read(b"a\r\n"), None);
    }

    #[test]
    fn chunks_become_lines() {
        let mut reader = ChunkReader::default();
        let mut out = BytesMut::new();
        for chunk in ["a\r", "\n\nb", "\n.\r\n", "c"] {
            reader.read(chunk.as_bytes(), &mut out);
        }
        reader.finish(&mut out);
        assert_eq!(out, "a\r\n\r\nb\r\n.\r\nc\r\n");
        assert!(!reader.facts().bad_line_ends && reader.facts().separator);
        reader.read(b"\rx", &mut out);
        assert!(reader.facts().bad_line_ends);
    }

    #[test]
    fn writer_refuses_what_is_no_line() {
        let write = |input: &[u8]| {
            let (mut writer, mut out) = (DotWriter::default(), BytesMut::new());
            writer.write(input, &mut out).and_then(|()| writer.finish(&mut out)).map(|()| out)
        };
        assert_eq!(write(b"").unwrap(), ".\r\n");
        assert_eq!(write(b".a\r\n").unwrap(), "..a\r\n.\r\n");
        assert_eq!(write(b"a\n"), Err(BadData::BareLineEnd));
        assert_eq!(write(b"a\rb\r\n"), Err(BadData::BareLineEnd));
        assert_eq!(write(b"a\r"), Err(BadData::BareLineEnd));
        assert_eq!(write(b"a"), Err(BadData::NoFinalLineEnd));
    }

    proptest! {
        #[test]
        fn reading_what_was_written_gives_the_same(
            lines in proptest::collection::vec("[.a\u{e9}]{0,4}", 0..8),
            cuts in (any::<prop::sample::Index>(), any::<prop::sample::Index>()),
        ) {
            let message: String = lines.iter().flat_map(|l| [l.as_str(), "\r\n"]).collect();
            let (mut writer, mut wire) = (DotWriter::default(), BytesMut::new());
            let at = cuts.0.index(message.len() + 1);
            writer.write(&message.as_bytes()[..at], &mut wire).unwrap();
            writer.write(&message.as_bytes()[at..], &mut wire).unwrap();
            writer.finish(&mut wire).unwrap();
            let (mut reader, mut out) = (DotReader::default(), BytesMut::new());
            let at = cuts.1.index(wire.len());
            let used = reader.read(&wire[..at], &mut out);
            prop_assert_eq!(used, at);
            prop_assert_eq!(reader.read(&wire[at..], &mut out), wire.len() - at);
            prop_assert!(reader.is_done() && !reader.facts().bad_line_ends);
            prop_assert_eq!(out, message.as_bytes());
        }

        #[test]
        fn splitting_changes_nothing(input in "[\r\n.a]{0,12}", at in any::<prop::sample::Index>()) {
            let input = input.as_bytes();
            let at = at.index(input.len() + 1);
            let (mut whole, mut whole_out) = (DotReader::default(), BytesMut::new());
            let used = whole.read(input, &mut whole_out);
            let (mut split, mut split_out) = (DotReader::default(), BytesMut::new());
            let mut split_used = split.read(&input[..at], &mut split_out);
            if !split.is_done() {
                split_used += split.read(&input[at..], &mut split_out);
            }
            prop_assert_eq!((used, whole_out, whole.facts()), (split_used, split_out, split.facts()));
        }
    }
}
