//! Address lists of header fields, RFC 5322 §3.4 with the UTF-8 of RFC 6532.
//!
//! One parser serves everyone: it always gives what it could make out, and says whether the text was entirely well-formed. Showing a
//! message takes the former, deciding by its author insists on the latter. It works in one pass without recursion: 100,000
//! addresses take linear time, nested comments take a counter.

use crate::encoded_word;
use mox_base::localpart::is_atext;
use mox_base::{Address, Domain, Localpart};

/// A mailbox of an address list.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Mailbox {
    /// The display name as in the header, without quotes; encoded words are not decoded. Empty if there is none.
    pub name: String,
    /// The localpart without quotes. Empty (with an empty host) if there was no address but only a name.
    pub localpart: String,
    /// The domain, or an address literal in brackets, as in the header.
    pub host: String,
}

impl Mailbox {
    /// The display name with encoded words decoded.
    pub fn decoded_name(&self) -> String {
        if self.name.contains("=?") { encoded_word::decode(self.name.as_bytes()) } else { self.name.clone() }
    }

    /// The address, if it is a valid one with a domain.
    pub fn address(&self) -> Option<Address> {
        if self.localpart.is_empty() && self.host.is_empty() {
            return None;
        }
        Some(Address::new(Localpart::from_decoded(&self.localpart).ok()?, Domain::parse(&self.host).ok()?))
    }

    /// The host in ASCII, as ENVELOPE shows it; as it is where it is no valid domain.
    pub fn ascii_host(&self) -> String {
        if self.host.is_ascii() {
            return self.host.clone();
        }
        Domain::parse(&self.host).map_or_else(|_| self.host.clone(), |d| d.ascii().to_owned())
    }
}

/// A member of an address list.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AddressEntry {
    /// One mailbox.
    Mailbox(Mailbox),
    /// `name: members;`.
    Group {
        /// The group's name, without quotes; encoded words are not decoded.
        name: String,
        /// Its members, maybe none.
        members: Vec<Mailbox>,
    },
}

/// An address list.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct AddressList(pub Vec<AddressEntry>);

/// Why a text isn't a well-formed address list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed address list")]
pub struct AddressListError;

impl AddressList {
    /// All mailboxes, groups flattened.
    pub fn mailboxes(&self) -> impl Iterator<Item = &Mailbox> {
        self.0.iter().flat_map(|entry| match entry {
            AddressEntry::Mailbox(mailbox) => std::slice::from_ref(mailbox),
            AddressEntry::Group { members, .. } => members.as_slice(),
        })
    }

    /// Whether there is nothing, not even a group without members.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What can be made out of an unfolded field value. Never fails: a piece that is no mailbox becomes a name without address.
    pub fn parse_lenient(text: &str) -> Self {
        Parser::new(text).list().0
    }

    /// The list, if the text is one by the grammar, obsolete forms included.
    ///
    /// # Errors
    /// See [`AddressListError`].
    pub fn parse(text: &str) -> Result<Self, AddressListError> {
        match Parser::new(text).list() {
            (list, true) => Ok(list),
            (_, false) => Err(AddressListError),
        }
    }
}

/// Whether a text can be the domain of an address without further ado.
pub(crate) fn is_plain_address(domain: &str) -> bool {
    Domain::parse_lax(domain).is_ok()
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    well_formed: bool,
    /// The last comment seen within the current mailbox: old software puts the name there.
    comment: String,
}

/// What a phrase or localpart is made of.
struct Word {
    text: String,
    quoted: bool,
    /// Whether white space or a comment came before it.
    spaced: bool,
}

impl<'a> Parser<'a> {
    const fn new(text: &'a str) -> Self {
        Self { text, at: 0, well_formed: true, comment: String::new() }
    }

    fn peek(&self) -> Option<char> {
        self.text.get(self.at..)?.chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at = self.at.saturating_add(c.len_utf8());
        Some(c)
    }

    /// `CFWS`, RFC 5322 §3.2.2. True if there was any.
    fn skip_space(&mut self) -> bool {
        let from = self.at;
        loop {
            match self.peek() {
                Some(c) if c.is_ascii_whitespace() => {
                    self.bump();
                }
                Some('(') => self.skip_comment(),
                _ => return self.at > from,
            }
        }
    }

    fn skip_comment(&mut self) {
        let mut depth = 0_usize;
        let mut content = String::new();
        while let Some(c) = self.bump() {
            match c {
                '(' => depth = depth.saturating_add(1),
                ')' => depth = depth.saturating_sub(1),
                '\\' => content.extend(self.bump()),
                _ => content.push(c),
            }
            if depth == 0 {
                content.trim().clone_into(&mut self.comment);
                return;
            }
        }
        self.well_formed = false;
    }

    /// `address-list`, with empty members as in `obs-addr-list`.
    fn list(mut self) -> (AddressList, bool) {
        let mut entries = Vec::new();
        let mut group: Option<(String, Vec<Mailbox>)> = None;
        let mut separated = true;
        loop {
            self.skip_space();
            match self.peek() {
                None => break,
                Some(',') => {
                    self.bump();
                    separated = true;
                    continue;
                }
                Some(';') => {
                    self.bump();
                    match group.take() {
                        Some((name, members)) => {
                            entries.push(AddressEntry::Group { name, members });
                            separated = false;
                        }
                        // Some software separates with semicolons.
                        None => {
                            self.well_formed = false;
                            separated = true;
                        }
                    }
                    continue;
                }
                Some(_) => {}
            }
            if !separated {
                self.well_formed = false;
            }
            separated = false;
            self.comment.clear();
            let words = self.words(false);
            if self.peek() == Some(':') && group.is_none() {
                self.bump();
                if words.is_empty() {
                    self.well_formed = false;
                }
                group = Some((phrase(&words), Vec::new()));
                separated = true;
                continue;
            }
            let mailbox = self.mailbox(words);
            match &mut group {
                Some((_, members)) => members.push(mailbox),
                None => entries.push(AddressEntry::Mailbox(mailbox)),
            }
        }
        if let Some((name, members)) = group {
            self.well_formed = false;
            entries.push(AddressEntry::Group { name, members });
        }
        (AddressList(entries), self.well_formed)
    }

    /// Words up to the next special that isn't a dot; within angle brackets also up to their end.
    fn words(&mut self, in_brackets: bool) -> Vec<Word> {
        let mut words: Vec<Word> = Vec::new();
        loop {
            let spaced = self.skip_space();
            match self.peek() {
                Some('"') => {
                    let text = self.quoted_string();
                    words.push(Word { text, quoted: true, spaced });
                }
                None | Some('<' | '@' | ',' | ';' | ':') => return words,
                Some('>') if in_brackets => return words,
                Some(_) => {
                    let text = self.atom(in_brackets);
                    words.push(Word { text, quoted: false, spaced });
                }
            }
        }
    }

    /// A run of atoms and dots (a dot in a phrase is `obs-phrase`). Anything else that isn't special here is taken along.
    fn atom(&mut self, in_brackets: bool) -> String {
        let from = self.at;
        while let Some(c) = self.peek() {
            if c.is_ascii_whitespace() || matches!(c, '"' | '(' | '<' | '@' | ',' | ';' | ':') || (in_brackets && c == '>') {
                break;
            }
            if !is_atext(c) && c != '.' {
                self.well_formed = false;
            }
            self.bump();
        }
        self.text.get(from..self.at).unwrap_or_default().to_owned()
    }

    fn quoted_string(&mut self) -> String {
        self.bump();
        let mut out = String::new();
        while let Some(c) = self.bump() {
            match c {
                '"' => return out,
                '\\' => out.extend(self.bump()),
                _ => out.push(c),
            }
        }
        self.well_formed = false;
        out
    }

    /// `mailbox = name-addr / addr-spec`, after the words it starts with.
    fn mailbox(&mut self, words: Vec<Word>) -> Mailbox {
        match self.peek() {
            Some('<') => self.angle_addr(phrase(&words)),
            Some('@') => {
                let (name, localpart) = self.split_localpart(words);
                let host = self.at_domain();
                self.skip_space();
                if self.peek() == Some('<') {
                    // `a@b <c@d>`: the unquoted address is a name.
                    self.well_formed = false;
                    let mut shown = format!("{localpart}@{host}");
                    if !name.is_empty() {
                        shown = format!("{name} {shown}");
                    }
                    return self.angle_addr(shown);
                }
                let name = if name.is_empty() { std::mem::take(&mut self.comment) } else { name };
                self.complete(name, localpart, host)
            }
            _ => {
                self.well_formed = false;
                if self.peek() == Some(':') {
                    // A colon in a group has no meaning.
                    self.bump();
                }
                Mailbox { name: phrase(&words), ..Mailbox::default() }
            }
        }
    }

    /// `angle-addr = "<" [obs-route] addr-spec ">"`.
    fn angle_addr(&mut self, name: String) -> Mailbox {
        self.bump();
        self.skip_space();
        // obs-route: `@a,@b:`, RFC 5322 §4.4. Skipped.
        while let Some('@' | ',') = self.peek() {
            if self.peek() == Some('@') {
                self.at_domain();
            } else {
                self.bump();
            }
            self.skip_space();
            if self.peek() == Some(':') {
                self.bump();
                break;
            }
        }
        let words = self.words(true);
        let (extra, localpart) = self.split_localpart(words);
        if !extra.is_empty() {
            self.well_formed = false;
        }
        let mut host = String::new();
        if self.peek() == Some('@') {
            host = self.at_domain();
        } else {
            self.well_formed = false;
        }
        self.skip_space();
        if self.peek() == Some('>') {
            self.bump();
        } else {
            self.well_formed = false;
            // Go on behind the bracket, unless the next address comes first.
            while let Some(c) = self.peek() {
                if matches!(c, ',' | ';' | '<') {
                    break;
                }
                self.bump();
                if c == '>' {
                    break;
                }
            }
        }
        self.complete(name, localpart, host)
    }

    fn complete(&mut self, name: String, localpart: String, host: String) -> Mailbox {
        if host.is_empty() {
            self.well_formed = false;
        }
        // Without a host there is no address: what was there is kept as name. RFC 9051 uses a NIL host for groups.
        if host.is_empty() && !localpart.is_empty() {
            let name = if name.is_empty() { localpart } else { name };
            return Mailbox { name, ..Mailbox::default() };
        }
        Mailbox { name, localpart, host }
    }

    /// Takes the localpart off the end of words, RFC 5322 §3.4.1: words joined by dots, which in `obs-local-part` may have
    /// white space around them. What is left is a name.
    fn split_localpart(&mut self, mut words: Vec<Word>) -> (String, String) {
        let mut parts: Vec<Word> = Vec::new();
        while let Some(word) = words.pop() {
            let joins = match parts.last() {
                None => true,
                Some(next) => {
                    (!next.spaced && !next.quoted) || word.ends_in_dot() || next.starts_with_dot() || (!next.spaced && word.quoted)
                }
            };
            if !joins {
                words.push(word);
                break;
            }
            parts.push(word);
        }
        parts.reverse();
        let localpart: String = parts.iter().map(|w| w.text.as_str()).collect();
        let dots_in_order = parts.iter().any(|w| w.quoted) || (!localpart.is_empty() && !localpart.split('.').any(str::is_empty));
        if parts.is_empty() || !dots_in_order || !words.is_empty() {
            self.well_formed = false;
        }
        (phrase(&words), localpart)
    }

    /// `"@" domain`, with comments and white space around its parts as in `obs-domain`.
    fn at_domain(&mut self) -> String {
        self.bump();
        self.skip_space();
        let mut host = String::new();
        if self.peek() == Some('[') {
            while let Some(c) = self.peek() {
                if c == '>' || c == ',' {
                    break;
                }
                self.bump();
                if !c.is_ascii_whitespace() {
                    host.push(c);
                }
                if c == ']' {
                    return host;
                }
            }
            self.well_formed = false;
            return host;
        }
        loop {
            let from = self.at;
            while let Some(c) = self.peek() {
                if !is_atext(c) && c != '.' {
                    break;
                }
                self.bump();
            }
            let piece = self.text.get(from..self.at).unwrap_or_default();
            host.push_str(piece);
            let mark = self.at;
            self.skip_space();
            let goes_on = host.ends_with('.') && self.peek().is_some_and(is_atext) || self.peek() == Some('.');
            if piece.is_empty() || !goes_on {
                // White space was maybe the end of the address; comments seen stay known as its name.
                if self.at == mark && self.peek().is_some_and(|c| !matches!(c, ',' | ';' | '>' | ':' | '<' | '@')) {
                    self.well_formed = false;
                    self.bump();
                }
                break;
            }
        }
        if host.split('.').any(str::is_empty) {
            self.well_formed = false;
        }
        host
    }
}

impl Word {
    fn ends_in_dot(&self) -> bool {
        !self.quoted && self.text.ends_with('.')
    }

    fn starts_with_dot(&self) -> bool {
        !self.quoted && self.text.starts_with('.')
    }
}

/// Words as a display name.
fn phrase(words: &[Word]) -> String {
    let mut out = String::new();
    for word in words {
        if !out.is_empty() && word.spaced {
            out.push(' ');
        }
        out.push_str(&word.text);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn show(list: &AddressList) -> String {
        let mailbox = |m: &Mailbox| format!("{}|{}|{}", m.decoded_name(), m.localpart, m.host);
        let entries: Vec<String> = list
            .0
            .iter()
            .map(|e| match e {
                AddressEntry::Mailbox(m) => mailbox(m),
                AddressEntry::Group { name, members } => format!("{name}:[{}]", members.iter().map(mailbox).collect::<Vec<_>>().join(",")),
            })
            .collect();
        entries.join(" ")
    }

    #[test]
    fn well_formed() {
        for (text, want) in [
            ("a@b.example", "|a|b.example"),
            ("John Doe <jdoe@machine.example>", "John Doe|jdoe|machine.example"),
            ("\"Joe Q. Public\" <john.q.public@example.com>", "Joe Q. Public|john.q.public|example.com"),
            ("Mary Smith <mary@x.test>, jdoe@example.org, Who? <one@y.test>", "Mary Smith|mary|x.test |jdoe|example.org Who?|one|y.test"),
            (
                "<boss@nil.test>, \"Giant; \\\"Big\\\" Box\" <sysservices@example.net>",
                "|boss|nil.test Giant; \"Big\" Box|sysservices|example.net",
            ),
            (
                "A Group:Ed Jones <c@a.test>,joe@where.test,John <jdoe@one.test>;",
                "A Group:[Ed Jones|c|a.test,|joe|where.test,John|jdoe|one.test]",
            ),
            ("Undisclosed recipients:;", "Undisclosed recipients:[]"),
            ("Pete(A nice \\) chap) <pete(his account)@silly.test(his host)>", "Pete|pete|silly.test"),
            ("Joe Q. Public <john.q.public@example.com>", "Joe Q. Public|john.q.public|example.com"),
            ("Mary Smith <@node.test,@b.test:mary@example.net>, , jdoe@test  . example", "Mary Smith|mary|example.net |jdoe|test.example"),
            ("jdoe@example.org (John Doe)", "John Doe|jdoe|example.org"),
            ("\"a b\"@example.org", "|a b|example.org"),
            ("\"\"@example.org", "||example.org"),
            ("x@[192.0.2.1]", "|x|[192.0.2.1]"),
            ("=?utf-8?q?J=C3=B6rg?= <j@x.example>", "Jörg|j|x.example"),
            ("Jörg <jörg@bücher.example>", "Jörg|jörg|bücher.example"),
            ("", ""),
        ] {
            assert_eq!(AddressList::parse(text).map(|l| show(&l)).as_deref(), Ok(want), "{text}");
        }
    }

    #[test]
    fn lenient() {
        for (text, want) in [
            ("a@b.example c@d.example", "|a|b.example |c|d.example"),
            ("a@b.example; c@d.example", "|a|b.example |c|d.example"),
            ("a@b.example <c@d.example>", "a@b.example|c|d.example"),
            ("nobody", "nobody||"),
            ("<nobody>", "nobody||"),
            ("John <john@example.org", "John|john|example.org"),
            ("\"John <john@example.org>", "John <john@example.org>||"),
            ("John jd@example.org", "John|jd|example.org"),
            ("List: a@b.example", "List:[|a|b.example]"),
            ("a..b@example.org", "|a..b|example.org"),
            ("[x] y <a@b.example>", "[x] y|a|b.example"),
            ("<a@b.example> junk, c@d.example", "|a|b.example junk|| |c|d.example"),
            ("a@b@c.example", "|a|b ||c.example"),
        ] {
            assert_eq!(show(&AddressList::parse_lenient(text)), want, "{text}");
            assert_eq!(AddressList::parse(text), Err(AddressListError), "{text}");
        }
    }

    #[test]
    fn hundred_thousand_addresses_and_deep_comments() {
        let list = "a@b.example, ".repeat(100_000);
        assert_eq!(AddressList::parse_lenient(&list).mailboxes().count(), 100_000);
        let deep = format!("{}{} a@b.example", "(".repeat(300_000), ")".repeat(300_000));
        assert_eq!(AddressList::parse_lenient(&deep).mailboxes().count(), 1);
        AddressList::parse_lenient(&"<".repeat(300_000));
        AddressList::parse_lenient(&"a ".repeat(300_000));
        AddressList::parse_lenient(&"@".repeat(300_000));
    }

    proptest! {
        #[test]
        fn any_text(text in "[a@<>,;:.\"\\\\() \\[\\]é=?]{0,40}") {
            let lenient = AddressList::parse_lenient(&text);
            if let Ok(strict) = AddressList::parse(&text) {
                prop_assert_eq!(strict, lenient);
            }
        }
    }
}
