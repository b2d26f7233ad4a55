//! When our certificates expire, for whoever watches the server: seconds since 1970, looked up when asked for.

use mox_net::acme::Acme;
use mox_net::tls::Certificates;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, OnceLock};

const NAME: &str = "mox_tls_certificate_expiry_timestamp_seconds";

/// What there is to look at.
#[derive(Debug)]
struct Sources {
    /// By listener.
    files: BTreeMap<String, Arc<Certificates>>,
    /// By provider.
    providers: BTreeMap<String, Acme>,
}

/// The gauge, which shows nothing until it is told where certificates are.
#[derive(Clone, Debug, Default)]
pub(super) struct Expiry(Arc<OnceLock<Sources>>);

impl Expiry {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(self.clone()));
    }

    /// Where certificates are; once.
    pub(super) fn watch(&self, files: &BTreeMap<String, Arc<Certificates>>, providers: &BTreeMap<String, Acme>) {
        // Whoever comes second has the same to say.
        let _first = self.0.set(Sources { files: files.clone(), providers: providers.clone() });
    }

    /// Where from, for which name, and until when.
    fn certificates(&self) -> BTreeSet<(String, String, i64)> {
        let mut found = BTreeSet::new();
        let Some(Sources { files, providers }) = self.0.get() else { return found };
        for (listener, certs) in files {
            for cert in &*certs.current() {
                let name = cert.names().first().cloned().unwrap_or_default();
                found.insert((format!("listener {listener}"), name, cert.validity().1.secs()));
            }
        }
        for (provider, acme) in providers {
            for state in acme.certificates() {
                if let Some((_, until)) = state.validity {
                    found.insert((format!("acme {provider} {}", state.kind), state.host, until.secs()));
                }
            }
        }
        found
    }
}

impl Collector for Expiry {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let certificates = self.certificates();
        if certificates.is_empty() {
            return Ok(());
        }
        let gauge = ConstGauge::new(0_i64);
        let about = "When a certificate of ours expires, in seconds since 1970.";
        let mut family = encoder.encode_descriptor(NAME, about, None, gauge.metric_type())?;
        for (source, name, until) in certificates {
            let labels = [("source", source), ("name", name)];
            ConstGauge::new(until).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mox_net::tls::KeyCert;

    #[test]
    fn certificates_in_files() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["mx.example".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2040, 1, 1);
        let cert = params.self_signed(&key).unwrap();
        let cert = KeyCert::from_pem(cert.pem().as_bytes(), key.serialize_pem().as_bytes()).unwrap();
        let (expiry, mut registry) = (Expiry::default(), Registry::default());
        expiry.register(&mut registry);
        let text = || {
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
            text
        };
        assert!(!text().contains(NAME));
        expiry.watch(&[("public".to_owned(), Arc::new(Certificates::new(vec![cert]).unwrap()))].into(), &BTreeMap::new());
        let line = format!("{NAME}{{source=\"listener public\",name=\"mx.example\"}} 2208988800");
        assert!(text().lines().any(|l| l == line), "{}", text());
    }
}
