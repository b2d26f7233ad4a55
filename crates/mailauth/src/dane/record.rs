//! One TLSA record: its text, whether SMTP can use it, and what it matches. RFC 6698 §2.

use aws_lc_rs::digest::{SHA256, SHA512, digest};
use mox_base::Tlsa;
use std::fmt::Write as _;

/// Usage 0: a CA that the chain must have, besides being valid by itself.
pub const PKIX_TA: u8 = 0;
/// Usage 1: a certificate that must also be valid by itself.
pub const PKIX_EE: u8 = 1;
/// Usage 2: the trust anchor of the chain.
pub const DANE_TA: u8 = 2;
/// Usage 3: the server's own certificate or key.
pub const DANE_EE: u8 = 3;

const SHA256_LEN: usize = 32;
const SHA512_LEN: usize = 64;

/// Whether a record can decide about an SMTP server, RFC 7672 §3.1: usage 2 or 3, a selector and a matching type that we know, and data that fits it.
pub fn is_usable(record: &Tlsa) -> bool {
    matches!(record.usage, DANE_TA | DANE_EE)
        && matches!(record.selector, 0 | 1)
        && match record.matching {
            0 => is_der_sequence(&record.data),
            1 => record.data.len() == SHA256_LEN,
            2 => record.data.len() == SHA512_LEN,
            _ => false,
        }
}

/// Whether the record matches a certificate, given in DER along with its SubjectPublicKeyInfo. Usage isn't looked at, RFC 6698 §2.1.
pub fn matches(record: &Tlsa, certificate: &[u8], spki: &[u8]) -> bool {
    let selected = match record.selector {
        0 => certificate,
        1 => spki,
        _ => return false,
    };
    match record.matching {
        0 => record.data == selected,
        1 => record.data == digest(&SHA256, selected).as_ref(),
        2 => record.data == digest(&SHA512, selected).as_ref(),
        _ => false,
    }
}

/// The record as zone files have it: `3 1 1 0123…`.
pub fn text(record: &Tlsa) -> String {
    let mut text = format!("{} {} {} ", record.usage, record.selector, record.matching);
    for byte in &record.data {
        // Writing to a String can't fail.
        let _ok = write!(text, "{byte:02x}");
    }
    text
}

/// Why a text is no TLSA record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Not four fields.
    #[error("expected usage, selector, matching type and data")]
    Fields,
    /// A number of 0 to 255.
    #[error("not a number of one octet")]
    Number,
    /// Data that isn't hexadecimal.
    #[error("data isn't pairs of hexadecimal digits")]
    Data,
}

/// The record of a text as [`text`] gives it; the data may have spaces between digits, RFC 6698 §2.2.
///
/// # Errors
/// See [`ParseError`].
pub fn parse(text: &str) -> Result<Tlsa, ParseError> {
    let mut fields = text.split_ascii_whitespace();
    let mut number = || -> Result<u8, ParseError> {
        let field = fields.next().ok_or(ParseError::Fields)?;
        if !field.bytes().all(|b| b.is_ascii_digit()) {
            return Err(ParseError::Number);
        }
        field.parse().map_err(|_| ParseError::Number)
    };
    let (usage, selector, matching) = (number()?, number()?, number()?);
    let digits: String = fields.collect();
    if digits.is_empty() {
        return Err(ParseError::Fields);
    }
    let data = digits
        .as_bytes()
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => Some(nibble(*high)?.checked_mul(16)?.checked_add(nibble(*low)?)?),
            _ => None,
        })
        .collect::<Option<Vec<u8>>>()
        .ok_or(ParseError::Data)?;
    Ok(Tlsa { usage, selector, matching, data })
}

fn nibble(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|n| u8::try_from(n).ok())
}

/// Whether the bytes are one DER SEQUENCE, as a certificate and a SubjectPublicKeyInfo are.
fn is_der_sequence(data: &[u8]) -> bool {
    let Some((&[tag, first], rest)) = data.split_first_chunk::<2>() else { return false };
    if tag != 0x30 {
        return false;
    }
    if first < 0x80 {
        return usize::from(first) == rest.len();
    }
    let octets = usize::from(first & 0x7f);
    let Some((length, content)) = rest.split_at_checked(octets).filter(|_| (1..=4).contains(&octets)) else { return false };
    let length = length.iter().fold(0u64, |n, b| (n << 8) | u64::from(*b));
    u64::try_from(content.len()).is_ok_and(|n| n == length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn which_records_smtp_can_use() {
        for (text, want) in [
            (format!("3 1 1 {}", "ab".repeat(32)), true),
            (format!("2 0 2 {}", "ab".repeat(64)), true),
            (format!("1 1 1 {}", "ab".repeat(32)), false),
            (format!("0 0 1 {}", "ab".repeat(32)), false),
            (format!("4 1 1 {}", "ab".repeat(32)), false),
            (format!("3 2 1 {}", "ab".repeat(32)), false),
            (format!("3 1 3 {}", "ab".repeat(32)), false),
            (format!("3 1 1 {}", "ab".repeat(31)), false),
            (format!("3 1 2 {}", "ab".repeat(32)), false),
            ("3 1 0 3003020101".to_owned(), true),
            ("3 1 0 3004020101".to_owned(), false),
            ("3 1 0 308103020101".to_owned(), true),
            ("3 1 0 3080".to_owned(), false),
            ("3 1 0 30".to_owned(), false),
        ] {
            assert_eq!(is_usable(&parse(&text).unwrap()), want, "{text}");
        }
    }

    #[test]
    fn what_a_record_matches() {
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let sha256 = hex(digest(&SHA256, b"cert").as_ref());
        let sha512 = hex(digest(&SHA512, b"spki").as_ref());
        for (text, want) in [
            (format!("3 0 1 {sha256}"), true),
            (format!("3 1 1 {sha256}"), false),
            (format!("2 1 2 {sha512}"), true),
            (format!("2 0 2 {sha512}"), false),
            (format!("3 0 0 {}", hex(b"cert")), true),
            (format!("3 1 0 {}", hex(b"spki")), true),
            (format!("3 2 0 {}", hex(b"spki")), false),
            (format!("3 1 9 {}", hex(b"spki")), false),
        ] {
            assert_eq!(matches(&parse(&text).unwrap(), b"cert", b"spki"), want, "{text}");
        }
    }

    #[test]
    fn texts_that_are_no_records() {
        for (text, want) in [
            ("", ParseError::Fields),
            ("3 1 1", ParseError::Fields),
            ("3 1 256 ab", ParseError::Number),
            ("3 +1 1 ab", ParseError::Number),
            ("3 1 1 abc", ParseError::Data),
            ("3 1 1 xx", ParseError::Data),
        ] {
            assert_eq!(parse(text), Err(want), "{text}");
        }
    }

    proptest! {
        #[test]
        fn printing_and_parsing(usage: u8, selector: u8, matching: u8, data in proptest::collection::vec(any::<u8>(), 1..80)) {
            let record = Tlsa { usage, selector, matching, data };
            prop_assert_eq!(parse(&text(&record)), Ok(record));
        }

        #[test]
        fn never_panics(input in ".{0,60}", data in proptest::collection::vec(any::<u8>(), 0..20)) {
            let _parsed = parse(&input);
            let _usable = is_usable(&Tlsa { usage: 3, selector: 0, matching: 0, data });
        }
    }
}
