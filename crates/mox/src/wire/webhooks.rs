//! Webhooks on a running server: what calls them, and what commands do with them.

mod print;

use super::Mode;
use super::services::Shared;
use crate::ctl::{Output, WebhookTask};
use mox_base::{Lookup, Timestamp};
use mox_delivery::webhook::{Arrivals, ArrivalsParts, Metrics, Parts, Runner, keep_retired};
use mox_net::http::{AddressGuard, Client, Proxies};
use mox_net::tls::read_roots;
use mox_net::{ClientTls, TcpDial};
use mox_store::queue::{Page, Reschedule};
use mox_store::webhook::{Filter, Sort, SortField, WebhookId};
use std::path::PathBuf;
use std::sync::Arc;

/// What calls webhooks. Localserve also calls programs on its own machine: that is what it is for.
///
/// # Errors
/// A text for the operator, when certificates of authorities can't be read.
pub(super) fn runner(shared: &Shared, lookup: Arc<dyn Lookup>, mode: Mode, metrics: Metrics) -> Result<Runner, String> {
    let fixed = shared.live.settings();
    let guard = match mode {
        Mode::Serve => AddressGuard::public_only(),
        Mode::Localserve { .. } => AddressGuard::public_and_loopback(),
    };
    let guard = guard.with(fixed.webhook_private_networks.iter().copied());
    let ca = fixed.tls.as_ref().and_then(|tls| tls.ca.as_ref());
    let files: Vec<PathBuf> = ca.map(|ca| ca.cert_files.iter().map(|file| shared.live.paths().config(file)).collect()).unwrap_or_default();
    let roots = read_roots(ca.is_none_or(|ca| ca.additional_to_system), &files).map_err(|e| e.to_string())?;
    let tls = ClientTls::verified(roots).map_err(|e| format!("setting up TLS: {e}"))?;
    let proxies = Proxies::from_vars(|name| std::env::var(name).ok()).map_err(|e| format!("environment: {e}"))?;
    Ok(Runner::new(Parts {
        webhooks: shared.queue.webhooks(),
        directory: shared.directory.clone(),
        client: Client::through(lookup, Arc::new(TcpDial::default()), tls, guard, proxies).counted(&shared.net_metrics, "webhook"),
        clock: Arc::clone(shared.store.clock()),
        random: Arc::clone(shared.store.random()),
        metrics,
        agent: format!("mox/{} (webhook)", env!("CARGO_PKG_VERSION")),
        schedule: shared.schedules.webhooks.clone(),
    }))
}

/// What tells of messages that arrive.
pub(super) fn arrivals(shared: &Shared) -> Arrivals {
    Arrivals::new(ArrivalsParts {
        store: shared.store.clone(),
        queue: shared.queue.clone(),
        directory: shared.directory.clone(),
        clock: Arc::clone(shared.store.clock()),
        dead_addresses: shared.reports.as_ref().map(|reports| reports.dead.clone()),
    })
}

/// Does it and says what was done.
pub(super) async fn perform(shared: &Shared, task: WebhookTask, out: &mut Output) -> Result<(), String> {
    let clock = shared.store.clock();
    let (webhooks, now) = (shared.queue.webhooks(), clock.now());
    let failed = |e: mox_store::db::Error| e.to_string();
    let text = match task {
        WebhookTask::List(filter, sort) => return list(shared, filter.filter(clock.as_ref())?, sort.sort(), out).await,
        WebhookTask::RetiredList(filter, sort) => return list_retired(shared, filter.filter(clock.as_ref())?, sort.sort(), out).await,
        WebhookTask::Schedule { filter, from_now, micros } => {
            let to = if from_now {
                Reschedule::At(Timestamp::from_micros(now.micros().saturating_add(micros)))
            } else {
                Reschedule::Add(micros)
            };
            let count = webhooks.reschedule(filter.filter(clock.as_ref())?, to).await.map_err(failed)?;
            format!("{count} webhook(s) rescheduled\n")
        }
        WebhookTask::Cancel(filter) => {
            let directory = shared.directory.current();
            let keep = move |account: &str| keep_retired(directory.account(account).map(AsRef::as_ref)).map(|period| now.after(period));
            let count = webhooks.cancel(filter.filter(clock.as_ref())?, now, keep).await.map_err(failed)?;
            format!("{count} webhook(s) marked as canceled\n")
        }
        WebhookTask::Print(id) => {
            print::waiting(&webhooks.webhook(WebhookId(id)).await.map_err(failed)?.ok_or("no such webhook in queue")?)?
        }
        WebhookTask::RetiredPrint(id) => {
            print::retired(&webhooks.retired(WebhookId(id)).await.map_err(failed)?.ok_or("no such retired webhook")?)?
        }
    };
    out.write(text.as_bytes()).await
}

async fn list(shared: &Shared, filter: Filter, mut sort: Sort, out: &mut Output) -> Result<(), String> {
    let (webhooks, now) = (shared.queue.webhooks(), shared.store.clock().now());
    let mut left = filter.max.unwrap_or(u64::MAX);
    let mut any = false;
    out.write(b"webhooks:\n").await?;
    while left > 0 {
        let page = Page { limit: PAGE.min(left) };
        let rows = webhooks.list(filter.clone(), sort, page).await.map_err(|e| e.to_string())?;
        let Some(last) = rows.last() else { break };
        any = true;
        sort.after = Some((if sort.field == SortField::Added { last.row.submitted } else { last.row.next_attempt }, last.row.id));
        left = left.saturating_sub(u64::try_from(rows.len()).unwrap_or(u64::MAX));
        let text: String = rows.iter().map(|row| print::waiting_line(row, now)).collect();
        out.write(text.as_bytes()).await?;
    }
    if any { Ok(()) } else { out.write(b"(none)\n").await }
}

async fn list_retired(shared: &Shared, filter: Filter, mut sort: Sort, out: &mut Output) -> Result<(), String> {
    let (webhooks, now) = (shared.queue.webhooks(), shared.store.clock().now());
    let mut left = filter.max.unwrap_or(u64::MAX);
    let mut any = false;
    out.write(b"retired webhooks:\n").await?;
    while left > 0 {
        let page = Page { limit: PAGE.min(left) };
        let rows = webhooks.list_retired(filter.clone(), sort, page).await.map_err(|e| e.to_string())?;
        let Some(last) = rows.last() else { break };
        any = true;
        sort.after = Some((if sort.field == SortField::Added { last.row.submitted } else { last.row.last_activity }, last.row.id));
        left = left.saturating_sub(u64::try_from(rows.len()).unwrap_or(u64::MAX));
        let text: String = rows.iter().map(|row| print::retired_line(row, now)).collect();
        out.write(text.as_bytes()).await?;
    }
    if any { Ok(()) } else { out.write(b"(none)\n").await }
}

/// Fewer than of messages: each has its body.
const PAGE: u64 = 100;
