//! Relays: found by SRV records, verified by TLSA records, and told of what a message needs.

use super::tls::{Pki, pki, tlsa, was_encrypted};
use super::*;
use mox_base::RecordKind;
use mox_base::dns::{Record, Srv};

/// All mail by a relay.
pub(super) fn routing(tls: RelayTls, srv: Option<&'static str>) -> Routing {
    let host = if srv.is_some() { "a.example" } else { "mx2.b.example" };
    let relay = Relay { host: Host::Domain(host.parse().unwrap()), port: 587, srv, tls, auth: None };
    Routing { transports: BTreeMap::from([("smart".to_owned(), Transport::Relay(Box::new(relay)))]), ..Routing::default() }
}

fn by_relay(routing: Routing) -> Routing {
    Routing { global: vec![Route { transport: "smart".to_owned(), ..Route::default() }], ..routing }
}

fn srv(priority: u16, port: u16, target: &str) -> Record {
    Record::Srv(Srv { priority, weight: 1, port, target: target.to_owned() })
}

/// A delivery by a relay at 192.0.2.2:587 with this certificate: `tls`, or why not, and whether it waits.
async fn delivery(routing: Routing, zone: Zone, server: &Pki, roots: &Pki, require_tls: Option<bool>) -> (String, bool) {
    let mut f = Fixture::with_policies(zone, |_| {}, by_relay(routing), super::tls::Served::default(), roots.roots.clone()).await;
    let peer = Peer::listen(&f.world, "192.0.2.2:587");
    peer.speaks_tls(server.server.clone());
    peer.offers("REQUIRETLS");
    f.submit_from("ann@a.example", &["bob@b.example"], |s| s.require_tls = require_tls).await;
    f.run().await;
    f.check_conservation().await;
    let how = match peer.delivered() {
        0 => f.last_result().await.2,
        _ if was_encrypted(&peer) => f.retired().await[0].results[0].via.tls.rsplit(' ').next().unwrap().to_owned(),
        _ => "plain".to_owned(),
    };
    let mail = peer.lines().iter().any(|l| l.starts_with("MAIL") && l.ends_with(" REQUIRETLS"));
    assert_eq!(mail, require_tls == Some(true) && peer.delivered() == 1);
    (how, f.queued().await.len() == 1)
}

#[tokio::test(start_paused = true)]
async fn whatever_is_wrong_with_tls_if_the_sender_wants_that() {
    use mox_sasl::client::Credentials;
    let (good, stranger) = (pki("mx2.b.example", false), pki("mx2.b.example", false));
    let with_auth = |mut routing: Routing| {
        for transport in routing.transports.values_mut() {
            if let Transport::Relay(relay) = transport {
                let credentials = Credentials { user: "us".to_owned(), password: mox_base::Secret::new("pw".to_owned()) };
                relay.auth = Some(mox_smtp::client::Auth { credentials, mechanisms: vec![mox_sasl::Mechanism::Plain] });
            }
        }
        routing
    };
    let required = || routing(RelayTls::Required, None);
    // A certificate of somebody else, and records that say so.
    let wrong = || zone().tlsa("_587._tcp.mx2.b.example", tlsa(3, 1, &good.key)).signed();
    assert_eq!(delivery(required(), zone(), &stranger, &good, Some(false)).await, ("unverified".to_owned(), false));
    assert_eq!(delivery(required(), wrong(), &stranger, &good, Some(false)).await, ("unverified".to_owned(), false));
    // But a password isn't shown to just anybody.
    let (why, waits) = delivery(with_auth(required()), zone(), &stranger, &good, Some(false)).await;
    assert!(why.starts_with("transport smart: starttls:") && waits, "{why}");
    // No TLS at all, or none that works.
    for (broken, auth) in [(false, false), (true, false), (false, true), (true, true)] {
        let routing = if auth { with_auth(required()) } else { required() };
        let mut f = Fixture::with(zone(), |_| {}, by_relay(routing)).await;
        let peer = Peer::listen(&f.world, "192.0.2.2:587");
        if broken {
            peer.offers("STARTTLS");
        }
        f.submit_from("ann@a.example", &["bob@b.example"], |s| s.require_tls = Some(false)).await;
        f.run().await;
        assert_eq!(peer.delivered(), usize::from(!auth), "{broken} {auth}");
        assert!(!peer.lines().iter().any(|line| line.starts_with("AUTH")));
        f.check_conservation().await;
    }
}

#[tokio::test(start_paused = true)]
async fn tlsa_records_decide_about_a_relay() {
    let (good, stranger) = (pki("mx2.b.example", false), pki("mx2.b.example", false));
    let at = "_587._tcp.mx2.b.example";
    let verified = || ("verified".to_owned(), false);
    // Without records: authorities.
    for require_tls in [None, Some(true)] {
        assert_eq!(delivery(routing(RelayTls::Required, None), zone().signed(), &good, &good, require_tls).await, verified());
    }
    let (why, waits) = delivery(routing(RelayTls::Required, None), zone().signed(), &stranger, &good, None).await;
    assert!(why.starts_with("transport smart: starttls:") && waits, "{why}");
    // With records, authorities don't matter: the key does, or the authority that is named.
    for record in [tlsa(3, 1, &stranger.key), tlsa(2, 0, &stranger.ca)] {
        let zone = zone().tlsa(at, record).signed();
        assert_eq!(delivery(routing(RelayTls::Required, None), zone, &stranger, &good, Some(true)).await, verified());
    }
    let zone_of_other = || zone().tlsa(at, tlsa(3, 1, &stranger.key));
    let (why, waits) = delivery(routing(RelayTls::Required, None), zone_of_other().signed(), &good, &good, None).await;
    assert!(why.starts_with("transport smart: starttls:") && waits, "{why}");
    // Records that DNSSEC doesn't vouch for, that nobody can use, or that are for another port, say nothing.
    for zone in [
        zone_of_other(),
        zone_of_other().signed().insecure("mx2.b.example"),
        zone().tlsa(at, tlsa(1, 1, &stranger.key)).signed(),
        zone().tlsa("_25._tcp.mx2.b.example", tlsa(3, 1, &stranger.key)).signed(),
    ] {
        assert_eq!(delivery(routing(RelayTls::Required, None), zone, &good, &good, None).await, verified());
    }
    // What can't be known isn't nothing.
    for zone in [zone().signed().temporary(at, Some(RecordKind::Tlsa)), zone().signed().bogus(at, Some(RecordKind::Tlsa))] {
        let (why, waits) = delivery(routing(RelayTls::Required, None), zone, &good, &good, None).await;
        assert!(why.starts_with("transport smart: looking up TLSA records of mx2.b.example at port 587:") && waits, "{why}");
    }
    // Where it is configured that certificates don't matter, they don't; but then nothing is certain.
    let unverified = routing(RelayTls::RequiredUnverified, None);
    assert_eq!(delivery(unverified.clone(), zone_of_other().signed(), &good, &good, None).await, ("unverified".to_owned(), false));
    let (why, waits) = delivery(unverified, zone_of_other().signed(), &good, &good, Some(true)).await;
    assert!(why.contains("doesn't verify TLS") && !waits, "{why}");
}

#[tokio::test(start_paused = true)]
async fn srv_records_name_the_servers() {
    let name = "_submission._tcp.a.example";
    let records =
        || zone().with(name, RecordKind::Srv, srv(20, 587, "mx2.b.example")).with(name, RecordKind::Srv, srv(10, 588, "mx.b.example"));
    let (server, domain) = (pki("mx2.b.example", false), pki("a.example", false));
    let by_srv = || routing(RelayTls::Required, Some("submission"));
    let verified = || ("verified".to_owned(), false);
    // The first can't be reached. A name from signed records is as good as one that was configured; another isn't.
    assert_eq!(delivery(by_srv(), records().signed(), &server, &server, Some(true)).await, verified());
    let (why, waits) = delivery(by_srv(), records(), &server, &server, None).await;
    assert!(why.starts_with("transport smart: starttls:") && waits, "{why}");
    assert_eq!(delivery(by_srv(), records(), &domain, &domain, None).await, verified());
    // TLSA records belong to the server, RFC 7673 §3.
    let stranger = pki("nobody.example", false);
    let zone_with_key = records().tlsa("_587._tcp.mx2.b.example", tlsa(3, 1, &stranger.key));
    assert_eq!(delivery(by_srv(), zone_with_key.clone().signed(), &stranger, &server, None).await, verified());
    let (why, waits) = delivery(by_srv(), zone_with_key.signed().insecure(name), &stranger, &server, None).await;
    assert!(why.starts_with("transport smart: starttls:") && waits, "{why}");
    // No such service, or no answer: mail waits, since it is our own configuration that is wrong.
    for zone in [zone().signed(), zone().with(name, RecordKind::Srv, srv(0, 0, "")), zone().temporary(name, None)] {
        let (why, waits) = delivery(by_srv(), zone, &server, &server, None).await;
        assert!(why.starts_with("transport smart: ") && why.contains("SRV records _submission._tcp.a.example") && waits, "{why}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_next_server_takes_what_the_first_does_not() {
    let name = "_submission._tcp.a.example";
    let zone = zone().with(name, RecordKind::Srv, srv(20, 587, "mx2.b.example")).with(name, RecordKind::Srv, srv(10, 588, "mx.b.example"));
    let mut f = Fixture::with(zone, |_| {}, by_relay(routing(RelayTls::Plain, Some("submission")))).await;
    let (first, second) = (Peer::listen(&f.world, "192.0.2.1:588"), Peer::listen(&f.world, "192.0.2.2:587"));
    f.submit(&["bob@b.example"]).await;
    f.run().await;
    assert_eq!((first.delivered(), second.connections()), (1, 0));
    first.rcpt("bob@", "451 4.3.0 later");
    f.submit(&["bob@b.example"]).await;
    f.run().await;
    assert_eq!(second.delivered(), 1);
    first.rcpt("cas@", "550 5.1.1 no such user");
    f.submit(&["cas@b.example"]).await;
    f.run().await;
    assert_eq!((second.connections(), f.retired().await.len()), (1, 3), "what is final is final");
    f.check_conservation().await;
}

#[tokio::test(start_paused = true)]
async fn relays_are_told_what_a_message_needs() {
    let mut f = Fixture::with(zone(), |_| {}, by_relay(routing(RelayTls::Plain, None))).await;
    let peer = Peer::listen(&f.world, "192.0.2.2:587");
    let utf8 = |s: &mut Submission| (s.smtputf8, s.has_8bit) = (true, true);
    let mail = |peer: &Peer| peer.lines().iter().rfind(|l| l.starts_with("MAIL")).cloned().unwrap_or_default();
    // Without SMTPUTF8 at the relay, it waits for a better day.
    f.submit_from("ann@a.example", &["bob@b.example"], utf8).await;
    f.run().await;
    assert_eq!((mail(&peer), f.queued().await.len()), (String::new(), 1));
    peer.offers("SMTPUTF8");
    f.clock.advance(HOUR);
    f.run().await;
    assert_eq!(mail(&peer), "MAIL FROM:<ann@a.example> BODY=8BITMIME SMTPUTF8");
    f.submit(&["bob@b.example"]).await;
    f.run().await;
    assert_eq!(mail(&peer), "MAIL FROM:<ann@a.example> BODY=7BIT");
    // 8-bit lines for who can't take them aren't sent, RFC 6152 §3.
    peer.lacks("8BITMIME");
    f.submit_from("ann@a.example", &["bob@b.example"], |s| s.has_8bit = true).await;
    f.run().await;
    assert_eq!((f.queued().await.len(), f.dsns("ann", "Inbox").await.len()), (0, 1));
    // Recipients in as many transactions as it wants.
    peer.offers("LIMITS RCPTMAX=1");
    f.submit(&["a@b.example", "b@b.example"]).await;
    f.run().await;
    assert_eq!(peer.messages().iter().rev().take(2).map(|(to, _)| to.len()).collect::<Vec<_>>(), [1, 1]);
    f.check_conservation().await;
}
