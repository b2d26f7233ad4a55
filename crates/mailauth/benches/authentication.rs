//! What authenticating one message costs: `cargo bench -p mox-mailauth`.
//!
//! A message of 20 KB is signed with an RSA key of 2048 bits, and verified: its signature, SPF with an include, DMARC with the walk up
//! the tree. DNS answers from memory, as from a warm cache. Time is this thread's processor time, so that a busy machine doesn't
//! count; the budget for all together is 1.5 ms, of which most goes into signing. On the machine of `docs/benchmarks.md` it was 1.37 ms.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a program that measures")]

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use mox_base::{Domain, Host, Path, Timestamp};
use mox_mailauth::dkim::{DkimSettings, DkimStatus};
use mox_mailauth::dmarc::{self, DmarcResult, Findings};
use mox_mailauth::spf::{self, SpfResult, SpfSession};
use mox_mailauth::{Canonicalization, DkimSelector, MessageReader, Signer, SigningKey};
use mox_testkit::{SeededRandom, Zone};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

const ROUNDS: usize = 1000;
const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

fn main() {
    let key = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let der: Pkcs8V1Der<'_> = key.as_der().unwrap();
    let selectors = [DkimSelector {
        name: "sel".parse().unwrap(),
        key: SigningKey::from_pkcs8(der.as_ref()).unwrap(),
        header: Canonicalization::Relaxed,
        body: Canonicalization::Relaxed,
        headers: ["From", "To", "Cc", "Subject", "Date", "Message-Id", "Content-Type"].map(str::to_owned).to_vec(),
        seal_headers: true,
        expiration: None,
    }];
    let zone = Zone::new()
        .txt("sel._domainkey.x.example", &selectors[0].key.public_record().unwrap().to_text())
        .txt("x.example", "v=spf1 a mx include:_spf.y.example -all")
        .a("x.example", "198.51.100.1")
        .mx("x.example", 10, "mx.x.example")
        .a("mx.x.example", "198.51.100.2")
        .txt("_spf.y.example", "v=spf1 ip4:203.0.113.0/24 ip4:192.0.2.0/24 -all")
        .txt("_dmarc.x.example", "v=DMARC1; p=reject; rua=mailto:r@x.example");
    let message = message();
    let domain: Domain = "x.example".parse().unwrap();
    let from: Path = "bounce@x.example".parse::<mox_base::Address>().unwrap().into();
    let helo = Host::Domain("mx.x.example".parse().unwrap());

    let sign = || {
        let mut signer = Signer::new(&domain, None, &selectors);
        signer.push(&message);
        signer.finish(NOW).unwrap()
    };
    let signed = [sign().as_bytes(), &message].concat();
    let verify = || {
        let mut reader = MessageReader::new();
        signed.chunks(8 << 10).for_each(|piece| reader.push(piece));
        ready(reader.finish().verify_dkim(&zone, &DkimSettings { now: NOW, accept_top_level: None })).unwrap()
    };
    let session = SpfSession { remote_ip: "192.0.2.9".parse().unwrap(), mail_from: Some(&from), helo: &helo, receiver: &domain, now: NOW };
    let check_spf = || ready(spf::verify(&zone, &session));
    let (dkim, spf) = (verify(), check_spf());
    assert_eq!((dkim[0].status, spf.result), (DkimStatus::Pass, SpfResult::Pass));
    let author: Domain = "news.x.example".parse().unwrap();
    let random = SeededRandom::default();
    let check_dmarc = || ready(dmarc::verify(&zone, &Findings { from: &author, spf: Some(&spf), dkim: &dkim }, &random));
    assert_eq!(check_dmarc().result, DmarcResult::Pass);

    let rows = [
        ("DKIM sign", measure(|| drop(sign()))),
        ("DKIM verify", measure(|| drop(verify()))),
        ("SPF", measure(|| drop(check_spf()))),
        ("DMARC", measure(|| drop(check_dmarc()))),
    ];
    println!("one message of {} bytes, mean of {ROUNDS}:", message.len());
    for (name, micros) in rows {
        println!("  {name:<12} {micros:8.1} µs");
    }
    println!("  {:<12} {:8.1} µs, budget 1500", "together", rows.iter().map(|(_, micros)| micros).sum::<f64>());
}

fn message() -> Vec<u8> {
    let header = "From: Bob <bob@news.x.example>\r\nTo: Ann <ann@mox.example>\r\nSubject: A letter of twenty kilobytes\r\nDate: Tue, 14 Nov 2023 22:13:20 +0000\r\nMessage-ID: <1@x.example>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n";
    let line = "The quick brown fox jumps over the  lazy dog, and so on and so forth.\t\r\n";
    let lines = (20_usize << 10).saturating_sub(header.len()) / line.len();
    format!("{header}{}", line.repeat(lines)).into_bytes()
}

/// The mean of many runs, in microseconds of processor time: the kernel counts it in steps of its clock.
fn measure(run: impl Fn()) -> f64 {
    let before = processor_time();
    (0..ROUNDS).for_each(|_| run());
    let nanos = processor_time().saturating_sub(before) / ROUNDS as u64;
    f64::from(u32::try_from(nanos).unwrap_or(u32::MAX)) / 1000.0
}

/// Nanoseconds that this thread ran.
fn processor_time() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    stat.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap()
}

fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("waits"),
    }
}
