use super::*;
use crate::db::{Env, Location, NoFaults};
use crate::queue::tests::{location, opened};
use crate::queue::{Page, Queue, Reschedule, TimeBound};
use crate::testing::{self, on_both};
use mox_base::{Clock as _, QueueId, Secret};
use mox_testkit::VirtualClock;
use std::collections::BTreeMap;
use std::time::Duration;
use tempfile::TempDir;

const OWNER: Owner = Owner(7);
const MINUTE: Duration = Duration::from_secs(60);
const URL: &str = "http://receiver.example/hook";

struct Fixture {
    queue: Queue,
    webhooks: Webhooks,
    clock: VirtualClock,
    location: Location,
    env: Env,
    folder: TempDir,
}

impl testing::Fixture for Fixture {
    async fn on(folder: TempDir, postgres: Option<String>) -> Self {
        let location = location(&folder, postgres);
        let clock = VirtualClock::default();
        let env = Env {
            runtime: tokio::runtime::Handle::current(),
            clock: Arc::new(clock.clone()),
            faults: Arc::new(NoFaults),
            readers: Arc::new(tokio::sync::Semaphore::new(4)),
            scans: Arc::new(tokio::sync::Semaphore::new(1)),
        };
        let queue = opened(&env, &location, folder.path()).await.unwrap();
        Self { webhooks: queue.webhooks(), queue, clock, location, env, folder }
    }
}

impl Fixture {
    /// As after a crash: another handle to what is on disk.
    async fn reopened(self) -> Self {
        self.queue.close().await;
        let queue = opened(&self.env, &self.location, self.folder.path()).await.unwrap();
        Self { webhooks: queue.webhooks(), queue, ..self }
    }

    fn webhook(&self, queue_id: i64, event: Event, url: &str) -> NewWebhook {
        NewWebhook {
            queue_id: Some(queue_id).filter(|id| *id > 0).map(QueueId),
            from_id: "fid".to_owned(),
            message_id: "<1@a.example>".to_owned(),
            subject: "NUL\0 in it".to_owned(),
            extra: BTreeMap::from([("k".to_owned(), "v".to_owned())]),
            account: "ann".to_owned(),
            url: url.to_owned(),
            authorization: Some(Secret::new("Basic x".to_owned())),
            secret: Some(Secret::new("key".to_owned())),
            event,
            payload: format!("{{\"Event\":\"{event}\"}}"),
            submitted: self.clock.now(),
            keep_replaced: Some(MINUTE * 60),
        }
    }

    async fn add(&self, queue_id: i64, event: Event) -> WebhookId {
        self.webhooks.add(self.webhook(queue_id, event, URL)).await.unwrap()
    }

    fn claiming(&self, max: usize) -> Claiming {
        Claiming { owner: OWNER, now: self.clock.now(), max, lease: MINUTE * 2 }
    }

    async fn claim(&self, max: usize) -> Vec<Webhook> {
        self.webhooks.claim(self.claiming(max), |before| MINUTE * (before + 1)).await.unwrap()
    }

    fn outcome(&self, webhook: &Webhook, code: u16, ending: Ending) -> Outcome {
        let success = code == 200;
        let result = CallResult {
            start: self.clock.now(),
            duration: Duration::from_millis(2),
            url: webhook.url.clone(),
            success,
            code,
            error: if success { String::new() } else { format!("http status {code}") },
            response: "answer".to_owned(),
        };
        Outcome { id: webhook.id, url: webhook.url.clone(), result, ending }
    }

    async fn finish(&self, webhook: &Webhook, code: u16, ending: Ending) -> Finished {
        let outcome = self.outcome(webhook, code, ending);
        let (finished, next) = self.webhooks.finish(outcome, self.claiming(0), |_| MINUTE).await.unwrap();
        assert!(next.is_empty());
        finished
    }

    fn done(&self) -> Ending {
        Ending::Retire { success: true, keep_until: Some(self.clock.now().after(MINUTE * 60)) }
    }

    async fn waiting(&self) -> Vec<WebhookId> {
        let sort = Sort { field: SortField::Added, ascending: true, after: None };
        ids(&self.webhooks.list(Filter::default(), sort, Page::default()).await.unwrap(), |w| w.id)
    }

    async fn retired(&self) -> Vec<ListedWebhook<RetiredWebhook>> {
        let sort = Sort { field: SortField::Added, ascending: true, after: None };
        self.webhooks.list_retired(Filter::default(), sort, Page::default()).await.unwrap()
    }
}

fn ids<T>(listed: &[ListedWebhook<T>], id: impl Fn(&T) -> WebhookId) -> Vec<WebhookId> {
    listed.iter().map(|l| id(&l.row)).collect()
}

fn claimed(webhooks: &[Webhook]) -> Vec<WebhookId> {
    webhooks.iter().map(|w| w.id).collect()
}

fn errors(results: &[CallResult]) -> Vec<&str> {
    results.iter().map(|r| r.error.as_str()).collect()
}

on_both!(
    called_once_and_kept_a_while,
    one_at_a_time_for_each_url,
    crash_costs_an_attempt,
    delayed_is_replaced_final_is_not,
    replaced_while_called,
    events_of_a_message_keep_their_order,
    receivers_may_ask_for_patience,
    administrators_reschedule_and_cancel,
    lists_page_and_filter,
    long_urls,
);

async fn called_once_and_kept_a_while(f: Fixture) {
    let id = f.add(3, Event::Delivered).await;
    assert_eq!(f.webhooks.next_due(f.clock.now()).await.unwrap(), Some(f.clock.now()));
    let webhooks = f.claim(10).await;
    assert_eq!(claimed(&webhooks), [id]);
    let webhook = &webhooks[0];
    assert_eq!((webhook.attempts, webhook.next_attempt), (1, f.clock.now().after(MINUTE)));
    assert_eq!((webhook.subject.as_str(), webhook.from_id.as_str()), ("NUL\u{fffd} in it", "fid"));
    assert_eq!(webhook.queue_id, Some(QueueId(3)));
    assert_eq!(webhook.extra.get("k").map(String::as_str), Some("v"));
    assert_eq!(webhook.payload, "{\"Event\":\"delivered\"}");
    assert_eq!(webhook.authorization, Some(Secret::new("Basic x".to_owned())));
    assert_eq!(webhook.secret, Some(Secret::new("key".to_owned())));
    let listed = f.webhooks.webhook(id).await.unwrap().unwrap();
    assert_eq!(errors(&listed.results), [CallResult::DELIVERING]);
    // Nobody else gets it, and nothing is due, while it is being called.
    assert!(f.claim(10).await.is_empty());
    assert_eq!(f.webhooks.next_due(f.clock.now()).await.unwrap(), None);
    assert_eq!(f.finish(webhook, 200, f.done()).await, Finished::Recorded);
    assert!(f.waiting().await.is_empty());
    assert_eq!((f.webhooks.count().await.unwrap(), f.webhooks.next_due(f.clock.now()).await.unwrap()), (0, None));
    let retired = f.webhooks.retired(id).await.unwrap().unwrap();
    assert!(retired.row.success && retired.row.authorization);
    assert_eq!((retired.row.superseded_by, retired.row.attempts, retired.row.event), (None, 1, Event::Delivered));
    assert_eq!((retired.results[0].code, retired.results[0].response.as_str()), (200, "answer"));
    f.clock.advance(MINUTE * 59);
    assert_eq!(f.webhooks.remove_expired(f.clock.now()).await.unwrap(), 0);
    f.clock.advance(MINUTE * 2);
    assert_eq!(f.webhooks.remove_expired(f.clock.now()).await.unwrap(), 1);
    assert!(f.webhooks.retired(id).await.unwrap().is_none());
    // Without retention nothing stays.
    let id = f.add(3, Event::Delivered).await;
    let webhook = f.claim(1).await.remove(0);
    f.finish(&webhook, 410, Ending::Retire { success: false, keep_until: None }).await;
    assert!(f.retired().await.is_empty() && f.webhooks.webhook(id).await.unwrap().is_none());
}

async fn one_at_a_time_for_each_url(f: Fixture) {
    let first = f.add(0, Event::Incoming).await;
    f.clock.advance(Duration::from_secs(1));
    let second = f.add(0, Event::Incoming).await;
    f.clock.advance(Duration::from_secs(1));
    let other = f.webhooks.add(f.webhook(0, Event::Incoming, "http://other.example")).await.unwrap();
    let webhooks = f.claim(10).await;
    assert_eq!(claimed(&webhooks), [first, other]);
    assert!(f.claim(10).await.is_empty());
    // A failed call doesn't hold up the next, which is claimed with the end of the first.
    let outcome = f.outcome(&webhooks[0], 500, Ending::Retry);
    let (_, next) = f.webhooks.finish(outcome, f.claiming(1), |_| MINUTE).await.unwrap();
    assert_eq!(claimed(&next), [second]);
    f.finish(&next[0], 200, f.done()).await;
    f.clock.advance(MINUTE);
    let again = f.claim(10).await;
    assert_eq!((claimed(&again), again[0].attempts), (vec![first], 2));
    // A lease ends by itself.
    f.clock.advance(MINUTE * 3);
    assert_eq!(claimed(&f.claim(10).await), [other, first]);
}

async fn crash_costs_an_attempt(f: Fixture) {
    let id = f.add(1, Event::Failed).await;
    let postgres = matches!(f.location, Location::Postgres(_));
    assert_eq!(f.claim(1).await.len(), 1);
    let f = f.reopened().await;
    assert!(f.claim(1).await.is_empty());
    // Another server's lease may still hold.
    f.clock.advance(if postgres { MINUTE * 2 } else { MINUTE });
    let webhook = f.claim(1).await.remove(0);
    assert_eq!((webhook.id, webhook.attempts), (id, 2));
    f.finish(&webhook, 500, Ending::Retry).await;
    let results = f.webhooks.webhook(id).await.unwrap().unwrap().results;
    assert_eq!(errors(&results), [CallResult::DELIVERING, "http status 500"]);
}

async fn delayed_is_replaced_final_is_not(f: Fixture) {
    let delayed = f.add(1, Event::Delayed).await;
    let of_other = f.add(2, Event::Delayed).await;
    f.clock.advance(MINUTE);
    let delivered = f.add(1, Event::Delivered).await;
    assert_eq!(f.waiting().await, [of_other, delivered]);
    let retired = f.retired().await;
    assert_eq!(ids(&retired, |w| w.id), [delayed]);
    let row = &retired[0].row;
    assert_eq!((row.superseded_by, row.success, row.attempts), (Some(delivered), false, 0));
    assert_eq!((row.last_activity, row.keep_until), (f.clock.now(), f.clock.now().after(MINUTE * 60)));
    let failed = f.add(1, Event::Failed).await;
    assert_eq!(f.waiting().await, [of_other, delivered, failed]);
    // Mail that arrives replaces nothing.
    let incoming = [f.add(0, Event::Incoming).await, f.add(0, Event::Incoming).await];
    assert_eq!(f.waiting().await, [of_other, delivered, failed, incoming[0], incoming[1]]);
}

async fn replaced_while_called(f: Fixture) {
    let delayed = f.add(1, Event::Delayed).await;
    let webhook = f.claim(1).await.remove(0);
    let failed = f.add(1, Event::Failed).await;
    assert!(f.claim(1).await.is_empty(), "the URL is busy");
    assert_eq!(f.finish(&webhook, 500, Ending::Retry).await, Finished::Retired);
    let retired = f.webhooks.retired(delayed).await.unwrap().unwrap();
    assert_eq!(errors(&retired.results), ["http status 500 (superseded)"]);
    assert_eq!((retired.row.superseded_by, retired.row.attempts), (Some(failed), 1));
    let webhook = f.claim(1).await.remove(0);
    assert_eq!(webhook.id, failed);
    // Cancelled while it is called: both results are kept, and the success isn't the administrator's.
    let keep_until = f.clock.now().after(MINUTE);
    assert_eq!(f.webhooks.cancel(Filter::default(), f.clock.now(), move |_| Some(keep_until)).await.unwrap(), 1);
    assert_eq!(f.finish(&webhook, 200, f.done()).await, Finished::Retired);
    let retired = f.webhooks.retired(failed).await.unwrap().unwrap();
    assert_eq!((errors(&retired.results), retired.row.success), (vec!["", "canceled by admin"], false));
    assert_eq!(f.webhooks.next_due(f.clock.now()).await.unwrap(), None);
}

async fn events_of_a_message_keep_their_order(f: Fixture) {
    let delivered = f.add(1, Event::Delivered).await;
    let failed = f.add(1, Event::Failed).await;
    let of_other = f.add(2, Event::Delivered).await;
    let webhook = f.claim(1).await.remove(0);
    assert_eq!(webhook.id, delivered);
    f.finish(&webhook, 500, Ending::Retry).await;
    // The later event waits for the earlier one's next attempt, another message's doesn't.
    let webhook = f.claim(1).await.remove(0);
    assert_eq!(webhook.id, of_other);
    f.finish(&webhook, 200, f.done()).await;
    assert!(f.claim(1).await.is_empty());
    assert_eq!(f.webhooks.next_due(f.clock.now()).await.unwrap(), Some(f.clock.now().after(MINUTE)));
    f.clock.advance(MINUTE);
    let webhook = f.claim(1).await.remove(0);
    assert_eq!(webhook.id, delivered);
    f.finish(&webhook, 200, f.done()).await;
    assert_eq!(f.webhooks.next_due(f.clock.now()).await.unwrap(), Some(f.clock.now().before(MINUTE)));
    assert_eq!(claimed(&f.claim(1).await), [failed]);
}

async fn receivers_may_ask_for_patience(f: Fixture) {
    f.add(0, Event::Incoming).await;
    let webhook = f.claim(1).await.remove(0);
    let later = f.clock.now().after(MINUTE * 30);
    f.finish(&webhook, 503, Ending::RetryAt(later)).await;
    assert_eq!(f.webhooks.next_due(f.clock.now()).await.unwrap(), Some(later));
    f.clock.advance(MINUTE * 30);
    let webhook = f.claim(1).await.remove(0);
    // Sooner than the schedule it isn't.
    f.finish(&webhook, 503, Ending::RetryAt(f.clock.now())).await;
    assert_eq!(f.webhooks.next_due(f.clock.now()).await.unwrap(), Some(f.clock.now().after(MINUTE * 2)));
}

async fn administrators_reschedule_and_cancel(f: Fixture) {
    let ids = [f.add(1, Event::Failed).await, f.add(2, Event::Delayed).await];
    let later = f.clock.now().after(MINUTE);
    let one = Filter { ids: vec![ids[0]], ..Filter::default() };
    assert_eq!(f.webhooks.reschedule(one.clone(), Reschedule::At(later)).await.unwrap(), 1);
    assert_eq!(claimed(&f.claim(10).await), [ids[1]]);
    f.webhooks.release(URL, OWNER).await.unwrap();
    assert_eq!(f.webhooks.reschedule(one, Reschedule::Add(-60_000_000)).await.unwrap(), 1);
    assert_eq!(claimed(&f.claim(10).await), [ids[0]]);
    let account = Filter { account: Some("bob".to_owned()), ..Filter::default() };
    assert_eq!(f.webhooks.cancel(account, f.clock.now(), |_| None).await.unwrap(), 0);
    let keep_until = f.clock.now().after(MINUTE);
    assert_eq!(f.webhooks.cancel(Filter::default(), f.clock.now(), move |a| (a == "ann").then_some(keep_until)).await.unwrap(), 2);
    let retired = f.retired().await;
    assert_eq!(errors(&retired[1].results), [CallResult::DELIVERING, "canceled by admin"]);
    assert!(!retired[1].row.success);
    assert_eq!(f.webhooks.count().await.unwrap(), 0);
}

async fn lists_page_and_filter(f: Fixture) {
    let start = f.clock.now();
    let mut all = Vec::new();
    for (n, event) in [Event::Incoming, Event::Delivered, Event::Failed, Event::Incoming].into_iter().enumerate() {
        all.push(f.add(i64::try_from(n).unwrap(), event).await);
        f.clock.advance(Duration::from_secs(1));
    }
    let list = async |filter: Filter, sort: Sort| ids(&f.webhooks.list(filter, sort, Page { limit: 3 }).await.unwrap(), |w| w.id);
    let down = Sort::default();
    assert_eq!(list(Filter::default(), down).await, [all[3], all[2], all[1]]);
    let after = Some((start.after(Duration::from_secs(1)), all[1]));
    assert_eq!(list(Filter::default(), Sort { after, ..down }).await, [all[0]]);
    let up = Sort { field: SortField::Added, ascending: true, after };
    assert_eq!(list(Filter::default(), up).await, [all[2], all[3]]);
    let event = |event| Filter { event: Some(event), ..Filter::default() };
    assert_eq!(list(event(Event::Incoming), down).await, [all[3], all[0]]);
    let second = start.after(Duration::from_secs(1));
    let filter = Filter { submitted: Some(TimeBound::After(second)), max: Some(1), ..Filter::default() };
    assert_eq!(list(filter, down).await, [all[3]]);
    let filter = Filter { next_attempt: Some(TimeBound::Before(second)), ..Filter::default() };
    assert_eq!(list(filter, down).await, [all[0]]);
    f.webhooks.cancel(event(Event::Failed), f.clock.now(), |_| Some(Timestamp::from_secs(4_000_000_000))).await.unwrap();
    let filter = Filter { last_activity: Some(TimeBound::After(second)), event: Some(Event::Failed), ..Filter::default() };
    assert_eq!(ids(&f.webhooks.list_retired(filter, down, Page::default()).await.unwrap(), |w| w.id), [all[2]]);
}

async fn long_urls(f: Fixture) {
    let url = format!("http://receiver.example/{}", "x".repeat(5000));
    f.webhooks.add(f.webhook(0, Event::Incoming, &url)).await.unwrap();
    f.webhooks.add(f.webhook(0, Event::Incoming, &url)).await.unwrap();
    let webhooks = f.claim(10).await;
    assert_eq!((webhooks.len(), webhooks[0].url.as_str()), (1, url.as_str()));
    f.finish(&webhooks[0], 200, f.done()).await;
    assert_eq!(f.claim(10).await.len(), 1);
}

#[test]
fn events_have_names() {
    for event in Event::ALL {
        assert_eq!(event.name().parse(), Ok(event));
    }
    assert!("Incoming".parse::<Event>().is_err());
}
