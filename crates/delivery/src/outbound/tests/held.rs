//! What an account's own settings change, what the server holds by itself, and destinations that don't want our address.

use super::peer::Step;
use super::*;

impl Fixture {
    fn change_directory(&self, change: impl FnOnce(&mut DirectorySettings)) {
        let mut settings = directory_settings();
        change(&mut settings);
        self.directory.replace(Directory::new(settings).unwrap());
    }

    fn change_ann(&self, change: impl FnOnce(&mut AccountSettings)) {
        self.change_directory(|settings| {
            let ann = settings.accounts.iter_mut().find(|(account, _)| account.name == "ann").unwrap();
            change(&mut ann.0);
        });
    }
}

#[tokio::test(start_paused = true)]
async fn accounts_have_schedules_of_their_own() {
    let mut f = Fixture::new().await;
    f.change_ann(|ann| ann.queue_retry_intervals = vec![HOUR, HOUR * 24]);
    let peer = f.peer();
    peer.says(Step::Mail, "451 4.3.0 busy");
    f.submit(&["bob@b.example"]).await;
    let began = f.clock.now();
    let mut attempts = 0;
    for _ in 0..300 {
        attempts += f.run().await;
        f.clock.advance(HOUR / 4);
    }
    assert_eq!((attempts, f.queued().await.len()), (3, 0));
    let dsns = f.dsns("ann", "Inbox").await;
    assert_eq!(dsns.len(), 2, "{dsns:?}");
    // After the second attempt, which is an hour after the first; the third is a day later.
    assert!(dsns[0].contains("Action: delayed") && dsns[1].contains("Action: failed"));
    let until = dsns[0].lines().find_map(|line| line.strip_prefix("Will-Retry-Until: ")).unwrap();
    let day_later = |hours: u32| began.after(HOUR * hours).rfc5322();
    assert!((24..=26).any(|hours| until[..14] == day_later(hours)[..14]), "{until}");
    f.check_conservation().await;
}

#[tokio::test(start_paused = true)]
async fn dsns_go_to_the_mailbox_for_them() {
    let mut f = Fixture::new().await;
    f.change_ann(|ann| ann.queue_dsn_mailbox = "Returned/Mail".to_owned());
    let peer = f.peer();
    peer.rcpt("gone@", "550 5.1.1 no such user");
    f.submit(&["gone@b.example"]).await;
    f.run().await;
    assert_eq!((f.dsns("ann", "Inbox").await.len(), f.dsns("ann", "Returned/Mail").await.len()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn entries_of_a_disabled_domain_wait_until_it_is_enabled() {
    let mut f = Fixture::new().await;
    let peer = f.peer();
    f.submit_from("ann@off.example", &["bob@b.example"], |_| {}).await;
    for _ in 0..20 {
        f.run().await;
        f.runner.release_held().await;
        f.clock.advance(HOUR * 24);
    }
    let queued = f.queued().await;
    assert_eq!((queued[0].row.hold, queued[0].row.attempts), (true, 0));
    assert_eq!(queued[0].results.last().unwrap().error, "domain of sender temporarily disabled");
    f.check_conservation().await;
    f.change_directory(|settings| settings.domains.iter_mut().for_each(|domain| domain.disabled = false));
    f.runner.release_held().await;
    f.run().await;
    assert_eq!(peer.delivered(), 1);
    f.check_conservation().await;
}

#[tokio::test(start_paused = true)]
async fn entries_with_an_unknown_transport_wait_until_it_is_there() {
    let mut f = Fixture::new().await;
    let peer = f.peer();
    f.submit(&["bob@b.example"]).await;
    f.queue.set_transport(Filter::default(), "removed".to_owned()).await.unwrap();
    f.run().await;
    f.runner.release_held().await;
    f.run().await;
    let queued = f.queued().await;
    assert!(queued[0].row.hold && queued[0].results.last().unwrap().error.contains("\"removed\" is not configured"));
    let transports = [("removed".to_owned(), Transport::Direct(Box::default()))].into();
    f.routing.replace(Routing { transports, ..Routing::default() });
    f.runner.release_held().await;
    f.run().await;
    assert_eq!(peer.delivered(), 1);
    f.check_conservation().await;
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_blocks_our_address_is_left_alone_for_a_while() {
    let mut f = Fixture::new().await;
    let peer = f.peer();
    peer.says(Step::Mail, "550 5.7.1 Service unavailable; client host [198.51.100.1] blocked using zen.spamhaus.org");
    f.submit(&["bob@b.example"]).await;
    f.run().await;
    assert_eq!((f.queued().await.len(), f.metrics.blocked.get()), (0, 1));
    // Not the recipient's fault.
    assert!(f.queue.suppressions(None, None, 10).await.unwrap().is_empty());
    peer.well_behaved();
    f.submit(&["cas@b.example"]).await;
    f.run().await;
    f.clock.advance(Duration::from_secs(8 * 60));
    f.run().await;
    assert_eq!(peer.delivered(), 0, "others wait rather than be refused as well");
    let error = f.queued().await[0].results.last().unwrap().error.clone();
    assert!(error.starts_with("not tried again yet") && error.contains("spamhaus"), "{error}");
    f.clock.advance(HOUR);
    f.run().await;
    assert_eq!(peer.delivered(), 1);
    f.check_conservation().await;
}
