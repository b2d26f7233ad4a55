//! The Python program dkimpy verifies our signatures and seals, and we verify its.

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mox_base::Timestamp;
use mox_mailauth::arc::{ArcStatus, Sealing, seal};
use mox_mailauth::dkim::{DkimSettings, DkimStatus};
use mox_mailauth::{Canonicalization, DkimSelector, MessageReader, Signer, SigningKey};
use mox_testkit::Zone;
use mox_testkit::peers::skip;
use std::io::Write as _;
use std::process::{Command, Stdio};

/// The Python that has dkimpy.
fn python() -> Option<&'static str> {
    let has =
        |p: &&str| Command::new(p).args(["-c", "import dkim, nacl, authres"]).stderr(Stdio::null()).status().is_ok_and(|s| s.success());
    let found = ["/usr/bin/python3", "python3"].into_iter().find(has);
    if found.is_none() {
        skip("python3-dkim, python3-nacl or python3-authres isn't installed");
    }
    found
}

/// What dkimpy says of the first two signatures of each message.
fn verify(python: &str, messages: &[String], records: &[(&str, String)]) -> Vec<String> {
    let records: Vec<String> = records.iter().map(|(name, txt)| format!("b'{name}': b'{txt}'")).collect();
    let script = format!(
        "import sys, dkim, base64\nrecords = {{{}}}\nfor line in sys.stdin:\n  d = dkim.DKIM(base64.b64decode(line))\n  print([d.verify(idx=i, dnsfunc=lambda name, timeout=5: records.get(name)) for i in range(2)])\n",
        records.join(",")
    );
    let mut child = Command::new(python).args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let lines: String = messages.iter().map(|m| format!("{}\n", STANDARD.encode(m))).collect();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let out = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    out.lines().map(str::to_owned).collect()
}

#[test]
fn all_kinds_of_signatures() {
    let Some(python) = python() else { return };
    let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let rsa_public: PublicKeyX509Der<'_> = rsa.public_key().as_der().unwrap();
    let rsa_private: Pkcs8V1Der<'_> = rsa.as_der().unwrap();
    let ed_private = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    let ed = Ed25519KeyPair::from_pkcs8(ed_private.as_ref()).unwrap();
    let records = [
        ("rsa._domainkey.x.example.", format!("v=DKIM1;p={}", STANDARD.encode(rsa_public.as_ref()))),
        ("ed._domainkey.x.example.", format!("v=DKIM1;k=ed25519;p={}", STANDARD.encode(ed.public_key().as_ref()))),
    ];
    let (simple, relaxed) = (Canonicalization::Simple, Canonicalization::Relaxed);
    let headers = "From,To,Cc,Bcc,Reply-To,References,In-Reply-To,Subject,Date,Message-Id,Content-Type".split(',').map(str::to_owned);
    let headers: Vec<String> = headers.collect();
    let domain = "x.example".parse().unwrap();
    let localpart = "a b".parse().or_else(|_| "\"a b\"".parse()).unwrap();
    let mut messages = Vec::new();
    for body in ["", "\r\n", " a \t b\r\n \r\n\r\n", "no line break at the end", "\r\n\r\n x"] {
        let message = format!(
            "Received: by x\r\nFrom: \"A\" <a@x.example>\r\nTo: b@y.example,\r\n\tc@y.example\r\nSubject:  two  spaces \r\nTo: d@y.example\r\n\r\n{body}"
        );
        for (header, body, seal_headers) in
            [(simple, simple, true), (relaxed, relaxed, true), (simple, relaxed, false), (relaxed, simple, true)]
        {
            let selector = |name: &str, key: &[u8]| DkimSelector {
                name: name.parse().unwrap(),
                key: SigningKey::from_pkcs8(key).unwrap(),
                header,
                body,
                headers: headers.clone(),
                seal_headers,
                expiration: None,
            };
            let selectors = [selector("rsa", rsa_private.as_ref()), selector("ed", ed_private.as_ref())];
            let mut signer = Signer::new(&domain, Some(&localpart), &selectors);
            signer.push(message.as_bytes());
            let signed = format!("{}{message}", signer.finish(Timestamp::from_secs(1_700_000_000)).unwrap());
            messages.push(signed);
        }
    }
    let verdicts = verify(python, &messages, &records);
    assert_eq!(verdicts.len(), messages.len());
    for (verdict, message) in verdicts.iter().zip(&messages) {
        assert_eq!(verdict, "[True, True]", "{message}");
    }
}

/// Runs a script with lines of base64, and gives the lines it prints.
fn run(python: &str, script: &str, messages: &[String]) -> Vec<String> {
    let mut child = Command::new(python).args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let lines: String = messages.iter().map(|m| format!("{}\n", STANDARD.encode(m))).collect();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let out = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    out.lines().map(str::to_owned).collect()
}

/// A 2048-bit RSA key as PEM and as a key record.
pub(crate) fn rsa_key() -> (SigningKey, String, String) {
    let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let public: PublicKeyX509Der<'_> = rsa.public_key().as_der().unwrap();
    let private: Pkcs8V1Der<'_> = rsa.as_der().unwrap();
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(private.as_ref()));
    (SigningKey::from_pkcs8(private.as_ref()).unwrap(), pem, format!("v=DKIM1;p={}", STANDARD.encode(public.as_ref())))
}

fn samples() -> Vec<String> {
    let header =
        "Received: by x\r\nFrom: \"A\" <a@x.example>\r\nTo: b@y.example,\r\n\tc@y.example\r\nSubject:  two  spaces \r\nTo: d@y.example\r\n";
    ["", "\r\n", " a \t b\r\n \r\n\r\n", "no line break at the end", "\r\n\r\n x"].map(|body| format!("{header}\r\n{body}")).to_vec()
}

#[test]
fn their_signatures() {
    let Some(python) = python() else { return };
    let (_, pem, record) = rsa_key();
    let zone = Zone::new().txt("rsa._domainkey.x.example", &record);
    for canonicalization in ["simple/simple", "relaxed/relaxed", "simple/relaxed", "relaxed/simple"] {
        let (header, body) = canonicalization.split_once('/').unwrap();
        let script = format!(
            "import sys, dkim, base64\nfor line in sys.stdin:\n  m = base64.b64decode(line)\n  s = dkim.sign(m, b'rsa', b'x.example', b\"\"\"{pem}\"\"\", canonicalize=(b'{header}', b'{body}'))\n  print(base64.b64encode(s + m).decode())\n"
        );
        let signed = run(python, &script, &samples());
        assert_eq!(signed.len(), samples().len());
        for line in signed {
            let message = STANDARD.decode(line).unwrap();
            let mut reader = MessageReader::new();
            message.chunks(11).for_each(|p| reader.push(p));
            let settings = DkimSettings { now: Timestamp::from_secs(1_900_000_000), accept_top_level: None };
            let outcomes = crate::ready(reader.finish().verify_dkim(&zone, &settings)).unwrap();
            assert_eq!(outcomes[0].status, DkimStatus::Pass, "{canonicalization} {outcomes:?} {}", String::from_utf8_lossy(&message));
        }
    }
}

#[test]
fn seals_both_ways() {
    let Some(python) = python() else { return };
    let (key, pem, record) = rsa_key();
    let zone = Zone::new().txt("rsa._domainkey.x.example", &record);
    let selector = DkimSelector {
        name: "rsa".parse().unwrap(),
        key,
        header: Canonicalization::Relaxed,
        body: Canonicalization::Relaxed,
        headers: ["From", "To", "Subject", "Date"].map(str::to_owned).to_vec(),
        seal_headers: true,
        expiration: None,
    };
    let domain = "x.example".parse().unwrap();
    // Each seals what the other sealed, several times.
    let theirs = format!(
        "import sys, dkim, base64\nrecords = {{b'rsa._domainkey.x.example.': b'{record}'}}\nfor line in sys.stdin:\n  m = base64.b64decode(line)\n  d = dkim.ARC(m)\n  cv, results, reason = d.verify(dnsfunc=lambda name, timeout=5: records.get(name))\n  set = dkim.ARC(m).sign(b'rsa', b'x.example', b\"\"\"{pem}\"\"\", b'x.example', include_headers=[b'from', b'to', b'subject'])\n  print(cv.decode() if cv == b'pass' else cv.decode() + '-' + str(reason).replace(' ', '_') + str(results).replace(' ', '_'), base64.b64encode(b''.join(set) + m).decode())\n"
    );
    let mut messages = samples();
    for round in 0..3 {
        let mut ours = Vec::new();
        for message in &messages {
            let mut reader = MessageReader::for_sealing();
            message.as_bytes().chunks(11).for_each(|p| reader.push(p));
            let read = reader.finish();
            let chain = crate::ready(read.verify_arc(&zone));
            let want = if round == 0 { ArcStatus::None } else { ArcStatus::Pass };
            assert_eq!(chain.status, want, "{chain:?} {message}");
            assert_eq!(chain.sealers.len(), round * 2);
            let results = format!("x.example; arc={}; spf=pass smtp.mailfrom=x.example", chain.status);
            let sealing = Sealing { domain: &domain, selector: &selector, results: &results, now: Timestamp::from_secs(1_700_000_000) };
            let fields = seal(&read, &chain, &sealing).unwrap();
            // What dkimpy quotes in its own seal.
            ours.push(format!("Authentication-Results: x.example; arc=pass; spf=pass\r\n{fields}{message}"));
        }
        let sealed = run(python, &theirs, &ours);
        assert_eq!(sealed.len(), ours.len());
        messages = sealed
            .iter()
            .zip(&ours)
            .map(|(line, message)| {
                let (cv, sealed) = line.split_once(' ').unwrap();
                assert_eq!(cv, "pass", "{message}");
                let sealed = String::from_utf8(STANDARD.decode(sealed).unwrap()).unwrap();
                sealed.replace("\r\nAuthentication-Results: x.example; arc=pass; spf=pass\r\n", "\r\n")
            })
            .collect();
    }
}
