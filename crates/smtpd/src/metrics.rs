//! What is counted, under the names that dashboards know. Connections and panics are counted by the binary.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::time::Duration;

/// Label sets, each a struct with the labels' names.
macro_rules! labels {
    ($($name:ident { $($field:ident: $ty:ty),* })*) => {$(
        #[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
        struct $name {
            $($field: $ty),*
        }
    )*};
}

labels! {
    CommandLabels { kind: &'static str, cmd: String, code: u16, ecode: String }
    DeliveryLabels { result: &'static str, reason: String }
    ResultLabel { result: &'static str }
    ErrorLabel { error: &'static str }
    ReasonLabel { reason: String }
    StatusLabel { status: &'static str }
    DkimLabels { algorithm: &'static str, status: &'static str }
    DmarcLabels { status: &'static str, reject: &'static str, r#use: &'static str }
}

/// Buckets in seconds that the dashboards were made for.
const BUCKETS: [f64; 13] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0];

/// The metrics of the SMTP service. Clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    commands: Family<CommandLabels, Histogram, fn() -> Histogram>,
    deliveries: Family<DeliveryLabels, Counter>,
    submissions: Family<ResultLabel, Counter>,
    errors: Family<ErrorLabel, Counter>,
    starttls: Counter,
    starttls_errors: Family<ReasonLabel, Counter>,
    spf: Family<StatusLabel, Histogram, fn() -> Histogram>,
    iprev: Family<StatusLabel, Histogram, fn() -> Histogram>,
    dkim: Family<DkimLabels, Histogram, fn() -> Histogram>,
    dmarc: Family<DmarcLabels, Histogram, fn() -> Histogram>,
}

/// Buckets in seconds for checks that ask DNS.
const DNS_BUCKETS: [f64; 10] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 20.0];

impl Default for Metrics {
    fn default() -> Self {
        Self {
            commands: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            deliveries: Family::default(),
            submissions: Family::default(),
            errors: Family::default(),
            starttls: Counter::default(),
            starttls_errors: Family::default(),
            spf: Family::new_with_constructor(|| Histogram::new(DNS_BUCKETS)),
            iprev: Family::new_with_constructor(|| Histogram::new(DNS_BUCKETS.into_iter().chain([30.0]))),
            dkim: Family::new_with_constructor(|| Histogram::new(DNS_BUCKETS)),
            dmarc: Family::new_with_constructor(|| Histogram::new(DNS_BUCKETS)),
        }
    }
}

impl Metrics {
    /// Makes a registry show them. The registry appends `_total` to counters.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("mox_smtpserver_command_duration_seconds", "SMTP commands and their duration", self.commands.clone());
        registry.register("mox_smtpserver_delivery", "Incoming messages, per recipient", self.deliveries.clone());
        registry.register("mox_smtpserver_submission", "Submitted messages", self.submissions.clone());
        registry.register("mox_smtpserver_errors", "Faults of ours that did not stop a message", self.errors.clone());
        registry.register("mox_smtpserver_delivery_starttls", "STARTTLS handshakes for incoming mail", self.starttls.clone());
        registry.register(
            "mox_smtpserver_delivery_starttls_errors",
            "Failed STARTTLS handshakes for incoming mail",
            self.starttls_errors.clone(),
        );
        registry.register("mox_spf_verify_duration_seconds", "SPF checks and their results", self.spf.clone());
        registry.register("mox_iprev_lookup_total", "Reverse lookups of clients and their results", self.iprev.clone());
        registry.register("mox_dkim_verify_duration_seconds", "DKIM signatures and their results", self.dkim.clone());
        registry.register("mox_dmarc_verify_duration_seconds", "DMARC checks and their results", self.dmarc.clone());
    }

    pub(crate) fn spf(&self, status: &'static str, took: Duration) {
        self.spf.get_or_create(&StatusLabel { status }).observe(took.as_secs_f64());
    }

    pub(crate) fn iprev(&self, status: &'static str, took: Duration) {
        self.iprev.get_or_create(&StatusLabel { status }).observe(took.as_secs_f64());
    }

    pub(crate) fn dkim(&self, algorithm: &'static str, status: &'static str, took: Duration) {
        self.dkim.get_or_create(&DkimLabels { algorithm, status }).observe(took.as_secs_f64());
    }

    pub(crate) fn dmarc(&self, status: &'static str, reject: bool, applied: bool, took: Duration) {
        let text = |b: bool| if b { "yes" } else { "no" };
        self.dmarc.get_or_create(&DmarcLabels { status, reject: text(reject), r#use: text(applied) }).observe(took.as_secs_f64());
    }

    pub(crate) fn command(&self, kind: &'static str, cmd: String, code: u16, ecode: String, took: Duration) {
        self.commands.get_or_create(&CommandLabels { kind, cmd, code, ecode }).observe(took.as_secs_f64());
    }

    pub(crate) fn delivery(&self, result: &'static str, reason: &str) {
        self.deliveries.get_or_create(&DeliveryLabels { result, reason: reason.to_owned() }).inc();
    }

    pub(crate) fn submission(&self, result: &'static str) {
        self.submissions.get_or_create(&ResultLabel { result }).inc();
    }

    pub(crate) fn error(&self, error: &'static str) {
        self.errors.get_or_create(&ErrorLabel { error }).inc();
    }

    pub(crate) fn starttls(&self, failed: Option<String>) {
        self.starttls.inc();
        if let Some(reason) = failed {
            self.starttls_errors.get_or_create(&ReasonLabel { reason }).inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_under_the_known_names() {
        let (metrics, mut registry) = (Metrics::default(), Registry::default());
        metrics.register(&mut registry);
        metrics.delivery("delivered", "");
        metrics.starttls(Some("eof".to_owned()));
        metrics.dmarc("fail", true, false, Duration::from_millis(2));
        metrics.command("smtp", "mail".to_owned(), 250, "2.1.0".to_owned(), Duration::from_millis(2));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "mox_smtpserver_delivery_total{result=\"delivered\",reason=\"\"} 1",
            "mox_smtpserver_delivery_starttls_total 1",
            "mox_dmarc_verify_duration_seconds_count{status=\"fail\",reject=\"yes\",use=\"no\"} 1",
            "mox_smtpserver_delivery_starttls_errors_total{reason=\"eof\"} 1",
            "mox_smtpserver_command_duration_seconds_count{kind=\"smtp\",cmd=\"mail\",code=\"250\",ecode=\"2.1.0\"} 1",
        ] {
            assert!(text.lines().any(|l| l == line), "no {line} in\n{text}");
        }
    }
}
