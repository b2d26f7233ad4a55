//! The TXT record that says where reports go, RFC 8460 §3.

use mox_base::{Domain, Lookup, LookupError};

/// What the record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where reports go: URIs with their schemes, in groups as they are listed.
    pub rua: Vec<Vec<String>>,
    /// Keys we don't know, with their values.
    pub extensions: Vec<(String, String)>,
}

impl Record {
    /// Addresses to send reports to by mail, percent-decoded, each once.
    pub fn addresses(&self) -> Vec<String> {
        let mut addresses = Vec::new();
        for uri in self.rua.iter().flatten() {
            let Some(rest) = strip_scheme(uri, "mailto:") else { continue };
            let Some(address) = percent_decoded(rest.split('?').next().unwrap_or_default()) else { continue };
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        addresses
    }
}

/// Why there is no record to go by.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The domain has none: it wants no reports.
    #[error("no tlsrpt dns txt record")]
    Absent,
    /// It has several, which counts as none, RFC 8460 §3.
    #[error("multiple tlsrpt records")]
    Multiple,
    /// It can't be understood.
    #[error("malformed tlsrpt record: {0}")]
    Syntax(&'static str),
    /// DNS doesn't tell.
    #[error(transparent)]
    Dns(LookupError),
}

/// Asks for a domain's record.
///
/// # Errors
/// See [`RecordError`].
pub async fn lookup(lookup: &dyn Lookup, domain: &Domain) -> Result<Record, RecordError> {
    let texts = match lookup.txt(&format!("_smtp._tls.{}", domain.ascii())).await {
        Ok(answer) => answer.records,
        Err(LookupError::NotFound { .. }) => return Err(RecordError::Absent),
        Err(e) => return Err(RecordError::Dns(e)),
    };
    let mut found = None;
    for text in &texts {
        let Some(parsed) = parse_record(text) else { continue };
        if found.is_some() {
            return Err(RecordError::Multiple);
        }
        found = Some(parsed);
    }
    found.unwrap_or(Err(RecordError::Absent))
}

/// Understands one TXT record; none if it isn't about TLSRPT at all.
///
/// ```abnf
/// tlsrpt-record = tlsrpt-version 1*(field-delim tlsrpt-field) [field-delim]
/// field-delim   = *WSP ";" *WSP
/// ```
pub fn parse_record(text: &[u8]) -> Option<Result<Record, RecordError>> {
    let rest = text.strip_prefix(b"v=TLSRPTv1")?;
    let fields = rest.trim_ascii_start().strip_prefix(b";")?;
    Some(parse_fields(fields))
}

fn parse_fields(fields: &[u8]) -> Result<Record, RecordError> {
    let fields = std::str::from_utf8(fields).map_err(|_| RecordError::Syntax("not ASCII"))?;
    let (mut rua, mut extensions) = (Vec::new(), Vec::new());
    let mut parts = fields.split(';').peekable();
    while let Some(part) = parts.next() {
        let part = part.trim_matches([' ', '\t']);
        if part.is_empty() && parts.peek().is_none() {
            break;
        }
        let (key, value) = part.split_once('=').ok_or(RecordError::Syntax("field without value"))?;
        let good_key = (1..=32).contains(&key.len())
            && key.starts_with(|c: char| c.is_ascii_alphanumeric())
            && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
        if !good_key {
            return Err(RecordError::Syntax("bad key"));
        }
        if key == "rua" {
            let uris = value.split(',').map(|uri| uri.trim_matches([' ', '\t']));
            rua.push(uris.map(uri).collect::<Option<Vec<_>>>().ok_or(RecordError::Syntax("bad rua"))?);
        } else {
            if value.is_empty() || !value.bytes().all(|b| b.is_ascii_graphic() && b != b'=') {
                return Err(RecordError::Syntax("bad value"));
            }
            extensions.push((key.to_owned(), value.to_owned()));
        }
    }
    if rua.is_empty() {
        return Err(RecordError::Syntax("no rua"));
    }
    Ok(Record { rua, extensions })
}

/// A URI with a scheme. Comma, exclamation mark and semicolon are percent-encoded in it.
fn uri(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once(':')?;
    let good = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
        && !rest.is_empty()
        && rest.bytes().all(|b| b.is_ascii_graphic() && b != b'!');
    good.then(|| text.to_owned())
}

fn strip_scheme<'t>(text: &'t str, scheme: &str) -> Option<&'t str> {
    let (head, rest) = text.split_at_checked(scheme.len())?;
    head.eq_ignore_ascii_case(scheme).then_some(rest)
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
    use mox_testkit::Zone;
    use proptest::prelude::*;

    fn show(text: &str) -> String {
        match parse_record(text.as_bytes()) {
            None => "ignored".to_owned(),
            Some(Ok(r)) => format!("{} {}", r.addresses().join(" "), r.rua.iter().flatten().count()),
            Some(Err(e)) => e.to_string(),
        }
    }

    #[test]
    fn records() {
        for (text, want) in [
            ("v=TLSRPTv1;rua=mailto:reports@example.com", "reports@example.com 1"),
            ("v=TLSRPTv1; rua=https://reporting.example.com/v1/tlsrpt", " 1"),
            (
                "v=TLSRPTv1; rua=mailto:a@x.example , MAILTO:b%2Bc@x.example?x=y; rua=mailto:a@x.example; ext=1;",
                "a@x.example b+c@x.example 3",
            ),
            ("v=TLSRPTv2; rua=mailto:a@x.example", "ignored"),
            ("v=TLSRPTv1", "ignored"),
            ("v=TLSRPTv1;", "malformed tlsrpt record: no rua"),
            ("v=TLSRPTv1; ext=1", "malformed tlsrpt record: no rua"),
            ("v=TLSRPTv1; rua=", "malformed tlsrpt record: bad rua"),
            ("v=TLSRPTv1; rua=a@x.example", "malformed tlsrpt record: bad rua"),
            ("v=TLSRPTv1; rua=mailto:a@x.example!10m", "malformed tlsrpt record: bad rua"),
            ("v=TLSRPTv1; rua=mailto:a@x.example;;", "malformed tlsrpt record: field without value"),
        ] {
            assert_eq!(show(text), want, "{text}");
        }
    }

    #[tokio::test]
    async fn of_a_domain() {
        let zone = Zone::new()
            .txt("_smtp._tls.one.example", "v=TLSRPTv1; rua=mailto:a@one.example")
            .txt("_smtp._tls.two.example", "v=TLSRPTv1; rua=mailto:a@two.example")
            .txt("_smtp._tls.two.example", "v=TLSRPTv1; rua=mailto:b@two.example")
            .temporary("_smtp._tls.temp.example", None);
        for (domain, want) in [
            ("one.example", "ok"),
            ("two.example", "multiple tlsrpt records"),
            ("none.example", "no tlsrpt dns txt record"),
            ("temp.example", "temporary DNS failure: planned, for _smtp._tls.temp.example"),
        ] {
            let got = lookup(&zone, &domain.parse().unwrap()).await;
            assert_eq!(got.map_or_else(|e| e.to_string(), |_| "ok".to_owned()), want, "{domain}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "(v=TLSRPTv1;(rua=)?)?[ -~]{0,60}") {
            if let Some(Ok(record)) = parse_record(text.as_bytes()) {
                let _addresses = record.addresses();
            }
        }
    }
}
