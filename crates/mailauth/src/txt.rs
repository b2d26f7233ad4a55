//! TXT records in which a domain speaks of TLS for its mail: those of MTA-STS, RFC 8461 §3.1, and of TLSRPT, RFC 8460 §3, have the
//! same form. Also the address in a `mailto:` URI, which records of TLSRPT and DMARC have.
//!
//! ```abnf
//! record      = version 1*(field-delim field) [field-delim]
//! field-delim = *WSP ";" *WSP
//! field       = name "=" value
//! ```

use mox_base::{Lookup, LookupError};

/// Why there is no record to go by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TxtError {
    /// There is none.
    Absent,
    /// There are several, which counts as none.
    Multiple,
    /// It can't be understood.
    Syntax(&'static str),
    /// DNS doesn't tell.
    Dns(LookupError),
}

/// Asks for the one record at a name that `parse` understands to be meant.
pub(crate) async fn lookup<R>(
    lookup: &dyn Lookup,
    name: &str,
    parse: impl Fn(&[u8]) -> Option<Result<R, &'static str>>,
) -> Result<R, TxtError> {
    let texts = match lookup.txt(name).await {
        Ok(answer) => answer.records,
        Err(LookupError::NotFound { .. }) => return Err(TxtError::Absent),
        Err(e) => return Err(TxtError::Dns(e)),
    };
    let mut meant = texts.iter().filter_map(|text| parse(text));
    match (meant.next(), meant.next()) {
        (None, _) => Err(TxtError::Absent),
        (Some(_), Some(_)) => Err(TxtError::Multiple),
        (Some(found), None) => found.map_err(TxtError::Syntax),
    }
}

/// The fields of a record; none if it isn't of this version, where `v=STSv10` is another one than `v=STSv1`.
pub(crate) fn fields<'t>(text: &'t [u8], version: &str) -> Option<Result<Vec<(&'t str, &'t str)>, &'static str>> {
    let rest = text.strip_prefix(version.as_bytes())?.trim_ascii_start().strip_prefix(b";")?;
    Some(std::str::from_utf8(rest).map_err(|_| "not ASCII").and_then(|rest| {
        let rest = rest.trim_matches([' ', '\t']);
        let rest = rest.strip_suffix(';').unwrap_or(rest);
        if rest.is_empty() {
            return Ok(Vec::new());
        }
        rest.split(';').map(|part| field(part.trim_matches([' ', '\t']))).collect()
    }))
}

fn field(text: &str) -> Result<(&str, &str), &'static str> {
    let (name, value) = text.split_once('=').ok_or("field without value")?;
    let good = (1..=32).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
    if good { Ok((name, value)) } else { Err("bad key") }
}

/// A field that isn't known.
pub(crate) fn extension(name: &str, value: &str) -> Result<(String, String), &'static str> {
    let good = !value.is_empty() && value.bytes().all(|b| b.is_ascii_graphic() && b != b'=');
    if good { Ok((name.to_owned(), value.to_owned())) } else { Err("bad value") }
}

/// The address of a `mailto:` URI, percent-decoded, without header fields that it may have; none for other schemes.
pub(crate) fn mail_address(uri: &str) -> Option<String> {
    let (scheme, rest) = uri.split_at_checked("mailto:".len())?;
    if !scheme.eq_ignore_ascii_case("mailto:") {
        return None;
    }
    percent_decoded(rest.split('?').next().unwrap_or_default())
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let mut digit = || bytes.next().and_then(|b| char::from(b).to_digit(16));
            let value = digit()?.checked_mul(16)?.checked_add(digit()?)?;
            out.push(u8::try_from(value).ok()?);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mail_addresses() {
        for (uri, want) in [
            ("mailto:a@x.example", Some("a@x.example")),
            ("MAILTO:b%2Bc@x.example?subject=y", Some("b+c@x.example")),
            ("mailto:%C3%A4@x.example", Some("ä@x.example")),
            ("mailto:%zz@x.example", None),
            ("mailto:%", None),
            ("https://x.example/", None),
            ("mail", None),
        ] {
            assert_eq!(mail_address(uri).as_deref(), want, "{uri}");
        }
    }
}
