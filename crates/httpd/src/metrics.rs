//! What is counted, under the names that dashboards and alerts know.

use crate::process::Process;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::fmt;
use std::time::Duration;

/// A service that connections are counted for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ConnectionLabels {
    /// `smtp`, `submission`, `submissions`, `imap`, `imaps`.
    pub protocol: String,
    /// Name of the listener.
    pub listener: String,
}

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
    Kind { kind: &'static str }
    Service { service: &'static str }
    Package { pkg: &'static str }
    Build { version: &'static str }
    Code { code: u16 }
    ImapCommand { cmd: &'static str, result: &'static str }
    Http { handler: &'static str, proto: &'static str, method: &'static str, code: u16 }
}

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// Buckets in seconds that the dashboards were made for.
const BUCKETS: [f64; 10] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 20.0];

fn up_to_20_seconds() -> Histogram {
    Histogram::new(BUCKETS)
}

fn up_to_2_minutes() -> Histogram {
    Histogram::new(BUCKETS.into_iter().chain([30.0, 60.0, 120.0]))
}

/// All metrics of this process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    open: Family<ConnectionLabels, Gauge>,
    panics: Family<Package, Counter>,
    scrapes: Family<Code, Counter>,
    scraping: Gauge,
    imap_connections: Family<Service, Counter>,
    imap_commands: Histograms<ImapCommand>,
    smtp_connections: Family<Kind, Counter>,
    http_requests: Histograms<Http>,
    http_responses: Histograms<Http>,
}

/// Packages whose panics are counted from the start, so that an alert sees the first one increase something.
const PANIC_PACKAGES: [&str; 21] = [
    "ctl",
    "import",
    "serve",
    "imapserver",
    "mtastsdb",
    "queue",
    "smtpclient",
    "smtpserver",
    "dkimverify",
    "spfverify",
    "upgradethreads",
    "importmanage",
    "importmessages",
    "webadmin",
    "webmailsendevent",
    "webmail",
    "webmailrequest",
    "webmailquery",
    "webmailhandle",
    "store",
    "http",
];

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// The metrics counted here. Others are added with [`Self::registry_mut`].
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let mut metrics = Self {
            registry: Registry::default(),
            open: Family::default(),
            panics: Family::default(),
            scrapes: Family::default(),
            scraping: Gauge::default(),
            imap_connections: Family::default(),
            imap_commands: Family::new_with_constructor(up_to_20_seconds),
            smtp_connections: Family::default(),
            http_requests: Family::new_with_constructor(up_to_2_minutes),
            http_responses: Family::new_with_constructor(up_to_2_minutes),
        };
        // Names of counters get their _total when written.
        let m = &metrics;
        registry.register("mox_connections_count", "Open connections", m.open.clone());
        registry.register("mox_panic", "Unhandled panics, by package", m.panics.clone());
        registry.register("promhttp_metric_handler_requests", "Scrapes by HTTP status code", m.scrapes.clone());
        registry.register("promhttp_metric_handler_requests_in_flight", "Scrapes that are being answered", m.scraping.clone());
        let build = Family::<Build, Gauge>::default();
        build.get_or_create(&Build { version: env!("CARGO_PKG_VERSION") }).set(1);
        registry.register("mox_build_info", "Which version runs", build);
        registry.register("mox_imap_connection", "Incoming IMAP connections", m.imap_connections.clone());
        registry.register("mox_imap_command_duration_seconds", "IMAP commands and their duration", m.imap_commands.clone());
        registry.register("mox_smtpserver_connection", "Incoming SMTP connections", m.smtp_connections.clone());
        let (until_head, until_end) = ("HTTP requests until the status line", "HTTP requests until the end of the response");
        registry.register("mox_httpserver_request_duration_seconds", until_head, m.http_requests.clone());
        registry.register("mox_httpserver_response_duration_seconds", until_end, m.http_responses.clone());
        for pkg in PANIC_PACKAGES {
            drop(m.panics.get_or_create(&Package { pkg }));
        }
        for code in [200, 500, 503] {
            drop(m.scrapes.get_or_create(&Code { code }));
        }
        registry.register_collector(Box::new(Process));
        metrics.registry = registry;
        metrics
    }

    /// For metrics that others count.
    pub const fn registry_mut(&mut self) -> &mut Registry {
        &mut self.registry
    }

    /// Counts a connection as open until the guard is dropped.
    pub fn open_connection(&self, labels: &ConnectionLabels) -> OpenConnection {
        let gauge = self.open.get_or_create_owned(labels);
        gauge.inc();
        OpenConnection(gauge)
    }

    /// A panic that was contained.
    pub fn panicked(&self, pkg: &'static str) {
        self.panics.get_or_create(&Package { pkg }).inc();
    }

    /// A connection to `imap` or `imaps`.
    pub fn imap_connection(&self, service: &'static str) {
        self.imap_connections.get_or_create(&Service { service }).inc();
    }

    /// An IMAP command.
    pub fn imap_command(&self, cmd: &'static str, result: &'static str, duration: Duration) {
        self.imap_commands.get_or_create(&ImapCommand { cmd, result }).observe(duration.as_secs_f64());
    }

    /// A connection to `smtp` or `submission`.
    pub fn smtp_connection(&self, kind: &'static str) {
        self.smtp_connections.get_or_create(&Kind { kind }).inc();
    }

    /// A request whose response begins.
    pub(crate) fn http_request(&self, handler: &'static str, proto: &'static str, method: &'static str, code: u16, duration: Duration) {
        self.http_requests.get_or_create(&Http { handler, proto, method, code }).observe(duration.as_secs_f64());
    }

    /// A request whose response ended.
    pub(crate) fn http_response(&self, handler: &'static str, proto: &'static str, method: &'static str, code: u16, duration: Duration) {
        self.http_responses.get_or_create(&Http { handler, proto, method, code }).observe(duration.as_secs_f64());
    }

    /// A scrape that is being answered until the guard is dropped.
    pub(crate) fn scraping(&self) -> OpenConnection {
        self.scraping.inc();
        OpenConnection(self.scraping.clone())
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
            let about = ["# TYPE ", "# HELP "].into_iter().find_map(|start| Some((start, line.strip_prefix(start)?.split_once(' ')?)));
            match about {
                Some((start, (name, rest))) if counters.contains(&name) => {
                    text.push_str(start);
                    text.push_str(name);
                    text.push_str("_total ");
                    text.push_str(rest);
                }
                _ => push_sample(&mut text, line),
            }
            text.push('\n');
        }
        Ok(text)
    }
}

/// Adds a line with a value. Bounds that are whole numbers have no fraction in the older format, and are a label that queries name.
fn push_sample(text: &mut String, line: &str) {
    let parts = line.split_once("_bucket{le=\"").and_then(|(name, rest)| Some((name, rest.split_once('"')?)));
    match parts.and_then(|(name, (bound, rest))| Some((name, bound.strip_suffix(".0")?, rest))) {
        Some((name, bound, rest)) => text.extend([name, "_bucket{le=\"", bound, "\"", rest]),
        None => text.push_str(line),
    }
}

/// Counts as an open connection, or a request that is being answered, until dropped.
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
        let open = metrics.open_connection(&labels);
        metrics.imap_connection("imaps");
        metrics.imap_command("select", "ok", Duration::from_millis(2));
        metrics.panicked("queue");
        let text = metrics.text().unwrap();
        for line in [
            "# TYPE mox_imap_connection_total counter",
            "mox_imap_connection_total{service=\"imaps\"} 1",
            "mox_connections_count{protocol=\"imaps\",listener=\"local\"} 1",
            "mox_panic_total{pkg=\"queue\"} 1",
            "mox_panic_total{pkg=\"smtpserver\"} 0",
            "mox_imap_command_duration_seconds_bucket{le=\"0.005\",cmd=\"select\",result=\"ok\"} 1",
            "mox_imap_command_duration_seconds_bucket{le=\"20\",cmd=\"select\",result=\"ok\"} 1",
            "mox_panic_total{pkg=\"mtastsdb\"} 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
        assert!(text.contains("process_resident_memory_bytes "), "{text}");
        drop(open);
        assert!(metrics.text().unwrap().contains("listener=\"local\"} 0"));
    }
}
