//! Certificates against TLSA records, in handshakes. RFC 7672, RFC 7671.

use mox_base::Tlsa;
use mox_mailauth::dane;
use mox_net::tls::{Certificates, Check, DaneCheck, KeyCert, ServerTlsOptions, Severity};
use mox_net::{ClientTls, ServerTls, Stream};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, PublicKeyData as _};
use sha2::{Digest, Sha256, Sha512};
use std::sync::Arc;
use tokio::io::AsyncReadExt;

struct Chain {
    server: ServerTls,
    leaf: Vec<u8>,
    leaf_spki: Vec<u8>,
    ca: Vec<u8>,
    ca_spki: Vec<u8>,
}

/// A leaf for `mx.example`, expired or not, signed by a CA of its own that is sent along or not.
fn chain(expired: bool, send_ca: bool) -> Chain {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["mx.example".to_owned()]).unwrap();
    if expired {
        (params.not_before, params.not_after) = (rcgen::date_time_ymd(2001, 1, 1), rcgen::date_time_ymd(2002, 1, 1));
    }
    let leaf = params.signed_by(&key, &ca).unwrap();
    let pem = if send_ca { format!("{}{}", leaf.pem(), ca.pem()) } else { leaf.pem() };
    let cert = KeyCert::from_pem(pem.as_bytes(), key.serialize_pem().as_bytes()).unwrap();
    Chain {
        server: ServerTls::new(Arc::new(Certificates::new(vec![cert]).unwrap()), ServerTlsOptions::default()).unwrap(),
        leaf: leaf.der().to_vec(),
        leaf_spki: key.subject_public_key_info(),
        ca: ca.der().to_vec(),
        ca_spki: ca.key().subject_public_key_info(),
    }
}

fn tlsa(usage: u8, selector: u8, matching: u8, data: &[u8]) -> Tlsa {
    let data = match matching {
        1 => Sha256::digest(data).to_vec(),
        2 => Sha512::digest(data).to_vec(),
        _ => data.to_vec(),
    };
    Tlsa { usage, selector, matching, data }
}

/// What came of a handshake: the record that matched, or why it failed; and whether the connection stands.
async fn judge(chain: &Chain, records: Vec<Tlsa>, names: &[&str], severity: Severity) -> (String, bool) {
    let names = names.iter().map(|n| n.parse().unwrap()).collect();
    let check = Check { dane: Some(DaneCheck { records, names, severity }), ..Check::default() };
    let (client, findings) = ClientTls::opportunistic().unwrap().checking(check).unwrap();
    let (mut ours, mut theirs) = Stream::pair("192.0.2.1:1024".parse().unwrap(), "192.0.2.2:25".parse().unwrap());
    let (connected, _) = tokio::join!(ours.connect_tls(&client, "mx.example"), theirs.start_tls(&chain.server, &[]));
    let found = match findings.dane().unwrap() {
        Ok(record) => dane::text(&record)[..5].to_owned(),
        Err(fault) => format!("{} {}", fault.result, fault.reason).trim_end().to_owned(),
    };
    if let Err(e) = &connected {
        let fault = e.fault();
        assert_eq!(found, format!("{} {}", fault.result, fault.reason).trim_end());
    }
    (found, connected.is_ok())
}

#[tokio::test]
async fn records_that_match_and_that_do_not() {
    let good = chain(false, true);
    let expired = chain(true, true);
    let alone = chain(false, false);
    let right = ["mx.example"].as_slice();
    let other = ["other.example"].as_slice();
    let none = "tlsa-invalid dane-no-match";
    for (what, chain, record, names, want) in [
        ("leaf's key", &good, tlsa(3, 1, 1, &good.leaf_spki), right, "3 1 1"),
        ("leaf's key, SHA-512", &good, tlsa(3, 1, 2, &good.leaf_spki), right, "3 1 2"),
        ("leaf, whole", &good, tlsa(3, 0, 0, &good.leaf), right, "3 0 0"),
        // RFC 7671 §5.1.
        ("leaf's key, other name", &good, tlsa(3, 1, 1, &good.leaf_spki), other, "3 1 1"),
        ("leaf's key, expired", &expired, tlsa(3, 1, 1, &expired.leaf_spki), right, "3 1 1"),
        ("another key", &good, tlsa(3, 1, 1, &expired.leaf_spki), right, none),
        ("CA as leaf", &good, tlsa(3, 1, 1, &good.ca_spki), right, none),
        ("CA's key", &good, tlsa(2, 1, 1, &good.ca_spki), right, "2 1 1"),
        ("CA", &good, tlsa(2, 0, 1, &good.ca), right, "2 0 1"),
        ("CA, other name", &good, tlsa(2, 0, 1, &good.ca), other, "certificate-host-mismatch"),
        ("CA, one of the names", &good, tlsa(2, 0, 1, &good.ca), &["other.example", "mx.example"], "2 0 1"),
        ("CA, expired", &expired, tlsa(2, 0, 1, &expired.ca), right, "certificate-expired"),
        ("another CA", &good, tlsa(2, 0, 1, &expired.ca), right, none),
        ("another CA of the same name, whole", &good, tlsa(2, 0, 0, &expired.ca), right, "certificate-not-trusted bad-signature"),
        // RFC 7671 §5.2.1: a digest of a CA that isn't sent can't be followed, the whole CA can.
        ("CA that isn't sent", &alone, tlsa(2, 0, 1, &alone.ca), right, none),
        ("CA that isn't sent, whole", &alone, tlsa(2, 0, 0, &alone.ca), right, "2 0 0"),
        ("unknown usage", &good, tlsa(9, 1, 1, &good.leaf_spki), right, none),
        ("PKIX-EE without roots", &good, tlsa(1, 1, 1, &good.leaf_spki), right, "certificate-not-trusted"),
    ] {
        let (found, connected) = judge(chain, vec![record.clone()], names, Severity::Refuse).await;
        assert_eq!(found, want, "{what}");
        assert_eq!(connected, want.starts_with(|c: char| c.is_ascii_digit()), "{what}");
        let (found, connected) = judge(chain, vec![record], names, Severity::Note).await;
        assert_eq!((found.as_str(), connected), (want, true), "{what}, only noted");
    }
    let several = vec![tlsa(3, 1, 1, b"x"), tlsa(2, 0, 1, b"y"), tlsa(3, 1, 1, &good.leaf_spki)];
    assert_eq!(judge(&good, several, right, Severity::Refuse).await, ("3 1 1".to_owned(), true));
    assert_eq!(judge(&good, vec![], right, Severity::Refuse).await, (none.to_owned(), false));
}

/// PKIX and DANE are judged apart, and either can refuse.
#[tokio::test]
async fn pkix_beside_dane() {
    let chain = chain(false, true);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca.pem");
    let pem = |der: &[u8]| {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
    };
    std::fs::write(&path, pem(&chain.ca)).unwrap();
    let rooted = ClientTls::verified(mox_net::tls::read_roots(false, &[path]).unwrap()).unwrap();
    let rootless = ClientTls::opportunistic().unwrap();
    let good = tlsa(3, 1, 1, &chain.leaf_spki);
    let bad = tlsa(3, 1, 1, b"x");
    for (client, name, record, pkix, dane, connects, pkix_fault) in [
        (&rooted, "mx.example", &good, Severity::Refuse, Severity::Refuse, true, None),
        (&rooted, "mx.example", &bad, Severity::Refuse, Severity::Refuse, false, None),
        (&rooted, "mx.example", &bad, Severity::Refuse, Severity::Note, true, None),
        (&rooted, "other.example", &good, Severity::Refuse, Severity::Refuse, false, Some(("certificate-host-mismatch", ""))),
        (&rooted, "other.example", &good, Severity::Note, Severity::Refuse, true, Some(("certificate-host-mismatch", ""))),
        (&rootless, "mx.example", &good, Severity::Refuse, Severity::Refuse, false, Some(("certificate-not-trusted", "no-system-roots"))),
    ] {
        let dane = DaneCheck { records: vec![record.clone()], names: vec![], severity: dane };
        let (client, findings) = client.checking(Check { pkix, dane: Some(dane), pkix_name: None }).unwrap();
        let (mut ours, mut theirs) = Stream::pair("192.0.2.1:1024".parse().unwrap(), "192.0.2.2:25".parse().unwrap());
        let (connected, accepted) = tokio::join!(ours.connect_tls(&client, name), theirs.start_tls(&chain.server, &[]));
        assert_eq!(connected.is_ok(), connects, "{name} {record:?} {pkix:?}");
        let fault = findings.pkix().unwrap().err();
        assert_eq!(fault.as_ref().map(|f| (f.result.word(), f.reason.as_str())), pkix_fault);
        assert_eq!(findings.dane().unwrap().is_ok(), *record == good);
        if !connects {
            // The server hears of it in a TLS alert, or with its next read; nothing of ours went out.
            let mut buffer = [0; 1];
            assert!(accepted.is_err() || theirs.read(&mut buffer).await.is_err());
        }
    }
}
