//! The queue's delivery, and queue commands on a running server.

mod retired;
pub(super) mod tasks;

use super::Mode;
use super::services::Shared;
use super::tls_policies::verified_tls;
use crate::ctl::{Output, QueueAction, QueueFilter};
use mox_base::{Lookup, QueueId, Timestamp};
use mox_config::{Static, duration};
use mox_delivery::metrics::Metrics;
use mox_delivery::outbound::{self, Ports, Runner, Settings, SourceIps};
use mox_delivery::spool::SpoolSettings;
use mox_delivery::tls::TlsPolicies;
use mox_net::{ClientTls, TcpDial};
use mox_store::queue::{Entry, Filter, Listed, Page, Reschedule, Sort};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// What delivers the queue: to the world, or for localserve to our own listener.
///
/// # Errors
/// A text for the operator, when certificates of authorities can't be read.
pub(super) fn runner(
    shared: &Shared,
    lookup: Arc<dyn Lookup>,
    mode: Mode,
    local: Option<SocketAddr>,
    pedantic: bool,
    metrics: Metrics,
    policies: Option<Arc<TlsPolicies>>,
) -> Result<Runner, String> {
    let fixed = shared.live.settings();
    let tls = |tls: Result<ClientTls, mox_net::tls::Error>| tls.map_err(|e| format!("setting up TLS: {e}"));
    let ports = Ports {
        clock: Arc::clone(shared.store.clock()),
        random: Arc::clone(shared.store.random()),
        lookup,
        dial: Arc::new(TcpDial::default()),
        opportunistic_tls: tls(ClientTls::opportunistic())?,
        verified_tls: verified_tls(&shared.live)?,
        policies,
        dead_addresses: shared.reports.as_ref().map(|reports| reports.dead.clone()),
        selectors: shared.selectors.clone(),
    };
    let settings = Settings {
        mode: match mode {
            Mode::Serve => outbound::Mode::World,
            Mode::Localserve { .. } => outbound::Mode::Local(local.unwrap_or_else(|| (Ipv4Addr::LOCALHOST, 1025).into())),
        },
        pedantic,
        schedule: shared.schedules.queue.clone(),
        sources: sources(fixed),
        spool: SpoolSettings { in_memory: 1 << 20, folder: shared.live.paths().data("tmp") },
        ..Settings::new(fixed.hostname.domain().clone())
    };
    let (queue, store) = (shared.queue.clone(), shared.store.clone());
    Ok(Runner::new(queue, store, shared.directory.clone(), shared.routing.clone(), settings, ports, metrics))
}

/// Our addresses for connections to others: those configured; else those that mail comes in at, since they are the ones with names and in SPF records, if
/// it is clear which.
fn sources(fixed: &Static) -> SourceIps {
    if !fixed.outgoing_ips.is_empty() {
        return SourceIps { ips: fixed.outgoing_ips.clone(), only: true };
    }
    let with_smtp = fixed.listeners.values().filter(|l| l.enabled_smtp().is_some());
    let mut ips: Vec<IpAddr> = with_smtp.flat_map(|l| l.ips.iter().copied()).filter(|ip| !ip.is_loopback()).collect();
    ips.sort_unstable();
    ips.dedup();
    let is_clear =
        !ips.iter().any(IpAddr::is_unspecified) && [true, false].iter().all(|v4| ips.iter().filter(|ip| ip.is_ipv4() == *v4).count() <= 1);
    SourceIps { ips: if is_clear { ips } else { Vec::new() }, only: false }
}

/// Does it and says what was done.
pub(super) async fn act(
    shared: &Shared,
    runner: &Runner,
    filter: QueueFilter,
    action: QueueAction,
    out: &mut Output,
) -> Result<(), String> {
    let clock = shared.store.clock();
    let (queue, now) = (&shared.queue, clock.now());
    let filter = filter.filter(clock.as_ref())?;
    let failed = |e: mox_store::db::Error| e.to_string();
    let text = match action {
        QueueAction::List(sort) => return list(shared, filter, sort.sort(), out).await,
        QueueAction::Hold(hold) => format!("{} messages changed\n", queue.set_hold(filter, hold).await.map_err(failed)?),
        QueueAction::Schedule { from_now, micros } => {
            runner.end_pauses().await.map_err(failed)?;
            let to = if from_now {
                Reschedule::At(Timestamp::from_micros(now.micros().saturating_add(micros)))
            } else {
                Reschedule::Add(micros)
            };
            format!("{} message(s) rescheduled\n", queue.reschedule(filter, to).await.map_err(failed)?)
        }
        QueueAction::RequireTls(require) => {
            format!("{} message(s) changed\n", queue.set_require_tls(filter, require).await.map_err(failed)?)
        }
        QueueAction::Transport(name) => {
            // An entry with a transport that isn't there would wait in vain.
            if !runner.has_transport(&name) {
                return Err(format!("no such transport: {name:?}"));
            }
            format!("{} message(s) changed\n", queue.set_transport(filter, name).await.map_err(failed)?)
        }
        QueueAction::Fail => format!("{} message(s) marked as failed\n", runner.fail(filter).await.map_err(failed)?),
        QueueAction::RetiredList(sort) => return retired::list(shared, filter, sort.sort(), out).await,
        QueueAction::Drop => format!("{} message(s) dropped\n", runner.drop_entries(filter).await.map_err(failed)?),
    };
    runner.count_held().await;
    out.write(text.as_bytes()).await
}

/// Prints the bytes of a message.
pub(super) async fn dump(shared: &Shared, id: i64, out: &mut Output) -> Result<(), String> {
    let failed = |e: mox_store::db::Error| e.to_string();
    let (_, message) = shared.queue.entry(QueueId(id)).await.map_err(failed)?.ok_or("no such message in queue")?;
    let mut body = shared.queue.open_body(message.id).await.map_err(failed)?.ok_or("message is gone")?;
    if let Some(signature) = &message.signature {
        out.write(&signature.fields).await?;
    }
    out.write(&message.prefix).await?;
    loop {
        let chunk = body.next_chunk().await.map_err(|e| e.to_string())?;
        if chunk.is_empty() {
            return Ok(());
        }
        out.write(&chunk).await?;
    }
}

async fn list(shared: &Shared, filter: Filter, mut sort: Sort, out: &mut Output) -> Result<(), String> {
    let now = shared.store.clock().now();
    let mut left = filter.max.unwrap_or(u64::MAX);
    let mut any = false;
    out.write(b"messages:\n").await?;
    while left > 0 {
        let page = Page { limit: Page::default().limit.min(left) };
        let rows = shared.queue.list(filter.clone(), sort, page).await.map_err(|e| e.to_string())?;
        let count = u64::try_from(rows.len()).unwrap_or(u64::MAX);
        let text: String = rows.iter().map(|row| line(row, now)).collect();
        any |= count > 0;
        out.write(text.as_bytes()).await?;
        let Some(last) = rows.last().filter(|_| count == page.limit) else { break };
        let time = if sort.field == mox_store::queue::SortField::Added { last.row.queued } else { last.row.next_attempt };
        sort.after = Some((time, last.row.id));
        left = left.saturating_sub(count);
    }
    if !any {
        out.write(b"(none)\n").await?;
    }
    Ok(())
}

fn line(listed: &Listed<Entry>, now: Timestamp) -> String {
    let entry = &listed.row;
    let sender = entry.sender.as_ref().map(ToString::to_string).unwrap_or_default();
    let last = entry.last_attempt.map(|at| relative(at, now)).unwrap_or_default();
    let error = listed.results.last().map_or("", |r| r.error.as_str());
    let queued = whole_seconds(entry.queued).rfc3339();
    let next = relative(now, entry.next_attempt);
    format!("{:5} {queued} from:{sender} to:{} next {next} last {last} error {error:?}\n", entry.id.0, entry.recipient)
}

pub(super) const fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_secs(time.secs())
}

/// From one time to another in whole seconds, as durations are written: `-1m30s` when the second is earlier.
pub(super) fn relative(from: Timestamp, to: Timestamp) -> String {
    let seconds = |d: Duration| Duration::from_secs(d.saturating_add(Duration::from_millis(500)).as_secs());
    let back = seconds(from.since(to));
    if back.is_zero() { duration::format(seconds(to.since(from))) } else { format!("-{}", duration::format(back)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_times() {
        let at = Timestamp::from_secs;
        for (from, to, want) in [(0, 450, "7m30s"), (90, 0, "-1m30s"), (5, 5, "0s")] {
            assert_eq!(relative(at(from), at(to)), want);
        }
    }
}
