//! Preparation of passwords.

use stringprep::tables;
use unicode_normalization::UnicodeNormalization as _;

/// A password as the OpaqueString profile prepares it, RFC 8265 §4.2.2: other spaces become U+0020, then NFC. None when
/// it is empty or holds control characters, which no such password can.
pub fn opaque_string(password: &str) -> Option<String> {
    let prepared: String = password.chars().map(|c| if tables::non_ascii_space_character(c) { ' ' } else { c }).nfc().collect();
    let allowed = |c: char| {
        !tables::ascii_control_character(c)
            && !tables::non_ascii_control_character(c)
            && !tables::non_character_code_point(c)
            && !tables::private_use(c)
    };
    (!prepared.is_empty() && prepared.chars().all(allowed)).then_some(prepared)
}

#[cfg(test)]
mod tests {
    use super::opaque_string;

    #[test]
    fn rfc_8265_examples() {
        // RFC 8265 §4.3: spaces and symbols are kept, ideographic and other spaces become U+0020.
        assert_eq!(opaque_string("correct horse battery staple").as_deref(), Some("correct horse battery staple"));
        assert_eq!(opaque_string("π\u{df}\u{e5}").as_deref(), Some("π\u{df}\u{e5}"));
        assert_eq!(opaque_string("Jack of \u{2666}s").as_deref(), Some("Jack of \u{2666}s"));
        assert_eq!(opaque_string("foo\u{1680}bar").as_deref(), Some("foo bar"));
        assert_eq!(opaque_string(""), None);
        assert_eq!(opaque_string("my cat is a \u{9}by"), None);
    }
}
