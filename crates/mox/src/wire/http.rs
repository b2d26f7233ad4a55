//! The HTTP services from the configuration.

use super::Mode;
use super::services::Shared;
use mox_httpd::{Class, Hosts, Metrics, Route, Router, Scrape, Server, Site, request_limit};
use mox_net::RateLimit;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// What all ports share.
pub(super) fn server(shared: &Shared, mode: Mode, stop: CancellationToken) -> Arc<Server> {
    let limit = match mode {
        Mode::Serve => request_limit(),
        // All clients are this machine's, and load tests are among what it is for.
        Mode::Localserve { .. } => RateLimit::new([]),
    };
    Server::new(Arc::clone(shared.store.clock()), Arc::clone(&shared.metrics), limit, stop)
}

/// A port for metrics only.
pub(super) fn metrics(metrics: &Arc<Metrics>) -> Site {
    let mut router = Router::default();
    router.add(metrics_route(metrics));
    Site { router, tls: None, rate_limited: true }
}

fn metrics_route(metrics: &Arc<Metrics>) -> Route {
    Route {
        class: Class::System,
        hosts: Hosts::Any,
        path: "/".to_owned(),
        label: "metrics",
        forwarded: false,
        handler: Arc::new(Scrape::new(Arc::clone(metrics))),
    }
}
