//! The TXT record that announces a policy, RFC 8461 §3.1.

use crate::txt::{self, TxtError};
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
    Ok(txt::lookup(lookup, &format!("_mta-sts.{}", domain.ascii()), parse).await?)
}

/// Understands one TXT record; none if it isn't about MTA-STS at all.
pub fn parse_record(text: &[u8]) -> Option<Result<Record, RecordError>> {
    parse(text).map(|parsed| parsed.map_err(RecordError::Syntax))
}

fn parse(text: &[u8]) -> Option<Result<Record, &'static str>> {
    Some(txt::fields(text, "v=STSv1")?.and_then(record))
}

fn record(fields: Vec<(&str, &str)>) -> Result<Record, &'static str> {
    let mut id = None;
    let mut extensions = Vec::new();
    for (key, value) in fields {
        if key == "id" {
            let good = (1..=32).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_alphanumeric());
            if !good {
                return Err("bad id");
            }
            // The first counts.
            id.get_or_insert_with(|| value.to_owned());
        } else {
            extensions.push(txt::extension(key, value)?);
        }
    }
    Ok(Record { id: id.ok_or("no id")?, extensions })
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
