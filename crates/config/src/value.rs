//! Scalars of the schema: texts, numbers, and the types of [`mox_base`] as settings; and the few types of its own.

use crate::duration;
use crate::re2;
use crate::schema::{Key, Scalar, Value, scalar_values};
use crate::sconf::{Reader, Writer};
use mox_base::{Address, Domain, IpPrefix, Localpart, Secret};
use regex::Regex;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;
use unicode_normalization::{UnicodeNormalization, is_nfc};

impl Scalar for String {
    const EMPTY_IS_ABSENT: bool = false;

    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }

    fn text(&self) -> String {
        self.clone()
    }

    fn is_zero(&self) -> bool {
        self.is_empty()
    }

    fn zero() -> Option<Self> {
        Some(Self::new())
    }
}

impl Scalar for Secret<String> {
    fn parse(text: &str) -> Result<Self, String> {
        Ok(Self::new(text.to_owned()))
    }

    fn text(&self) -> String {
        self.expose().clone()
    }

    fn is_zero(&self) -> bool {
        self.expose().is_empty()
    }

    fn zero() -> Option<Self> {
        Some(Self::new(String::new()))
    }
}

impl Scalar for bool {
    const ZERO: &'static str = "false";
    const EMPTY_IS_ABSENT: Self = false;

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(format!("expected true or false, not {text:?}")),
        }
    }

    fn text(&self) -> String {
        self.to_string()
    }

    fn is_zero(&self) -> bool {
        !self
    }

    fn zero() -> Option<Self> {
        Some(false)
    }
}

/// Integers: decimal with an optional sign, in the type's range.
macro_rules! integers {
    ($($ty:ty),*) => {$(
        impl Scalar for $ty {
            const ZERO: &'static str = "0";
            const EMPTY_IS_ABSENT: bool = false;

            fn parse(text: &str) -> Result<Self, String> {
                let negative_zero = text.strip_prefix('-').is_some_and(|t| !t.is_empty() && t.bytes().all(|b| b == b'0'));
                let text_or_zero = if negative_zero { "0" } else { text };
                text_or_zero.parse().map_err(|_| {
                    format!("expected an integer from {} to {}, not {text:?}", Self::MIN, Self::MAX)
                })
            }

            fn text(&self) -> String {
                self.to_string()
            }

            fn is_zero(&self) -> bool {
                *self == 0
            }

            fn zero() -> Option<Self> {
                Some(0)
            }
        }
    )*};
}
integers!(u16, u32, u64, i64);

impl Scalar for f64 {
    const ZERO: &'static str = "0.000000";
    const EMPTY_IS_ABSENT: bool = false;

    fn parse(text: &str) -> Result<Self, String> {
        text.parse().ok().filter(|value: &Self| value.is_finite()).ok_or_else(|| format!("expected a number, not {text:?}"))
    }

    // Six decimals where they say it all, as other writers of the format do; else the shortest exact form.
    fn text(&self) -> String {
        let fixed = format!("{self:.6}");
        if fixed.parse() == Ok(*self) { fixed } else { self.to_string() }
    }

    fn is_zero(&self) -> bool {
        *self == 0.0
    }

    fn zero() -> Option<Self> {
        Some(0.0)
    }
}

impl Scalar for Duration {
    const ZERO: &'static str = "0s";
    const EMPTY_IS_ABSENT: bool = false;

    fn parse(text: &str) -> Result<Self, String> {
        duration::parse(text).map_err(|error| format!("{error}: {text:?}"))
    }

    fn text(&self) -> String {
        duration::format(*self)
    }

    fn is_zero(&self) -> bool {
        *self == Self::ZERO
    }

    fn zero() -> Option<Self> {
        Some(Self::ZERO)
    }
}

impl Scalar for Domain {
    fn parse(text: &str) -> Result<Self, String> {
        Self::parse(text).map_err(|error| format!("domain {text:?}: {error}"))
    }

    fn text(&self) -> String {
        self.unicode().to_owned()
    }

    fn is_zero(&self) -> bool {
        false
    }
}

impl Key for Domain {
    fn parse_key(text: &str) -> Result<Self, String> {
        <Self as Scalar>::parse(text)
    }

    fn key_text(&self) -> String {
        self.unicode().to_owned()
    }
}

/// A domain that must be written in its canonical Unicode form, so that people can find it in the file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnicodeDomain(Domain);

impl UnicodeDomain {
    /// The domain.
    pub const fn domain(&self) -> &Domain {
        &self.0
    }
}

impl From<Domain> for UnicodeDomain {
    fn from(domain: Domain) -> Self {
        Self(domain)
    }
}

impl std::ops::Deref for UnicodeDomain {
    type Target = Domain;

    fn deref(&self) -> &Domain {
        &self.0
    }
}

// Order, equality and hash are the domain's.
impl std::borrow::Borrow<Domain> for UnicodeDomain {
    fn borrow(&self) -> &Domain {
        &self.0
    }
}

impl fmt::Display for UnicodeDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Scalar for UnicodeDomain {
    fn parse(text: &str) -> Result<Self, String> {
        let domain = <Domain as Scalar>::parse(text)?;
        if domain.unicode() == text {
            Ok(Self(domain))
        } else {
            Err(format!("domain {text:?} must be in its unicode form, {:?}", domain.unicode()))
        }
    }

    fn text(&self) -> String {
        self.0.unicode().to_owned()
    }

    fn is_zero(&self) -> bool {
        false
    }
}

impl Key for UnicodeDomain {
    fn parse_key(text: &str) -> Result<Self, String> {
        <Self as Scalar>::parse(text)
    }

    fn key_text(&self) -> String {
        self.text()
    }
}

impl Scalar for Address {
    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|error| format!("address {text:?}: {error}"))
    }

    fn text(&self) -> String {
        self.to_string()
    }

    fn is_zero(&self) -> bool {
        false
    }
}

impl Scalar for Localpart {
    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|error| format!("localpart {text:?}: {error}"))
    }

    fn text(&self) -> String {
        self.to_string()
    }

    fn is_zero(&self) -> bool {
        false
    }
}

impl Key for Localpart {
    fn parse_key(text: &str) -> Result<Self, String> {
        <Self as Scalar>::parse(text)
    }

    fn key_text(&self) -> String {
        self.to_string()
    }
}

/// The localpart of an address for reports: ASCII, because other servers send there without SMTPUTF8.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AsciiLocalpart(Localpart);

impl AsciiLocalpart {
    /// The localpart.
    pub const fn localpart(&self) -> &Localpart {
        &self.0
    }
}

impl Scalar for AsciiLocalpart {
    fn parse(text: &str) -> Result<Self, String> {
        let localpart = <Localpart as Scalar>::parse(text)?;
        if localpart.is_ascii() { Ok(Self(localpart)) } else { Err(format!("localpart {text:?} for reports must be ASCII only")) }
    }

    fn text(&self) -> String {
        self.0.to_string()
    }

    fn is_zero(&self) -> bool {
        false
    }
}

impl Scalar for IpAddr {
    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| format!("expected an IP address, not {text:?}"))
    }

    fn text(&self) -> String {
        self.to_string()
    }

    fn is_zero(&self) -> bool {
        false
    }
}

impl Scalar for IpPrefix {
    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|e| format!("{text:?}: {e}"))
    }

    fn text(&self) -> String {
        self.to_string()
    }

    fn is_zero(&self) -> bool {
        false
    }
}

/// The name of a mailbox: not empty, in NFC. Where a mailbox is required, an empty text means the Inbox.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MailboxName(String);

impl MailboxName {
    /// A name.
    ///
    /// # Errors
    /// When it isn't in NFC.
    pub fn new(text: &str) -> Result<Self, String> {
        if is_nfc(text) {
            Ok(Self(if text.is_empty() { "Inbox" } else { text }.to_owned()))
        } else {
            Err(format!("mailbox name {text:?} must be in unicode NFC: {:?}", text.nfc().collect::<String>()))
        }
    }

    /// The name as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is the Inbox, in any case.
    pub fn is_inbox(&self) -> bool {
        self.0.eq_ignore_ascii_case("inbox")
    }
}

impl fmt::Display for MailboxName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Scalar for MailboxName {
    fn parse(text: &str) -> Result<Self, String> {
        Self::new(text)
    }

    fn text(&self) -> String {
        self.0.clone()
    }

    fn is_zero(&self) -> bool {
        false
    }
}

/// A regular expression, in RE2's syntax: linear time, and it may match anywhere unless it anchors itself.
#[derive(Clone)]
pub struct Pattern {
    text: String,
    regex: Regex,
}

impl Pattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// When it isn't a regular expression.
    pub fn new(text: &str) -> Result<Self, String> {
        // The engine's own message is a drawing of several lines; its last line is the reason.
        Regex::new(&re2::translate(text)).map(|regex| Self { text: text.to_owned(), regex }).map_err(|error| {
            let text_of_error = error.to_string();
            let reason = text_of_error.lines().last().unwrap_or_default().trim_start_matches("error: ");
            format!("regular expression {text:?}: {reason}")
        })
    }

    /// The compiled expression.
    pub const fn regex(&self) -> &Regex {
        &self.regex
    }

    /// A copy of the compiled expression.
    pub fn to_regex(&self) -> Regex {
        self.regex.clone()
    }

    /// Whether it matches somewhere in the text.
    pub fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    /// The pattern's text.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pattern").field(&self.text).finish()
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Pattern {}

impl PartialOrd for Pattern {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Pattern {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_str().cmp(other.as_str())
    }
}

/// As other scalars, but compiled once for a file: accounts usually have the same few patterns, and compiling one takes
/// longer than reading the rest of an account.
impl Value for Pattern {
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        reader.pattern()
    }

    fn read_optional(reader: &mut Reader<'_>) -> Option<Option<Self>> {
        if reader.take_empty() { Some(None) } else { Self::read(reader).map(Some) }
    }

    fn write(&self, writer: &mut Writer) {
        writer.scalar(&self.text);
    }

    fn describe(writer: &mut Writer) {
        writer.scalar("");
    }

    fn is_zero(&self) -> bool {
        self.text.is_empty()
    }

    fn zero() -> Option<Self> {
        None
    }
}

impl Key for Pattern {
    fn parse_key(text: &str) -> Result<Self, String> {
        Self::new(text)
    }

    fn key_text(&self) -> String {
        self.as_str().to_owned()
    }
}

/// How much is logged. Each level includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogLevel {
    /// Printed in any case.
    Print,
    /// The server can't go on.
    Fatal,
    /// Something is wrong on our side.
    Error,
    /// Something looks wrong.
    Warn,
    /// What happens.
    Info,
    /// Why it happens.
    Debug,
    /// Protocol lines, without credentials and message data.
    Trace,
    /// Protocol lines with credentials.
    TraceAuth,
    /// Protocol lines with credentials and message data.
    TraceData,
}

impl LogLevel {
    const NAMES: [(&'static str, Self); 9] = [
        ("print", Self::Print),
        ("fatal", Self::Fatal),
        ("error", Self::Error),
        ("warn", Self::Warn),
        ("info", Self::Info),
        ("debug", Self::Debug),
        ("trace", Self::Trace),
        ("traceauth", Self::TraceAuth),
        ("tracedata", Self::TraceData),
    ];

    /// The level's name in configuration and on the command line.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, level)| *level == self).map_or("", |(name, _)| name)
    }
}

impl std::str::FromStr for LogLevel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::NAMES.iter().find(|(name, _)| *name == text).map(|(_, level)| *level).ok_or_else(|| format!("unknown log level {text:?}"))
    }
}

impl Scalar for LogLevel {
    fn parse(text: &str) -> Result<Self, String> {
        text.parse()
    }

    fn text(&self) -> String {
        self.name().to_owned()
    }

    fn is_zero(&self) -> bool {
        false
    }
}

scalar_values!(
    String,
    Secret<String>,
    bool,
    u16,
    u32,
    u64,
    i64,
    f64,
    Duration,
    Domain,
    UnicodeDomain,
    Address,
    Localpart,
    AsciiLocalpart,
    IpAddr,
    IpPrefix,
    MailboxName,
    LogLevel,
);
