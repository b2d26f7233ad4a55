//! The TXT record that announces a policy, RFC 8461 §3.1.

use mox_base::{Domain, Lookup, LookupError};

/// What the record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Changes with the policy.
    pub id: String,
    /// Keys we don't know, with their values.
    pub extensions: Vec<(String, String)>,
}

/// Why there is no record to go by.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The domain has none.
    #[error("no mta-sts dns txt record")]
    Absent,
    /// It has several, which counts as none, RFC 8461 §3.1.
    #[error("multiple mta-sts records")]
    Multiple,
    /// It can't be understood.
    #[error("malformed mta-sts record: {0}")]
    Syntax(&'static str),
    /// DNS doesn't tell.
    #[error(transparent)]
    Dns(LookupError),
}

impl RecordError {
    /// For TLS reports: words joined by dashes.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Absent => "no-mta-sts-dns-txt-record",
            Self::Multiple => "multiple-mta-sts-records",
            Self::Syntax(_) => "malformed-mta-sts-record",
            Self::Dns(_) => "mta-sts-dns-lookup",
        }
    }
}

/// Asks for a domain's record.
///
/// # Errors
/// See [`RecordError`].
pub async fn lookup(lookup: &dyn Lookup, domain: &Domain) -> Result<Record, RecordError> {
    let texts = match lookup.txt(&format!("_mta-sts.{}", domain.ascii())).await {
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

/// Understands one TXT record; none if it isn't about MTA-STS at all.
///
/// ```abnf
/// sts-text-record = sts-version 1*(sts-field-delim sts-field) [sts-field-delim]
/// sts-field-delim = *WSP ";" *WSP
/// ```
pub fn parse_record(text: &[u8]) -> Option<Result<Record, RecordError>> {
    let rest = text.strip_prefix(b"v=STSv1")?;
    let rest = rest.trim_ascii_start();
    // `v=STSv10` is something else.
    let fields = rest.strip_prefix(b";")?;
    Some(parse_fields(fields))
}

fn parse_fields(fields: &[u8]) -> Result<Record, RecordError> {
    let fields = std::str::from_utf8(fields).map_err(|_| RecordError::Syntax("not ASCII"))?;
    let mut id = None;
    let mut extensions = Vec::new();
    let mut parts = fields.split(';').peekable();
    while let Some(part) = parts.next() {
        let part = part.trim_matches([' ', '\t']);
        if part.is_empty() && parts.peek().is_none() {
            break;
        }
        let (key, value) = part.split_once('=').ok_or(RecordError::Syntax("field without value"))?;
        if !is_key(key) {
            return Err(RecordError::Syntax("bad key"));
        }
        if key == "id" {
            let good = (1..=32).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_alphanumeric());
            if !good {
                return Err(RecordError::Syntax("bad id"));
            }
            // The first counts.
            id.get_or_insert_with(|| value.to_owned());
        } else {
            let good = !value.is_empty() && value.bytes().all(|b| b.is_ascii_graphic() && b != b'=' && b != b';');
            if !good {
                return Err(RecordError::Syntax("bad value"));
            }
            extensions.push((key.to_owned(), value.to_owned()));
        }
    }
    let id = id.ok_or(RecordError::Syntax("no id"))?;
    Ok(Record { id, extensions })
}

/// `sts-ext-name`, RFC 8461 §3.1.
fn is_key(key: &str) -> bool {
    (1..=32).contains(&key.len())
        && key.starts_with(|c: char| c.is_ascii_alphanumeric())
        && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use mox_testkit::Zone;
    use proptest::prelude::*;

    fn show(text: &str) -> String {
        match parse_record(text.as_bytes()) {
            None => "ignored".to_owned(),
            Some(Ok(r)) => format!("{} {}", r.id, r.extensions.len()),
            Some(Err(e)) => e.to_string(),
        }
    }

    #[test]
    fn records() {
        for (text, want) in [
            ("v=STSv1; id=20160831085700Z;", "20160831085700Z 0"),
            ("v=STSv1;id=1", "1 0"),
            ("v=STSv1 ;\tid=1 ; a.b_c-d=x ;", "1 1"),
            ("v=STSv1; id=1; id=2", "1 0"),
            ("v=STSv10; id=1", "ignored"),
            ("v=STSv1", "ignored"),
            ("V=STSv1; id=1", "ignored"),
            ("v=spf1 -all", "ignored"),
            ("v=STSv1;", "malformed mta-sts record: no id"),
            ("v=STSv1; id=", "malformed mta-sts record: bad id"),
            ("v=STSv1; id=a-b", "malformed mta-sts record: bad id"),
            ("v=STSv1; id=123456789012345678901234567890123", "malformed mta-sts record: bad id"),
            ("v=STSv1; id=1; _x=y", "malformed mta-sts record: bad key"),
            ("v=STSv1; id=1;; a=b", "malformed mta-sts record: field without value"),
            ("v=STSv1; id=1; a=b=c", "malformed mta-sts record: bad value"),
        ] {
            assert_eq!(show(text), want, "{text}");
        }
    }

    #[tokio::test]
    async fn of_a_domain() {
        let zone = Zone::new()
            .txt("_mta-sts.one.example", "v=STSv1; id=1")
            .txt("_mta-sts.one.example", "something else")
            .txt("_mta-sts.two.example", "v=STSv1; id=1")
            .txt("_mta-sts.two.example", "v=STSv1; id=2")
            .cname("_mta-sts.alias.example", "_mta-sts.one.example")
            .txt("_mta-sts.other.example", "v=STSv2; id=1")
            .temporary("_mta-sts.temp.example", None)
            .txt("_mta-sts.xn--bcher-kva.example", "v=STSv1; id=3");
        for (domain, want) in [
            ("one.example", "1"),
            ("alias.example", "1"),
            ("bücher.example", "3"),
            ("two.example", "multiple mta-sts records"),
            ("other.example", "no mta-sts dns txt record"),
            ("none.example", "no mta-sts dns txt record"),
            ("temp.example", "temporary DNS failure: planned, for _mta-sts.temp.example"),
        ] {
            let got = lookup(&zone, &domain.parse().unwrap()).await;
            assert_eq!(got.map_or_else(|e| e.to_string(), |r| r.id), want, "{domain}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "(v=STSv1[; ]?)?[ -~]{0,60}") {
            let _parsed = parse_record(text.as_bytes());
        }
    }
}
