//! What is counted of webhook calls, under the names that dashboards know.

use mox_store::webhook::CallResult;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

const BUCKETS: [f64; 9] = [0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 20.0, 30.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    code: String,
}

/// What is counted. Clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    duration: Histogram,
    results: Family<ResultLabels, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self { duration: Histogram::new(BUCKETS), results: Family::default() }
    }
}

impl Metrics {
    /// Makes a registry show them. The registry appends `_total` to counters.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("mox_webhook_request_duration_seconds", "Duration of webhook calls", self.duration.clone());
        registry.register("mox_webhook_results", "Webhook calls, by HTTP status", self.results.clone());
    }

    pub(super) fn called(&self, result: &CallResult) {
        self.duration.observe(result.duration.as_secs_f64());
        self.results.get_or_create(&ResultLabels { code: label(result.code) }).inc();
    }
}

/// A receiver can answer with any number: only those that are registered get a time series of their own.
fn label(code: u16) -> String {
    match code {
        0 => "error".to_owned(),
        code if mox_net::http::is_registered(code) => code.to_string(),
        code => format!("{}xx", code / 100),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_few() {
        for (code, want) in [(0, "error"), (200, "200"), (404, "404"), (299, "2xx"), (799, "7xx")] {
            assert_eq!(label(code), want);
        }
    }
}
