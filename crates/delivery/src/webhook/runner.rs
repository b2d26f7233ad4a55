//! The scheduler of webhooks: calls what is due, few at once and at most one for each URL, and records what comes of it.

use super::call::{Call, TIMEOUT};
use super::keep_retired;
use super::metrics::Metrics;
use super::schedule::{Schedule, jitter, retry_after};
use mox_base::{Clock, Random, Timestamp};
use mox_net::http::Client;
use mox_store::db::Error;
use mox_store::directory::SharedDirectory;
use mox_store::queue::Owner;
use mox_store::webhook::{CallResult, Claiming, Ending, Outcome, Webhook, Webhooks};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Calls at once.
const MAX_RUNNING: usize = 10;

/// How long a claim holds: longer than a call can take.
const LEASE: Duration = TIMEOUT.saturating_mul(3);

/// The database is asked at least this often: other servers and changes of the clock wake nobody.
const MAX_SLEEP: Duration = Duration::from_secs(60);

const SHORT_SLEEP: Duration = Duration::from_millis(10);

/// A pause after an error of the database.
const ERROR_PAUSE: Duration = Duration::from_secs(1);

const FIRST_CLEANUP: Duration = Duration::from_secs(4);
const CLEANUP_EVERY: Duration = Duration::from_secs(3600);

/// What a runner needs.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The webhooks.
    pub webhooks: Webhooks,
    /// Where accounts say how long finished ones are kept.
    pub directory: SharedDirectory,
    /// What calls are made with.
    pub client: Client,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub random: Arc<dyn Random>,
    /// What is counted.
    pub metrics: Metrics,
    /// What is sent as User-Agent.
    pub agent: String,
    /// When failed calls are made again.
    pub schedule: Schedule,
}

/// Calls webhooks. Clones share it.
#[derive(Clone, Debug)]
pub struct Runner {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    parts: Parts,
    owner: Owner,
}

impl Runner {
    /// A runner.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let owner = Owner(parts.random.u64().cast_signed());
        Self { inner: Arc::new(Inner { parts, owner }) }
    }

    /// Runs until `shutdown`: then no call begins, and those that run are ended.
    pub async fn run(&self, shutdown: CancellationToken) {
        let mut calls = JoinSet::new();
        let mut cleanup = tokio::time::interval_at(tokio::time::Instant::now() + FIRST_CLEANUP, CLEANUP_EVERY);
        while !shutdown.is_cancelled() {
            let pause = match self.start_or_wait(&mut calls, &shutdown).await {
                Ok(pause) => pause,
                Err(e) => {
                    tracing::error!(error = %e, "looking for due webhooks");
                    ERROR_PAUSE
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = self.inner.parts.webhooks.changed() => {}
                () = tokio::time::sleep(pause) => {}
                Some(ended) = calls.join_next() => ended_well(ended),
                _ = cleanup.tick() => self.cleanup().await,
            }
        }
        while let Some(ended) = calls.join_next().await {
            ended_well(ended);
        }
        self.inner.parts.client.close();
    }

    /// Calls all that is due now, and what becomes due by that, and waits for it; how many calls were begun for it. For tests and
    /// tools, which have their own idea of time.
    ///
    /// # Errors
    /// The database failed.
    pub async fn run_due(&self) -> Result<usize, Error> {
        let (mut calls, never) = (JoinSet::new(), CancellationToken::new());
        let mut count: usize = 0;
        loop {
            count = count.saturating_add(self.start_due(&mut calls, &never).await?);
            match calls.join_next().await {
                Some(ended) => ended_well(ended),
                None => return Ok(count),
            }
        }
    }

    /// Starts what is due while there is room; then, how long nothing needs to be done.
    async fn start_or_wait(&self, calls: &mut JoinSet<()>, shutdown: &CancellationToken) -> Result<Duration, Error> {
        while calls.len() < MAX_RUNNING {
            let now = self.inner.now();
            let Some(next) = self.inner.parts.webhooks.next_due(now).await? else { return Ok(MAX_SLEEP) };
            if next > now {
                return Ok(next.since(now).clamp(SHORT_SLEEP, MAX_SLEEP));
            }
            if self.start_due(calls, shutdown).await? == 0 {
                // Another server was faster, or what was due waits for an earlier one.
                return Ok(SHORT_SLEEP);
            }
        }
        Ok(MAX_SLEEP)
    }

    /// Starts as many calls as there is room for.
    async fn start_due(&self, calls: &mut JoinSet<()>, shutdown: &CancellationToken) -> Result<usize, Error> {
        let free = MAX_RUNNING.saturating_sub(calls.len());
        let (jitter, schedule) = (jitter(&*self.inner.parts.random), self.inner.parts.schedule.clone());
        let claimed = self.inner.parts.webhooks.claim(self.inner.claiming(free), move |before| schedule.backoff(jitter, before)).await?;
        let started = claimed.len();
        for webhook in claimed {
            let (inner, shutdown) = (Arc::clone(&self.inner), shutdown.clone());
            calls.spawn(async move { inner.call(webhook, &shutdown).await });
        }
        Ok(started)
    }

    async fn cleanup(&self) {
        match self.inner.parts.webhooks.remove_expired(self.inner.now()).await {
            Ok(0) => {}
            Ok(count) => tracing::debug!(count, "retired webhooks forgotten"),
            Err(e) => tracing::error!(error = %e, "removing retired webhooks"),
        }
    }
}

/// A panic ends a call without a result: its URL's lease ends by itself.
fn ended_well(ended: Result<(), tokio::task::JoinError>) {
    if let Err(e) = ended {
        tracing::error!(error = %e, "webhook call panicked");
    }
}

impl Inner {
    fn now(&self) -> Timestamp {
        self.parts.clock.now()
    }

    fn claiming(&self, max: usize) -> Claiming {
        Claiming { owner: self.owner, now: self.now(), max, lease: LEASE }
    }

    /// Calls a webhook, and as long as there is one, the next that is due.
    async fn call(&self, mut webhook: Webhook, shutdown: &CancellationToken) {
        loop {
            let (result, ending) = self.attempt(&webhook, shutdown).await;
            let outcome = Outcome { id: webhook.id, url: webhook.url.clone(), result, ending };
            match self.record(outcome, shutdown).await {
                Some(next) => webhook = next,
                None => return,
            }
        }
    }

    async fn attempt(&self, webhook: &Webhook, shutdown: &CancellationToken) -> (CallResult, Ending) {
        let keep = keep_retired(self.parts.directory.current().account(&webhook.account).map(AsRef::as_ref));
        let retire = |result: &CallResult, success| {
            let done = result.start.after(result.duration);
            Ending::Retire { success, keep_until: keep.map(|period| done.after(period)) }
        };
        if webhook.attempts > self.parts.schedule.attempts() {
            // The server ended during the last attempt.
            let result = self.without_answer(webhook, "no answer known of the last attempt");
            let ending = retire(&result, false);
            return (result, ending);
        }
        let call = Call {
            id: webhook.id,
            attempt: webhook.attempts,
            url: &webhook.url,
            authorization: webhook.authorization.as_ref(),
            secret: webhook.secret.as_ref(),
            payload: &webhook.payload,
        };
        let called = tokio::select! {
            called = call.make(&self.parts.client, &*self.parts.clock, &self.parts.agent) => called,
            () = shutdown.cancelled() => {
                return (self.without_answer(webhook, "interrupted by shutdown"), Ending::Retry);
            }
        };
        let result = called.result;
        self.parts.metrics.called(&result);
        let (id, attempt, event, code) = (webhook.id.0, webhook.attempts, webhook.event.name(), result.code);
        if result.success {
            tracing::info!(id, attempt, event, code, "webhook delivered");
        } else {
            tracing::info!(id, attempt, event, code, error = result.error, "webhook failed");
        }
        // RFC 9110 §15.5.11: gone, for good.
        let ending = if result.success || result.code == 410 || webhook.attempts >= self.parts.schedule.attempts() {
            retire(&result, result.success)
        } else {
            // RFC 6585 §4, RFC 9110 §15.6.4.
            let asked = called.retry_after.filter(|_| matches!(result.code, 429 | 503));
            asked.and_then(|value| retry_after(&value, self.now())).map_or(Ending::Retry, Ending::RetryAt)
        };
        (result, ending)
    }

    fn without_answer(&self, webhook: &Webhook, error: &str) -> CallResult {
        CallResult {
            start: self.now(),
            duration: Duration::ZERO,
            url: webhook.url.clone(),
            success: false,
            code: 0,
            error: error.to_owned(),
            response: String::new(),
        }
    }

    /// Records a result, again and again until it is done: what was delivered but isn't recorded would be delivered again.
    async fn record(&self, outcome: Outcome, shutdown: &CancellationToken) -> Option<Webhook> {
        loop {
            let (jitter, schedule) = (jitter(&*self.parts.random), self.parts.schedule.clone());
            let more = usize::from(!shutdown.is_cancelled());
            match self.parts.webhooks.finish(outcome.clone(), self.claiming(more), move |before| schedule.backoff(jitter, before)).await {
                Ok((_, mut next)) => return next.pop(),
                Err(e) => tracing::error!(error = %e, id = outcome.id.0, "recording the result of a webhook"),
            }
            tokio::select! {
                () = shutdown.cancelled() => return None,
                () = tokio::time::sleep(ERROR_PAUSE) => {}
            }
        }
    }
}
