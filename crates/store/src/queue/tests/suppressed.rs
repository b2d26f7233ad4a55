//! Who is suppressed, why, and for how long.

use super::*;
use crate::queue::suppression::{NewSuppression, SuppressError};

pub(super) async fn failures_suppress_by_the_rules(f: Fixture) {
    for (recipient, code, secode, suppresses) in [
        ("a@b.example", 550, "4.1", true),
        ("b@b.example", 554, "1.1", true),
        ("c@b.example", 554, "3.0", false),
        ("d@b.example", 0, "", false),
        ("A.B+x@b.example", 551, "", true),
    ] {
        f.add(&[recipient]).await;
        let claims = f.claim(1).await;
        let mut outcome = f.outcome(&claims[0].entries[0], "no", Ending::Failed);
        (outcome.result.code, outcome.result.secode) = (code, secode.to_owned());
        let finished = f.queue.finish(claims[0].domain(), OWNER, vec![outcome], forget()).await.unwrap();
        assert_eq!(finished.suppressing.len(), usize::from(suppresses), "{recipient} {code} {secode}");
    }
    // What waits is concerned too, by the base address; other accounts aren't.
    let other = NewMessage { account: "bob".to_owned(), ..f.message(b"x") };
    f.queue.add(other, vec![NewEntry::new(None, path("ab@b.example"), f.clock.now())]).await.unwrap();
    f.add(&["ab-y@b.example", "fine@b.example"]).await;
    let (mut suppressed, mut seen) = (Vec::new(), 0);
    loop {
        let claims = f.claim(1).await;
        let Some(claim) = claims.first() else { break };
        for entry in &claim.entries {
            seen += 1;
            if entry.suppressed {
                suppressed.push((entry.account.clone(), entry.recipient.to_string()));
            }
        }
        f.finish(claim, "", Ending::Suppressed).await;
    }
    assert_eq!(seen, 3);
    assert_eq!(suppressed, [("ann".to_owned(), "ab-y@b.example".to_owned())]);
    let list = f.queue.suppressions(Some("ann".to_owned()), None, 10).await.unwrap();
    let shown: Vec<_> = list.iter().map(|s| (s.base_address.as_str(), s.original_address.as_str(), s.manual)).collect();
    assert_eq!(
        shown,
        [("a@b.example", "a@b.example", false), ("ab@b.example", "A.B+x@b.example", false), ("b@b.example", "b@b.example", false)]
    );
    assert_eq!(list[0].reason, "delivery failure from queue with smtp code 550, enhanced code \"4.1\"");
}

pub(super) async fn three_failures_in_a_row_suppress(f: Fixture) {
    let keep = || Arc::new(Keep(Some(f.clock.now().after(HOUR))));
    let attempt = async |account: &str, recipient: &str, code: u16, ending: Ending| {
        let message = NewMessage { account: account.to_owned(), ..f.message(b"x") };
        f.queue.add(message, vec![NewEntry::new(None, path(recipient), f.clock.now())]).await.unwrap();
        f.clock.advance(Duration::from_secs(1));
        let claims = f.claim(1).await;
        let mut outcome = f.outcome(&claims[0].entries[0], "", ending);
        outcome.result.code = code;
        let finished = f.queue.finish(claims[0].domain(), OWNER, vec![outcome], keep()).await.unwrap();
        finished.suppressing.len()
    };
    // A success, or what isn't the recipient's doing, breaks or doesn't count.
    assert_eq!(attempt("ann", "a@b.example", 451, Ending::Failed).await, 0);
    assert_eq!(attempt("ann", "a@b.example", 250, Ending::Delivered).await, 0);
    assert_eq!(attempt("ann", "a@b.example", 451, Ending::Failed).await, 0);
    assert_eq!(attempt("bob", "a@b.example", 451, Ending::Failed).await, 0, "another account");
    assert_eq!(attempt("ann", "a@b.example", 0, Ending::Suppressed).await, 0);
    f.add(&["a@b.example"]).await;
    f.queue.cancel(Filter::default(), Cancel::Drop, f.clock.now(), keep()).await.unwrap();
    // A failure without a code is no trigger, but counts.
    assert_eq!(attempt("ann", "a@b.example", 0, Ending::Failed).await, 0);
    assert_eq!(attempt("ann", "a@b.example", 451, Ending::Failed).await, 1);
    let entry = f.queue.suppression(Some("ann".to_owned()), path("a@b.example")).await.unwrap().unwrap();
    assert_eq!(entry.reason, "delivery failure from queue and three consecutive failures");
    assert_eq!(attempt("ann", "a@b.example", 550, Ending::Failed).await, 0, "it is there already");
}

pub(super) async fn suppression_lists_page_and_change(f: Fixture) {
    let add = async |account: &str, address: &str| {
        let new = NewSuppression { account: account.to_owned(), address: path(address), manual: true, reason: "because".to_owned() };
        f.queue.suppress(new, f.clock.now()).await
    };
    let first = add("ann", "C@d.example").await.unwrap();
    add("ann", "a@d.example").await.unwrap();
    let other = add("bob", "b@d.example").await.unwrap();
    assert!(other > first);
    assert!(matches!(add("ann", "c+x@d.example").await, Err(SuppressError::Exists)));
    let page = f.queue.suppressions(None, None, 2).await.unwrap();
    assert_eq!(page.iter().map(|s| s.base_address.as_str()).collect::<Vec<_>>(), ["a@d.example", "c@d.example"]);
    let after = page.last().map(|s| (s.account.clone(), s.base_address.clone()));
    let page = f.queue.suppressions(None, after, 2).await.unwrap();
    assert_eq!((page.len(), page[0].account.as_str()), (1, "bob"));
    assert_eq!(f.queue.suppression(None, path("b@d.example")).await.unwrap().unwrap().id, other);
    assert_eq!(f.queue.suppression(Some("ann".to_owned()), path("b@d.example")).await.unwrap(), None);
    assert!(f.queue.unsuppress("ann".to_owned(), path("c-y@d.example")).await.unwrap());
    assert!(!f.queue.unsuppress("ann".to_owned(), path("c@d.example")).await.unwrap());
    assert_eq!(f.queue.suppressions(Some("ann".to_owned()), None, 10).await.unwrap().len(), 1);
}

pub(super) async fn refusals_for_other_reasons_say_nothing_of_the_recipient(f: Fixture) {
    let keep = || Arc::new(Keep(Some(f.clock.now().after(HOUR))));
    let fails = async |code: u16, secode: &str, error: &str| {
        f.add(&["a@b.example"]).await;
        f.clock.advance(Duration::from_secs(1));
        let claims = f.claim(1).await;
        let mut outcome = f.outcome(&claims[0].entries[0], error, Ending::Failed);
        (outcome.result.code, outcome.result.secode) = (code, secode.to_owned());
        f.queue.finish(claims[0].domain(), OWNER, vec![outcome], keep()).await.unwrap().suppressing.len()
    };
    for _ in 0..4 {
        assert_eq!(fails(550, "7.1", "blocked using zen.spamhaus.org").await, 0);
    }
    assert_eq!(fails(552, "2.2", "mailbox full").await, 0);
    assert_eq!(fails(554, "", "192.0.2.1 is blacklisted").await, 0);
    assert_eq!(fails(552, "2.2", "mailbox full").await, 0);
    assert_eq!(fails(554, "7.1", "policy").await, 0);
    assert_eq!(fails(552, "2.2", "mailbox full").await, 1, "the third, whatever was in between");
}

pub(super) async fn automatic_entries_end(f: Fixture) {
    let keep = || Arc::new(Keep(None));
    let fails = async || {
        f.add(&["a@b.example"]).await;
        let claims = f.claim(1).await;
        let mut outcome = f.outcome(&claims[0].entries[0], "no such user", Ending::Failed);
        (outcome.result.code, outcome.result.secode) = (550, "1.1".to_owned());
        let suppressed = claims[0].entries[0].suppressed;
        (suppressed, f.queue.finish(claims[0].domain(), OWNER, vec![outcome], keep()).await.unwrap().suppressing.len())
    };
    let present = async || f.queue.suppression(None, path("a@b.example")).await.unwrap().is_some();
    assert_eq!(fails().await, (false, 1));
    f.clock.advance(HOUR * 9);
    assert_eq!((fails().await, present().await), ((true, 0), true));
    f.clock.advance(HOUR + Duration::from_secs(1));
    assert_eq!((present().await, f.queue.suppressions(None, None, 10).await.unwrap().len()), (false, 0));
    assert_eq!(fails().await, (false, 1), "it is put there again, for another while");
    assert!(present().await);
    // What somebody put there stays; what ended is forgotten.
    let manual = NewSuppression { account: "bob".to_owned(), address: path("a@b.example"), manual: true, reason: String::new() };
    f.queue.suppress(manual, f.clock.now()).await.unwrap();
    f.clock.advance(HOUR * 1000);
    f.queue.remove_expired(f.clock.now()).await.unwrap();
    let left = f.queue.suppressions(None, None, 10).await.unwrap();
    assert_eq!(left.iter().map(|s| s.account.as_str()).collect::<Vec<_>>(), ["bob"]);
}
