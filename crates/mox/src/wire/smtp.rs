//! The SMTP service from the configuration.

use super::Mode;
use super::listeners::{Endpoint, Service};
use super::services::Shared;
use mox_base::{ByteSize, Domain, Lookup, Random, Timestamp};
use mox_config::Static;
use mox_delivery::blocklists::Blocklists;
use mox_delivery::inbound::{ByPolicy, Inbound};
use mox_delivery::spool::SpoolSettings;
use mox_delivery::submit::Submitter;
use mox_delivery::webhook::Arrivals;
use mox_net::ServerTls;
use mox_smtp::server::Kind;
use mox_smtpd::{ConnectionIds, ListenerSettings, Settings};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Messages up to this size aren't written to a file before they are accepted.
const IN_MEMORY: usize = 256 << 10;

/// Old files that a crash left in the spool folder.
const STALE: Duration = Duration::from_secs(7 * 24 * 3600);

/// What all connections share.
///
/// # Errors
/// A text for the operator.
pub(super) fn service(shared: &Shared, mode: Mode, pedantic: bool, parts: Parts) -> Result<Arc<mox_smtpd::Service>, String> {
    let folder = shared.live.paths().data("tmp");
    std::fs::create_dir_all(&folder).map_err(|e| format!("creating {}: {e}", folder.display()))?;
    sweep(&folder, shared.store.clock().now());
    let settings = Settings {
        hostname: shared.live.settings().hostname.domain().clone(),
        pedantic,
        localserve: mode != Mode::Serve,
        spool: SpoolSettings { in_memory: IN_MEMORY, folder },
        remove_bcc: shared.live.settings().remove_submitted_bcc,
        unlimited: shared.live.settings().rate_limit_exempt_networks.clone(),
    };
    let (clock, random) = (Arc::clone(shared.store.clock()), Arc::clone(shared.store.random()));
    let ids = connection_ids(shared)?;
    let decision = ByPolicy::new(shared.store.clone()).with_blocklists(parts.blocklists);
    let inbound = Inbound::new(shared.store.clone(), Arc::new(decision)).with_arrivals(parts.arrivals).with_seals(shared.selectors.clone());
    let inbound = match &shared.reports {
        Some(reports) => inbound.with_reports(reports.received.clone()).with_evaluations(Arc::clone(&reports.evaluations)),
        None => inbound,
    };
    let parts = mox_smtpd::Parts {
        lookup: parts.lookup,
        directory: shared.directory.clone(),
        logins: shared.logins.clone(),
        inbound,
        submitter: Submitter::new(shared.queue.clone(), Arc::clone(&clock), Arc::clone(&random)),
        selectors: shared.selectors.clone(),
        ids: Arc::new(ids),
        metrics: shared.smtp_metrics.clone(),
        stop: parts.stop,
        clock,
        random,
    };
    Ok(mox_smtpd::Service::new(settings, parts))
}

/// What the service needs that isn't [`Shared`].
pub(super) struct Parts {
    pub(super) blocklists: Blocklists,
    pub(super) arrivals: Arrivals,
    pub(super) lookup: Arc<dyn Lookup>,
    pub(super) stop: CancellationToken,
}

/// Ids of connections and requests as others see them.
///
/// # Errors
/// A text for the operator.
pub(super) fn connection_ids(shared: &Shared) -> Result<ConnectionIds, String> {
    let key = received_id_key(shared, shared.store.random().as_ref());
    ConnectionIds::new(&key, shared.store.clock().now()).map_err(|e| e.to_string())
}

/// The key of ids in Received fields: from its file, made if it isn't there. One that can't be kept serves until the end.
fn received_id_key(shared: &Shared, random: &dyn Random) -> [u8; 24] {
    let path = shared.live.paths().data("receivedid.key");
    if let Some(key) = std::fs::read(&path).ok().and_then(|bytes| bytes.try_into().ok()) {
        return key;
    }
    let mut key = [0; 24];
    random.fill(&mut key);
    let file = std::fs::File::options().write(true).create(true).truncate(true).mode(0o640).open(&path);
    if let Err(error) = file.and_then(|mut file| file.write_all(&key)) {
        tracing::error!(%error, path = %path.display(), "writing key for received ids");
    }
    key
}

/// Deletes what crashes left in the spool folder.
fn sweep(folder: &Path, now: Timestamp) {
    let stale = |entry: &std::fs::DirEntry| {
        let modified = entry.metadata().ok().filter(std::fs::Metadata::is_file)?.modified().ok()?;
        let micros = modified.duration_since(std::time::UNIX_EPOCH).ok()?.as_micros();
        let modified = Timestamp::from_micros(i64::try_from(micros).ok()?);
        (now.since(modified) > STALE).then_some(())
    };
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if stale(&entry).is_some()
            && let Err(error) = std::fs::remove_file(entry.path())
        {
            tracing::warn!(%error, path = %entry.path().display(), "removing old temporary file");
        }
    }
}

/// Settings of a listening socket.
pub(super) fn listener(config: &Static, endpoint: &Endpoint, tls: Option<ServerTls>) -> ListenerSettings {
    let listener = config.listeners.get(&endpoint.listener);
    let hostname: Domain = listener.and_then(|l| l.hostname.clone()).unwrap_or_else(|| config.hostname.domain().clone());
    let mx = listener.and_then(|l| l.enabled_smtp());
    let (incoming, submission) = (ListenerSettings::incoming, ListenerSettings::submission);
    let defaults =
        if endpoint.service == Service::Smtp { incoming(&endpoint.listener, hostname) } else { submission(&endpoint.listener, hostname) };
    // Only STARTTLS can be done without.
    let plain =
        endpoint.service == Service::Submission && listener.and_then(|l| l.enabled_submission()).is_some_and(|s| s.no_require_starttls);
    ListenerSettings {
        tls,
        implicit_tls: endpoint.service.is_immediate_tls(),
        starttls: !endpoint.service.is_immediate_tls(),
        auth_without_tls: plain,
        require_tls: match endpoint.service {
            Service::Smtp => mx.is_some_and(|smtp| smtp.require_starttls),
            _ => !plain,
        },
        requiretls: defaults.kind == Kind::Submission || mx.is_none_or(|smtp| !smtp.no_require_tls),
        first_time_sender_delay: match endpoint.service {
            Service::Smtp => mx.map_or(Duration::ZERO, |smtp| smtp.first_time_sender_delay()),
            _ => Duration::ZERO,
        },
        blocklists: mx.map(|smtp| smtp.dnsbls.clone()).unwrap_or_default().into(),
        max_size: listener.map_or(defaults.max_size, |l| ByteSize(l.max_message_size())),
        ..defaults
    }
}
