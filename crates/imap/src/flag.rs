//! Flags and keywords of messages, RFC 9051 §2.3.2.

use crate::cursor::{Cursor, Parsed};
use crate::token::{atom, list0, spaced};

/// A flag that a client can set.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flag {
    /// `\Seen`.
    Seen,
    /// `\Answered`.
    Answered,
    /// `\Flagged`.
    Flagged,
    /// `\Deleted`.
    Deleted,
    /// `\Draft`.
    Draft,
    /// `$Forwarded`.
    Forwarded,
    /// `$Junk`.
    Junk,
    /// `$NotJunk`.
    NotJunk,
    /// `$Phishing`.
    Phishing,
    /// `$MDNSent`.
    MdnSent,
    /// Any other keyword, in lower case.
    Keyword(String),
}

/// The flags that have a name of their own, in the order in which they are printed.
pub const NAMED: [(Flag, &str); 10] = [
    (Flag::Seen, "\\Seen"),
    (Flag::Answered, "\\Answered"),
    (Flag::Flagged, "\\Flagged"),
    (Flag::Deleted, "\\Deleted"),
    (Flag::Draft, "\\Draft"),
    (Flag::Forwarded, "$Forwarded"),
    (Flag::Junk, "$Junk"),
    (Flag::NotJunk, "$NotJunk"),
    (Flag::Phishing, "$Phishing"),
    (Flag::MdnSent, "$MDNSent"),
];

impl Flag {
    fn named(name: &str) -> Option<Self> {
        NAMED.iter().find(|(_, n)| n.eq_ignore_ascii_case(name)).map(|(flag, _)| flag.clone())
    }

    /// What a keyword, an atom without backslash, stands for: five of them have flags of their own.
    pub fn keyword(name: &str) -> Self {
        Self::named(name).unwrap_or_else(|| Self::Keyword(name.to_ascii_lowercase()))
    }

    /// As it is printed.
    pub fn name(&self) -> &str {
        match self {
            Self::Keyword(k) => k,
            other => NAMED.iter().find(|(flag, _)| flag == other).map_or("", |(_, name)| name),
        }
    }
}

/// `flag = "\Answered" / "\Flagged" / "\Deleted" / "\Seen" / "\Draft" / flag-keyword`, RFC 9051 §9. `\Recent` and
/// unknown flags with a backslash are bad: no client may set them.
pub fn flag(c: &mut Cursor<'_>) -> Parsed<Flag> {
    let start = c.clone();
    if c.eat(b'\\') {
        let name = atom(c)?;
        return Flag::named(&format!("\\{name}")).map_or_else(|| start.bad("a flag that can be set"), Ok);
    }
    atom(c).map(|name| Flag::keyword(&name))
}

/// `flag-list = "(" [flag *(SP flag)] ")"`, RFC 9051 §9.
pub fn flag_list(c: &mut Cursor<'_>) -> Parsed<Vec<Flag>> {
    list0(c, flag)
}

/// `flag-list / (flag *(SP flag))`, the flags of STORE, RFC 9051 §9.
pub fn store_flags(c: &mut Cursor<'_>) -> Parsed<Vec<Flag>> {
    if c.peek() == Some(b'(') { flag_list(c) } else { spaced(c, flag) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        let parse = |text: &str| store_flags(&mut Cursor::new(text.as_bytes())).ok();
        assert_eq!(parse("(\\seen $junk Foo)"), Some(vec![Flag::Seen, Flag::Junk, Flag::Keyword("foo".into())]));
        assert_eq!(parse("()"), Some(vec![]));
        assert_eq!(parse("\\Deleted \\Draft"), Some(vec![Flag::Deleted, Flag::Draft]));
        assert_eq!(parse("\\Recent"), None);
        assert_eq!(parse("\\Other"), None);
        assert_eq!(Flag::MdnSent.name(), "$MDNSent");
    }
}
