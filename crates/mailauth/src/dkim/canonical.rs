//! Canonicalization, RFC 6376 §3.4: what of a message counts, so that relays may change the rest.

use aws_lc_rs::digest::{Context, SHA256};

/// How much change a signature survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Canonicalization {
    /// Almost none.
    #[default]
    Simple,
    /// White space and folding.
    Relaxed,
}

impl Canonicalization {
    /// As in the `c=` tag.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Simple => "simple",
            Self::Relaxed => "relaxed",
        }
    }
}

/// A header field, with its final line break, in canonical form, RFC 6376 §3.4.1 and §3.4.2.
pub fn canonical_field(canonicalization: Canonicalization, field: &[u8], out: &mut Vec<u8>) {
    let colon = field.iter().position(|b| *b == b':');
    let (Canonicalization::Relaxed, Some(colon)) = (canonicalization, colon) else {
        out.extend_from_slice(field);
        return;
    };
    let (name, value) = field.split_at(colon);
    out.extend(name.trim_ascii_end().iter().map(u8::to_ascii_lowercase));
    out.push(b':');
    let start = out.len();
    let mut space = false;
    for b in value.iter().skip(1) {
        match b {
            b' ' | b'\t' => space = true,
            // Unfolding: the line break goes, the white space behind it stays.
            b'\r' | b'\n' => {}
            _ => {
                if space && out.len() > start {
                    out.push(b' ');
                }
                space = false;
                out.push(*b);
            }
        }
    }
    if field.ends_with(b"\n") {
        out.extend_from_slice(b"\r\n");
    }
}

/// Hashes a body in canonical form as it passes, RFC 6376 §3.4.3 and §3.4.4.
///
/// Trailing empty lines don't count, so line breaks are only counted until something follows them.
#[derive(Clone)]
pub struct BodyHasher {
    canonicalization: Canonicalization,
    hash: Context,
    /// What is next to be hashed.
    buffer: Vec<u8>,
    /// Line breaks not yet hashed.
    breaks: u64,
    /// White space not yet hashed, when relaxed.
    space: bool,
    /// Whether the last byte was a CR, which may begin a line break.
    after_cr: bool,
    /// Whether anything but line breaks was seen.
    content: bool,
}

impl std::fmt::Debug for BodyHasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BodyHasher").field("canonicalization", &self.canonicalization).finish_non_exhaustive()
    }
}

const BUFFER: usize = 8 << 10;

impl BodyHasher {
    /// A hasher at the start of a body.
    pub fn new(canonicalization: Canonicalization) -> Self {
        Self { canonicalization, hash: Context::new(&SHA256), buffer: Vec::new(), breaks: 0, space: false, after_cr: false, content: false }
    }

    /// The canonicalization it is for.
    pub const fn canonicalization(&self) -> Canonicalization {
        self.canonicalization
    }

    /// Takes the next piece.
    pub fn push(&mut self, data: &[u8]) {
        for b in data {
            self.byte(*b);
        }
    }

    fn byte(&mut self, b: u8) {
        if self.after_cr {
            self.after_cr = false;
            if b == b'\n' {
                self.breaks = self.breaks.saturating_add(1);
                // White space at the end of a line is dropped when relaxed; when simple it never waits.
                self.space = false;
                return;
            }
            self.emit(b'\r');
        }
        match b {
            b'\r' => self.after_cr = true,
            b' ' | b'\t' if self.canonicalization == Canonicalization::Relaxed => self.space = true,
            _ => self.emit(b),
        }
    }

    fn emit(&mut self, b: u8) {
        for _ in 0..std::mem::take(&mut self.breaks) {
            self.put(b'\r');
            self.put(b'\n');
        }
        if std::mem::take(&mut self.space) {
            self.put(b' ');
        }
        self.content = true;
        self.put(b);
    }

    fn put(&mut self, b: u8) {
        self.buffer.push(b);
        if self.buffer.len() >= BUFFER {
            self.hash.update(&self.buffer);
            self.buffer.clear();
        }
    }

    /// The SHA-256 of the body.
    pub fn finish(mut self) -> [u8; 32] {
        if self.after_cr {
            self.emit(b'\r');
        }
        // White space at the end of a last line without line break: still the end of a line, with content before it or not.
        let relaxed_and_empty = self.canonicalization == Canonicalization::Relaxed && !self.content;
        if !relaxed_and_empty {
            self.put(b'\r');
            self.put(b'\n');
        }
        self.hash.update(&self.buffer);
        let mut out = [0; 32];
        for (to, from) in out.iter_mut().zip(self.hash.finish().as_ref()) {
            *to = *from;
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn field(canonicalization: Canonicalization, text: &str) -> String {
        let mut out = Vec::new();
        canonical_field(canonicalization, text.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    /// The canonical body in one go, as the RFC words it.
    fn body(canonicalization: Canonicalization, text: &str) -> String {
        let mut lines: Vec<String> = text.split("\r\n").map(str::to_owned).collect();
        if canonicalization == Canonicalization::Relaxed {
            for line in &mut lines {
                let mut out = String::new();
                for c in line.chars() {
                    match c {
                        ' ' | '\t' if out.ends_with(' ') => {}
                        ' ' | '\t' => out.push(' '),
                        c => out.push(c),
                    }
                }
                *line = out.trim_end_matches(' ').to_owned();
            }
        }
        while lines.last().is_some_and(String::is_empty) {
            lines.pop();
        }
        match (lines.is_empty(), canonicalization) {
            (true, Canonicalization::Simple) => "\r\n".to_owned(),
            (true, Canonicalization::Relaxed) => String::new(),
            (false, _) => lines.iter().map(|l| format!("{l}\r\n")).collect(),
        }
    }

    fn sha256(text: &str) -> Vec<u8> {
        aws_lc_rs::digest::digest(&SHA256, text.as_bytes()).as_ref().to_vec()
    }

    #[test]
    fn rfc_6376_examples() {
        // RFC 6376 §3.4.5.
        let relaxed = Canonicalization::Relaxed;
        assert_eq!(field(relaxed, "A: X\r\n"), "a:X\r\n");
        assert_eq!(field(relaxed, "B : Y\t\r\n\tZ  \r\n"), "b:Y Z\r\n");
        assert_eq!(field(Canonicalization::Simple, "B : Y\t\r\n\tZ  \r\n"), "B : Y\t\r\n\tZ  \r\n");
        assert_eq!(body(relaxed, " C \r\nD \t E\r\n\r\n\r\n"), " C\r\nD E\r\n");
        assert_eq!(body(Canonicalization::Simple, " C \r\nD \t E\r\n\r\n\r\n"), " C \r\nD \t E\r\n");
    }

    proptest! {
        #[test]
        fn hash_is_of_the_canonical_body(text in "( |\t|a|\r\n|\r|\n){0,12}", at in 0_usize..24) {
            for canonicalization in [Canonicalization::Simple, Canonicalization::Relaxed] {
                let mut h = BodyHasher::new(canonicalization);
                let at = at.min(text.len());
                h.push(&text.as_bytes()[..at]);
                h.push(&text.as_bytes()[at..]);
                prop_assert_eq!(h.finish().to_vec(), sha256(&body(canonicalization, &text)));
            }
        }
    }
}
