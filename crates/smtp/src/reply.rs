//! Replies: `code [enhanced] text`, in one or more lines. RFC 5321 §4.2, RFC 2034 §4.

use bytes::BufMut;
use std::fmt::Write as _;

/// An enhanced status code, RFC 3463 §2: class, subject, detail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Enhanced(pub u8, pub u16, pub u16);

impl std::fmt::Display for Enhanced {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

impl Enhanced {
    /// The code at the start of a text, and the rest after the space; none unless it has the class of the reply's code.
    fn split(text: &str, code: u16) -> Option<(Self, &str)> {
        let (first, rest) = text.split_once(' ').unwrap_or((text, ""));
        let enhanced: Self = first.parse().ok()?;
        (u16::from(enhanced.0) == code / 100).then_some((enhanced, rest))
    }

    /// Subject and detail, as in `7.1`.
    pub fn without_class(self) -> String {
        format!("{}.{}", self.1, self.2)
    }
}

/// Why a text is no enhanced status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an enhanced status code")]
pub struct NotEnhanced;

impl std::str::FromStr for Enhanced {
    type Err = NotEnhanced;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let mut parts = s.split('.').map(|part| {
            let digits = !part.is_empty() && part.len() <= 3 && part.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| part.parse::<u16>().ok()).flatten()
        });
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(Some(class @ (2 | 4 | 5))), Some(Some(subject)), Some(Some(detail)), None) => {
                Ok(Self(u8::try_from(class).map_err(|_| NotEnhanced)?, subject, detail))
            }
            _ => Err(NotEnhanced),
        }
    }
}

/// One reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Three digits, the first 2 to 5.
    pub code: u16,
    /// The enhanced status code; none in the greeting, in EHLO's reply, and in 334 and 354.
    pub enhanced: Option<Enhanced>,
    /// The text, at least one line, without codes.
    pub lines: Vec<String>,
}

/// Octets in a line, without CRLF. RFC 5321 §4.5.3.1.5.
const MAX_LINE: usize = 510;
/// From here on a space is a good place to break a long line.
const BREAK_AFTER: usize = 400;

impl Reply {
    /// A reply with an enhanced status code; line feeds in the text separate lines.
    pub fn new(code: u16, enhanced: (u8, u16, u16), text: impl AsRef<str>) -> Self {
        let enhanced = Some(Enhanced(enhanced.0, enhanced.1, enhanced.2));
        Self { code, enhanced, lines: text.as_ref().split('\n').map(str::to_owned).collect() }
    }

    /// A reply without an enhanced status code.
    pub fn bare(code: u16, text: impl AsRef<str>) -> Self {
        Self { code, enhanced: None, lines: text.as_ref().split('\n').map(str::to_owned).collect() }
    }

    /// 4xx or 5xx.
    pub const fn is_error(&self) -> bool {
        self.code >= 400
    }

    /// 2xx.
    pub const fn is_success(&self) -> bool {
        self.code >= 200 && self.code < 300
    }

    /// 5xx.
    pub const fn is_permanent(&self) -> bool {
        self.code >= 500
    }

    /// The same with something added to the last line.
    #[must_use]
    pub fn with_suffix(mut self, suffix: &str) -> Self {
        match self.lines.last_mut() {
            Some(last) => {
                last.push(' ');
                last.push_str(suffix);
            }
            None => self.lines.push(suffix.to_owned()),
        }
        self
    }

    /// Writes the wire form. Long lines are broken; what isn't printable ASCII (RFC 5321 §4.2 `textstring`) becomes `?`.
    pub fn write(&self, out: &mut impl BufMut) {
        let mut prefix = String::new();
        if let Some(enhanced) = self.enhanced {
            // Writing to a String can't fail.
            let _written = write!(prefix, "{enhanced} ");
        }
        let room = MAX_LINE.saturating_sub(prefix.len()).saturating_sub(4);
        let mut pieces: Vec<String> = Vec::with_capacity(self.lines.len());
        for line in &self.lines {
            let text: String = line.chars().map(|c| if (' '..='~').contains(&c) { c } else { '?' }).collect();
            let mut rest = text.as_str();
            while rest.len() > room {
                let from = BREAK_AFTER.saturating_sub(prefix.len()).saturating_sub(4);
                let window = rest.get(from..room).unwrap_or_default();
                let at = window.rfind(' ').map_or(room, |i| from.saturating_add(i));
                let (piece, after) = rest.split_at_checked(at).unwrap_or((rest, ""));
                pieces.push(piece.to_owned());
                rest = after.strip_prefix(' ').unwrap_or(after);
            }
            pieces.push(rest.to_owned());
        }
        if pieces.is_empty() {
            pieces.push(String::new());
        }
        let last = pieces.len().saturating_sub(1);
        for (i, piece) in pieces.iter().enumerate() {
            let separator = if i == last { ' ' } else { '-' };
            out.put_slice(format!("{}{separator}{prefix}{piece}", self.code).trim_end_matches(' ').as_bytes());
            // A reply without text still has the space that ends its code, RFC 5321 §4.2.
            if piece.is_empty() && prefix.is_empty() && separator == ' ' {
                out.put_slice(b" ");
            }
            out.put_slice(b"\r\n");
        }
    }

    /// The wire form.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }
}

/// For logs: one line.
impl std::fmt::Display for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(enhanced) = self.enhanced {
            write!(f, " {enhanced}")?;
        }
        write!(f, " {}", self.lines.join(" / "))
    }
}

/// Why bytes are no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadReply {
    /// Not three digits followed by space, dash or the end of the line.
    #[error("malformed reply line")]
    Line,
    /// Lines of one reply with different codes.
    #[error("differing codes in a multi-line reply")]
    Codes,
    /// A line, or the number of lines, beyond the limit.
    #[error("reply too long")]
    TooLong,
}

/// Octets in a line that a client accepts, and lines in a reply.
const MAX_READ_LINE: usize = 2048;
const MAX_READ_LINES: usize = 200;

/// Collects the lines of a reply as they come in.
#[derive(Debug, Default)]
pub struct ReplyParser {
    code: Option<u16>,
    lines: Vec<String>,
}

impl ReplyParser {
    /// Takes one reply off the front of the input: the reply and how many bytes it and the lines before it took since the
    /// last call, or none and that number when more must come first. `enhanced`: whether to look for enhanced codes.
    ///
    /// # Errors
    /// See [`BadReply`].
    pub fn take(&mut self, input: &[u8], enhanced: bool) -> Result<(Option<Reply>, usize), BadReply> {
        let mut used: usize = 0;
        loop {
            let rest = input.get(used..).unwrap_or_default();
            let Some(end) = rest.iter().position(|b| *b == b'\n') else {
                return if rest.len() > MAX_READ_LINE { Err(BadReply::TooLong) } else { Ok((None, used)) };
            };
            if end > MAX_READ_LINE || self.lines.len() >= MAX_READ_LINES {
                return Err(BadReply::TooLong);
            }
            let line = rest.get(..end).unwrap_or_default();
            used = used.saturating_add(end).saturating_add(1);
            let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned();
            let is_last = self.line(&line)?;
            if is_last {
                return Ok((self.finish(enhanced), used));
            }
        }
    }

    fn line(&mut self, line: &str) -> Result<bool, BadReply> {
        let digits = line.get(..3).filter(|d| d.bytes().all(|b| b.is_ascii_digit())).ok_or(BadReply::Line)?;
        let code: u16 = digits.parse().map_err(|_| BadReply::Line)?;
        let rest = line.get(3..).unwrap_or_default();
        let (is_last, text) = match rest.as_bytes().first() {
            None => (true, ""),
            Some(b' ') => (true, rest.get(1..).unwrap_or_default()),
            Some(b'-') => (false, rest.get(1..).unwrap_or_default()),
            Some(_) => return Err(BadReply::Line),
        };
        if *self.code.get_or_insert(code) != code {
            return Err(BadReply::Codes);
        }
        self.lines.push(text.to_owned());
        Ok(is_last)
    }

    fn finish(&mut self, enhanced: bool) -> Option<Reply> {
        let code = self.code.take()?;
        let lines = std::mem::take(&mut self.lines);
        let found = lines.first().filter(|_| enhanced).and_then(|line| Enhanced::split(line, code)).map(|(e, _)| e);
        let Some(found) = found else {
            return Some(Reply { code, enhanced: None, lines });
        };
        // RFC 2034 §4: each line repeats the code; a line without it is kept whole.
        let strip = |line: String| match Enhanced::split(&line, code) {
            Some((e, rest)) if e == found => rest.to_owned(),
            _ => line,
        };
        Some(Reply { code, enhanced: Some(found), lines: lines.into_iter().map(strip).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wire(reply: &Reply) -> String {
        String::from_utf8(reply.to_bytes()).unwrap()
    }

    #[test]
    fn prints() {
        assert_eq!(wire(&Reply::new(250, (2, 1, 0), "ok")), "250 2.1.0 ok\r\n");
        assert_eq!(wire(&Reply::bare(354, "go")), "354 go\r\n");
        assert_eq!(wire(&Reply::bare(334, "")), "334 \r\n");
        assert_eq!(wire(&Reply::new(550, (5, 1, 1), "a\nb")), "550-5.1.1 a\r\n550 5.1.1 b\r\n");
        assert_eq!(wire(&Reply::new(550, (5, 1, 1), "a\rb\u{e9}")), "550 5.1.1 a?b?\r\n");
        assert_eq!(wire(&Reply::new(451, (4, 3, 0), "x\ny").with_suffix("(id)")), "451-4.3.0 x\r\n451 4.3.0 y (id)\r\n");
    }

    #[test]
    fn long_lines_are_broken_at_a_late_space_or_hard() {
        let text = format!("{} {}", "a".repeat(450), "b".repeat(1000));
        let printed = wire(&Reply::new(550, (5, 1, 1), &text));
        let lines: Vec<&str> = printed.lines().collect();
        assert_eq!(lines[0], format!("550-5.1.1 {}", "a".repeat(450)));
        assert_eq!(lines[1].len(), 510);
        assert!(lines.iter().all(|line| line.len() <= 510) && lines.last().unwrap().starts_with("550 5.1.1 b"));
    }

    #[test]
    fn parses() {
        let take = |bytes: &[u8]| ReplyParser::default().take(bytes, true);
        assert_eq!(take(b"250 2.1.0 ok\r\nrest"), Ok((Some(Reply::new(250, (2, 1, 0), "ok")), 14)));
        assert_eq!(take(b"250-a\r\n250 b\r\n"), Ok((Some(Reply::bare(250, "a\nb")), 14)));
        assert_eq!(take(b"250\n"), Ok((Some(Reply::bare(250, "")), 4)));
        // Another class than the code's: text.
        assert_eq!(take(b"250 5.1.0 ok\r\n"), Ok((Some(Reply::bare(250, "5.1.0 ok")), 14)));
        assert_eq!(take(b"250-a\r\n25"), Ok((None, 7)));
        assert_eq!(take(b"250-a\r\n251 b\r\n"), Err(BadReply::Codes));
        assert_eq!(take(b"25x a\r\n"), Err(BadReply::Line));
        assert_eq!(take(b"250x\r\n"), Err(BadReply::Line));
        assert_eq!(take(&[b'2'; 3000]), Err(BadReply::TooLong));
        let lines = |n: usize| format!("{}250 x\r\n", "250-x\r\n".repeat(n - 1)).into_bytes();
        assert_eq!(take(&lines(200)).unwrap().0.unwrap().lines.len(), 200);
        assert_eq!(take(&lines(201)), Err(BadReply::TooLong));
    }

    proptest! {
        #[test]
        fn parsing_what_was_printed_gives_the_same(
            code in 200u16..600,
            detail in (0u16..100, 0u16..100),
            lines in proptest::collection::vec("[!-~]([ -~]{0,60}[!-~])?", 1..5),
            cut in any::<prop::sample::Index>(),
        ) {
            let class = u8::try_from(code / 100).unwrap();
            prop_assume!(class != 3);
            let reply = Reply::new(code, (class, detail.0, detail.1), lines.join("\n"));
            let bytes = reply.to_bytes();
            prop_assert_eq!(ReplyParser::default().take(&bytes, true), Ok((Some(reply.clone()), bytes.len())));
            // Split anywhere.
            let mut parser = ReplyParser::default();
            let at = cut.index(bytes.len());
            let (first, used) = parser.take(&bytes[..at], true).unwrap();
            prop_assert_eq!(first, None);
            prop_assert_eq!(parser.take(&bytes[used..], true).unwrap().0, Some(reply));
        }

        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _parsed = ReplyParser::default().take(&bytes, true);
        }
    }
}
