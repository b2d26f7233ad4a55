//! Connections between requests.

use super::url::{Url, UrlHost};
use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::SendRequest;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How long a connection is kept that nobody uses.
const IDLE: Duration = Duration::from_secs(5);

/// How many are kept for each host.
const PER_HOST: usize = 2;

/// How many are kept in all.
const IN_ALL: usize = 100;

/// Who is at the other end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    https: bool,
    host: UrlHost,
    port: u16,
}

impl Key {
    pub(super) fn of(url: &Url) -> Self {
        Self { https: url.https, host: url.host.clone(), port: url.port }
    }
}

#[derive(Debug)]
struct Idle {
    connection: SendRequest<Full<Bytes>>,
    since: Instant,
}

/// Idle connections.
#[derive(Debug, Default)]
pub(super) struct Pool(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    idle: BTreeMap<Key, Vec<Idle>>,
    /// Whether somebody is expiring.
    expiring: bool,
}

impl Pool {
    fn state(&self) -> MutexGuard<'_, State> {
        // The state is whole between statements, also when somebody panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection used last, if one is open and not too old.
    pub(super) fn take(&self, key: &Key) -> Option<SendRequest<Full<Bytes>>> {
        let mut state = self.state();
        let idle = state.idle.get_mut(key)?;
        let mut found = None;
        while let Some(last) = idle.pop() {
            if last.since.elapsed() < IDLE && !last.connection.is_closed() {
                found = Some(last.connection);
                break;
            }
        }
        if idle.is_empty() {
            state.idle.remove(key);
        }
        found
    }

    /// Keeps a connection, if there is room. True when the caller is to see to [`Pool::expire`].
    pub(super) fn give(&self, key: Key, connection: SendRequest<Full<Bytes>>) -> bool {
        let mut state = self.state();
        let all: usize = state.idle.values().map(Vec::len).sum();
        let idle = state.idle.entry(key).or_default();
        if all < IN_ALL && idle.len() < PER_HOST {
            idle.push(Idle { connection, since: Instant::now() });
        }
        !std::mem::replace(&mut state.expiring, true)
    }

    /// Closes connections that are idle for too long, until there are none.
    pub(super) async fn expire(&self) {
        loop {
            tokio::time::sleep(IDLE).await;
            let mut state = self.state();
            for idle in state.idle.values_mut() {
                idle.retain(|idle| idle.since.elapsed() < IDLE && !idle.connection.is_closed());
            }
            state.idle.retain(|_, idle| !idle.is_empty());
            if state.idle.is_empty() {
                state.expiring = false;
                return;
            }
        }
    }

    pub(super) fn clear(&self) {
        self.state().idle.clear();
    }
}
