//! Structured MIME fields: `Content-Type`, `Content-Disposition` and their parameters, RFC 2045 §5 and RFC 2231.
//!
//! Parameters are read as leniently as possible, because real mail has unquoted file names with spaces, quotes left open and
//! encoded words where there mustn't be any. They keep their order; continuations are joined and percent-encoding is decoded.

use crate::encoded_word::hex;
use crate::{charset, encoded_word};

/// Parameters: lower-case names, decoded values, in order. A name occurs once; of several the first counts.
pub type Params = Vec<(String, String)>;

/// The value of a parameter, by its lower-case name.
pub fn param<'p>(params: &'p Params, name: &str) -> Option<&'p str> {
    params.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
}

/// A media type with its parameters; type and subtype in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaType {
    /// `text`, `multipart` …
    pub media_type: String,
    /// `plain`, `mixed` …
    pub subtype: String,
    /// The parameters.
    pub params: Params,
}

impl MediaType {
    /// A type without parameters.
    pub fn new(media_type: &str, subtype: &str) -> Self {
        Self { media_type: media_type.to_owned(), subtype: subtype.to_owned(), params: Params::new() }
    }

    /// Parses an unfolded `Content-Type`. None if there is no `token/token` at its start.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (essence, rest) = split_at_semicolon(value);
        let essence = strip_comment(essence);
        let (media_type, subtype) = essence.split_once('/')?;
        let (media_type, subtype) = (media_type.trim(), subtype.trim());
        if !is_token(media_type) || !is_token(subtype) {
            return None;
        }
        Some(Self { media_type: media_type.to_ascii_lowercase(), subtype: subtype.to_ascii_lowercase(), params: params(rest) })
    }
}

/// A `Content-Disposition`, RFC 2183.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disposition {
    /// `inline`, `attachment` …, lower case.
    pub kind: String,
    /// The parameters.
    pub params: Params,
}

impl Disposition {
    /// Parses an unfolded `Content-Disposition`. None if it doesn't start with a token.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (kind, rest) = split_at_semicolon(value);
        let kind = strip_comment(kind);
        is_token(&kind).then(|| Self { kind: kind.to_ascii_lowercase(), params: params(rest) })
    }
}

/// `token`, RFC 2045 §5.1. At most 127 characters as in RFC 6838 §4.2.
fn is_token(s: &str) -> bool {
    !s.is_empty() && s.len() <= 127 && s.bytes().all(|b| b.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?=".contains(&b))
}

fn split_at_semicolon(value: &[u8]) -> (&[u8], &[u8]) {
    match value.iter().position(|b| *b == b';') {
        Some(at) => (value.get(..at).unwrap_or_default(), value.get(at.saturating_add(1)..).unwrap_or_default()),
        None => (value, &[]),
    }
}

/// Text before the first comment, trimmed.
pub(crate) fn strip_comment(text: &[u8]) -> String {
    crate::date::without_comments(&charset::guess(text)).trim().to_owned()
}

/// A piece of a parameter as it stands in the header.
struct Piece {
    value: Vec<u8>,
    /// Which continuation, RFC 2231 §3; 0 where there is no number.
    section: u32,
    /// Whether the value is percent-encoded, RFC 2231 §4.
    extended: bool,
    /// Whether the name had a `*`.
    starred: bool,
}

/// Parses `; name=value` lists. The most parameters looked at is bounded by the header's size; grouping them is a sort.
fn params(mut rest: &[u8]) -> Params {
    let mut names: Vec<String> = Vec::new();
    let mut pieces: Vec<(usize, Piece)> = Vec::new();
    let mut index = std::collections::HashMap::new();
    while let Some((name, value, after)) = next_param(rest) {
        rest = after;
        let (base, section, extended, starred) = split_name(&name);
        if base.is_empty() {
            continue;
        }
        let next = names.len();
        let at = *index.entry(base.clone()).or_insert(next);
        if at == next {
            names.push(base);
        }
        pieces.push((at, Piece { value, section, extended, starred }));
    }
    // Stable: of several pieces with the same number the first comes first.
    pieces.sort_by_key(|(at, piece)| (*at, !piece.starred, piece.section));
    let mut out = Params::with_capacity(names.len());
    let mut pieces = pieces.into_iter().peekable();
    for (at, name) in names.into_iter().enumerate() {
        let mut own = Vec::new();
        while let Some((_, piece)) = pieces.next_if(|(of, _)| *of == at) {
            own.push(piece);
        }
        out.push((name, join(own)));
    }
    out
}

/// The next `name=value`, and what follows its semicolon.
fn next_param(mut rest: &[u8]) -> Option<(String, Vec<u8>, &[u8])> {
    loop {
        rest = rest.trim_ascii_start();
        match rest.split_first()? {
            (b';', after) => rest = after,
            _ => break,
        }
    }
    let end = rest.iter().position(|b| matches!(b, b'=' | b';'))?;
    let (name, after) = rest.split_at(end);
    let name = strip_comment(name).to_ascii_lowercase();
    let Some(after) = after.strip_prefix(b"=") else {
        // No value: skipped. The empty name makes the caller ignore it.
        return Some((String::new(), Vec::new(), after));
    };
    let after = after.trim_ascii_start();
    if let Some(quoted) = after.strip_prefix(b"\"") {
        let (value, after) = quoted_value(quoted);
        let (_, after) = split_at_semicolon(after);
        return Some((name, value, after));
    }
    let (value, after) = split_at_semicolon(after);
    let mut value = value.trim_ascii();
    // `charset=utf-8 (comment)`; in file names parentheses are more likely meant.
    if !name.contains("name")
        && let Some(at) = value.iter().position(|b| *b == b'(')
        && at > 0
    {
        value = value.get(..at).unwrap_or(value).trim_ascii();
    }
    Some((name, value.to_vec(), after))
}

fn quoted_value(quoted: &[u8]) -> (Vec<u8>, &[u8]) {
    let mut value = Vec::new();
    let mut escaped = false;
    for (i, b) in quoted.iter().enumerate() {
        match b {
            _ if escaped => {
                // Windows software doesn't escape the backslashes of paths; a quoted-pair is only needed before these.
                if !matches!(b, b'"' | b'\\') {
                    value.push(b'\\');
                }
                value.push(*b);
                escaped = false;
            }
            b'\\' => escaped = true,
            b'"' => return (value, quoted.get(i.saturating_add(1)..).unwrap_or_default()),
            _ => value.push(*b),
        }
    }
    (value, &[])
}

/// `name`, `name*`, `name*0`, `name*0*`: the name, its number, whether the value is encoded, whether there was a star.
fn split_name(name: &str) -> (String, u32, bool, bool) {
    let Some((base, star)) = name.split_once('*') else { return (name.to_owned(), 0, false, false) };
    let (number, extended) = match star.strip_suffix('*') {
        Some(number) => (number, true),
        None => (star, star.is_empty()),
    };
    match number.parse() {
        Ok(section) => (base.to_owned(), section, extended, true),
        Err(_) if number.is_empty() => (base.to_owned(), 0, true, true),
        Err(_) => (name.to_owned(), 0, false, false),
    }
}

/// Joins the pieces of one parameter; `name*…` wins over plain `name`, which is there for old readers.
fn join(pieces: Vec<Piece>) -> String {
    let mut bytes = Vec::new();
    let mut charset = String::new();
    let mut next = 0;
    let starred = pieces.first().is_some_and(|p| p.starred);
    for piece in pieces {
        if piece.starred != starred || piece.section != next {
            // A gap or a repetition: what follows isn't usable.
            break;
        }
        let mut value = piece.value.as_slice();
        if piece.extended {
            if next == 0 {
                let mut parts = value.splitn(3, |b| *b == b'\'');
                if let (Some(label), Some(_language), Some(text)) = (parts.next(), parts.next(), parts.next()) {
                    charset = String::from_utf8_lossy(label).into_owned();
                    value = text;
                }
            }
            percent_decode(value, &mut bytes);
        } else {
            bytes.extend_from_slice(value);
        }
        next = next.saturating_add(1);
        if !starred {
            break;
        }
    }
    let text = if charset.is_empty() { charset::guess(&bytes).into_owned() } else { charset::decode(&charset, &bytes).into_owned() };
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn percent_decode(value: &[u8], out: &mut Vec<u8>) {
    let mut bytes = value.iter().enumerate();
    while let Some((i, b)) = bytes.next() {
        if *b == b'%'
            && let Some(decoded) = value.get(i.saturating_add(1)..i.saturating_add(3)).and_then(hex)
        {
            out.push(decoded);
            bytes.nth(1);
        } else {
            out.push(*b);
        }
    }
}

/// A file name as people mean it: values that look like encoded words are decoded as such, against RFC 2047 §5.
pub fn decode_file_name(value: &str) -> String {
    if value.starts_with("=?") || value.ends_with("?=") { encoded_word::decode(value.as_bytes()) } else { value.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn show(value: &str) -> String {
        let Some(m) = MediaType::parse(value.as_bytes()) else { return "none".to_owned() };
        let params: Vec<String> = m.params.iter().map(|(n, v)| format!("{n}={v}")).collect();
        format!("{}/{} {}", m.media_type, m.subtype, params.join("|")).trim_end().to_owned()
    }

    #[test]
    fn content_types() {
        for (value, want) in [
            ("text/plain", "text/plain"),
            ("TEXT/Plain (comment); Charset=US-ASCII (Plain text)", "text/plain charset=US-ASCII"),
            ("text/plain; charset=\"us-ascii\"", "text/plain charset=us-ascii"),
            ("multipart/mixed; boundary=\"a;b\\\"c\"", "multipart/mixed boundary=a;b\"c"),
            ("a/b; name=my file (1).txt; x", "a/b name=my file (1).txt"),
            ("a/b;; ;c=d;", "a/b c=d"),
            ("a/b; name=\"open; c=d", "a/b name=open; c=d"),
            ("a/b; name=\"C:\\dir\\x\"", "a/b name=C:\\dir\\x"),
            ("text", "none"),
            ("text/", "none"),
            ("te xt/plain", "none"),
            ("", "none"),
            // RFC 2231 §3 to §4.1.
            (
                "message/external-body; access-type=URL; URL*0=\"ftp://\"; URL*1=\"cs.utk.edu/x\"",
                "message/external-body access-type=URL|url=ftp://cs.utk.edu/x",
            ),
            ("application/x-stuff; title*=us-ascii'en-us'This%20is%20%2A%2A%2Afun%2A%2A%2A", "application/x-stuff title=This is ***fun***"),
            (
                "a/b; title*1*=%2A%2A%2Afun%2A%2A%2A%20; title*0*=us-ascii'en'This%20is%20even%20more%20; title*2=\"isn't it!\"",
                "a/b title=This is even more ***fun*** isn't it!",
            ),
            ("a/b; name=x; name*=utf-8''%e2%82%ac", "a/b name=€"),
            ("a/b; name*=iso-8859-1''%e4%zz", "a/b name=ä%zz"),
            ("a/b; name=1; name=2", "a/b name=1"),
        ] {
            assert_eq!(show(value), want, "{value}");
        }
        assert_eq!(decode_file_name("=?utf-8?q?=C3=A4?="), "ä");
    }

    #[test]
    fn many_parameters_take_linear_time() {
        let many: String = (0..50_000).map(|i| format!(";n{i}*0=x")).collect();
        assert_eq!(MediaType::parse(format!("a/b{many}").as_bytes()).unwrap().params.len(), 50_000);
    }

    proptest! {
        #[test]
        fn any_bytes(value in "[a/;=\"*0'%\\\\( )]{0,40}") {
            MediaType::parse(format!("a/b;{value}").as_bytes());
            Disposition::parse(value.as_bytes());
        }
    }
}
