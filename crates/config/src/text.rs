//! Texts with a form of their own: for replies, URLs, patterns of host names.

use crate::duration;
use crate::schema::{Key, Scalar, scalar_values};
use mox_base::{Address, Domain, Localpart};
use std::fmt;
use std::time::Duration;

/// Printable ASCII of at most 256 bytes, for use in a reply of a protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AsciiText(String);

impl AsciiText {
    /// A text.
    ///
    /// # Errors
    /// When it is too long or not printable ASCII.
    pub fn new(text: &str) -> Result<Self, String> {
        if text.len() > 256 {
            return Err(format!("text is {} bytes long, at most 256 are possible", text.len()));
        }
        if !text.bytes().all(|b| (b' '..=b'~').contains(&b)) {
            return Err(format!("text {text:?} must be printable ASCII"));
        }
        Ok(Self(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Scalar for AsciiText {
    fn parse(text: &str) -> Result<Self, String> {
        Self::new(text)
    }

    fn text(&self) -> String {
        self.0.clone()
    }

    fn is_zero(&self) -> bool {
        self.0.is_empty()
    }
}

/// The reply to RCPT TO for an address that doesn't accept mail: `421 text` or `550 text`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmtpError {
    /// Whether the sender shouldn't try again.
    pub permanent: bool,
    /// The text of the reply, if it isn't the usual one.
    pub message: Option<AsciiText>,
}

impl Scalar for SmtpError {
    fn parse(text: &str) -> Result<Self, String> {
        AsciiText::new(text)?;
        let (code, message) = text.split_once(' ').unwrap_or((text, ""));
        let permanent = match code {
            "421" => false,
            "550" => true,
            _ => return Err(format!("{text:?} must start with 421 or 550")),
        };
        let message = message.trim();
        let message = if message.is_empty() { None } else { Some(AsciiText::new(message)?) };
        Ok(Self { permanent, message })
    }

    fn text(&self) -> String {
        let code = if self.permanent { "550" } else { "421" };
        match &self.message {
            Some(message) => format!("{code} {}", message.as_str()),
            None => code.to_owned(),
        }
    }

    fn is_zero(&self) -> bool {
        false
    }
}

/// An http or https URL with a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpUrl(String);

impl HttpUrl {
    /// A URL.
    ///
    /// # Errors
    /// When the scheme is another one, there is no host, or there are characters that URLs don't have.
    pub fn new(text: &str) -> Result<Self, String> {
        let lower = text.to_ascii_lowercase();
        let rest = lower.strip_prefix("https://").or_else(|| lower.strip_prefix("http://"));
        let Some(rest) = rest else { return Err(format!("url {text:?} must start with http:// or https://")) };
        if rest.is_empty() || rest.starts_with(['/', '?', '#', ':']) {
            return Err(format!("url {text:?} has no host"));
        }
        if text.chars().any(|c| c.is_control() || c == ' ') {
            return Err(format!("url {text:?} has a space or control character"));
        }
        Ok(Self(text.to_owned()))
    }

    /// The URL's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Scalar for HttpUrl {
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

/// A duration that keeps the text it was written as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DurationText {
    text: String,
    duration: Duration,
}

impl DurationText {
    /// A duration with its text.
    pub(crate) fn from_text(text: &str, duration: Duration) -> Self {
        Self { text: text.to_owned(), duration }
    }

    /// The duration.
    pub const fn duration(&self) -> Duration {
        self.duration
    }
}

impl Scalar for DurationText {
    fn parse(text: &str) -> Result<Self, String> {
        let duration = <Duration as Scalar>::parse(text)?;
        Ok(Self { text: text.to_owned(), duration })
    }

    fn text(&self) -> String {
        self.text.clone()
    }

    fn is_zero(&self) -> bool {
        false
    }
}

impl From<Duration> for DurationText {
    fn from(duration: Duration) -> Self {
        Self { text: duration::format(duration), duration }
    }
}

/// Which domains a route is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteDomain {
    /// `example.org`: this domain.
    Exact(Domain),
    /// `.example.org`: this domain and those below it.
    Within(Domain),
    /// `.`: no domain, of the null reverse-path.
    Null,
}

impl RouteDomain {
    /// Whether it is for a domain, or for none.
    pub fn matches(&self, domain: Option<&Domain>) -> bool {
        match (self, domain) {
            (Self::Null, None) => true,
            (Self::Exact(wanted), Some(domain)) => wanted == domain,
            (Self::Within(parent), Some(domain)) => domain.is_within(parent),
            (Self::Null, Some(_)) | (Self::Exact(_) | Self::Within(_), None) => false,
        }
    }
}

impl Scalar for RouteDomain {
    fn parse(text: &str) -> Result<Self, String> {
        match text.strip_prefix('.') {
            Some("") => Ok(Self::Null),
            Some(parent) => <Domain as Scalar>::parse(parent).map(Self::Within),
            None => <Domain as Scalar>::parse(text).map(Self::Exact),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Exact(domain) => domain.to_string(),
            Self::Within(domain) => format!(".{domain}"),
            Self::Null => ".".to_owned(),
        }
    }

    fn is_zero(&self) -> bool {
        false
    }
}

/// A host of an MTA-STS policy, RFC 8461 §4.1: a name, or `*.` and a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MxPattern {
    /// Whether any one label may be in front.
    pub wildcard: bool,
    /// The name.
    pub domain: Domain,
}

impl Scalar for MxPattern {
    fn parse(text: &str) -> Result<Self, String> {
        let (wildcard, name) = text.strip_prefix("*.").map_or((false, text), |name| (true, name));
        Ok(Self { wildcard, domain: <Domain as Scalar>::parse(name)? })
    }

    fn text(&self) -> String {
        format!("{}{}", if self.wildcard { "*." } else { "" }, self.domain)
    }

    fn is_zero(&self) -> bool {
        false
    }
}

/// What a destination is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DestinationKey {
    /// `@domain`: what no other address of the domain takes.
    Catchall(Domain),
    /// An address.
    Address(Address),
    /// Deprecated: a localpart, at the account's domain. Made an [`DestinationKey::Address`] when the file is loaded.
    Localpart(Localpart),
}

impl fmt::Display for DestinationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Catchall(domain) => write!(f, "@{domain}"),
            Self::Address(address) => address.fmt(f),
            Self::Localpart(localpart) => localpart.fmt(f),
        }
    }
}

impl Key for DestinationKey {
    fn parse_key(text: &str) -> Result<Self, String> {
        if let Some(domain) = text.strip_prefix('@') {
            return <Domain as Scalar>::parse(domain).map(Self::Catchall);
        }
        if text.contains('@') {
            <Address as Scalar>::parse(text).map(Self::Address)
        } else {
            <Localpart as Scalar>::parse(text).map(Self::Localpart)
        }
    }

    fn key_text(&self) -> String {
        self.to_string()
    }
}

scalar_values!(AsciiText, SmtpError, HttpUrl, DurationText, RouteDomain, MxPattern);
