//! Creating, renaming, deleting, subscribing mailboxes.

use crate::fixture::{Fixture, add, for_each_engine, id, inbox, name, numbers};
use mox_store::db::NoFaults;
use mox_store::{Account, Error, Flags, SpecialUse};
use std::sync::Arc;

fn names(account: &Account) -> Vec<String> {
    account.mailboxes().iter().map(|m| m.name.to_string()).collect()
}

async fn create(account: &Account, mailbox: &str) -> Result<Vec<String>, Error> {
    let mailbox = name(mailbox);
    let created = account.write(move |tx| tx.create_mailbox(&mailbox, SpecialUse::NONE)).await?;
    Ok(created.created.iter().map(|m| m.name.to_string()).collect())
}

async fn rename(account: &Account, from: &str, to: &str) -> Result<(Vec<String>, Vec<String>), Error> {
    let (from, to) = (id(account, from), name(to));
    let renamed = account.write(move |tx| tx.rename_mailbox(from, &to)).await?;
    Ok((
        renamed.created.iter().map(|m| m.name.to_string()).collect(),
        renamed.renamed.iter().map(|(old, m)| format!("{old}->{}", m.name)).collect(),
    ))
}

for_each_engine! {
    async fn a_new_account_has_its_initial_mailboxes(f: Fixture) {
        let account = f.account().await;
        assert_eq!(names(&account), ["Inbox", "Sent", "Trash"]);
        let all = account.mailboxes();
        assert!(all.iter().all(|m| all.is_subscribed(m.name.as_str()) && m.create_seq.get() == 2));
        let first = all.by_name("Inbox").unwrap().uidvalidity;
        assert!(all.iter().all(|m| m.uidvalidity == first));
        assert_eq!(all.by_use(SpecialUse::SENT).unwrap().name.as_str(), "Sent");
        f.finish().await;
    }

    async fn create_makes_parents_and_subscribes(f: Fixture) {
        let account = f.account().await;
        assert_eq!(create(&account, "a/b/c").await.unwrap(), ["a", "a/b", "a/b/c"]);
        assert_eq!(create(&account, "a/b/d").await.unwrap(), ["a/b/d"]);
        assert!(matches!(create(&account, "a/b").await, Err(Error::MailboxExists)));
        assert!(matches!(create(&account, "Inbox").await, Err(Error::MailboxExists)));
        assert!(account.mailboxes().is_subscribed("a/b"));
        let all = account.mailboxes();
        let (a, c) = (all.by_name("a").unwrap(), all.by_name("a/b/c").unwrap());
        assert_eq!(c.parent, Some(id(&account, "a/b")));
        assert!(a.uidvalidity < c.uidvalidity && a.modseq == c.modseq);
        f.finish().await;
    }

    async fn a_role_is_taken_from_the_mailbox_that_had_it(f: Fixture) {
        let account = f.account().await;
        let new = name("Gesendet");
        account.write(move |tx| tx.create_mailbox(&new, SpecialUse::SENT | SpecialUse::ARCHIVE)).await.unwrap();
        let all = account.mailboxes();
        assert_eq!(all.by_name("Sent").unwrap().special_use, SpecialUse::NONE);
        assert_eq!(all.by_use(SpecialUse::SENT).unwrap().name.as_str(), "Gesendet");
        f.finish().await;
    }

    async fn a_mailbox_created_again_has_a_new_uidvalidity(f: Fixture) {
        let account = f.account().await;
        create(&account, "x").await.unwrap();
        let (old, was) = (id(&account, "x"), account.mailboxes().by_name("x").unwrap().uidvalidity);
        add(&account, old, &[Flags::NONE; 3]).await;
        account.write(move |tx| tx.delete_mailbox(old)).await.unwrap();
        assert!(account.mailboxes().by_name("x").is_none() && account.mailboxes().is_subscribed("x"));
        assert!(matches!(account.view(old).await, Err(Error::NoMailbox)));
        create(&account, "x").await.unwrap();
        let new = account.mailboxes().by_name("x").cloned().unwrap();
        assert!(new.uidvalidity > was && new.id != old && new.uidnext.get() == 1);
        f.finish().await;
    }

    async fn delete_refuses_inbox_and_parents(f: Fixture) {
        let account = f.account().await;
        create(&account, "a/b").await.unwrap();
        create(&account, "a!").await.unwrap();
        for (mailbox, want) in [("Inbox", "not possible with Inbox"), ("a", "mailbox has children")] {
            let mailbox = id(&account, mailbox);
            assert_eq!(account.write(move |tx| tx.delete_mailbox(mailbox)).await.unwrap_err().to_string(), want);
        }
        let b = id(&account, "a/b");
        account.write(move |tx| tx.delete_mailbox(b)).await.unwrap();
        let a = id(&account, "a");
        account.write(move |tx| tx.delete_mailbox(a)).await.unwrap();
        assert_eq!(names(&account), ["Inbox", "Sent", "Trash", "a!"]);
        f.finish().await;
    }

    async fn rename_takes_children_along(f: Fixture) {
        let account = f.account().await;
        create(&account, "a/b/c").await.unwrap();
        create(&account, "ab").await.unwrap();
        let c = id(&account, "a/b/c");
        let (created, renamed) = rename(&account, "a", "x/y").await.unwrap();
        assert_eq!(created, ["x"]);
        assert_eq!(renamed, ["a->x/y", "a/b->x/y/b", "a/b/c->x/y/b/c"]);
        assert_eq!(names(&account), ["Inbox", "Sent", "Trash", "ab", "x", "x/y", "x/y/b", "x/y/b/c"]);
        assert_eq!(id(&account, "x/y/b/c"), c);
        assert!(!account.mailboxes().is_subscribed("x") && account.mailboxes().is_subscribed("a/b"));
        f.finish().await;
    }

    async fn rename_below_itself_makes_a_new_parent(f: Fixture) {
        let account = f.account().await;
        create(&account, "a/b").await.unwrap();
        let old = id(&account, "a/b");
        let (created, renamed) = rename(&account, "a/b", "a/b/c").await.unwrap();
        assert_eq!((created, renamed), (vec!["a/b".to_owned()], vec!["a/b->a/b/c".to_owned()]));
        assert_eq!(id(&account, "a/b/c"), old);
        assert!(matches!(rename(&account, "a/b/c", "a").await, Err(Error::MailboxExists)));
        assert!(matches!(rename(&account, "a/b/c", "Inbox").await, Err(Error::Inbox)));
        f.finish().await;
    }

    async fn renaming_inbox_moves_its_messages(f: Fixture) {
        let account = f.account().await;
        create(&account, "Inbox/kept").await.unwrap();
        add(&account, inbox(&account), &[Flags::SEEN, Flags::NONE]).await;
        let (created, renamed) = rename(&account, "Inbox", "old/mail").await.unwrap();
        assert_eq!((created, renamed.len()), (vec!["old".to_owned(), "old/mail".to_owned()], 0));
        let moved = account.view(id(&account, "old/mail")).await.unwrap();
        assert_eq!(numbers(&moved.uids()), [1, 2]);
        assert_eq!(account.view(inbox(&account)).await.unwrap().exists(), 0);
        assert_eq!(account.mailboxes().by_name("Inbox").unwrap().uidnext.get(), 3);
        assert!(account.mailboxes().by_name("Inbox/kept").is_some());
        f.finish().await;
    }

    async fn subscriptions_are_by_name(f: Fixture) {
        let account = f.account().await;
        let other = name("nowhere");
        let n = other.clone();
        assert!(account.write(move |tx| tx.subscribe(&n)).await.unwrap());
        let n = other.clone();
        assert!(!account.write(move |tx| tx.subscribe(&n)).await.unwrap());
        let n = other.clone();
        assert!(account.write(move |tx| tx.unsubscribe(&n)).await.unwrap());
        assert!(matches!(account.write(move |tx| tx.unsubscribe(&other)).await, Err(Error::NotSubscribed)));
        account.write(|tx| tx.unsubscribe(&name("Sent"))).await.unwrap();
        assert!(!account.write(|tx| tx.unsubscribe(&name("Sent"))).await.unwrap());
        f.finish().await;
    }

    async fn an_account_has_so_many_mailboxes_and_subscriptions(f: Fixture) {
        let mut f = f;
        f.settings.max_mailboxes = 6;
        f.reopen(Arc::new(NoFaults)).await.unwrap();
        let account = f.account().await;
        assert_eq!(create(&account, "a/b").await.unwrap(), ["a", "a/b"]);
        // Nothing is kept of what doesn't fit as a whole.
        assert!(matches!(create(&account, "x/y").await, Err(Error::TooManyMailboxes)));
        assert!(account.mailboxes().by_name("x").is_none());
        assert_eq!(create(&account, "x").await.unwrap(), ["x"]);
        assert!(matches!(create(&account, "y").await, Err(Error::TooManyMailboxes)));
        assert!(matches!(account.write(|tx| tx.subscribe(&name("y"))).await, Err(Error::TooManyMailboxes)));
        let one = id(&account, "x");
        account.write(move |tx| tx.delete_mailbox(one)).await.unwrap();
        assert!(matches!(create(&account, "y").await, Err(Error::TooManyMailboxes)), "subscribed to what is gone");
        account.write(|tx| tx.unsubscribe(&name("x"))).await.unwrap();
        assert_eq!(create(&account, "y").await.unwrap(), ["y"]);
        f.finish().await;
    }
}
