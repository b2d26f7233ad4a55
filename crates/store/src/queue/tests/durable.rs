//! What outlives a crash besides entries, what other servers may do meanwhile, and whether all of it is as it must be.

use super::*;

pub(super) async fn copies_wait_until_they_are_filed(f: Fixture) {
    let step = Arc::new(WithCopy::new("ann".to_owned(), b"Bcc: x\r\n".to_vec(), &SeededRandom::new(9), None));
    let id = step.id();
    let large = vec![b'x'; 100_000];
    let now = f.clock.now();
    let entry = || vec![NewEntry::new(None, path("bob@b.example"), now)];
    f.queue.add(NewMessage { step: Some(step), ..f.message(&large) }, entry()).await.unwrap();
    // Without copy, the message goes with its entry.
    let claims = f.claim(1).await;
    f.finish(&claims[0], "", Ending::Delivered).await;
    let f = f.reopened().await;
    assert_eq!((f.listed().await.len(), f.files()), (0, 1));
    let copies = f.queue.copies(None, 10).await.unwrap();
    assert_eq!(
        (copies.len(), copies[0].id, copies[0].account.as_str(), copies[0].prefix.as_slice()),
        (1, id, "ann", b"Bcc: x\r\n".as_slice())
    );
    assert!(f.queue.copies(Some(id), 10).await.unwrap().is_empty());
    let mut body = f.queue.open_body(copies[0].message).await.unwrap().unwrap();
    assert_eq!(body.read_up_to(1 << 20).await.unwrap(), large);
    f.queue.copy_filed(id);
    assert!(f.queue.copies(None, 10).await.unwrap().is_empty());
    // Forgotten with the next submission.
    f.add(&["eve@b.example"]).await;
    assert_eq!(f.files(), 0);
    assert!(f.queue.open_body(copies[0].message).await.unwrap().is_none());
    // A submission that isn't made wants no copy, and forgets none.
    let step = Arc::new(WithCopy::new("ann".to_owned(), Vec::new(), &SeededRandom::new(10), None));
    let twice = || NewEntry { from_id: Some("same".to_owned()), ..NewEntry::new(None, path("bob@b.example"), f.clock.now()) };
    let refused = f.queue.add(NewMessage { step: Some(step), ..f.message(b"x") }, vec![twice(), twice()]).await;
    assert!(matches!(refused, Err(AddError::FromIdNotUnique)));
    assert!(f.queue.copies(None, 10).await.unwrap().is_empty());
    // Those of an account go with it.
    let step = Arc::new(WithCopy::new("ann".to_owned(), Vec::new(), &SeededRandom::new(11), None));
    f.queue.add(NewMessage { step: Some(step), ..f.message(b"x") }, entry()).await.unwrap();
    f.queue.forget_copies_of("bob").await.unwrap();
    assert_eq!(f.queue.copies(None, 10).await.unwrap().len(), 1);
    f.queue.forget_copies_of("ann").await.unwrap();
    assert!(f.queue.copies(None, 10).await.unwrap().is_empty());
    assert_eq!(f.listed().await.len(), 2);
}

pub(super) async fn pauses_outlive_a_restart(f: Fixture) {
    let now = f.clock.now();
    let pause = |destination: &str, reason: &str| Pause {
        destination: destination.to_owned(),
        until: now.after(HOUR),
        length: HOUR,
        reason: reason.to_owned(),
    };
    f.queue.note_pause(pause("a", "busy")).await.unwrap();
    f.queue.note_pause(pause("a", "very busy")).await.unwrap();
    f.queue.note_pause(pause("b", "busy")).await.unwrap();
    f.queue.end_pause(Some("b".to_owned())).await.unwrap();
    let f = f.reopened().await;
    assert_eq!(f.queue.pauses(now).await.unwrap(), [pause("a", "very busy")]);
    assert_eq!(f.queue.pauses(now.after(HOUR)).await.unwrap(), []);
    f.queue.note_pause(pause("c", "busy")).await.unwrap();
    f.queue.end_pause(None).await.unwrap();
    assert_eq!(f.queue.pauses(now).await.unwrap(), []);
}

/// Stops in a transaction that adds, until told to go on.
#[derive(Debug)]
struct Gate {
    there: std::sync::Mutex<Option<tokio::sync::oneshot::Sender<()>>>,
    go: std::sync::Mutex<std::sync::mpsc::Receiver<()>>,
}

impl AddStep for Gate {
    fn before(&self, _tx: &Tx<'_>) -> Result<Option<Vec<u8>>, Error> {
        Ok(None)
    }

    fn after(&self, _tx: &Tx<'_>, _entries: &[NewEntry], _ids: &[QueueId]) -> Result<(), Error> {
        if let Some(there) = self.there.lock().unwrap().take() {
            there.send(()).unwrap();
            self.go.lock().unwrap().recv_timeout(Duration::from_secs(30)).unwrap();
        }
        Ok(())
    }
}

/// An entry whose transaction looked at the rules before a new one was there is held all the same.
pub(super) async fn a_rule_waits_for_who_adds_an_entry(f: Fixture) {
    // Another server, where there can be one.
    let other = match f.location {
        Location::Sqlite(_) => f.queue.clone(),
        Location::Postgres(_) => opened(&f.env, &f.location, f.folder.path()).await.unwrap(),
    };
    let (there, is_there) = tokio::sync::oneshot::channel();
    let (go, gone) = std::sync::mpsc::sync_channel(1);
    let gate = Arc::new(Gate { there: std::sync::Mutex::new(Some(there)), go: std::sync::Mutex::new(gone) });
    let (queue, message) = (f.queue.clone(), NewMessage { step: Some(gate), ..f.message(b"x") });
    let entry = NewEntry::new(None, path("bob@b.example"), f.clock.now());
    let adding = f.env.runtime.spawn(async move { queue.add(message, vec![entry]).await });
    is_there.await.unwrap();
    let mut ruling = f.env.runtime.spawn(async move { other.add_hold_rule(HoldRule::default()).await });
    let early = tokio::time::timeout(Duration::from_millis(100), &mut ruling).await;
    assert!(early.is_err(), "the rule is there before it can find the entry");
    go.send(()).unwrap();
    adding.await.unwrap().unwrap();
    assert_eq!(ruling.await.unwrap().unwrap().1, 1);
    assert!(f.listed().await[0].row.hold && f.queue.hold_changed() && f.claim(1).await.is_empty());
}

/// Stops in a transaction that records, until told to go on.
#[derive(Debug)]
struct SlowAftermath(Gate);

impl Aftermath for SlowAftermath {
    fn keep_until(&self, _account: &str, _now: Timestamp) -> Option<Timestamp> {
        if let Some(there) = self.0.there.lock().unwrap().take() {
            there.send(()).unwrap();
            self.0.go.lock().unwrap().recv_timeout(Duration::from_secs(30)).unwrap();
        }
        None
    }

    fn suppressed_until(&self, _account: &str, _now: Timestamp) -> Option<Timestamp> {
        None
    }

    fn is_announced(&self, _account: &str, _kind: EventKind) -> bool {
        false
    }

    fn webhook(&self, _event: &Event<'_>) -> Option<NewWebhook> {
        None
    }
}

/// An entry that one server delivers while an administrator ends it by another ends once.
pub(super) async fn what_ends_by_two_servers_ends_once(f: Fixture) {
    let other = match f.location {
        Location::Sqlite(_) => f.queue.clone(),
        Location::Postgres(_) => opened(&f.env, &f.location, f.folder.path()).await.unwrap(),
    };
    f.add(&["bob@b.example"]).await;
    let claim = f.claim(1).await.remove(0);
    let (there, is_there) = tokio::sync::oneshot::channel();
    let (go, gone) = std::sync::mpsc::sync_channel(1);
    let slow = SlowAftermath(Gate { there: std::sync::Mutex::new(Some(there)), go: std::sync::Mutex::new(gone) });
    let (queue, outcome) = (f.queue.clone(), f.outcome(&claim.entries[0], "", Ending::Delivered));
    let finishing = f.env.runtime.spawn(async move { queue.finish(claim.domain(), OWNER, vec![outcome], Arc::new(slow)).await });
    is_there.await.unwrap();
    let now = f.clock.now();
    let mut canceling = f.env.runtime.spawn(async move { other.cancel(Filter::default(), Cancel::Drop, now, forget()).await });
    let early = tokio::time::timeout(Duration::from_millis(100), &mut canceling).await;
    assert!(early.is_err(), "canceled while it is being recorded as delivered");
    go.send(()).unwrap();
    assert_eq!(finishing.await.unwrap().unwrap(), Finished::default());
    assert_eq!(canceling.await.unwrap().unwrap(), 0);
    assert!(f.listed().await.is_empty());
}

pub(super) async fn a_check_finds_what_is_wrong(f: Fixture) {
    f.add(&["a@one.example", "b@two.example"]).await;
    let claims = f.claim(1).await;
    f.finish(&claims[0], "no", Ending::Failed).await;
    let report = f.queue.check().await.unwrap();
    assert_eq!((report.messages, report.entries, report.retired, report.queued, report.is_clean()), (1, 1, 0, 2, true));
    for (what, sql) in [
        ("2 entries were queued and 2 ended", "UPDATE queue_tally SET n = n + 1 WHERE kind = 'failed'"),
        ("1 domains that are due at another time", "UPDATE queue_domain SET next_due = next_due + 1"),
        ("is queued for another domain", "UPDATE queue_entry SET domain = 'three.example'"),
        ("1 entries without message", "DELETE FROM queue_message"),
    ] {
        f.queue.db.write(move |tx| tx.exec(sql, &[])).await.unwrap();
        let problems = f.queue.check().await.unwrap().problems;
        assert!(problems.iter().any(|p| p.contains(what)), "{what}: {problems:?}");
    }
    std::fs::write(f.folder.path().join("queue/stray"), b"x").unwrap();
    assert!(f.queue.check().await.unwrap().problems.contains(&"file stray belongs to no message".to_owned()));
}
