//! The IMAP service from the configuration.

use super::Mode;
use super::listeners::{Endpoint, Service};
use super::services::Shared;
use mox_config::Static;
use mox_httpd::Metrics;
use mox_imapd::{CommandResult, Limits};
use mox_net::{OpenLimit, RateLimit, ServerTls};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// What all connections share.
pub(super) fn service(shared: &Shared, mode: Mode, stop: CancellationToken) -> Arc<mox_imapd::Service> {
    let (new_connections, open_connections) = match mode {
        Mode::Serve => {
            let spared = shared.live.settings().rate_limit_exempt_networks.as_slice();
            (RateLimit::new_connections().sparing(spared), OpenLimit::new([30, 90, 270]).sparing(spared))
        }
        // All clients are this machine's, and load tests are among what it is for.
        Mode::Localserve { .. } => (RateLimit::new([]), OpenLimit::new([u32::MAX; 3])),
    };
    Arc::new(mox_imapd::Service {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        hostname: shared.live.settings().hostname.domain().ascii().to_owned(),
        store: shared.store.clone(),
        directory: shared.directory.clone(),
        logins: shared.logins.clone(),
        clock: Arc::clone(shared.store.clock()),
        random: Arc::clone(shared.store.random()),
        metrics: Arc::new(Counted(Arc::clone(&shared.metrics))),
        new_connections: Arc::new(new_connections),
        open_connections: Arc::new(open_connections),
        stop,
        limits: Limits::default(),
    })
}

/// A listening socket.
pub(super) fn listener(config: &Static, endpoint: &Endpoint, tls: Option<ServerTls>) -> Arc<mox_imapd::Listener> {
    let listener = config.listeners.get(&endpoint.listener);
    let plain = listener.and_then(|l| l.enabled_imap()).is_some_and(|imap| imap.no_require_starttls);
    Arc::new(mox_imapd::Listener {
        name: endpoint.listener.clone(),
        tls,
        implicit_tls: endpoint.service.is_immediate_tls(),
        no_require_starttls: plain && endpoint.service == Service::Imap,
        no_client_certificates: listener.and_then(|l| l.tls.as_ref()).is_some_and(|tls| tls.client_auth_disabled),
    })
}

/// What the service counts, as metrics.
#[derive(Debug)]
struct Counted(Arc<Metrics>);

impl mox_imapd::Metrics for Counted {
    fn connection(&self, service: &'static str) {
        self.0.imap_connection(service);
    }

    fn command(&self, command: &'static str, result: CommandResult, duration: Duration) {
        self.0.imap_command(command, result.label(), duration);
    }

    fn panic(&self) {
        self.0.panicked("imapserver");
    }
}
