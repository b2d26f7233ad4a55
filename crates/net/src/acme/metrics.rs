//! What is counted.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

/// Counters of certificates on demand. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    pub(crate) missing_name: Counter,
    pub(crate) unknown_name: Counter,
    pub(crate) request_errors: Counter,
    pub(crate) puts: Counter,
}

impl Metrics {
    /// Adds them to a registry.
    pub fn register(&self, registry: &mut Registry) {
        // Names get their _total when written.
        let mut add = |name: &str, help: &str, counter: &Counter| registry.register(name, help, counter.clone());
        add("mox_autotls_missing_servername", "TLS handshakes without a server name, where there is no default", &self.missing_name);
        add("mox_autotls_unknown_servername", "TLS handshakes with a server name that isn't ours", &self.unknown_name);
        add("mox_autotls_cert_request_errors", "Failures to get a certificate", &self.request_errors);
        add("mox_autotls_certput", "Certificates stored", &self.puts);
    }
}
