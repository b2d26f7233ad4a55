//! Templates of messages.

use crate::fixture::{Fixture, for_each_engine};
use mox_base::{Clock as _, Timestamp};
use mox_store::account::{MAX_TEMPLATES, Template};
use mox_store::db::NoFaults;
use mox_store::{Account, Error};
use std::sync::Arc;
use std::time::Duration;

fn template(name: &str, text: &str) -> Template {
    Template { name: name.to_owned(), subject: format!("ü {name}"), text: text.to_owned(), html: "<p>\r\n".to_owned() }
}

async fn found(account: &Account, name: &str) -> Option<(Template, Timestamp)> {
    let name = name.to_owned();
    account.read(move |tx| tx.template(&name)).await.unwrap()
}

async fn names(account: &Account, after: &str, limit: u64) -> Vec<String> {
    let after = after.to_owned();
    let page = account.read(move |tx| tx.templates(&after, limit)).await.unwrap();
    page.into_iter().map(|(template, _)| template.name).collect()
}

for_each_engine! {
    async fn templates_are_set_replaced_listed_and_removed(f: Fixture) {
        let mut f = f;
        let ann = f.account().await;
        assert_eq!(found(&ann, "b").await, None);
        for name in ["b", "a", "c"] {
            assert!(ann.set_template(template(name, "1")).await.unwrap());
        }
        let first = f.clock.now();
        f.clock.advance(Duration::from_secs(1));
        assert!(ann.set_template(template("b", "2")).await.unwrap());
        assert_eq!(found(&ann, "a").await, Some((template("a", "1"), first)));
        assert_eq!(found(&ann, "b").await, Some((template("b", "2"), f.clock.now())));
        assert_eq!(names(&ann, "", 100).await, ["a", "b", "c"]);
        assert_eq!((names(&ann, "", 2).await, names(&ann, "b", 2).await), (vec!["a".to_owned(), "b".to_owned()], vec!["c".to_owned()]));
        // Another account has its own.
        let bob = f.store.ensure_account("bob", &[]).await.unwrap();
        assert!(names(&bob, "", 100).await.is_empty());
        assert!(!bob.remove_template("a").await.unwrap());
        let rolled_back = ann.write(move |tx| {
            tx.remove_template("a")?;
            Err::<(), _>(Error::OverQuota)
        });
        assert!(rolled_back.await.is_err());
        drop((ann, bob));
        f.reopen(Arc::new(NoFaults)).await.unwrap();
        let ann = f.account().await;
        assert_eq!(names(&ann, "", 100).await, ["a", "b", "c"]);
        assert!(ann.remove_template("b").await.unwrap());
        assert!(!ann.remove_template("b").await.unwrap());
        assert_eq!(found(&ann, "b").await, None);
        drop(ann);
        f.finish().await;
    }

    async fn there_is_a_most_of_them(f: Fixture) {
        let ann = f.account().await;
        ann.write(|tx| (0..MAX_TEMPLATES).try_for_each(|n| tx.set_template(&template(&n.to_string(), "")).map(drop))).await.unwrap();
        assert!(!ann.set_template(template("another", "")).await.unwrap());
        assert!(ann.set_template(template("7", "new")).await.unwrap(), "it takes the place of one");
        assert_eq!(found(&ann, "7").await.unwrap().0.text, "new");
        drop(ann);
        f.finish().await;
    }
}
