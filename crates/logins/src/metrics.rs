//! Authentication as it is counted, under the names that dashboards know.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AttemptLabels {
    kind: &'static str,
    variant: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

/// The metrics of authentication. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    attempts: Family<AttemptLabels, Counter>,
    limited: Family<KindLabel, Counter>,
}

impl Metrics {
    /// Makes a registry show them. The registry appends `_total`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("mox_authentication", "Authentication attempts and results", self.attempts.clone());
        registry.register(
            "mox_authentication_ratelimited",
            "Authentication attempts refused by the limit on failures",
            self.limited.clone(),
        );
    }

    pub(crate) fn attempt(&self, kind: &'static str, variant: &'static str, result: &'static str) {
        self.attempts.get_or_create(&AttemptLabels { kind, variant, result }).inc();
    }

    pub(crate) fn limited(&self, kind: &'static str) {
        self.limited.get_or_create(&KindLabel { kind }).inc();
    }
}
