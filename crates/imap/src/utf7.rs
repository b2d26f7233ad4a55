//! Modified UTF-7, in which mailbox names are written until IMAP4rev2 or UTF8=ACCEPT is enabled, RFC 3501 §5.1.3.
//!
//! Strict in reading: every name has exactly one encoding, so that two spellings can't name one mailbox.

/// Why a text isn't modified UTF-7.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Utf7Error {
    /// A character that has to be encoded, or isn't allowed at all.
    #[error("character outside printable ASCII")]
    Unencoded,
    /// `&` without its `-`.
    #[error("unfinished shift")]
    Unfinished,
    /// Not the base64 of RFC 3501, or with bits left over.
    #[error("bad base64")]
    Base64,
    /// Half a character.
    #[error("unpaired surrogate")]
    Surrogate,
    /// Printable ASCII inside of base64, or a shift right after another.
    #[error("needless encoding")]
    Needless,
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,";

/// Decodes a mailbox name.
pub fn decode(text: &str) -> Result<String, Utf7Error> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut after_shift = false;
    while let Some(c) = rest.chars().next() {
        let tail = rest.get(c.len_utf8()..).unwrap_or_default();
        if c != '&' {
            if !matches!(c, ' '..='~') {
                return Err(Utf7Error::Unencoded);
            }
            out.push(c);
            rest = tail;
            after_shift = false;
            continue;
        }
        let (encoded, after) = tail.split_once('-').ok_or(Utf7Error::Unfinished)?;
        if encoded.is_empty() {
            out.push('&');
            after_shift = false;
        } else {
            if after_shift {
                return Err(Utf7Error::Needless);
            }
            decode_shifted(encoded.as_bytes(), &mut out)?;
            after_shift = true;
        }
        rest = after;
    }
    Ok(out)
}

fn decode_shifted(encoded: &[u8], out: &mut String) -> Result<(), Utf7Error> {
    let mut units = Vec::with_capacity(encoded.len().saturating_mul(6) / 16);
    let (mut bits, mut have) = (0u32, 0u32);
    for b in encoded {
        let value = ALPHABET.iter().position(|a| a == b).and_then(|i| u32::try_from(i).ok()).ok_or(Utf7Error::Base64)?;
        bits = (bits << 6) | value;
        have = have.saturating_add(6);
        if have >= 16 {
            have = have.saturating_sub(16);
            units.push(u16::try_from((bits >> have) & 0xffff).unwrap_or_default());
            bits &= (1 << have) - 1;
        }
    }
    if have >= 6 || bits != 0 {
        return Err(Utf7Error::Base64);
    }
    for unit in char::decode_utf16(units) {
        match unit.map_err(|_| Utf7Error::Surrogate)? {
            ' '..='~' => return Err(Utf7Error::Needless),
            c => out.push(c),
        }
    }
    Ok(())
}

/// Encodes a mailbox name.
pub fn encode(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut shifted: Vec<u16> = Vec::new();
    for c in name.chars() {
        if matches!(c, ' '..='~') {
            flush(&mut shifted, &mut out);
            out.push(c);
            if c == '&' {
                out.push('-');
            }
        } else {
            shifted.extend_from_slice(c.encode_utf16(&mut [0; 2]));
        }
    }
    flush(&mut shifted, &mut out);
    out
}

fn flush(units: &mut Vec<u16>, out: &mut String) {
    if units.is_empty() {
        return;
    }
    out.push('&');
    let mut digit = |bits: u32| {
        let i = usize::try_from(bits & 0x3f).unwrap_or(0);
        out.push(char::from(ALPHABET.get(i).copied().unwrap_or(b'A')));
    };
    let (mut bits, mut have) = (0u32, 0u32);
    for unit in units.drain(..) {
        bits = (bits << 16) | u32::from(unit);
        have = have.saturating_add(16);
        while have >= 6 {
            have = have.saturating_sub(6);
            digit(bits >> have);
        }
        bits &= (1 << have) - 1;
    }
    if have > 0 {
        digit(bits << 6u32.saturating_sub(have));
    }
    out.push('-');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways() {
        for (name, encoded) in [
            ("Inbox", "Inbox"),
            ("a&b", "a&-b"),
            ("&&", "&-&-"),
            ("~peter/mail/台北/日本語", "~peter/mail/&U,BTFw-/&ZeVnLIqe-"),
            ("☺!", "&Jjo-!"),
            ("é&", "&AOk-&-"),
            ("😀", "&2D3eAA-"),
            ("\t", "&AAk-"),
        ] {
            assert_eq!(encode(name), encoded);
            assert_eq!(decode(encoded).as_deref(), Ok(name));
        }
    }

    #[test]
    fn refuses() {
        for (text, want) in [
            ("&", Utf7Error::Unfinished),
            ("&Jjo", Utf7Error::Unfinished),
            ("&Jjo!", Utf7Error::Unfinished),
            ("&Jjo-&Jjo-", Utf7Error::Needless),
            ("&AGE-", Utf7Error::Needless),
            ("&ACY-", Utf7Error::Needless),
            ("é", Utf7Error::Unencoded),
            ("&Jj-", Utf7Error::Base64),
            ("&Jjp-", Utf7Error::Base64),
            ("&J/o-", Utf7Error::Base64),
            ("&2D0-", Utf7Error::Surrogate),
        ] {
            let got = decode(text);
            assert_eq!(got, Err(want), "{text}");
        }
    }
}
