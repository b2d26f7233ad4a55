//! Writing a header field over several lines, as fields added by the server are.
//!
//! Tokens are joined by spaces; one that would make a line longer than 76 characters starts a new line with a tab. Data, such as
//! base64, may be broken anywhere. Control characters in tokens become spaces: a field can't be ended from inside.

/// The longest line, without its break, unless a single token is longer: RFC 5322 §2.1.1 recommends 78 with it.
const MAX_LINE: usize = 76;

/// A header field being written.
#[derive(Clone, Debug)]
pub struct FoldedField {
    out: String,
    column: usize,
    /// Whether the line has more than the field's name.
    started: bool,
}

impl FoldedField {
    /// A field of this name, without colon.
    pub fn new(name: &str) -> Self {
        let mut field = Self { out: String::new(), column: 0, started: false };
        field.put(name);
        field.put(":");
        field
    }

    fn put(&mut self, text: &str) {
        for c in text.chars() {
            self.out.push(if c.is_control() { ' ' } else { c });
        }
        self.column = self.column.saturating_add(text.len());
    }

    fn newline(&mut self) {
        self.out.push_str("\r\n\t");
        self.column = 1;
    }

    /// Adds a token that stays whole, after a space or on a new line.
    pub fn token(&mut self, token: &str) -> &mut Self {
        if self.started && self.column.saturating_add(1).saturating_add(token.len()) > MAX_LINE {
            self.newline();
        } else if !self.out.ends_with('\t') {
            self.put(" ");
        }
        self.started = true;
        self.put(token);
        self
    }

    /// Adds the words of a text as tokens.
    pub fn text(&mut self, text: &str) -> &mut Self {
        for word in text.split_ascii_whitespace() {
            self.token(word);
        }
        self
    }

    /// Appends to the last token, without space; breaks the line first where it must and may.
    pub fn glued(&mut self, text: &str) -> &mut Self {
        if self.column.saturating_add(text.len()) > MAX_LINE && self.column > 1 {
            self.newline();
        }
        self.put(text);
        self
    }

    /// Appends data that may be broken anywhere, without a space. ASCII only.
    pub fn data(&mut self, data: &str) -> &mut Self {
        for c in data.chars() {
            if self.column >= MAX_LINE {
                self.newline();
            }
            self.out.push(if c.is_control() { ' ' } else { c });
            self.column = self.column.saturating_add(c.len_utf8());
        }
        self
    }

    /// Starts a new line, if the current one isn't fresh.
    pub fn line(&mut self) -> &mut Self {
        if !self.out.ends_with('\t') {
            self.newline();
        }
        self
    }

    /// The field with its final line break.
    #[must_use]
    pub fn finish(&self) -> String {
        format!("{}\r\n", self.out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folds_at_76() {
        let mut f = FoldedField::new("X-Test");
        for _ in 0..9 {
            f.token("0123456789");
        }
        f.token("b=").data(&"x".repeat(100));
        let s = f.finish();
        assert!(s.ends_with("\r\n"));
        assert!(s.trim_end().split("\r\n").all(|l| l.len() <= 76), "{s}");
        assert!(s.trim_end().split("\r\n").skip(1).all(|l| l.starts_with('\t')));
    }

    #[test]
    fn tokens_cannot_break_out() {
        let mut f = FoldedField::new("X");
        f.token("a\r\nBcc: b");
        assert_eq!(f.finish(), "X: a  Bcc: b\r\n");
    }
}
