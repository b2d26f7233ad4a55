//! Macros in SPF records, RFC 7208 §7: parsed when the record is, expanded when a term is evaluated.
//!
//! What a macro stands for is known only during evaluation, so expansion takes a closure's worth of values as [`Values`]. The
//! `p` macro needs DNS; the evaluation finds it before expanding, when [`MacroString::uses_ptr_name`] says so.

use super::record::SyntaxError;
use mox_base::dns::reverse_name;
use std::net::IpAddr;

/// A `macro-string`, RFC 7208 §7.1.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct MacroString {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(String),
    Macro(Macro),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Macro {
    /// Lower case.
    letter: u8,
    /// Upper case was written: the value is URL-escaped.
    escape: bool,
    /// How many parts to keep, from the right.
    keep: Option<usize>,
    reverse: bool,
    /// Where the value is split; at dots if empty.
    delimiters: String,
}

/// What macros stand for, RFC 7208 §7.3.
#[derive(Clone, Copy, Debug)]
pub(super) struct Values<'a> {
    /// `l` and `o`, and together `s`.
    pub(super) localpart: &'a str,
    pub(super) sender_domain: &'a str,
    /// `d`.
    pub(super) domain: &'a str,
    /// `i`, `v`, `c`.
    pub(super) ip: IpAddr,
    /// `p`.
    pub(super) ptr_name: &'a str,
    /// `h`.
    pub(super) helo: &'a str,
    /// `r`.
    pub(super) receiver: &'a str,
    /// `t`.
    pub(super) now: i64,
}

impl MacroString {
    /// Parses a macro-string. The letters `c`, `r` and `t`, and spaces, are only for explanations.
    pub(super) fn parse(text: &str, explanation: bool) -> Result<Self, SyntaxError> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            rest = rest.get(c.len_utf8()..).unwrap_or_default();
            match c {
                '%' => {
                    let Some(kind) = rest.chars().next() else { return Err(SyntaxError::Macro) };
                    rest = rest.get(kind.len_utf8()..).unwrap_or_default();
                    match kind {
                        '%' => literal.push('%'),
                        '_' => literal.push(' '),
                        '-' => literal.push_str("%20"),
                        '{' => {
                            let (inside, after) = rest.split_once('}').ok_or(SyntaxError::Macro)?;
                            rest = after;
                            if !literal.is_empty() {
                                pieces.push(Piece::Literal(std::mem::take(&mut literal)));
                            }
                            pieces.push(Piece::Macro(Macro::parse(inside, explanation)?));
                        }
                        _ => return Err(SyntaxError::Macro),
                    }
                }
                '!'..='~' => literal.push(c),
                ' ' if explanation => literal.push(c),
                _ => return Err(SyntaxError::Character),
            }
        }
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        Ok(Self { pieces })
    }

    /// Whether expanding needs the verified name of the client.
    pub(super) fn uses_ptr_name(&self) -> bool {
        self.pieces.iter().any(|p| matches!(p, Piece::Macro(m) if m.letter == b'p'))
    }

    /// The expanded text.
    pub(super) fn expand(&self, values: &Values<'_>) -> String {
        let mut out = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => out.push_str(text),
                Piece::Macro(m) => m.expand(values, &mut out),
            }
        }
        out
    }

    /// The expanded text as a domain name: without trailing dot, and without its first labels when it would be longer than 253
    /// octets, RFC 7208 §7.3.
    pub(super) fn expand_name(&self, values: &Values<'_>) -> String {
        let expanded = self.expand(values);
        let mut name = expanded.strip_suffix('.').unwrap_or(&expanded);
        while name.len() > 253 {
            let Some((_, rest)) = name.split_once('.') else { break };
            name = rest;
        }
        name.to_owned()
    }
}

impl Macro {
    /// `macro-letter transformers *delimiter`.
    fn parse(text: &str, explanation: bool) -> Result<Self, SyntaxError> {
        let mut bytes = text.bytes();
        let first = bytes.next().ok_or(SyntaxError::Macro)?;
        let letter = first.to_ascii_lowercase();
        let known = b"slodipvh".contains(&letter) || (explanation && b"crt".contains(&letter));
        if !known {
            return Err(SyntaxError::Macro);
        }
        let rest = text.get(1..).unwrap_or_default();
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, rest) = rest.split_at(digits);
        let keep = match number {
            "" => None,
            // More parts than fit into the number are all of them.
            _ => Some(number.parse().unwrap_or(usize::MAX)),
        };
        if keep == Some(0) {
            return Err(SyntaxError::Macro);
        }
        let (reverse, delimiters) = match rest.strip_prefix(['r', 'R']) {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        if !delimiters.bytes().all(|b| b".-+,/_=".contains(&b)) {
            return Err(SyntaxError::Macro);
        }
        Ok(Self { letter, escape: first.is_ascii_uppercase(), keep, reverse, delimiters: delimiters.to_owned() })
    }

    fn expand(&self, values: &Values<'_>, out: &mut String) {
        let value = match self.letter {
            b's' => format!("{}@{}", values.localpart, values.sender_domain),
            b'l' => values.localpart.to_owned(),
            b'o' => values.sender_domain.to_owned(),
            b'd' => values.domain.to_owned(),
            b'i' => dotted(values.ip),
            b'p' => values.ptr_name.to_owned(),
            b'v' => if values.ip.is_ipv4() { "in-addr" } else { "ip6" }.to_owned(),
            b'h' => values.helo.to_owned(),
            b'c' => values.ip.to_string(),
            b'r' => values.receiver.to_owned(),
            b't' => values.now.to_string(),
            _ => String::new(),
        };
        let value = if self.keep.is_none() && !self.reverse && self.delimiters.is_empty() { value } else { self.transform(&value) };
        if self.escape {
            escape(&value, out);
        } else {
            out.push_str(&value);
        }
    }

    fn transform(&self, value: &str) -> String {
        let delimiters = if self.delimiters.is_empty() { "." } else { &self.delimiters };
        let mut parts: Vec<&str> = value.split(|c| delimiters.contains(c)).collect();
        if self.reverse {
            parts.reverse();
        }
        let drop = self.keep.map_or(0, |keep| parts.len().saturating_sub(keep));
        parts.get(drop..).unwrap_or_default().join(".")
    }
}

/// The address as the `i` macro has it: IPv6 by nibbles.
fn dotted(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(_) => {
            let name = reverse_name(ip);
            let mut nibbles: Vec<&str> = name.strip_suffix(".ip6.arpa").unwrap_or(&name).split('.').collect();
            nibbles.reverse();
            nibbles.join(".")
        }
    }
}

/// What isn't unreserved in URLs as `%hh`, RFC 7208 §7.3.
fn escape(text: &str, out: &mut String) {
    for b in text.bytes() {
        if b.is_ascii_alphanumeric() || b"-._~".contains(&b) {
            out.push(char::from(b));
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(text: &str, ip: &str) -> String {
        let values = Values {
            localpart: "strong-bad",
            sender_domain: "email.example.com",
            domain: "email.example.com",
            ip: ip.parse().unwrap(),
            ptr_name: "mx.example.org",
            helo: "h",
            receiver: "r",
            now: 7,
        };
        MacroString::parse(text, true).unwrap().expand(&values)
    }

    // RFC 7208 §7.4.
    #[test]
    fn examples_of_the_rfc() {
        for (text, want) in [
            ("%{s}", "strong-bad@email.example.com"),
            ("%{o}", "email.example.com"),
            ("%{d}", "email.example.com"),
            ("%{d4}", "email.example.com"),
            ("%{d3}", "email.example.com"),
            ("%{d2}", "example.com"),
            ("%{d1}", "com"),
            ("%{dr}", "com.example.email"),
            ("%{d2r}", "example.email"),
            ("%{l}", "strong-bad"),
            ("%{l-}", "strong.bad"),
            ("%{lr}", "strong-bad"),
            ("%{lr-}", "bad.strong"),
            ("%{l1r-}", "strong"),
            ("%{ir}.%{v}._spf.%{d2}", "3.2.0.192.in-addr._spf.example.com"),
            ("%{lr-}.lp._spf.%{d2}", "bad.strong.lp._spf.example.com"),
            ("%{lr-}.lp.%{ir}.%{v}._spf.%{d2}", "bad.strong.lp.3.2.0.192.in-addr._spf.example.com"),
            ("%{d2}.trusted-domains.example.net", "example.com.trusted-domains.example.net"),
            ("%%%_%-%{S}", "% %20strong-bad%40email.example.com"),
        ] {
            assert_eq!(expand(text, "192.0.2.3"), want, "{text}");
        }
        assert_eq!(
            expand("%{ir}.%{v}._spf.%{d2}", "2001:db8::cb01"),
            "1.0.b.c.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6._spf.example.com"
        );
    }

    #[test]
    fn refuses() {
        for text in ["%", "%x", "%{", "%{}", "%{x}", "%{d0}", "%{d1x}", "%{d", "%{dr2}", "a b", "é", "%{c}", "%{r}", "%{t}"] {
            assert!(MacroString::parse(text, false).is_err(), "{text}");
        }
    }

    #[test]
    fn long_names_lose_their_first_labels() {
        let long = format!("{}x.example", "123456789.".repeat(30));
        let values = Values {
            localpart: "",
            sender_domain: "",
            domain: "",
            ip: IpAddr::from([192, 0, 2, 1]),
            ptr_name: "",
            helo: "",
            receiver: "",
            now: 0,
        };
        let name = MacroString::parse(&long, false).unwrap().expand_name(&values);
        assert!(name.len() <= 253 && name.ends_with("9.x.example"));
    }
}
