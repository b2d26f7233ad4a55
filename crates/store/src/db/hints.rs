//! Hints between processes that share a PostgreSQL: which accounts one has changed, so that the others look.
//!
//! A hint tells nothing but “look at this account”. It may be lost: who writes always looks for itself, and whoever couldn't listen for
//! a while looks at everything. Hints are sent beside the transactions, some milliseconds later and many at once, because
//! NOTIFY within them would make all commits of the database take turns.

use super::{Error, PgPool};
use std::collections::BTreeSet;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_postgres::{AsyncMessage, Client};

/// How long hints are collected before they are sent.
const COLLECT: Duration = Duration::from_millis(10);

/// Before connecting again.
const PAUSE: Duration = Duration::from_secs(1);

/// Accounts in one message: PostgreSQL takes 8,000 bytes.
const PER_MESSAGE: usize = 300;

/// What others have changed.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// These accounts.
    pub(crate) accounts: BTreeSet<i64>,
    /// Nobody knows which: all of them.
    pub(crate) all: bool,
}

/// Sends and receives hints, until dropped.
#[derive(Debug)]
pub(crate) struct Hints {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    pool: Arc<PgPool>,
    /// Tells our own hints from those of others.
    process: String,
    changed: Mutex<BTreeSet<i64>>,
    to_send: Notify,
    heard: Mutex<Heard>,
    to_look_at: Notify,
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where an account says that it has changed.
#[derive(Clone, Debug)]
pub(crate) struct Teller(Arc<Shared>);

impl Teller {
    pub(crate) fn changed(&self, account: i64) {
        lock(&self.0.changed).insert(account);
        self.0.to_send.notify_one();
    }
}

/// Where others' hints arrive.
#[derive(Clone, Debug)]
pub(crate) struct Listener(Arc<Shared>);

impl Listener {
    /// Waits for hints.
    pub(crate) async fn next(&self) -> Heard {
        loop {
            self.0.to_look_at.notified().await;
            let heard = std::mem::take(&mut *lock(&self.0.heard));
            if heard.all || !heard.accounts.is_empty() {
                return heard;
            }
        }
    }
}

impl Hints {
    /// Starts sending and listening. `process` tells this process from others.
    pub(crate) fn new(pool: Arc<PgPool>, process: String) -> Self {
        let runtime = pool.runtime().clone();
        let shared = Arc::new(Shared {
            pool,
            process,
            changed: Mutex::default(),
            to_send: Notify::new(),
            heard: Mutex::default(),
            to_look_at: Notify::new(),
        });
        let tasks = vec![runtime.spawn(send(Arc::clone(&shared))), runtime.spawn(listen(Arc::clone(&shared)))];
        Self { shared, tasks }
    }

    pub(crate) fn teller(&self) -> Teller {
        Teller(Arc::clone(&self.shared))
    }

    pub(crate) fn listener(&self) -> Listener {
        Listener(Arc::clone(&self.shared))
    }

    /// Ends both.
    pub(crate) fn stop(&self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Drop for Hints {
    fn drop(&mut self) {
        self.stop();
        // Whoever follows looks, and finds nothing to follow.
        lock(&self.shared.heard).all = true;
        self.shared.to_look_at.notify_one();
    }
}

async fn send(shared: Arc<Shared>) {
    let mut client: Option<Client> = None;
    loop {
        shared.to_send.notified().await;
        tokio::time::sleep(COLLECT).await;
        let accounts = std::mem::take(&mut *lock(&shared.changed));
        if let Err(e) = send_all(&shared, &mut client, &accounts).await {
            tracing::debug!(error = %e, "telling other processes of changes");
            client = None;
            tokio::time::sleep(PAUSE).await;
            lock(&shared.changed).extend(accounts);
            shared.to_send.notify_one();
        }
    }
}

async fn send_all(shared: &Shared, client: &mut Option<Client>, accounts: &BTreeSet<i64>) -> Result<(), Error> {
    let client = match client {
        Some(client) if !client.is_closed() => client,
        client => client.insert(shared.pool.connect().await?),
    };
    let all: Vec<String> = accounts.iter().map(ToString::to_string).collect();
    for some in all.chunks(PER_MESSAGE) {
        let message = format!("{} {}", shared.process, some.join(" "));
        client.execute("SELECT pg_notify('mox_changed', $1)", &[&message]).await?;
    }
    Ok(())
}

async fn listen(shared: Arc<Shared>) {
    loop {
        if let Err(e) = listen_once(&shared).await {
            tracing::debug!(error = %e, "listening for changes by other processes");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Listens until the connection ends.
async fn listen_once(shared: &Arc<Shared>) -> Result<(), Error> {
    let (client, mut connection) = shared.pool.open().await?;
    let hearing = Arc::clone(shared);
    let mut driver = Driver(shared.pool.runtime().spawn(async move {
        while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
            if let AsyncMessage::Notification(n) = message {
                hearing.hear(n.payload());
            }
        }
    }));
    client.batch_execute("LISTEN mox_changed").await?;
    // What happened before, nobody told us.
    lock(&shared.heard).all = true;
    shared.to_look_at.notify_one();
    // Its end says all there is to say.
    drop((&mut driver.0).await);
    Ok(())
}

/// Ends with whoever waits for it.
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Shared {
    fn hear(&self, message: &str) {
        let mut words = message.split(' ');
        if words.next() == Some(self.process.as_str()) {
            return;
        }
        lock(&self.heard).accounts.extend(words.filter_map(|w| w.parse::<i64>().ok()));
        self.to_look_at.notify_one();
    }
}
