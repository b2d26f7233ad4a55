//! What is counted of the webapi.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ErrorLabel {
    error: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    method: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MethodLabel {
    method: &'static str,
}

/// Buckets in seconds that the dashboards were made for.
const BUCKETS: [f64; 9] = [0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 20.0, 30.0];

/// The metrics of the webapi. Clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    submissions: Family<ResultLabel, Counter>,
    errors: Family<ErrorLabel, Counter>,
    results: Family<CallLabels, Counter>,
    durations: Family<MethodLabel, Histogram, fn() -> Histogram>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            submissions: Family::default(),
            errors: Family::default(),
            results: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
        }
    }
}

impl Metrics {
    /// Makes a registry show them. The registry appends `_total` to counters.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("mox_webapi_submission", "Messages submitted with the webapi", self.submissions.clone());
        registry.register("mox_webapi_errors", "Faults of ours while submitting with the webapi", self.errors.clone());
        registry.register("mox_webapi_results", "Calls of the webapi, by result", self.results.clone());
        registry.register("mox_webapi_duration_seconds", "Calls of the webapi and their duration", self.durations.clone());
    }

    pub(super) fn submission(&self, result: &'static str) {
        self.submissions.get_or_create(&ResultLabel { result }).inc();
    }

    pub(super) fn error(&self, error: &'static str) {
        self.errors.get_or_create(&ErrorLabel { error }).inc();
    }

    pub(super) fn call(&self, method: &'static str, result: &'static str, duration: Duration) {
        self.results.get_or_create(&CallLabels { method, result }).inc();
        self.durations.get_or_create(&MethodLabel { method }).observe(duration.as_secs_f64());
    }
}
