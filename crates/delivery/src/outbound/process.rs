//! What follows from the results of an attempt: outcomes for the queue, DSNs for the sender.

use super::Inner;
use super::attempt::{Attempted, Delivered, RecipientResult};
use super::bounce::{Bounce, What};
use super::failure::Failure;
use crate::metrics::DeliveryLabels;
use mox_base::{Timestamp, WhenLate};
use mox_store::queue::{AttemptResult, Claim, DialedIps, Ending, Entry, Notify, Outcome, QueuedMessage, ReportKind, Signature, Via};
use std::borrow::Cow;
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
    let mut fates = Vec::with_capacity(claim.entries.len());
    let mut told = Vec::new();
    for (entry, result) in claim.entries.iter().zip(&attempted.results) {
        log(entry, result);
        let judged = match result {
            Ok(delivered) => delivered_to(claim, entry, delivered),
            Err(failure) => failed(inner, claim, entry, failure).await,
        };
        fates.push((judged.ending, judged.told_late));
        told.extend(judged.what.map(|what| (entry, what)));
    }
    let message = as_sent(&claim.message, attempted.signature.as_deref());
    // Before the outcome is recorded: a crash in between tells twice rather than never.
    for about in grouped(told) {
        Bounce { inner, message: &message, about }.send().await;
    }
    let goes_on = fates.iter().any(|(ending, _)| matches!(ending, Ending::Retry | Ending::Uncounted { .. } | Ending::Held { .. }));
    if let (true, Cow::Owned(QueuedMessage { id, signature: Some(signature), .. })) = (goes_on, message)
        && let Err(e) = inner.queue.keep_signature(id, signature).await
    {
        tracing::warn!(message = id.0, error = %e, "keeping a signature; the next attempt makes another");
    }
    let mut outcomes = Vec::with_capacity(claim.entries.len());
    for ((entry, (ending, told_late)), result) in claim.entries.iter().zip(fates).zip(attempted.results) {
        let mut dialed = entry.dialed.clone();
        for (host, ip) in &attempted.dialed {
            dialed.note(host, *ip);
        }
        let result = attempt_result(result, &attempted.transport, took);
        outcomes.push(Outcome { id: entry.id, result, dialed, ending, told_late });
    }
    outcomes
}

/// The message with the signature it was sent with; owned if that is a new one.
fn as_sent<'a>(message: &'a QueuedMessage, signature: Option<&Signature>) -> Cow<'a, QueuedMessage> {
    match signature {
        Some(signature) if message.signature.as_ref() != Some(signature) => {
            Cow::Owned(QueuedMessage { signature: Some(signature.clone()), ..message.clone() })
        }
        _ => Cow::Borrowed(message),
    }
}

/// What follows for an entry.
#[derive(Debug)]
struct Judged<'a> {
    ending: Ending,
    /// What its sender is told, if anything.
    what: Option<What<'a>>,
    /// Whether nothing more is to be told about its being late.
    told_late: bool,
}

impl<'a> Judged<'a> {
    const fn new(ending: Ending, what: Option<What<'a>>) -> Self {
        Self { ending, what, told_late: false }
    }
}

fn delivered_to<'a>(claim: &Claim, entry: &Entry, delivered: &'a Delivered) -> Judged<'a> {
    // RFC 3461 §5.2.2: the next host won't tell, so we say that we handed it on.
    let untold = entry.notify.success && !delivered.dsn;
    // RFC 2852 §4.1.4: nor will it say when it is late; or the sender wants to follow its way.
    let unwatched = !delivered.in_time && entry.by_due.is_some();
    let watched = claim.message.deliver_by.is_some_and(|by| by.trace || (by.late == WhenLate::Notify && unwatched));
    let wants = entry.sender.is_some() && entry.notify != Notify::NEVER;
    Judged::new(Ending::Delivered, (untold || (watched && wants)).then_some(What::Relayed(delivered)))
}

async fn failed<'a>(inner: &Inner, claim: &Claim, entry: &Entry, failure: &'a Failure) -> Judged<'a> {
    // Our own faults cost nobody's mail an attempt. But a sender must hear some day, RFC 5321 §4.5.4.1.
    if failure.ours && inner.now().since(entry.queued) < OUR_FAULT_PATIENCE {
        return Judged::new(Ending::Uncounted { next: entry.next_attempt }, None);
    }
    if let Some(reason) = failure.hold {
        return Judged::new(Ending::Held { reason }, None);
    }
    let (report, schedule) = (claim.message.report, inner.schedule(&entry.account));
    let allowed = schedule.attempts_allowed(entry);
    if failure.permanent || (entry.attempts >= allowed && entry.resume.is_none()) {
        if report == ReportKind::Dmarc {
            inner.metrics.dmarc_report_failure.inc();
        }
        if let Some(dead) = inner.ports.dead_addresses.as_ref().filter(|_| !failure.suppressed) {
            dead.note(report, &entry.recipient, failure.permanent, &failure.text).await;
        }
        let ending = if failure.suppressed { Ending::Suppressed } else { Ending::Failed };
        return Judged::new(ending, entry.notify.failure.then_some(What::Failed(failure)));
    }
    if entry.by_due.is_some_and(|by| by <= inner.now()) {
        // Late, and not to be returned. An attempt that was only made for that isn't one of those that are allowed.
        let (ending, attempts, next) = match entry.resume {
            Some(next) => (Ending::Uncounted { next }, entry.attempts.saturating_sub(1), next),
            None => (Ending::Retry, entry.attempts, entry.next_attempt),
        };
        let until = schedule.retry_until(attempts, allowed, next);
        return Judged { ending, what: entry.notify.delay.then_some(What::Late(failure, until)), told_late: true };
    }
    let tell = schedule.tells_delay(entry.attempts) && entry.notify.delay && report != ReportKind::Dmarc;
    let until = schedule.retry_until(entry.attempts, allowed, entry.next_attempt);
    Judged::new(Ending::Retry, tell.then_some(What::Delayed(failure, until)))
}

/// What one sender is told of one kind is told at once: RFC 3464 §2.1, a DSN may be about several recipients of a message.
fn grouped<'a>(told: Vec<(&'a Entry, What<'a>)>) -> Vec<Vec<(&'a Entry, What<'a>)>> {
    let mut groups: Vec<Vec<(&Entry, What<'_>)>> = Vec::new();
    for (entry, what) in told {
        let same = groups.iter_mut().find(|group| group.first().is_some_and(|(e, w)| e.sender == entry.sender && w.is_like(&what)));
        match same {
            Some(group) => group.push((entry, what)),
            None => groups.push(vec![(entry, what)]),
        }
    }
    groups
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
        Err(f) if f.hold.is_some() => {
            tracing::error!(id, attempt, recipient, error = f.text, "entry of the queue is held until that changes")
        }
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
            told_late: false,
        })
        .collect()
}
