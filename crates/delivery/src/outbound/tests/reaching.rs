//! Which addresses a host is reached at, and from which of ours.

use super::peer::{Does, Step};
use super::*;

/// A host with several addresses of both families.
fn many() -> Zone {
    zone()
        .mx("many.example", 10, "many.b.example")
        .a("many.b.example", "192.0.2.1")
        .a("many.b.example", "192.0.2.2")
        .aaaa("many.b.example", "2001:db8::1")
        .mx("e.example", 10, "mx.b.example")
        .mx("f.example", 10, "mx.b.example")
        .mx("g.example", 10, "mx.b.example")
}

fn from(ips: &[&str]) -> SourceIps {
    SourceIps { ips: ips.iter().map(|ip| ip.parse().unwrap()).collect(), only: true }
}

fn clients(peer: &Peer) -> Vec<String> {
    peer.clients().iter().map(ToString::to_string).collect()
}

#[tokio::test(start_paused = true)]
async fn an_address_that_is_silent_costs_two_seconds() {
    let mut f = Fixture::with(many(), |_| {}, Routing::default()).await;
    f.world.silent("192.0.2.1:25".parse().unwrap());
    let (v4, v6) = (Peer::listen(&f.world, "192.0.2.2:25"), Peer::listen(&f.world, "[2001:db8::1]:25"));
    let before = tokio::time::Instant::now();
    f.submit(&["bob@many.example"]).await;
    f.run().await;
    // The other family first, RFC 8305 §4.
    assert_eq!((before.elapsed().as_secs(), v6.delivered(), v4.connections()), (2, 1, 0));
    assert_eq!(f.retired().await[0].results[0].via.ip, "2001:db8::1".parse().ok());
    f.check_conservation().await;
}

#[tokio::test(start_paused = true)]
async fn an_address_that_wants_nothing_now_is_not_the_last() {
    for (step, does) in [
        (Step::Greeting, Does::Says("421 4.3.2 busy".to_owned())),
        (Step::Greeting, Does::Says("450 4.3.2 not now".to_owned())),
        (Step::Ehlo, Does::Says("451 4.3.0 not now".to_owned())),
        (Step::Greeting, Does::Closes),
        (Step::Greeting, Does::Hangs),
        (Step::Ehlo, Does::Closes),
    ] {
        let mut f = Fixture::with(many(), |_| {}, Routing::default()).await;
        let first = f.peer();
        let (v4, v6) = (Peer::listen(&f.world, "192.0.2.2:25"), Peer::listen(&f.world, "[2001:db8::1]:25"));
        first.at(step, does.clone());
        v6.at(step, does.clone());
        f.submit(&["bob@many.example"]).await;
        f.run().await;
        assert_eq!((first.connections(), v6.connections(), v4.delivered()), (1, 1, 1), "{step:?} {does:?}");
        f.check_conservation().await;
        // All of them: the message waits.
        v4.at(step, does.clone());
        f.submit(&["bob@many.example"]).await;
        f.run().await;
        assert_eq!((f.queued().await.len(), v4.delivered()), (1, 1), "{step:?} {does:?}");
        f.check_conservation().await;
    }
    // What one has said tells more than that nobody answers at another; and a host that asks for a pause gets one.
    let mut f = Fixture::with(many(), |_| {}, Routing::default()).await;
    let first = f.peer();
    first.says(Step::Greeting, "421 4.3.2 busy");
    f.submit(&["bob@many.example"]).await;
    f.run().await;
    assert_eq!(f.last_result().await.0, 421);
    f.submit(&["bob@many.example"]).await;
    f.run().await;
    assert_eq!((first.connections(), f.queued().await.len()), (1, 2));
    // What is refused for good, or later in the session, isn't asked of every address.
    for (step, reply) in [(Step::Greeting, "554 5.3.2 no mail here"), (Step::Mail, "451 4.3.0 not now")] {
        let mut f = Fixture::with(many(), |_| {}, Routing::default()).await;
        let (first, v4) = (f.peer(), Peer::listen(&f.world, "192.0.2.2:25"));
        first.says(step, reply);
        f.submit(&["bob@many.example"]).await;
        f.run().await;
        assert_eq!((first.connections(), v4.connections()), (1, 0), "{reply}");
    }
}

#[tokio::test(start_paused = true)]
async fn recipients_keep_their_own_reasons_when_no_host_is_left() {
    let mut f = Fixture::new().await;
    let (first, second) = (f.peer(), Peer::listen(&f.world, "192.0.2.2:25"));
    first.rcpt("bob@", "450 4.2.1 greylisted");
    first.rcpt("cas@", "452 4.2.2 mailbox full");
    second.says(Step::Greeting, "421 4.3.2 busy");
    f.submit(&["bob@two.example", "cas@two.example"]).await;
    f.run().await;
    let texts: Vec<String> = f.queued().await.iter().map(|l| l.results[0].error.clone()).collect();
    assert!(texts[0].contains("greylisted") && texts[1].contains("mailbox full"), "{texts:?}");
    f.check_conservation().await;
}

#[tokio::test(start_paused = true)]
async fn a_host_gets_no_more_messages_by_a_connection_than_it_says() {
    let mut f = Fixture::new().await;
    let peer = f.peer();
    peer.offers("LIMITS MAILMAX=2 RCPTMAX=2 RCPTDOMAINMAX=1");
    for _ in 0..3 {
        f.submit(&["bob@b.example"]).await;
    }
    f.run().await;
    assert_eq!((peer.delivered(), peer.connections()), (3, 2));
    // A message for five takes three transactions, and thus two connections.
    f.submit(&["a@b.example", "b@b.example", "c@b.example", "d@b.example", "e@b.example"]).await;
    f.run().await;
    assert_eq!((peer.delivered(), peer.connections()), (8, 4));
    let lines = peer.lines();
    for session in lines.split(|l| l.starts_with("EHLO")) {
        assert!(session.iter().filter(|l| l.starts_with("MAIL")).count() <= 2, "{lines:?}");
    }
    assert_eq!(lines.iter().filter(|l| *l == "QUIT").count(), 4);
    f.check_conservation().await;
}

#[tokio::test(start_paused = true)]
async fn waits_are_as_long_as_the_standard_wants() {
    // RFC 5321 §4.5.3.2.
    for (step, minutes) in [(Step::Greeting, 5), (Step::Ehlo, 5), (Step::Mail, 5), (Step::Rcpt, 5), (Step::Data, 2), (Step::End, 10)] {
        for transport in ["", "smart"] {
            let mut f = Fixture::with(zone(), |_| {}, super::relays::routing(RelayTls::Plain, None)).await;
            let (direct, smart) = (f.peer(), Peer::listen(&f.world, "192.0.2.2:587"));
            let peer = if transport.is_empty() { direct } else { smart };
            peer.lacks("PIPELINING");
            peer.at(step, Does::Hangs);
            f.submit(&["bob@b.example"]).await;
            f.queue.set_transport(Filter::default(), transport.to_owned()).await.unwrap();
            let before = tokio::time::Instant::now();
            f.run().await;
            assert_eq!(before.elapsed().as_secs(), minutes * 60, "{step:?} by {transport:?}");
            assert_eq!(f.queued().await.len(), 1);
            f.check_conservation().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_address_of_ours_that_is_blocked_is_replaced() {
    let mut f = Fixture::with(many(), |s| s.sources = from(&["198.51.100.1", "198.51.100.2"]), Routing::default()).await;
    let peer = f.peer();
    let refusal = "550 5.7.1 Client host [198.51.100.1] blocked using bl.example blocklist";
    peer.unwanted("198.51.100.1", refusal);
    f.submit(&["bob@b.example"]).await;
    f.run().await;
    // For good, it says; but only for that address.
    assert_eq!((clients(&peer), f.queued().await.len(), f.metrics.source_refused.get()), (vec!["198.51.100.1".to_owned()], 1, 1));
    f.clock.advance(HOUR);
    f.run().await;
    assert_eq!((clients(&peer)[1].as_str(), peer.delivered()), ("198.51.100.2", 1));
    // Others aren't concerned, until three have said so.
    for domain in ["c.example", "e.example", "f.example"] {
        f.submit(&[&format!("bob@{domain}")]).await;
        f.run().await;
    }
    assert_eq!(clients(&peer)[2..], ["198.51.100.1", "198.51.100.1", "198.51.100.2"]);
    f.clock.advance(HOUR);
    f.run().await;
    assert_eq!((f.queued().await.len(), peer.delivered()), (0, 4));
    // After some hours it may be better again.
    peer.unwanted("198.51.100.9", refusal);
    f.clock.advance(HOUR * 7);
    f.submit(&["bob@g.example"]).await;
    f.run().await;
    assert_eq!(clients(&peer).last().map(String::as_str), Some("198.51.100.1"));
    f.check_conservation().await;
}

#[tokio::test(start_paused = true)]
async fn the_only_address_is_not_replaced() {
    let mut f = Fixture::with(many(), |s| s.sources = from(&["198.51.100.1"]), Routing::default()).await;
    let peer = f.peer();
    peer.unwanted("198.51.100.1", "550 5.7.1 Client host [198.51.100.1] blocked using bl.example blocklist");
    f.submit(&["bob@b.example"]).await;
    f.run().await;
    assert_eq!((f.queued().await.len(), f.metrics.source_refused.get()), (0, 1));
    f.check_conservation().await;
}

#[tokio::test(start_paused = true)]
async fn accounts_and_domains_have_addresses_of_their_own_by_routes() {
    let direct = |ips: &[&str], hostname: Option<&str>| {
        let hostname = hostname.map(|h| h.parse().unwrap());
        Transport::Direct(Box::new(Direct { from: ips.iter().map(|ip| ip.parse().unwrap()).collect(), hostname, ..Direct::default() }))
    };
    let routing = Routing {
        transports: BTreeMap::from([
            ("bulk".to_owned(), direct(&["198.51.100.9"], Some("bulk.a.example"))),
            ("v6".to_owned(), direct(&["2001:db8:5::1"], None)),
            ("v4".to_owned(), Transport::Direct(Box::new(Direct { ipv6: false, ..Direct::default() }))),
        ]),
        of_accounts: BTreeMap::from([("hooked".to_owned(), vec![Route { transport: "bulk".to_owned(), ..Route::default() }])]),
        global: vec![Route { transport: "v6".to_owned(), to: vec![DomainPattern::parse("dual.example").unwrap()], ..Route::default() }],
        ..Routing::default()
    };
    let mut f = Fixture::with(many(), |s| s.sources = from(&["198.51.100.1"]), routing).await;
    let (v4, v6) = (f.peer(), Peer::listen(&f.world, "[2001:db8::1]:25"));
    f.submit(&["bob@b.example"]).await;
    f.submit_from("hooked@a.example", &["bob@c.example"], |s| s.account = "hooked".to_owned()).await;
    f.run().await;
    let mut seen = clients(&v4);
    seen.sort_unstable();
    assert_eq!(seen, ["198.51.100.1", "198.51.100.9"]);
    assert!(v4.lines().contains(&"EHLO bulk.a.example".to_owned()) && v4.lines().contains(&"EHLO mail.a.example".to_owned()));
    // Only the family that has an address.
    f.submit(&["bob@dual.example"]).await;
    f.run().await;
    assert_eq!((clients(&v6), v4.connections()), (vec!["2001:db8:5::1".to_owned()], 2));
    // A host without that family can't be reached; and what isn't to be used isn't.
    let ids = f.submit(&["bob@b.example"]).await;
    f.queue.set_transport(Filter { ids, ..Filter::default() }, "v6".to_owned()).await.unwrap();
    f.run().await;
    assert!(f.queued().await[0].results[0].error.contains("no usable address of mx.b.example"), "{:?}", f.queued().await[0].results);
    let ids = f.submit(&["bob@many.example"]).await;
    f.queue.set_transport(Filter { ids, ..Filter::default() }, "v4".to_owned()).await.unwrap();
    f.run().await;
    assert_eq!((v4.connections(), v6.connections()), (3, 1));
    f.check_conservation().await;
}
