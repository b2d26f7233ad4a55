//! What senders ask for: a time to deliver within, a priority.

use super::peer::{Does, Step};
use super::*;
use mox_base::{DeliverBy, Priority, WhenLate};
use mox_smtp::grammar::Notify;

const MINUTE: Duration = Duration::from_secs(60);

/// Submits to one recipient, to be delivered within so many minutes.
async fn within(f: &mut Fixture, minutes: u32, late: WhenLate, trace: bool, to: &str) -> QueueId {
    let at = f.clock.now().after(MINUTE * minutes);
    f.submit_from("ann@a.example", &[to], |s| s.deliver_by = Some(DeliverBy { at, late, trace })).await[0]
}

fn mail_lines(peer: &Peer) -> Vec<String> {
    peer.lines().into_iter().filter(|line| line.starts_with("MAIL")).collect()
}

/// The only DSN so far.
async fn the_dsn(f: &Fixture) -> String {
    let mut dsns = f.dsns("ann", "Inbox").await;
    assert_eq!(dsns.len(), 1);
    dsns.remove(0)
}

#[tokio::test(start_paused = true)]
async fn what_must_be_in_time_goes_where_that_is_promised() {
    let mut f = Fixture::new().await;
    let peer = f.peer();
    peer.offers("DELIVERBY 120");
    within(&mut f, 10, WhenLate::Return, false, "bob@b.example").await;
    f.clock.advance(MINUTE);
    f.run().await;
    assert_eq!(mail_lines(&peer), ["MAIL FROM:<ann@a.example> BODY=7BIT BY=540;R"]);
    assert!(f.dsns("ann", "Inbox").await.is_empty());
    // Less time than the host needs.
    within(&mut f, 1, WhenLate::Return, false, "bob@b.example").await;
    f.run().await;
    assert_eq!((peer.delivered(), f.queued().await.len()), (1, 0));
    let dsn = the_dsn(&f).await;
    for part in ["Action: failed", "Status: 5.4.7 (", "Deliver-By-Date: "] {
        assert!(dsn.contains(part), "{part} in {dsn}");
    }
    f.check_conservation().await;
}

#[tokio::test(start_paused = true)]
async fn another_host_may_promise_it() {
    let mut f = Fixture::new().await;
    let (first, second) = (f.peer(), Peer::listen(&f.world, "192.0.2.2:25"));
    second.offers("DELIVERBY");
    within(&mut f, 10, WhenLate::Return, false, "bob@two.example").await;
    f.run().await;
    assert_eq!((mail_lines(&first), mail_lines(&second)), (vec![], vec!["MAIL FROM:<ann@a.example> BODY=7BIT BY=600;R".to_owned()]));
    // Also for the message after one that goes anywhere; and later, if it is away now.
    second.at(Step::Greeting, Does::Closes);
    f.submit(&["cas@two.example"]).await;
    within(&mut f, 10, WhenLate::Return, false, "bob@two.example").await;
    f.run().await;
    second.well_behaved();
    f.clock.advance(MINUTE * 8);
    f.run().await;
    assert_eq!((first.delivered(), second.delivered(), f.queued().await.len()), (1, 2, 0));
    f.check_conservation().await;
}

#[tokio::test(start_paused = true)]
async fn nobody_promises_it() {
    let mut f = Fixture::new().await;
    let (first, second) = (f.peer(), Peer::listen(&f.world, "192.0.2.2:25"));
    within(&mut f, 10, WhenLate::Return, false, "bob@two.example").await;
    f.run().await;
    assert_eq!((first.delivered(), second.delivered(), f.queued().await.len()), (0, 0, 0));
    assert!(the_dsn(&f).await.contains("Status: 5.4.7 ("));
    f.check_conservation().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_late_comes_back_at_that_time() {
    let mut f = Fixture::new().await;
    let peer = f.peer();
    peer.offers("DELIVERBY");
    peer.says(Step::Mail, "450 4.2.0 not now");
    let deadline = f.clock.now().after(MINUTE * 10);
    within(&mut f, 10, WhenLate::Return, false, "bob@b.example").await;
    f.run().await;
    f.clock.advance(MINUTE * 8);
    f.run().await;
    assert_eq!(f.queued().await[0].row.next_attempt, deadline);
    assert!(f.dsns("ann", "Inbox").await.is_empty());
    peer.well_behaved();
    f.clock.advance(MINUTE * 2);
    f.run().await;
    assert_eq!((peer.connections(), peer.delivered(), f.queued().await.len()), (2, 0, 0));
    assert!(the_dsn(&f).await.contains("Status: 5.4.7 (not delivered within the time"));
    assert!(f.retired().await[0].results[2].error.contains("within the time"));
    f.check_conservation().await;
}

#[tokio::test(start_paused = true)]
async fn of_what_is_late_the_sender_hears_once_and_delivery_goes_on() {
    let mut f = Fixture::new().await;
    let peer = f.peer();
    peer.offers("DELIVERBY");
    peer.says(Step::Mail, "450 4.2.0 not now");
    within(&mut f, 10, WhenLate::Notify, false, "bob@b.example").await;
    f.run().await;
    f.clock.advance(MINUTE * 8);
    f.run().await;
    let attempts = f.queued().await[0].row.attempts;
    f.clock.advance(MINUTE * 2);
    f.run().await;
    let dsn = the_dsn(&f).await;
    for part in ["Subject: mail delivery delayed", "Action: delayed", "Status: 4.4.7 (", "Deliver-By-Date: ", "Will-Retry-Until: "] {
        assert!(dsn.contains(part), "{part} in {dsn}");
    }
    // The attempt at that time costs none of those that there are anyway, nor changes when they are.
    let queued = f.queued().await;
    assert_eq!((attempts, queued[0].row.attempts, queued[0].row.by_due), (2, 2, None));
    let again = queued[0].row.next_attempt.since(f.clock.now());
    assert!((MINUTE * 12..MINUTE * 14).contains(&again), "{again:?}");
    f.check_conservation().await;
    f.clock.advance(MINUTE * 14);
    f.run().await;
    assert_eq!(f.dsns("ann", "Inbox").await.len(), 1);
    peer.well_behaved();
    f.clock.advance(MINUTE * 31);
    f.run().await;
    // Whoever comes next need not tell again.
    assert_eq!(mail_lines(&peer).last().unwrap(), "MAIL FROM:<ann@a.example> BODY=7BIT BY=-2700;N");
    assert_eq!((peer.delivered(), f.dsns("ann", "Inbox").await.len()), (1, 1));
    f.check_conservation().await;
}

#[tokio::test(start_paused = true)]
async fn the_last_attempt_before_the_time_isnt_the_last_of_all() {
    let mut f = Fixture::new().await;
    let peer = f.peer();
    peer.says(Step::Mail, "450 4.2.0 not now");
    let at = f.clock.now().after(MINUTE * 600);
    let by = DeliverBy { at, late: WhenLate::Notify, trace: false };
    f.submit_from("ann@a.example", &["bob@b.example"], |s| s.deliver_by = Some(by)).await;
    // After 8 hours the seventh, after 10 the time, after 16 the eighth.
    for _ in 0..10 * 60 {
        f.clock.advance(MINUTE);
        f.run().await;
    }
    let queued = f.queued().await;
    assert_eq!((queued.len(), queued[0].row.attempts), (1, 7));
    let told = f.dsns("ann", "Inbox").await;
    assert_eq!(told.iter().filter(|dsn| dsn.contains("Status: 4.4.7 (")).count(), 1);
    f.check_conservation().await;
}

#[tokio::test(start_paused = true)]
async fn late_and_nobody_wants_to_hear_of_it() {
    let mut f = Fixture::new().await;
    f.peer().says(Step::Mail, "450 4.2.0 not now");
    let by = DeliverBy { at: f.clock.now().after(MINUTE), late: WhenLate::Notify, trace: true };
    f.submit_from("ann@a.example", &["bob@b.example"], |s| {
        s.deliver_by = Some(by);
        s.recipients[0].parameters.notify = Some(Notify { success: false, failure: true, delay: false });
    })
    .await;
    f.run().await;
    f.clock.advance(MINUTE);
    f.run().await;
    assert!(f.dsns("ann", "Inbox").await.is_empty());
    assert_eq!(f.queued().await[0].row.by_due, None);
    f.check_conservation().await;
}

#[tokio::test(start_paused = true)]
async fn senders_hear_where_the_trace_ends() {
    let never = Some(Notify { success: false, failure: false, delay: false });
    // What the host offers, what is asked for, and what is told.
    for (offers, late, trace, notify, tells) in [
        ("DELIVERBY", WhenLate::Notify, false, None, None),
        ("DELIVERBY", WhenLate::Notify, true, None, Some("")),
        ("DELIVERBY", WhenLate::Return, true, None, Some("")),
        ("DELIVERBY", WhenLate::Return, true, never, None),
        ("HELP", WhenLate::Notify, false, None, Some("It doesn't say either whether")),
        ("HELP", WhenLate::Notify, true, never, None),
    ] {
        let mut f = Fixture::new().await;
        f.peer().offers(offers);
        let by = DeliverBy { at: f.clock.now().after(MINUTE), late, trace };
        f.submit_from("ann@a.example", &["bob@b.example"], |s| {
            s.deliver_by = Some(by);
            s.recipients[0].parameters.notify = notify;
        })
        .await;
        f.run().await;
        assert!(f.queued().await.is_empty());
        let dsns = f.dsns("ann", "Inbox").await;
        assert_eq!(dsns.len(), usize::from(tells.is_some()), "{offers} {late:?} {trace} {notify:?}");
        for part in tells.into_iter().flat_map(|text| [text, "Action: relayed", "Deliver-By-Date: "]) {
            assert!(dsns[0].contains(part), "{part} in {}", dsns[0]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_was_told_of_the_time_isnt_told_of_the_host() {
    let mut f = Fixture::new().await;
    let peer = f.peer();
    peer.says(Step::Mail, "450 4.2.0 not now");
    within(&mut f, 1, WhenLate::Notify, false, "bob@b.example").await;
    f.run().await;
    f.clock.advance(MINUTE);
    f.run().await;
    assert!(the_dsn(&f).await.contains("Status: 4.4.7 ("));
    peer.well_behaved();
    f.clock.advance(MINUTE * 8);
    f.run().await;
    assert_eq!((peer.delivered(), f.dsns("ann", "Inbox").await.len()), (1, 1));
    f.check_conservation().await;
}

#[tokio::test(start_paused = true)]
async fn hosts_without_times_are_asked_to_say_when_it_takes_long() {
    let wants = |success, failure, delay| Some(Notify { success, failure, delay });
    for (minutes, notify, asks) in [
        (1, None, " NOTIFY=FAILURE,DELAY"),
        (1, wants(true, false, false), " NOTIFY=SUCCESS,DELAY"),
        (1, wants(false, false, false), " NOTIFY=NEVER"),
        // Its sender was told already.
        (0, wants(true, false, false), " NOTIFY=SUCCESS"),
        (0, None, ""),
    ] {
        let mut f = Fixture::new().await;
        let peer = f.peer();
        peer.offers("DSN");
        let by = DeliverBy { at: f.clock.now().after(MINUTE * minutes), late: WhenLate::Notify, trace: false };
        f.submit_from("ann@a.example", &["bob@b.example"], |s| {
            s.deliver_by = Some(by);
            s.recipients[0].parameters.notify = notify;
        })
        .await;
        f.run().await;
        let rcpt = peer.lines().into_iter().find(|line| line.starts_with("RCPT")).unwrap();
        assert_eq!(rcpt, format!("RCPT TO:<bob@b.example>{asks}"));
    }
}

#[tokio::test(start_paused = true)]
async fn priorities_are_passed_on_where_they_are_understood() {
    let mut f = Fixture::new().await;
    let peer = f.peer();
    for (offers, priority, want) in [("HELP", 3, ""), ("MT-PRIORITY MIXER", -9, " MT-PRIORITY=-9"), ("HELP", 0, " MT-PRIORITY=0")] {
        peer.offers(offers);
        f.submit_from("ann@a.example", &["bob@b.example"], |s| s.priority = Priority::new(priority)).await;
        f.run().await;
        assert_eq!(mail_lines(&peer).last().unwrap(), &format!("MAIL FROM:<ann@a.example> BODY=7BIT{want}"));
    }
    f.check_conservation().await;
}
