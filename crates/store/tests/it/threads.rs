//! Threads of new messages.

use crate::fixture::{Fixture, for_each_engine, inbox, uids};
use mox_store::{Account, Append, Columns, Error, Message};

async fn add(account: &Account, header: &str) -> i64 {
    let message = Message::new(format!("{}\r\n\r\nbody\r\n", header.replace('\n', "\r\n")).into_bytes());
    let inbox = inbox(account);
    let added = account.add(inbox, message, Append::default()).await.unwrap();
    let uid = added.uid.get();
    account
        .read(move |tx| {
            let mut thread = 0;
            tx.fetch_rows(inbox, &uids(&[(uid, uid)]), Columns::THREAD, |row| {
                thread = row.thread_id()?.0;
                Ok::<_, Error>(true)
            })?;
            Ok::<_, Error>(thread)
        })
        .await
        .unwrap()
}

for_each_engine! {
    async fn replies_join_their_parents(f: Fixture) {
        let account = f.account().await;
        assert_eq!(add(&account, "Subject: plan\nMessage-ID: <1@x>").await, 1);
        assert_eq!(add(&account, "Subject: Re: plan\nMessage-ID: <2@x>\nIn-Reply-To: <1@X>").await, 1);
        assert_eq!(add(&account, "Subject: re: [list] plan\nMessage-ID: <3@x>\nReferences: <0@x> <1@x>\n <2@x>").await, 1);
        // The same message again.
        assert_eq!(add(&account, "Subject: other\nMessage-ID: <2@x>").await, 1);
        // Another subject is another thread, and so is an unknown parent.
        assert_eq!(add(&account, "Subject: new\nMessage-ID: <5@x>\nIn-Reply-To: <1@x>").await, 5);
        assert_eq!(add(&account, "Subject: Re: plan\nMessage-ID: <6@x>\nIn-Reply-To: <nobody@x>").await, 6);
        // Without any reference a reply's subject is enough.
        assert_eq!(add(&account, "Subject: Re: new\nMessage-ID: <7@x>").await, 5);
        assert_eq!(add(&account, "Subject: new\nMessage-ID: <8@x>").await, 8);
        assert_eq!(add(&account, "From: x@y.example").await, 9);
        f.finish().await;
    }

    async fn an_expunged_parent_is_no_parent(f: Fixture) {
        let account = f.account().await;
        assert_eq!(add(&account, "Subject: a\nMessage-ID: <1@x>").await, 1);
        let inbox = inbox(&account);
        let _shown = account.view(inbox).await.unwrap();
        account.write(move |tx| tx.expunge(inbox, &uids(&[(1, 1)]))).await.unwrap();
        assert_eq!(add(&account, "Subject: a\nMessage-ID: <2@x>\nIn-Reply-To: <1@x>").await, 2);
        f.finish().await;
    }
}
