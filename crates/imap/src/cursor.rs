//! Where a parser is in its input, and the three ways in which a rule can end: with a value, for want of more input, or at a
//! byte that doesn't fit.
//!
//! The input is one command: its lines without the final line end, and between them the bytes of its literals, each after
//! its announcement and a CRLF. As lines are complete when they are parsed, the only thing that can be missing is a
//! literal, so [`Error::NeedMore`] carries what was announced.

/// What `{n}`, `{n+}`, `~{n}` or `~{n+}` announces, RFC 7888 and RFC 3516 §4.4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiteralHead {
    /// Number of bytes that follow.
    pub size: u64,
    /// The client waits for a continuation request before it sends them.
    pub sync: bool,
    /// A `literal8`: may hold NUL.
    pub binary: bool,
}

/// Why a rule gave no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The bytes of this literal have to be read first.
    #[error("a literal of {} bytes is missing", .0.size)]
    NeedMore(LiteralHead),
    /// The input doesn't fit the grammar.
    #[error("expected {expected} at byte {at}")]
    Bad {
        /// Offset of the first byte that doesn't fit.
        at: usize,
        /// What would have fitted.
        expected: &'static str,
    },
}

/// What a rule gives.
pub type Parsed<T> = Result<T, Error>;

/// A position in the bytes of a command.
#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    input: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// At the beginning of a command.
    pub const fn new(input: &'a [u8]) -> Self {
        Self { input, at: 0 }
    }

    /// Offset of the next byte.
    pub const fn at(&self) -> usize {
        self.at
    }

    /// What is left.
    pub fn rest(&self) -> &'a [u8] {
        self.input.get(self.at..).unwrap_or_default()
    }

    /// The next byte, if there is one.
    pub fn peek(&self) -> Option<u8> {
        self.input.get(self.at).copied()
    }

    /// Whether everything was read.
    pub fn is_end(&self) -> bool {
        self.at >= self.input.len()
    }

    /// The error of this place.
    pub const fn bad<T>(&self, expected: &'static str) -> Parsed<T> {
        Err(Error::Bad { at: self.at, expected })
    }

    /// Goes on by up to `n` bytes.
    pub fn skip(&mut self, n: usize) {
        self.at = self.at.saturating_add(n).min(self.input.len());
    }

    /// Reads this byte if it is next.
    pub fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        if found {
            self.skip(1);
        }
        found
    }

    /// Reads this byte.
    pub fn expect(&mut self, byte: u8, name: &'static str) -> Parsed<()> {
        if self.eat(byte) { Ok(()) } else { self.bad(name) }
    }

    /// `SP`.
    pub fn sp(&mut self) -> Parsed<()> {
        self.expect(b' ', "space")
    }

    /// The end of the command.
    pub fn end(&self) -> Parsed<()> {
        if self.is_end() { Ok(()) } else { self.bad("end of command") }
    }

    /// Reads `text`, in any case, if it is next.
    pub fn eat_text(&mut self, text: &[u8]) -> bool {
        let found = self.rest().get(..text.len()).is_some_and(|head| head.eq_ignore_ascii_case(text));
        if found {
            self.skip(text.len());
        }
        found
    }

    /// Reads the bytes, at least one, for which `accept` holds.
    pub fn take_while1(&mut self, accept: impl Fn(u8) -> bool, expected: &'static str) -> Parsed<&'a [u8]> {
        let rest = self.rest();
        let n = rest.iter().position(|b| !accept(*b)).unwrap_or(rest.len());
        match rest.get(..n) {
            Some(taken) if !taken.is_empty() => {
                self.skip(n);
                Ok(taken)
            }
            _ => self.bad(expected),
        }
    }

    /// Reads exactly `n` bytes.
    pub fn take(&mut self, n: usize, expected: &'static str) -> Parsed<&'a [u8]> {
        match self.rest().get(..n) {
            Some(taken) => {
                self.skip(n);
                Ok(taken)
            }
            None => self.bad(expected),
        }
    }
}
