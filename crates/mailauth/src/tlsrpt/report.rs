//! A report, as JSON and in a message. RFC 8460 §4.4, §5.3.

use super::result::PolicyResult;
use super::wire::WireReport;
pub use crate::report_mail::Envelope;
use crate::report_mail::Packed;
use crate::unpack::{self, MAX_MESSAGE, MAX_REPORT};
use mox_base::{Random, Timestamp};
use mox_message::Structure;
use mox_message::compose::Composed;
use std::io::ErrorKind;

/// A report about some time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Who reports.
    pub organization: String,
    /// The first second.
    pub begin: Timestamp,
    /// The last second.
    pub end: Timestamp,
    /// Whom to ask.
    pub contact: String,
    /// Unique for the reporter.
    pub id: String,
    /// What happened.
    pub policies: Vec<PolicyResult>,
}

/// Why there is no report in a message.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Nothing in the message is one.
    #[error("no tls report in message")]
    NoReport,
    /// The message, or what it unpacks to, is larger than allowed.
    #[error("tls report too large")]
    TooLarge,
    /// Not gzip.
    #[error("unpacking tls report: {0}")]
    Gzip(std::io::Error),
    /// Not JSON, or not a report.
    #[error("parsing tls report: {0}")]
    Json(#[from] serde_json::Error),
    /// A date that is none.
    #[error("bad date in tls report")]
    Date,
}

impl Report {
    /// The JSON text.
    ///
    /// # Errors
    /// None that is known of: the fields are texts and numbers.
    pub fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(&WireReport::of(self))
    }

    /// The JSON text for people.
    ///
    /// # Errors
    /// As [`Report::to_json`].
    pub fn to_pretty_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(&WireReport::of(self))
    }

    /// Reads JSON.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn from_json(json: &[u8]) -> Result<Self, ReadError> {
        if json.len() > MAX_REPORT {
            return Err(ReadError::TooLarge);
        }
        serde_json::from_slice::<WireReport>(json)?.into_report().ok_or(ReadError::Date)
    }

    /// Whether any session failed, or a fault was noticed.
    pub fn has_failures(&self) -> bool {
        self.policies.iter().any(|p| p.failure > 0 || !p.details.is_empty())
    }
}

/// The report that a message brings, RFC 8460 §5.3: as the whole message, or as a part of it.
///
/// # Errors
/// See [`ReadError`].
pub fn read(message: &[u8]) -> Result<Report, ReadError> {
    if message.len() > MAX_MESSAGE {
        return Err(ReadError::TooLarge);
    }
    let structure = Structure::of(message);
    let root = structure.root();
    if root.is("multipart", "report") && root.param("report-type").is_none_or(|t| !t.eq_ignore_ascii_case("tlsrpt")) {
        return Err(ReadError::NoReport);
    }
    for part in structure.parts() {
        if part.is("application", "tlsrpt+json") {
            return Report::from_json(&unpack::content(message, part));
        }
        if part.is("application", "tlsrpt+gzip") {
            return Report::from_json(&unpacked(&unpack::content(message, part))?);
        }
    }
    Err(ReadError::NoReport)
}

fn unpacked(data: &[u8]) -> Result<Vec<u8>, ReadError> {
    unpack::gunzip(data).map_err(|e| if e.kind() == ErrorKind::FileTooLarge { ReadError::TooLarge } else { ReadError::Gzip(e) })
}

/// The JSON, packed as it is sent. RFC 8460 §5.2.
///
/// # Errors
/// The report can't be written or packed.
pub fn to_gzip(report: &Report) -> Result<Vec<u8>, ReadError> {
    unpack::gzip(&report.to_json()?).map_err(ReadError::Gzip)
}

/// Puts a report into a message, not signed yet. RFC 8460 §5.3.
///
/// # Errors
/// The report can't be written or packed.
pub fn message(report: &Report, envelope: &Envelope<'_>, random: &dyn Random) -> Result<Composed, ReadError> {
    let packed = Packed {
        id: &report.id,
        begin: report.begin,
        end: report.end,
        about: format!("Attached is a report about TLS when mail was sent to {}.", envelope.policy_domain),
        subtype: "report; report-type=\"tlsrpt\"",
        media_type: "application/tlsrpt+gzip",
        suffix: "json.gz",
        data: to_gzip(report)?,
    };
    let more = [
        ("TLS-Report-Domain", envelope.policy_domain),
        ("TLS-Report-Submitter", envelope.submitter),
        // RFC 8689 §5: the report about TLS that doesn't work must not need it.
        ("TLS-Required", "No"),
    ];
    envelope.message(packed, &more, random).map_err(|_| ReadError::TooLarge)
}

#[cfg(test)]
mod tests {
    use super::super::result::{FailureDetail, PolicyKind, ResultType};
    use super::*;
    use flate2::Compression;
    use flate2::read::GzEncoder;
    use mox_testkit::{Mutator, SeededRandom};
    use proptest::prelude::*;
    use std::io::Read as _;

    /// RFC 8460 appendix B, with the hosts and counts of its example.
    const EXAMPLE: &str = r#"{
      "organization-name": "Company-X",
      "date-range": {"start-datetime": "2016-04-01T00:00:00Z", "end-datetime": "2016-04-01T23:59:59Z"},
      "contact-info": "sts-reporting@company-x.example",
      "report-id": "5065427c-23d3-47ca-b6e0-946ea0e8c4be",
      "policies": [{
        "policy": {
          "policy-type": "sts",
          "policy-string": ["version: STSv1","mode: testing", "mx: *.mail.company-y.example","max_age: 86400"],
          "policy-domain": "company-y.example",
          "mx-host": "*.mail.company-y.example"
        },
        "summary": {"total-successful-session-count": 5326, "total-failure-session-count": 303},
        "failure-details": [{
          "result-type": "certificate-expired",
          "sending-mta-ip": "2001:db8:abcd:0012::1",
          "receiving-mx-hostname": "mx1.mail.company-y.example",
          "failed-session-count": 100
        }, {
          "result-type": "validation-failure",
          "receiving-ip": "198.51.100.58",
          "failed-session-count": 3,
          "failure-reason-code": "X509_V_ERR_PROXY_PATH_LENGTH_EXCEEDED"
        }]
      }]
    }"#;

    #[test]
    fn the_example_of_the_rfc() {
        let report = Report::from_json(EXAMPLE.as_bytes()).unwrap();
        let policy = &report.policies[0];
        assert_eq!((policy.success, policy.failure, policy.details.len()), (5326, 303, 2));
        assert_eq!(policy.policy.mx_hosts, ["*.mail.company-y.example"]);
        assert_eq!(policy.details[0].result, ResultType::CertificateExpired);
        assert!(report.has_failures());
        let json = report.to_json().unwrap();
        assert_eq!(Report::from_json(&json).unwrap(), report);
    }

    #[test]
    fn what_others_write() {
        let report = r#"{"organization-name":"M","date-range":{"start-datetime":"2024-01-02T00:00:00","end-datetime":"2024-01-02T23:59:59"},
            "contact-info":"c","report-id":"1","policies":null}"#;
        assert!(Report::from_json(report.as_bytes()).unwrap().policies.is_empty());
        for (text, want) in [
            ("{", "parsing"),
            ("[]", "parsing"),
            (r#"{"date-range":{"start-datetime":"x","end-datetime":"y"}}"#, "bad date"),
            (
                r#"{"date-range":{"start-datetime":"2024-01-02T00:00:00Z","end-datetime":"2024-01-02T00:00:00Z"},"policies":[{"summary":{"total-failure-session-count":-1}}]}"#,
                "parsing",
            ),
        ] {
            let error = Report::from_json(text.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with(want), "{error}");
        }
        let deep = "[".repeat(100_000);
        assert!(Report::from_json(deep.as_bytes()).is_err());
    }

    fn sample() -> Report {
        let mut result = super::PolicyResult::new(PolicyKind::NoPolicyFound, "b.example");
        result.success = 2;
        result.failure = 1;
        result.add(FailureDetail::new(ResultType::StarttlsNotSupported, "", 1));
        Report {
            organization: "a.example".to_owned(),
            begin: Timestamp::from_secs(1_704_153_600),
            end: Timestamp::from_secs(1_704_239_999),
            contact: "postmaster@a.example".to_owned(),
            id: "20240102.b.example@a.example".to_owned(),
            policies: vec![result],
        }
    }

    fn sample_message() -> String {
        let envelope = Envelope {
            from: "postmaster@a.example".parse().unwrap(),
            to: vec!["r1@b.example".parse().unwrap(), "r2@b.example".parse().unwrap()],
            policy_domain: "b.example",
            submitter: "a.example",
            message_id: "1@a.example".to_owned(),
            date: Timestamp::from_secs(1_704_240_000),
            user_agent: "mox/test",
        };
        String::from_utf8(message(&sample(), &envelope, &SeededRandom::default()).unwrap().bytes).unwrap()
    }

    #[test]
    fn there_and_back_in_a_message() {
        let text = sample_message();
        for part in [
            "From: <postmaster@a.example>\r\n",
            "To: <r1@b.example>, <r2@b.example>\r\n",
            "TLS-Report-Domain: b.example\r\n",
            "TLS-Report-Submitter: a.example\r\n",
            "TLS-Required: No\r\n",
            "User-Agent: mox/test\r\n",
            "multipart/report; report-type=\"tlsrpt\"",
            "application/tlsrpt+gzip",
            "a.example!b.example!1704153600!1704239999.json.gz",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(
            text.replace("\r\n ", " ")
                .contains("Subject: Report Domain: b.example Submitter: a.example Report-ID: <20240102.b.example@a.example>")
        );
        assert_eq!(read(text.as_bytes()).unwrap(), sample());
        let wrong = text.replace("report-type=\"tlsrpt\"", "report-type=\"other\"");
        assert!(matches!(read(wrong.as_bytes()), Err(ReadError::NoReport)));
    }

    #[test]
    fn alone_in_a_message() {
        let text = format!("Content-Type: application/tlsrpt+json\r\n\r\n{EXAMPLE}");
        assert_eq!(read(text.as_bytes()).unwrap().organization, "Company-X");
        assert!(matches!(read(b"Subject: hi\r\n\r\nhello"), Err(ReadError::NoReport)));
    }

    #[test]
    fn bombs_are_refused() {
        use base64::Engine as _;
        // 200 MiB of spaces in about 200 KiB.
        let mut packed = Vec::new();
        GzEncoder::new(std::io::repeat(b' ').take(200 * 1024 * 1024), Compression::fast()).read_to_end(&mut packed).unwrap();
        // Many small ones, one behind the other, RFC 1952 §2.2.
        let members = unpack::gzip(&vec![b' '; 1 << 20]).unwrap().repeat(300);
        for packed in [packed, members] {
            let base64 = base64::engine::general_purpose::STANDARD.encode(packed);
            let text = format!("Content-Type: application/tlsrpt+gzip\r\nContent-Transfer-Encoding: base64\r\n\r\n{base64}");
            assert!(matches!(read(text.as_bytes()), Err(ReadError::TooLarge)));
        }
        assert!(matches!(read(&vec![b'a'; MAX_MESSAGE + 1]), Err(ReadError::TooLarge)));
        let text = "Content-Type: application/tlsrpt+gzip\r\n\r\nnot gzip";
        assert!(matches!(read(text.as_bytes()), Err(ReadError::Gzip(_))));
    }

    /// Values of every kind in each place: what is read is written and read as the same, and counts can be added up.
    #[test]
    fn values_that_nobody_thought_of() {
        let mut read_ones = 0;
        let mut all = Vec::new();
        for seed in 0..2000 {
            let Ok(report) = Report::from_json(&Mutator::new(seed).json(EXAMPLE)) else { continue };
            read_ones += 1;
            assert_eq!(Report::from_json(&report.to_json().unwrap()).unwrap(), report, "seed {seed}");
            assert_eq!(super::super::results_from_json(&super::super::results_to_json(&report.policies)), Some(report.policies.clone()));
            super::super::merge(&mut all, report.policies);
            let _any = (all.len(), report.begin.rfc3339(), report.end.rfc3339());
        }
        assert!(read_ones > 200, "{read_ones}");
        let total = all.iter().fold(0_u64, |sum, result| sum.saturating_add(result.success));
        assert!(total >= 5326, "{total}");
    }

    proptest! {
        #[test]
        fn never_panics(at in 0usize..700, byte: u8) {
            let mut text = sample_message().into_bytes();
            let place = at.min(text.len() - 1);
            text[place] = byte;
            let _read = read(&text);
        }

        /// Not only bytes in base64: each place of the JSON itself.
        #[test]
        fn json_of_anything(at in 0usize..1400, with in "[\\[\\]{}\",:0-9a-z-]{0,4}", cut in 0usize..20) {
            let mut text = EXAMPLE.to_owned();
            let at = at.min(text.len());
            let end = at.saturating_add(cut).min(text.len());
            text.replace_range(at..end, &with);
            if let Ok(report) = Report::from_json(text.as_bytes()) {
                prop_assert_eq!(Report::from_json(&report.to_json().unwrap()).unwrap(), report);
            }
        }
    }
}
