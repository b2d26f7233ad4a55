//! A position in a line, and the one kind of syntax error.

/// What is wrong with a line: at which byte, and what was expected there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected} at position {at}")]
pub struct Bad {
    /// Offset into the arguments of the command.
    pub at: usize,
    /// What should have been there.
    pub expected: &'static str,
}

/// A position in a line.
#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    line: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// At the start of a line.
    pub const fn new(line: &'a [u8]) -> Self {
        Self { line, at: 0 }
    }

    /// What is left.
    pub fn rest(&self) -> &'a [u8] {
        self.line.get(self.at..).unwrap_or_default()
    }

    /// The next byte.
    pub fn peek(&self) -> Option<u8> {
        self.rest().first().copied()
    }

    /// Whether nothing is left.
    pub fn is_at_end(&self) -> bool {
        self.rest().is_empty()
    }

    /// An error at this place.
    pub const fn bad(&self, expected: &'static str) -> Bad {
        Bad { at: self.at, expected }
    }

    /// Takes this byte if it is next.
    pub fn take(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        if is_next {
            self.skip(1);
        }
        is_next
    }

    /// Takes this text, in any case, if it is next.
    pub fn take_text(&mut self, text: &str) -> bool {
        let is_next = self.rest().get(..text.len()).is_some_and(|next| next.eq_ignore_ascii_case(text.as_bytes()));
        if is_next {
            self.skip(text.len());
        }
        is_next
    }

    /// Takes this byte.
    ///
    /// # Errors
    /// When another is next.
    pub fn expect(&mut self, byte: u8, expected: &'static str) -> Result<(), Bad> {
        if self.take(byte) { Ok(()) } else { Err(self.bad(expected)) }
    }

    /// Takes bytes as long as they are accepted.
    pub fn take_while(&mut self, accept: impl Fn(u8) -> bool) -> &'a [u8] {
        let rest = self.rest();
        let end = rest.iter().position(|b| !accept(*b)).unwrap_or(rest.len());
        self.skip(end);
        rest.get(..end).unwrap_or_default()
    }

    /// Takes at least one byte as long as they are accepted.
    ///
    /// # Errors
    /// When the first isn't.
    pub fn take_some(&mut self, accept: impl Fn(u8) -> bool, expected: &'static str) -> Result<&'a [u8], Bad> {
        let taken = self.take_while(accept);
        if taken.is_empty() { Err(self.bad(expected)) } else { Ok(taken) }
    }

    /// Moves on.
    pub fn skip(&mut self, n: usize) {
        self.at = self.at.saturating_add(n).min(self.line.len());
    }

    /// The end of the line.
    ///
    /// # Errors
    /// When something other than ignorable space is left.
    pub fn end(&mut self, trailing_space: bool) -> Result<(), Bad> {
        if trailing_space {
            self.take_while(|b| matches!(b, b' ' | b'\t'));
        }
        if self.is_at_end() { Ok(()) } else { Err(self.bad("end of line")) }
    }
}

/// Bytes taken from a line as text.
pub(super) fn text<'a>(bytes: &'a [u8], c: &Cursor<'_>) -> Result<&'a str, Bad> {
    std::str::from_utf8(bytes).map_err(|_| c.bad("UTF-8"))
}
