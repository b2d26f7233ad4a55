//! Names of mailboxes.

use std::fmt;
use std::sync::Arc;
use unicode_normalization::is_nfc;

/// Bytes in a name at most.
pub const MAX_NAME: usize = 1024;

/// Levels of a name at most.
pub const MAX_LEVELS: usize = 64;

/// The full name of a mailbox, levels separated by `/`. In NFC; without control characters, empty levels, `.` and `..`.
/// The first level `inbox`, in any case, is `Inbox`, RFC 9051 §5.1. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MailboxName(Arc<str>);

/// Why a text is no name of a mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Empty, or with an empty level: a slash at its start, at its end, or two together.
    #[error("mailbox name has an empty level")]
    EmptyLevel,
    /// A level is `.` or `..`.
    #[error("mailbox name has a level of dots")]
    Dots,
    /// It starts with `#`, which is for namespaces, RFC 9051 §5.1.2.1.
    #[error("mailbox name starts with #")]
    Namespace,
    /// It has control characters or Unicode line separators.
    #[error("mailbox name has control characters")]
    Control,
    /// It isn't in Unicode normalization form C.
    #[error("mailbox name isn't in Unicode normalization form C")]
    NotNormalized,
    /// It has more than [`MAX_NAME`] bytes or [`MAX_LEVELS`] levels.
    #[error("mailbox name is too long")]
    TooLong,
}

impl MailboxName {
    /// Checks a name.
    ///
    /// # Errors
    /// See [`NameError`].
    pub fn parse(name: &str) -> Result<Self, NameError> {
        if name.len() > MAX_NAME || name.split('/').count() > MAX_LEVELS {
            return Err(NameError::TooLong);
        }
        if name.starts_with('#') {
            return Err(NameError::Namespace);
        }
        if name.chars().any(|c| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')) {
            return Err(NameError::Control);
        }
        if name.split('/').any(str::is_empty) {
            return Err(NameError::EmptyLevel);
        }
        if name.split('/').any(|level| matches!(level, "." | "..")) {
            return Err(NameError::Dots);
        }
        if !is_nfc(name) {
            return Err(NameError::NotNormalized);
        }
        Ok(match name.split_once('/') {
            Some((first, rest)) if first.eq_ignore_ascii_case("inbox") => Self(format!("Inbox/{rest}").into()),
            None if name.eq_ignore_ascii_case("inbox") => Self::inbox(),
            _ => Self(name.into()),
        })
    }

    /// `Inbox`.
    pub fn inbox() -> Self {
        Self("Inbox".into())
    }

    /// Whether it is `Inbox` itself.
    pub fn is_inbox(&self) -> bool {
        &*self.0 == "Inbox"
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name one level up.
    pub fn parent(&self) -> Option<Self> {
        self.0.rsplit_once('/').map(|(parent, _)| Self(parent.into()))
    }

    /// Whether this mailbox is below `other`.
    pub fn is_below(&self, other: &Self) -> bool {
        self.0.strip_prefix(&*other.0).is_some_and(|rest| rest.starts_with('/'))
    }

    /// The name after `from`, above or at it, was renamed to `to`; none if it isn't there.
    pub(crate) fn moved(&self, from: &Self, to: &Self) -> Option<Self> {
        let rest = self.0.strip_prefix(&*from.0)?;
        (rest.is_empty() || rest.starts_with('/')).then(|| Self(format!("{to}{rest}").into()))
    }

    /// A name that was checked when it was stored.
    pub(crate) fn stored(name: &str) -> Self {
        Self(name.into())
    }
}

impl fmt::Display for MailboxName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for MailboxName {
    type Err = NameError;

    fn from_str(s: &str) -> Result<Self, NameError> {
        Self::parse(s)
    }
}

/// So that maps by name can be asked with a `str`.
impl std::borrow::Borrow<str> for MailboxName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (text, want) in [
            ("inbox", Ok("Inbox")),
            ("INBOX/a", Ok("Inbox/a")),
            ("inboxes", Ok("inboxes")),
            ("a/inbox", Ok("a/inbox")),
            ("a%b*c&d/e#f", Ok("a%b*c&d/e#f")),
            ("ä", Ok("ä")),
            ("a\u{308}", Err(NameError::NotNormalized)),
            ("", Err(NameError::EmptyLevel)),
            ("/a", Err(NameError::EmptyLevel)),
            ("a/", Err(NameError::EmptyLevel)),
            ("a//b", Err(NameError::EmptyLevel)),
            ("a/../b", Err(NameError::Dots)),
            (".", Err(NameError::Dots)),
            ("#news", Err(NameError::Namespace)),
            ("a\u{85}", Err(NameError::Control)),
            ("a\r\nb", Err(NameError::Control)),
            ("a\u{2028}", Err(NameError::Control)),
        ] {
            assert_eq!(MailboxName::parse(text), want.map(|w| MailboxName(w.into())), "{text:?}");
        }
        assert_eq!(MailboxName::parse(&"a/".repeat(64)[..127]).map(|n| n.as_str().len()), Ok(127));
        assert_eq!(MailboxName::parse(&"a/".repeat(65)[..129]), Err(NameError::TooLong));
        assert_eq!(MailboxName::parse(&"a".repeat(1024)).map(|n| n.as_str().len()), Ok(1024));
        assert_eq!(MailboxName::parse(&"a".repeat(1025)), Err(NameError::TooLong));
    }

    #[test]
    fn moving() {
        let name = |s| MailboxName::parse(s).unwrap();
        assert_eq!(name("a/b/c").moved(&name("a/b"), &name("x")), Some(name("x/c")));
        assert_eq!(name("a/bc").moved(&name("a/b"), &name("x")), None);
        assert!(name("a/b").is_below(&name("a")) && !name("ab").is_below(&name("a")));
        assert_eq!(name("a/b").parent(), Some(name("a")));
    }
}
