//! The service: what all connections share, and how a connection begins.

use crate::connection::Connection;
use crate::ids::ConnectionIds;
use crate::metrics::Metrics;
use crate::settings::{ListenerSettings, Settings};
use crate::simulate::Attempts;
use mox_base::{Clock, Lookup, Random};
use mox_delivery::inbound::Inbound;
use mox_delivery::signing::SharedSelectors;
use mox_delivery::submit::Submitter;
use mox_logins::Logins;
use mox_net::{OpenLimit, RateLimit, Stream};
use mox_smtp::Reply;
use mox_smtp::server::Kind;
use mox_store::directory::SharedDirectory;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// What the service needs from others.
#[derive(Clone, Debug)]
pub struct Parts {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub random: Arc<dyn Random>,
    /// DNS.
    pub lookup: Arc<dyn Lookup>,
    /// Who has which address.
    pub directory: SharedDirectory,
    /// Who may log in.
    pub logins: Logins,
    /// Where incoming mail goes.
    pub inbound: Inbound,
    /// Where our users' mail goes.
    pub submitter: Submitter,
    /// DKIM keys.
    pub selectors: SharedSelectors,
    /// Ids of connections.
    pub ids: Arc<ConnectionIds>,
    /// What is counted.
    pub metrics: Metrics,
    /// Cancelled when the server shuts down.
    pub stop: CancellationToken,
}

/// The SMTP service.
#[derive(Debug)]
pub struct Service {
    pub(crate) settings: Settings,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) lookup: Arc<dyn Lookup>,
    pub(crate) directory: SharedDirectory,
    pub(crate) logins: Logins,
    pub(crate) inbound: Inbound,
    pub(crate) submitter: Submitter,
    pub(crate) selectors: SharedSelectors,
    pub(crate) ids: Arc<ConnectionIds>,
    pub(crate) metrics: Metrics,
    pub(crate) stop: CancellationToken,
    /// For localserve's simulations.
    pub(crate) attempts: Attempts,
    new_connections: RateLimit,
    open_connections: Arc<OpenLimit>,
}

/// A listening socket's settings, made ready.
#[derive(Debug)]
pub struct Listener {
    pub(crate) settings: ListenerSettings,
    pub(crate) session: Arc<mox_smtp::server::Settings>,
}

impl Service {
    /// The service, for all listeners.
    pub fn new(settings: Settings, parts: Parts) -> Arc<Self> {
        let Parts { clock, random, lookup, directory, logins, inbound, submitter, selectors, ids, metrics, stop } = parts;
        // All of localserve's clients are one machine, its own queue among them.
        let (new_connections, open_connections) = if settings.localserve {
            (RateLimit::new([]), OpenLimit::new([u32::MAX; 3]))
        } else {
            let spared = settings.unlimited.as_slice();
            (RateLimit::new_connections().sparing(spared), OpenLimit::new([30, 90, 270]).sparing(spared))
        };
        Arc::new(Self {
            settings,
            clock,
            random,
            lookup,
            directory,
            logins,
            inbound,
            submitter,
            selectors,
            ids,
            metrics,
            stop,
            attempts: Attempts::default(),
            new_connections,
            open_connections: Arc::new(open_connections),
        })
    }

    /// Makes a listening socket's settings ready for [`Self::connection`].
    pub fn listener(&self, settings: ListenerSettings) -> Arc<Listener> {
        let session = Arc::new(settings.session(self.settings.pedantic));
        Arc::new(Listener { settings, session })
    }

    /// Serves one connection to its end. Panics end the connection only, when it runs in a task of its own.
    pub async fn connection(self: Arc<Self>, listener: Arc<Listener>, mut stream: Stream) {
        let cid = self.ids.next();
        let ip = stream.remote_addr().ip();
        let submission = listener.settings.kind == Kind::Submission;
        tracing::info!(
            cid,
            remote = %stream.remote_addr(),
            local = %stream.local_addr(),
            submission,
            tls = listener.settings.implicit_tls,
            listener = listener.settings.name,
            "new connection"
        );
        // Before any handshake, which costs us more than the client; while it lasts, the connection counts as open.
        let now = self.clock.now();
        let busy = |text: &str| Some(Reply::new(421, (4, 7, 0), text));
        let mut open = None;
        let refusal = if self.stop.is_cancelled() {
            Some(Reply::new(421, (4, 3, 2), "shutting down"))
        } else if !self.new_connections.add(ip, now) {
            busy("connection rate from your ip or network too high, slow down please")
        } else if submission && self.logins.is_limited("submission", ip) {
            busy("too many authentication failures")
        } else {
            open = self.open_connections.open(ip);
            if open.is_none() { busy("too many open connections from your ip or network") } else { None }
        };
        if listener.settings.implicit_tls {
            let (None, Some(tls)) = (&refusal, &listener.settings.tls) else {
                tracing::debug!(cid, refusal = ?refusal.map(|reply| reply.to_string()), "closing without a handshake");
                return;
            };
            if let Err(error) = stream.start_tls(tls, &[]).await {
                tracing::debug!(cid, %error, "tls handshake");
                return;
            }
        }
        Connection::new(self, listener, stream, cid).run(refusal).await;
        drop(open);
        tracing::debug!(cid, "connection closed");
    }
}
