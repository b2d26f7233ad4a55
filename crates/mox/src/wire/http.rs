//! The HTTP services from the configuration.

use super::Mode;
use super::acme::provider_of;
use super::listeners::{Endpoint, Service, webapi};
use super::services::Shared;
use super::{Life, smtp};
use mox_base::Domain;
use mox_config::{Dynamic, Static};
use mox_delivery::spool::SpoolSettings;
use mox_delivery::submit::Submitter;
use mox_httpd::webapi::{Parts, ReceivedId, Webapi};
use mox_httpd::{ACME_PATH, AcmeHttp, Class, Hosts, Limits, MTA_STS_PATH, Metrics, Route, Router, Scrape, Server, Site};
use mox_net::ServerTls;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Uploaded files up to this size aren't written to a file.
const IN_MEMORY: usize = 32 << 10;

/// What HTTP ports need.
pub(super) struct Http {
    pub(super) server: Arc<Server>,
    webapi: Arc<Webapi>,
}

impl Http {
    /// For all ports.
    ///
    /// # Errors
    /// A text for the operator.
    pub(super) fn new(shared: &Shared, mode: Mode, metrics: mox_httpd::webapi::Metrics, life: &Life) -> Result<Self, String> {
        let limits = match mode {
            Mode::Serve => Limits::strangers(&shared.live.settings().rate_limit_exempt_networks),
            // All clients are this machine's, and load tests are among what it is for.
            Mode::Localserve { .. } => Limits::none(),
        };
        let (clock, random) = (Arc::clone(shared.store.clock()), Arc::clone(shared.store.random()));
        let ids = smtp::connection_ids(shared)?;
        let webapi = Webapi::new(Parts {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            hostname: shared.live.settings().hostname.domain().clone(),
            spool: SpoolSettings { in_memory: IN_MEMORY, folder: shared.live.paths().data("tmp") },
            store: shared.store.clone(),
            queue: shared.queue.clone(),
            directory: shared.directory.clone(),
            logins: shared.logins.clone(),
            submitter: Submitter::new(shared.queue.clone(), Arc::clone(&clock), Arc::clone(&random)),
            received_id: ReceivedId(Arc::new(move |number| ids.shown(number))),
            metrics,
            tasks: life.connections.clone(),
            clock: Arc::clone(&clock),
            random,
        });
        Ok(Self { server: Server::new(clock, Arc::clone(&shared.metrics), limits, life.stop.clone()), webapi })
    }

    /// What a port serves.
    pub(super) fn site(&self, shared: &Shared, endpoint: &Endpoint, tls: Option<ServerTls>) -> Site {
        let mut router = Router::default();
        let config = shared.live.settings();
        if let Some(listener) = config.listeners.get(&endpoint.listener) {
            let secure = endpoint.service == Service::Https;
            let hostname = listener.hostname.clone().unwrap_or_else(|| config.hostname.domain().clone());
            if let Some(service) = webapi(listener, secure).filter(|s| s.port(secure) == endpoint.port) {
                router.add(Route {
                    class: Class::Service,
                    hosts: Hosts::Ours { hostname, clients: shared.client_names.clone() },
                    path: if service.path.is_empty() { "/webapi/".to_owned() } else { service.path.clone() },
                    label: "webapi",
                    forwarded: service.forwarded,
                    handler: Arc::new(self.webapi.at(listener.max_message_size())),
                });
            }
            if let Some(service) = listener.enabled_mtasts().filter(|s| s.port() == endpoint.port && s.non_tls != secure) {
                router.add(Route {
                    class: Class::System,
                    hosts: Hosts::MtaSts,
                    path: MTA_STS_PATH.to_owned(),
                    label: "mtasts",
                    forwarded: service.forwarded,
                    handler: Arc::new(shared.mtasts.clone()),
                });
            }
            let acme = provider_of(listener).and_then(|name| shared.acme.get(name));
            if let Some(acme) = acme.filter(|_| endpoint.service == Service::Http) {
                router.add(Route {
                    class: Class::System,
                    hosts: Hosts::Any,
                    path: ACME_PATH.to_owned(),
                    label: "acme-http-01",
                    forwarded: false,
                    handler: Arc::new(AcmeHttp::new(acme.clone())),
                });
            }
            if !secure && listener.enabled_metrics().is_some_and(|s| s.metrics_port() == endpoint.port) {
                add_metrics(&mut router, &shared.metrics);
            }
        }
        let tls = tls.map(|tls| tls.with_alpn(&["h2", "http/1.1"]));
        Site { router, tls, rate_limited: rate_limited(config, endpoint) }
    }
}

/// Whether requests of a port are limited: not if its web server says so.
fn rate_limited(config: &Static, endpoint: &Endpoint) -> bool {
    let Some(listener) = config.listeners.get(&endpoint.listener) else { return true };
    let secure = endpoint.service == Service::Https;
    let web = if secure { &listener.webserver_https } else { &listener.webserver_http };
    !web.as_ref().is_some_and(|web| web.enabled && web.port(secure) == endpoint.port && web.rate_limit_disabled)
}

fn add_metrics(router: &mut Router, metrics: &Arc<Metrics>) {
    // Beside other services it comes last: everything that is nobody else's is below its path.
    let class = if router.is_empty() { Class::System } else { Class::Service };
    let handler = Arc::new(Scrape::new(Arc::clone(metrics)));
    router.add(Route { class, hosts: Hosts::Any, path: "/".to_owned(), label: "metrics", forwarded: false, handler });
}

/// Names that mail clients may be configured with.
pub(super) fn client_names(dynamic: &Dynamic) -> BTreeSet<Domain> {
    dynamic.domains.values().filter_map(|domain| domain.client_settings_domain.clone()).collect()
}
