//! Signatures: made when a message goes out, once for all who get it, and again when they get old.

use super::peer::Step;
use super::*;
use mox_base::Domain;
use mox_mailauth::MessageReader;
use mox_mailauth::dkim::{DkimSettings, DkimStatus};
use mox_mailauth::{Canonicalization, DkimSelector, SigningKey};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn domain() -> Domain {
    "a.example".parse().unwrap()
}

fn selector(expiration: Option<Duration>) -> DkimSelector {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    DkimSelector {
        name: "sel".parse().unwrap(),
        key: SigningKey::from_pkcs8(&key.serialize_der()).unwrap(),
        header: Canonicalization::Relaxed,
        body: Canonicalization::Relaxed,
        headers: vec!["From".to_owned(), "Subject".to_owned()],
        seal_headers: true,
        expiration,
    }
}

impl Fixture {
    fn sign_with(&self, selector: DkimSelector) {
        self.selectors.replace(BTreeMap::from([(domain(), Arc::from([selector]))]));
    }

    async fn submit_signed(&mut self, recipients: &[&str]) {
        self.submit_from("ann@a.example", recipients, |submission| submission.sign_domain = Some(domain())).await;
    }
}

/// The signature of a message as a peer got it.
fn signature(text: &str) -> String {
    let end = text.find("\r\nReceived: by us").unwrap();
    assert!(text.starts_with("DKIM-Signature: "), "{text}");
    text[..end].to_owned()
}

/// Whether a message's signature is good by the key of a selector.
async fn is_good(f: &Fixture, text: &str) -> bool {
    let key = f.selectors.of(&domain()).unwrap()[0].key.public_record().unwrap().to_text();
    let zone = Zone::new().txt("sel._domainkey.a.example", &key);
    let mut reader = MessageReader::new();
    reader.push(text.as_bytes());
    let settings = DkimSettings { now: f.clock.now(), accept_top_level: None };
    let outcomes = reader.finish().verify_dkim(&zone, &settings).await.unwrap();
    outcomes.iter().all(|outcome| outcome.status == DkimStatus::Pass) && outcomes.len() == 1
}

#[tokio::test(start_paused = true)]
async fn when_it_is_sent_with_the_keys_of_then() {
    let mut f = Fixture::new().await;
    let peer = f.peer();
    let release = f.clock.now().after(DAY * 30);
    f.submit_from("ann@a.example", &["bob@b.example"], |submission| {
        submission.sign_domain = Some(domain());
        submission.release = Some(release);
    })
    .await;
    f.run().await;
    assert_eq!(peer.delivered(), 0);
    f.clock.advance(DAY * 30);
    f.sign_with(selector(Some(DAY)));
    f.run().await;
    let text = peer.messages()[0].1.clone();
    assert!(is_good(&f, &text).await, "{text}");
    assert!(signature(&text).contains(&format!("t={};", f.clock.now().secs())), "{text}");
    f.check_conservation().await;
}

#[tokio::test(start_paused = true)]
async fn once_for_all_recipients() {
    let mut f = Fixture::new().await;
    let peer = f.peer();
    f.submit_signed(&["bob@b.example", "cas@c.example", "dot@two.example"]).await;
    f.run().await;
    let signatures: std::collections::BTreeSet<String> = peer.messages().iter().map(|(_, text)| signature(text)).collect();
    assert_eq!((peer.messages().len(), signatures.len()), (3, 1));
    let made = f.metrics.signed.get_or_create(&crate::metrics::SignLabels { key: "ed25519" }).get();
    assert_eq!(made, 1);
}

#[tokio::test(start_paused = true)]
async fn the_same_for_further_attempts_until_it_gets_old() {
    let mut f = Fixture::new().await;
    f.sign_with(selector(Some(HOUR * 2)));
    let peer = f.peer();
    peer.at(Step::Message, peer::Does::Says("451 4.3.0 later".to_owned()));
    f.submit_signed(&["bob@b.example"]).await;
    let mut seen = Vec::new();
    for _ in 0..5 {
        f.run().await;
        // What a restarted server knows is in the database.
        f.restart();
        let entry = f.queued().await[0].row.clone();
        let (_, message) = f.queue.entry(entry.id).await.unwrap().unwrap();
        seen.push(message.signature.unwrap().fields);
        let wait = entry.next_attempt.since(f.clock.now());
        f.clock.advance(wait);
    }
    // At 0, 7.5, 22.5 and 52.5 minutes; then after 112.5, more than half of two hours.
    assert!(seen[..4].iter().all(|s| *s == seen[0]));
    assert_ne!(seen[4], seen[0]);
    // Other keys, another signature.
    f.sign_with(selector(Some(HOUR * 2)));
    peer.well_behaved();
    f.run().await;
    let text = peer.messages()[0].1.clone();
    assert!(is_good(&f, &text).await, "{text}");
    assert_ne!(signature(&text).into_bytes(), seen[4][..seen[4].len() - 2]);
    f.check_conservation().await;
}

#[tokio::test(start_paused = true)]
async fn dsns_return_it_and_domains_without_keys_send_without() {
    let mut f = Fixture::new().await;
    let peer = f.peer();
    peer.says(Step::Mail, "550 5.6.0 no");
    f.submit_signed(&["bob@b.example"]).await;
    f.run().await;
    let dsn = &f.dsns("ann", "Inbox").await[0];
    assert!(dsn.contains("\r\n\r\nDKIM-Signature: v=1;"), "{dsn}");
    f.selectors.replace(BTreeMap::new());
    peer.well_behaved();
    f.submit_signed(&["bob@b.example"]).await;
    f.run().await;
    assert!(peer.messages()[0].1.starts_with("Received: by us"));
}
