//! What recipient domains want of TLS, and what we tell them about it.
//!
//! [`TlsPolicies`] finds MTA-STS policies (`mtasts`, RFC 8461), with a cache in the store that is refreshed in the background, and collects
//! what came of sessions (`collect`, RFC 8460). `report` sends reports. How one connection is made follows in
//! `outbound::policy`.

mod collect;
mod mtasts;
mod report;
mod source;

pub(crate) use collect::AboutAttempt;
pub use collect::SessionResults;
pub use mtasts::{FetchError, FetchFuture, PolicySource, StsError, StsFault, StsPolicy};
pub use report::ReportSender;
pub use source::WebPolicies;

use crate::tls::collect::Collected;
use mox_base::{Clock, Lookup, Random};
use mox_mailauth::tlsrpt::{Record, RecordError};
use mox_store::tls::TlsStore;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::sync::Arc;
use std::time::Duration;

const BUCKETS: [f64; 8] = [0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 20.0];
const LOOKUP_BUCKETS: [f64; 11] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 20.0, 30.0];

/// What it works with.
#[derive(Clone, Debug)]
pub struct TlsPorts {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub random: Arc<dyn Random>,
    /// DNS.
    pub lookup: Arc<dyn Lookup>,
    /// Where policies are fetched.
    pub source: Arc<dyn PolicySource>,
}

/// A result, for metrics.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ResultLabels {
    /// What came of it.
    pub result: &'static str,
}

/// What is counted. Clones count together.
#[derive(Clone, Debug)]
pub struct TlsMetrics {
    get: Family<ResultLabels, Histogram>,
    get_cached: Family<ResultLabels, Counter>,
    lookups: Family<ResultLabels, Histogram>,
    reports_queued: Counter,
    report_errors: Counter,
}

impl Default for TlsMetrics {
    fn default() -> Self {
        Self {
            get: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            get_cached: Family::default(),
            lookups: Family::new_with_constructor(|| Histogram::new(LOOKUP_BUCKETS)),
            reports_queued: Counter::default(),
            report_errors: Counter::default(),
        }
    }
}

impl TlsMetrics {
    /// Makes a registry show them.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("mox_mtasts_get_duration_seconds", "Looking up and fetching MTA-STS policies, by result", self.get.clone());
        registry.register("mox_tlsrptsend_report_queued", "TLS reports that were queued", self.reports_queued.clone());
        registry.register("mox_tlsrptsend_report_error", "TLS reports that could not be made or queued", self.report_errors.clone());
        registry.register("mox_tlsrpt_lookup_duration_seconds", "Looking up where TLS reports go, by result", self.lookups.clone());
        registry.register("mox_mtastsdb_get", "MTA-STS policies asked of the cache, by result", self.get_cached.clone());
    }
}

impl TlsMetrics {
    /// Counts a lookup of where reports go; none if there was no time for it.
    fn looked_up(&self, found: Option<&Result<Record, RecordError>>, took: Duration) {
        let result = match found {
            Some(Ok(_)) => "ok",
            Some(Err(RecordError::Absent)) => "notfound",
            Some(Err(RecordError::Multiple | RecordError::Syntax(_))) => "malformed",
            Some(Err(RecordError::Dns(_))) | None => "temperror",
        };
        self.lookups.get_or_create(&ResultLabels { result }).observe(took.as_secs_f64());
    }
}

/// Policies of recipient domains and results of sessions.
#[derive(Debug)]
pub struct TlsPolicies {
    store: TlsStore,
    ports: TlsPorts,
    collected: Collected,
    metrics: TlsMetrics,
}

impl TlsPolicies {
    /// With a store. `collect`: whether results are kept, to be reported.
    pub fn new(store: TlsStore, ports: TlsPorts, collect: bool, metrics: TlsMetrics) -> Self {
        Self { store, ports, collected: Collected::new(collect), metrics }
    }

    /// Where policies and results are kept.
    pub const fn store(&self) -> &TlsStore {
        &self.store
    }
}
