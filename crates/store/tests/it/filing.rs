//! Deliveries into several accounts that are tried again.

use crate::fixture::{Fixture, for_each_engine};
use mox_store::{Account, Error, Filing, FilingKey};
use std::time::Duration;

async fn begin(f: &Fixture, message: &'static str) -> Filing {
    f.store.begin_filing(move || Ok(FilingKey::of(&["a@x.example", "list@x.example"], &mut message.as_bytes())?)).await.unwrap()
}

/// Whether this is the first time for the account.
async fn once(account: &Account, filing: &Filing, recipient: &'static str) -> bool {
    let mark = filing.mark();
    account.write(move |tx| tx.file_once(mark, recipient)).await.unwrap()
}

for_each_engine! {
    async fn what_was_left_goes_on(f: Fixture) {
        let mut f = f;
        let ann = f.account().await;
        let first = begin(&f, "one").await;
        assert!(once(&ann, &first, "ann@x.example").await);
        assert!(!once(&ann, &first, "ann@x.example").await);
        assert!(once(&ann, &first, "ann2@x.example").await, "another address of the account");
        // What goes on isn't taken for left.
        let beside = begin(&f, "one").await;
        assert_ne!(beside.mark(), first.mark());
        assert!(once(&ann, &beside, "ann@x.example").await);
        beside.finish();
        let mark = first.mark();
        drop(first);
        let again = begin(&f, "one").await;
        assert_eq!(again.mark(), mark);
        assert!(!once(&ann, &again, "ann@x.example").await);
        drop((again, ann));
        // As after a crash.
        f.reopen(std::sync::Arc::new(mox_store::db::NoFaults)).await.unwrap();
        let ann = f.account().await;
        let again = begin(&f, "one").await;
        assert_eq!(again.mark(), mark);
        assert!(!once(&ann, &again, "ann@x.example").await);
        again.finish();
        let new = begin(&f, "one").await;
        assert!(once(&ann, &new, "ann@x.example").await, "sent again on purpose");
        f.finish().await;
    }

    async fn what_is_rolled_back_was_not_filed(f: Fixture) {
        let ann = f.account().await;
        let filing = begin(&f, "one").await;
        let mark = filing.mark();
        let failed = ann.write(move |tx| {
            assert!(tx.file_once(mark, "ann@x.example")?);
            Err::<(), _>(Error::OverQuota)
        });
        assert!(failed.await.is_err());
        assert!(once(&ann, &filing, "ann@x.example").await);
        f.finish().await;
    }

    async fn nobody_comes_back_after_ten_days(f: Fixture) {
        let ann = f.account().await;
        let left = begin(&f, "one").await;
        assert!(once(&ann, &left, "ann@x.example").await);
        let mark = left.mark();
        drop(left);
        let other = begin(&f, "other").await;
        other.finish();
        f.clock.advance(Duration::from_secs(11 * 24 * 3600));
        let new = begin(&f, "one").await;
        assert_ne!(new.mark(), mark);
        assert!(once(&ann, &new, "ann@x.example").await);
        f.finish().await;
    }
}
