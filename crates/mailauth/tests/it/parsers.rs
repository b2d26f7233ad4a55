//! Every parser of records and fields: no panic whatever comes, no time that grows with the square of it, and what was printed is
//! read as it was meant.

use crate::ready;
use mox_base::{Domain, Timestamp, Tlsa};
use mox_mailauth::dkim::{DkimSettings, KeyRecord};
use mox_mailauth::dmarc::{Alignment, DmarcRecord, Policy, ReportUri, SizeUnit};
use mox_mailauth::spf::{SpfRecord, SpfSession};
use mox_mailauth::{MessageReader, ReadMessage, dane, mtasts};
use mox_testkit::Zone;
use proptest::prelude::*;
use std::time::Duration;

fn read(message: &[u8]) -> ReadMessage {
    let mut reader = MessageReader::for_sealing();
    message.chunks(4096).for_each(|piece| reader.push(piece));
    reader.finish()
}

fn check(message: &[u8]) {
    let read = read(message);
    let zone = Zone::new();
    let settings = DkimSettings { now: Timestamp::from_secs(1_700_000_000), accept_top_level: None };
    let outcomes = ready(read.verify_dkim(&zone, &settings));
    assert!(outcomes.is_err() || outcomes.unwrap().len() <= mox_mailauth::MAX_SIGNATURES);
    let _chain = ready(read.verify_arc(&zone));
    assert!(zone.queries() <= 120, "{} queries", zone.queries());
}

fn names() -> impl Strategy<Value = Domain> {
    "[a-z]{1,8}\\.[a-z]{1,8}".prop_map(|name| name.parse().unwrap())
}

fn policies() -> impl Strategy<Value = Policy> {
    prop_oneof![Just(Policy::None), Just(Policy::Quarantine), Just(Policy::Reject)]
}

fn alignments() -> impl Strategy<Value = Alignment> {
    prop_oneof![Just(Alignment::Relaxed), Just(Alignment::Strict)]
}

fn uris() -> impl Strategy<Value = Vec<ReportUri>> {
    let units = prop_oneof![Just(SizeUnit::Bytes), Just(SizeUnit::Kib), Just(SizeUnit::Mib), Just(SizeUnit::Gib), Just(SizeUnit::Tib)];
    let uri = ("(mailto:|https://)[a-z]{1,9}@[a-z]{1,5}\\.example", proptest::option::of((any::<u64>(), units)));
    proptest::collection::vec(uri.prop_map(|(uri, max_size)| ReportUri { uri, max_size }), 0..3)
}

fn tokens() -> impl Strategy<Value = Vec<String>> {
    proptest::collection::vec("[a-z][a-z0-9]{0,5}", 0..3)
}

proptest! {
    #[test]
    fn fields_of_signatures(
        fields in proptest::collection::vec(
            (
                "(DKIM-Signature|ARC-Seal|ARC-Message-Signature|ARC-Authentication-Results|From|Subject|)",
                "((v|a|b|bh|c|d|h|i|l|q|s|t|x|cv|z)( |\r\n )?=( |\r\n )?(1|2|50|51|rsa-sha256|ed25519-sha256|none|pass|fail|x\\.example|from:to|YWJj|relaxed/simple|=40@x\\.example|[!-~]{0,6})( |\r\n )?;){0,9}"
            ),
            0..6,
        ),
        body in "[ -~\r\n]{0,20}",
    ) {
        let header: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        check(format!("{header}\r\n{body}").as_bytes());
    }

    #[test]
    fn anything(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        check(&bytes);
        check(&[b"DKIM-Signature: v=1; ".as_slice(), &bytes].concat());
        check(&[b"ARC-Seal: i=1; ".as_slice(), &bytes].concat());
    }

    #[test]
    fn keys(
        hashes in tokens(),
        key_type in "(rsa|ed25519|[a-z]{1,5})",
        notes in "[a-z]{0,5}",
        key in proptest::collection::vec(any::<u8>(), 0..40),
        services in tokens(),
        flags in tokens(),
    ) {
        let record = KeyRecord { hashes, key_type, notes, key, services, flags };
        prop_assert_eq!(KeyRecord::parse(&record.to_text()).unwrap(), record);
    }

    #[test]
    fn dmarc(
        (policy, subdomain_policy, nonexistent_policy) in (policies(), proptest::option::of(policies()), proptest::option::of(policies())),
        (public_suffix, testing) in (any::<Option<bool>>(), any::<bool>()),
        (dkim_alignment, spf_alignment) in (alignments(), alignments()),
        (percentage, report_interval) in (0_u8..=100, any::<u32>()),
        (aggregate_reports, failure_reports, report_formats) in (uris(), uris(), tokens()),
        failure_options in proptest::collection::vec("[01ds]", 0..3),
    ) {
        let record = DmarcRecord {
            policy, subdomain_policy, nonexistent_policy, public_suffix, testing, dkim_alignment, spf_alignment, percentage,
            aggregate_reports, failure_reports, report_interval, failure_options, report_formats,
        };
        prop_assert_eq!(DmarcRecord::parse(&record.to_string()).unwrap(), record);
    }

    #[test]
    fn spf(
        terms in proptest::collection::vec(
            "[-+~?]?(all|a|a/24|mx//64|a:x\\.example/8//32|include:%\\{d2\\}\\.example|ip4:192\\.0\\.2\\.1/24|ip6:2001:db8::/32|ptr|exists:%\\{ir\\}\\.x\\.example)",
            0..6,
        ),
        redirect: bool,
    ) {
        let text = format!("v=spf1 {}{}", terms.join(" "), if redirect { " redirect=x.example" } else { "" });
        let record = SpfRecord::parse(text.as_bytes()).unwrap();
        prop_assert_eq!(record.redirect.is_some(), redirect);
        let printed: Vec<&str> = record.directives.iter().map(|d| d.text.as_str()).collect();
        let again = SpfRecord::parse(format!("v=spf1 {}", printed.join(" ")).as_bytes()).unwrap();
        prop_assert_eq!(again.directives, record.directives);
    }

    #[test]
    fn mta_sts(
        mode in prop_oneof![Just(mtasts::Mode::Enforce), Just(mtasts::Mode::Testing), Just(mtasts::Mode::None)],
        max_age in any::<u32>(),
        hosts in proptest::collection::vec((any::<bool>(), names()), 1..4),
    ) {
        let pattern = |(below, name)| if below { mtasts::Pattern::Below(name) } else { mtasts::Pattern::Host(name) };
        let mx = hosts.into_iter().map(pattern).collect();
        let policy = mtasts::Policy { mode, max_age: Duration::from_secs(max_age.into()), mx, extensions: vec![] };
        prop_assert_eq!(mtasts::Policy::parse(policy.to_string().as_bytes()).unwrap(), policy);
    }

    #[test]
    fn tlsa(usage: u8, selector: u8, matching: u8, data in proptest::collection::vec(any::<u8>(), 1..70)) {
        let record = Tlsa { usage, selector, matching, data };
        prop_assert_eq!(dane::parse(&dane::text(&record)).unwrap(), record);
    }
}

/// Records as they stand in DNS and on the web, from anybody: nearly right, and anything at all.
mod of_anything {
    use super::*;

    /// Texts that begin as a record does, and go on with words and signs that records have, or with anything.
    fn nearly(start: &'static str, words: &'static str) -> impl Strategy<Value = Vec<u8>> {
        let piece = format!("({words}|[ -~]{{0,3}}|=|;|:|,|\\.| |\t|!|%|\\r\\n|\\n)");
        (
            any::<bool>(),
            proptest::collection::vec(proptest::string::string_regex(&piece).unwrap(), 0..20),
            proptest::collection::vec(any::<u8>(), 0..5),
        )
            .prop_map(move |(begins, pieces, odd)| {
                let mut text = if begins { start.as_bytes().to_vec() } else { Vec::new() };
                text.extend(pieces.concat().into_bytes());
                text.extend(odd);
                text
            })
    }

    proptest! {
        #[test]
        fn spf(text in nearly("v=spf1 ", "a|mx|ptr|all|include|exists|redirect=|exp=|ip4:|ip6:|192.0.2.1|::1|/24|//64|\\{i|r\\}|%\\{d2r-\\}|x.example")) {
            let zone = Zone::new().with("x.example", mox_base::RecordKind::Txt, mox_base::Record::Txt(text.clone()));
            let _parsed = SpfRecord::parse(&text);
            let mail_from: mox_base::Path = "a@x.example".parse::<mox_base::Address>().unwrap().into();
            let session = SpfSession {
                remote_ip: "192.0.2.1".parse().unwrap(),
                mail_from: Some(&mail_from),
                helo: &mail_from.host,
                receiver: &"mx.y.example".parse().unwrap(),
                now: Timestamp::from_secs(1_700_000_000),
            };
            let _outcome = ready(mox_mailauth::spf::verify(&zone, &session));
            prop_assert!(zone.queries() < 200);
        }

        #[test]
        fn dmarc(text in nearly("v=DMARC1;", "p=|sp=|np=|none|reject|rua=|ruf=|mailto:a@x.example|!10m|pct=|ri=|100|fo=|1|t=|psd=|y")) {
            if let Ok(record) = DmarcRecord::parse(&String::from_utf8_lossy(&text)) {
                prop_assert_eq!(DmarcRecord::parse(&record.to_string()).unwrap(), record);
            }
        }

        #[test]
        fn dkim_keys(text in nearly("v=DKIM1;", "k=|rsa|ed25519|p=|YWJj|h=|sha256|s=|email|t=|y|s|n=|g=")) {
            if let Ok(record) = KeyRecord::parse(&String::from_utf8_lossy(&text)) {
                prop_assert_eq!(KeyRecord::parse(&record.to_text()).unwrap(), record);
            }
        }

        #[test]
        fn mta_sts_records(text in nearly("v=STSv1;", "id=|20240101|[a-z]|id")) {
            let _record = mtasts::parse_record(&text);
        }

        #[test]
        fn mta_sts_policies(text in nearly("version: STSv1\n", "mode: |enforce|testing|none|max_age: |86400|mx: |\\*\\.x.example|99999999999")) {
            if let Ok(policy) = mtasts::Policy::parse(&text) {
                prop_assert_eq!(mtasts::Policy::parse(policy.to_string().as_bytes()).unwrap().mx, policy.mx);
            }
        }

        #[test]
        fn tls_reporting(text in nearly("v=TLSRPTv1;", "rua=|mailto:a@x.example|https://x.example/r")) {
            if let Some(Ok(record)) = mox_mailauth::tlsrpt::parse_record(&text) {
                let _to = (record.addresses(), record.urls());
            }
        }

        #[test]
        fn tlsa_texts(text in "[0-9a-fA-F ]{0,80}|[ -~]{0,20}") {
            if let Ok(record) = dane::parse(&text) {
                prop_assert_eq!(dane::parse(&dane::text(&record)).unwrap(), record);
            }
        }
    }
}

/// As much as a header section or a record can hold, made so that a careless parser takes minutes.
#[test]
fn large_ones_take_no_time() {
    #[expect(clippy::disallowed_methods, reason = "it is about real time")]
    let began = std::time::Instant::now();
    let tags: String = (0..100_000).map(|n| format!("t{n}=;")).collect();
    for field in ["DKIM-Signature", "ARC-Seal", "ARC-Message-Signature", "ARC-Authentication-Results"] {
        check(format!("{field}: {tags}\r\n\r\n").as_bytes());
        check(
            format!(
                "{field}: i=1; v=1; a=rsa-sha256; d=x.example; s=s; bh={}; b=YWJj; h=from{}\r\n\r\n",
                "A".repeat(43),
                ":from".repeat(100_000)
            )
            .as_bytes(),
        );
        check(format!("{}\r\n", format!("{field}: i=1\r\n").repeat(50_000)).as_bytes());
    }
    let many = |one: &str| one.repeat(60_000 / one.len());
    let _record = KeyRecord::parse(&format!("v=DKIM1;{}", &tags));
    let _record = DmarcRecord::parse(&format!("v=DMARC1;p=none;rua={}", many("mailto:a@x.example,")));
    let _record = DmarcRecord::parse(&format!("v=DMARC1;p=none;{}", &tags));
    let _record = SpfRecord::parse(format!("v=spf1 {}", many("a:%{l9r+-./,_=}%{o}.x ")).as_bytes());
    let _policy = mtasts::Policy::parse(many("mx: *.x.example\n").as_bytes());
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}
