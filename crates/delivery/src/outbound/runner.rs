//! The scheduler: starts attempts when entries are due, few at once, and ends them when the server does.

use super::aftermath::AccountAftermath;
use super::attempt::{Kept, attempt};
use super::pressure::Pressure;
use super::process::{Took, interrupted, process};
use super::signatures::Signatures;
use super::sources::Refusals;
use super::{Inner, Ports, Settings, SharedRouting};
use crate::copies;
use crate::metrics::Metrics;
use mox_base::QueueId;
use mox_store::Store;
use mox_store::db::Error;
use mox_store::directory::SharedDirectory;
use mox_store::queue::{Claim, Claiming, Filter, HeldEntry, HoldReason, Outcome, Owner, Queue};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;

/// How long a claim holds if the server that made it is gone. Claims of running attempts are renewed.
const LEASE: Duration = Duration::from_secs(300);

const RENEW_EVERY: Duration = Duration::from_secs(60);

/// The database is asked at least this often: other servers and changes of the clock wake nobody.
const MAX_SLEEP: Duration = Duration::from_secs(60);

const SHORT_SLEEP: Duration = Duration::from_millis(10);

/// A pause after an error of the database.
const ERROR_PAUSE: Duration = Duration::from_secs(1);

/// Held entries looked at at once.
const HELD_PAGE: u64 = 500;

/// Attempts for one domain in a row, so that other domains have their turn.
const MAX_IN_A_ROW: u32 = 100;

const FIRST_CLEANUP: Duration = Duration::from_secs(3);
const CLEANUP_EVERY: Duration = Duration::from_secs(3600);

/// Delivers what is in the queue. Clones share it.
#[derive(Clone, Debug)]
pub struct Runner {
    inner: Arc<Inner>,
}

/// Running attempts.
#[derive(Debug)]
struct Attempts {
    tasks: JoinSet<()>,
    /// The domain of each, for when it panics.
    domains: BTreeMap<Id, String>,
    shutdown: CancellationToken,
}

impl Runner {
    /// A runner for a queue, filing DSNs into a store.
    pub fn new(
        queue: Queue,
        store: Store,
        directory: SharedDirectory,
        routing: SharedRouting,
        settings: Settings,
        ports: Ports,
        metrics: Metrics,
    ) -> Self {
        let owner = Owner(ports.random.u64().cast_signed());
        let aftermath = Arc::new(AccountAftermath::new(directory.clone()));
        let pressure = Pressure::new(settings.max_per_host);
        Self {
            inner: Arc::new(Inner {
                queue,
                store,
                directory,
                routing,
                settings,
                ports,
                metrics,
                owner,
                aftermath,
                pressure,
                refusals: Refusals::default(),
                signatures: Signatures::default(),
                turn: AtomicU64::new(0),
            }),
        }
    }

    pub(super) fn inner(&self) -> &Inner {
        &self.inner
    }

    /// Runs until `shutdown`: then no attempt begins, those that run are told to stop, and are awaited.
    pub async fn run(&self, shutdown: CancellationToken) {
        let mut attempts = Attempts { tasks: JoinSet::new(), domains: BTreeMap::new(), shutdown: shutdown.clone() };
        let mut renew = tokio::time::interval(RENEW_EVERY);
        let mut cleanup = tokio::time::interval_at(tokio::time::Instant::now() + FIRST_CLEANUP, CLEANUP_EVERY);
        self.file_copies().await;
        while !shutdown.is_cancelled() {
            if self.inner.queue.hold_changed() {
                self.count_held().await;
            }
            let pause = match self.start_or_wait(&mut attempts).await {
                Ok(pause) => pause,
                Err(e) => {
                    tracing::error!(error = %e, "looking for due entries of the queue");
                    ERROR_PAUSE
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = self.inner.queue.changed() => {}
                () = tokio::time::sleep(pause) => {}
                Some(ended) = attempts.tasks.join_next_with_id() => self.ended(&mut attempts, ended).await,
                _ = renew.tick() => {
                    self.renew(&attempts).await;
                    // Other servers hold entries, too.
                    self.release_held().await;
                    self.count_held().await;
                    self.file_copies().await;
                }
                _ = cleanup.tick() => self.cleanup().await,
            }
        }
        while let Some(ended) = attempts.tasks.join_next_with_id().await {
            self.ended(&mut attempts, ended).await;
        }
    }

    /// Delivers all that is due now, and what becomes due by that, and waits for it; the number of connections' worth of attempts. For tests
    /// and tools, which have their own idea of time.
    ///
    /// # Errors
    /// The database failed.
    pub async fn run_due(&self) -> Result<usize, Error> {
        let mut attempts = Attempts { tasks: JoinSet::new(), domains: BTreeMap::new(), shutdown: CancellationToken::new() };
        let mut count: usize = 0;
        loop {
            count = count.saturating_add(self.start_due(&mut attempts).await?);
            match attempts.tasks.join_next_with_id().await {
                Some(ended) => self.ended(&mut attempts, ended).await,
                None => return Ok(count),
            }
        }
    }

    /// Starts what is due while there is room; then, how long nothing needs to be done.
    async fn start_or_wait(&self, attempts: &mut Attempts) -> Result<Duration, Error> {
        while attempts.tasks.len() < self.inner.settings.max_running {
            let now = self.inner.now();
            // Reading first: each submission wakes us, mostly while its domain is busy, and writers wait for each other.
            let Some(next) = self.inner.queue.next_due(now).await? else { return Ok(MAX_SLEEP) };
            if next > now {
                return Ok(next.since(now).clamp(SHORT_SLEEP, MAX_SLEEP));
            }
            if self.start_due(attempts).await? == 0 {
                // Another server was faster.
                return Ok(SHORT_SLEEP);
            }
        }
        Ok(MAX_SLEEP)
    }

    /// Starts as many attempts as there is room for.
    async fn start_due(&self, attempts: &mut Attempts) -> Result<usize, Error> {
        if self.inner.pressure.must_remember() {
            let now = self.inner.now();
            match self.inner.queue.pauses(now).await {
                Ok(pauses) => self.inner.pressure.remember(pauses, now, self.inner.ports.clock.monotonic()),
                Err(e) => tracing::warn!(error = %e, "reading the pauses that hosts asked for before the start"),
            }
        }
        let free = self.inner.settings.max_running.saturating_sub(attempts.tasks.len());
        let turn = self.inner.turn.load(Ordering::Relaxed);
        let claiming = Claiming { owner: self.inner.owner, now: self.inner.now(), domains: free, lease: LEASE, turn };
        let claims = self.inner.queue.claim(claiming, self.inner.backoff()).await?;
        let started = claims.len();
        self.inner.turn.fetch_add(u64::try_from(started).unwrap_or(0), Ordering::Relaxed);
        for claim in claims {
            let domain = claim.domain();
            let (inner, shutdown) = (Arc::clone(&self.inner), attempts.shutdown.clone());
            let task = attempts.tasks.spawn(async move { deliver(&inner, claim, &shutdown).await });
            attempts.domains.insert(task.id(), domain);
        }
        Ok(started)
    }

    /// A panic must not keep a domain busy.
    async fn ended(&self, attempts: &mut Attempts, ended: Result<(Id, ()), tokio::task::JoinError>) {
        let (id, panicked) = match ended {
            Ok((id, ())) => (id, false),
            Err(e) => {
                tracing::error!(error = %e, "delivery attempt panicked");
                (e.id(), true)
            }
        };
        let domain = attempts.domains.remove(&id);
        if let Some(domain) = domain.filter(|_| panicked)
            && let Err(e) = self.inner.queue.release(domain.clone(), self.inner.owner).await
        {
            tracing::error!(error = %e, domain, "releasing the domain of a panicked attempt; its lease ends by itself");
        }
    }

    async fn renew(&self, attempts: &Attempts) {
        let until = self.inner.now().after(LEASE);
        for domain in attempts.domains.values() {
            if let Err(e) = self.inner.queue.renew(domain.clone(), self.inner.owner, until).await {
                tracing::error!(error = %e, domain, "renewing the lease of a domain");
            }
        }
    }

    /// Lets entries go that the server held by itself, when what they need is there again.
    pub(super) async fn release_held(&self) {
        if let Err(e) = self.try_release_held().await {
            tracing::error!(error = %e, "looking for entries of the queue that needn't be held any more");
        }
    }

    async fn try_release_held(&self) -> Result<(), Error> {
        let inner = &self.inner;
        let mut last = QueueId(0);
        loop {
            let held = inner.queue.held_for_reasons(last, HELD_PAGE).await?;
            let Some(newest) = held.last() else { return Ok(()) };
            last = newest.id;
            let (directory, routing) = (inner.directory.current(), inner.routing.current());
            let can_go = |entry: &&HeldEntry| match entry.reason {
                HoldReason::Transport => entry.transport.is_empty() || routing.transports.contains_key(&entry.transport),
                HoldReason::SenderDomain => {
                    let settings = entry.sender_domain.as_ref().and_then(|domain| directory.domain(domain));
                    settings.is_none_or(|domain| !domain.disabled)
                }
            };
            let ids: Vec<QueueId> = held.iter().filter(can_go).map(|entry| entry.id).collect();
            if !ids.is_empty() {
                tracing::info!(count = ids.len(), "entries of the queue are no longer held");
                inner.queue.set_hold(Filter { ids, ..Filter::default() }, false).await?;
            }
        }
    }

    /// Files what is left of Sent copies.
    async fn file_copies(&self) {
        let inner = &self.inner;
        copies::file_waiting(&inner.queue, &inner.store, &inner.directory.current(), &inner.settings.spool).await;
    }

    async fn cleanup(&self) {
        match self.inner.queue.remove_expired(self.inner.now()).await {
            Ok(0) => {}
            Ok(count) => tracing::debug!(count, "retired entries of the queue forgotten"),
            Err(e) => tracing::error!(error = %e, "removing retired entries of the queue"),
        }
    }

    /// Brings the gauge of held entries up to date; to be called after they were changed.
    pub async fn count_held(&self) {
        if let Ok(held) = self.inner.queue.held().await {
            self.inner.metrics.hold.set(i64::try_from(held).unwrap_or(i64::MAX));
        }
    }
}

/// Attempts from their beginning to their record: one, and as long as all is well, a number of further ones over the same connection.
async fn deliver(inner: &Inner, mut claim: Claim, shutdown: &CancellationToken) {
    let (mut kept, mut made) = (None, 0);
    loop {
        let attempted = timed_attempt(inner, &claim, kept.take(), shutdown).await;
        made += 1;
        let go_on = attempted.kept.is_some() && made < MAX_IN_A_ROW;
        let Some(next) = record(inner, &claim, attempted.outcomes, go_on, shutdown).await else {
            // Only now: waiting for the reply to QUIT must not keep a delivery from being recorded.
            if let Some(kept) = attempted.kept {
                kept.quit().await;
            }
            return;
        };
        claim = next;
        kept = attempted.kept;
    }
}

struct Attempt {
    outcomes: Vec<Outcome>,
    kept: Option<Kept>,
}

async fn timed_attempt(inner: &Inner, claim: &Claim, kept: Option<Kept>, shutdown: &CancellationToken) -> Attempt {
    let clock = &inner.ports.clock;
    let (start, began) = (clock.now(), clock.monotonic());
    let attempted = attempt(inner, claim, kept, shutdown).await;
    let took = Took { start, duration: clock.monotonic().saturating_sub(began) };
    match attempted {
        Some(mut attempted) => {
            let kept = attempted.kept.take();
            Attempt { outcomes: process(inner, claim, attempted, took).await, kept }
        }
        None => Attempt { outcomes: interrupted(claim, took), kept: None },
    }
}

/// Records outcomes, again and again until it is done: what was delivered but isn't recorded would be delivered again.
/// With `go_on`, the domain's next group, if one is due.
async fn record(inner: &Inner, claim: &Claim, outcomes: Vec<Outcome>, go_on: bool, shutdown: &CancellationToken) -> Option<Claim> {
    let domain = claim.domain();
    loop {
        let recorded = if go_on && !shutdown.is_cancelled() {
            let turn = inner.turn.fetch_add(1, Ordering::Relaxed);
            let claiming = Claiming { owner: inner.owner, now: inner.now(), domains: 1, lease: LEASE, turn };
            let finishing = inner.queue.finish_and_claim(domain.clone(), claiming, inner.backoff(), outcomes.clone(), inner.aftermath());
            finishing.await.map(|(_, next)| next)
        } else {
            inner.queue.finish(domain.clone(), inner.owner, outcomes.clone(), inner.aftermath()).await.map(|_| None)
        };
        match recorded {
            Ok(next) => return next,
            Err(e) => tracing::error!(error = %e, domain, "recording the outcome of a delivery attempt"),
        }
        tokio::select! {
            () = shutdown.cancelled() => return None,
            () = tokio::time::sleep(ERROR_PAUSE) => {}
        }
    }
}
