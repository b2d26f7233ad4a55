//! What is counted, under the names that dashboards and alerts know.

use crate::process::Process;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::fmt;

/// A service that connections are counted for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ConnectionLabels {
    /// `smtp`, `submission`, `submissions`, `imap`, `imaps`.
    pub protocol: String,
    /// Name of the listener.
    pub listener: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Service {
    service: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Package {
    pkg: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Code {
    code: u16,
}

/// All metrics of this process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    smtp_connections: Family<Kind, Counter>,
    imap_connections: Family<Service, Counter>,
    open: Family<ConnectionLabels, Gauge>,
    panics: Family<Package, Counter>,
    scrapes: Family<Code, Counter>,
}

/// Packages whose panics are counted from the start, so that an alert sees the first one increase something.
const PANIC_PACKAGES: [&str; 7] = ["ctl", "imapserver", "queue", "smtpclient", "smtpserver", "store", "http"];

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// The metrics counted here. Others are added with [`Self::registry_mut`].
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let smtp_connections = Family::default();
        registry.register("mox_smtpserver_connection", "Incoming SMTP connections", smtp_connections.clone());
        let imap_connections = Family::default();
        registry.register("mox_imap_connection", "Incoming IMAP connections", imap_connections.clone());
        let open = Family::default();
        registry.register("mox_connections_count", "Open connections", open.clone());
        let panics = Family::<Package, Counter>::default();
        registry.register("mox_panic", "Unhandled panics, by package", panics.clone());
        for pkg in PANIC_PACKAGES {
            drop(panics.get_or_create(&Package { pkg: pkg.to_owned() }));
        }
        let scrapes = Family::default();
        registry.register("promhttp_metric_handler_requests", "Scrapes by HTTP status code", scrapes.clone());
        registry.register_collector(Box::new(Process));
        Self { registry, smtp_connections, imap_connections, open, panics, scrapes }
    }

    /// For metrics that others count.
    pub const fn registry_mut(&mut self) -> &mut Registry {
        &mut self.registry
    }

    /// Counts a connection as open until the guard is dropped, and as made.
    pub fn connection(&self, labels: &ConnectionLabels) -> OpenConnection {
        match labels.protocol.as_str() {
            "smtp" => drop(self.smtp_connections.get_or_create(&Kind { kind: "smtp".into() }).inc()),
            "submission" | "submissions" => drop(self.smtp_connections.get_or_create(&Kind { kind: "submission".into() }).inc()),
            "imap" | "imaps" => drop(self.imap_connections.get_or_create(&Service { service: labels.protocol.clone() }).inc()),
            _ => {}
        }
        let gauge = self.open.get_or_create_owned(labels);
        gauge.inc();
        OpenConnection(gauge)
    }

    /// Counts a panic that was contained.
    pub fn panicked(&self, package: &str) {
        self.panics.get_or_create(&Package { pkg: package.to_owned() }).inc();
    }

    pub(crate) fn scraped(&self, code: u16) {
        self.scrapes.get_or_create(&Code { code }).inc();
    }

    /// All metrics as text in the OpenMetrics format.
    ///
    /// # Errors
    /// When a metric can't be written.
    pub fn open_metrics(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }

    /// All metrics in the older text format, version 0.0.4, which knows counters by their whole name.
    ///
    /// # Errors
    /// When a metric can't be written.
    pub fn text(&self) -> Result<String, fmt::Error> {
        let open = self.open_metrics()?;
        let lines: Vec<&str> = open.lines().filter(|line| *line != "# EOF").collect();
        let counters: Vec<&str> = lines.iter().filter_map(|l| l.strip_prefix("# TYPE ")?.strip_suffix(" counter")).collect();
        let mut text = String::with_capacity(open.len());
        for line in lines {
            let comment = line.strip_prefix("# TYPE ").or_else(|| line.strip_prefix("# HELP ")).and_then(|rest| rest.split_once(' '));
            match comment {
                Some((name, rest)) if counters.contains(&name) => {
                    text.push_str(&line[..7]);
                    text.push_str(name);
                    text.push_str("_total ");
                    text.push_str(rest);
                }
                _ => text.push_str(line),
            }
            text.push('\n');
        }
        Ok(text)
    }
}

/// Counts as an open connection until dropped.
#[derive(Debug)]
pub struct OpenConnection(Gauge);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_under_the_known_names() {
        let metrics = Metrics::new();
        let labels = ConnectionLabels { protocol: "imaps".into(), listener: "local".into() };
        let open = metrics.connection(&labels);
        metrics.panicked("queue");
        let text = metrics.text().unwrap();
        for line in [
            "# TYPE mox_imap_connection_total counter",
            "mox_imap_connection_total{service=\"imaps\"} 1",
            "mox_connections_count{protocol=\"imaps\",listener=\"local\"} 1",
            "mox_panic_total{pkg=\"queue\"} 1",
            "mox_panic_total{pkg=\"smtpserver\"} 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
        assert!(text.contains("process_resident_memory_bytes "), "{text}");
        drop(open);
        assert!(metrics.text().unwrap().contains("listener=\"local\"} 0"));
    }
}
