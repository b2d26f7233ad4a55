//! The server put together: from configuration to running services, and down again.
//!
//! [`Startup`] does what must be done first, [`run`] the rest: it opens the store, starts what serves, waits for a reason to stop, and
//! takes everything down in order: no more connections are accepted, sessions are told and finish their command, the queue
//! stops, the store closes. Sessions that take longer than 3 seconds are cut off.

mod accounts;
mod acme;
mod api_keys;
mod config_edit;
mod control;
mod directory;
mod dnsbl;
mod expiry;
mod http;
mod imap;
mod listeners;
mod lock;
mod mtasts;
mod queue;
mod reload;
mod reports;
mod routing;
mod schedules;
mod selectors;
mod services;
mod smtp;
mod startup;
mod storage;
mod tickets;
mod tls;
mod tls_keys;
mod tls_policies;
mod webhooks;

pub(crate) use acme::{hostname_of, listener_keys, provider_of};
pub(crate) use listeners::Service;
#[cfg(test)]
pub(crate) use listeners::endpoints;
pub(crate) use lock::{in_use, try_lock};
pub(crate) use selectors::selectors as signing_selectors;
pub(crate) use startup::{LoadError, Mode, Startup};

use crate::ctl;
use crate::ports::{SystemClock, SystemRandom};
use mox_base::{Clock, Random, Secret};
use mox_store::Store;
use mox_store::credentials::Credentials;
use services::Services;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long sessions may take to end in good order, and then to end at all.
const GRACE: Duration = Duration::from_secs(3);
const CUT: Duration = Duration::from_secs(1);

/// A server that listens.
#[derive(Debug)]
pub(crate) struct Started {
    /// What listens where.
    pub(crate) sockets: Vec<(Service, SocketAddr)>,
    /// Whether the system chose the ports.
    pub(crate) any_ports: bool,
}

/// Makes an account of a configuration with its password, before there is a server.
///
/// # Errors
/// A text for the operator.
pub(crate) fn create_account(config: &Path, account: &str, password: &str) -> Result<(), String> {
    let live = startup::open(config, false)?;
    runtime()?.block_on(async {
        let (clock, random) = (Arc::new(SystemClock::new()), Arc::new(SystemRandom));
        let settings = storage::settings(live.settings(), live.paths())?;
        let store = Store::open(settings, clock, random).await.map_err(|e| e.to_string())?;
        accounts::ensure(&store, live.settings(), &live.snapshot().dynamic).await?;
        let credentials = Credentials::open(&store).await.map_err(|e| e.to_string())?;
        let id = store.account(account).await.map_err(|e| e.to_string())?.id();
        credentials.set_password(id, &Secret::new(password.to_owned())).await.map_err(|e| e.to_string())?;
        credentials.close().await;
        store.close().await;
        Ok(())
    })
}

/// What ends with what.
#[derive(Clone, Debug, Default)]
pub(super) struct Life {
    /// Accept loops and connections.
    pub(super) connections: TaskTracker,
    /// Everything else that runs until the end.
    pub(super) background: TaskTracker,
    /// No more connections; sessions say goodbye.
    pub(super) stop: CancellationToken,
    /// Sessions end at once.
    pub(super) cut: CancellationToken,
    /// The queue and other background work end.
    pub(super) finish: CancellationToken,
}

/// Serves until told to stop; gives the exit status. `started` is called once everything listens.
///
/// # Errors
/// A text for the operator, when it can't start.
pub(crate) fn run(startup: Startup, started: impl FnOnce(&Started)) -> Result<u8, String> {
    runtime()?.block_on(serve(startup, started))
}

fn runtime() -> Result<tokio::runtime::Runtime, String> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|e| format!("starting threads: {e}"))
}

async fn serve(startup: Startup, started: impl FnOnce(&Started)) -> Result<u8, String> {
    let mut signals = Signals::new().map_err(|e| format!("watching signals: {e}"))?;
    let life = Life::default();
    let (stop_by_ctl, mut stopped_by_ctl) = mpsc::channel(1);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let random: Arc<dyn Random> = Arc::new(SystemRandom);
    let mode = startup.mode;
    let services = Services::start(startup, clock, random, &life).await?;
    let control = control::Control { services: Arc::clone(&services.shared), runner: services.runner.clone(), stop: stop_by_ctl };
    ctl::serve(&services.shared.data_dir, Arc::new(control), life.background.clone(), life.finish.clone())
        .await
        .map_err(|e| format!("listening on control socket: {e}"))?;
    reload::watch(Arc::clone(&services.shared), &life);
    started(&Started { sockets: services.sockets.clone(), any_ports: mode == Mode::Localserve { any_ports: true } });
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "ready to serve");

    let status = loop {
        tokio::select! {
            reason = signals.next() => match reason {
                Some(status) => break status,
                None => services.shared.reload_now.notify_one(),
            },
            _ = stopped_by_ctl.recv() => break 0,
        }
    };
    tracing::info!(status, "shutting down, waiting at most 3s for connections");
    shut_down(services, &life, &mut signals).await;
    Ok(status)
}

async fn shut_down(services: Services, life: &Life, signals: &mut Signals) {
    life.stop.cancel();
    life.connections.close();
    let patient = async {
        drop(tokio::time::timeout(GRACE, life.connections.wait()).await);
        life.cut.cancel();
        drop(tokio::time::timeout(CUT, life.connections.wait()).await);
    };
    tokio::select! {
        () = patient => {}
        // A second signal: no more patience.
        _ = signals.next() => life.cut.cancel(),
    }
    services.finish();
    life.finish.cancel();
    life.background.close();
    if tokio::time::timeout(CUT, async {
        life.background.wait().await;
        services.close().await;
    })
    .await
    .is_err()
    {
        tracing::warn!("background work didn't end in time");
    }
    tracing::info!("stopped");
}

/// The signals that mean something to us.
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// The exit status of a signal that ends us; none for SIGHUP, which means looking at domains.conf.
    async fn next(&mut self) -> Option<u8> {
        tokio::select! {
            _ = self.interrupt.recv() => Some(2),
            _ = self.terminate.recv() => Some(15),
            _ = self.hangup.recv() => None,
        }
    }
}
