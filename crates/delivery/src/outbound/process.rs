//! What follows from the results of an attempt: outcomes for the queue, DSNs for the sender.

use super::Inner;
use super::attempt::{Attempted, Delivered, RecipientResult};
use super::bounce::{Bounce, What};
use super::failure::Failure;
use super::schedule::{DELAY_DSN_AFTER, retry_until};
use crate::metrics::DeliveryLabels;
use mox_base::Timestamp;
use mox_store::queue::{AttemptResult, Claim, DialedIps, Ending, Entry, Outcome, ReportKind, Via};
use std::time::Duration;

/// For so long, attempts that fail by our own fault aren't counted.
const OUR_FAULT_PATIENCE: Duration = Duration::from_secs(5 * 24 * 3600);

/// When an attempt began, and how long it took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Took {
    pub(super) start: Timestamp,
    pub(super) duration: Duration,
}

/// Tells senders what they are to be told, and gives the outcomes to be recorded.
pub(super) async fn process(inner: &Inner, claim: &Claim, attempted: Attempted, took: Took) -> Vec<Outcome> {
    count(inner, claim, &attempted, took);
    let mut outcomes = Vec::with_capacity(claim.entries.len());
    for (entry, result) in claim.entries.iter().zip(attempted.results) {
        log(entry, &result);
        let ending = match &result {
            Ok(delivered) => delivered_to(inner, claim, entry, delivered).await,
            Err(failure) => failed(inner, claim, entry, failure).await,
        };
        let mut dialed = entry.dialed.clone();
        for (host, ip) in &attempted.dialed {
            dialed.note(host, *ip);
        }
        let result = attempt_result(result, &attempted.transport, took);
        outcomes.push(Outcome { id: entry.id, result, dialed, ending });
    }
    outcomes
}

async fn delivered_to(inner: &Inner, claim: &Claim, entry: &Entry, delivered: &Delivered) -> Ending {
    // RFC 3461 §5.2.2: the next host won't tell, so we say that we handed it on.
    if entry.notify.success && !delivered.dsn {
        Bounce { inner, message: &claim.message, entry, what: What::Relayed(delivered) }.send().await;
    }
    Ending::Delivered
}

async fn failed(inner: &Inner, claim: &Claim, entry: &Entry, failure: &Failure) -> Ending {
    // Our own faults cost nobody's mail an attempt. But a sender must hear some day, RFC 5321 §4.5.4.1.
    if failure.ours && inner.now().since(entry.queued) < OUR_FAULT_PATIENCE {
        return Ending::Uncounted { next: entry.next_attempt };
    }
    let report = claim.message.report;
    if failure.permanent || entry.attempts >= entry.attempts_allowed() {
        if report == ReportKind::Dmarc {
            inner.metrics.dmarc_report_failure.inc();
        }
        if let Some(dead) = inner.ports.dead_addresses.as_ref().filter(|_| !failure.suppressed) {
            dead.note(report, &entry.recipient, failure.permanent, &failure.text).await;
        }
        if entry.notify.failure {
            Bounce { inner, message: &claim.message, entry, what: What::Failed(failure) }.send().await;
        }
        return if failure.suppressed { Ending::Suppressed } else { Ending::Failed };
    }
    if entry.attempts == DELAY_DSN_AFTER && entry.notify.delay && report != ReportKind::Dmarc {
        let until = retry_until(entry.attempts, entry.attempts_allowed(), entry.next_attempt);
        Bounce { inner, message: &claim.message, entry, what: What::Delayed(failure, until) }.send().await;
    }
    Ending::Retry
}

fn attempt_result(result: RecipientResult, transport: &str, took: Took) -> AttemptResult {
    let (success, code, secode, error, remote) = match result {
        Ok(d) => (true, d.code, d.secode, String::new(), Some(d.remote)),
        Err(f) => (false, f.code, f.secode, f.text, f.remote),
    };
    let via = remote.map_or_else(Via::default, |r| Via { host: r.name, ip: r.ip, tls: r.tls, ..Via::default() });
    let via = Via { transport: transport.to_owned(), ..via };
    AttemptResult { start: took.start, duration: took.duration, success, code, secode, error, via }
}

fn log(entry: &Entry, result: &RecipientResult) {
    let (id, attempt, recipient) = (entry.id.0, entry.attempts, entry.recipient.to_string());
    match result {
        Ok(delivered) => tracing::info!(id, attempt, recipient, remote = delivered.remote.name, "delivered from queue"),
        Err(f) if f.ours => tracing::error!(id, attempt, recipient, error = f.text, "delivery from queue failed by our fault"),
        Err(f) => tracing::info!(id, attempt, recipient, error = f.text, permanent = f.permanent, "delivery from queue failed"),
    }
}

fn count(inner: &Inner, claim: &Claim, attempted: &Attempted, took: Took) {
    let delivered = attempted.results.iter().filter(|r| r.is_ok()).count();
    let failure = attempted.results.iter().find_map(|r| r.as_ref().err());
    let result = match failure {
        None => "ok",
        Some(_) if delivered > 0 => "okpartial",
        Some(f) if f.text.contains("timeout") => "timeout",
        Some(f) if f.permanent => "permerror",
        Some(f) if f.code > 0 => "temperror",
        Some(_) => "error",
    };
    let labels = DeliveryLabels {
        attempt: claim.entries.first().map_or(0, |e| e.attempts),
        transport: attempted.transport.clone(),
        tlsmode: attempted.tlsmode,
        result,
    };
    inner.metrics.duration.get_or_create(&labels).observe(took.duration.as_secs_f64());
}

/// The outcomes of an attempt that a shutdown ended before anything was known.
///
/// They are due at once, for the next start.
pub(super) fn interrupted(claim: &Claim, took: Took) -> Vec<Outcome> {
    let result = AttemptResult { duration: took.duration, ..AttemptResult::failed(took.start, "interrupted by shutdown") };
    claim
        .entries
        .iter()
        .map(|entry| Outcome {
            id: entry.id,
            result: result.clone(),
            dialed: DialedIps::clone(&entry.dialed),
            ending: Ending::Uncounted { next: took.start },
        })
        .collect()
}
