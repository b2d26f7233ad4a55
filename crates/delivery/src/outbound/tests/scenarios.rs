//! What happens when.

use super::peer::{Does, Peer, Step};
use super::*;
use mox_smtp::grammar::{Notify, OriginalRecipient};

#[tokio::test(start_paused = true)]
async fn delivers() {
    let mut f = Fixture::new().await;
    let peer = f.peer();
    f.submit(&["bob@b.example"]).await;
    assert_eq!(f.run().await, 1);
    assert_eq!(peer.messages(), [(vec!["bob@b.example".to_owned()], format!("Received: by us\r\n{HEADER}\r\n{BODY}"))]);
    assert_eq!(peer.lines()[..3], ["EHLO mail.a.example", "MAIL FROM:<ann@a.example> BODY=7BIT", "RCPT TO:<bob@b.example>"]);
    assert_eq!(f.last_result().await, (250, "0.0".to_owned(), String::new()));
    assert!(f.dsns("ann", "Inbox").await.is_empty());
    f.check_conservation().await;
}

/// Whatever a peer does at whichever step: nobody's mail is lost or doubled, and only a 5xx ends it.
#[tokio::test(start_paused = true)]
async fn every_step_fails_in_every_way() {
    for pipelining in [true, false] {
        for step in Step::ALL {
            let replies = if step == Step::Message {
                vec![]
            } else {
                vec!["451 4.3.0 later", "550 5.1.1 never", "421 4.3.2 shutting down", "garbage"]
            };
            let says = replies.into_iter().map(|r| Does::Says(r.to_owned()));
            for does in says.chain([Does::Closes, Does::Hangs]) {
                let mut f = Fixture::new().await;
                let peer = f.peer();
                if !pipelining {
                    peer.lacks("PIPELINING");
                }
                peer.at(step, does.clone());
                f.submit(&["bob@b.example", "cas@b.example"]).await;
                assert_eq!(f.run().await, 1);
                f.check_conservation().await;
                let what = format!("{step:?} {does:?}, pipelining {pipelining}");
                assert_eq!(peer.delivered(), 0, "{what}");
                let permanent = matches!(&does, Does::Says(reply) if reply.starts_with('5'));
                assert_eq!(f.queued().await.len(), if permanent { 0 } else { 2 }, "{what}");
                peer.well_behaved();
                f.clock.advance(HOUR);
                f.run().await;
                assert_eq!(peer.delivered(), if permanent { 0 } else { 2 }, "{what}");
                f.check_conservation().await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn tried_eight_times_then_told() {
    let mut f = Fixture::new().await;
    let peer = f.peer();
    peer.says(Step::Mail, "451 4.3.0 busy (really)");
    f.submit(&["bob@b.example"]).await;
    let mut attempts = 0;
    for _ in 0..100 {
        attempts += f.run().await;
        f.check_conservation().await;
        f.clock.advance(HOUR / 4);
    }
    assert_eq!(attempts, 8);
    assert!(f.queued().await.is_empty());
    let dsns = f.dsns("ann", "Inbox").await;
    assert_eq!(dsns.len(), 2);
    for part in [
        "Subject: mail delivery delayed",
        "Action: delayed",
        "Status: 4.3.0",
        "Will-Retry-Until:",
        "Remote-MTA: dns;mx.b.example ([192.0.2.1])",
        "Diagnostic-Code: smtp; 451 4.3.0 busy (really)",
        "Return-Path: <>\r\n",
        "Delivered-To: ann@a.example\r\n",
        "To: <ann@a.example>\r\n",
        "From: <postmaster@mail.a.example>\r\n",
        "References: <1@a.example>\r\n",
        "Final-Recipient: rfc822;bob@b.example",
    ] {
        assert!(dsns[0].contains(part), "{part} in {}", dsns[0]);
    }
    for part in [
        "Subject: mail delivery failed",
        "Action: failed",
        "Status: 5.3.0",
        "Received: by us\r\nFrom: <ann@a.example>",
        "text/rfc822-headers",
    ] {
        assert!(dsns[1].contains(part), "{part} in {}", dsns[1]);
    }
    assert!(!dsns[1].contains("hello"), "the body isn't returned");
}

#[tokio::test(start_paused = true)]
async fn recipients_have_results_of_their_own() {
    let mut f = Fixture::new().await;
    let peer = f.peer();
    peer.rcpt("gone@", "550 5.1.1 no such user");
    peer.rcpt("busy@", "450 4.2.1 mailbox busy");
    f.submit(&["gone@b.example", "bob@b.example", "busy@b.example"]).await;
    assert_eq!(f.run().await, 1);
    assert_eq!(peer.messages()[0].0, ["bob@b.example"]);
    let queued = f.queued().await;
    assert_eq!((queued.len(), queued[0].row.recipient.to_string()), (1, "busy@b.example".to_owned()));
    assert!(f.dsns("ann", "Inbox").await[0].contains("Final-Recipient: rfc822;gone@b.example"));
    f.check_conservation().await;
}

#[tokio::test(start_paused = true)]
async fn all_rejected_each_for_its_reason() {
    let mut f = Fixture::new().await;
    let peer = f.peer();
    peer.rcpt("gone@", "550 5.1.1 no such user");
    peer.rcpt("busy@", "450 4.2.1 mailbox busy");
    f.submit(&["gone@b.example", "busy@b.example"]).await;
    f.run().await;
    assert_eq!(f.queued().await.len(), 1);
    assert_eq!(f.retired().await[0].results[0].code, 550);
    f.check_conservation().await;
}

#[tokio::test(start_paused = true)]
async fn too_many_recipients_go_into_further_transactions() {
    let mut f = Fixture::new().await;
    let peer = f.peer();
    peer.offers("LIMITS RCPTMAX=2");
    f.submit(&["a@b.example", "b@b.example", "c@b.example", "d@b.example", "e@b.example"]).await;
    assert_eq!(f.run().await, 1);
    assert_eq!(peer.messages().iter().map(|(to, _)| to.len()).collect::<Vec<_>>(), [2, 2, 1]);
    assert_eq!(peer.connections(), 1);
    f.check_conservation().await;
}

#[tokio::test(start_paused = true)]
async fn one_recipient_too_many_is_sent_on_the_same_connection() {
    let mut f = Fixture::new().await;
    let peer = f.peer();
    peer.rcpt_once("b@b.example", "452 4.5.3 too many recipients");
    f.submit(&["a@b.example", "b@b.example"]).await;
    assert_eq!(f.run().await, 1);
    assert_eq!(peer.messages().iter().map(|(to, _)| to.join(",")).collect::<Vec<_>>(), ["a@b.example", "b@b.example"]);
    assert_eq!(peer.connections(), 1);
}

#[tokio::test(start_paused = true)]
async fn next_host_after_a_temporary_error_only() {
    let mut f = Fixture::new().await;
    let (first, second) = (f.peer(), Peer::listen(&f.world, "192.0.2.2:25"));
    first.says(Step::Mail, "451 4.3.0 later");
    f.submit(&["bob@two.example"]).await;
    f.run().await;
    assert_eq!((first.connections(), second.delivered()), (1, 1));
    first.says(Step::Mail, "550 5.7.1 never");
    f.submit(&["bob@two.example"]).await;
    f.run().await;
    assert_eq!((first.connections(), second.delivered()), (2, 1));
    f.check_conservation().await;
}

#[tokio::test(start_paused = true)]
async fn unreachable_hosts_are_tried_in_turn() {
    let mut f = Fixture::new().await;
    f.submit(&["bob@two.example"]).await;
    f.run().await;
    let (code, _, error) = f.last_result().await;
    assert_eq!(code, 0);
    assert!(error.starts_with("connecting to 192.0.2.2:"), "{error}");
    f.check_conservation().await;
}

#[tokio::test(start_paused = true)]
async fn domains_that_take_no_mail() {
    let mut f = Fixture::new().await;
    f.submit(&["bob@null.example"]).await;
    f.run().await;
    assert_eq!(f.last_result().await, (556, "1.10".to_owned(), "domain null.example does not accept mail (null MX)".to_owned()));
    f.check_conservation().await;
}

#[tokio::test(start_paused = true)]
async fn dns_trouble_is_temporary() {
    let mut f = Fixture::new().await;
    f.submit(&["bob@temp.example", "bob@nohost.example"]).await;
    assert_eq!(f.run().await, 2);
    assert_eq!(f.queued().await.len(), 2);
    f.check_conservation().await;
}

#[tokio::test(start_paused = true)]
async fn policy_rejection_tries_the_other_family_next() {
    let mut f = Fixture::new().await;
    let (v4, v6) = (f.peer(), Peer::listen(&f.world, "[2001:db8::1]:25"));
    v4.says(Step::Mail, "550 5.7.1 your address is listed");
    f.submit(&["bob@dual.example"]).await;
    f.run().await;
    assert_eq!(f.queued().await.len(), 1);
    f.clock.advance(HOUR);
    f.run().await;
    assert_eq!((v4.connections(), v6.delivered()), (1, 1));
    f.check_conservation().await;
}

#[tokio::test(start_paused = true)]
async fn broken_tls_falls_back_to_none() {
    let mut f = Fixture::new().await;
    let peer = f.peer();
    peer.offers("STARTTLS");
    f.submit(&["bob@b.example"]).await;
    f.run().await;
    assert_eq!((peer.connections(), peer.delivered()), (2, 1));
    assert_eq!(f.metrics.plaintext_fallback.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn requiretls_without_a_policy_fails() {
    let mut f = Fixture::new().await;
    let peer = f.peer();
    f.submit_from("ann@a.example", &["bob@b.example"], |s| s.require_tls = Some(true)).await;
    f.run().await;
    let (code, secode, _) = f.last_result().await;
    assert_eq!((code, secode.as_str(), peer.connections()), (554, "7.30", 0));
    assert!(f.queued().await.is_empty());
    f.check_conservation().await;
}

#[tokio::test(start_paused = true)]
async fn sender_domain_disabled_waits() {
    let mut f = Fixture::new().await;
    let peer = f.peer();
    f.submit_from("ann@off.example", &["bob@b.example"], |_| {}).await;
    f.run().await;
    assert_eq!(f.last_result().await.2, "domain of sender temporarily disabled");
    assert_eq!(peer.connections(), 0);
}

#[tokio::test(start_paused = true)]
async fn transports() {
    let fail = |code| Transport::Fail { code, text: None };
    let relay = Relay { host: Host::Domain("mx2.b.example".parse().unwrap()), port: 587, srv: None, tls: RelayTls::Plain, auth: None };
    let routing = Routing {
        transports: BTreeMap::from([
            ("fail5".to_owned(), fail(550)),
            ("fail4".to_owned(), fail(450)),
            ("smart".to_owned(), Transport::Relay(Box::new(relay))),
        ]),
        global: vec![Route { transport: "fail5".to_owned(), to: vec![DomainPattern::parse("c.example").unwrap()], ..Route::default() }],
        ..Routing::default()
    };
    let mut f = Fixture::with(zone(), |_| {}, routing).await;
    let (direct, smart) = (f.peer(), Peer::listen(&f.world, "192.0.2.2:587"));
    f.submit(&["bob@c.example"]).await;
    f.run().await;
    assert_eq!(f.last_result().await, (550, "7.0".to_owned(), "delivery fails explicitly as per configuration".to_owned()));
    let ids = f.submit(&["bob@b.example"]).await;
    let only = || Filter { ids: ids.clone(), ..Filter::default() };
    for (transport, error) in
        [("fail4", "delivery fails explicitly"), ("unknown", "transport \"unknown\" is not configured"), ("smart", "")]
    {
        f.queue.set_transport(only(), transport.to_owned()).await.unwrap();
        f.run().await;
        let queued = f.queued().await.into_iter().map(|l| (l.row.id, l.results));
        let retired = f.retired().await.into_iter().map(|l| (l.row.id, l.results));
        let (_, results) = queued.chain(retired).find(|(id, _)| *id == ids[0]).unwrap();
        assert!(results.last().unwrap().error.starts_with(error), "{results:?}");
        f.queue.set_hold(only(), false).await.unwrap();
        f.queue.reschedule(only(), Reschedule::At(f.clock.now())).await.unwrap();
    }
    assert_eq!((direct.delivered(), smart.delivered()), (0, 1));
    f.check_conservation().await;
}

#[tokio::test(start_paused = true)]
async fn localserve_delivers_to_itself() {
    let mut f = Fixture::with(Zone::new(), |s| s.mode = Mode::Local("127.0.0.1:1025".parse().unwrap()), Routing::default()).await;
    let peer = Peer::listen(&f.world, "127.0.0.1:1025");
    peer.at(Step::End, Does::Hangs);
    f.submit(&["bob@anything.example", "cas@anything.example"]).await;
    let before = tokio::time::Instant::now();
    f.run().await;
    assert_eq!(before.elapsed().as_secs(), 30);
    assert_eq!(f.queued().await.len(), 2);
    peer.well_behaved();
    f.clock.advance(HOUR);
    f.run().await;
    assert_eq!(peer.messages()[0].0.len(), 2);
    f.check_conservation().await;
}

#[tokio::test(start_paused = true)]
async fn senders_hear_what_they_asked_for() {
    let mut f = Fixture::new().await;
    let peer = f.peer();
    peer.rcpt("gone@", "550 5.1.1 no such user");
    f.submit_from("ann@a.example", &["gone@b.example", "bob@b.example"], |s| {
        s.envelope_id = Some("env 1".to_owned());
        s.recipients[0].parameters.notify = Some(Notify { success: false, failure: false, delay: false });
        s.recipients[1].parameters.notify = Some(Notify { success: true, failure: true, delay: false });
        s.recipients[1].parameters.orcpt =
            Some(OriginalRecipient { address_type: "rfc822".to_owned(), address: "robert@b.example".to_owned() });
    })
    .await;
    f.run().await;
    let dsns = f.dsns("ann", "Inbox").await;
    assert_eq!(dsns.len(), 1, "never means never");
    for part in ["Action: relayed", "Original-Envelope-ID: env 1", "Original-Recipient: rfc822;robert@b.example", "Status: 2.0.0"] {
        assert!(dsns[0].contains(part), "{part} in {}", dsns[0]);
    }
    // A host that does it itself is told, and nothing more comes from us.
    peer.offers("DSN");
    f.submit_from("ann@a.example", &["bob@b.example"], |s| {
        s.recipients[0].parameters.notify = Some(Notify { success: true, failure: true, delay: false });
    })
    .await;
    f.run().await;
    assert_eq!(f.dsns("ann", "Inbox").await.len(), 1);
    assert!(peer.lines().iter().any(|l| l == "RCPT TO:<bob@b.example> NOTIFY=SUCCESS,FAILURE"), "{:?}", peer.lines());
}

#[tokio::test(start_paused = true)]
async fn one_dsn_tells_of_all_recipients_that_failed_together() {
    let mut f = Fixture::new().await;
    let peer = f.peer();
    for (recipient, reply) in
        [("gone@", "550 5.1.1 no such user"), ("left@", "550 5.1.1 no such user"), ("full@", "554 5.2.2 mailbox full")]
    {
        peer.rcpt(recipient, reply);
    }
    peer.rcpt("busy@", "450 4.2.1 busy");
    f.submit(&["gone@b.example", "bob@b.example", "left@b.example", "full@b.example", "busy@b.example", "gone@c.example"]).await;
    f.run().await;
    f.check_conservation().await;
    // One for each domain, because those are attempts of their own.
    let dsns = f.dsns("ann", "Inbox").await;
    assert_eq!(dsns.len(), 2);
    let dsn = dsns.iter().find(|d| d.contains("left@b.example")).unwrap();
    for part in [
        "has failed permanently, to:\r\n\r\n    gone@b.example\r\n    left@b.example\r\n",
        "for gone@b.example, left@b.example was:\r\n",
        "for full@b.example was:\r\n",
        "Final-Recipient: rfc822;gone@b.example\r\nAction: failed\r\nStatus: 5.1.1",
        "Final-Recipient: rfc822;left@b.example\r\nAction: failed\r\nStatus: 5.1.1",
    ] {
        assert!(dsn.contains(part), "{part} in {dsn}");
    }
    assert!(!dsn.contains("bob@b.example\r\nAction") && !dsn.contains("busy@b.example\r\nAction"), "{dsn}");
    assert!(dsns.iter().any(|d| d.contains("rfc822;gone@c.example")));
    // Delays, too, when they are told.
    for _ in 0..6 {
        f.clock.advance(HOUR * 3);
        f.run().await;
    }
    f.check_conservation().await;
    let dsns = f.dsns("ann", "Inbox").await;
    assert_eq!(dsns.iter().filter(|d| d.contains("Action: delayed")).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn without_the_account_the_postmaster_hears() {
    let mut f = Fixture::new().await;
    let peer = f.peer();
    peer.says(Step::Mail, "550 5.1.1 no");
    f.submit_from("", &["bob@b.example"], |s| s.account = "removed".to_owned()).await;
    f.run().await;
    let dsns = f.dsns("root", "Postmaster").await;
    assert_eq!(dsns.len(), 1);
    assert!(dsns[0].contains("To: <postmaster@mail.a.example>"));
}

#[tokio::test(start_paused = true)]
async fn one_attempt_per_domain_and_few_at_once() {
    let mut f = Fixture::with(zone(), |s| s.max_running = 2, Routing::default()).await;
    let peer = f.peer();
    for domain in ["b.example", "b.example", "c.example", "two.example"] {
        f.submit(&[&format!("bob@{domain}")]).await;
    }
    let claiming = mox_store::queue::Claiming { owner: Owner(1), now: f.clock.now(), domains: 1, lease: HOUR, turn: 0 };
    let held = f.queue.claim(claiming, |_, _| HOUR).await.unwrap();
    assert_eq!(held[0].domain(), "b.example");
    assert_eq!(f.run().await, 2);
    assert_eq!(peer.delivered(), 2);
    f.queue.release("b.example".to_owned(), Owner(1)).await.unwrap();
    f.clock.advance(HOUR);
    f.run().await;
    assert_eq!(peer.delivered(), 4);
    f.check_conservation().await;
}

#[tokio::test(start_paused = true)]
async fn shutdown_costs_no_attempt() {
    let mut f = Fixture::new().await;
    let peer = f.peer();
    peer.at(Step::Mail, Does::Hangs);
    f.submit(&["bob@b.example"]).await;
    let shutdown = CancellationToken::new();
    let stop = async {
        while peer.lines().len() < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        shutdown.cancel();
    };
    let began = tokio::time::Instant::now();
    tokio::join!(f.runner.run(shutdown.clone()), stop);
    assert!(began.elapsed() < Duration::from_secs(5));
    let queued = f.queued().await;
    assert_eq!((queued[0].row.attempts, queued[0].row.next_attempt), (0, f.clock.now()));
    assert_eq!(queued[0].results[0].error, "interrupted by shutdown");
    peer.well_behaved();
    f.run().await;
    assert_eq!(peer.delivered(), 1);
    f.check_conservation().await;
}

#[tokio::test(start_paused = true)]
async fn shutdown_waits_for_the_reply_to_a_complete_message() {
    let mut f = Fixture::new().await;
    let peer = f.peer();
    peer.slow_end(Duration::from_secs(1));
    f.submit(&["bob@b.example"]).await;
    let shutdown = CancellationToken::new();
    let stop = async {
        while !peer.lines().iter().any(|l| l == "DATA") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        shutdown.cancel();
    };
    tokio::join!(f.runner.run(shutdown.clone()), stop);
    assert_eq!(peer.delivered(), 1);
    assert!(f.queued().await.is_empty());
    f.check_conservation().await;
}

#[tokio::test(start_paused = true)]
async fn the_running_queue_wakes_for_new_entries() {
    let mut f = Fixture::new().await;
    let peer = f.peer();
    let shutdown = CancellationToken::new();
    let runner = f.runner.clone();
    let queue = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        f.submit(&["bob@b.example"]).await;
        while peer.delivered() == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        shutdown.cancel();
    };
    let began = tokio::time::Instant::now();
    tokio::join!(runner.run(shutdown.clone()), queue);
    assert!(began.elapsed() < Duration::from_secs(7), "{:?}", began.elapsed());
    f.check_conservation().await;
}

/// A resolver with a bug.
#[derive(Debug)]
struct Panics(std::sync::atomic::AtomicBool, Zone);

impl Lookup for Panics {
    fn query<'a>(&'a self, name: &'a str, kind: mox_base::RecordKind) -> mox_base::LookupFuture<'a> {
        assert!(self.0.swap(true, std::sync::atomic::Ordering::SeqCst), "a bug");
        self.1.query(name, kind)
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_costs_one_attempt_and_frees_the_domain() {
    let mut f = Fixture::with(Panics(false.into(), zone()), |_| {}, Routing::default()).await;
    let peer = f.peer();
    f.submit(&["bob@b.example"]).await;
    f.submit(&["cas@b.example"]).await;
    assert_eq!(f.run().await, 2);
    assert_eq!(peer.messages()[0].0, ["cas@b.example"]);
    f.clock.advance(HOUR);
    f.run().await;
    assert_eq!(peer.delivered(), 2);
    f.check_conservation().await;
}

#[tokio::test(start_paused = true)]
async fn messages_to_one_domain_share_a_connection() {
    let mut f = Fixture::new().await;
    let peer = f.peer();
    for _ in 0..150 {
        f.submit(&["bob@b.example"]).await;
    }
    f.run().await;
    // At most a hundred, then another domain would have its turn.
    assert_eq!((peer.delivered(), peer.connections()), (150, 2));
    assert_eq!(peer.lines().iter().filter(|l| *l == "QUIT").count(), 2);
    assert!(f.retired().await.iter().all(|r| r.row.attempts == 1 && r.row.success));
    f.check_conservation().await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_ended_between_messages_is_no_failure() {
    let mut f = Fixture::new().await;
    let peer = f.peer();
    peer.closes_after_message();
    for _ in 0..3 {
        f.submit(&["bob@b.example"]).await;
    }
    f.run().await;
    assert_eq!((peer.delivered(), peer.connections()), (3, 3));
    assert!(f.retired().await.iter().all(|r| r.row.attempts == 1 && r.row.success));
    f.check_conservation().await;
}

/// A resolver that never answers.
#[derive(Debug)]
struct Silent;

impl Lookup for Silent {
    fn query<'a>(&'a self, _name: &'a str, _kind: mox_base::RecordKind) -> mox_base::LookupFuture<'a> {
        Box::pin(std::future::pending())
    }
}

#[tokio::test(start_paused = true)]
async fn shutdown_does_not_wait_for_dns() {
    let mut f = Fixture::with(Silent, |_| {}, Routing::default()).await;
    f.submit(&["bob@b.example"]).await;
    let shutdown = CancellationToken::new();
    let stop = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        shutdown.cancel();
    };
    let began = tokio::time::Instant::now();
    tokio::join!(f.runner.run(shutdown.clone()), stop);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(f.queued().await[0].row.attempts, 0);
}

#[tokio::test(start_paused = true)]
async fn messages_that_cannot_be_read_wait_and_at_last_bounce() {
    let mut f = Fixture::new().await;
    let peer = f.peer();
    let large = vec![b'x'; 100_000];
    f.submit_from("ann@a.example", &["bob@b.example"], |s| s.message = Spool::from(large)).await;
    for file in std::fs::read_dir(f.folder.path().join("queue")).unwrap() {
        std::fs::remove_file(file.unwrap().path()).unwrap();
    }
    f.run().await;
    assert_eq!(f.queued().await[0].row.attempts, 0);
    f.clock.advance(HOUR * 24 * 6);
    for _ in 0..100 {
        f.run().await;
        f.clock.advance(HOUR);
    }
    assert_eq!((f.queued().await.len(), peer.delivered()), (0, 0));
    f.check_conservation().await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_after_delivery_to_our_own_mailbox_doubles_nothing() {
    for delivered in [true, false] {
        let zone = Zone::new().mx("a.example", 10, "mx.b.example").a("mx.b.example", "192.0.2.1");
        let mut f = Fixture::with(zone, |_| {}, Routing::default()).await;
        let peer = f.peer();
        let text = format!("Message-Id: <1@a.example>\r\n{HEADER}\r\n{BODY}");
        f.submit_from("ann@a.example", &["ann@a.example"], |s| s.message = Spool::from(text.into_bytes())).await;
        // Another message with the same id isn't it.
        let account = f.store.account("ann").await.unwrap();
        let inbox = account.mailboxes().by_name("Inbox").unwrap().id;
        let file = async |text: String| {
            let message = mox_store::Message::new(text.into_bytes());
            account.add(inbox, message, mox_store::Append::default()).await.unwrap();
        };
        let header = format!("Message-Id: <1@a.example>\r\n{HEADER}");
        file(format!("Delivered-To: ann@a.example\r\nReceived: by us\r\n{header}\r\nother\r\n")).await;
        if delivered {
            file(format!("Delivered-To: ann@a.example\r\nReceived: by mx\r\nReceived: by us\r\n{header}\r\n{BODY}")).await;
        }
        // The attempt began, and the server ended before its outcome was recorded.
        let claiming = mox_store::queue::Claiming { owner: Owner(1), now: f.clock.now(), domains: 1, lease: HOUR, turn: 0 };
        f.queue.claim(claiming, |_, _| HOUR).await.unwrap();
        f.clock.advance(HOUR);
        f.run().await;
        assert_eq!(peer.delivered(), usize::from(!delivered));
        assert!(f.retired().await[0].row.success);
        f.check_conservation().await;
    }
}

#[tokio::test(start_paused = true)]
async fn suppressed_recipients_fail_each_on_its_own() {
    let mut f = Fixture::new().await;
    let peer = f.peer();
    peer.rcpt("gone@", "550 5.1.1 no such user");
    f.submit(&["gone@b.example"]).await;
    f.run().await;
    let list = f.queue.suppressions(None, None, 10).await.unwrap();
    assert_eq!((list.len(), list[0].base_address.as_str(), list[0].account.as_str()), (1, "gone@b.example", "ann"));
    assert_eq!(list[0].reason, "delivery failure from queue with smtp code 550, enhanced code \"1.1\"");
    // Grouped recipients are checked each, and nothing is said about them to the peer.
    f.submit(&["bob@b.example", "Gone+x@b.example"]).await;
    f.run().await;
    assert_eq!(peer.messages().last().unwrap().0, ["bob@b.example"]);
    assert!(!peer.lines().iter().any(|l| l.contains("Gone+x")));
    let retired = f.retired().await;
    let suppressed = retired.iter().find(|r| r.row.recipient == "Gone+x@b.example").unwrap();
    let last = suppressed.results.last().unwrap();
    assert_eq!((last.code, last.error.as_str()), (0, "address is on the suppression list"));
    assert_eq!(suppressed.row.event, Some(mox_store::queue::EventKind::Suppressed));
    // Only suppressed ones: no connection at all.
    let connections = peer.connections();
    f.submit(&["gone@b.example"]).await;
    f.run().await;
    assert_eq!(peer.connections(), connections);
    f.check_conservation().await;
}

#[tokio::test(start_paused = true)]
async fn failing_by_an_administrator_tells_the_sender() {
    let mut f = Fixture::new().await;
    let ids = f.submit(&["bob@b.example", "cas@c.example", "eve@c.example"]).await;
    let later = Filter { to: Some("c.example".to_owned()), ..Filter::default() };
    assert_eq!(f.runner.fail(later).await.unwrap(), 2);
    let dsns = f.dsns("ann", "Inbox").await;
    assert_eq!(dsns.len(), 2);
    assert!(dsns.iter().all(|d| d.contains("delivery canceled by admin") && d.contains("Action: failed")));
    assert_eq!(f.queued().await[0].row.id, ids[0]);
    assert!(f.queue.suppressions(None, None, 10).await.unwrap().is_empty());
    assert_eq!(f.runner.fail(Filter::default()).await.unwrap(), 1);
    assert_eq!(f.runner.fail(Filter::default()).await.unwrap(), 0);
    f.check_conservation().await;
}

#[tokio::test(start_paused = true)]
async fn results_tell_transport_host_and_address() {
    let mut f = Fixture::new().await;
    let peer = f.peer();
    peer.rcpt_once("bob@", "451 4.2.1 later");
    f.submit(&["bob@b.example"]).await;
    f.run().await;
    f.clock.advance(HOUR);
    f.run().await;
    let results = &f.retired().await[0].results;
    assert_eq!(results.len(), 2);
    for result in results {
        let via = &result.via;
        assert_eq!((via.transport.as_str(), via.host.as_str(), via.ip), ("", "mx.b.example", "192.0.2.1".parse().ok()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_that_wants_no_mail_is_not_the_last() {
    for (step, reply) in
        [(Step::Greeting, "554 5.3.2 no mail here"), (Step::Ehlo, "550 5.5.0 no"), (Step::Mail, "552 5.3.4 too large for us")]
    {
        let mut f = Fixture::new().await;
        let (first, second) = (f.peer(), Peer::listen(&f.world, "192.0.2.2:25"));
        first.says(step, reply);
        f.submit(&["bob@two.example"]).await;
        f.run().await;
        assert_eq!((first.connections(), second.delivered()), (1, 1), "{reply}");
        // When all hosts say no, it is final; when one only says later, it isn't.
        second.says(Step::Mail, "451 4.3.0 later");
        f.submit(&["bob@two.example"]).await;
        f.run().await;
        assert_eq!(f.queued().await.len(), 1, "{reply}");
        second.says(step, reply);
        f.clock.advance(HOUR);
        f.run().await;
        assert_eq!(f.queued().await.len(), 0, "{reply}");
        assert_eq!(f.dsns("ann", "Inbox").await.len(), 1);
        f.check_conservation().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_is_busy_is_left_alone_for_a_while() {
    let mut f = Fixture::new().await;
    let peer = f.peer();
    peer.says(Step::Mail, "421 4.7.0 too much from you");
    f.submit(&["bob@b.example"]).await;
    f.run().await;
    assert_eq!(peer.connections(), 1);
    // A restart doesn't forget it. Another message hears the same without a connection; other domains aren't concerned.
    peer.well_behaved();
    f.restart();
    f.submit(&["cas@b.example"]).await;
    f.submit(&["eve@c.example"]).await;
    f.run().await;
    assert_eq!((peer.connections(), peer.delivered()), (2, 1));
    let queued = f.queued().await;
    let result = queued.iter().find(|l| l.row.recipient.to_string() == "cas@b.example").unwrap().results[0].clone();
    assert_eq!((result.code, result.error.contains("too much from you")), (421, true), "{result:?}");
    // An administrator who wants it tried now has it tried now.
    f.queue.reschedule(Filter { to: Some("cas".to_owned()), ..Filter::default() }, Reschedule::At(f.clock.now())).await.unwrap();
    f.runner.end_pauses().await.unwrap();
    f.restart();
    f.run().await;
    assert_eq!(peer.delivered(), 2);
    f.clock.advance(HOUR);
    f.run().await;
    assert_eq!(peer.delivered(), 3);
    f.check_conservation().await;
}

#[tokio::test(start_paused = true)]
async fn few_connections_to_the_host_of_many_domains() {
    let mut f = Fixture::with(zone(), |s| s.max_per_host = 1, Routing::default()).await;
    let peer = f.peer();
    peer.slow_end(Duration::from_secs(1));
    f.submit(&["bob@b.example"]).await;
    f.submit(&["bob@c.example"]).await;
    f.submit(&["bob@two.example"]).await;
    assert_eq!(f.run().await, 3);
    assert_eq!((peer.delivered(), peer.most_at_once()), (3, 1));
    f.check_conservation().await;
}

#[tokio::test(start_paused = true)]
async fn through_a_proxy_under_its_name() {
    // Its dial leads to another world, which only the proxy reaches.
    let beyond = World::new();
    let transport = Transport::Socks { dial: Arc::new(beyond.clone()), hostname: "proxy.example".parse().unwrap() };
    let routing = Routing {
        transports: BTreeMap::from([("socks".to_owned(), transport)]),
        global: vec![Route { transport: "socks".to_owned(), ..Route::default() }],
        ..Routing::default()
    };
    let mut f = Fixture::with(zone(), |_| {}, routing).await;
    let (near, far) = (f.peer(), Peer::listen(&beyond, "192.0.2.1:25"));
    f.submit(&["bob@b.example"]).await;
    f.run().await;
    assert_eq!((near.connections(), far.delivered()), (0, 1));
    assert_eq!(far.lines()[0], "EHLO proxy.example");
    assert_eq!(f.retired().await[0].results[0].via.transport, "socks");
    f.check_conservation().await;
}

#[tokio::test(start_paused = true)]
async fn the_whole_message_comes_back_when_asked_for() {
    for (size, full) in [(10, true), (2 << 20, false)] {
        let mut f = Fixture::new().await;
        let peer = f.peer();
        peer.rcpt("gone@", "550 5.1.1 no such user");
        f.submit_from("ann@a.example", &["gone@b.example"], |s| {
            s.return_full = true;
            s.message = Spool::from(format!("{HEADER}\r\nfirst line\r\n{}", "x\r\n".repeat(size)).into_bytes());
        })
        .await;
        f.run().await;
        let dsn = &f.dsns("ann", "Inbox").await[0];
        assert_eq!((dsn.contains("message/rfc822"), dsn.contains("first line")), (full, full));
        assert_eq!(dsn.contains("text/rfc822-headers"), !full);
    }
}

/// What Python's email package makes of a DSN: types of the parts, and the fields of the recipient.
const READ_DSN: &str = r#"
import email, email.policy, sys
m = email.message_from_binary_file(sys.stdin.buffer, policy=email.policy.default)
assert not m.defects, m.defects
print(m.get_content_type(), m.get_param("report-type"), m["Auto-Submitted"], m["Return-Path"])
for p in m.iter_parts():
    assert not p.defects, p.defects
    print(p.get_content_type())
status = list(m.iter_parts())[1]
per_message, per_recipient = status.get_payload()
print(per_message["Reporting-MTA"], "|", per_message["Original-Envelope-ID"])
for name in ["Original-Recipient", "Final-Recipient", "Action", "Status", "Remote-MTA", "Diagnostic-Code"]:
    print(name, per_recipient[name])
"#;

#[tokio::test(start_paused = true)]
async fn an_independent_reader_understands_our_dsns() {
    let Some(python) = mox_testkit::peers::require_program("python3") else { return };
    let mut f = Fixture::new().await;
    let peer = f.peer();
    peer.rcpt("gone@", "550 5.1.1 no such (user)");
    f.submit_from("ann@a.example", &["gone@b.example", "bob@b.example"], |s| {
        s.envelope_id = Some("QQ314159".to_owned());
        let notify = Some(Notify { success: true, failure: true, delay: false });
        let orcpt = Some(OriginalRecipient { address_type: "rfc822".to_owned(), address: "list@b.example".to_owned() });
        for recipient in &mut s.recipients {
            recipient.parameters = RcptParameters { notify, orcpt: orcpt.clone() };
        }
    })
    .await;
    f.run().await;
    let dsns = f.dsns("ann", "Inbox").await;
    assert_eq!(dsns.len(), 2);
    let read = |dsn: &str| {
        use std::io::Write as _;
        let mut child = std::process::Command::new(&python)
            .args(["-c", READ_DSN])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(dsn.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    let (head, original) = (
        "multipart/report delivery-status auto-replied <>\ntext/plain\nmessage/delivery-status\ntext/rfc822-headers\n\
         dns; mail.a.example | QQ314159\n",
        "Original-Recipient rfc822;list@b.example\n",
    );
    let texts: Vec<String> = dsns.iter().map(|d| read(d)).collect();
    let failed = texts.iter().find(|t| t.contains("Action failed")).unwrap();
    assert_eq!(
        *failed,
        format!(
            "{head}{original}Final-Recipient rfc822;gone@b.example\nAction failed\nStatus 5.1.1 (rcptto: 550 5.1.1 no such user )\n\
             Remote-MTA dns;mx.b.example ([192.0.2.1])\nDiagnostic-Code smtp; 550 5.1.1 no such (user)\n"
        )
    );
    let relayed = texts.iter().find(|t| t.contains("Action relayed")).unwrap();
    let want = "Final-Recipient rfc822;bob@b.example\nAction relayed\nStatus 2.0.0\nRemote-MTA dns;mx.b.example ([192.0.2.1])\nDiagnostic-Code None\n";
    assert_eq!(*relayed, format!("{head}{original}{want}"));
}

#[tokio::test(start_paused = true)]
async fn webhooks_tell_what_happened_to_each_recipient() {
    let mut f = Fixture::new().await;
    let peer = f.peer();
    peer.rcpt("gone@", "550 5.1.1 no such user");
    peer.rcpt("busy@", "450 4.2.1 mailbox busy");
    let submit = async |f: &mut Fixture, to: &[&str]| {
        f.submit_from("hooked@a.example", to, |s| {
            s.account = "hooked".to_owned();
            s.extra = BTreeMap::from([("Key".to_owned(), "value".to_owned())]);
        })
        .await
    };
    let ids = submit(&mut f, &["bob@b.example", "gone@b.example", "busy@b.example"]).await;
    f.run().await;
    submit(&mut f, &["gone@b.example"]).await;
    f.run().await;
    let told = async |f: &Fixture| {
        let (filter, sort) = (mox_store::webhook::Filter::default(), mox_store::webhook::Sort::default());
        let mut list = f.queue.webhooks().list(filter, sort, Page::default()).await.unwrap();
        list.sort_by_key(|l| l.row.id);
        list.into_iter().map(|l| l.row.payload).collect::<Vec<String>>()
    };
    let payloads = told(&f).await;
    let want = [
        (ids[0].0, r#""Event":"delivered","DSN":false,"Suppressing":false"#, r#""SMTPCode":250,"SMTPEnhancedCode":"2.0.0","Error":"""#),
        (
            ids[1].0,
            r#""Event":"failed","DSN":false,"Suppressing":true"#,
            r#""SMTPCode":550,"SMTPEnhancedCode":"5.1.1","Error":"rcptto: 550 "#,
        ),
        (
            ids[2].0,
            r#""Event":"delayed","DSN":false,"Suppressing":false"#,
            r#""SMTPCode":450,"SMTPEnhancedCode":"4.2.1","Error":"rcptto: 450 "#,
        ),
        (
            ids[2].0 + 1,
            r#""Event":"suppressed","DSN":false,"Suppressing":false"#,
            r#""SMTPCode":0,"SMTPEnhancedCode":"","Error":"address is on "#,
        ),
    ];
    assert_eq!(payloads.len(), want.len(), "{payloads:?}");
    for (payload, (id, event, code)) in payloads.iter().zip(want) {
        let id = format!("\"QueueMsgID\":{id},");
        assert!(payload.contains(&id) && payload.contains(event) && payload.contains(code), "{payload}");
        assert!(
            payload.contains(r#""MessageID":"<1@a.example>","Subject":"hi""#) && payload.contains(r#""Extra":{"Key":"value"}"#),
            "{payload}"
        );
    }
    // What an administrator drops is told too, in place of the delay.
    assert_eq!(f.runner.drop_entries(Filter::default()).await.unwrap(), 1);
    let payloads = told(&f).await;
    assert!(payloads.len() == 4 && payloads[3].contains(r#""Event":"canceled""#), "{payloads:?}");
    assert!(payloads[3].contains(r#""Error":"delivery canceled by admin""#), "{payloads:?}");
}
