//! The services of a running server, and what they share.

use super::directory::directory;
use super::listeners::{Endpoint, Service};
use super::startup::{Mode, Startup};
use super::{Life, accounts};
use crate::log::Log;
use mox_base::{Address, Clock, Random};
use mox_config::{Live, Snapshot};
use mox_httpd::{ConnectionLabels, Metrics};
use mox_net::listen::{self, Serving};
use mox_net::{Listener, Stream};
use mox_store::db::{Env, Location, NoFaults};
use mox_store::directory::SharedDirectory;
use mox_store::queue::Queue;
use mox_store::{Settings, Store};
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore};

/// The most connections served at once, over all services.
const CONNECTIONS: usize = 20_000;

/// Reads of the queue at once.
const QUEUE_READERS: usize = 4;

/// How long an account stays open that nobody uses.
const ACCOUNT_IDLE: Duration = Duration::from_secs(60);

/// What the services share.
pub(super) struct Shared {
    pub(super) live: Arc<Live>,
    pub(super) log: Log,
    pub(super) data_dir: PathBuf,
    pub(super) store: Store,
    pub(super) queue: Queue,
    pub(super) directory: SharedDirectory,
    pub(super) metrics: Arc<Metrics>,
    /// Asks for a look at domains.conf.
    pub(super) reload_now: Notify,
    /// For localserve: who gets what nobody else gets.
    everything: Option<Address>,
}

impl Shared {
    /// Takes a new dynamic configuration into use. Accounts come first, so that no address leads to one that isn't there.
    pub(super) async fn apply(&self, snapshot: &Snapshot) -> Result<(), String> {
        let settings = self.live.settings();
        let directory = directory(settings, snapshot, self.everything.clone()).map_err(|e| e.to_string())?;
        accounts::ensure(&self.store, settings, &snapshot.dynamic).await?;
        self.directory.replace(directory);
        Ok(())
    }

    /// Sets an account's password.
    pub(super) async fn set_password(&self, account: &str, _password: &str) -> Result<(), String> {
        self.store.account(account).await.map_err(|e| e.to_string())?;
        Err("setting passwords is not possible yet".to_owned())
    }
}

/// Everything that runs.
pub(super) struct Services {
    pub(super) shared: Arc<Shared>,
    pub(super) sockets: Vec<(Service, SocketAddr)>,
}

impl Services {
    /// Opens the store and starts what serves.
    pub(super) async fn start(startup: Startup, clock: Arc<dyn Clock>, random: Arc<dyn Random>, life: &Life) -> Result<Self, String> {
        let Startup { mode, live, log, pedantic: _, data_dir, endpoints, mut sockets, certs } = startup;
        let mut metrics = Metrics::new();
        log.counts.register(metrics.registry_mut());
        let metrics = Arc::new(metrics);

        let store = Store::open(Settings::sqlite(&data_dir), clock, random).await.map_err(|e| format!("opening store: {e}"))?;
        let queue = open_queue(&store, &data_dir).await?;
        let snapshot = live.snapshot();
        let everything = match mode {
            Mode::Serve => None,
            Mode::Localserve { .. } => "mox@localhost".parse::<Address>().ok(),
        };
        let directory = directory(live.settings(), &snapshot, everything.clone()).map_err(|e| e.to_string())?;
        accounts::ensure(&store, live.settings(), &snapshot.dynamic).await?;
        close_idle_accounts(store.clone(), life);

        let shared = Arc::new(Shared {
            live,
            log,
            data_dir,
            store,
            queue,
            directory: SharedDirectory::new(directory),
            metrics: Arc::clone(&metrics),
            reload_now: Notify::new(),
            everything,
        });
        let connections = Arc::new(Semaphore::new(CONNECTIONS));
        let serving = Serving { tracker: life.connections.clone(), stop: life.stop.clone(), connections };
        let mut listening = Vec::new();
        for endpoint in endpoints {
            let tls = super::tls::of_socket(shared.live.settings(), &certs, &endpoint).map_err(|e| e.to_string())?;
            let listener = sockets.listener(endpoint.addr).map_err(|e| e.to_string())?;
            let addr = listener.local_addr();
            tracing::info!(service = %endpoint.service, listener = endpoint.listener, %addr, "listening");
            listening.push((endpoint.service, addr));
            match endpoint.service {
                Service::Metrics => {
                    life.connections.spawn(mox_httpd::serve(listener, Arc::clone(&metrics), serving.clone()));
                }
                _ => drop(tls),
            }
        }
        Ok(Self { shared, sockets: listening })
    }

    /// Ends what has a state of its own.
    pub(super) async fn close(self) {
        self.shared.queue.close().await;
        self.shared.store.close().await;
    }
}

/// Opens the queue: a file of its own, so that queueing waits for no account.
async fn open_queue(store: &Store, data_dir: &Path) -> Result<Queue, String> {
    let env = Env {
        runtime: Handle::current(),
        clock: Arc::clone(store.clock()),
        faults: Arc::new(NoFaults),
        readers: Arc::new(Semaphore::new(QUEUE_READERS)),
    };
    let opened = Queue::open(env, Location::Sqlite(data_dir.join("queue.db")), data_dir.join("queue")).await;
    opened.map_err(|e| format!("opening queue: {e}"))
}

/// Lets go of accounts that nobody uses.
fn close_idle_accounts(store: Store, life: &Life) {
    let finish = life.finish.clone();
    life.background.spawn(async move {
        loop {
            tokio::select! {
                () = finish.cancelled() => return,
                () = tokio::time::sleep(ACCOUNT_IDLE) => store.close_idle(ACCOUNT_IDLE).await,
            }
        }
    });
}

/// Accepts connections of a service, each with a task that ends when it has served or when everything is cut off.
pub(super) fn accept<F>(listener: Listener, endpoint: &Endpoint, serving: &Serving, life: &Life, metrics: &Arc<Metrics>, serve: impl Fn(Stream) -> F + Send + 'static)
where
    F: Future<Output = ()> + Send + 'static,
{
    let labels = ConnectionLabels { protocol: endpoint.service.to_string(), listener: endpoint.listener.clone() };
    let (cut, metrics) = (life.cut.clone(), Arc::clone(metrics));
    let handle = move |stream: Stream| {
        let (session, cut, open) = (serve(stream), cut.clone(), metrics.open_connection(&labels));
        async move {
            tokio::select! {
                () = session => {}
                () = cut.cancelled() => {}
            }
            drop(open);
        }
    };
    life.connections.spawn(listen::serve(listener, serving.clone(), handle));
}
