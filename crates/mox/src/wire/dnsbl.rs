//! Watching whether our own addresses are on block lists.

use super::services::Shared;
use super::{Life, Mode};
use mox_config::{Live, Method};
use mox_delivery::metrics::{ConnectionLabels, Metrics};
use mox_net::http::is_public;
use mox_probe::dnsbl::{Monitor, Watched};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

/// Starts it, where mail leaves the machine.
pub(super) fn watch(shared: &Arc<Shared>, monitor: Monitor, mode: Mode, queue: Metrics, life: &Life) {
    if mode != Mode::Serve {
        return;
    }
    let (live, stop) = (Arc::clone(&shared.live), life.finish.clone());
    let connections = move || {
        ["ok", "timeout", "canceled", "error"].map(|result| queue.connection.get_or_create(&ConnectionLabels { result }).get()).iter().sum()
    };
    life.background.spawn(async move { monitor.run(|| watched(&live), connections, stop).await });
}

/// The lists and addresses of the configuration of now.
fn watched(live: &Live) -> Watched {
    let fixed = live.settings();
    let of_listener = fixed.listeners.get("public").and_then(|l| l.enabled_smtp()).map(|smtp| smtp.dnsbls.clone()).unwrap_or_default();
    let mut zones = Vec::new();
    for zone in of_listener.into_iter().chain(live.snapshot().dynamic.monitor_dnsbls.iter().cloned()) {
        if !zones.contains(&zone) {
            zones.push(zone);
        }
    }
    if zones.is_empty() || fixed.listeners.values().any(|l| l.ips_nated) {
        return Watched { zones, ips: None };
    }
    let mut ips = BTreeSet::new();
    for ip in fixed.listeners.values().flat_map(|l| if l.nat_ips.is_empty() { &l.ips } else { &l.nat_ips }) {
        if ip.is_unspecified() {
            ips.extend(crate::cmd::interfaces().into_iter().filter(|own| own.is_ipv4() == ip.is_ipv4()));
        } else {
            ips.insert(*ip);
        }
    }
    for transport in fixed.transports.values() {
        match transport.method() {
            Method::Socks(socks) => ips.extend(&socks.remote_ips),
            Method::Direct(direct) => ips.extend(&direct.outgoing_ips),
            _ => {}
        }
    }
    ips.extend(&fixed.outgoing_ips);
    let ips: Vec<IpAddr> = ips.into_iter().filter(|ip| is_public(*ip)).collect();
    Watched { zones, ips: Some(ips) }
}
