//! The Python program dkimpy verifies our signatures.

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mox_base::Timestamp;
use mox_mailauth::{Canonicalization, DkimSelector, Signer, SigningKey};
use mox_testkit::peers::skip;
use std::io::Write as _;
use std::process::{Command, Stdio};

/// The Python that has dkimpy.
fn python() -> Option<&'static str> {
    let has = |p: &&str| Command::new(p).args(["-c", "import dkim, nacl"]).stderr(Stdio::null()).status().is_ok_and(|s| s.success());
    let found = ["/usr/bin/python3", "python3"].into_iter().find(has);
    if found.is_none() {
        skip("python3-dkim isn't installed");
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
