//! Aggregate reports, sent soon after each full hour to the domains whose time has come. RFC 7489 §7.2, RFC 9990.
//!
//! A domain's evaluations leave the store before its report is queued: a crash in between loses a report, it never sends two, and of
//! several nodes one sends. What couldn't be found out in DNS stays for the next round; after two days it goes.

use super::Evaluations;
use super::addresses::{Destination, DestinationProblem, ReportAddress, report_addresses};
use crate::reports::{KEEP_RECEIVED, Outgoing, Reporter, SendError};
use mox_base::{Address, Domain, Lookup, Timestamp};
use mox_mailauth::dmarc::report::{self, Envelope, Feedback, Metadata, Published, Row};
use mox_mailauth::dmarc::{LookupProblem, lookup};
use mox_store::Error;
use mox_store::dmarc::{DomainEvaluations, Evaluation, NewEvaluation};
use mox_store::queue::ReportKind;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const HOUR: Duration = Duration::from_secs(3600);
/// Evaluations older than this are removed whether reported or not.
const KEPT: Duration = Duration::from_secs(48 * 3600);
/// Over this time the reports of an hour are spread.
const SPREAD: Duration = Duration::from_secs(45 * 60);
/// So long at most lies between two of them.
const MAX_APART: Duration = Duration::from_secs(5 * 60);
/// For all that is looked up about a domain.
const LOOKUP: Duration = Duration::from_secs(60);
/// Rows of a report; more of a domain wait for the next.
const MAX_ROWS: u32 = 20_000;
/// Domains read at once.
const PAGE: u32 = 500;

/// What is counted. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct DmarcSenderMetrics {
    queued: Counter,
    errors: Counter,
}

impl DmarcSenderMetrics {
    /// Makes a registry show them.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("mox_dmarcdb_report_queued", "DMARC reports that were queued", self.queued.clone());
        registry.register("mox_dmarcdb_report_error", "DMARC reports that could not be made or queued", self.errors.clone());
    }
}

/// Sends reports.
#[derive(Clone, Debug)]
pub struct DmarcReportSender {
    evaluations: Arc<Evaluations>,
    reporter: Reporter,
    lookup: Arc<dyn Lookup>,
    metrics: DmarcSenderMetrics,
}

/// What DNS says of a domain that is to be told.
enum Wanted {
    /// Where reports go, and where they might but don't.
    To(Vec<ReportAddress>),
    /// Nobody wants to be told.
    Nowhere,
    /// DNS doesn't tell now.
    Unknown,
}

/// When reports are about.
#[derive(Clone, Copy)]
struct Period {
    /// Full hours since 1970 at its end.
    end: Timestamp,
    /// Whether all intervals count as over.
    all: bool,
}

impl Period {
    /// The last one that is over.
    fn before(now: Timestamp) -> Self {
        Self { end: Timestamp::from_secs(now.secs().div_euclid(3600).saturating_mul(3600)), all: false }
    }

    /// Whether intervals of so many hours end with it.
    fn ends(self, hours: u8) -> bool {
        let hour = self.end.secs().div_euclid(3600).rem_euclid(24);
        self.all || hour.checked_rem(i64::from(hours)) == Some(0)
    }

    /// Begin and end of a report for an interval that has to cover all since `first`.
    fn range(self, hours: u8, first: Timestamp) -> (Timestamp, Timestamp) {
        let interval = HOUR.saturating_mul(u32::from(hours.max(1)));
        let mut begin = self.end.before(interval);
        while begin > first {
            begin = begin.before(interval);
        }
        (begin, Timestamp::from_secs(self.end.secs().saturating_sub(1)))
    }
}

impl DmarcReportSender {
    /// With what it needs.
    pub const fn new(evaluations: Arc<Evaluations>, reporter: Reporter, lookup: Arc<dyn Lookup>, metrics: DmarcSenderMetrics) -> Self {
        Self { evaluations, reporter, lookup, metrics }
    }

    /// Sends soon after each full hour, until stopped.
    pub async fn run(&self, stop: CancellationToken) {
        loop {
            let into_hour = Duration::from_secs(u64::try_from(self.reporter.now().secs().rem_euclid(3600)).unwrap_or(0));
            // RFC 7489 §7.2: so that not all come at once.
            let later = Duration::from_secs(30 + self.reporter.parts.random.u64() % 60);
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(HOUR.saturating_sub(into_hour) + later) => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                sent = self.send_due(true) => if let Err(error) = sent {
                    tracing::error!(%error, "sending DMARC reports");
                }
            }
        }
    }

    /// Sends the reports of intervals that ended with the last full hour; how many were queued. With `pace`, spread over most of an
    /// hour.
    ///
    /// # Errors
    /// The database failed.
    pub async fn send_due(&self, pace: bool) -> Result<usize, Error> {
        self.send_until(Period::before(self.reporter.now()), pace).await
    }

    /// Sends reports of all that there is to tell until now, whatever intervals domains want.
    ///
    /// # Errors
    /// The database failed.
    pub async fn send_all(&self) -> Result<usize, Error> {
        self.send_until(Period { all: true, ..Period::before(self.reporter.now().after(HOUR)) }, false).await
    }

    async fn send_until(&self, period: Period, pace: bool) -> Result<usize, Error> {
        self.evaluations.flush().await?;
        let (now, store) = (self.reporter.now(), self.evaluations.store());
        store.remove_evaluations_before(period.end.before(KEPT)).await?;
        store.remove_reports_before(now.before(KEEP_RECEIVED)).await?;
        store.suppressions().remove_expired(now).await?;
        let due = self.due(period).await?;
        let apart = (SPREAD / u32::try_from(due.len()).unwrap_or(u32::MAX).max(1)).min(MAX_APART);
        let mut queued = 0;
        for (n, domain) in due.iter().enumerate() {
            if pace && n > 0 {
                tokio::time::sleep(apart).await;
            }
            match self.send(domain, period).await {
                Ok(sent) => queued += usize::from(sent),
                Err(SendError::Store(error)) => return Err(error),
                Err(error) => {
                    self.metrics.errors.inc();
                    tracing::error!(domain, %error, "DMARC report not sent");
                }
            }
        }
        Ok(queued)
    }

    /// Domains to be told now. What there is no reason to tell of goes.
    async fn due(&self, period: Period) -> Result<Vec<String>, Error> {
        let store = self.evaluations.store();
        let (mut due, mut after) = (Vec::new(), String::new());
        loop {
            let domains: Vec<DomainEvaluations> = store.evaluated_domains(&after, PAGE).await?;
            let Some(last) = domains.last() else { return Ok(due) };
            after.clone_from(&last.domain);
            for domain in domains {
                let evaluations = store.evaluations(&domain.domain, period.end, 0, MAX_ROWS).await?;
                let Some(last) = evaluations.last().filter(|last| period.ends(last.row.interval_hours)) else { continue };
                if evaluations.iter().any(|e| !e.row.optional) {
                    due.push(domain.domain);
                } else {
                    tracing::debug!(domain = domain.domain, until = last.last.rfc3339(), "no reason for a DMARC report");
                    store.remove_evaluations(&domain.domain, period.end).await?;
                }
            }
        }
    }

    /// Queues the report of a domain; false when nobody wants it, somebody else sends it, or it has to wait.
    async fn send(&self, domain: &str, period: Period) -> Result<bool, SendError> {
        let store = self.evaluations.store();
        let found = match Domain::parse_lax(domain) {
            Ok(domain) => tokio::time::timeout(LOOKUP, self.wanted(&domain)).await.unwrap_or(Wanted::Unknown),
            Err(_) => Wanted::Nowhere,
        };
        let found = match found {
            Wanted::To(found) => found,
            Wanted::Nowhere => {
                store.remove_evaluations(domain, period.end).await?;
                return Ok(false);
            }
            Wanted::Unknown => return Ok(false),
        };
        let mut errors = Vec::new();
        let (mut addresses, mut unknown) = (Vec::new(), false);
        for ReportAddress { uri, found } in found {
            match found {
                Ok(Destination { addresses: to, .. }) => addresses.extend(to),
                Err(DestinationProblem::Scheme) => {}
                Err(problem) => {
                    unknown |= matches!(problem, DestinationProblem::Unknown { .. });
                    errors.push(format!("{}: {problem}", uri.uri));
                }
            }
        }
        if addresses.is_empty() && unknown {
            return Ok(false);
        }
        let evaluations = store.evaluations(domain, period.end, 0, MAX_ROWS).await?;
        let taken = store.take_evaluations(evaluations).await?;
        if taken.is_empty() || addresses.is_empty() {
            tracing::debug!(domain, ?errors, "no address for a DMARC report");
            return Ok(false);
        }
        let sent = self.send_to(domain, &taken, &addresses, errors, period).await;
        if sent.is_err() {
            // By our fault: with the next round.
            let again = taken.into_iter().map(|e| NewEvaluation { row: e.row, at: e.first, count: e.count });
            store.add_evaluations(again.collect()).await?;
        }
        sent
    }

    async fn wanted(&self, domain: &Domain) -> Wanted {
        let found = lookup(&*self.lookup, domain).await;
        match found.record {
            Ok((record, _)) if found.domain == *domain && !record.aggregate_reports.is_empty() => {
                Wanted::To(report_addresses(&*self.lookup, domain, &record.aggregate_reports).await)
            }
            Ok(_) => Wanted::Nowhere,
            Err(LookupProblem::Dns(error)) => {
                tracing::info!(domain = domain.ascii(), %error, "looking up where DMARC reports go; tried again later");
                Wanted::Unknown
            }
            Err(problem) => {
                tracing::debug!(domain = domain.ascii(), %problem, "no DMARC report wanted");
                Wanted::Nowhere
            }
        }
    }

    async fn send_to(
        &self,
        domain: &str,
        taken: &[Evaluation],
        addresses: &[(Address, Option<u64>)],
        errors: Vec<String>,
        period: Period,
    ) -> Result<bool, SendError> {
        let Some(feedback) = self.feedback(taken, errors, period)? else { return Ok(false) };
        let suppressions = self.evaluations.store().suppressions();
        let named: Vec<Address> = addresses.iter().map(|(address, _)| address.clone()).collect();
        let mut alive = self.reporter.alive(&suppressions, named).await?;
        alive.sort();
        alive.dedup();
        if alive.is_empty() {
            tracing::info!(domain, "all addresses for DMARC reports are suppressed");
            return Ok(false);
        }
        let signer = self.reporter.signer();
        let envelope = self.envelope(domain, alive)?;
        let random = &*self.reporter.parts.random;
        let compose = |e: report::MessageError| SendError::Compose(e.to_string());
        let composed = report::message(&feedback, &envelope, random).map_err(compose)?;
        let size = u64::try_from(composed.bytes.len()).unwrap_or(u64::MAX);
        // Of an address that is named several times, the largest limit counts.
        let takes = |address: &Address| addresses.iter().any(|(a, max)| a == address && max.is_none_or(|max| size <= max));
        let (fitting, too_small): (Vec<Address>, Vec<Address>) = envelope.to.iter().cloned().partition(takes);
        let about = if too_small.is_empty() {
            composed
        } else if fitting.is_empty() {
            tracing::info!(domain, size, "DMARC report is too large for all who want it; they are told");
            let uris: Vec<String> = addresses.iter().map(|(a, max)| format!("mailto:{a}!{}", max.unwrap_or_default())).collect();
            report::error_message((&feedback, size), &uris, &envelope, random).map_err(compose)?
        } else {
            report::message(&feedback, &Envelope { to: fitting.clone(), ..envelope.clone() }, random).map_err(compose)?
        };
        let to = if fitting.is_empty() { &too_small } else { &fitting };
        let outgoing = Outgoing {
            kind: ReportKind::Dmarc,
            from: envelope.from.clone(),
            to,
            message_id: envelope.message_id.clone(),
            subject: format!("Report Domain: {domain} Submitter: {} Report-ID: <{}>", envelope.submitter, feedback.metadata.id),
            composed: about,
            signer: signer.as_ref(),
            require_tls: None,
        };
        let queued = self.queue(outgoing, domain).await?;
        Ok(queued > 0)
    }

    async fn queue(&self, outgoing: Outgoing<'_>, domain: &str) -> Result<usize, SendError> {
        if outgoing.signer.is_none() {
            tracing::debug!(domain, "no domain of ours above the hostname signs: DMARC report without signature");
        }
        let queued = self.reporter.queue(outgoing).await?;
        self.metrics.queued.inc();
        tracing::info!(domain, recipients = queued, "DMARC report queued");
        Ok(queued)
    }

    fn envelope<'a>(&'a self, domain: &'a str, to: Vec<Address>) -> Result<Envelope<'a>, SendError> {
        let hostname = &self.reporter.settings.hostname;
        Ok(Envelope {
            from: Reporter::postmaster(hostname)?,
            to,
            policy_domain: domain,
            submitter: hostname.ascii(),
            message_id: self.reporter.message_id(hostname),
            date: self.reporter.now(),
            user_agent: &self.reporter.settings.user_agent,
        })
    }

    /// The report; none if nothing can be read of what there is to tell.
    fn feedback(&self, taken: &[Evaluation], errors: Vec<String>, period: Period) -> Result<Option<Feedback>, SendError> {
        let mut rows: BTreeMap<&str, u64> = BTreeMap::new();
        for evaluation in taken {
            let count = rows.entry(&evaluation.row.record).or_insert(0);
            *count = count.saturating_add(evaluation.count);
        }
        let rows: Vec<Row> = rows.into_iter().filter_map(|(record, count)| Some(Row { count, ..Row::from_xml(record).ok()? })).collect();
        // RFC 9990 §3.1.1: there is at least one.
        if rows.is_empty() {
            return Ok(None);
        }
        let (Some(first), Some(last)) = (taken.iter().map(|e| e.first).min(), taken.iter().max_by_key(|e| e.last)) else { return Ok(None) };
        let (begin, end) = period.range(last.row.interval_hours, first);
        let hostname = self.reporter.settings.hostname.ascii();
        let (year, month, day) = period.end.date();
        let hour = period.end.secs().div_euclid(3600).rem_euclid(24);
        let metadata = Metadata {
            organization: hostname.to_owned(),
            email: Reporter::postmaster(&self.reporter.settings.hostname)?.to_string(),
            id: format!("{year:04}{month:02}{day:02}.{hour:02}.{:016x}", self.reporter.parts.random.u64()),
            begin,
            // Unless it is sent early, the period is over.
            end: end.min(self.reporter.now()),
            errors,
            ..Metadata::default()
        };
        let published = Published::from_xml(&last.row.published).map_err(|e| SendError::Compose(e.to_string()))?;
        Ok(Some(Feedback { metadata, published, rows }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods() {
        let day = 1_704_067_200;
        let at = |hour: i64| Period::before(Timestamp::from_secs(day + hour * 3600 + 77));
        let ending = |hour: i64| [24, 12, 8, 6, 4, 3, 2, 1].into_iter().filter(|n| at(hour).ends(*n)).collect::<Vec<u8>>();
        assert_eq!(ending(0), [24, 12, 8, 6, 4, 3, 2, 1]);
        assert_eq!(ending(12), [12, 6, 4, 3, 2, 1]);
        assert_eq!(ending(9), [3, 1]);
        assert_eq!(ending(23), [1]);
        let range = |hour: i64, interval: u8, first: i64| {
            let (begin, end) = at(hour).range(interval, Timestamp::from_secs(day + first * 3600));
            ((begin.secs() - day) / 3600, end.secs() - day)
        };
        assert_eq!(range(12, 6, 7), (6, 12 * 3600 - 1));
        assert_eq!(range(12, 6, 5), (0, 12 * 3600 - 1), "what is older is covered, too");
        assert_eq!(range(12, 6, -1), (-6, 12 * 3600 - 1));
    }
}
