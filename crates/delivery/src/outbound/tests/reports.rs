//! TLS reports: what happened to sessions on one day is sent on the next, once, to those who want it. RFC 8460.

use super::*;
use crate::reports::{ReportSettings, Reporter, ReporterParts};
use crate::signing::SharedSelectors;
use crate::tls::ReportSender;
use mox_base::Domain;
use mox_mailauth::tlsrpt::{Report, read};
use mox_mailauth::{Canonicalization, DkimSelector, SigningKey};
use mox_net::http::{AddressGuard, Client};
use mox_store::reports::SuppressedAddress;
use std::sync::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

pub(super) fn selectors() -> SharedSelectors {
    let domain: Domain = "a.example".parse().unwrap();
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let selector = DkimSelector {
        name: "sel".parse().unwrap(),
        key: SigningKey::from_pkcs8(&key.serialize_der()).unwrap(),
        header: Canonicalization::Relaxed,
        body: Canonicalization::Relaxed,
        headers: vec!["From".to_owned()],
        seal_headers: false,
        expiration: None,
    };
    SharedSelectors::new(BTreeMap::from([(domain, Arc::from([selector]))]))
}

pub(super) fn reporter(f: &Fixture) -> Reporter {
    let parts = ReporterParts {
        submitter: f.submitter.clone(),
        directory: SharedDirectory::new(directory()),
        selectors: f.selectors.clone(),
        clock: Arc::new(f.clock.clone()),
        random: Arc::new(SeededRandom::default()),
    };
    let settings =
        ReportSettings { hostname: "mail.a.example".parse().unwrap(), account: "root".to_owned(), user_agent: "mox/test".to_owned() };
    Reporter::new(parts, settings)
}

fn sender(f: &Fixture, all_success: bool) -> ReportSender {
    ReportSender::new(Arc::clone(&f.policies), reporter(f), all_success)
}

/// A world in which `b.example` and its host want reports, and STARTTLS isn't offered.
async fn fixture(change: impl FnOnce(Zone) -> Zone) -> (Fixture, Peer) {
    let zone = zone()
        .txt("_smtp._tls.b.example", "v=TLSRPTv1; rua=mailto:reports@c.example,https://x.example/")
        .txt("_smtp._tls.mx.b.example", "v=TLSRPTv1; rua=mailto:host@c.example");
    let f = Fixture::with(change(zone), |_| {}, Routing::default()).await;
    let peer = f.peer();
    (f, peer)
}

/// The reports that arrived, with their recipients.
fn arrived(peer: &Peer) -> Vec<(Vec<String>, Report, String)> {
    let messages = peer.messages().into_iter();
    messages.filter_map(|(to, text)| read(text.as_bytes()).ok().map(|report| (to, report, text))).collect()
}

#[tokio::test(start_paused = true)]
async fn sent_once_on_the_next_day() {
    let (mut f, peer) = fixture(|z| z).await;
    f.submit(&["bob@b.example"]).await;
    f.run().await;
    let sender = sender(&f, false);
    assert_eq!(sender.send_due(false).await.unwrap(), 0, "the day isn't over");
    f.clock.advance(24 * HOUR);
    assert_eq!(sender.send_due(false).await.unwrap(), 2);
    assert_eq!(sender.send_due(false).await.unwrap(), 0, "sent already");
    f.run().await;
    let reports = arrived(&peer);
    assert_eq!(reports.len(), 2);
    let (to, report, text) = &reports[0];
    assert_eq!(to, &["reports@c.example"]);
    assert_eq!((report.organization.as_str(), report.contact.as_str()), ("a.example", "postmaster@a.example"));
    assert_eq!(report.end.secs() - report.begin.secs(), 86_399);
    assert_eq!(
        report.policies.iter().map(|p| (p.policy.domain.as_str(), p.failure)).collect::<Vec<_>>(),
        [("b.example", 1), ("mx.b.example", 1)]
    );
    assert_eq!(report.policies[0].details[0].mx_helo, "peer ready");
    assert!(
        text.starts_with("DKIM-Signature: ") && text.replace("\r\n\t", "").contains("h=From:TLS-Report-Domain:TLS-Report-Submitter;"),
        "{text}"
    );
    assert!(text.contains("\r\nTLS-Required: No\r\n") && text.contains("\r\nTLS-Report-Domain: b.example\r\n"));
    // The host hears for which domain it was.
    let (to, report, _) = &reports[1];
    assert_eq!(to, &["host@c.example"]);
    assert_eq!((report.policies[0].policy.domain.as_str(), report.policies[0].policy.mx_hosts[0].as_str()), ("b.example", "mx.b.example"));
    // Delivering reports fails to be encrypted just as much, but no report tells of that.
    f.clock.advance(24 * HOUR);
    assert_eq!(sender.send_due(false).await.unwrap(), 0, "a loop");
}

#[tokio::test(start_paused = true)]
async fn nobody_hears_of_reports_that_fail() {
    let (mut f, peer) = fixture(|z| z).await;
    f.submit(&["bob@b.example"]).await;
    f.run().await;
    f.clock.advance(24 * HOUR);
    assert_eq!(sender(&f, false).send_due(false).await.unwrap(), 2);
    peer.rcpt("c.example", "550 5.1.1 no such user");
    f.run().await;
    assert!(f.queued().await.is_empty());
    assert!(f.dsns("root", "Inbox").await.is_empty() && f.dsns("root", "Postmaster").await.is_empty());
    // Where one was refused, no more go for some time.
    let dead = f.policies.store().suppressions().list(f.clock.now(), "", 10).await.unwrap();
    assert_eq!(dead.iter().map(|s| s.address.as_str()).collect::<Vec<_>>(), ["host@c.example", "reports@c.example"]);
    assert!(dead[0].comment.contains("550 5.1.1 no such user"), "{}", dead[0].comment);
    assert!(f.dmarc.suppressions().list(f.clock.now(), "", 10).await.unwrap().is_empty());
    f.submit(&["bob@b.example"]).await;
    f.run().await;
    f.clock.advance(24 * HOUR);
    assert_eq!(sender(&f, false).send_due(false).await.unwrap(), 0);
    f.clock.advance(30 * 24 * HOUR);
    assert!(f.policies.store().suppressions().list(f.clock.now(), "", 10).await.unwrap().is_empty());
}

/// A host that answers for now, again and again, isn't asked for some days.
#[tokio::test(start_paused = true)]
async fn unreachable_addresses_get_none_for_a_while() {
    let (mut f, peer) = fixture(|z| z).await;
    f.submit(&["bob@b.example"]).await;
    f.run().await;
    f.clock.advance(24 * HOUR);
    assert_eq!(sender(&f, false).send_due(false).await.unwrap(), 2);
    peer.rcpt("c.example", "451 4.3.0 not now");
    for _ in 0..5 {
        assert!(!f.queued().await.is_empty());
        f.clock.advance(10 * HOUR);
        f.run().await;
    }
    assert!(f.queued().await.is_empty());
    let dead = f.policies.store().suppressions().list(f.clock.now(), "", 10).await.unwrap();
    assert_eq!(dead.len(), 2);
    assert_eq!(dead[0].until, f.clock.now().after(3 * 24 * HOUR));
}

/// What is posted to `https://x.example/`, which answers so.
fn web(f: &Fixture, answer: &'static str) -> (Client, Arc<Mutex<Vec<Vec<u8>>>>) {
    let mut listener = f.world.listen("1.1.1.1:443".parse().unwrap());
    let requests = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&requests);
    let server = tls::any_server();
    tokio::runtime::Handle::current().spawn(async move {
        while let Ok(mut stream) = listener.accept().await {
            stream.start_tls(&server, &[]).await.unwrap();
            let (mut request, mut buffer) = (Vec::new(), vec![0; 4096]);
            let whole = |request: &[u8]| {
                let text = String::from_utf8_lossy(request).to_lowercase();
                let (head, _) = text.split_once("\r\n\r\n")?;
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?.parse::<usize>().ok()?;
                (request.len() >= head.len() + 4 + length).then_some(())
            };
            while whole(&request).is_none() {
                let n = stream.read(&mut buffer).await.unwrap();
                request.extend_from_slice(&buffer[..n]);
            }
            seen.lock().unwrap().push(request);
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.close().await;
        }
    });
    let zone = Zone::new().a("x.example", "1.1.1.1");
    let tls = ClientTls::opportunistic().unwrap();
    (Client::new(Arc::new(zone), Arc::new(f.world.clone()), tls, AddressGuard::public_only()), requests)
}

#[tokio::test(start_paused = true)]
async fn posted_to_those_who_want_it_so() {
    for (answer, taken) in [
        ("HTTP/1.1 201 Created\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", true),
        ("HTTP/1.1 500 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", false),
    ] {
        let (mut f, peer) = fixture(|z| z).await;
        f.submit(&["bob@b.example"]).await;
        f.run().await;
        f.clock.advance(24 * HOUR);
        let (client, requests) = web(&f, answer);
        assert_eq!(sender(&f, false).with_client(client).send_due(false).await.unwrap(), 2);
        f.run().await;
        assert_eq!(arrived(&peer).len(), 2, "by mail, too");
        let requests = requests.lock().unwrap().clone();
        assert_eq!(requests.len(), if taken { 1 } else { 3 });
        let at = requests[0].windows(4).position(|w| w == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(requests[0][..at].to_vec()).unwrap().to_lowercase();
        assert!(head.starts_with("post / http/1.1\r\n") && head.contains("content-type: application/tlsrpt+gzip"), "{head}");
        let message =
            [b"Content-Type: application/tlsrpt+gzip\r\nContent-Transfer-Encoding: binary".as_slice(), &requests[0][at..]].concat();
        assert_eq!(read(&message).unwrap().policies[0].policy.domain, "b.example");
        let dead = f.policies.store().suppressions().list(f.clock.now(), "", 10).await.unwrap();
        let dead: Vec<_> = dead.into_iter().map(|s| (s.address, s.comment)).collect();
        let want = ("https://x.example/".to_owned(), "report not taken: status 500".to_owned());
        assert_eq!(dead, if taken { vec![] } else { vec![want] });
    }
}

#[tokio::test(start_paused = true)]
async fn who_gets_none() {
    for (what, zone, all_success, starttls, want) in [
        ("nothing wrong", None, false, true, 0),
        ("nothing wrong, all wanted", None, true, true, 2),
        ("suppressed", Some("suppress"), false, false, 1),
        ("record can't be looked up", Some("temporary"), false, false, 1),
        ("same addresses", Some("same"), false, false, 1),
    ] {
        let (mut f, peer) = fixture(|z| match zone {
            Some("temporary") => z.temporary("_smtp._tls.b.example", None),
            Some("same") => Zone::new()
                .mx("b.example", 10, "mx.b.example")
                .a("mx.b.example", "192.0.2.1")
                .txt("_smtp._tls.b.example", "v=TLSRPTv1; rua=mailto:reports@c.example")
                .txt("_smtp._tls.mx.b.example", "v=TLSRPTv1; rua=mailto:reports@c.example"),
            _ => z,
        })
        .await;
        if starttls {
            peer.speaks_tls(tls::any_server());
        }
        f.submit(&["bob@b.example"]).await;
        f.run().await;
        f.clock.advance(24 * HOUR);
        if zone == Some("suppress") {
            let now = f.clock.now();
            let address = "reports@c.example".to_owned();
            let entry = SuppressedAddress { address, inserted: now, until: now.after(HOUR), comment: String::new() };
            f.policies.store().suppressions().add(entry).await.unwrap();
        }
        let sender = sender(&f, all_success);
        assert_eq!(sender.send_due(false).await.unwrap(), want, "{what}");
        let left = f.policies.store().results(tls::day(f.clock.now().before(24 * HOUR))).await.unwrap();
        assert_eq!(left.is_empty(), zone != Some("temporary"), "{what}: only what may be sent later stays");
        f.clock.advance(48 * HOUR);
        assert_eq!(sender.send_due(false).await.unwrap(), 0, "{what}");
    }
}
