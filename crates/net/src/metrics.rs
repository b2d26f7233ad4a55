//! What reaching the world takes, counted: lookups and requests, by who makes them, under the names that dashboards know.

use mox_base::{Lookup, LookupError, LookupFuture, RecordKind};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::sync::Arc;
use tokio::time::Instant;

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// Labels of lookups.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LookupLabels {
    pkg: &'static str,
    r#type: &'static str,
    result: &'static str,
}

/// Labels of requests.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    pkg: &'static str,
    method: &'static str,
    code: u16,
    result: &'static str,
}

fn up_to_30_seconds() -> Histogram {
    Histogram::new([0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 20.0, 30.0])
}

fn from_10_milliseconds() -> Histogram {
    Histogram::new([0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 20.0, 30.0])
}

/// What is counted. Clones count together.
#[derive(Clone, Debug)]
pub struct NetMetrics {
    lookups: Histograms<LookupLabels>,
    requests: Histograms<RequestLabels>,
}

impl Default for NetMetrics {
    fn default() -> Self {
        Self { lookups: Family::new_with_constructor(up_to_30_seconds), requests: Family::new_with_constructor(from_10_milliseconds) }
    }
}

impl NetMetrics {
    /// Makes a registry show them.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("mox_dns_lookup_duration_seconds", "DNS lookups, by who asks and result", self.lookups.clone());
        let about = "Requests to web servers, by who makes them and result";
        registry.register("mox_httpclient_request_duration_seconds", about, self.requests.clone());
    }

    /// A resolver that counts what somebody asks.
    pub fn lookup_of(&self, pkg: &'static str, lookup: &Arc<dyn Lookup>) -> Arc<dyn Lookup> {
        Arc::new(Counted { lookup: Arc::clone(lookup), metrics: self.clone(), pkg })
    }

    pub(crate) fn request(&self, pkg: &'static str, method: &hyper::Method) -> RequestTimer {
        let method = match method.as_str() {
            "GET" => "get",
            "HEAD" => "head",
            "POST" => "post",
            "PUT" => "put",
            "DELETE" => "delete",
            _ => "other",
        };
        RequestTimer { metrics: self.clone(), began: Instant::now(), labels: RequestLabels { pkg, method, code: 0, result: "canceled" } }
    }
}

/// Counts a request when it is dropped: as canceled, unless it ended.
#[derive(Debug)]
pub(crate) struct RequestTimer {
    metrics: NetMetrics,
    began: Instant,
    labels: RequestLabels,
}

impl RequestTimer {
    pub(crate) fn answered(mut self, status: u16) {
        self.labels.code = status;
        self.labels.result = match status {
            200..300 => "ok",
            400..500 => "usererror",
            500..600 => "servererror",
            _ => "other",
        };
    }

    pub(crate) fn failed(mut self, result: &'static str) {
        self.labels.result = result;
    }
}

impl Drop for RequestTimer {
    fn drop(&mut self) {
        self.metrics.requests.get_or_create(&self.labels).observe(self.began.elapsed().as_secs_f64());
    }
}

/// A resolver whose lookups are counted.
#[derive(Debug)]
struct Counted {
    lookup: Arc<dyn Lookup>,
    metrics: NetMetrics,
    pkg: &'static str,
}

impl Lookup for Counted {
    fn query<'a>(&'a self, name: &'a str, kind: RecordKind) -> LookupFuture<'a> {
        let labels = LookupLabels { pkg: self.pkg, r#type: type_name(kind), result: "canceled" };
        let timer = LookupTimer { metrics: &self.metrics, began: Instant::now(), labels };
        Box::pin(async move {
            let found = self.lookup.query(name, kind).await;
            timer.ended(match &found {
                Ok(_) => "ok",
                Err(LookupError::NotFound { .. }) => "nxdomain",
                Err(error) if error.is_timeout() => "timeout",
                Err(LookupError::Temporary(_) | LookupError::Explained(_)) => "temporary",
                Err(LookupError::Bogus(_) | LookupError::BadName(_)) => "error",
            });
            found
        })
    }
}

/// Counts a lookup when it is dropped.
struct LookupTimer<'a> {
    metrics: &'a NetMetrics,
    began: Instant,
    labels: LookupLabels,
}

impl LookupTimer<'_> {
    fn ended(mut self, result: &'static str) {
        self.labels.result = result;
    }
}

impl Drop for LookupTimer<'_> {
    fn drop(&mut self) {
        self.metrics.lookups.get_or_create(&self.labels).observe(self.began.elapsed().as_secs_f64());
    }
}

const fn type_name(kind: RecordKind) -> &'static str {
    match kind {
        RecordKind::A => "a",
        RecordKind::Aaaa => "aaaa",
        RecordKind::Cname => "cname",
        RecordKind::Mx => "mx",
        RecordKind::Ns => "ns",
        RecordKind::Ptr => "ptr",
        RecordKind::Txt => "txt",
        RecordKind::Tlsa => "tlsa",
        RecordKind::Srv => "srv",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mox_testkit::Zone;

    #[tokio::test]
    async fn counts_under_the_known_names() {
        let (metrics, mut registry) = (NetMetrics::default(), Registry::default());
        metrics.register(&mut registry);
        let zone =
            Zone::new().mx("a.example", 10, "mx.a.example").temporary("b.example", None).bogus("c.example", None).silent("d.example");
        let zone: Arc<dyn Lookup> = Arc::new(zone);
        let lookup = metrics.lookup_of("queue", &zone);
        for name in ["a.example", "b.example", "c.example", "none.example"] {
            drop(lookup.mx(name).await);
        }
        // Whoever asked has gone.
        drop(lookup.query("d.example", RecordKind::A));
        metrics.request("mtasts", &hyper::Method::GET).answered(404);
        metrics.request("mtasts", &hyper::Method::POST).failed("timeout");
        drop(metrics.request("webhook", &hyper::Method::POST));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "mox_dns_lookup_duration_seconds_count{pkg=\"queue\",type=\"mx\",result=\"ok\"} 1",
            "mox_dns_lookup_duration_seconds_count{pkg=\"queue\",type=\"mx\",result=\"temporary\"} 1",
            "mox_dns_lookup_duration_seconds_count{pkg=\"queue\",type=\"mx\",result=\"error\"} 1",
            "mox_dns_lookup_duration_seconds_count{pkg=\"queue\",type=\"mx\",result=\"nxdomain\"} 1",
            "mox_dns_lookup_duration_seconds_count{pkg=\"queue\",type=\"a\",result=\"canceled\"} 1",
            "mox_httpclient_request_duration_seconds_count{pkg=\"mtasts\",method=\"get\",code=\"404\",result=\"usererror\"} 1",
            "mox_httpclient_request_duration_seconds_count{pkg=\"mtasts\",method=\"post\",code=\"0\",result=\"timeout\"} 1",
            "mox_httpclient_request_duration_seconds_count{pkg=\"webhook\",method=\"post\",code=\"0\",result=\"canceled\"} 1",
        ] {
            assert!(text.lines().any(|l| l == line), "no {line} in\n{text}");
        }
    }
}
