//! SPF records as text, RFC 7208 §4.6, §5 and §6, with its grammar in §12.
//!
//! A record is parsed as a whole before any of it is evaluated: a syntax error anywhere makes it unusable, RFC 7208 §4.6.

use super::macros::MacroString;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A parsed record.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct SpfRecord {
    /// The mechanisms with their qualifiers, in order.
    pub directives: Vec<Directive>,
    /// The domain whose record applies if nothing matches.
    pub redirect: Option<MacroString>,
    /// Where the explanation of a fail is.
    pub exp: Option<MacroString>,
}

/// A mechanism and what a match of it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directive {
    /// The result of a match.
    pub qualifier: Qualifier,
    /// What is matched.
    pub mechanism: Mechanism,
    /// As in the record.
    pub text: String,
}

/// The result of a match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qualifier {
    /// `+`, or none.
    Pass,
    /// `-`.
    Fail,
    /// `~`.
    Softfail,
    /// `?`.
    Neutral,
}

/// What is matched, RFC 7208 §5.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// Always matches.
    All,
    /// Matches where another domain's record passes.
    Include(MacroString),
    /// The addresses of a name.
    A(Option<MacroString>, Prefixes),
    /// The addresses of a name's mail exchangers.
    Mx(Option<MacroString>, Prefixes),
    /// Names of the client's address below a name.
    Ptr(Option<MacroString>),
    /// A network.
    Ip4(Ipv4Addr, u8),
    /// A network.
    Ip6(Ipv6Addr, u8),
    /// Whether a name has an IPv4 address.
    Exists(MacroString),
}

/// The lengths of prefixes: `/24//64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefixes {
    /// For IPv4.
    pub v4: u8,
    /// For IPv6.
    pub v6: u8,
}

/// Why a text is no SPF record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SyntaxError {
    /// It doesn't start with `v=spf1` and a space or the end.
    #[error("does not start with v=spf1")]
    Version,
    /// Something beyond printable ASCII.
    #[error("invalid character")]
    Character,
    /// A mechanism that doesn't exist.
    #[error("unknown mechanism {0:?}")]
    Mechanism(String),
    /// A macro that doesn't exist, or that isn't allowed there.
    #[error("invalid macro")]
    Macro,
    /// A domain that can't be one.
    #[error("invalid domain in {0:?}")]
    Domain(String),
    /// A missing or bad address.
    #[error("invalid address in {0:?}")]
    Address(String),
    /// A bad prefix length.
    #[error("invalid prefix length in {0:?}")]
    Prefix(String),
    /// Something behind a mechanism that takes nothing.
    #[error("unexpected text in {0:?}")]
    Trailing(String),
    /// `redirect` or `exp` twice.
    #[error("duplicate modifier {0:?}")]
    Duplicate(String),
}

impl SpfRecord {
    /// Whether a text is meant to be an SPF record, RFC 7208 §4.5.
    pub fn is_meant(text: &[u8]) -> bool {
        let (version, rest) = text.split_at_checked(6).unwrap_or((text, &[]));
        version.eq_ignore_ascii_case(b"v=spf1") && matches!(rest.first(), None | Some(b' '))
    }

    /// Parses the text of a TXT record.
    ///
    /// # Errors
    /// See [`SyntaxError`].
    pub fn parse(text: &[u8]) -> Result<Self, SyntaxError> {
        if !Self::is_meant(text) {
            return Err(SyntaxError::Version);
        }
        let text = std::str::from_utf8(text).map_err(|_| SyntaxError::Character)?;
        if !text.bytes().all(|b| matches!(b, b' '..=b'~')) {
            return Err(SyntaxError::Character);
        }
        let mut record = Self::default();
        for term in text.split(' ').skip(1).filter(|t| !t.is_empty()) {
            record.term(term)?;
        }
        Ok(record)
    }

    fn term(&mut self, term: &str) -> Result<(), SyntaxError> {
        let name_len = term.bytes().take_while(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b)).count();
        let (name, rest) = term.split_at(name_len);
        let Some(value) = rest.strip_prefix('=').filter(|_| name.starts_with(|c: char| c.is_ascii_alphabetic())) else {
            self.directives.push(term.parse()?);
            return Ok(());
        };
        let slot = match name.to_ascii_lowercase().as_str() {
            "redirect" => &mut self.redirect,
            "exp" => &mut self.exp,
            // RFC 7208 §6: unknown modifiers are ignored, but have to be well-formed.
            _ => return MacroString::parse(value, false).map(drop),
        };
        if slot.is_some() {
            return Err(SyntaxError::Duplicate(name.to_owned()));
        }
        *slot = Some(domain_spec(value, term)?);
        Ok(())
    }
}

/// `[ qualifier ] mechanism`.
impl FromStr for Directive {
    type Err = SyntaxError;

    fn from_str(term: &str) -> Result<Self, SyntaxError> {
        let (qualifier, rest) = match term.as_bytes().first() {
            Some(b'+') => (Qualifier::Pass, term.get(1..)),
            Some(b'-') => (Qualifier::Fail, term.get(1..)),
            Some(b'~') => (Qualifier::Softfail, term.get(1..)),
            Some(b'?') => (Qualifier::Neutral, term.get(1..)),
            _ => (Qualifier::Pass, Some(term)),
        };
        Ok(Self { qualifier, mechanism: mechanism(rest.unwrap_or_default(), term)?, text: term.to_owned() })
    }
}

fn mechanism(text: &str, term: &str) -> Result<Mechanism, SyntaxError> {
    let name_len = text.bytes().take_while(u8::is_ascii_alphanumeric).count();
    let (name, rest) = text.split_at(name_len);
    let argument = || rest.strip_prefix(':').ok_or_else(|| SyntaxError::Domain(term.to_owned()));
    Ok(match name.to_ascii_lowercase().as_str() {
        "all" if rest.is_empty() => Mechanism::All,
        "all" => return Err(SyntaxError::Trailing(term.to_owned())),
        "include" => Mechanism::Include(domain_spec(argument()?, term)?),
        "exists" => Mechanism::Exists(domain_spec(argument()?, term)?),
        "ptr" if rest.is_empty() => Mechanism::Ptr(None),
        "ptr" => Mechanism::Ptr(Some(domain_spec(argument()?, term)?)),
        kind @ ("a" | "mx") => {
            let (rest, prefixes) = dual_cidr_length(rest, term)?;
            let domain = if rest.is_empty() {
                None
            } else {
                let domain = rest.strip_prefix(':').ok_or_else(|| SyntaxError::Trailing(term.to_owned()))?;
                Some(domain_spec(domain, term)?)
            };
            if kind == "a" { Mechanism::A(domain, prefixes) } else { Mechanism::Mx(domain, prefixes) }
        }
        "ip4" => {
            let (address, length) = network(rest, term, 32)?;
            Mechanism::Ip4(address.parse().map_err(|_| SyntaxError::Address(term.to_owned()))?, length)
        }
        "ip6" => {
            let (address, length) = network(rest, term, 128)?;
            Mechanism::Ip6(address.parse().map_err(|_| SyntaxError::Address(term.to_owned()))?, length)
        }
        _ => return Err(SyntaxError::Mechanism(term.to_owned())),
    })
}

/// `":" address [ "/" length ]`.
fn network<'a>(rest: &'a str, term: &str, max: u8) -> Result<(&'a str, u8), SyntaxError> {
    let rest = rest.strip_prefix(':').ok_or_else(|| SyntaxError::Address(term.to_owned()))?;
    match rest.split_once('/') {
        Some((address, length)) => Ok((address, prefix_length(length, max, term)?)),
        None => Ok((rest, max)),
    }
}

/// A number without leading zeros, RFC 7208 §5.6 and §12.
fn prefix_length(text: &str, max: u8, term: &str) -> Result<u8, SyntaxError> {
    let bad = || SyntaxError::Prefix(term.to_owned());
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) || (text.len() > 1 && text.starts_with('0')) {
        return Err(bad());
    }
    text.parse().ok().filter(|n| *n <= max).ok_or_else(bad)
}

/// Splits `[ "/" v4 ] [ "//" v6 ]` off the end. A domain never ends that way: its last label is no number.
fn dual_cidr_length<'a>(text: &'a str, term: &str) -> Result<(&'a str, Prefixes), SyntaxError> {
    let mut prefixes = Prefixes { v4: 32, v6: 128 };
    let mut rest = text;
    let tail = |text: &'a str| -> Option<(&'a str, &'a str)> {
        let (before, digits) = text.rsplit_once('/')?;
        // Inside of a macro, a slash is a delimiter.
        (!digits.contains(['}', '.'])).then_some((before, digits))
    };
    if let Some((before, digits)) = tail(rest)
        && let Some(before) = before.strip_suffix('/')
    {
        prefixes.v6 = prefix_length(digits, 128, term)?;
        rest = before;
    }
    if let Some((before, digits)) = tail(rest) {
        prefixes.v4 = prefix_length(digits, 32, term)?;
        rest = before;
    }
    Ok((rest, prefixes))
}

/// `macro-string domain-end`: it ends in a macro, or in a label that isn't only digits.
fn domain_spec(text: &str, term: &str) -> Result<MacroString, SyntaxError> {
    let parsed = MacroString::parse(text, false)?;
    let bad = || SyntaxError::Domain(term.to_owned());
    if text.is_empty() {
        return Err(bad());
    }
    let ends_in_macro = text.ends_with('}') || ["%%", "%_", "%-"].iter().any(|m| text.ends_with(m));
    if ends_in_macro {
        return Ok(parsed);
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    let (before, label) = name.rsplit_once('.').ok_or_else(bad)?;
    let bytes = label.as_bytes();
    let letters = bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-');
    let top = letters
        && !label.starts_with('-')
        && !label.ends_with('-')
        && !label.is_empty()
        && (label.contains('-') || bytes.iter().any(u8::is_ascii_alphabetic));
    if top && !before.is_empty() { Ok(parsed) } else { Err(bad()) }
}

impl fmt::Display for Qualifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pass => "+",
            Self::Fail => "-",
            Self::Softfail => "~",
            Self::Neutral => "?",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mechanisms(text: &str) -> Vec<Mechanism> {
        SpfRecord::parse(text.as_bytes()).unwrap().directives.into_iter().map(|d| d.mechanism).collect()
    }

    #[test]
    fn parses() {
        let m = |text| MacroString::parse(text, false).unwrap();
        assert_eq!(
            mechanisms("V=SPF1 +a/24//64 mx:x.example//48 a:%{d/}/8 Ptr exists:%{i}.x.example. ip4:192.0.2.0/24 ip6:2001:db8::/32 -all "),
            [
                Mechanism::A(None, Prefixes { v4: 24, v6: 64 }),
                Mechanism::Mx(Some(m("x.example")), Prefixes { v4: 32, v6: 48 }),
                Mechanism::A(Some(m("%{d/}")), Prefixes { v4: 8, v6: 128 }),
                Mechanism::Ptr(None),
                Mechanism::Exists(m("%{i}.x.example.")),
                Mechanism::Ip4("192.0.2.0".parse().unwrap(), 24),
                Mechanism::Ip6("2001:db8::".parse().unwrap(), 32),
                Mechanism::All,
            ]
        );
        let r = SpfRecord::parse(b"v=spf1 redirect=_spf.x.example exp=e.x.example un-known=%{d}").unwrap();
        assert_eq!((r.redirect, r.exp), (Some(m("_spf.x.example")), Some(m("e.x.example"))));
        assert!(SpfRecord::parse(b"v=spf1").unwrap().directives.is_empty());
    }

    #[test]
    fn refuses() {
        for text in [
            "v=spf10",
            "v=spf1x all",
            "v=spf1 all:x.example",
            "v=spf1 foo",
            "v=spf1 include",
            "v=spf1 include:",
            "v=spf1 include:example",
            "v=spf1 include:x.123",
            "v=spf1 include:x.example/24",
            "v=spf1 a:x.example:8080",
            "v=spf1 a/33",
            "v=spf1 a/",
            "v=spf1 a//129",
            "v=spf1 a/01",
            "v=spf1 a/24/64",
            "v=spf1 ip4",
            "v=spf1 ip4:1.2.3",
            "v=spf1 ip4:1.2.3.4/33",
            "v=spf1 ip6:::1//64",
            "v=spf1 ptr/24",
            "v=spf1 exp=x.example exp=x.example",
            "v=spf1 redirect=a.example redirect=b.example",
            "v=spf1 redirect=",
            "v=spf1 x=%",
            "v=spf1 a:%{r}.example",
            "v=spf1 a\tall",
            "v=spf1 ++all",
            "v=spf1 é",
        ] {
            assert!(SpfRecord::parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _parsed = SpfRecord::parse(&[b"v=spf1 ".as_slice(), &bytes].concat());
        }

        #[test]
        fn any_terms(text in "(v=spf1 )([-+~?]?(a|mx|ip4|ip6|include|exists|ptr|exp|redirect)[:=/]?[%{}a-z0-9./:]{0,12} ){0,4}") {
            let _parsed = SpfRecord::parse(text.as_bytes());
        }
    }
}
