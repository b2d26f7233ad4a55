//! Domain names as mail uses them.

use std::fmt;
use std::str::FromStr;

/// A domain name in its ASCII form (A-labels, lower case) and its Unicode form, RFC 5890. Never empty, never an IP
/// address, no trailing dot. Two domains are equal when their ASCII forms are.
#[derive(Clone, Debug)]
pub struct Domain {
    ascii: String,
    unicode: Option<String>,
}

/// Why a text is no domain name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DomainError {
    /// Nothing, or an empty label.
    #[error("empty domain name or label")]
    Empty,
    /// A trailing dot, which mail addresses never have.
    #[error("domain name ends in a dot")]
    TrailingDot,
    /// More than 253 octets, or a label of more than 63, RFC 1035 §2.3.4.
    #[error("domain name or label too long")]
    TooLong,
    /// A label with a character that isn't allowed, or that starts or ends with a hyphen.
    #[error("bad character in domain name")]
    Syntax,
    /// Not convertible by IDNA.
    #[error("not a valid internationalized domain name")]
    Idna,
    /// An IP address where a name is wanted.
    #[error("IP address instead of a domain name")]
    Ip,
}

impl Domain {
    /// A domain name of letters, digits and hyphens, or its Unicode form.
    ///
    /// # Errors
    /// See [`DomainError`].
    pub fn parse(text: &str) -> Result<Self, DomainError> {
        Self::with_underscores(text, false)
    }

    /// As [`Self::parse`], but accepting underscores in ASCII labels, as DKIM selectors and some MX targets have.
    ///
    /// # Errors
    /// See [`DomainError`].
    pub fn parse_lax(text: &str) -> Result<Self, DomainError> {
        Self::with_underscores(text, true)
    }

    fn with_underscores(text: &str, underscores: bool) -> Result<Self, DomainError> {
        if text.is_empty() {
            return Err(DomainError::Empty);
        }
        if text.ends_with('.') {
            return Err(DomainError::TrailingDot);
        }
        // Longer input can't become a valid name; the check keeps IDNA processing short.
        if text.len() > 1000 {
            return Err(DomainError::TooLong);
        }
        if text.parse::<std::net::IpAddr>().is_ok() {
            return Err(DomainError::Ip);
        }
        let ascii = if text.is_ascii() && !text.to_ascii_lowercase().contains("xn--") {
            text.to_ascii_lowercase()
        } else {
            // UTS #46 non-transitional processing, the lookup profile of RFC 5891 §5.
            idna::domain_to_ascii(text).map_err(|_| DomainError::Idna)?
        };
        check_ascii(&ascii, underscores)?;
        // Digits of other scripts become ASCII ones.
        if ascii.parse::<std::net::IpAddr>().is_ok() {
            return Err(DomainError::Ip);
        }
        let (unicode, result) = idna::domain_to_unicode(&ascii);
        let unicode = (result.is_ok() && unicode != ascii).then_some(unicode);
        Ok(Self { ascii, unicode })
    }

    /// The form for DNS and for protocols without UTF-8.
    pub fn ascii(&self) -> &str {
        &self.ascii
    }

    /// The form for people and for protocols with UTF-8; the same as the ASCII form where there is no other.
    pub fn unicode(&self) -> &str {
        self.unicode.as_deref().unwrap_or(&self.ascii)
    }

    /// Whether the name has labels beyond ASCII.
    pub const fn is_internationalized(&self) -> bool {
        self.unicode.is_some()
    }

    /// The form for a message or session: Unicode when SMTPUTF8 is in effect.
    pub fn for_smtputf8(&self, smtputf8: bool) -> &str {
        if smtputf8 { self.unicode() } else { self.ascii() }
    }

    /// Whether this is `parent` or below it.
    pub fn is_within(&self, parent: &Self) -> bool {
        self.ascii.strip_suffix(parent.ascii.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    }

    /// For logs: the Unicode form, followed by the ASCII form where they differ.
    pub fn log_form(&self) -> String {
        match &self.unicode {
            Some(unicode) => format!("{unicode}/{}", self.ascii),
            None => self.ascii.clone(),
        }
    }
}

fn check_ascii(ascii: &str, underscores: bool) -> Result<(), DomainError> {
    if ascii.len() > 253 {
        return Err(DomainError::TooLong);
    }
    for label in ascii.split('.') {
        let bytes = label.as_bytes();
        if bytes.is_empty() {
            return Err(DomainError::Empty);
        }
        if bytes.len() > 63 {
            return Err(DomainError::TooLong);
        }
        let allowed = |b: &u8| b.is_ascii_alphanumeric() || *b == b'-' || (underscores && *b == b'_');
        if !bytes.iter().all(allowed) || bytes.first() == Some(&b'-') || bytes.last() == Some(&b'-') {
            return Err(DomainError::Syntax);
        }
    }
    Ok(())
}

impl FromStr for Domain {
    type Err = DomainError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Self::parse(s)
    }
}

impl PartialEq for Domain {
    fn eq(&self, other: &Self) -> bool {
        self.ascii == other.ascii
    }
}

impl Eq for Domain {}

impl std::hash::Hash for Domain {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.ascii.hash(state);
    }
}

impl PartialOrd for Domain {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Domain {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.ascii.cmp(&other.ascii)
    }
}

/// The Unicode form, as in configuration and databases.
impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.unicode())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        for (text, ascii, unicode) in [
            ("Example.ORG", "example.org", "example.org"),
            ("bücher.example", "xn--bcher-kva.example", "bücher.example"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example", "bücher.example"),
            ("localhost", "localhost", "localhost"),
        ] {
            let d = Domain::parse(text).unwrap();
            assert_eq!((d.ascii(), d.unicode()), (ascii, unicode));
            assert_eq!(Domain::parse(&d.to_string()).unwrap(), d);
        }
    }

    #[test]
    fn refuses() {
        for (text, want) in [
            ("", DomainError::Empty),
            ("a..b", DomainError::Empty),
            ("example.org.", DomainError::TrailingDot),
            ("-a.example", DomainError::Syntax),
            ("a_b.example", DomainError::Syntax),
            ("a b", DomainError::Syntax),
            ("127.0.0.1", DomainError::Ip),
            ("::1", DomainError::Ip),
        ] {
            assert_eq!(Domain::parse(text), Err(want), "{text}");
        }
        assert_eq!(Domain::parse(&"a".repeat(64)), Err(DomainError::TooLong));
        assert!(Domain::parse_lax("a_b.example").is_ok());
    }

    #[test]
    fn within() {
        let d = |s| Domain::parse(s).unwrap();
        assert!(d("a.example.org").is_within(&d("example.org")));
        assert!(d("example.org").is_within(&d("example.org")));
        assert!(!d("badexample.org").is_within(&d("example.org")));
    }
}
