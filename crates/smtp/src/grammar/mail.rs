//! `MAIL FROM:<reverse-path> [parameters]`, RFC 5321 §4.1.1.2.

use super::cursor::{Bad, Cursor, text};
use super::{CommandError, Dialect, path, xtext};
use mox_base::{Path, Timestamp};
use std::fmt;

/// The command, without its verb.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mail {
    /// The reverse-path; none for the null one, `<>`.
    pub from: Option<Path>,
    /// The parameters.
    pub parameters: MailParameters,
}

/// The parameters of the extensions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MailParameters {
    /// RFC 1870.
    pub size: Option<u64>,
    /// RFC 6152.
    pub body: Option<Body>,
    /// RFC 4954 §5: who submitted the message first; decoded, empty for `<>`. We don't use it.
    pub auth: Option<String>,
    /// RFC 6531.
    pub smtputf8: bool,
    /// RFC 8689.
    pub requiretls: bool,
    /// RFC 4865.
    pub hold: Option<Hold>,
    /// RFC 3461 §4.3.
    pub ret: Option<Return>,
    /// RFC 3461 §4.4, decoded.
    pub envid: Option<String>,
}

/// How the message may use octets, RFC 6152 §2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// ASCII.
    SevenBit,
    /// All octets, in lines.
    EightBitMime,
}

/// How long to hold a message, RFC 4865 §4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// For this many seconds.
    For(u32),
    /// Until this moment.
    Until(Timestamp),
}

/// How much of the message a DSN returns, RFC 3461 §4.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Return {
    /// All of it.
    Full,
    /// Its header section.
    Headers,
}

impl Mail {
    /// The arguments after `MAIL`.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub fn parse(arguments: &[u8], dialect: &Dialect) -> Result<Self, CommandError> {
        let mut c = Cursor::new(arguments);
        c.expect(b' ', "space")?;
        if !c.take_text("FROM:") {
            return Err(c.bad("FROM:").into());
        }
        if !dialect.strict {
            c.take(b' ');
        }
        let start = c.clone();
        let raw = path::bracketed(&mut c)?;
        let mut parameters = MailParameters::default();
        while let Some((keyword, value)) = parameter(&mut c, dialect)? {
            parameters.set(&keyword, value, dialect, &c)?;
        }
        // SMTPUTF8 applies to the path before it.
        let from = match raw {
            [] => None,
            raw => Some(path::path(raw, dialect, parameters.smtputf8).map_err(|e| shift(e, &start))?),
        };
        Ok(Self { from, parameters })
    }
}

/// Makes the place of an error within a path one within the line.
fn shift(error: CommandError, path: &Cursor<'_>) -> CommandError {
    match error {
        CommandError::Syntax(bad) => {
            let at = path.bad("").at.saturating_add(1).saturating_add(bad.at);
            CommandError::Syntax(Bad { at, ..bad })
        }
        other => other,
    }
}

/// `SP esmtp-keyword ["=" esmtp-value]`; the keyword in upper case. None at the end of the line.
pub(super) fn parameter<'a>(c: &mut Cursor<'a>, dialect: &Dialect) -> Result<Option<(String, Option<&'a str>)>, Bad> {
    let mut ahead = c.clone();
    if ahead.end(dialect.trailing_space).is_ok() {
        *c = ahead;
        return Ok(None);
    }
    c.expect(b' ', "space or end of line")?;
    if !c.peek().is_some_and(|b| b.is_ascii_alphanumeric()) {
        return Err(c.bad("parameter"));
    }
    let keyword = c.take_while(|b| b.is_ascii_alphanumeric() || b == b'-');
    let keyword = text(keyword, c)?.to_ascii_uppercase();
    let value = if c.take(b'=') {
        let value = c.take_some(|b| b > b' ' && b != b'=' && b != 0x7f, "parameter value")?;
        Some(text(value, c)?)
    } else {
        None
    };
    Ok(Some((keyword, value)))
}

impl MailParameters {
    fn set(&mut self, keyword: &str, value: Option<&str>, dialect: &Dialect, c: &Cursor<'_>) -> Result<(), CommandError> {
        let need = |expected| value.ok_or_else(|| c.bad(expected));
        let none = |given: Option<&str>| if given.is_some() { Err(c.bad("no value")) } else { Ok(true) };
        match keyword {
            "SIZE" => once(&mut self.size, "SIZE", size(need("size")?).ok_or_else(|| c.bad("size of 1 to 20 digits"))?),
            "BODY" => {
                let body = match need("body type")?.to_ascii_uppercase().as_str() {
                    "7BIT" => Body::SevenBit,
                    "8BITMIME" => Body::EightBitMime,
                    _ => return Err(CommandError::BodyType),
                };
                once(&mut self.body, "BODY", body)
            }
            "AUTH" => {
                let value = need("mailbox or <>")?;
                let decoded = if value == "<>" { Some(Vec::new()) } else { xtext::decode(value) };
                let decoded = decoded.ok_or_else(|| c.bad("xtext"))?;
                once(&mut self.auth, "AUTH", String::from_utf8(decoded).map_err(|_| c.bad("UTF-8"))?)
            }
            "SMTPUTF8" => flag(&mut self.smtputf8, "SMTPUTF8", none(value)?),
            "REQUIRETLS" => flag(&mut self.requiretls, "REQUIRETLS", none(value)?),
            "HOLDFOR" if dialect.future_release => {
                let value = need("seconds")?;
                // RFC 4865 §4: 1 to 9 digits, the first not zero.
                let good = value.len() <= 9 && !value.starts_with('0') && value.bytes().all(|b| b.is_ascii_digit());
                let seconds = value.parse().ok().filter(|_| good).ok_or_else(|| c.bad("1 to 9 digits"))?;
                once(&mut self.hold, "HOLDFOR or HOLDUNTIL", Hold::For(seconds))
            }
            "HOLDUNTIL" if dialect.future_release => {
                let value = need("date and time")?;
                // RFC 4865 §4: UTC only.
                let until = Timestamp::parse_rfc3339(value).filter(|_| value.contains('T') && value.ends_with('Z'));
                once(&mut self.hold, "HOLDFOR or HOLDUNTIL", Hold::Until(until.ok_or_else(|| c.bad("date and time in UTC"))?))
            }
            "RET" if dialect.dsn => {
                let ret = match need("FULL or HDRS")?.to_ascii_uppercase().as_str() {
                    "FULL" => Return::Full,
                    "HDRS" => Return::Headers,
                    _ => return Err(c.bad("FULL or HDRS").into()),
                };
                once(&mut self.ret, "RET", ret)
            }
            "ENVID" if dialect.dsn => {
                let value = need("envelope id")?;
                // RFC 3461 §4.4: at most 100 characters, and decoding to printable ASCII.
                let decoded = xtext::decode(value).filter(|v| value.len() <= 100 && v.iter().all(|b| (b' '..=b'~').contains(b)));
                let decoded = decoded.and_then(|v| String::from_utf8(v).ok()).ok_or_else(|| c.bad("xtext"))?;
                once(&mut self.envid, "ENVID", decoded)
            }
            _ => Err(CommandError::UnknownParameter),
        }
    }
}

/// `size-value`, RFC 1870 §4: 1 to 20 digits. More than 64 bits is as good as the largest number.
fn size(value: &str) -> Option<u64> {
    let digits = (1..=20).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| value.parse().unwrap_or(u64::MAX))
}

pub(super) fn once<T>(slot: &mut Option<T>, name: &'static str, value: T) -> Result<(), CommandError> {
    if slot.replace(value).is_some() { Err(CommandError::Duplicate(name)) } else { Ok(()) }
}

fn flag(slot: &mut bool, name: &'static str, value: bool) -> Result<(), CommandError> {
    if std::mem::replace(slot, value) { Err(CommandError::Duplicate(name)) } else { Ok(()) }
}

/// As on the wire, with the verb, without CRLF.
impl fmt::Display for Mail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let p = &self.parameters;
        let from = self.from.as_ref().map(|path| path.for_smtputf8(p.smtputf8)).unwrap_or_default();
        write!(f, "MAIL FROM:<{from}>")?;
        if let Some(size) = p.size {
            write!(f, " SIZE={size}")?;
        }
        match p.body {
            Some(Body::SevenBit) => f.write_str(" BODY=7BIT")?,
            Some(Body::EightBitMime) => f.write_str(" BODY=8BITMIME")?,
            None => {}
        }
        match p.auth.as_deref() {
            Some("") => f.write_str(" AUTH=<>")?,
            Some(auth) => write!(f, " AUTH={}", xtext::encode(auth.as_bytes()))?,
            None => {}
        }
        if p.smtputf8 {
            f.write_str(" SMTPUTF8")?;
        }
        if p.requiretls {
            f.write_str(" REQUIRETLS")?;
        }
        match p.hold {
            Some(Hold::For(seconds)) => write!(f, " HOLDFOR={seconds}")?,
            Some(Hold::Until(time)) => write!(f, " HOLDUNTIL={time}")?,
            None => {}
        }
        match p.ret {
            Some(Return::Full) => f.write_str(" RET=FULL")?,
            Some(Return::Headers) => f.write_str(" RET=HDRS")?,
            None => {}
        }
        if let Some(envid) = &p.envid {
            write!(f, " ENVID={}", xtext::encode(envid.as_bytes()))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Dialect = Dialect { strict: false, trailing_space: true, dsn: true, future_release: true };

    fn parse(arguments: &str) -> Result<Mail, CommandError> {
        Mail::parse(arguments.as_bytes(), &ALL)
    }

    #[test]
    fn printing_what_was_parsed_gives_the_same() {
        for line in [
            "MAIL FROM:<>",
            "MAIL FROM:<ann@mox.example>",
            "MAIL FROM:<ann@mox.example> SIZE=10 BODY=8BITMIME AUTH=<> SMTPUTF8 REQUIRETLS HOLDFOR=60 RET=HDRS ENVID=a+2Bb",
            "MAIL FROM:<m\u{f8}x@mox.example> SMTPUTF8",
            "MAIL FROM:<\"a b\"@mox.example> BODY=7BIT AUTH=e+3Dx@y HOLDUNTIL=2027-01-02T03:04:05Z RET=FULL",
        ] {
            let mail = parse(line.strip_prefix("MAIL").unwrap()).unwrap();
            assert_eq!(mail.to_string(), line);
        }
    }

    #[test]
    fn leniency() {
        assert!(parse(" from: <ann@mox.example> size=1 body=8bitmime \t").is_ok());
        let strict = Dialect { strict: true, ..Dialect::default() };
        assert!(Mail::parse(b" FROM: <ann@mox.example>", &strict).is_err());
        assert!(Mail::parse(b" FROM:<ann@mox.example> ", &strict).is_err());
        assert!(parse(" FROM:  <ann@mox.example>").is_err());
        assert!(parse(" FROM:ann@mox.example").is_err());
    }

    #[test]
    fn errors() {
        let error = |parameters: &str| parse(&format!(" FROM:<ann@mox.example> {parameters}")).unwrap_err();
        assert_eq!(error("SIZE=1 SIZE=1"), CommandError::Duplicate("SIZE"));
        assert_eq!(error("SMTPUTF8 SMTPUTF8"), CommandError::Duplicate("SMTPUTF8"));
        assert_eq!(error("HOLDFOR=1 HOLDUNTIL=2027-01-02T03:04:05Z"), CommandError::Duplicate("HOLDFOR or HOLDUNTIL"));
        assert_eq!(error("BODY=BINARYMIME"), CommandError::BodyType);
        assert_eq!(error("FOO=1"), CommandError::UnknownParameter);
        for parameters in [
            "SIZE",
            "SIZE=",
            "SIZE=x",
            "SIZE=123456789012345678901",
            "SMTPUTF8=1",
            "HOLDFOR=0",
            "HOLDFOR=01",
            "HOLDFOR=1234567890",
            "HOLDUNTIL=2027-01-02T03:04:05+01:00",
            "RET=x",
            "ENVID=+",
            "AUTH=",
            "=x",
            " SIZE=1",
        ] {
            assert!(matches!(error(parameters), CommandError::Syntax(_)), "{parameters}");
        }
        assert_eq!(parse(" FROM:<m\u{f8}x@mox.example>"), Err(CommandError::NeedsSmtputf8));
        let port25 = Dialect { trailing_space: true, ..Dialect::default() };
        for parameters in ["HOLDFOR=1", "RET=FULL", "ENVID=x"] {
            let line = format!(" FROM:<> {parameters}");
            assert_eq!(Mail::parse(line.as_bytes(), &port25), Err(CommandError::UnknownParameter));
        }
    }

    #[test]
    fn errors_have_a_place() {
        let Err(CommandError::Syntax(bad)) = parse(" FROM:<a..b@mox.example>") else { panic!("accepted") };
        assert_eq!(bad, Bad { at: 7, expected: "localpart" });
    }
}
