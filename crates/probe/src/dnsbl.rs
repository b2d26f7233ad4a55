//! Whether our own addresses are on block lists: then others refuse our mail, and whoever runs the server wants to know soon.
//!
//! [`Monitor::run`] looks at start, and then when many connections were made or three hours passed. What it finds is a metric, of
//! which those who watch it can be told. Lists ask not to be asked too fast: a second lies between questions.

use mox_base::{Domain, Lookup};
use mox_mailauth::dnsbl::{self, DnsblStatus};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How often it is decided whether to look.
const DECIDE: Duration = Duration::from_secs(5 * 60);

/// After this time it is looked in any case.
const LOOK: Duration = Duration::from_secs(3 * 3600);

/// After so many connections, too.
const CONNECTIONS: u64 = 100;

/// Between two questions.
const PAUSE: Duration = Duration::from_secs(1);

/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Which address on which list.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, EncodeLabelSet)]
pub struct ListLabels {
    /// The list.
    pub zone: String,
    /// The address; empty where it isn't known which we have.
    pub ip: String,
}

/// What is to be looked at, by the configuration of now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watched {
    /// The lists.
    pub zones: Vec<Domain>,
    /// Our addresses; none where they can't be known.
    pub ips: Option<Vec<IpAddr>>,
}

/// The watch. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Monitor {
    lookup: Arc<dyn Lookup>,
    success: Family<ListLabels, Gauge>,
    shown: Arc<Mutex<BTreeSet<ListLabels>>>,
}

impl Monitor {
    /// A watch by DNS, whose metric the registry shows.
    pub fn new(lookup: Arc<dyn Lookup>, registry: &mut Registry) -> Self {
        let success = Family::<ListLabels, Gauge>::default();
        let help = "Whether our addresses are not on DNS block lists: 1 not listed, 0 listed or unknown, -1 address unknown";
        registry.register("mox_dnsbl_ips_success", help, success.clone());
        Self { lookup, success, shown: Arc::default() }
    }

    /// Looks now and again, until stopped. `connections` counts those to other mail hosts.
    pub async fn run(&self, watched: impl Fn() -> Watched + Send, connections: impl Fn() -> u64 + Send, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.watch(watched, connections) => {}
        }
    }

    async fn watch(&self, watched: impl Fn() -> Watched + Send, connections: impl Fn() -> u64 + Send) {
        loop {
            let (began, before) = (Instant::now(), connections());
            self.look(&watched()).await;
            loop {
                tokio::time::sleep(DECIDE).await;
                if began.elapsed() >= LOOK || connections().saturating_sub(before) >= CONNECTIONS {
                    break;
                }
            }
        }
    }

    /// Looks once. What isn't watched any more isn't shown any more.
    pub async fn look(&self, watched: &Watched) {
        let mut found = BTreeSet::new();
        for zone in &watched.zones {
            let Some(ips) = &watched.ips else {
                self.show(zone, String::new(), -1, &mut found);
                continue;
            };
            for ip in ips {
                if !found.is_empty() {
                    tokio::time::sleep(PAUSE).await;
                }
                let asked = tokio::time::timeout(PATIENCE, dnsbl::check(&*self.lookup, zone, *ip)).await;
                let status = asked.unwrap_or_else(|_| DnsblStatus::Temperror("timeout".to_owned()));
                match &status {
                    DnsblStatus::Pass => {}
                    DnsblStatus::Fail(why) => tracing::error!(%zone, %ip, why, "our address is on a block list"),
                    DnsblStatus::Temperror(error) => tracing::info!(%zone, %ip, error, "asking a block list about our address"),
                }
                self.show(zone, ip.to_string(), i64::from(status == DnsblStatus::Pass), &mut found);
            }
        }
        let mut shown = self.shown.lock().await;
        for stale in shown.difference(&found) {
            self.success.remove(stale);
        }
        *shown = found;
    }

    fn show(&self, zone: &Domain, ip: String, value: i64, found: &mut BTreeSet<ListLabels>) {
        let labels = ListLabels { zone: zone.ascii().to_owned(), ip };
        self.success.get_or_create(&labels).set(value);
        found.insert(labels);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mox_testkit::Zone;
    use std::sync::atomic::{AtomicU64, Ordering};

    fn shown(registry: &Registry) -> Vec<String> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
        let mut lines: Vec<String> = text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect();
        lines.sort();
        lines
    }

    fn watched(zones: &[&str], ips: Option<&[&str]>) -> Watched {
        Watched {
            zones: zones.iter().map(|zone| zone.parse().unwrap()).collect(),
            ips: ips.map(|ips| ips.iter().map(|ip| ip.parse().unwrap()).collect()),
        }
    }

    fn lists() -> Zone {
        Zone::new().a("1.2.0.192.bl.example", "127.0.0.2").temporary("2.2.0.192.bl.example", None)
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_listed() {
        let mut registry = Registry::default();
        let monitor = Monitor::new(Arc::new(lists()), &mut registry);
        monitor.look(&watched(&["bl.example", "other.example"], Some(&["192.0.2.1", "192.0.2.2", "2001:db8::1"]))).await;
        let line = |zone: &str, ip: &str, value: i64| format!("mox_dnsbl_ips_success{{zone=\"{zone}\",ip=\"{ip}\"}} {value}");
        assert_eq!(
            shown(&registry),
            [
                line("bl.example", "192.0.2.1", 0),
                line("bl.example", "192.0.2.2", 0),
                line("bl.example", "2001:db8::1", 1),
                line("other.example", "192.0.2.1", 1),
                line("other.example", "192.0.2.2", 1),
                line("other.example", "2001:db8::1", 1),
            ]
        );
        monitor.look(&watched(&["other.example"], Some(&["192.0.2.1"]))).await;
        assert_eq!(shown(&registry), [line("other.example", "192.0.2.1", 1)]);
        monitor.look(&watched(&["other.example"], None)).await;
        assert_eq!(shown(&registry), [line("other.example", "", -1)]);
        monitor.look(&Watched::default()).await;
        assert_eq!(shown(&registry), Vec::<String>::new());
    }

    #[tokio::test(start_paused = true)]
    async fn when_it_is_looked() {
        let zone = lists();
        let monitor = Monitor::new(Arc::new(zone.clone()), &mut Registry::default());
        let connections = Arc::new(AtomicU64::new(0));
        let (counted, stop) = (Arc::clone(&connections), CancellationToken::new());
        let stopped = stop.clone();
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(async move {
            let count = move || counted.load(Ordering::SeqCst);
            monitor.run(|| watched(&["other.example"], Some(&["192.0.2.9"])), count, stopped).await;
        });
        // One question each time.
        let minutes = |n: u64| tokio::time::sleep(Duration::from_secs(60 * n));
        minutes(1).await;
        assert_eq!(zone.queries(), 1, "at start");
        minutes(170).await;
        assert_eq!(zone.queries(), 1);
        minutes(15).await;
        assert_eq!(zone.queries(), 2, "after three hours");
        connections.store(100, Ordering::SeqCst);
        minutes(6).await;
        assert_eq!(zone.queries(), 3, "after many connections");
        minutes(60).await;
        assert_eq!(zone.queries(), 3);
        stop.cancel();
        tasks.join_next().await.unwrap().unwrap();
    }
}
