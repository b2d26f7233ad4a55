//! Certificates of listeners, and the TLS of their sockets.

use super::acme::{hostname_of, provider_of};
use super::listeners::{Endpoint, Service};
use super::{Life, services::Shared};
use mox_config::{ListenerTls, Static, TlsVersion};
use mox_net::ServerTls;
use mox_net::acme::Acme;
use mox_net::tls::{AcmeFallback, CertError, Certificates, KeyCert, MinVersion, ServerTlsOptions, TicketKeys, UnknownSni};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How often files of certificates are looked at.
const INTERVAL: Duration = Duration::from_secs(5);

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

/// The certificates of each listener that has some in files; read while we may read the keys.
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

/// Where certificates come from.
#[derive(Clone, Copy)]
pub(super) struct Sources<'a> {
    /// By listener.
    pub(super) files: &'a BTreeMap<String, Arc<Certificates>>,
    /// By their names in the configuration.
    pub(super) providers: &'a BTreeMap<String, Acme>,
    /// Keys of session tickets; without, each socket makes its own.
    pub(super) tickets: Option<&'a TicketKeys>,
}

/// The TLS of a socket, if its listener has certificates. Sessions can be resumed only at the same service of the same listener.
pub(super) fn of_socket(config: &Static, sources: Sources<'_>, endpoint: &Endpoint) -> Result<Option<ServerTls>, TlsError> {
    let Some(listener) = config.listeners.get(&endpoint.listener) else { return Ok(None) };
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
    let made = if let Some(acme) = provider_of(listener).and_then(|name| sources.providers.get(name)) {
        let host = hostname_of(config, listener).clone();
        let fallback = match endpoint.service {
            Service::Smtp => AcmeFallback::Always(host),
            Service::Https => AcmeFallback::Nothing,
            _ => AcmeFallback::WithoutName(host),
        };
        ServerTls::with_acme(acme.clone(), fallback, options)
    } else if let Some(certs) = sources.files.get(&endpoint.listener) {
        ServerTls::new(Arc::clone(certs), options)
    } else {
        return Ok(None);
    };
    let made = made.map_err(|source| TlsError::Tls { listener: endpoint.listener.clone(), source })?;
    let service = format!("{}/{}", endpoint.listener, endpoint.service);
    Ok(Some(match sources.tickets {
        Some(keys) => made.with_ticket_keys(keys, &service),
        None => made,
    }))
}

/// Takes new certificates into use when their files change. Files that can't be read or don't fit together, as when only one
/// of them was replaced yet, leave the certificates in use.
pub(super) fn watch_files(shared: &Arc<Shared>, certs: BTreeMap<String, Arc<Certificates>>, life: &Life) {
    if certs.is_empty() {
        return;
    }
    let (shared, finish) = (Arc::clone(shared), life.finish.clone());
    life.background.spawn(async move {
        let mut seen = stamps(&shared, &certs);
        loop {
            tokio::select! {
                () = finish.cancelled() => return,
                () = tokio::time::sleep(INTERVAL) => {}
            }
            let (at, all) = (Arc::clone(&shared), certs.clone());
            let before = seen.clone();
            // Only a panic in there keeps us from an answer; the next look comes anyway.
            if let Ok(now) = tokio::task::spawn_blocking(move || look(&at, &all, &before)).await {
                seen = now;
            }
        }
    });
}

/// What shows that a file has changed: modification time, size, inode.
type Stamp = Option<(i64, i64, u64, u64)>;

/// By listener, of all its files.
type Stamps = BTreeMap<String, Vec<Stamp>>;

fn stamps(shared: &Shared, certs: &BTreeMap<String, Arc<Certificates>>) -> Stamps {
    let stamp = |path: PathBuf| std::fs::metadata(path).ok().map(|m| (m.mtime(), m.mtime_nsec(), m.size(), m.ino()));
    let listeners = &shared.live.settings().listeners;
    let of = |name: &String| {
        let pairs = listeners.get(name).and_then(|l| l.tls.as_ref()).map(|tls| tls.key_certs.as_slice()).unwrap_or_default();
        pairs.iter().flat_map(|pair| [&pair.cert_file, &pair.key_file]).map(|file| stamp(shared.live.paths().config(file))).collect()
    };
    certs.keys().map(|name| (name.clone(), of(name))).collect()
}

fn look(shared: &Shared, certs: &BTreeMap<String, Arc<Certificates>>, before: &Stamps) -> Stamps {
    let now = stamps(shared, certs);
    for (listener, certs) in certs.iter().filter(|(name, _)| now.get(*name) != before.get(*name)) {
        let tls = shared.live.settings().listeners.get(listener).and_then(|l| l.tls.as_ref());
        let Some(read) = tls.map(|tls| key_certs(tls, shared.live.paths().config_dir())) else { continue };
        match read.and_then(|read| certs.replace(read)) {
            Ok(()) => tracing::info!(listener, "certificates reloaded"),
            Err(error) => tracing::error!(%error, listener, "reading changed certificates, keeping those in use"),
        }
    }
    now
}
