//! Regular expressions in RE2's syntax, which the files use, for the engine that we have.
//!
//! Both are linear in time and mostly agree. Where they don't, a pattern is rewritten, so that one which worked before
//! means the same here: `\d`, `\s`, `\w` and `\b` are about ASCII, `\<` is a `<` and no word boundary, `\Q…\E` quotes,
//! `\101` is octal, a brace that starts no repetition is a brace, and a class knows no nesting and no set operations.

use std::iter::Peekable;
use std::str::Chars;

/// The pattern in the syntax of the `regex` crate.
pub(crate) fn translate(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut chars = pattern.chars().peekable();
    while let Some(ch) = chars.next() {
        match ch {
            '\\' => escape(&mut chars, &mut out, false),
            '[' => class(&mut chars, &mut out),
            '{' if !is_repetition(&chars) => out.push_str("\\{"),
            _ => out.push(ch),
        }
    }
    out
}

/// What follows a backslash.
fn escape(chars: &mut Peekable<Chars<'_>>, out: &mut String, in_class: bool) {
    let Some(ch) = chars.next() else {
        // The engine explains what is wrong with a backslash at the end.
        out.push('\\');
        return;
    };
    let (open, close) = if in_class { ("", "") } else { ("[", "]") };
    match ch {
        'd' => out.push_str(&format!("{open}0-9{close}")),
        's' => out.push_str(&format!("{open}\\t\\n\\f\\r {close}")),
        'w' => out.push_str(&format!("{open}0-9A-Za-z_{close}")),
        'D' => out.push_str("[^0-9]"),
        'S' => out.push_str("[^\\t\\n\\f\\r ]"),
        'W' => out.push_str("[^0-9A-Za-z_]"),
        'b' if !in_class => out.push_str("(?-u:\\b)"),
        '<' | '>' => out.push(ch),
        'Q' => quoted(chars, out),
        '0'..='7' => octal(ch, chars, out),
        _ => {
            out.push('\\');
            out.push(ch);
        }
    }
}

/// Up to `\E` or the end, everything is itself.
fn quoted(chars: &mut Peekable<Chars<'_>>, out: &mut String) {
    while let Some(ch) = chars.next() {
        if ch == '\\' && chars.peek() == Some(&'E') {
            chars.next();
            return;
        }
        out.push_str(&regex::escape(ch.encode_utf8(&mut [0; 4])));
    }
}

/// `\0`, or two to three octal digits. A single other digit would be a back reference, which neither syntax has.
fn octal(first: char, chars: &mut Peekable<Chars<'_>>, out: &mut String) {
    let is_octal = |ch: &char| ('0'..='7').contains(ch);
    if first != '0' && !chars.peek().is_some_and(is_octal) {
        out.push('\\');
        out.push(first);
        return;
    }
    let mut value = first.to_digit(8).unwrap_or_default();
    for _ in 0..2 {
        let Some(digit) = chars.next_if(is_octal) else { break };
        value = value * 8 + digit.to_digit(8).unwrap_or_default();
    }
    out.push_str(&format!("\\x{{{value:x}}}"));
}

/// A character class, behind its `[`.
fn class(chars: &mut Peekable<Chars<'_>>, out: &mut String) {
    out.push('[');
    if chars.next_if_eq(&'^').is_some() {
        out.push('^');
    }
    // In first place, it doesn't end the class.
    if chars.next_if_eq(&']').is_some() {
        out.push_str("\\]");
    }
    while let Some(ch) = chars.next() {
        match ch {
            ']' => {
                out.push(']');
                return;
            }
            '[' if chars.peek() == Some(&':') && named_class(chars, out) => {}
            '[' | '&' | '~' => {
                out.push('\\');
                out.push(ch);
            }
            '-' if chars.peek() == Some(&'-') => {
                chars.next();
                out.push_str("-\\-");
            }
            '\\' => escape(chars, out, true),
            _ => out.push(ch),
        }
    }
}

/// `[:alpha:]`, behind its `[`. Says whether it was one.
fn named_class(chars: &mut Peekable<Chars<'_>>, out: &mut String) -> bool {
    let ahead: String = chars.clone().skip(1).take_while(|ch| ch.is_ascii_lowercase() || *ch == '^').collect();
    let mut behind = chars.clone().skip(1 + ahead.chars().count());
    if (behind.next(), behind.next()) != (Some(':'), Some(']')) {
        return false;
    }
    out.push_str(&format!("[:{ahead}:]"));
    let length = ahead.chars().count() + 3;
    chars.by_ref().take(length).for_each(drop);
    true
}

/// Whether what follows a `{` makes it `{2}`, `{2,}` or `{2,3}`.
fn is_repetition(chars: &Peekable<Chars<'_>>) -> bool {
    let mut ahead = chars.clone();
    if ahead.next_if(char::is_ascii_digit).is_none() {
        return false;
    }
    while ahead.next_if(char::is_ascii_digit).is_some() {}
    if ahead.next_if_eq(&',').is_some() {
        while ahead.next_if(char::is_ascii_digit).is_some() {}
    }
    ahead.next() == Some('}')
}

#[cfg(test)]
mod tests {
    use crate::Pattern;

    #[test]
    fn means_what_it_means_in_re2() {
        // Pattern, a text that matches, a text that doesn't.
        for (pattern, yes, no) in [
            (r"^\<name\.example\.org\>$", "<name.example.org>", "name.example.org"),
            (r"^\d+$", "123", "١٢٣"),
            (r"^[\d.]+$", "1.2", "1,2"),
            (r"^\w+$", "a_1", "é"),
            (r"^[^\s]$", "é", "\t"),
            (r"^[\D]$", "a", "1"),
            (r"\bx\b", "éx", "ax"),
            (r"^\Qa.b[\E+$", "a.b[[", "axb["),
            (r"^\101\x42\x{43}$", "ABC", "101"),
            (r"^a{2}$", "aa", "a{2}"),
            (r"^a{2,}b{1,2}$", "aaabb", "ab"),
            (r"^{x}a{,2}$", "{x}a{,2}", "aa"),
            (r"^[[a]$", "[", "x"),
            (r"^[]a]+$", "]a", "b"),
            (r"^[^]a]$", "b", "]"),
            (r"^[a&&b]+$", "a&b", "c"),
            (r"^[a~~b]+$", "~", "c"),
            (r"^[[:digit:][:^alpha:]]$", "7", "a"),
            (r"^[+--]$", ",", "a"),
            (r"(?i)^list-id$", "List-ID", "x"),
            (r".*", "", "\u{0}never\n"),
        ] {
            let compiled = Pattern::new(pattern).unwrap();
            assert!(compiled.is_match(yes), "{pattern} {yes}");
            assert!(pattern == ".*" || !compiled.is_match(no), "{pattern} {no}");
            assert_eq!(compiled.as_str(), pattern);
        }
    }

    #[test]
    fn refuses_what_re2_refuses() {
        for pattern in ["(", "[a", r"\1", r"\", "*", "a**b(", "(?P<n", r"[z-a]", "(?=x)", r"\p{Nonsense}"] {
            assert!(Pattern::new(pattern).is_err(), "{pattern}");
        }
    }
}
