//! Fail step n, for every n: what was answered is there, what wasn't is there wholly or not at all.

use crate::fixture::{Fixture, Plan, clean, for_each_engine, id, inbox, mail, uids};
use mox_store::db::NoFaults;
use mox_store::{Account, Append, Error, FlagChange, FlagOp, Flags, Message};
use mox_testkit::Faults;
use std::sync::Arc;

/// Adds two messages, one of them large, flags, copies, moves and removes; how many steps were answered well.
async fn work(account: &Account) -> Vec<Result<(), Error>> {
    let (inbox, trash) = (inbox(account), id(account, "Trash"));
    let mut done = Vec::new();
    for size in [300, 150_000] {
        done.push(account.add(inbox, Message::new(mail(&format!("m{size}"), size)), Append::default()).await.map(drop));
    }
    let flagged = FlagChange { op: FlagOp::Add, flags: Flags::FLAGGED, keywords: Vec::new() };
    done.push(account.write(move |tx| tx.store_flags(inbox, &uids(&[(1, 9)]), &flagged, None)).await.map(drop));
    done.push(account.write(move |tx| tx.copy_messages(inbox, &uids(&[(2, 2)]), trash)).await.map(drop));
    done.push(account.write(move |tx| tx.move_messages(inbox, &uids(&[(1, 1)]), trash)).await.map(drop));
    done.push(account.write(move |tx| tx.expunge(inbox, &uids(&[(2, 2)]))).await.map(drop));
    done.push(account.write(move |tx| tx.expunge(trash, &uids(&[(1, 1)]))).await.map(drop));
    done
}

async fn count(account: &Account, mailbox: &str) -> u32 {
    account.view(id(account, mailbox)).await.unwrap().exists()
}

for_each_engine! {
    async fn whatever_fails_nothing_acknowledged_is_lost(f: Fixture) {
        let mut f = f;
        // Where other nodes may be at work, orphans are left until they are old.
        f.clock.set(mox_base::Timestamp::from_secs(4_000_000_000));
        for n in 0.. {
            let plan = Faults::at(n);
            let account = f.store.ensure_account(&format!("a{n}"), &[(crate::fixture::name("Trash"), mox_store::SpecialUse::NONE)]).await.unwrap();
            drop(account);
            f.reopen(Arc::new(Plan(plan.clone()))).await.ok();
            let outcome = match f.store.account(&format!("a{n}")).await {
                Ok(account) => {
                    let outcome = work(&account).await;
                    // Without reopening: the account goes on, and is consistent.
                    if plan.fired() {
                        let inbox = inbox(&account);
                        account.add(inbox, Message::new(mail("after", 100)), Append::default()).await.unwrap();
                        let found = account.check().await.unwrap();
                        let orphans = found.problems.iter().all(|p| p.starts_with("file "));
                        assert!(orphans, "step {n}: {:?}", found.problems);
                    }
                    Some(outcome)
                }
                Err(_) => None,
            };
            f.reopen(Arc::new(NoFaults)).await.unwrap();
            let account = f.store.account(&format!("a{n}")).await.unwrap();
            clean(&account).await;
            let account_name = account.name().to_owned();
            let after = u32::from(plan.fired() && outcome.is_some());
            if let Some(outcome) = &outcome {
                let failed = outcome.iter().filter(|r| r.is_err()).count();
                assert!(failed <= 1, "step {n}: one fault failed {failed} operations: {outcome:?}");
                let ok: Vec<bool> = outcome.iter().map(Result::is_ok).collect();
                // An operation that wasn't answered well may have happened (its commit's answer was lost), or not.
                let (inbox, trash) = (count(&account, "Inbox").await - after, count(&account, "Trash").await);
                let total = inbox + trash;
                if ok.iter().all(|ok| *ok) {
                    assert_eq!((inbox, trash), (0, 1), "step {n}");
                } else {
                    assert!((0..=3).contains(&total), "step {n}: {inbox} {trash}");
                    assert!(!(ok[0] && ok[1] && !ok[5]) || inbox <= 1, "step {n}");
                }
            }
            drop(account);
            f.store.remove_account(&account_name).await.unwrap();
            if !plan.fired() {
                assert!(n > 50, "the plan reached only {n} steps");
                break;
            }
        }
        f.finish().await;
    }

    async fn a_full_disk_refuses_and_recovers(f: Fixture) {
        let mut f = f;
        f.clock.set(mox_base::Timestamp::from_secs(4_000_000_000));
        let account = f.account().await;
        drop(account);
        for from in [5, 20, 40] {
            let plan = Faults::from(from);
            if f.reopen(Arc::new(Plan(plan))).await.is_err() {
                f.reopen(Arc::new(NoFaults)).await.unwrap();
                continue;
            }
            let mut answered = 0;
            if let Ok(account) = f.store.account("ann").await {
                let inbox = inbox(&account);
                for n in 0..10 {
                    let size = if n % 2 == 0 { 200 } else { 100_000 };
                    answered += u64::from(account.add(inbox, Message::new(mail(&format!("f{n}"), size)), Append::default()).await.is_ok());
                }
            }
            f.reopen(Arc::new(NoFaults)).await.unwrap();
            let account = f.store.account("ann").await.unwrap();
            let kept = clean(&account).await;
            assert!(kept >= answered, "from {from}: {answered} answered, {kept} kept");
            let inbox = inbox(&account);
            account.write(move |tx| tx.expunge(inbox, &uids(&[(1, u32::MAX)]))).await.unwrap();
        }
        f.finish().await;
    }
}
