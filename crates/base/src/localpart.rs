//! The part of an address before the `@`.

use std::fmt::{self, Write as _};
use std::str::FromStr;
use unicode_normalization::{UnicodeNormalization, is_nfc};

/// A localpart, decoded (without quotes and escapes) and in Unicode NFC. May be empty (`""@example.org`).
///
/// `Display` writes the shortest form that can be parsed: a dot-atom where possible, else a quoted string.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Localpart(String);

/// Why a text is no localpart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LocalpartError {
    /// A control character, which no localpart can hold.
    #[error("control character in localpart")]
    Control,
    /// More than [`Localpart::MAX`] bytes.
    #[error("localpart longer than 128 bytes")]
    TooLong,
    /// Neither a dot-atom nor a quoted string.
    #[error("localpart is neither a dot-atom nor a quoted string")]
    Syntax,
}

/// `atext`, RFC 5322 §3.2.3, with UTF8-non-ascii of RFC 6531 §3.3.
pub fn is_atext(c: char) -> bool {
    c.is_ascii_alphanumeric() || !c.is_ascii() || "!#$%&'*+-/=?^_`{|}~".contains(c)
}

impl Localpart {
    /// The largest length in bytes that is accepted; RFC 5321 §4.5.3.1.1 says 64, real senders go beyond.
    pub const MAX: usize = 128;
    /// The limit of RFC 5321 §4.5.3.1.1, enforced in pedantic mode.
    pub const MAX_STRICT: usize = 64;

    /// A localpart from its decoded text.
    ///
    /// # Errors
    /// Control characters and more than [`Self::MAX`] bytes are refused.
    pub fn from_decoded(text: &str) -> Result<Self, LocalpartError> {
        if text.chars().any(char::is_control) {
            return Err(LocalpartError::Control);
        }
        let text = if is_nfc(text) { text.to_owned() } else { text.nfc().collect() };
        if text.len() > Self::MAX {
            return Err(LocalpartError::TooLong);
        }
        Ok(Self(text))
    }

    /// The decoded text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether all characters are ASCII, so that no SMTPUTF8 is needed.
    pub fn is_ascii(&self) -> bool {
        self.0.is_ascii()
    }

    /// The localpart in lower case, for comparing where a domain isn't case-sensitive.
    #[must_use]
    pub fn to_lowercase(&self) -> Self {
        Self(self.0.to_lowercase().nfc().collect())
    }

    /// For DSNs without UTF-8: what isn't printable ASCII, and `\`, `+` and `=`, as `\x{hex}`, RFC 6533 §3.
    pub fn dsn_form(&self) -> String {
        let mut out = String::new();
        for c in self.0.chars() {
            if ('!'..='~').contains(&c) && !matches!(c, '\\' | '+' | '=') {
                out.push(c);
            } else {
                // Writing to a String can't fail.
                let _written = write!(out, "\\x{{{:x}}}", u32::from(c));
            }
        }
        out
    }

    fn is_dot_atom(&self) -> bool {
        !self.0.is_empty() && self.0.split('.').all(|atom| !atom.is_empty() && atom.chars().all(is_atext))
    }
}

impl fmt::Display for Localpart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_dot_atom() {
            return f.write_str(&self.0);
        }
        f.write_char('"')?;
        for c in self.0.chars() {
            if matches!(c, '"' | '\\') {
                f.write_char('\\')?;
            }
            f.write_char(c)?;
        }
        f.write_char('"')
    }
}

/// Parses a dot-atom or a quoted string, RFC 5321 §4.1.2, with UTF-8 of RFC 6531 §3.3.
impl FromStr for Localpart {
    type Err = LocalpartError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let Some(quoted) = s.strip_prefix('"') else {
            let parsed = Self::from_decoded(s)?;
            return if parsed.is_dot_atom() { Ok(parsed) } else { Err(LocalpartError::Syntax) };
        };
        let inner = quoted.strip_suffix('"').ok_or(LocalpartError::Syntax)?;
        let mut text = String::with_capacity(inner.len());
        let mut chars = inner.chars();
        while let Some(c) = chars.next() {
            match c {
                '"' => return Err(LocalpartError::Syntax),
                // quoted-pairSMTP: any printable ASCII after the backslash.
                '\\' => match chars.next() {
                    Some(escaped @ ' '..='~') => text.push(escaped),
                    _ => return Err(LocalpartError::Syntax),
                },
                _ => text.push(c),
            }
        }
        Self::from_decoded(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_prints_shortest() {
        for (text, decoded, printed) in [
            ("a.b", "a.b", "a.b"),
            ("\"a.b\"", "a.b", "a.b"),
            ("\"a..b\"", "a..b", "\"a..b\""),
            ("\"\"", "", "\"\""),
            ("\"a\\\"\\\\b\"", "a\"\\b", "\"a\\\"\\\\b\""),
            ("møx", "møx", "møx"),
            ("mo\u{308}x", "möx", "möx"),
            ("\"a b\"", "a b", "\"a b\""),
        ] {
            let lp: Localpart = text.parse().unwrap();
            assert_eq!((lp.as_str(), lp.to_string().as_str()), (decoded, printed), "{text}");
            assert_eq!(lp.to_string().parse(), Ok(lp));
        }
    }

    #[test]
    fn refuses() {
        for text in ["", ".a", "a.", "a..b", "a b", "\"a", "a\"", "\"a\"b\"", "\"a\\\"", "a\r\nb", "\"a\rb\"", &"x".repeat(129)] {
            assert!(text.parse::<Localpart>().is_err(), "{text}");
        }
    }

    #[test]
    fn dsn_form_escapes() {
        assert_eq!(Localpart::from_decoded("a+ö b").unwrap().dsn_form(), "a\\x{2b}\\x{f6}\\x{20}b");
    }
}
