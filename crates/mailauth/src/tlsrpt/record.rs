//! The TXT record that says where reports go, RFC 8460 §3.

use crate::txt::{self, TxtError};
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
        for address in self.rua.iter().flatten().filter_map(|uri| txt::mail_address(uri)) {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        addresses
    }

    /// URLs to post reports to, RFC 8460 §3: each once.
    pub fn urls(&self) -> Vec<String> {
        let mut urls: Vec<String> = Vec::new();
        let is_https = |uri: &str| uri.get(..8).is_some_and(|head| head.eq_ignore_ascii_case("https://"));
        for uri in self.rua.iter().flatten().filter(|uri| is_https(uri)) {
            if !urls.contains(uri) {
                urls.push(uri.clone());
            }
        }
        urls
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

impl From<TxtError> for RecordError {
    fn from(e: TxtError) -> Self {
        match e {
            TxtError::Absent => Self::Absent,
            TxtError::Multiple => Self::Multiple,
            TxtError::Syntax(what) => Self::Syntax(what),
            TxtError::Dns(e) => Self::Dns(e),
        }
    }
}

/// Asks for a domain's record.
///
/// # Errors
/// See [`RecordError`].
pub async fn lookup(lookup: &dyn Lookup, domain: &Domain) -> Result<Record, RecordError> {
    Ok(txt::lookup(lookup, &format!("_smtp._tls.{}", domain.ascii()), parse).await?)
}

/// Understands one TXT record; none if it isn't about TLSRPT at all.
pub fn parse_record(text: &[u8]) -> Option<Result<Record, RecordError>> {
    parse(text).map(|parsed| parsed.map_err(RecordError::Syntax))
}

fn parse(text: &[u8]) -> Option<Result<Record, &'static str>> {
    Some(txt::fields(text, "v=TLSRPTv1")?.and_then(record))
}

fn record(fields: Vec<(&str, &str)>) -> Result<Record, &'static str> {
    let (mut rua, mut extensions) = (Vec::new(), Vec::new());
    for (key, value) in fields {
        if key == "rua" {
            let uris = value.split(',').map(|text| uri(text.trim_matches([' ', '\t'])));
            rua.push(uris.collect::<Option<Vec<_>>>().ok_or("bad rua")?);
        } else {
            extensions.push(txt::extension(key, value)?);
        }
    }
    if rua.is_empty() { Err("no rua") } else { Ok(Record { rua, extensions }) }
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

#[cfg(test)]
mod tests {
    use super::*;
    use mox_testkit::Zone;
    use proptest::prelude::*;

    fn show(text: &str) -> String {
        match parse_record(text.as_bytes()) {
            None => "ignored".to_owned(),
            Some(Ok(r)) => format!("{} {}", r.addresses().join(" "), r.rua.iter().flatten().count()) + &r.urls().concat(),
            Some(Err(e)) => e.to_string(),
        }
    }

    #[test]
    fn records() {
        for (text, want) in [
            ("v=TLSRPTv1;rua=mailto:reports@example.com", "reports@example.com 1"),
            ("v=TLSRPTv1; rua=https://reporting.example.com/v1/tlsrpt", " 1https://reporting.example.com/v1/tlsrpt"),
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
