//! HTML as plain text, for previews and search: a tokenizer, not a browser.
//!
//! It keeps no tree, so nesting costs nothing, and each octet is looked at once or twice: what has no end (a tag, a comment, a script)
//! swallows the rest, as it does in browsers. Elements that aren't shown are skipped, block elements end a line, quotes are
//! marked with `> `.

/// Elements that show no text.
const IGNORED: [&str; 8] = ["dialog", "head", "map", "math", "script", "style", "svg", "template"];

/// Elements that flow within a line. All others end one.
const INLINE: [&str; 44] = [
    "a", "abbr", "acronym", "audio", "b", "bdi", "bdo", "big", "button", "canvas", "cite", "code", "data", "del", "dfn", "em", "embed",
    "font", "i", "iframe", "img", "input", "ins", "kbd", "label", "link", "mark", "meta", "object", "output", "picture", "q", "s", "samp",
    "small", "span", "strike", "strong", "sub", "sup", "time", "tt", "u", "var",
];

/// The text of an HTML document, about the first `limit` bytes of it.
pub fn html_to_text(html: &str, limit: usize) -> String {
    let mut out = Out { text: String::new(), quotes: 0, space: false };
    let mut rest = html;
    // The ignored element we are in, and how often it is open.
    let mut ignored: Option<(&'static str, u32)> = None;
    while let Some(at) = rest.find(['<', '&']) {
        if out.text.len() >= limit {
            break;
        }
        let (text, from) = rest.split_at(at);
        if ignored.is_none() {
            out.push(text);
        }
        if from.starts_with('&') {
            let (c, after) = entity(from);
            if ignored.is_none() {
                out.push(c.encode_utf8(&mut [0; 4]));
            }
            rest = after;
            continue;
        }
        if let Some(comment) = from.strip_prefix("<!--") {
            rest = comment.split_once("-->").map_or("", |(_, after)| after);
            continue;
        }
        let Some((tag, after)) = tag(from) else {
            if ignored.is_none() {
                out.push("<");
            }
            rest = from.get(1..).unwrap_or_default();
            continue;
        };
        rest = after;
        match &mut ignored {
            Some((name, open)) if *name == tag.name => {
                *open = if tag.closing { open.saturating_sub(1) } else { open.saturating_add(1) };
                if *open == 0 {
                    ignored = None;
                }
            }
            // A body ends a head that wasn't closed.
            Some(("head", _)) if tag.name == "body" => ignored = None,
            Some(_) => {}
            None => {
                if let Some(name) = IGNORED.iter().find(|n| **n == tag.name).filter(|_| !tag.closing && !tag.empty) {
                    if matches!(*name, "script" | "style") {
                        rest = after_raw_text(rest, name);
                    } else {
                        ignored = Some((name, 1));
                    }
                } else {
                    out.tag(&tag);
                }
            }
        }
    }
    if ignored.is_none() && out.text.len() < limit {
        out.push(rest);
    }
    tidy(&out.text, limit)
}

struct Tag {
    name: String,
    closing: bool,
    empty: bool,
}

/// A tag at the start, and what is behind it.
fn tag(from: &str) -> Option<(Tag, &str)> {
    let inner = from.strip_prefix('<')?;
    let (closing, inner) = match inner.strip_prefix('/') {
        Some(inner) => (true, inner),
        None => (false, inner),
    };
    if !inner.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '!' | '?')) {
        return None;
    }
    let name_len = inner.find(|c: char| c.is_ascii_whitespace() || matches!(c, '>' | '/')).unwrap_or(inner.len());
    let (name, attributes) = inner.split_at(name_len);
    let mut quote = None;
    let mut previous = ' ';
    for (i, c) in attributes.char_indices() {
        match (quote, c) {
            (Some(q), c) if q == c => quote = None,
            (None, '"' | '\'') if previous == '=' => quote = Some(c),
            (None, '>') => {
                let empty = attributes.get(..i).is_some_and(|a| a.ends_with('/'));
                let tag = Tag { name: name.to_ascii_lowercase(), closing, empty };
                return Some((tag, attributes.get(i.saturating_add(1)..).unwrap_or_default()));
            }
            _ => {}
        }
        if !c.is_ascii_whitespace() {
            previous = c;
        }
    }
    Some((Tag { name: name.to_ascii_lowercase(), closing, empty: false }, ""))
}

/// What follows the end tag of a script or style.
fn after_raw_text<'h>(mut rest: &'h str, name: &str) -> &'h str {
    while let Some((_, after)) = rest.split_once("</") {
        rest = after;
        if after.get(..name.len()).is_some_and(|n| n.eq_ignore_ascii_case(name)) {
            return after.split_once('>').map_or("", |(_, after)| after);
        }
    }
    ""
}

struct Out {
    text: String,
    quotes: usize,
    /// White space seen since the last character.
    space: bool,
}

impl Out {
    fn push(&mut self, text: &str) {
        for c in text.chars() {
            if c.is_ascii_whitespace() {
                self.space = true;
                continue;
            }
            if self.text.is_empty() || self.text.ends_with('\n') {
                for _ in 0..self.quotes {
                    self.text.push_str("> ");
                }
            } else if self.space && !self.text.ends_with(' ') {
                self.text.push(' ');
            }
            self.space = false;
            self.text.push(c);
        }
    }

    fn end_line(&mut self, always: bool) {
        self.space = false;
        if always || !(self.text.is_empty() || self.text.ends_with('\n')) {
            self.text.push('\n');
        }
    }

    fn tag(&mut self, tag: &Tag) {
        match tag.name.as_str() {
            "br" => self.end_line(true),
            "td" | "th" => self.space = true,
            "blockquote" => {
                self.end_line(false);
                // Deeper quotes look the same to everyone.
                self.quotes = if tag.closing { self.quotes.saturating_sub(1) } else { self.quotes.saturating_add(1).min(20) };
            }
            name if INLINE.contains(&name) || name.starts_with(['!', '?']) => {}
            "p" if tag.closing => self.end_line(true),
            _ => self.end_line(false),
        }
    }
}

/// A character reference at the start, as the character it stands for, and what is behind it. What is none is an ampersand.
fn entity(from: &str) -> (char, &str) {
    let literal = ('&', from.get(1..).unwrap_or_default());
    let Some(end) = from.char_indices().take(12).find(|(_, c)| *c == ';').map(|(i, _)| i) else { return literal };
    let (Some(name), Some(after)) = (from.get(1..end), from.get(end.saturating_add(1)..)) else { return literal };
    let Some(number) = name.strip_prefix('#') else {
        return ENTITIES.iter().find(|(n, _)| *n == name).map_or(literal, |(_, c)| (*c, after));
    };
    let code = match number.strip_prefix(['x', 'X']) {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => number.parse().ok(),
    };
    (code.and_then(char::from_u32).filter(|c| !c.is_control()).unwrap_or(' '), after)
}

/// The references that mail uses.
const ENTITIES: &[(&str, char)] = &[
    ("amp", '&'),
    ("lt", '<'),
    ("gt", '>'),
    ("quot", '"'),
    ("apos", '\''),
    ("nbsp", '\u{a0}'),
    ("iexcl", '¡'),
    ("cent", '¢'),
    ("pound", '£'),
    ("curren", '¤'),
    ("yen", '¥'),
    ("brvbar", '¦'),
    ("sect", '§'),
    ("uml", '¨'),
    ("copy", '©'),
    ("ordf", 'ª'),
    ("laquo", '«'),
    ("not", '¬'),
    ("shy", '\u{ad}'),
    ("reg", '®'),
    ("macr", '¯'),
    ("deg", '°'),
    ("plusmn", '±'),
    ("sup2", '²'),
    ("sup3", '³'),
    ("acute", '´'),
    ("micro", 'µ'),
    ("para", '¶'),
    ("middot", '·'),
    ("cedil", '¸'),
    ("sup1", '¹'),
    ("ordm", 'º'),
    ("raquo", '»'),
    ("frac14", '¼'),
    ("frac12", '½'),
    ("frac34", '¾'),
    ("iquest", '¿'),
    ("Agrave", 'À'),
    ("Aacute", 'Á'),
    ("Acirc", 'Â'),
    ("Atilde", 'Ã'),
    ("Auml", 'Ä'),
    ("Aring", 'Å'),
    ("AElig", 'Æ'),
    ("Ccedil", 'Ç'),
    ("Egrave", 'È'),
    ("Eacute", 'É'),
    ("Ecirc", 'Ê'),
    ("Euml", 'Ë'),
    ("Igrave", 'Ì'),
    ("Iacute", 'Í'),
    ("Icirc", 'Î'),
    ("Iuml", 'Ï'),
    ("ETH", 'Ð'),
    ("Ntilde", 'Ñ'),
    ("Ograve", 'Ò'),
    ("Oacute", 'Ó'),
    ("Ocirc", 'Ô'),
    ("Otilde", 'Õ'),
    ("Ouml", 'Ö'),
    ("times", '×'),
    ("Oslash", 'Ø'),
    ("Ugrave", 'Ù'),
    ("Uacute", 'Ú'),
    ("Ucirc", 'Û'),
    ("Uuml", 'Ü'),
    ("Yacute", 'Ý'),
    ("THORN", 'Þ'),
    ("szlig", 'ß'),
    ("agrave", 'à'),
    ("aacute", 'á'),
    ("acirc", 'â'),
    ("atilde", 'ã'),
    ("auml", 'ä'),
    ("aring", 'å'),
    ("aelig", 'æ'),
    ("ccedil", 'ç'),
    ("egrave", 'è'),
    ("eacute", 'é'),
    ("ecirc", 'ê'),
    ("euml", 'ë'),
    ("igrave", 'ì'),
    ("iacute", 'í'),
    ("icirc", 'î'),
    ("iuml", 'ï'),
    ("eth", 'ð'),
    ("ntilde", 'ñ'),
    ("ograve", 'ò'),
    ("oacute", 'ó'),
    ("ocirc", 'ô'),
    ("otilde", 'õ'),
    ("ouml", 'ö'),
    ("divide", '÷'),
    ("oslash", 'ø'),
    ("ugrave", 'ù'),
    ("uacute", 'ú'),
    ("ucirc", 'û'),
    ("uuml", 'ü'),
    ("yacute", 'ý'),
    ("thorn", 'þ'),
    ("yuml", 'ÿ'),
    ("OElig", 'Œ'),
    ("oelig", 'œ'),
    ("Scaron", 'Š'),
    ("scaron", 'š'),
    ("Yuml", 'Ÿ'),
    ("circ", 'ˆ'),
    ("tilde", '˜'),
    ("ensp", '\u{2002}'),
    ("emsp", '\u{2003}'),
    ("thinsp", '\u{2009}'),
    ("zwnj", '\u{200c}'),
    ("zwj", '\u{200d}'),
    ("ndash", '–'),
    ("mdash", '—'),
    ("lsquo", '‘'),
    ("rsquo", '’'),
    ("sbquo", '‚'),
    ("ldquo", '“'),
    ("rdquo", '”'),
    ("bdquo", '„'),
    ("dagger", '†'),
    ("bull", '•'),
    ("hellip", '…'),
    ("euro", '€'),
    ("trade", '™'),
];

/// Removes runs of invisible characters, that marketing pads previews with, and of empty lines.
fn tidy(text: &str, limit: usize) -> String {
    let invisible = |c: char| matches!(c, '\u{a0}' | '\u{ad}' | '\u{34f}' | '\u{200b}'..='\u{200f}' | '\u{2007}' | '\u{2060}' | '\u{feff}');
    let mut out = String::with_capacity(text.len().min(limit));
    let mut newlines = 0_u32;
    let mut hidden = 0_u32;
    for c in text.chars() {
        if out.len() >= limit {
            break;
        }
        if invisible(c) {
            hidden = hidden.saturating_add(1);
            if hidden == 1 && c == '\u{a0}' && !out.ends_with(' ') {
                out.push(' ');
            }
            continue;
        }
        if c == '\n' {
            newlines = newlines.saturating_add(1);
            let trimmed = out.trim_end_matches(' ').len();
            out.truncate(trimmed);
        } else if c != ' ' {
            newlines = 0;
            hidden = 0;
        }
        if newlines <= 2 && !(c == ' ' && (out.ends_with(' ') || out.ends_with('\n'))) {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn texts() {
        for (html, want) in [
            ("<p>a  <b>b</b>c</p>d", "a bc\nd"),
            ("<html><head><title>t</title><style>x</style></head><body>a</body></html>", "a\n"),
            ("<head><title>t</title><body>a", "a"),
            ("a<script>if (a < b) { '</p>' }</SCRIPT>b", "ab"),
            ("<table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table>", "a b\nc\n"),
            ("<blockquote>q<blockquote>r</blockquote></blockquote>s", "> q\n> > r\ns"),
            ("a<br>b<br/><br/><br/><br/>c", "a\nb\n\nc"),
            ("&auml;&amp;&#8364;&#x41;&unknown;&", "ä&€A&unknown;&"),
            ("a<!-- <p> -->b <3 <img alt=\"x>y\">c", "ab <3 c"),
            ("a&nbsp;&zwnj;&nbsp;&zwnj;&nbsp;b", "a b"),
            ("<svg><svg></svg>x</svg>y", "y"),
            ("<unclosed", ""),
        ] {
            assert_eq!(html_to_text(html, 4096), want, "{html}");
        }
        assert!(html_to_text(&"a ".repeat(100_000), 4096).len() <= 4100);
    }

    #[test]
    fn hostile_html_takes_linear_time() {
        for piece in ["<div>", "<", "<a \"", "<!--", "</", "<script>", "&", "<svg>", "<blockquote>a", "<a =\""] {
            html_to_text(&piece.repeat(200_000), 1 << 20);
        }
    }

    proptest! {
        #[test]
        fn any_text(html in "[<>/a!\"'=&;#é -]{0,40}") {
            html_to_text(&html, 100);
        }
    }
}
