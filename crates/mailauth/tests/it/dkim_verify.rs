//! Verification: the vectors of the RFCs, and each rule by itself.

use crate::ready;
use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mox_base::{Domain, RecordKind, Timestamp};
use mox_mailauth::dkim::{DkimOutcome, DkimProblem, DkimSettings, DkimStatus};
use mox_mailauth::{Canonicalization, DkimSelector, HeaderProblem, MessageReader, ReadMessage, Signer, SigningKey};
use mox_testkit::Zone;
use std::sync::LazyLock;
use std::time::Duration;

/// RFC 8463 §A.
const RFC_8463: &str = "DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;\r\n d=football.example.com; i=@football.example.com;\r\n q=dns/txt; s=brisbane; t=1528637909; h=from : to :\r\n subject : date : message-id : from : subject : date;\r\n bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus\r\n Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==\r\nDKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;\r\n d=football.example.com; i=@football.example.com;\r\n q=dns/txt; s=test; t=1528637909; h=from : to : subject :\r\n date : message-id : from : subject : date;\r\n bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n b=F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3\r\n DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2Jz\r\n dA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8=\r\nFrom: Joe SixPack <joe@football.example.com>\r\nTo: Suzie Q <suzie@shopping.example.net>\r\nSubject: Is dinner ready?\r\nDate: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)\r\nMessage-ID: <20030712040037.46341.5F8J@football.example.com>\r\n\r\nHi.\r\n\r\nWe lost the game.  Are you hungry yet?\r\n\r\nJoe.\r\n";

fn read(message: &str, piece: usize) -> ReadMessage {
    let mut reader = MessageReader::new();
    message.as_bytes().chunks(piece).for_each(|p| reader.push(p));
    reader.finish()
}

fn verify_at(message: &str, zone: &Zone, now: i64) -> Vec<DkimOutcome> {
    let settings = DkimSettings { now: Timestamp::from_secs(now), accept_top_level: None };
    ready(read(message, 1000).verify_dkim(zone, &settings)).unwrap()
}

#[test]
fn rfc_8463() {
    let zone = Zone::new()
        .txt("brisbane._domainkey.football.example.com", "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=")
        .txt(
            "test._domainkey.football.example.com",
            "v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQiY/J16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTIKT+l/K4w3QIDAQAB",
        )
        .signed();
    for piece in [1, 7, 100_000] {
        let settings = DkimSettings { now: Timestamp::from_secs(1_528_637_910), accept_top_level: None };
        let outcomes = ready(read(RFC_8463, piece).verify_dkim(&zone, &settings)).unwrap();
        assert_eq!(outcomes.len(), 2);
        for outcome in &outcomes {
            assert_eq!((outcome.status, outcome.authentic, &outcome.problem), (DkimStatus::Pass, true, &None));
        }
        assert_eq!(outcomes[1].record.as_ref().unwrap().0.rsa_bits(), Some(1024));
        assert_eq!(outcomes[0].record.as_ref().unwrap().0.rsa_bits(), None);
    }
    let changed = RFC_8463.replace("We lost", "We won");
    assert!(verify_at(&changed, &zone, 1_528_637_910).iter().all(|o| o.problem == Some(DkimProblem::BodyMismatch)));
    let changed = RFC_8463.replace("dinner", "lunch");
    assert!(verify_at(&changed, &zone, 1_528_637_910).iter().all(|o| o.problem == Some(DkimProblem::SignatureMismatch)));
    // Oversigned fields can't be added.
    let added = RFC_8463.replace("To: ", "From: eve@example.net\r\nTo: ");
    assert!(verify_at(&added, &zone, 1_528_637_910).iter().all(|o| o.problem == Some(DkimProblem::SignatureMismatch)));
}

/// RFC 6376 §A.2, with the key of §C.
#[test]
fn rfc_6376() {
    let message = "DKIM-Signature: v=1; a=rsa-sha256; s=brisbane; d=example.com;\r\n      c=simple/simple; q=dns/txt; i=joe@football.example.com;\r\n      h=Received : From : To : Subject : Date : Message-ID;\r\n      bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n      b=AuUoFEfDxTDkHlLXSZEpZj79LICEps6eda7W3deTVFOk4yAUoqOB\r\n      4nujc7YopdG5dWLSdNg6xNAZpOPr+kHxt1IrE+NahM6L/LbvaHut\r\n      KVdkLLkpVaVVQPzeRDI009SO2Il5Lu7rDNH6mZckBdrIx0orEtZV\r\n      4bmp/YzhwvcubU4=;\r\nReceived: from client1.football.example.com  [192.0.2.1]\r\n      by submitserver.example.com with SUBMISSION;\r\n      Fri, 11 Jul 2003 21:01:54 -0700 (PDT)\r\nFrom: Joe SixPack <joe@football.example.com>\r\nTo: Suzie Q <suzie@shopping.example.net>\r\nSubject: Is dinner ready?\r\nDate: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)\r\nMessage-ID: <20030712040037.46341.5F8J@football.example.com>\r\n\r\nHi.\r\n\r\nWe lost the game. Are you hungry yet?\r\n\r\nJoe.\r\n";
    let zone = Zone::new().txt(
        "brisbane._domainkey.example.com",
        "v=DKIM1; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDwIRP/UC3SBsEmGqZ9ZJW3/DkMoGeLnQg1fWn7/zYtIxN2SnFCjxOCKG9v3b4jYfcTNh5ijSsq631uBItLa7od+v/RtdC2UzJ1lWT947qR+Rcac2gbto/NMqJ0fzfVjH4OuKhitdY9tf6mcwGjaNBcWToIMmPSPDdQPNUYckcQ2QIDAQAB",
    );
    let outcome = verify_at(message, &zone, NOW).remove(0);
    assert_eq!((outcome.status, outcome.problem), (DkimStatus::Pass, None));
    // Simple canonicalization forgives nothing.
    let outcome = verify_at(&message.replace("game. Are", "game.  Are"), &zone, NOW).remove(0);
    assert_eq!(outcome.problem, Some(DkimProblem::BodyMismatch));
    let outcome = verify_at(&message.replace("Subject: Is", "Subject:  Is"), &zone, NOW).remove(0);
    assert_eq!(outcome.problem, Some(DkimProblem::SignatureMismatch));
}

struct Keys {
    rsa: Vec<u8>,
    rsa_record: String,
    ed: Vec<u8>,
    ed_record: String,
}

static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let public: PublicKeyX509Der<'_> = rsa.public_key().as_der().unwrap();
    let private: Pkcs8V1Der<'_> = rsa.as_der().unwrap();
    // Always the same: what a test replaces in a record mustn't be found in a key, one time of sixteen.
    let ed = Ed25519KeyPair::from_seed_unchecked(&[1; 32]).unwrap();
    Keys {
        rsa_record: format!("v=DKIM1;p={}", STANDARD.encode(public.as_ref())),
        rsa: private.as_ref().to_vec(),
        ed_record: format!("v=DKIM1;k=ed25519;p={}", STANDARD.encode(ed.public_key().as_ref())),
        ed: ed.to_pkcs8().unwrap().as_ref().to_vec(),
    }
});

const NOW: i64 = 1_700_000_000;
const MESSAGE: &str = "From: a@mail.x.example\r\nTo: b@y.example\r\nSubject: hi\r\n\r\nbody\r\n";

fn selector(name: &str, key: &[u8], headers: &str) -> DkimSelector {
    DkimSelector {
        name: name.parse().unwrap(),
        key: SigningKey::from_pkcs8(key).unwrap(),
        header: Canonicalization::Relaxed,
        body: Canonicalization::Simple,
        headers: headers.split(',').map(str::to_owned).collect(),
        seal_headers: true,
        expiration: Some(Duration::from_secs(3600)),
    }
}

fn signed_by(domain: &str, selector: DkimSelector) -> String {
    let domain: Domain = domain.parse().unwrap();
    let selectors = [selector];
    let mut signer = Signer::new(&domain, None, &selectors);
    signer.push(MESSAGE.as_bytes());
    format!("{}{MESSAGE}", signer.finish(Timestamp::from_secs(NOW)).unwrap())
}

fn signed() -> String {
    signed_by("x.example", selector("s", &KEYS.ed, "From,Subject,To"))
}

fn key(record: &str) -> Zone {
    Zone::new().txt("s._domainkey.x.example", record)
}

fn one(message: &str, zone: &Zone) -> (DkimStatus, Option<DkimProblem>) {
    let outcome = verify_at(message, zone, NOW).remove(0);
    (outcome.status, outcome.problem)
}

#[test]
fn signatures_of_ours() {
    let rsa = signed_by("x.example", selector("s", &KEYS.rsa, "From,Subject"));
    assert_eq!(one(&rsa, &key(&KEYS.rsa_record)), (DkimStatus::Pass, None));
    let outcome = verify_at(&signed(), &key(&KEYS.ed_record), NOW).remove(0);
    assert_eq!((outcome.status, outcome.authentic), (DkimStatus::Pass, false));
    assert_eq!(outcome.verified_domain().unwrap().ascii(), "x.example");
}

#[test]
fn what_keys_say() {
    let message = signed();
    let with = |more: &str| key(&KEYS.ed_record.replacen("k=", &format!("{more};k="), 1));
    for (zone, want) in [
        (with("h=sha256:x"), (DkimStatus::Pass, None)),
        (with("h=sha1"), (DkimStatus::Permerror, Some(DkimProblem::HashNotAllowed))),
        (with("s=email:x"), (DkimStatus::Pass, None)),
        (with("s=tlsrpt"), (DkimStatus::Permerror, Some(DkimProblem::NotForEmail))),
        (with("t=s"), (DkimStatus::Pass, None)),
        (key("v=DKIM1;k=ed25519;p="), (DkimStatus::Permerror, Some(DkimProblem::Revoked))),
        (key("v=DKIM1;k=ed25519;p=YWJj"), (DkimStatus::Permerror, Some(DkimProblem::BadKey))),
        (key(&KEYS.rsa_record), (DkimStatus::Permerror, Some(DkimProblem::KeyType))),
    ] {
        assert_eq!(one(&message, &zone), want, "{zone:?}");
    }
    let status = |zone: Zone| one(&message, &zone).0;
    assert_eq!(status(Zone::new()), DkimStatus::Permerror);
    assert_eq!(status(Zone::new().temporary("s._domainkey.x.example", Some(RecordKind::Txt))), DkimStatus::Temperror);
    assert_eq!(status(Zone::new().bogus("s._domainkey.x.example", None)), DkimStatus::Temperror);
    assert_eq!(status(key("something else")), DkimStatus::Temperror);
    assert_eq!(status(key(&KEYS.ed_record).txt("s._domainkey.x.example", "another")), DkimStatus::Pass);
    assert_eq!(status(key(&KEYS.ed_record).txt("s._domainkey.x.example", &KEYS.rsa_record)), DkimStatus::Temperror);
    assert_eq!(status(key("v=DKIM1; p=?")), DkimStatus::Permerror);
    // Testing counts only when it doesn't pass.
    assert_eq!(status(with("t=y")), DkimStatus::Pass);
    assert_eq!(one(&message.replace("body", "other"), &with("t=y")), (DkimStatus::None, Some(DkimProblem::BodyMismatch)));
}

#[test]
fn what_signatures_claim() {
    let zone = key(&KEYS.ed_record);
    let message = signed();
    for (from, to, want) in [
        ("v=1;", "v=1; l=0;", (DkimStatus::Policy, DkimProblem::BodyLength)),
        ("c=relaxed/simple", "c=simple/odd", (DkimStatus::Permerror, DkimProblem::Canonicalization)),
        ("v=1;", "v=1; q=other;", (DkimStatus::Permerror, DkimProblem::QueryMethod)),
        ("ed25519-sha256", "rsa-sha1", (DkimStatus::Permerror, DkimProblem::Algorithm("rsa-sha1".to_owned()))),
        ("d=x.example", "d=example", (DkimStatus::Permerror, DkimProblem::PublicSuffix)),
    ] {
        let (status, problem) = one(&message.replacen(from, to, 1), &zone);
        assert_eq!((status, problem.unwrap()), want, "{to}");
    }
    let (status, problem) = one(&message.replace("From:Subject:To:From:Subject:To", "Subject:To"), &zone);
    assert_eq!((status, problem), (DkimStatus::Permerror, Some(DkimProblem::FromNotSigned)));
    let unsigned_subject = signed_by("x.example", selector("s", &KEYS.ed, "From,To"));
    assert_eq!(one(&unsigned_subject, &zone), (DkimStatus::Policy, Some(DkimProblem::SubjectNotSigned)));
    // Hopeless ones cost no lookup.
    assert_eq!(zone.queries(), 0);
    assert_eq!(verify_at(&message, &zone, NOW + 3600 + 200)[0].status, DkimStatus::Pass);
    assert_eq!(verify_at(&message, &zone, NOW + 3600 + 400)[0].problem, Some(DkimProblem::Expired));
    assert_eq!(verify_at(&message, &zone, NOW - 2 * 86_400)[0].problem, Some(DkimProblem::Future));
    let broken = &verify_at(&message.replace("v=1;", "v=1; v=1;"), &zone, NOW)[0];
    assert_eq!((broken.status, &broken.signature), (DkimStatus::Permerror, &None));
}

#[test]
fn localhost_counts_where_it_may() {
    let message = signed_by("localhost", selector("s", &KEYS.ed, "From,Subject"));
    let zone = Zone::new().txt("s._domainkey.localhost", &KEYS.ed_record);
    let localhost = "localhost".parse().unwrap();
    for (accept, want) in [(None, DkimStatus::Permerror), (Some(&localhost), DkimStatus::Pass)] {
        let settings = DkimSettings { now: Timestamp::from_secs(NOW), accept_top_level: accept };
        assert_eq!(ready(read(&message, 50).verify_dkim(&zone, &settings)).unwrap()[0].status, want);
    }
}

#[test]
fn broken_headers_and_many_signatures() {
    let settings = DkimSettings { now: Timestamp::from_secs(NOW), accept_top_level: None };
    let zone = key(&KEYS.ed_record);
    let broken = read(&signed().replace("Subject:", "Subject"), 50);
    assert_eq!(ready(broken.verify_dkim(&zone, &settings)), Err(HeaderProblem::Malformed));
    let large = read(&format!("{}X: {}\r\n\r\n", "", "x".repeat(2 << 20)), 1 << 16);
    assert_eq!(ready(large.verify_dkim(&zone, &settings)), Err(HeaderProblem::TooLarge));
    let field = signed().split_inclusive("\r\n").take_while(|l| !l.starts_with("From")).collect::<String>();
    let many = read(&format!("{}{MESSAGE}", field.repeat(100)), 50);
    let outcomes = ready(many.verify_dkim(&zone, &settings)).unwrap();
    assert_eq!(outcomes.len(), mox_mailauth::MAX_SIGNATURES);
    assert_eq!(outcomes.last().unwrap().status, DkimStatus::Pass);
    assert!(ready(read("From: x\r\n", 50).verify_dkim(&zone, &settings)).unwrap().is_empty());
}
