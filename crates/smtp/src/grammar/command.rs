//! Verbs, and the commands with little syntax: HELO, EHLO, AUTH, BDAT and those with a string or nothing.

use super::cursor::{Bad, Cursor, text};
use super::{Dialect, path};
use base64::Engine as _;
use base64::alphabet::STANDARD as ALPHABET;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use mox_base::{Domain, Host};
use std::fmt;

/// The verbs that the server knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// RFC 5321 §4.1.1.1.
    Helo,
    /// RFC 5321 §4.1.1.1.
    Ehlo,
    /// RFC 3207.
    Starttls,
    /// RFC 4954.
    Auth,
    /// RFC 5321 §4.1.1.2.
    Mail,
    /// RFC 5321 §4.1.1.3.
    Rcpt,
    /// RFC 5321 §4.1.1.4.
    Data,
    /// RFC 3030 §2.
    Bdat,
    /// RFC 5321 §4.1.1.5.
    Rset,
    /// RFC 5321 §4.1.1.6.
    Vrfy,
    /// RFC 5321 §4.1.1.7.
    Expn,
    /// RFC 5321 §4.1.1.8.
    Help,
    /// RFC 5321 §4.1.1.9.
    Noop,
    /// RFC 5321 §4.1.1.10.
    Quit,
}

impl Verb {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Helo,
        Self::Ehlo,
        Self::Starttls,
        Self::Auth,
        Self::Mail,
        Self::Rcpt,
        Self::Data,
        Self::Bdat,
        Self::Rset,
        Self::Vrfy,
        Self::Expn,
        Self::Help,
        Self::Noop,
        Self::Quit,
    ];

    /// In upper case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Helo => "HELO",
            Self::Ehlo => "EHLO",
            Self::Starttls => "STARTTLS",
            Self::Auth => "AUTH",
            Self::Mail => "MAIL",
            Self::Rcpt => "RCPT",
            Self::Data => "DATA",
            Self::Bdat => "BDAT",
            Self::Rset => "RSET",
            Self::Vrfy => "VRFY",
            Self::Expn => "EXPN",
            Self::Help => "HELP",
            Self::Noop => "NOOP",
            Self::Quit => "QUIT",
        }
    }

    /// Splits a line at the first space; the arguments keep it. None for a verb that we don't know.
    pub fn split(line: &[u8]) -> (Option<Self>, &[u8]) {
        let end = line.iter().position(|b| *b == b' ').unwrap_or(line.len());
        let (verb, arguments) = line.split_at_checked(end).unwrap_or((line, &[]));
        (Self::ALL.into_iter().find(|v| v.name().as_bytes().eq_ignore_ascii_case(verb)), arguments)
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// `SP Domain`.
///
/// # Errors
/// See [`Bad`].
pub fn helo(arguments: &[u8], dialect: &Dialect) -> Result<Domain, Bad> {
    let mut c = Cursor::new(arguments);
    c.expect(b' ', "space")?;
    let domain = path::domain(&mut c, true)?;
    c.end(dialect.trailing_space)?;
    Ok(domain)
}

/// `SP ( Domain / address-literal )`; after a literal anything may follow a space.
///
/// # Errors
/// See [`Bad`].
pub fn ehlo(arguments: &[u8], dialect: &Dialect) -> Result<Host, Bad> {
    let mut c = Cursor::new(arguments);
    c.expect(b' ', "space")?;
    if c.peek() != Some(b'[') {
        let domain = path::domain(&mut c, true)?;
        c.end(dialect.trailing_space)?;
        return Ok(Host::Domain(domain));
    }
    let untagged_v6 = c.rest().get(1..).is_some_and(|r| r.contains(&b':') && !r.to_ascii_lowercase().starts_with(b"ipv6:"));
    if dialect.strict && untagged_v6 {
        return Err(c.bad("tagged IPv6 address"));
    }
    let ip = path::address_literal(&mut c)?;
    if !c.is_at_end() {
        c.expect(b' ', "space or end of line")?;
    }
    Ok(Host::Ip(ip))
}

/// Nothing.
///
/// # Errors
/// See [`Bad`].
pub fn no_argument(arguments: &[u8], dialect: &Dialect) -> Result<(), Bad> {
    Cursor::new(arguments).end(dialect.trailing_space)
}

/// `SP String`, with at least one character.
///
/// # Errors
/// See [`Bad`].
pub fn one_string(arguments: &[u8]) -> Result<(), Bad> {
    let mut c = Cursor::new(arguments);
    c.expect(b' ', "space")?;
    c.take_some(|b| b > b' ', "string").map(|_| ())
}

/// `AUTH`, RFC 4954 §4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthCommand {
    /// The mechanism as it was written.
    pub mechanism: String,
    /// The initial response, decoded; `=` is an empty one.
    pub initial: Option<Vec<u8>>,
}

impl AuthCommand {
    /// The arguments after `AUTH`.
    ///
    /// # Errors
    /// See [`Bad`]. Mechanism names are upper case, RFC 4422 §3.1.
    pub fn parse(arguments: &[u8], dialect: &Dialect) -> Result<Self, Bad> {
        let mut c = Cursor::new(arguments);
        c.expect(b' ', "space")?;
        let name = c.take_while(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'));
        if !(1..=20).contains(&name.len()) {
            return Err(c.bad("mechanism in upper case"));
        }
        let mechanism = text(name, &c)?.to_owned();
        if c.is_at_end() {
            return Ok(Self { mechanism, initial: None });
        }
        c.expect(b' ', "space or end of line")?;
        if !dialect.strict {
            c.take_while(|b| b == b' ');
        }
        let start = c.clone();
        let data = c.take_some(|b| b > b' ', "initial response")?;
        c.end(dialect.trailing_space)?;
        let initial = if data == b"=" { Some(Vec::new()) } else { decode_base64(data) };
        match initial {
            Some(initial) => Ok(Self { mechanism, initial: Some(initial) }),
            None => Err(start.bad("base64")),
        }
    }
}

/// Base64 with or without padding, as real clients send it.
pub(crate) fn decode_base64(data: &[u8]) -> Option<Vec<u8>> {
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    GeneralPurpose::new(&ALPHABET, config).decode(data).ok()
}

/// `BDAT SP chunk-size [SP "LAST"]`, RFC 3030 §2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bdat {
    /// Octets that follow the line.
    pub size: u64,
    /// Whether the message ends with them.
    pub last: bool,
}

/// The arguments after `BDAT`.
///
/// # Errors
/// See [`Bad`].
pub fn bdat(arguments: &[u8], dialect: &Dialect) -> Result<Bdat, Bad> {
    let mut c = Cursor::new(arguments);
    c.expect(b' ', "space")?;
    let start = c.clone();
    let digits = c.take_some(|b| b.is_ascii_digit(), "chunk size")?;
    let size = text(digits, &start)?.parse().map_err(|_| start.bad("chunk size"))?;
    let last = c.take_text(" LAST");
    c.end(dialect.trailing_space)?;
    Ok(Bdat { size, last })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENIENT: Dialect = Dialect { strict: false, trailing_space: true, dsn: false, future_release: false, priority: false };
    const STRICT: Dialect = Dialect { strict: true, trailing_space: false, dsn: false, future_release: false, priority: false };

    #[test]
    fn verbs() {
        assert_eq!(Verb::split(b"mAiL FROM:<>"), (Some(Verb::Mail), b" FROM:<>".as_slice()));
        assert_eq!(Verb::split(b"QUIT"), (Some(Verb::Quit), b"".as_slice()));
        assert_eq!(Verb::split(b"GET / HTTP/1.1"), (None, b" / HTTP/1.1".as_slice()));
        assert_eq!(Verb::split(b""), (None, b"".as_slice()));
    }

    #[test]
    fn hello() {
        assert_eq!(helo(b" mox.example ", &LENIENT).unwrap().ascii(), "mox.example");
        assert!(helo(b" mox.example ", &STRICT).is_err());
        assert!(helo(b" [127.0.0.1]", &LENIENT).is_err());
        for (arguments, want) in [
            (" mox.example", "mox.example"),
            (" [127.0.0.1]", "[127.0.0.1]"),
            (" [IPv6:::1] some text", "[IPv6:::1]"),
            (" [127.0.0.1", "[127.0.0.1]"),
            (" [::1]", "[IPv6:::1]"),
        ] {
            assert_eq!(ehlo(arguments.as_bytes(), &LENIENT).unwrap().to_string(), want);
        }
        assert!(ehlo(b" [::1]", &STRICT).is_err());
        for arguments in ["", " ", " a_b.example", " mox.example x", " 127.0.0.1", " [127.0.0.1]x"] {
            assert!(ehlo(arguments.as_bytes(), &LENIENT).is_err(), "{arguments}");
        }
    }

    #[test]
    fn auth() {
        let parse = |text: &str, dialect: &Dialect| AuthCommand::parse(text.as_bytes(), dialect);
        let command = |initial: Option<&[u8]>| Ok(AuthCommand { mechanism: "PLAIN".to_owned(), initial: initial.map(<[u8]>::to_vec) });
        assert_eq!(parse(" PLAIN", &STRICT), command(None));
        assert_eq!(parse(" PLAIN =", &STRICT), command(Some(b"")));
        assert_eq!(parse(" PLAIN YWI=", &STRICT), command(Some(b"ab")));
        assert_eq!(parse(" PLAIN   YWI", &LENIENT), command(Some(b"ab")));
        for text in ["", " ", " plain", " PLAIN ", " PLAIN *", " PLAIN Y", " ABCDEFGHIJKLMNOPQRSTU", " PLAIN YWI= x"] {
            assert!(parse(text, &LENIENT).is_err(), "{text}");
        }
        assert!(parse(" PLAIN  YWI=", &STRICT).is_err());
    }

    #[test]
    fn chunks() {
        assert_eq!(bdat(b" 12", &STRICT), Ok(Bdat { size: 12, last: false }));
        assert_eq!(bdat(b" 0 last", &STRICT), Ok(Bdat { size: 0, last: true }));
        for text in ["", " ", " x", " 1 FIRST", " -1", " 99999999999999999999"] {
            assert!(bdat(text.as_bytes(), &STRICT).is_err(), "{text}");
        }
    }
}
