//! `xtext`, RFC 3461 §4: printable ASCII, with the rest, `+` and `=` as `+` and two hex digits.

use std::fmt::Write as _;

/// The octets of an xtext; none when malformed.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' => {
                let pair = [bytes.next()?, bytes.next()?];
                // RFC 3461 §4: hex digits are upper case.
                if !pair.iter().all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(b)) {
                    return None;
                }
                out.push(u8::from_str_radix(std::str::from_utf8(&pair).ok()?, 16).ok()?);
            }
            b'=' => return None,
            0x21..=0x7e => out.push(byte),
            _ => return None,
        }
    }
    Some(out)
}

/// Octets as xtext.
pub fn encode(octets: &[u8]) -> String {
    let mut out = String::with_capacity(octets.len());
    for &octet in octets {
        match octet {
            b'+' | b'=' | 0..=0x20 | 0x7f.. => {
                // Writing to a String can't fail.
                let _written = write!(out, "+{octet:02X}");
            }
            _ => out.push(char::from(octet)),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn decodes() {
        assert_eq!(decode("a+2Bb+3D").as_deref(), Some(b"a+b=".as_slice()));
        for text in ["a+2b", "+", "+2", "a=b", "a b", "\u{e9}"] {
            assert_eq!(decode(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn decoding_what_was_encoded_gives_the_same(octets in proptest::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(decode(&encode(&octets)), Some(octets));
        }
    }
}
