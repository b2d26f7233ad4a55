//! Authors whose mail was taken before.

use crate::fixture::{Fixture, for_each_engine};
use mox_base::Address;
use mox_store::{Account, Error};

async fn knows(account: &Account, author: &str, verified: bool) -> bool {
    let author: Address = author.parse().unwrap();
    account.read(move |tx| tx.knows_author(&author, verified)).await.unwrap()
}

for_each_engine! {
    async fn an_author_is_known_from_the_first_message_on(f: Fixture) {
        let mut f = f;
        let ann = f.account().await;
        let bob: Address = "bob@x.example".parse().unwrap();
        assert!(!knows(&ann, "bob@x.example", true).await);
        for _ in 0..2 {
            let bob = bob.clone();
            ann.write(move |tx| tx.note_author(&bob, true)).await.unwrap();
        }
        assert!(knows(&ann, "bob@x.example", true).await);
        assert!(!knows(&ann, "bob@x.example", false).await, "anyone can write that address");
        assert!(!knows(&ann, "bob@y.example", true).await);
        let rolled_back = ann.write(move |tx| {
            tx.note_author(&"eve@x.example".parse().unwrap(), true)?;
            Err::<(), _>(Error::OverQuota)
        });
        assert!(rolled_back.await.is_err());
        assert!(!knows(&ann, "eve@x.example", true).await);
        drop(ann);
        f.reopen(std::sync::Arc::new(mox_store::db::NoFaults)).await.unwrap();
        assert!(knows(&f.account().await, "bob@x.example", true).await);
        f.finish().await;
    }
}
