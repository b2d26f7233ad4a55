//! Accounts as a whole: opening, closing, removing, many writers.

use crate::fixture::{Fixture, add, clean, for_each_engine, inbox, mail, name, numbers};
use mox_store::db::{self, NoFaults};
use mox_store::{Append, Error, Flags, Message, Store};
use mox_testkit::SeededRandom;
use std::sync::Arc;
use std::time::Duration;

for_each_engine! {
    async fn accounts_are_made_once(f: Fixture) {
        assert!(matches!(f.store.account("ann").await, Err(Error::NoAccount)));
        let first = f.account().await;
        let again = f.account().await;
        assert_eq!(first.id(), again.id());
        assert_eq!(f.store.account_names().await.unwrap(), ["ann"]);
        for bad in ["", ".", "..", "a/b", ".hidden"] {
            assert!(matches!(f.store.ensure_account(bad, &[]).await, Err(Error::AccountName)), "{bad}");
        }
        f.finish().await;
    }

    async fn an_account_made_again_is_another(f: Fixture) {
        let old = f.account().await;
        let mailbox = inbox(&old);
        add(&old, mailbox, &[Flags::NONE; 2]).await;
        old.add(mailbox, Message::new(mail("big", 100_000)), Append::default()).await.unwrap();
        let old_id = old.id();
        f.store.remove_account("ann").await.unwrap();
        assert!(old.write(|_| Ok::<_, Error>(())).await.is_err());
        assert!(matches!(f.store.account("ann").await, Err(Error::NoAccount)));
        let new = f.account().await;
        assert!(new.id() > old_id);
        assert_eq!((new.view(inbox(&new)).await.unwrap().exists(), new.mailboxes().used().0), (0, 0));
        // Who still holds the old one doesn't get to see the new one.
        assert!(old.read(|_| Ok::<_, Error>(())).await.is_err());
        f.finish().await;
    }

    async fn everything_is_there_after_reopening(f: Fixture) {
        let mut f = f;
        let account = f.account().await;
        let mailbox = inbox(&account);
        add(&account, mailbox, &[Flags::SEEN, Flags::DELETED]).await;
        account.add(mailbox, Message::new(mail("big", 100_000)), Append::default()).await.unwrap();
        let (was, modseq) = (account.mailboxes().by_name("Inbox").cloned().unwrap(), account.mailboxes().modseq());
        drop(account);
        f.reopen(Arc::new(NoFaults)).await.unwrap();
        let account = f.store.account("ann").await.unwrap();
        assert_eq!(**account.mailboxes().by_name("Inbox").unwrap(), *was);
        assert_eq!(account.mailboxes().modseq(), modseq);
        assert_eq!(numbers(&account.view(mailbox).await.unwrap().uids()), [1, 2, 3]);
        f.finish().await;
    }

    async fn idle_accounts_are_closed(f: Fixture) {
        let account = f.account().await;
        let mailbox = inbox(&account);
        add(&account, mailbox, &[Flags::NONE]).await;
        f.clock.advance(Duration::from_secs(100));
        f.store.close_idle(Duration::from_secs(60)).await;
        // Held: still the same.
        add(&account, mailbox, &[Flags::NONE]).await;
        drop(account);
        f.clock.advance(Duration::from_secs(100));
        f.store.close_idle(Duration::from_secs(60)).await;
        let account = f.store.account("ann").await.unwrap();
        assert_eq!(account.view(mailbox).await.unwrap().exists(), 2);
        f.finish().await;
    }

    async fn many_writers_on_one_mailbox(f: Fixture) {
        let account = f.account().await;
        let mailbox = inbox(&account);
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..8 {
            let account = account.clone();
            tasks.spawn(async move {
                let mut last = 0;
                for i in 0..20 {
                    let m = Message::new(mail(&format!("w{n}-{i}"), 500));
                    let uid = account.add(mailbox, m, Append::default()).await.unwrap().uid.get();
                    assert!(uid > last, "UIDs ascend");
                    last = uid;
                    // It is visible as soon as it is answered.
                    assert!(account.view(mailbox).await.unwrap().contains(mox_base::Uid::new(uid).unwrap()));
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
        assert_eq!(clean(&account).await, 160);
        f.finish().await;
    }

    async fn accounts_do_not_see_each_other(f: Fixture) {
        let ann = f.account().await;
        let bob = f.store.ensure_account("bob", &[(name("Only/Bob"), mox_store::SpecialUse::NONE)]).await.unwrap();
        add(&ann, inbox(&ann), &[Flags::NONE; 2]).await;
        add(&bob, inbox(&bob), &[Flags::SEEN]).await;
        assert_eq!((clean(&ann).await, clean(&bob).await), (2, 1));
        assert!(ann.mailboxes().by_name("Only").is_none() && bob.mailboxes().by_name("Only/Bob").is_some());
        f.finish().await;
    }
}

/// Databases that were lost, moved or put back from different backups: messages are kept until they are there again, and not taken for what a
/// crash has left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_without_its_database_is_left_alone() {
    let f = Fixture::sqlite().await;
    let account = f.account().await;
    account.add(inbox(&account), Message::new(mail("big", 100_000)), Append::default()).await.unwrap();
    f.store.queue().await.unwrap().close().await;
    drop(account);
    f.store.close().await;
    let data = f.folder.path().join("data");
    let folder = |name: &str| std::fs::read_dir(data.join(name)).unwrap().count();
    let open = || Store::open(f.settings.clone(), Arc::new(f.clock.clone()), Arc::new(SeededRandom::new(2)));
    let misplaced = |error: Error| assert!(matches!(error, Error::Db(db::Error::Misplaced(_))), "{error}");
    let away = f.folder.path().join("away");

    // Accounts are numbered anew.
    std::fs::rename(data.join("server.db"), &away).unwrap();
    let store = open().await.unwrap();
    store.ensure_account("aaron", &[]).await.unwrap();
    misplaced(store.ensure_account("ann", &[]).await.unwrap_err());
    store.close().await;
    std::fs::rename(&away, data.join("server.db")).unwrap();

    std::fs::rename(data.join("accounts/ann/account.db"), &away).unwrap();
    let store = open().await.unwrap();
    assert!(matches!(store.account("ann").await, Err(Error::NoAccount)));
    misplaced(store.ensure_account("ann", &[]).await.unwrap_err());
    store.close().await;
    std::fs::rename(&away, data.join("accounts/ann/account.db")).unwrap();

    std::fs::rename(data.join("queue.db"), &away).unwrap();
    std::fs::write(data.join("queue/body"), b"x").unwrap();
    let store = open().await.unwrap();
    for _ in 0..2 {
        misplaced(store.queue().await.unwrap_err());
    }
    store.close().await;
    assert_eq!((folder("queue"), folder("accounts/ann/msg")), (1, 1));
    std::fs::rename(&away, data.join("queue.db")).unwrap();

    let store = open().await.unwrap();
    store.queue().await.unwrap().close().await;
    assert_eq!(clean(&store.account("ann").await.unwrap()).await, 1);
    store.close().await;
}
