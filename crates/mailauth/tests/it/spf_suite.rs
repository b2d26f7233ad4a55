//! The test suite of openspf.org for RFC 7208, read where it lies.

use mox_base::{Answer, Lookup, LookupError, LookupFuture, Mx, Record, RecordKind, Timestamp};
use mox_mailauth::spf::{Query, check_host};
use mox_testkit::peers::require_data;
use std::collections::BTreeMap;
use std::time::Duration;
use yaml_rust2::{Yaml, YamlLoader};

/// A scenario's zone.
#[derive(Debug, Default)]
struct Zone {
    records: BTreeMap<(String, &'static str), Vec<Record>>,
    timeout: Vec<(String, Option<&'static str>)>,
}

fn kind_name(kind: RecordKind) -> &'static str {
    match kind {
        RecordKind::A => "A",
        RecordKind::Aaaa => "AAAA",
        RecordKind::Mx => "MX",
        RecordKind::Ptr => "PTR",
        RecordKind::Txt => "TXT",
        RecordKind::Cname => "CNAME",
        _ => "",
    }
}

/// Octets are written as characters of Latin-1.
fn octets(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect()
}

fn text_of(value: &Yaml) -> Vec<u8> {
    match value {
        Yaml::Array(strings) => strings.iter().flat_map(|s| octets(s.as_str().unwrap())).collect(),
        value => octets(value.as_str().unwrap()),
    }
}

impl Zone {
    fn new(zonedata: &Yaml) -> Self {
        let mut zone = Self::default();
        for (name, entries) in zonedata.as_hash().unwrap() {
            let name = name.as_str().unwrap().to_ascii_lowercase();
            let entries = entries.as_vec().unwrap();
            let has_txt = entries.iter().any(|e| !e["TXT"].is_badvalue());
            for entry in entries {
                if entry.as_str() == Some("TIMEOUT") {
                    zone.timeout.push((name.clone(), None));
                    continue;
                }
                for (kind, value) in entry.as_hash().unwrap() {
                    let kind = kind.as_str().unwrap();
                    if value.as_str() == Some("TIMEOUT") {
                        let kind = match kind {
                            "SPF" | "TXT" => "TXT",
                            "A" => "A",
                            "AAAA" => "AAAA",
                            "MX" => "MX",
                            "PTR" => "PTR",
                            other => panic!("{other}"),
                        };
                        zone.timeout.push((name.clone(), Some(kind)));
                        continue;
                    }
                    let (kind, record) = match kind {
                        // As the suite says, records of the abandoned type stand for TXT too, unless those are given.
                        "SPF" if has_txt => continue,
                        "TXT" if value.as_str() == Some("NONE") => continue,
                        "SPF" | "TXT" => ("TXT", Record::Txt(text_of(value))),
                        "A" => ("A", Record::A(value.as_str().unwrap().parse().unwrap())),
                        "AAAA" => ("AAAA", Record::Aaaa(value.as_str().unwrap().parse().unwrap())),
                        "PTR" => ("PTR", Record::Ptr(value.as_str().unwrap().to_owned())),
                        "CNAME" => ("CNAME", Record::Cname(value.as_str().unwrap().to_ascii_lowercase())),
                        "MX" => {
                            let preference = u16::try_from(value[0].as_i64().unwrap()).unwrap();
                            ("MX", Record::Mx(Mx { preference, host: value[1].as_str().unwrap().to_owned() }))
                        }
                        other => panic!("{other}"),
                    };
                    zone.records.entry((name.clone(), kind)).or_default().push(record);
                }
            }
        }
        zone
    }

    fn resolve(&self, name: &str, kind: RecordKind) -> Result<Answer<Vec<Record>>, LookupError> {
        let mut name = name.trim_end_matches('.').to_ascii_lowercase();
        for _ in 0..10 {
            let timed_out = |of| self.timeout.contains(&(name.clone(), of));
            if timed_out(Some(kind_name(kind))) {
                return Err(LookupError::Temporary("timeout".to_owned()));
            }
            if let Some(records) = self.records.get(&(name.clone(), kind_name(kind))) {
                return Ok(Answer { records: records.clone(), authentic: false, ttl: Duration::ZERO });
            }
            // Without a type, it stands for all that have no records.
            if timed_out(None) {
                return Err(LookupError::Temporary("timeout".to_owned()));
            }
            match self.records.get(&(name.clone(), "CNAME")).and_then(|r| r.first()) {
                Some(Record::Cname(target)) => name.clone_from(target),
                _ => return Err(LookupError::NotFound { authentic: false }),
            }
        }
        Err(LookupError::Temporary("too many aliases".to_owned()))
    }
}

impl Lookup for Zone {
    fn query<'a>(&'a self, name: &'a str, kind: RecordKind) -> LookupFuture<'a> {
        Box::pin(std::future::ready(self.resolve(name, kind)))
    }
}

#[test]
fn openspf_suite() {
    let Some(folder) = require_data("spf") else { return };
    let text = std::fs::read_to_string(folder.join("rfc7208-tests.yml")).unwrap();
    let mut failures = Vec::new();
    let mut count = 0;
    for scenario in YamlLoader::load_from_str(&text).unwrap() {
        let zone = Zone::new(&scenario["zonedata"]);
        for (name, test) in scenario["tests"].as_hash().unwrap() {
            count += 1;
            let helo = test["helo"].as_str().unwrap();
            let mail_from = test["mailfrom"].as_str().unwrap();
            let (localpart, domain) = mail_from.rsplit_once('@').unwrap_or(("", helo));
            let query = Query {
                ip: test["host"].as_str().unwrap().parse().unwrap(),
                domain,
                localpart,
                helo,
                receiver: "receiver.example",
                now: Timestamp::from_secs(1_700_000_000),
            };
            let outcome = crate::ready(check_host(&zone, &query));
            let wanted: Vec<&str> = match &test["result"] {
                Yaml::Array(any) => any.iter().map(|r| r.as_str().unwrap()).collect(),
                one => vec![one.as_str().unwrap()],
            };
            let explained = match test["explanation"].as_str() {
                None | Some("DEFAULT") => true,
                // In whichever case hexadecimal digits are, they make the same name, RFC 4343 §3.
                Some(explanation) => outcome.explanation.as_deref().is_some_and(|e| e.eq_ignore_ascii_case(explanation)),
            };
            if !wanted.contains(&outcome.result.name()) || !explained {
                failures.push(format!("{}: want {wanted:?} {:?}, got {outcome:?}", name.as_str().unwrap(), test["explanation"].as_str()));
            }
        }
    }
    assert!(count > 150, "only {count} tests");
    assert!(failures.is_empty(), "{} of {count} fail:\n{}", failures.len(), failures.join("\n"));
}
