//! The first words of a message, as lists of messages show them, RFC 8970.
//!
//! Quoted text, the line that introduces it and signatures are left out, because they don't say what is new.

use super::{html_to_text, text_of};
use crate::structure::{Part, Structure};
use std::ops::Range;

/// How much of a part's body is read.
const MAX_READ: u64 = 1 << 20;
/// How much text is made of HTML.
const MAX_HTML: usize = 4 << 10;
/// Output stops after the line that passes this many bytes.
const ENOUGH: usize = 250;
/// The most characters of a preview.
const MAX_CHARS: usize = 256;
/// How many lines are looked ahead.
const LOOK_AHEAD: usize = 10;

/// The preview of a message: at most 256 characters, empty if it has no text. `read` gives bytes of the message.
///
/// # Errors
/// Those of `read`.
pub fn preview<E>(structure: &Structure, mut read: impl FnMut(Range<u64>) -> Result<Vec<u8>, E>) -> Result<String, E> {
    let mut todo = vec![structure.root()];
    while let Some(part) = todo.pop() {
        if part.is_attachment() || part.is("multipart", "encrypted") {
            continue;
        }
        if part.is_multipart() {
            // Of something signed only what was signed.
            let wanted = if part.subtype == "signed" { 1 } else { usize::MAX };
            let mut children: Vec<&Part> = structure.children(part).take(wanted).collect();
            children.reverse();
            todo.append(&mut children);
            continue;
        }
        if !(part.is("text", "plain") || part.is("text", "html")) {
            continue;
        }
        let end = part.body.end.min(part.body.start.saturating_add(MAX_READ));
        let body = read(part.body.start..end)?;
        let text = if part.subtype == "html" {
            let bytes = super::decode(part.transfer_encoding(), &body, usize::MAX);
            html_to_text(&crate::charset::decode(part.param("charset").unwrap_or_default(), &bytes), MAX_HTML)
        } else {
            text_of(part, &body, usize::MAX).unwrap_or_default()
        };
        let preview = preview_of_text(&text);
        if !preview.is_empty() {
            return Ok(preview);
        }
    }
    Ok(String::new())
}

const SNIP: &str = "[...]";

/// The preview of plain text.
pub fn preview_of_text(text: &str) -> String {
    let mut lines = Lines { rest: text.lines(), ahead: Vec::new() };
    let mut out = String::new();
    let mut snipped = false;
    while let Some(line) = lines.next() {
        if line.is_empty() {
            continue;
        }
        if is_signature(line) && lines.ahead(LOOK_AHEAD).iter().filter(|l| !l.is_empty()).count() < 5 {
            break;
        }
        let mut snip = is_snipped(line);
        if line.ends_with(':') && (out.is_empty() || line.bytes().any(|b| b.is_ascii_digit())) {
            snip |= introduces_quote(&lines.ahead(2));
        }
        // `On Mon, 23 Nov 2026, somebody` / `wrote:` on two lines.
        if !snip && out.is_empty() && line.starts_with("On ") {
            let ahead = lines.ahead(3);
            if let Some((second, after)) = ahead.split_first()
                && second.ends_with(':')
                && introduces_quote(after)
            {
                lines.next();
                snip = true;
            }
        }
        if snip {
            if !snipped {
                out.push_str(SNIP);
                out.push('\n');
            }
        } else {
            out.push_str(line);
            out.push('\n');
        }
        snipped = snip;
        if out.len() >= ENOUGH {
            break;
        }
    }
    // Only quotes: nothing to show.
    if out.trim_end() == SNIP {
        return String::new();
    }
    match out.char_indices().nth(MAX_CHARS) {
        Some((at, _)) => out.get(..at).unwrap_or_default().to_owned(),
        None => out,
    }
}

fn is_snipped(line: &str) -> bool {
    line.starts_with('>') || matches!(line, "[...]" | "[…]" | "...")
}

fn is_signature(line: &str) -> bool {
    line.len() >= 2 && line.bytes().all(|b| b == b'-')
}

/// Whether the next line, or the one behind an empty one, is quoted.
fn introduces_quote(ahead: &[&str]) -> bool {
    match ahead {
        ["", next, ..] | [next, ..] => is_snipped(next),
        [] => false,
    }
}

/// Trimmed lines, with some looked at in advance.
struct Lines<'t> {
    rest: std::str::Lines<'t>,
    ahead: Vec<&'t str>,
}

impl<'t> Lines<'t> {
    fn next(&mut self) -> Option<&'t str> {
        if self.ahead.is_empty() { self.rest.next().map(str::trim) } else { Some(self.ahead.remove(0)) }
    }

    fn ahead(&mut self, n: usize) -> Vec<&'t str> {
        while self.ahead.len() < n {
            match self.rest.next() {
                Some(line) => self.ahead.push(line.trim()),
                None => break,
            }
        }
        self.ahead.iter().take(n).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        for (text, want) in [
            ("Hello,\r\n\r\nworld\r\n", "Hello,\nworld\n"),
            ("On 1 Jan 2020, a wrote:\n> q\n> r\n\nanswer\n", "[...]\nanswer\n"),
            ("On 1 Jan 2020,\na wrote:\n\n> q\nanswer\n", "[...]\nanswer\n"),
            ("a\nsee:\n> q\nb", "a\nsee:\n[...]\nb\n"),
            ("a\n[...]\n> q\nb", "a\n[...]\nb\n"),
            ("a\n--\nname\nphone", "a\n"),
            ("a\n--\n1\n2\n3\n4\n5\n", "a\n--\n1\n2\n3\n4\n5\n"),
            ("> only\n", ""),
            ("", ""),
        ] {
            assert_eq!(preview_of_text(text), want, "{text}");
        }
        assert_eq!(preview_of_text(&"ä".repeat(1000)).chars().count(), 256);
    }

    #[test]
    fn of_messages() {
        let of = |m: &str| {
            preview(&Structure::of(m.as_bytes()), |r| {
                Ok::<_, ()>(m.as_bytes()[usize::try_from(r.start).unwrap()..usize::try_from(r.end).unwrap()].to_vec())
            })
            .unwrap()
        };
        assert_eq!(of("\r\nhi\r\n"), "hi\n");
        let multipart = "Content-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\nContent-Disposition: attachment\r\n\r\nno\r\n--b\r\nContent-Type: text/plain\r\n\r\n\r\n--b\r\nContent-Type: text/html\r\n\r\n<p>yes</p>\r\n--b--\r\n";
        assert_eq!(of(multipart), "yes\n");
        assert_eq!(of(&multipart.replace("alternative", "signed")), "");
        assert_eq!(of(&multipart.replace("alternative", "encrypted")), "");
    }
}
