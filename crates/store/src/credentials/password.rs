//! What can be a password.

use mox_base::Secret;
use stringprep::tables;
use unicode_normalization::UnicodeNormalization as _;

/// The fewest bytes of a new password, once prepared.
pub const MIN_BYTES: usize = 8;

/// The most bytes of any password. Longer ones only make work.
pub const MAX_BYTES: usize = 1024;

/// Why a text can't be a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Empty, or with control or unassigned characters, RFC 8265 §4.2.
    #[error("password is empty or has characters that passwords cannot have")]
    Characters,
    /// Fewer than [`MIN_BYTES`].
    #[error("password must be at least 8 bytes long")]
    TooShort,
    /// More than [`MAX_BYTES`].
    #[error("password must be at most 1024 bytes long")]
    TooLong,
}

/// A password as the OpaqueString profile prepares it, so that it is the same however it was typed.
#[derive(Clone, Debug)]
pub struct Prepared(Secret<String>);

impl Prepared {
    /// Prepares a password, RFC 8265 §4.2.2: other spaces become U+0020, then NFC. The same as SASL clients and servers do.
    ///
    /// # Errors
    /// See [`Refused`]; any length from one byte up is accepted, for old passwords may be short.
    pub fn new(password: &str) -> Result<Self, Refused> {
        if password.len() > MAX_BYTES {
            return Err(Refused::TooLong);
        }
        let prepared: String = password.chars().map(|c| if tables::non_ascii_space_character(c) { ' ' } else { c }).nfc().collect();
        let allowed = |c: char| {
            !tables::ascii_control_character(c)
                && !tables::non_ascii_control_character(c)
                && !tables::non_character_code_point(c)
                && !tables::private_use(c)
        };
        if prepared.is_empty() || !prepared.chars().all(allowed) {
            return Err(Refused::Characters);
        }
        Ok(Self(Secret::new(prepared)))
    }

    /// Checks that a new password is long enough.
    ///
    /// # Errors
    /// [`Refused::TooShort`].
    pub fn check_length(&self) -> Result<(), Refused> {
        if self.expose().len() < MIN_BYTES { Err(Refused::TooShort) } else { Ok(()) }
    }

    /// The bytes.
    pub fn expose(&self) -> &[u8] {
        self.0.expose().as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prepares_and_refuses() {
        let text = |s: &str| Prepared::new(s).map(|p| String::from_utf8(p.expose().to_vec()).unwrap());
        assert_eq!(text("foo\u{1680}bar").as_deref(), Ok("foo bar"));
        assert_eq!(text("a\u{308}").as_deref(), Ok("ä"));
        assert_eq!(text(""), Err(Refused::Characters));
        assert_eq!(text("my cat is a \tby"), Err(Refused::Characters));
        assert_eq!(text(&"x".repeat(1025)), Err(Refused::TooLong));
        assert_eq!(Prepared::new("1234567").unwrap().check_length(), Err(Refused::TooShort));
        assert_eq!(Prepared::new("ääää").unwrap().check_length(), Ok(()));
    }
}
