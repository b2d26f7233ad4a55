//! Limits on what accounts send.

use super::fixture::{Fixture, for_each_engine};
use mox_base::Path;
use mox_store::outgoing::{Exceeded, Limits, Outgoing};
use std::time::Duration;

fn paths(names: impl IntoIterator<Item = u32>) -> Vec<Path> {
    names.into_iter().map(|n| Path::from(format!("r{n}@example.org").parse::<mox_base::Address>().unwrap())).collect()
}

for_each_engine! {
    async fn limits_count_recipients_of_the_past_day(f: Fixture) {
        let ann = f.account().await.id();
        let outgoing = Outgoing::open(&f.store).await.unwrap();
        let limits = Limits { messages: 5, first_time: 3 };
        let check = async |recipients: Vec<Path>| outgoing.may_send(ann, &recipients, limits).await.unwrap();

        assert_eq!(check(paths(0..3)).await, None);
        assert_eq!(check(paths(0..4)).await, Some(Exceeded::FirstTimeRecipients));
        assert_eq!(check(paths(0..6)).await, Some(Exceeded::Messages));
        outgoing.sent(ann, &paths(0..3)).await.unwrap();
        // Known recipients, up to the limit on all.
        assert_eq!(check(paths(0..2)).await, None);
        assert_eq!(check(paths(0..3)).await, Some(Exceeded::Messages));
        assert_eq!(check(paths(3..4)).await, Some(Exceeded::FirstTimeRecipients));
        // Another account has its own limits.
        assert_eq!(outgoing.may_send(mox_base::AccountId(ann.0 + 1), &paths(3..4), limits).await.unwrap(), None);

        // A day later all is forgiven, but recipients stay known.
        f.clock.advance(Duration::from_secs(24 * 3600 + 1));
        assert_eq!(check(paths(0..5)).await, None);
        assert_eq!(check(paths(2..7)).await, Some(Exceeded::FirstTimeRecipients));
        outgoing.close().await;
        f.finish().await;
    }
}
