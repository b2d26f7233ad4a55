//! What is delivered first, and how much of an account may wait at all.

use super::*;

impl Fixture {
    async fn add_bulk(&self, recipients: &[&str]) -> Vec<QueueId> {
        let entries = recipients.iter().map(|r| NewEntry::new(Some(path("ann@a.example")), path(r), self.clock.now())).collect();
        self.queue.add(NewMessage { urgency: Urgency::Bulk, ..self.message(b"to all") }, entries).await.unwrap()
    }

    async fn claim_at(&self, domains: usize, turn: u64) -> Vec<Claim> {
        let claiming = Claiming { owner: OWNER, now: self.clock.now(), domains, lease: HOUR, turn };
        self.queue.claim(claiming, |_, _| HOUR).await.unwrap()
    }
}

pub(super) async fn the_urgent_goes_first_and_the_rest_goes_on(f: Fixture) {
    for domain in ["b1", "b2", "b3", "b4"] {
        f.add_bulk(&[&format!("x@{domain}.example")]).await;
    }
    f.clock.advance(Duration::from_secs(1));
    for domain in ["u1", "u2", "u3", "u4", "u5", "u6"] {
        f.add(&[&format!("x@{domain}.example")]).await;
    }
    // Three of four turns are of the urgent, the fourth of what has waited longest.
    let mut order = Vec::new();
    for turn in 0..10 {
        order.extend(domains(&f.claim_at(1, turn).await));
    }
    let names: Vec<&str> = order.iter().map(|d| d.strip_suffix(".example").unwrap()).collect();
    assert_eq!(names, ["u1", "u2", "u3", "b1", "u4", "u5", "u6", "b2", "b3", "b4"]);
    assert!(f.claim_at(1, 10).await.is_empty());
    f.listed().await;
}

pub(super) async fn several_claims_at_once_take_turns_too(f: Fixture) {
    f.add_bulk(&["x@b1.example"]).await;
    f.add_bulk(&["x@b2.example"]).await;
    f.clock.advance(Duration::from_secs(1));
    for domain in ["u1", "u2", "u3", "u4"] {
        f.add(&[&format!("x@{domain}.example")]).await;
    }
    let claims = f.claim_at(5, 0).await;
    assert_eq!(domains(&claims), ["u1.example", "u2.example", "u3.example", "b1.example", "u4.example"]);
}

pub(super) async fn within_a_domain_as_well(f: Fixture) {
    let mut bulk = f.add_bulk(&["a@b.example"]).await;
    bulk.extend(f.add_bulk(&["b@b.example"]).await);
    f.clock.advance(Duration::from_secs(1));
    let mut urgent = f.add(&["c@b.example"]).await;
    urgent.extend(f.add(&["d@b.example"]).await);
    let mut order = Vec::new();
    for turn in 2..6 {
        let claims = f.claim_at(1, turn).await;
        order.extend(ids(&claims[0]));
        f.finish(&claims[0], "", Ending::Delivered).await;
    }
    assert_eq!(order, [urgent[0], bulk[0], urgent[1], bulk[1]]);
    // Nothing urgent is due later than said, whatever changes.
    f.add_bulk(&["a@b.example"]).await;
    let later = f.add(&["c@b.example"]).await;
    f.queue.reschedule(Filter { ids: later.clone(), ..Filter::default() }, Reschedule::Add(60_000_000)).await.unwrap();
    f.queue.set_hold(Filter { ids: later, ..Filter::default() }, true).await.unwrap();
    f.listed().await;
}

pub(super) async fn bulk_mail_yields_to_urgent_mail_for_others(f: Fixture) {
    for recipient in ["a@b.example", "b@b.example", "c@b.example"] {
        f.add_bulk(&[recipient]).await;
    }
    let claiming = Claiming { owner: OWNER, now: f.clock.now(), domains: 1, lease: HOUR, turn: 0 };
    let goes_on = async |claim: &Claim| {
        let outcomes = vec![f.outcome(&claim.entries[0], "", Ending::Delivered)];
        f.queue.finish_and_claim(claim.domain(), claiming, |_, _| HOUR, outcomes, forget()).await.unwrap().1
    };
    let first = f.claim_at(1, 0).await;
    let second = goes_on(&first[0]).await.unwrap();
    f.add(&["x@other.example"]).await;
    assert!(goes_on(&second).await.is_none());
    assert_eq!(domains(&f.claim_at(2, 0).await), ["other.example", "b.example"]);
    f.listed().await;
}

pub(super) async fn late_entries_are_due_at_that_time(f: Fixture) {
    use mox_base::{DeliverBy, Priority, WhenLate};
    let start = f.clock.now();
    let at = start.after(HOUR / 2);
    for (late, trace) in [(WhenLate::Return, true), (WhenLate::Notify, false)] {
        let deliver_by = Some(DeliverBy { at, late, trace });
        let message = NewMessage { deliver_by, priority: Priority::new(-9), ..f.message(b"x") };
        f.queue.add(message, vec![NewEntry::new(None, path("a@b.example"), start)]).await.unwrap();
        let claims = f.claim(1).await;
        let (entry, message) = (&claims[0].entries[0], &claims[0].message);
        assert_eq!((message.deliver_by, message.priority), (deliver_by, Priority::new(-9)));
        assert_eq!((entry.next_attempt, entry.by_due, entry.resume), (at, Some(at), None));
        f.finish(&claims[0], "busy", Ending::Retry).await;
    }
    f.clock.advance(HOUR / 2);
    // Now they are, though their next attempts would be later.
    let (resume, ids) = (start.after(HOUR), f.listed().await.iter().map(|l| l.row.id).collect::<Vec<_>>());
    for id in &ids {
        let claims = f.claim(1).await;
        let entry = &claims[0].entries[0];
        assert_eq!((entry.id, entry.attempts, entry.resume), (*id, 2, Some(resume)));
        let outcome = Outcome { told_late: true, ..f.outcome(entry, "busy", Ending::Uncounted { next: resume }) };
        f.queue.finish(claims[0].domain(), OWNER, vec![outcome], forget()).await.unwrap();
    }
    assert!(f.claim(1).await.is_empty());
    let listed = f.listed().await;
    assert!(listed.iter().all(|l| (l.row.attempts, l.row.next_attempt, l.row.by_due) == (1, resume, None)));
    // Of what comes late, the sender was told.
    let deliver_by = Some(DeliverBy { at: start, late: WhenLate::Notify, trace: false });
    f.queue.add(NewMessage { deliver_by, ..f.message(b"x") }, vec![NewEntry::new(None, path("a@c.example"), f.clock.now())]).await.unwrap();
    assert_eq!(f.claim(1).await[0].entries[0].by_due, None);
}

pub(super) async fn accounts_have_so_much_room_in_the_queue(f: Fixture) {
    let room = |messages, bytes| Some(QueueRoom { messages, bytes });
    let add = async |account: &str, recipients: &[&str], room: Option<QueueRoom>| {
        let entries = recipients.iter().map(|r| NewEntry::new(None, path(r), f.clock.now())).collect();
        f.queue.add(NewMessage { account: account.to_owned(), room, ..f.message(&[b'x'; 84]) }, entries).await
    };
    // 16 bytes of prefix and 84 of body, once for both recipients.
    add("ann", &["a@b.example", "b@b.example"], room(2, 100)).await.unwrap();
    assert!(matches!(add("ann", &["c@b.example"], room(2, 0)).await, Err(AddError::QueuedMessages)));
    assert!(matches!(add("ann", &["c@b.example"], room(3, 199)).await, Err(AddError::QueuedSize)));
    add("bob", &["c@b.example"], room(2, 100)).await.unwrap();
    let third = add("ann", &["c@b.example"], room(3, 200)).await.unwrap();
    add("ann", &["c@b.example"], None).await.unwrap();
    assert!(matches!(add("ann", &["c@b.example"], room(4, 0)).await, Err(AddError::QueuedMessages)));
    // Whatever leaves makes room: by delivery, or an administrator.
    f.queue.cancel(Filter { ids: third, ..Filter::default() }, Cancel::Drop, f.clock.now(), forget()).await.unwrap();
    add("ann", &["c@b.example"], room(4, 300)).await.unwrap();
    for _ in 0..5 {
        for claim in f.claim(1).await {
            f.finish(&claim, "", Ending::Delivered).await;
        }
    }
    assert!(f.listed().await.is_empty());
    add("ann", &["c@b.example"], room(1, 100)).await.unwrap();
    assert!(matches!(add("ann", &["c@b.example"], room(1, 100)).await, Err(AddError::QueuedMessages)));
    let f = f.reopened().await;
    assert_eq!(f.listed().await.len(), 1);
}

pub(super) async fn signatures_are_kept_for_further_attempts(f: Fixture) {
    let message = NewMessage { sign_domain: "bücher.example".parse().ok(), ..f.message(b"x") };
    f.queue.add(message, vec![NewEntry::new(None, path("a@b.example"), f.clock.now())]).await.unwrap();
    let claims = f.claim(1).await;
    let message = &claims[0].message;
    assert_eq!((message.sign_domain.as_ref().unwrap().to_string(), &message.signature), ("bücher.example".to_owned(), &None));
    let signature = Signature { fields: b"DKIM-Signature: x\r\n".to_vec(), by: "k".to_owned(), again: Some(f.clock.now()) };
    f.queue.keep_signature(message.id, signature.clone()).await.unwrap();
    f.finish(&claims[0], "busy", Ending::Retry).await;
    f.clock.advance(HOUR);
    assert_eq!(f.claim(1).await[0].message.signature, Some(signature));
    f.listed().await;
}

pub(super) async fn held_for_a_reason_until_it_is_gone(f: Fixture) {
    f.add(&["a@b.example", "c@d.example"]).await;
    let claims = f.claim(2).await;
    f.finish(&claims[1], "later", Ending::Retry).await;
    let outcomes = vec![f.outcome(&claims[0].entries[0], "no such transport", Ending::Held { reason: HoldReason::Transport })];
    f.queue.finish(claims[0].domain(), OWNER, outcomes, forget()).await.unwrap();
    assert!(f.queue.hold_changed());
    let listed = f.listed().await;
    let held = listed.iter().find(|l| l.row.hold).unwrap();
    assert_eq!((held.row.attempts, held.results.len(), held.results[0].error.as_str()), (0, 1, "no such transport"));
    let reasons = f.queue.held_for_reasons(QueueId(0), 10).await.unwrap();
    assert_eq!((reasons.len(), reasons[0].id, reasons[0].reason), (1, held.row.id, HoldReason::Transport));
    assert_eq!(reasons[0].sender_domain.as_ref().unwrap().to_string(), "a.example");
    assert!(f.queue.held_for_reasons(held.row.id, 10).await.unwrap().is_empty());
    // An administrator's word counts more.
    f.queue.set_hold(Filter { ids: vec![held.row.id], ..Filter::default() }, true).await.unwrap();
    assert!(f.queue.held_for_reasons(QueueId(0), 10).await.unwrap().is_empty());
    f.queue.set_hold(Filter::default(), false).await.unwrap();
    f.clock.advance(Duration::from_secs(1));
    assert_eq!(ids(&f.claim(1).await[0]), [held.row.id]);
}
