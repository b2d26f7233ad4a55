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
    /// How much is hashed, if not all; and how much of that is still to come.
    limit: Option<u64>,
    remaining: u64,
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

const fn is_blank(b: u8) -> bool {
    matches!(b, b' ' | b'\t')
}

impl BodyHasher {
    /// A hasher at the start of a body. With a limit, only so much of the canonical body is hashed, RFC 6376 §3.5 `l=`.
    pub fn new(canonicalization: Canonicalization, limit: Option<u64>) -> Self {
        Self {
            canonicalization,
            limit,
            remaining: limit.unwrap_or(u64::MAX),
            hash: Context::new(&SHA256),
            buffer: Vec::new(),
            breaks: 0,
            space: false,
            after_cr: false,
            content: false,
        }
    }

    /// The canonicalization it is for.
    pub const fn canonicalization(&self) -> Canonicalization {
        self.canonicalization
    }

    /// The limit it has.
    pub const fn limit(&self) -> Option<u64> {
        self.limit
    }

    /// Takes the next piece.
    pub fn push(&mut self, mut data: &[u8]) {
        let relaxed = self.canonicalization == Canonicalization::Relaxed;
        while let Some((first, rest)) = data.split_first() {
            // What stands for itself is taken in one go: that is nearly everything.
            let len = if self.after_cr { 0 } else { data.iter().take_while(|b| !(**b == b'\r' || (relaxed && is_blank(**b)))).count() };
            if len < 2 {
                self.byte(*first);
                data = rest;
                continue;
            }
            let (run, rest) = data.split_at(len);
            self.flush();
            self.buffer.extend_from_slice(run);
            if self.buffer.len() >= BUFFER {
                self.drain();
            }
            data = rest;
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
            b if is_blank(b) && self.canonicalization == Canonicalization::Relaxed => self.space = true,
            _ => self.emit(b),
        }
    }

    fn emit(&mut self, b: u8) {
        self.flush();
        self.put(b);
    }

    /// Hashes the line breaks and white space that waited for something to follow.
    fn flush(&mut self) {
        for _ in 0..std::mem::take(&mut self.breaks) {
            self.put(b'\r');
            self.put(b'\n');
        }
        if std::mem::take(&mut self.space) {
            self.put(b' ');
        }
        self.content = true;
    }

    fn put(&mut self, b: u8) {
        self.buffer.push(b);
        if self.buffer.len() >= BUFFER {
            self.drain();
        }
    }

    fn drain(&mut self) {
        let take = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(self.buffer.len());
        self.hash.update(self.buffer.get(..take).unwrap_or_default());
        self.remaining = self.remaining.saturating_sub(u64::try_from(take).unwrap_or(u64::MAX));
        self.buffer.clear();
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
        self.drain();
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
        fn hash_is_of_the_canonical_body(text in "( |\t|a|bcd|\r\n|\r|\n){0,12}", at in 0_usize..36, limit in proptest::option::of(0_usize..20)) {
            for canonicalization in [Canonicalization::Simple, Canonicalization::Relaxed] {
                let mut h = BodyHasher::new(canonicalization, limit.map(|l| l as u64));
                let at = at.min(text.len());
                h.push(&text.as_bytes()[..at]);
                h.push(&text.as_bytes()[at..]);
                let whole = body(canonicalization, &text);
                let signed = &whole[..limit.unwrap_or(usize::MAX).min(whole.len())];
                prop_assert_eq!(h.finish().to_vec(), sha256(signed));
            }
        }
    }
}
