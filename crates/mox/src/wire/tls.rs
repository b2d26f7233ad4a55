//! Certificates of listeners, and the TLS of their sockets.

use super::listeners::{Endpoint, Service};
use mox_config::{ListenerTls, Static, TlsVersion};
use mox_net::ServerTls;
use mox_net::tls::{CertError, Certificates, KeyCert, MinVersion, ServerTlsOptions, UnknownSni};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Why TLS can't be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// The certificates of a listener.
    #[error("listener {listener:?}: {source}")]
    Cert {
        /// The listener's name.
        listener: String,
        /// What is wrong.
        source: CertError,
    },
    /// The library refused.
    #[error("setting up TLS for listener {listener:?}: {source}")]
    Tls {
        /// The listener's name.
        listener: String,
        /// What is wrong.
        source: mox_net::tls::Error,
    },
}

/// The certificates of each listener that has some; read while we may read the keys.
pub(crate) fn certificates(config: &Static, config_dir: &Path) -> Result<BTreeMap<String, Arc<Certificates>>, TlsError> {
    let mut all = BTreeMap::new();
    for (name, listener) in &config.listeners {
        let Some(tls) = listener.tls.as_ref().filter(|tls| !tls.key_certs.is_empty()) else { continue };
        let fault = |source| TlsError::Cert { listener: name.clone(), source };
        all.insert(name.clone(), Arc::new(Certificates::new(key_certs(tls, config_dir).map_err(fault)?).map_err(fault)?));
    }
    Ok(all)
}

fn key_certs(tls: &ListenerTls, config_dir: &Path) -> Result<Vec<KeyCert>, CertError> {
    tls.key_certs.iter().map(|files| KeyCert::read(&config_dir.join(&files.cert_file), &config_dir.join(&files.key_file))).collect()
}

/// The TLS of a socket, if its listener has certificates. Each socket has ticket keys of its own.
pub(crate) fn of_socket(
    config: &Static,
    certs: &BTreeMap<String, Arc<Certificates>>,
    endpoint: &Endpoint,
) -> Result<Option<ServerTls>, TlsError> {
    let Some((listener, certs)) = config.listeners.get(&endpoint.listener).zip(certs.get(&endpoint.listener)) else {
        return Ok(None);
    };
    let Some(tls) = &listener.tls else { return Ok(None) };
    let mx = listener.enabled_smtp().filter(|_| endpoint.service == Service::Smtp);
    if mx.is_some_and(|mx| mx.no_starttls) || matches!(endpoint.service, Service::Http | Service::Metrics) {
        return Ok(None);
    }
    // Browsers ask their users when a server asks for a certificate.
    let certificates = !matches!(endpoint.service, Service::Smtp | Service::Https);
    let options = ServerTlsOptions {
        min_version: if tls.min_version() == TlsVersion::V1_3 { MinVersion::Tls13 } else { MinVersion::Tls12 },
        client_auth: certificates && !tls.client_auth_disabled,
        // Some senders fail when a session of another host of ours is resumed.
        tickets: mx.is_none_or(|mx| mx.tls_session_tickets_disabled == Some(false)),
        unknown_sni: UnknownSni::Fallback,
    };
    let tls = ServerTls::new(Arc::clone(certs), options);
    tls.map(Some).map_err(|source| TlsError::Tls { listener: endpoint.listener.clone(), source })
}
