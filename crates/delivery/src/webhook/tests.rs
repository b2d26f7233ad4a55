use super::*;
use mox_base::{Clock as _, Secret};
use mox_net::ClientTls;
use mox_net::http::{AddressGuard, Client};
use mox_net::memory::World;
use mox_store::directory::{Directory, MailboxOf, Settings, SharedDirectory};
use mox_store::queue::Page;
use mox_store::webhook::{Event, Filter, ListedWebhook, NewWebhook, RetiredWebhook, Sort, Webhook, WebhookId, Webhooks};
use mox_testkit::{SeededRandom, VirtualClock, Zone};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const URL: &str = "http://receiver.example/hook";

struct Fixture {
    webhooks: Webhooks,
    runner: Runner,
    clock: VirtualClock,
    world: World,
    _folder: tempfile::TempDir,
}

impl Fixture {
    async fn new() -> Self {
        Self::with(Schedule::default()).await
    }

    async fn with(schedule: Schedule) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = VirtualClock::default();
        let random = Arc::new(SeededRandom::new(1));
        let store =
            mox_store::Store::open(mox_store::Settings::sqlite(folder.path()), Arc::new(clock.clone()), random.clone()).await.unwrap();
        let webhooks = store.queue().await.unwrap().webhooks();
        let account = AccountSettings { keep_retired_webhooks: Duration::from_secs(3600), ..AccountSettings::new("ann") };
        let directory = Directory::new(Settings {
            hostname: "mx.example".parse().unwrap(),
            listener_hostnames: Vec::new(),
            postmaster: MailboxOf { account: "ann".to_owned(), mailbox: "Inbox".to_owned() },
            host_tls_reports: None,
            domains: Vec::new(),
            accounts: vec![(account, Vec::new())],
            everything: None,
        })
        .unwrap();
        let world = World::new();
        let zone = Zone::new().a("receiver.example", "203.0.113.1").a("other.example", "203.0.113.2");
        let guard = AddressGuard::public_and(vec!["203.0.113.0/24".parse().unwrap()]);
        let client = Client::new(Arc::new(zone), Arc::new(world.clone()), ClientTls::opportunistic().unwrap(), guard);
        let runner = Runner::new(Parts {
            webhooks: webhooks.clone(),
            directory: SharedDirectory::new(directory),
            client,
            clock: Arc::new(clock.clone()),
            random,
            metrics: Metrics::default(),
            agent: "mox/test (webhook)".to_owned(),
            schedule,
        });
        Self { webhooks, runner, clock, world, _folder: folder }
    }

    async fn add(&self, queue_id: i64, event: Event, url: &str) -> WebhookId {
        let new = NewWebhook {
            queue_id: Some(mox_base::QueueId(queue_id)),
            from_id: String::new(),
            message_id: String::new(),
            subject: String::new(),
            extra: BTreeMap::new(),
            account: "ann".to_owned(),
            url: url.to_owned(),
            authorization: Some(Secret::new("Bearer x".to_owned())),
            secret: Some(Secret::new("key".to_owned())),
            event,
            payload: format!("{{\"n\":{queue_id}}}"),
            submitted: self.clock.now(),
            keep_replaced: None,
        };
        self.webhooks.add(new).await.unwrap()
    }

    async fn waiting(&self, id: WebhookId) -> ListedWebhook<Webhook> {
        self.webhooks.webhook(id).await.unwrap().unwrap()
    }

    async fn retired(&self) -> Vec<ListedWebhook<RetiredWebhook>> {
        let sort = Sort { ascending: true, ..Sort::default() };
        self.webhooks.list_retired(Filter::default(), sort, Page::default()).await.unwrap()
    }
}

/// Answers requests with what `answer` says for the number of the request; none closes the connection. Gives the requests.
fn receiver(
    world: &World,
    addr: &str,
    answer: impl Fn(usize) -> Option<String> + Send + Sync + 'static,
) -> (mpsc::Receiver<String>, JoinSet<()>) {
    let (seen, requests) = mpsc::channel(1000);
    let mut listener = world.listen(addr.parse().unwrap());
    let mut task = JoinSet::new();
    task.spawn(async move {
        let (answer, count, mut connections) = (Arc::new(answer), Arc::new(AtomicUsize::new(0)), JoinSet::new());
        while let Ok(mut stream) = listener.accept().await {
            let (seen, answer, count) = (seen.clone(), Arc::clone(&answer), Arc::clone(&count));
            connections.spawn(async move {
                let mut text = String::new();
                let mut chunk = [0; 4096];
                loop {
                    let Some(n) = stream.read(&mut chunk).await.ok().filter(|n| *n > 0) else { return };
                    text.push_str(std::str::from_utf8(&chunk[..n]).unwrap());
                    let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                    let length: usize = head.lines().find_map(|l| l.strip_prefix("content-length: ")).unwrap().parse().unwrap();
                    if body.len() < length {
                        continue;
                    }
                    seen.send(std::mem::take(&mut text)).await.unwrap();
                    let Some(answer) = answer(count.fetch_add(1, Ordering::SeqCst)) else { return };
                    stream.write_all(answer.as_bytes()).await.unwrap();
                    stream.flush().await.unwrap();
                }
            });
        }
    });
    (requests, task)
}

fn status(status: &str) -> Option<String> {
    Some(format!("HTTP/1.1 {status}\r\nContent-Length: 4\r\n\r\nbody"))
}

#[tokio::test]
async fn calls_are_as_documented() {
    let f = Fixture::new().await;
    let (mut requests, _task) = receiver(&f.world, "203.0.113.1:80", |_| status("202 Accepted"));
    let id = f.add(3, Event::Delivered, URL).await;
    assert_eq!(f.runner.run_due().await.unwrap(), 1);
    let request = requests.recv().await.unwrap();
    let signature = signature(&Secret::new("key".to_owned()), f.clock.now().secs(), "{\"n\":3}");
    assert!(request.starts_with("POST /hook HTTP/1.1\r\n") && request.ends_with("\r\n\r\n{\"n\":3}"), "{request}");
    for header in [
        "host: receiver.example",
        "user-agent: mox/test (webhook)",
        "content-type: application/json; charset=utf-8",
        &format!("x-mox-webhook-id: {id}"),
        "x-mox-webhook-attempt: 1",
        "authorization: Bearer x",
        &format!("x-mox-webhook-signature: {signature}"),
    ] {
        assert!(request.contains(&format!("\r\n{header}\r\n")), "{header}\n{request}");
    }
    let retired = f.retired().await.remove(0);
    assert!(retired.row.success && retired.results[0].success);
    assert_eq!((retired.results[0].code, retired.results[0].response.as_str()), (202, "body"));
    assert_eq!(retired.row.keep_until, f.clock.now().after(Duration::from_secs(3600)));
}

#[tokio::test]
async fn twelve_attempts_then_the_end() {
    let f = Fixture::new().await;
    let (mut requests, _task) = receiver(&f.world, "203.0.113.1:80", |n| if n == 3 { None } else { status("302 Found") });
    let id = f.add(1, Event::Failed, URL).await;
    let begin = f.clock.now();
    for attempt in 1..=12 {
        assert_eq!(f.runner.run_due().await.unwrap(), 1, "{attempt}");
        assert!(requests.recv().await.unwrap().contains(&format!("x-mox-webhook-attempt: {attempt}\r\n")));
        assert_eq!(f.runner.run_due().await.unwrap(), 0);
        if attempt < 12 {
            let webhook = f.waiting(id).await;
            assert_eq!(webhook.results.len(), attempt);
            f.clock.advance(webhook.row.next_attempt.since(f.clock.now()));
        }
    }
    let took = f.clock.now().since(begin).as_secs();
    assert!((114_000..117_000).contains(&took), "about 32 hours: {took}");
    let retired = f.retired().await.remove(0);
    assert!(!retired.row.success);
    assert_eq!(retired.row.attempts, 12);
    assert_eq!((retired.results[0].error.as_str(), retired.results[0].code), ("http status \"302 Found\"", 302));
    assert_eq!(retired.results[3].code, 0);
    assert!(retired.results[3].error.starts_with("http: "), "{}", retired.results[3].error);
}

#[tokio::test]
async fn a_schedule_of_ones_own() {
    let f = Fixture::with(Schedule::new(vec![Duration::from_secs(1), Duration::from_secs(5)])).await;
    let (requests, _task) = receiver(&f.world, "203.0.113.1:80", |_| status("500 Oops"));
    let id = f.add(1, Event::Failed, URL).await;
    for (attempt, wait) in [(1, 1000), (2, 5000)] {
        assert_eq!(f.runner.run_due().await.unwrap(), 1, "{attempt}");
        let next = f.waiting(id).await.row.next_attempt.since(f.clock.now());
        assert!(next.as_millis().abs_diff(wait) <= wait / 100, "{next:?}");
        f.clock.advance(next);
    }
    assert_eq!(f.runner.run_due().await.unwrap(), 1);
    assert_eq!((requests.len(), f.retired().await.remove(0).row.success), (3, false));
}

#[tokio::test]
async fn receivers_may_stop_and_delay_calls() {
    let f = Fixture::new().await;
    let answers = |n| match n {
        0 => Some("HTTP/1.1 503 Busy\r\nRetry-After: 600\r\nContent-Length: 0\r\n\r\n".to_owned()),
        1 => Some("HTTP/1.1 429 Slowly\r\nRetry-After: 300\r\nContent-Length: 0\r\n\r\n".to_owned()),
        // Not a status for which the header means anything.
        2 => Some("HTTP/1.1 500 Oops\r\nRetry-After: 9999\r\nContent-Length: 0\r\n\r\n".to_owned()),
        _ => status("410 Gone"),
    };
    let (_requests, _task) = receiver(&f.world, "203.0.113.1:80", answers);
    let id = f.add(1, Event::Failed, URL).await;
    for (code, wait) in [(503, 600), (429, 300)] {
        assert_eq!(f.runner.run_due().await.unwrap(), 1, "{code}");
        assert_eq!(f.waiting(id).await.row.next_attempt, f.clock.now().after(Duration::from_secs(wait)), "{code}");
        f.clock.advance(Duration::from_secs(wait));
    }
    assert_eq!(f.runner.run_due().await.unwrap(), 1);
    let wait = f.waiting(id).await.row.next_attempt.since(f.clock.now());
    assert!(wait < Duration::from_secs(300), "as after any failure: {wait:?}");
    f.clock.advance(wait);
    assert_eq!(f.runner.run_due().await.unwrap(), 1);
    let retired = f.retired().await.remove(0);
    assert_eq!((retired.row.attempts, retired.row.success, retired.results[3].code), (4, false, 410));
}

#[tokio::test]
async fn a_dead_receiver_holds_up_nobody_else() {
    let f = Fixture::new().await;
    let (requests, _task) = receiver(&f.world, "203.0.113.2:80", |_| status("200 OK"));
    for n in 0..50 {
        f.add(n, Event::Delivered, URL).await;
        f.add(100 + n, Event::Delivered, "http://other.example/").await;
    }
    f.runner.run_due().await.unwrap();
    assert_eq!((requests.len(), f.retired().await.len(), f.webhooks.count().await.unwrap()), (50, 50, 50));
    let one = f.webhooks.list(Filter::default(), Sort::default(), Page { limit: 1 }).await.unwrap().remove(0);
    assert!(one.results[0].error.starts_with("connecting: "), "{}", one.results[0].error);
}

#[tokio::test]
async fn private_addresses_are_not_called() {
    let f = Fixture::new().await;
    let (requests, _task) = receiver(&f.world, "127.0.0.1:80", |_| status("200 OK"));
    let id = f.add(1, Event::Delivered, "http://127.0.0.1/").await;
    f.runner.run_due().await.unwrap();
    assert!(f.waiting(id).await.results[0].error.contains("not a public address"));
    assert!(requests.is_empty());
}

#[tokio::test]
async fn shutdown_ends_a_call_and_keeps_the_webhook() {
    let f = Fixture::new().await;
    // Never answers.
    let (mut requests, _task) = receiver(&f.world, "203.0.113.1:80", |_| Some(String::new()));
    let id = f.add(1, Event::Delivered, URL).await;
    let shutdown = CancellationToken::new();
    let mut running = JoinSet::new();
    let (runner, token) = (f.runner.clone(), shutdown.clone());
    running.spawn(async move { runner.run(token).await });
    requests.recv().await.unwrap();
    shutdown.cancel();
    running.join_next().await.unwrap().unwrap();
    let webhook = f.waiting(id).await;
    assert_eq!((webhook.row.attempts, webhook.results[0].error.as_str()), (1, "interrupted by shutdown"));
    // The URL is free again, and the next attempt as scheduled.
    assert_eq!(f.webhooks.next_due(f.clock.now()).await.unwrap(), Some(webhook.row.next_attempt));
}

#[tokio::test]
async fn a_crash_in_the_last_attempt_ends_it() {
    let f = Fixture::new().await;
    let (requests, _task) = receiver(&f.world, "203.0.113.1:80", |_| status("200 OK"));
    f.add(1, Event::Delivered, URL).await;
    let claiming = |now| mox_store::webhook::Claiming { owner: mox_store::queue::Owner(1), now, max: 1, lease: Duration::from_secs(1) };
    for _ in 0..12 {
        assert_eq!(f.webhooks.claim(claiming(f.clock.now()), |_| Duration::from_secs(1)).await.unwrap().len(), 1);
        f.clock.advance(Duration::from_secs(1));
    }
    assert_eq!(f.runner.run_due().await.unwrap(), 1);
    let retired = f.retired().await.remove(0);
    assert_eq!((retired.row.success, requests.len()), (false, 0));
}
