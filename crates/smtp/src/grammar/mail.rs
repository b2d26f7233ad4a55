//! `MAIL FROM:<reverse-path> [parameters]`, RFC 5321 §4.1.1.2.

use super::cursor::{Bad, Cursor, text};
use super::{CommandError, Dialect, path, xtext};
use mox_base::{Path, Priority, Timestamp, WhenLate};
use std::fmt;
use std::time::Duration;

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
    /// MT-PRIORITY, RFC 6710 §4.
    pub priority: Option<Priority>,
    /// RFC 2852 §4.
    pub by: Option<By>,
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

/// Within which time to deliver a message, RFC 2852 §4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct By {
    /// Seconds from now, of at most 9 digits. Negative when the time has passed and the sender was told.
    pub seconds: i32,
    /// What happens when it has passed.
    pub late: WhenLate,
    /// Whether the sender hears of each host that the message is handed to.
    pub trace: bool,
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
            "MT-PRIORITY" if dialect.priority => {
                let priority = value.and_then(priority).ok_or(CommandError::Value("MT-PRIORITY"))?;
                once(&mut self.priority, "MT-PRIORITY", priority)
            }
            "BY" => once(&mut self.by, "BY", value.and_then(By::parse).ok_or(CommandError::Value("BY"))?),
            _ => Err(CommandError::UnknownParameter),
        }
    }
}

/// `priority-value = (["-"] NZDIGIT) / "0"`, RFC 6710 §9.
fn priority(value: &str) -> Option<Priority> {
    let digits = value.strip_prefix('-').unwrap_or(value);
    let good = digits.len() == 1 && digits.bytes().all(|b| b.is_ascii_digit()) && value != "-0";
    value.parse().ok().filter(|_| good).and_then(Priority::new)
}

impl By {
    /// More digits aren't allowed.
    const MAX: i32 = 999_999_999;

    /// That many seconds, or as near to them as can be written.
    pub fn new(seconds: i64, late: WhenLate, trace: bool) -> Self {
        let max = i64::from(Self::MAX);
        Self { seconds: i32::try_from(seconds.clamp(-max, max)).unwrap_or(Self::MAX), late, trace }
    }

    /// The time, counted from now.
    #[must_use]
    pub fn at(self, now: Timestamp) -> Timestamp {
        let distance = Duration::from_secs(self.seconds.unsigned_abs().into());
        if self.seconds < 0 { now.before(distance) } else { now.after(distance) }
    }

    /// `by-time ";" by-mode [by-trace]`, RFC 2852 §4.
    fn parse(value: &str) -> Option<Self> {
        let (time, mode) = value.split_once(';')?;
        let digits = time.strip_prefix(['-', '+']).unwrap_or(time);
        if !(1..=9).contains(&digits.len()) || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let (late, trace) = match mode.to_ascii_uppercase().as_str() {
            "R" => (WhenLate::Return, false),
            "RT" => (WhenLate::Return, true),
            "N" => (WhenLate::Notify, false),
            "NT" => (WhenLate::Notify, true),
            _ => return None,
        };
        let seconds: i32 = time.parse().ok()?;
        // RFC 2852 §4: what would be returned at once isn't taken.
        (late == WhenLate::Notify || seconds > 0).then_some(Self { seconds, late, trace })
    }
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = match self.late {
            WhenLate::Return => 'R',
            WhenLate::Notify => 'N',
        };
        write!(f, "{};{mode}{}", self.seconds, if self.trace { "T" } else { "" })
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
        if let Some(priority) = p.priority {
            write!(f, " MT-PRIORITY={}", priority.get())?;
        }
        if let Some(by) = p.by {
            write!(f, " BY={by}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Dialect = Dialect { strict: false, trailing_space: true, dsn: true, future_release: true, priority: true };

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
            "MAIL FROM:<> MT-PRIORITY=-9 BY=120;RT",
            "MAIL FROM:<> MT-PRIORITY=0 BY=-999999999;N",
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
        for parameter in
            ["MT-PRIORITY", "MT-PRIORITY=10", "MT-PRIORITY=-10", "MT-PRIORITY=-0", "MT-PRIORITY=+1", "MT-PRIORITY=01", "MT-PRIORITY=x"]
        {
            assert_eq!(error(parameter), CommandError::Value("MT-PRIORITY"), "{parameter}");
        }
        for parameter in
            ["BY", "BY=120", "BY=;R", "BY=1234567890;N", "BY=1;X", "BY=1;TR", "BY=1;", "BY=0;R", "BY=-1;R", "BY=+-1;N", "BY=1;NTT"]
        {
            assert_eq!(error(parameter), CommandError::Value("BY"), "{parameter}");
        }
        assert_eq!(error("MT-PRIORITY=1 MT-PRIORITY=1"), CommandError::Duplicate("MT-PRIORITY"));
        assert_eq!(error("BY=1;R BY=1;R"), CommandError::Duplicate("BY"));
        assert_eq!(parse(" FROM:<m\u{f8}x@mox.example>"), Err(CommandError::NeedsSmtputf8));
        let port25 = Dialect { trailing_space: true, ..Dialect::default() };
        for parameters in ["HOLDFOR=1", "RET=FULL", "ENVID=x", "MT-PRIORITY=1"] {
            let line = format!(" FROM:<> {parameters}");
            assert_eq!(Mail::parse(line.as_bytes(), &port25), Err(CommandError::UnknownParameter));
        }
    }

    #[test]
    fn times_to_deliver_by() {
        let by = |value: &str| parse(&format!(" FROM:<> by={value}")).unwrap().parameters.by.unwrap();
        assert_eq!(by("+60;n"), By { seconds: 60, late: WhenLate::Notify, trace: false });
        assert_eq!(by("0;nt"), By { seconds: 0, late: WhenLate::Notify, trace: true });
        assert_eq!(by("000000060;r"), By { seconds: 60, late: WhenLate::Return, trace: false });
        let seconds = [i64::MIN, -1, i64::MAX].map(|n| By::new(n, WhenLate::Notify, false).seconds);
        assert_eq!(seconds, [-999_999_999, -1, 999_999_999]);
    }

    #[test]
    fn errors_have_a_place() {
        let Err(CommandError::Syntax(bad)) = parse(" FROM:<a..b@mox.example>") else { panic!("accepted") };
        assert_eq!(bad, Bad { at: 7, expected: "localpart" });
    }
}
