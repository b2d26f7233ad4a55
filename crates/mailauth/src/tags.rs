//! Tag lists, RFC 6376 §3.2: `v=1; a=rsa-sha256; …`, as in signatures and in key and policy records.

/// The tags of a list, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tags<'a>(Vec<(&'a str, &'a str)>);

/// The most tags in a list; real ones have up to a dozen. Looking for duplicates takes the square of it.
const MAX_TAGS: usize = 100;

/// Why a text is no tag list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TagError {
    /// More than anybody needs.
    #[error("too many tags")]
    TooMany,
    /// Something without name or `=`.
    #[error("malformed tag {0:?}")]
    Malformed(String),
    /// RFC 6376 §3.2: a tag twice makes the list invalid.
    #[error("duplicate tag {0:?}")]
    Duplicate(String),
    /// A tag that has to be there.
    #[error("missing tag {0:?}")]
    Missing(&'static str),
    /// A tag with a value that it can't have.
    #[error("bad value of tag {0:?}")]
    Value(&'static str),
}

impl<'a> Tags<'a> {
    /// Parses a list; an unfolded one or one with line breaks.
    pub(crate) fn parse(text: &'a str) -> Result<Self, TagError> {
        let mut tags: Vec<(&str, &str)> = Vec::new();
        let text = text.trim();
        for spec in text.strip_suffix(';').unwrap_or(text).split(';') {
            let malformed = || TagError::Malformed(spec.trim().chars().take(40).collect());
            let (name, value) = spec.split_once('=').ok_or_else(malformed)?;
            let name = name.trim();
            let is_name =
                name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            if !is_name {
                return Err(malformed());
            }
            if tags.len() >= MAX_TAGS {
                return Err(TagError::TooMany);
            }
            if tags.iter().any(|(n, _)| *n == name) {
                return Err(TagError::Duplicate(name.to_owned()));
            }
            tags.push((name, value.trim()));
        }
        Ok(Self(tags))
    }

    pub(crate) fn all(&self) -> &[(&'a str, &'a str)] {
        &self.0
    }

    pub(crate) fn find(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|(n, _)| *n == name).map(|(_, value)| *value)
    }

    pub(crate) fn require(&self, name: &'static str) -> Result<&'a str, TagError> {
        self.find(name).ok_or(TagError::Missing(name))
    }

    /// A value as a number.
    pub(crate) fn number_of(&self, value: &str) -> Option<u64> {
        (!value.is_empty() && value.bytes().all(|b| b.is_ascii_digit())).then(|| value.parse().ok()).flatten()
    }

    /// A number; none if the tag is absent.
    pub(crate) fn number(&self, name: &'static str) -> Result<Option<u64>, TagError> {
        self.find(name).map(|text| self.number_of(text).ok_or(TagError::Value(name))).transpose()
    }
}

/// The parts of a list, without white space around them.
pub(crate) fn list(text: &str) -> Vec<String> {
    text.split(':').map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
}

/// Base64 with white space anywhere, RFC 6376 §2.10.
pub(crate) fn base64(text: &str) -> Option<Vec<u8>> {
    use base64::Engine as _;
    use base64::alphabet::STANDARD;
    use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
    const LENIENT: GeneralPurpose =
        GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent));
    let text: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    LENIENT.decode(text).ok()
}

/// A field's value without that of its `b` tag and the white space around it, RFC 6376 §3.5 and §3.7: the field as it is signed.
/// The final line break goes too.
pub(crate) fn without_signature(raw: &[u8]) -> Vec<u8> {
    let raw = raw.strip_suffix(b"\n").unwrap_or(raw);
    let raw = raw.strip_suffix(b"\r").unwrap_or(raw);
    let value_at = raw.iter().position(|b| *b == b':').map_or(0, |at| at.saturating_add(1));
    let (name, value) = raw.split_at(value_at.min(raw.len()));
    let mut out = Vec::with_capacity(raw.len());
    out.extend_from_slice(name);
    for (i, spec) in value.split(|b| *b == b';').enumerate() {
        if i > 0 {
            out.push(b';');
        }
        let equals = spec.iter().position(|b| *b == b'=');
        match equals {
            Some(equals) if spec.get(..equals).unwrap_or_default().trim_ascii() == b"b" => {
                out.extend_from_slice(spec.get(..=equals).unwrap_or_default());
            }
            _ => out.extend_from_slice(spec),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lists() {
        let tags = Tags::parse(" v = 1;\r\n\ta=rsa-sha256 ; b=ab\r\n cd==;x= ").unwrap();
        assert_eq!(tags.all(), [("v", "1"), ("a", "rsa-sha256"), ("b", "ab\r\n cd=="), ("x", "")]);
        assert_eq!(base64("YWJj\r\n ZA").unwrap(), b"abcd");
        for bad in ["", "v", "v=1;;a=b", "=1", "1a=b", "a b=c", "v=1;v=1"] {
            assert!(Tags::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(Tags::parse("t=12").unwrap().number("t"), Ok(Some(12)));
        assert_eq!(Tags::parse("t=+12").unwrap().number("t"), Err(TagError::Value("t")));
    }

    #[test]
    fn signature_goes() {
        assert_eq!(without_signature(b"X: v=1; b=abc\r\n\tdef ; bh=b=;\r\n"), b"X: v=1; b=; bh=b=;");
        assert_eq!(without_signature(b"X: bh=x;\r\n\tb = abc\r\n\tdef\r\n"), b"X: bh=x;\r\n\tb =");
    }

    proptest! {
        #[test]
        fn any_text(text in "[a-z=; \r\n\t]{0,40}") {
            let _tags = Tags::parse(&text);
            let _rest = without_signature(text.as_bytes());
        }
    }
}
