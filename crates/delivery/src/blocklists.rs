//! Block lists in DNS, for incoming mail.
//!
//! [`Blocklists`] is asked last, about clients whose mail would otherwise be accepted. A list that doesn't work, because it lists
//! everything or nothing, isn't asked (RFC 5782 §5); whether it works is looked at every four hours. Errors of DNS never keep mail
//! out.

use mox_base::{Clock, Domain, Lookup};
use mox_mailauth::dnsbl::{self, DnsblStatus, Unhealthy};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::timeout;

/// How long one list may take, its health included.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long it is remembered whether a list works.
const HEALTH_KEPT: Duration = Duration::from_secs(4 * 3600);

const BUCKETS: [f64; 10] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 20.0];

/// Labels of a lookup.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LookupLabels {
    zone: String,
    status: &'static str,
}

/// What is counted about block lists. Clones count together.
#[derive(Clone, Debug)]
pub struct BlocklistMetrics {
    lookups: Family<LookupLabels, Histogram>,
}

impl Default for BlocklistMetrics {
    fn default() -> Self {
        Self { lookups: Family::new_with_constructor(|| Histogram::new(BUCKETS)) }
    }
}

impl BlocklistMetrics {
    /// Makes a registry show them.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("mox_dnsbl_lookup_duration_seconds", "Lookups in DNS block lists", self.lookups.clone());
    }
}

/// A list that has an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The list.
    pub zone: Domain,
    /// What it says about the address; may be empty.
    pub explanation: String,
}

/// Asks block lists, and remembers which of them work. Clones remember together.
#[derive(Clone, Debug)]
pub struct Blocklists {
    lookup: Arc<dyn Lookup>,
    clock: Arc<dyn Clock>,
    metrics: BlocklistMetrics,
    /// Whether lists work, and when that was looked at.
    health: Arc<Mutex<BTreeMap<Domain, (Duration, bool)>>>,
}

impl Blocklists {
    /// With nothing known of any list.
    pub fn new(lookup: Arc<dyn Lookup>, clock: Arc<dyn Clock>, metrics: BlocklistMetrics) -> Self {
        Self { lookup, clock, metrics, health: Arc::default() }
    }

    /// The first of these lists that has an address.
    pub async fn find(&self, zones: &[Domain], ip: IpAddr) -> Option<Listed> {
        for zone in zones {
            let answer = async {
                if !self.works(zone).await {
                    return None;
                }
                match self.check(zone, ip).await {
                    DnsblStatus::Pass => None,
                    DnsblStatus::Fail(explanation) => Some(Listed { zone: zone.clone(), explanation }),
                    DnsblStatus::Temperror(error) => {
                        tracing::warn!(%zone, %ip, error, "looking up address in block list, going on without");
                        None
                    }
                }
            };
            match timeout(PATIENCE, answer).await {
                Ok(None) => {}
                Ok(listed) => return listed,
                Err(_) => tracing::warn!(%zone, %ip, "block list doesn't answer, going on without"),
            }
        }
        None
    }

    /// What a list says of an address.
    async fn check(&self, zone: &Domain, ip: IpAddr) -> DnsblStatus {
        let began = self.clock.monotonic();
        let status = dnsbl::check(&*self.lookup, zone, ip).await;
        let labels = LookupLabels { zone: zone.ascii().to_owned(), status: status.name() };
        self.metrics.lookups.get_or_create(&labels).observe(self.clock.monotonic().saturating_sub(began).as_secs_f64());
        status
    }

    /// Whether a list works, as far as is known. DNS that fails says nothing about that.
    async fn works(&self, zone: &Domain) -> bool {
        let now = self.clock.monotonic();
        let known = self.health.lock().unwrap_or_else(PoisonError::into_inner).get(zone).copied();
        if let Some((when, works)) = known
            && now.saturating_sub(when) < HEALTH_KEPT
        {
            return works;
        }
        let works = match dnsbl::check_health(&*self.lookup, zone).await {
            Ok(()) | Err(Unhealthy::Dns(_)) => true,
            Err(error) => {
                tracing::warn!(%zone, %error, "block list doesn't work, and isn't asked for now");
                false
            }
        };
        self.health.lock().unwrap_or_else(PoisonError::into_inner).insert(zone.clone(), (now, works));
        works
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mox_testkit::{VirtualClock, Zone};

    fn zone() -> Zone {
        Zone::new()
            .a("2.0.0.127.good.example", "127.0.0.2")
            .a("1.2.0.192.good.example", "127.0.0.2")
            .txt("1.2.0.192.good.example", "sends spam")
            // One that was shut down lists everything, another nothing.
            .a("1.0.0.127.all.example", "127.0.0.2")
            .a("2.0.0.127.all.example", "127.0.0.2")
            .a("9.2.0.192.all.example", "127.0.0.2")
            .a("1.2.0.192.none.example", "127.0.0.2")
            .temporary("1.2.0.192.shaky.example", None)
            .a("2.0.0.127.shaky.example", "127.0.0.2")
            .silent("silent.example")
    }

    fn zones(names: &[&str]) -> Vec<Domain> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_that_works_and_lists_it() {
        let lists = Blocklists::new(Arc::new(zone()), Arc::new(VirtualClock::default()), BlocklistMetrics::default());
        let all = zones(&["silent.example", "all.example", "none.example", "shaky.example", "good.example"]);
        let listed = lists.find(&all, "192.0.2.1".parse().unwrap()).await.unwrap();
        assert_eq!((listed.zone.ascii(), listed.explanation.as_str()), ("good.example", "sends spam"));
        assert_eq!(lists.find(&all, "::ffff:192.0.2.9".parse().unwrap()).await, None);
        assert_eq!(lists.find(&[], "192.0.2.1".parse().unwrap()).await, None);
    }

    #[tokio::test]
    async fn health_is_looked_at_every_four_hours() {
        let (clock, zone) = (VirtualClock::default(), zone());
        let lists = Blocklists::new(Arc::new(zone.clone()), Arc::new(clock.clone()), BlocklistMetrics::default());
        let good = zones(&["good.example"]);
        let queries = async || {
            let before = zone.queries();
            lists.find(&good, "192.0.2.5".parse().unwrap()).await;
            zone.queries() - before
        };
        let (first, second) = (queries().await, queries().await);
        assert!(first > second, "{first} {second}");
        assert_eq!(second, 1);
        clock.advance(HEALTH_KEPT);
        assert_eq!(queries().await, first);
    }
}
