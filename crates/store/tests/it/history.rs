//! What is remembered of changes, and for how long; INTERNALDATE's zone.

use crate::fixture::{Fixture, add, clean, for_each_engine, id, inbox, mail, name, uids};
use mox_base::{Clock as _, ModSeq};
use mox_store::{Account, Append, Columns, Error, Flags, History, Message};
use std::sync::Arc;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Whether history reaches back to a change: what all say who can be asked.
async fn remembers(account: &Account, since: ModSeq) -> bool {
    let inbox = inbox(account);
    account
        .read(move |tx| {
            let (all, of_inbox) = (tx.changes_since(since)?, tx.changed_since(inbox, since.get())?);
            assert_eq!(all.is_some(), of_inbox.is_some());
            Ok::<_, Error>(all.is_some())
        })
        .await
        .unwrap()
}

async fn zones(account: &Account, mailbox: &str) -> Vec<i16> {
    let mailbox = id(account, mailbox);
    account
        .read(move |tx| {
            let mut zones = Vec::new();
            tx.fetch_rows(mailbox, &uids(&[(1, 100)]), Columns::STATE, |row| {
                zones.push(row.zone()?);
                Ok::<_, Error>(true)
            })?;
            Ok::<_, Error>(zones)
        })
        .await
        .unwrap()
}

for_each_engine! {
    async fn a_year_of_history_is_kept(f: Fixture) {
        let mut f = f;
        let account = f.account().await;
        let inbox = inbox(&account);
        add(&account, inbox, &[Flags::NONE; 3]).await;
        let first = account.mailboxes().modseq();
        account.write(|tx| tx.create_mailbox(&name("Old"), Default::default())).await.unwrap();
        let old = id(&account, "Old");
        account.write(move |tx| tx.delete_mailbox(old)).await.unwrap();
        let before = account.check().await.unwrap().changes;
        f.clock.advance(200 * DAY);
        add(&account, inbox, &[Flags::NONE]).await;
        let second = account.mailboxes().modseq();
        f.clock.advance(200 * DAY);
        assert!(remembers(&account, first).await, "a quiet account forgets nothing");
        // The first change after 400 days: what was before the 200th day is known to be older than a year only on the 565th.
        add(&account, inbox, &[Flags::NONE]).await;
        assert!(remembers(&account, second).await);
        f.clock.advance(200 * DAY);
        add(&account, inbox, &[Flags::NONE]).await;
        assert!(!remembers(&account, first).await);
        assert!(remembers(&account, second).await);
        // Another transaction, and another open.
        account.write(|_| Ok::<_, Error>(())).await.unwrap();
        let report = account.check().await.unwrap();
        assert!(report.changes < before, "{} of {before}", report.changes);
        drop(account);
        f.reopen(Arc::new(mox_store::db::NoFaults)).await.unwrap();
        let account = f.account().await;
        assert!(!remembers(&account, first).await && remembers(&account, second).await);
        assert_eq!(clean(&account).await, 6);
        f.finish().await;
    }

    async fn no_more_operations_than_wanted(f: Fixture) {
        let mut f = f;
        f.settings.history = History { operations: 50, ..History::default() };
        f.reopen(Arc::new(mox_store::db::NoFaults)).await.unwrap();
        let account = f.account().await;
        let inbox = inbox(&account);
        for day in 0..5 {
            add(&account, inbox, &[Flags::NONE; 60]).await;
            f.clock.advance(DAY);
            let report = account.check().await.unwrap();
            assert!(report.changes < 60 + 60 + 20, "day {day}: {} changes", report.changes);
        }
        assert_eq!(clean(&account).await, 300);
        f.finish().await;
    }

    async fn messages_have_the_zone_they_were_given_or_the_servers(f: Fixture) {
        let account = f.account().await;
        let inbox = inbox(&account);
        f.clock.set_zone(-210);
        for zone in [None, Some(0), Some(840)] {
            account.add(inbox, Message::new(mail("m", 300)), Append { zone, ..Append::default() }).await.unwrap();
        }
        assert_eq!(zones(&account, "Inbox").await, [-210, 0, 840]);
        let (sent, trash) = (id(&account, "Sent"), id(&account, "Trash"));
        account.write(move |tx| tx.copy_messages(inbox, &uids(&[(1, 3)]), sent)).await.unwrap();
        account.write(move |tx| tx.move_messages(inbox, &uids(&[(1, 2)]), trash)).await.unwrap();
        assert_eq!(zones(&account, "Sent").await, [-210, 0, 840]);
        assert_eq!(zones(&account, "Trash").await, [-210, 0]);
        // Removed, but still shown by a session.
        let view = account.view(inbox).await.unwrap();
        account.write(move |tx| tx.expunge(inbox, &uids(&[(3, 3)]))).await.unwrap();
        assert_eq!(zones(&account, "Inbox").await, [840], "{:?}", f.clock.now());
        drop(view);
        f.finish().await;
    }
}
