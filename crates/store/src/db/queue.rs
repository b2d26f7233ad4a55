//! Write closures as jobs, and the queue in which they wait.

use super::{Error, Scope, Tx};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// A closure that waits to be run in a transaction, and then for that transaction's commit.
pub(super) trait Job<S: Scope>: Send {
    /// Runs it; whether its work is to be kept.
    fn run(&mut self, tx: &Tx<'_>, ctx: &mut S::Ctx) -> bool;

    /// Tells the caller, after the commit or its failure.
    fn answer(self: Box<Self>, failure: Option<Error>);
}

pub(super) type BoxJob<S> = Box<dyn Job<S>>;

/// A closure with the place for its answer.
pub(super) struct Call<F, T, E> {
    pub(super) run: Option<F>,
    pub(super) result: Option<Result<T, E>>,
    pub(super) reply: oneshot::Sender<Result<T, E>>,
    /// Its place in the bounded queue, free again when it is done.
    pub(super) permit: OwnedSemaphorePermit,
}

impl<S, F, T, E> Job<S> for Call<F, T, E>
where
    S: Scope,
    F: FnMut(&Tx<'_>, &mut S::Ctx) -> Result<T, E> + Send,
    T: Send,
    E: From<Error> + Send,
{
    fn run(&mut self, tx: &Tx<'_>, ctx: &mut S::Ctx) -> bool {
        let Some(run) = self.run.as_mut() else { return false };
        tx.clear_failed();
        // A bug in one closure must not take down the closures that share its transaction.
        let result = catch_unwind(AssertUnwindSafe(|| run(tx, ctx))).unwrap_or_else(|_| Err(Error::Panicked.into()));
        let result = if result.is_ok() && tx.failed() { Err(Error::Ignored.into()) } else { result };
        let keep = result.is_ok();
        self.result = Some(result);
        keep
    }

    fn answer(self: Box<Self>, failure: Option<Error>) {
        let result = match (self.result, failure) {
            (Some(Err(e)), _) => Err(e),
            (_, Some(failure)) => Err(failure.into()),
            (Some(Ok(value)), None) => Ok(value),
            (None, None) => Err(Error::Closed.into()),
        };
        drop(self.permit);
        // Nobody may be waiting any more; the work is done all the same.
        drop(self.reply.send(result));
    }
}

/// Waiting jobs, and whether a thread is working on them.
pub(super) struct Queue<S: Scope> {
    state: Mutex<State<S>>,
}

struct State<S: Scope> {
    jobs: VecDeque<BoxJob<S>>,
    running: bool,
    closed: bool,
}

/// What is to be done after a job was queued.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    /// Nothing: a thread is at work and will come to it.
    Waits,
    /// Start a thread.
    Start,
}

impl<S: Scope> Queue<S> {
    pub(super) fn new() -> Self {
        Self { state: Mutex::new(State { jobs: VecDeque::new(), running: false, closed: false }) }
    }

    fn lock(&self) -> MutexGuard<'_, State<S>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a job, or gives it back when closed.
    pub(super) fn push(&self, job: BoxJob<S>) -> Result<Pushed, BoxJob<S>> {
        let mut state = self.lock();
        if state.closed {
            return Err(job);
        }
        state.jobs.push_back(job);
        if state.running {
            return Ok(Pushed::Waits);
        }
        state.running = true;
        Ok(Pushed::Start)
    }

    /// The next job; without one, the thread that asks is no longer expected to work.
    pub(super) fn next_or_stop(&self) -> Option<BoxJob<S>> {
        let mut state = self.lock();
        let job = state.jobs.pop_front();
        state.running = job.is_some();
        job
    }

    /// Whether there is no job left; then the thread that asks is no longer expected to work.
    pub(super) fn stop_if_empty(&self) -> bool {
        let mut state = self.lock();
        state.running = !state.jobs.is_empty();
        !state.running
    }

    /// The next job, if there is one now.
    pub(super) fn next(&self) -> Option<BoxJob<S>> {
        self.lock().jobs.pop_front()
    }

    /// Refuses jobs from now on. Those that wait are still done.
    pub(super) fn close(&self) {
        self.lock().closed = true;
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    pub(super) fn is_idle(&self) -> bool {
        let state = self.lock();
        !state.running && state.jobs.is_empty()
    }
}
