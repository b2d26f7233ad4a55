//! Keys of session tickets: those of the store, which all nodes share, looked at every hour as each day has its own.

use super::Life;
use super::reports::Reports;
use mox_base::Clock;
use mox_net::tls::TicketKeys;
use std::sync::Arc;
use std::time::Duration;

const INTERVAL: Duration = Duration::from_secs(3600);

/// The keys, kept up to date from now on.
///
/// # Errors
/// A text for the operator.
pub(super) async fn start(reports: &Reports, clock: &Arc<dyn Clock>, life: &Life) -> Result<TicketKeys, String> {
    let store = reports.tls.clone();
    let keys = TicketKeys::new(&store.ticket_keys(clock.now()).await.map_err(|e| format!("reading keys of TLS session tickets: {e}"))?);
    let (current, clock, finish) = (keys.clone(), Arc::clone(clock), life.finish.clone());
    life.background.spawn(async move {
        loop {
            tokio::select! {
                () = finish.cancelled() => return,
                () = tokio::time::sleep(INTERVAL) => {}
            }
            match store.ticket_keys(clock.now()).await {
                Ok(keys) => current.replace(&keys),
                Err(error) => tracing::error!(%error, "reading keys of TLS session tickets, going on with those in use"),
            }
        }
    });
    Ok(keys)
}
