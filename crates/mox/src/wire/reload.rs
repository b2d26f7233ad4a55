//! Taking over a changed `domains.conf`.

use super::Life;
use super::services::Shared;
use mox_config::Reload;
use std::sync::Arc;
use std::time::Duration;

/// How often the file is looked at.
const INTERVAL: Duration = Duration::from_secs(1);

/// Looks at the file now and again, and when told to.
pub(super) fn watch(shared: Arc<Shared>, life: &Life) {
    let finish = life.finish.clone();
    life.background.spawn(async move {
        loop {
            tokio::select! {
                () = finish.cancelled() => return,
                () = shared.reload_now.notified() => {}
                () = tokio::time::sleep(INTERVAL) => {}
            }
            let live = Arc::clone(&shared.live);
            // Only a panic in there keeps us from an answer; the next look comes anyway.
            let Ok(reload) = tokio::task::spawn_blocking(move || live.reload()).await else { continue };
            match reload {
                Reload::Unchanged => {}
                Reload::Refused(problems) => {
                    for problem in problems.0 {
                        tracing::error!(%problem, "domains.conf has mistakes, keeping the configuration in use");
                    }
                }
                Reload::Swapped { warnings, .. } => {
                    for warning in warnings {
                        tracing::warn!(problem = %warning, "configuration");
                    }
                    match shared.apply().await {
                        Ok(()) => tracing::info!("domains.conf reloaded"),
                        Err(error) => tracing::error!(error, "applying domains.conf, keeping the configuration in use"),
                    }
                }
            }
        }
    });
}
