//! Reports of others that arrive: read, kept and counted. RFC 7489 §7.2, RFC 8460 §5.3.
//!
//! Only mail to addresses for reports is looked at, and only what is verified counts: DMARC reports of whom DMARC passes, TLS reports
//! signed by who sends them. A DMARC report of somebody else is refused; the rest is mail like any other, with a field that says why. A
//! report that comes again is there once, and nobody's are too many (`report_limit`). A few are read at once, off the threads that serve
//! connections: each may take some 50 MiB.

use super::report_limit::ReportLimits;
use super::{Incoming, Refusal};
use mox_base::{Clock, Domain, Path};
use mox_mailauth::dkim::{DkimOutcome, DkimStatus};
use mox_mailauth::dmarc::DmarcResult;
use mox_mailauth::dmarc::report::{self, Feedback};
use mox_mailauth::suffix::organizational_domain;
use mox_mailauth::tlsrpt::{self, PolicyResult, Report, ResultType};
use mox_mailauth::{MAX_MESSAGE, MAX_REPORT};
use mox_smtp::Reply;
use mox_store::Error;
use mox_store::directory::{Directory, Reports as ReportsFor};
use mox_store::dmarc::{DmarcCounts, DmarcStore, NewDmarcReport};
use mox_store::tls::{NewReport, TlsStore};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Reports read at once.
const READING: usize = 2;

/// How far clocks may be apart.
const SKEW: Duration = Duration::from_secs(60);

/// What one report counts for at most, whatever its sender writes.
const MAX_COUNT: u64 = 1 << 40;

/// Labels of rows of DMARC reports.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EvaluatedLabels {
    domain: String,
    disposition: &'static str,
    dkim: &'static str,
    spf: &'static str,
}

/// Labels of a result.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    result: &'static str,
}

/// Labels of sessions in TLS reports.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SessionLabels {
    r#type: String,
}

/// What reports of others say, counted. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct ReportMetrics {
    evaluated: Family<EvaluatedLabels, Counter>,
    dkim: Family<ResultLabels, Counter>,
    spf: Family<ResultLabels, Counter>,
    sessions: Family<SessionLabels, Counter>,
}

impl ReportMetrics {
    /// Makes a registry show them.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "mox_dmarcdb_policy_evaluated",
            "Messages in DMARC reports received, by domain and what was done with them",
            self.evaluated.clone(),
        );
        registry.register("mox_dmarcdb_dkim_result", "Results of DKIM in DMARC reports received", self.dkim.clone());
        registry.register("mox_dmarcdb_spf_result", "Results of SPF in DMARC reports received", self.spf.clone());
        registry.register("mox_tlsrptdb_session", "Sessions in TLS reports received, by success or kind of failure", self.sessions.clone());
    }

    fn count_dmarc(&self, domain: &Domain, feedback: &Feedback) {
        let outcome = |aligned: bool| if aligned { "pass" } else { "fail" };
        for row in &feedback.rows {
            let count = row.count.min(MAX_COUNT);
            let labels = EvaluatedLabels {
                domain: domain.ascii().to_owned(),
                disposition: row.disposition.name(),
                dkim: outcome(row.dkim_aligned),
                spf: outcome(row.spf_aligned),
            };
            self.evaluated.get_or_create(&labels).inc_by(count);
            for dkim in &row.dkim {
                self.dkim.get_or_create(&ResultLabels { result: known(&dkim.result) }).inc_by(count);
            }
            for spf in &row.spf {
                self.spf.get_or_create(&ResultLabels { result: known(&spf.result) }).inc_by(count);
            }
        }
    }

    fn count_tls(&self, policy: &PolicyResult) {
        let count = |kind: &str, n: u64| {
            if n > 0 {
                self.sessions.get_or_create(&SessionLabels { r#type: kind.to_owned() }).inc_by(n.min(MAX_COUNT));
            }
        };
        count("success", policy.success);
        for detail in policy.details.iter().filter(|d| !matches!(d.result, ResultType::Other(_))) {
            count(detail.result.word(), detail.sessions);
        }
    }
}

/// A result as a label: only those that there are, or anybody could make labels.
fn known(result: &str) -> &'static str {
    let all = ["none", "neutral", "pass", "fail", "softfail", "policy", "temperror", "permerror"];
    all.into_iter().find(|known| *known == result).unwrap_or("other")
}

/// What came of a message to an address for reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Processed {
    /// It brought one, which is kept.
    Kept,
    /// It didn't; this field says why.
    Unusable(String),
    /// It brought one of which nobody knows whose it is.
    Refused(Refusal),
}

/// Why a report isn't kept.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("{0}")]
    Why(String),
    #[error("the report is refused")]
    Refused(Refusal),
    #[error(transparent)]
    Store(#[from] Error),
}

fn why(text: impl std::fmt::Display) -> Unusable {
    Unusable::Why(text.to_string())
}

/// Keeps reports of others. Clones are the same.
#[derive(Clone, Debug)]
pub struct ReceivedReports {
    dmarc: DmarcStore,
    tls: TlsStore,
    clock: Arc<dyn Clock>,
    metrics: ReportMetrics,
    reading: Arc<Semaphore>,
    limits: Arc<ReportLimits>,
}

impl ReceivedReports {
    /// In these stores.
    pub fn new(dmarc: DmarcStore, tls: TlsStore, clock: Arc<dyn Clock>, metrics: ReportMetrics) -> Self {
        Self { dmarc, tls, clock, metrics, reading: Arc::new(Semaphore::new(READING)), limits: Arc::default() }
    }

    /// Looks for a report in a message to an address for such reports.
    pub(super) async fn process(&self, incoming: &Incoming, kind: ReportsFor) -> Result<Processed, Error> {
        let (field, result) = match kind {
            ReportsFor::Dmarc => ("X-Mox-DMARCReport-Error", self.dmarc(incoming).await),
            ReportsFor::DomainTls | ReportsFor::HostTls => ("X-Mox-TLSReport-Error", self.tls(incoming).await),
        };
        match result {
            Ok(()) => Ok(Processed::Kept),
            Err(Unusable::Store(error)) => Err(error),
            Err(Unusable::Refused(refusal)) => {
                let why = refusal.reply.to_string();
                tracing::info!(why, remote = %incoming.remote_ip, "refusing a report");
                Ok(Processed::Refused(refusal))
            }
            Err(Unusable::Why(text)) => {
                tracing::info!(why = text, remote = %incoming.remote_ip, "message to an address for reports has none that can be used");
                let text: String = text.chars().map(|c| if c.is_ascii_graphic() { c } else { ' ' }).take(200).collect();
                Ok(Processed::Unusable(format!("{field}: {}\r\n", text.trim())))
            }
        }
    }

    async fn dmarc(&self, incoming: &Incoming) -> Result<(), Unusable> {
        let result = incoming.authentication.dmarc.as_ref().map_or(DmarcResult::None, |dmarc| dmarc.result);
        let from = incoming.msg_from.as_ref().ok_or_else(|| why("no dmarc pass"))?;
        self.may_read((result == DmarcResult::Pass).then_some(&from.domain))?;
        let feedback = self.read(incoming, report::read).await?;
        match result {
            DmarcResult::Pass => {}
            // Whoever writes to the address by hand may do so as anybody; a report is a claim that somebody has to stand for.
            _ if feedback.is_err() => return Err(why("no dmarc pass")),
            DmarcResult::Temperror => {
                return Err(Unusable::Refused(Refusal::new(Reply::new(451, (4, 7, 26), "dmarc report can't be verified now"))));
            }
            DmarcResult::None | DmarcResult::Fail | DmarcResult::Permerror => {
                return Err(Unusable::Refused(Refusal::new(Reply::new(550, (5, 7, 26), "dmarc report must itself pass dmarc"))));
            }
        }
        let feedback = feedback.map_err(why)?;
        if let Some(about) = configured(&incoming.directory, &feedback.published.domain) {
            self.may_keep(&from.domain, &about)?;
        }
        self.keep_dmarc(&incoming.directory, feedback, from.domain.ascii()).await?;
        Ok(())
    }

    fn may_read(&self, from: Option<&Domain>) -> Result<(), Unusable> {
        if self.limits.may_read(from, self.clock.now()) { Ok(()) } else { Err(why("too many reports of this sender")) }
    }

    fn may_keep(&self, from: &Domain, about: &Domain) -> Result<(), Unusable> {
        if self.limits.may_keep(from, about, self.clock.now()) {
            Ok(())
        } else {
            Err(why("too many reports of this sender about the domain"))
        }
    }

    async fn keep_dmarc(&self, directory: &Directory, feedback: Feedback, from_domain: &str) -> Result<bool, Unusable> {
        let now = self.clock.now();
        let domain = configured(directory, &feedback.published.domain).ok_or_else(|| why("unknown domain in report"))?;
        if feedback.metadata.end > now.after(SKEW) {
            return Err(why("report is about the future"));
        }
        let sums = feedback.summary();
        let report = NewDmarcReport {
            domain: domain.ascii().to_owned(),
            from_domain: from_domain.to_owned(),
            organization: feedback.metadata.organization.clone(),
            report_id: feedback.metadata.id.clone(),
            begin: feedback.metadata.begin,
            end: feedback.metadata.end,
            counts: DmarcCounts {
                total: sums.total,
                none: sums.none,
                quarantine: sums.quarantine,
                reject: sums.reject,
                dkim_fail: sums.dkim_fail,
                spf_fail: sums.spf_fail,
                overridden: sums.overridden,
            },
            report: feedback.to_gzip().map_err(why)?,
        };
        let new = self.dmarc.add_report(report, now).await?;
        if new {
            self.metrics.count_dmarc(&domain, &feedback);
        }
        tracing::info!(domain = domain.ascii(), from_domain, new, "DMARC report received");
        Ok(new)
    }

    async fn tls(&self, incoming: &Incoming) -> Result<(), Unusable> {
        let from = incoming.msg_from.as_ref().ok_or_else(|| why("no author"))?;
        let signed = incoming.authentication.dkim.iter().any(|dkim| vouches(dkim, &from.domain));
        if !signed {
            return Err(why("no acceptable dkim signature"));
        }
        self.may_read(Some(&from.domain))?;
        let report = self.read(incoming, tlsrpt::read).await?.map_err(why)?;
        // The first stands for all: a report of several domains counts once.
        if let Some(about) = report.policies.iter().find_map(|policy| configured(&incoming.directory, &policy.policy.domain)) {
            self.may_keep(&from.domain, &about)?;
        }
        let mail_from = incoming.mail_from.as_ref().map(Path::to_string).unwrap_or_default();
        self.keep_tls(&incoming.directory, &report, from.domain.ascii(), &mail_from).await?;
        Ok(())
    }

    async fn keep_tls(&self, directory: &Directory, report: &Report, from_domain: &str, mail_from: &str) -> Result<usize, Unusable> {
        let now = self.clock.now();
        let mut ours: Vec<(Domain, Vec<PolicyResult>)> = Vec::new();
        for policy in &report.policies {
            let Some(domain) = configured(directory, &policy.policy.domain) else { continue };
            // A report of one domain says the same several times only by mistake or for size.
            match ours.iter_mut().find(|(of, _)| *of == domain) {
                Some((_, policies)) => tlsrpt::merge(policies, [bounded(policy)]),
                None => ours.push((domain, vec![bounded(policy)])),
            }
        }
        if ours.is_empty() {
            return Err(why("unknown domains in report"));
        }
        let mut reports = Vec::new();
        for (domain, policies) in &ours {
            let about = Report { policies: policies.clone(), ..report.clone() };
            let json = about.to_json().map_err(why)?;
            let sum = |of: fn(&PolicyResult) -> u64| policies.iter().map(of).fold(0, u64::saturating_add);
            reports.push(NewReport {
                domain: domain.ascii().to_owned(),
                from_domain: from_domain.to_owned(),
                mail_from: mail_from.to_owned(),
                host_report: domain == directory.hostname(),
                begin: report.begin,
                end: report.end,
                success: sum(|p| p.success),
                failure: sum(|p| p.failure),
                report: String::from_utf8(json).map_err(why)?.replace('\0', "\u{fffd}"),
            });
        }
        let new = self.tls.add_reports(reports, now).await?;
        if new > 0 {
            ours.iter().flat_map(|(_, policies)| policies).for_each(|policy| self.metrics.count_tls(policy));
        }
        tracing::info!(from_domain, domains = ours.len(), new, "TLS report received");
        Ok(new)
    }

    /// Reads a message, a few at a time.
    async fn read<T: Send + 'static>(&self, incoming: &Incoming, read: fn(&[u8]) -> T) -> Result<T, Unusable> {
        if incoming.message.len() > u64::try_from(MAX_MESSAGE).unwrap_or(u64::MAX) {
            return Err(why("message too large for a report"));
        }
        let _permit = self.reading.acquire().await.map_err(why)?;
        let mut reader = incoming.message.reader();
        let reading = tokio::task::spawn_blocking(move || {
            let mut message = Vec::new();
            reader.read_to_end(&mut message)?;
            Ok::<_, std::io::Error>(read(&message))
        });
        let read = reading.await.map_err(|e| why(format!("reading report: {e}")))?;
        read.map_err(|e| Unusable::Store(Error::from(e)))
    }

    /// Keeps the report in a message that an administrator vouches for; false if it is there already.
    ///
    /// # Errors
    /// A text: there is none, or it isn't about a domain of ours.
    pub async fn add_dmarc(&self, directory: &Directory, message: &[u8], from_domain: &Domain) -> Result<bool, String> {
        let feedback = report::read(message).map_err(|e| e.to_string())?;
        self.keep_dmarc(directory, feedback, from_domain.ascii()).await.map_err(|e| e.to_string())
    }

    /// As [`Self::add_dmarc`], for TLS reports; how many domains it says something new about.
    ///
    /// # Errors
    /// A text: there is none, or it isn't about a domain of ours.
    pub async fn add_tls(&self, directory: &Directory, message: &[u8], from_domain: &Domain) -> Result<usize, String> {
        let report = tlsrpt::read(message).map_err(|e| e.to_string())?;
        self.keep_tls(directory, &report, from_domain.ascii(), "").await.map_err(|e| e.to_string())
    }
}

/// A domain that is configured, also if only for reports, or our own name.
fn configured(directory: &Directory, name: &str) -> Option<Domain> {
    let domain = Domain::parse_lax(name.trim_end_matches('.')).ok()?;
    (directory.domain(&domain).is_some() || domain == *directory.hostname()).then_some(domain)
}

/// Whether a signature vouches for a TLS report, RFC 8460 §5.3: of the whole message, by the author's domain or one above it, with a key for
/// that.
fn vouches(dkim: &DkimOutcome, from: &Domain) -> bool {
    let Some(signature) = dkim.signature.as_ref().filter(|_| dkim.status == DkimStatus::Pass) else { return false };
    let by_author = from.is_within(&signature.domain) && organizational_domain(&signature.domain) == organizational_domain(from);
    let for_reports = |services: &[String]| services.is_empty() || services.iter().any(|s| s == "*" || s.eq_ignore_ascii_case("tlsrpt"));
    by_author && signature.length.is_none() && dkim.record.as_ref().is_some_and(|(record, _)| for_reports(&record.services))
}

/// A policy's results with what is kept of details, however many there are.
fn bounded(policy: &PolicyResult) -> PolicyResult {
    let mut kept = PolicyResult { policy: policy.policy.clone(), success: policy.success, failure: policy.failure, details: Vec::new() };
    kept.policy.strings.truncate(100);
    kept.policy.mx_hosts.truncate(100);
    for detail in &policy.details {
        kept.add(detail.clone());
    }
    kept
}

/// Far more than any message unpacks to is never in memory: what is read at once, each with its message and what that unpacks to.
const _: () = assert!(READING * (MAX_MESSAGE + 2 * MAX_REPORT) <= 128 << 20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_few() {
        assert_eq!(known("pass"), "pass");
        assert_eq!(known("whatever"), "other");
    }
}
