//! What recipient domains want of TLS: policies fetched, kept and refreshed, results collected.

use super::Life;
use super::services::Shared;
use mox_base::Lookup;
use mox_config::Live;
use mox_delivery::tls::{TlsMetrics, TlsPolicies, TlsPorts, WebPolicies};
use mox_net::http::{AddressGuard, Client};
use mox_net::tls::read_roots;
use mox_net::{ClientTls, TcpDial};
use std::path::PathBuf;
use std::sync::Arc;

/// TLS that verifies certificates against the configured authorities, for mail and for HTTPS.
///
/// # Errors
/// A text for the operator, when certificates of authorities can't be read.
pub(super) fn verified_tls(live: &Live) -> Result<ClientTls, String> {
    let ca = live.settings().tls.as_ref().and_then(|tls| tls.ca.as_ref());
    let files: Vec<PathBuf> = ca.map(|ca| ca.cert_files.iter().map(|file| live.paths().config(file)).collect()).unwrap_or_default();
    let roots = read_roots(ca.is_none_or(|ca| ca.additional_to_system), &files).map_err(|e| e.to_string())?;
    ClientTls::verified(roots).map_err(|e| format!("setting up TLS: {e}"))
}

/// Starts it; none in localserve, where mail doesn't leave the machine.
///
/// # Errors
/// A text for the operator.
pub(super) fn start(
    shared: &Shared,
    lookup_of: impl Fn(&'static str) -> Arc<dyn Lookup>,
    metrics: TlsMetrics,
    life: &Life,
) -> Result<Option<Arc<TlsPolicies>>, String> {
    let Some(reports) = &shared.reports else { return Ok(None) };
    let store = reports.tls.clone();
    let lookup = lookup_of("mtasts");
    let dial = Arc::new(TcpDial::default());
    let client = Client::new(Arc::clone(&lookup), dial, verified_tls(&shared.live)?, AddressGuard::public_only())
        .counted(&shared.net_metrics, "mtasts");
    let ports = TlsPorts {
        clock: Arc::clone(shared.store.clock()),
        random: Arc::clone(shared.store.random()),
        lookup,
        source: Arc::new(WebPolicies::new(client)),
    };
    let collect = !shared.live.settings().no_outgoing_tls_reports;
    let policies = Arc::new(TlsPolicies::new(store, ports, collect, metrics));
    let (refreshing, stop) = (Arc::clone(&policies), life.finish.clone());
    life.background.spawn(async move { refreshing.run_refresh(stop).await });
    let (collecting, stop) = (Arc::clone(&policies), life.finish.clone());
    life.background.spawn(async move { collecting.run_collect(stop).await });
    reports.start(shared, &lookup_of("reports"), &policies, life)?;
    Ok(Some(policies))
}
