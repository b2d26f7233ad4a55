//! TLS reports, sent once a day to those who want them. RFC 8460 §4, §5.
//!
//! First the recipient domains, each with all that happened to sessions with its hosts; then hosts that want reports of their own,
//! about what their domains haven't been told. Results are marked as sent before a report is queued: a crash loses a report, it never
//! sends two. Results of a domain whose record can't be looked up now stay for the next round; after two and a half days they go.
//! A loop is impossible: the delivery of a report never asks for one (`collect`), and nobody hears of its failure.

use super::TlsPolicies;
use super::collect::day_of;
use crate::reports::{KEEP_RECEIVED, Outgoing, ReportSigner, Reporter, SendError};
use mox_base::{Address, Domain, Timestamp};
use mox_mailauth::tlsrpt::{self, Envelope, PolicyResult, RecordError, Report};
use mox_net::http::header::{self, HeaderValue};
use mox_net::http::{Client, Method, Request, Url};
use mox_store::queue::ReportKind;
use mox_store::reports::SuppressedAddress;
use mox_store::tls::{DayResults, ResultKey};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// Results older than this are removed whether reported or not.
const KEPT: Duration = Duration::from_secs(60 * 3600);
/// Over this time the reports of a day are spread.
const SPREAD: Duration = Duration::from_secs(4 * 3600);
/// So long at most lies between two of them.
const MAX_APART: Duration = Duration::from_secs(5 * 60);
/// Before each time that a report is posted.
const POST_PAUSES: [Duration; 3] = [Duration::ZERO, Duration::from_secs(10), Duration::from_secs(60)];
/// For so long nothing is posted to a URL that took none.
const POST_FAILED: Duration = Duration::from_secs(3 * 24 * 3600);
/// For looking up where reports go.
const LOOKUP: Duration = Duration::from_secs(60);

/// Sends reports.
#[derive(Clone, Debug)]
pub struct ReportSender {
    policies: Arc<TlsPolicies>,
    reporter: Reporter,
    /// Also where nothing went wrong.
    all_success: bool,
    /// For those who want them by HTTPS.
    client: Option<Client>,
}

/// Where the reports of a domain go.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wanted {
    /// Mail addresses and URLs.
    To(Vec<String>, Vec<String>),
    Nowhere,
    /// DNS doesn't tell.
    Unknown,
}

/// What a report is about.
struct Subject<'a> {
    /// The domain or host, in A-labels.
    domain: &'a str,
    /// Whether it is the recipient domain.
    is_recipient: bool,
    rows: Vec<&'a DayResults>,
}

impl ReportSender {
    /// With what it needs. `all_success`: also where nothing went wrong.
    pub const fn new(policies: Arc<TlsPolicies>, reporter: Reporter, all_success: bool) -> Self {
        Self { policies, reporter, all_success, client: None }
    }

    /// With a client for those who want reports by HTTPS. It should verify no more than their certificates need (RFC 8460 §3), and go
    /// to public addresses only: whom it calls is up to whoever makes us send mail.
    #[must_use]
    pub fn with_client(self, client: Client) -> Self {
        Self { client: Some(client), ..self }
    }

    /// Sends what was left, and then once a day soon after midnight UTC, until stopped.
    pub async fn run(&self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                sent = self.send_due(true) => if let Err(e) = sent {
                    tracing::error!(error = %e, "sending TLS reports");
                }
            }
            let now = self.policies.ports.clock.now();
            let into_day = Duration::from_secs(u64::try_from(now.secs().rem_euclid(86_400)).unwrap_or(0));
            // RFC 8460 §4.1 wants senders not to come all at once.
            let later = Duration::from_secs(240 + self.policies.ports.random.u64() % 121);
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(DAY.saturating_sub(into_day) + later) => {}
            }
        }
    }

    /// Sends the reports of all days that are over; how many were queued. With `pace`, spread over some hours.
    ///
    /// # Errors
    /// The database failed.
    pub async fn send_due(&self, pace: bool) -> Result<usize, mox_store::Error> {
        self.send_days(&[2, 1], pace).await
    }

    /// As [`Self::send_due`], with what there is of today.
    ///
    /// # Errors
    /// The database failed.
    pub async fn send_all(&self) -> Result<usize, mox_store::Error> {
        self.send_days(&[2, 1, 0], false).await
    }

    async fn send_days(&self, ages: &[u32], pace: bool) -> Result<usize, mox_store::Error> {
        self.policies.flush().await?;
        let now = self.policies.ports.clock.now();
        let store = self.policies.store();
        store.remove_results_before(day_of(now.before(KEPT))).await?;
        store.remove_reports_before(now.before(KEEP_RECEIVED)).await?;
        store.suppressions().remove_expired(now).await?;
        // RFC 8460 §5.3: who gets a report believes it only with a signature.
        let Some(signer) = self.reporter.signer() else {
            tracing::debug!("no domain of ours above the hostname signs: no TLS reports");
            return Ok(0);
        };
        let mut queued = 0;
        for age in ages {
            queued += self.send_day(&signer, now.before(DAY * *age), pace).await?;
        }
        Ok(queued)
    }

    async fn send_day(&self, sender: &ReportSigner, within: Timestamp, pace: bool) -> Result<usize, mox_store::Error> {
        let day = day_of(within);
        let store = self.policies.store();
        let rows = store.results(day).await?;
        let asked: BTreeSet<&str> = rows.iter().filter(|r| r.send_report).map(|r| r.key.recipient_domain.as_str()).collect();
        let mut subjects: Vec<Subject<'_>> = asked
            .into_iter()
            .map(|domain| Subject { domain, is_recipient: true, rows: rows.iter().filter(|r| r.key.recipient_domain == domain).collect() })
            .collect();
        let hosts: BTreeSet<&str> = rows.iter().filter(|r| r.is_host && r.send_report).map(|r| r.key.policy_domain.as_str()).collect();
        subjects.extend(hosts.into_iter().map(|domain| Subject {
            domain,
            is_recipient: false,
            rows: rows.iter().filter(|r| r.is_host && r.key.policy_domain == domain).collect(),
        }));
        let apart = (SPREAD / u32::try_from(subjects.len()).unwrap_or(u32::MAX).max(1)).min(MAX_APART);
        let (mut queued, mut wanted, mut again) = (0, BTreeMap::new(), BTreeSet::new());
        for (n, subject) in subjects.iter().enumerate() {
            if pace && n > 0 {
                tokio::time::sleep(apart).await;
            }
            let whereto = self.wanted(subject.domain).await;
            wanted.insert(subject.domain, whereto.clone());
            match whereto {
                Wanted::Nowhere => {}
                Wanted::Unknown => again.extend(subject.rows.iter().map(|r| r.key.clone())),
                Wanted::To(addresses, urls) => match self.send(sender, subject, (&addresses, &urls), &wanted, within).await {
                    Ok(sent) => queued += usize::from(sent),
                    Err(e) => {
                        self.policies.metrics.report_errors.inc();
                        tracing::error!(domain = subject.domain, error = %e, "TLS report not sent");
                    }
                },
            }
        }
        let done: Vec<ResultKey> = rows.iter().map(|r| r.key.clone()).filter(|key| !again.contains(key)).collect();
        store.remove_results(done).await?;
        Ok(queued)
    }

    async fn wanted(&self, domain: &str) -> Wanted {
        let Ok(domain) = Domain::parse_lax(domain) else { return Wanted::Nowhere };
        let looking = tlsrpt::lookup(&*self.policies.ports.lookup, &domain);
        let began = self.policies.ports.clock.monotonic();
        let looked_up = tokio::time::timeout(LOOKUP, looking).await;
        let took = self.policies.ports.clock.monotonic().saturating_sub(began);
        self.policies.metrics.looked_up(looked_up.as_ref().ok(), took);
        match looked_up {
            Ok(Ok(record)) => Wanted::To(record.addresses(), record.urls()),
            Ok(Err(RecordError::Dns(e))) => {
                tracing::info!(domain = domain.ascii(), error = %e, "looking up where TLS reports go; tried again with the next");
                Wanted::Unknown
            }
            Ok(Err(e)) => {
                tracing::debug!(domain = domain.ascii(), error = %e, "no TLS report wanted");
                Wanted::Nowhere
            }
            Err(_) => Wanted::Unknown,
        }
    }

    /// Queues one report; false when there is nothing to report or nobody to report it to.
    async fn send(
        &self,
        sender: &ReportSigner,
        subject: &Subject<'_>,
        (addresses, urls): (&[String], &[String]),
        wanted: &BTreeMap<&str, Wanted>,
        within: Timestamp,
    ) -> Result<bool, SendError> {
        let store = self.policies.store();
        let rows = subject.rows.iter().filter(|row| if subject.is_recipient { !row.sent_recipient } else { !row.sent_policy });
        // Who got it as recipient domain doesn't get it again as host.
        let told = |row: &DayResults| {
            !subject.is_recipient
                && matches!(wanted.get(row.key.recipient_domain.as_str()), Some(Wanted::To(to, urls_of)) if to == addresses && urls_of == urls)
        };
        let rows: Vec<&DayResults> = rows.copied().filter(|row| !told(row)).collect();
        let report = self.report(sender, subject, &rows, within);
        if report.policies.is_empty() || !(report.has_failures() || self.all_success) {
            return Ok(false);
        }
        let suppressions = store.suppressions();
        let to = self.reporter.alive(&suppressions, addresses.iter().filter_map(|a| a.parse().ok()).collect()).await?;
        let dead = suppressions.among(urls.to_vec(), self.reporter.now()).await?;
        let urls: Vec<&String> = urls.iter().filter(|url| self.client.is_some() && !dead.contains(url)).collect();
        if to.is_empty() && urls.is_empty() {
            return Ok(false);
        }
        if !store.mark_sent(rows.iter().map(|r| r.key.clone()).collect(), subject.is_recipient).await? {
            return Ok(false);
        }
        let mut sent = false;
        if !to.is_empty() {
            let queued = self.reporter.queue(self.compose(sender, subject, &report, &to)?).await?;
            self.policies.metrics.reports_queued.inc();
            tracing::info!(domain = subject.domain, recipients = queued, "TLS report queued");
            sent = true;
        }
        for url in urls {
            sent |= self.post(subject.domain, url, &report).await?;
        }
        Ok(sent)
    }

    /// Posts a report, RFC 8460 §5.4; whether it was taken. One that isn't is an address that gets none for some time.
    async fn post(&self, domain: &str, url: &str, report: &Report) -> Result<bool, SendError> {
        let Some(client) = &self.client else { return Ok(false) };
        let body = tlsrpt::to_gzip(report).map_err(|e| SendError::Compose(e.to_string()))?;
        let mut failure = String::new();
        for pause in POST_PAUSES {
            tokio::time::sleep(pause).await;
            let Ok(parsed) = Url::parse(url) else {
                failure = "not a URL that can be called".to_owned();
                break;
            };
            let mut request = Request::new(Method::POST, parsed);
            request.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/tlsrpt+gzip"));
            request.body = body.clone().into();
            request.max_body = 1024;
            match client.send(request).await {
                // RFC 8460 §5.4: any 2xx.
                Ok(answer) if (200..300).contains(&answer.status) => {
                    self.policies.metrics.reports_queued.inc();
                    tracing::info!(domain, url, status = answer.status, "TLS report posted");
                    return Ok(true);
                }
                Ok(answer) => failure = format!("status {}", answer.status),
                Err(e) => failure = e.to_string(),
            }
        }
        self.policies.metrics.report_errors.inc();
        tracing::info!(domain, url, failure, "TLS report not taken");
        let now = self.reporter.now();
        let until = now.after(POST_FAILED);
        let comment = format!("report not taken: {failure}");
        self.policies.store().suppressions().add(SuppressedAddress { address: url.to_owned(), inserted: now, until, comment }).await?;
        Ok(false)
    }

    fn report(&self, sender: &ReportSigner, subject: &Subject<'_>, rows: &[&DayResults], within: Timestamp) -> Report {
        let mut policies: Vec<PolicyResult> = Vec::new();
        for row in rows {
            let mut results = tlsrpt::results_from_json(&row.results).unwrap_or_default();
            if !subject.is_recipient {
                // The host learns for which domain it was; RFC 8460 has no place for hosts as policy domains.
                for result in &mut results {
                    let host = std::mem::replace(&mut result.policy.domain, row.key.recipient_domain.clone());
                    result.policy.mx_hosts = vec![host];
                }
            }
            tlsrpt::merge(&mut policies, results);
        }
        let begin = Timestamp::from_secs(within.secs().div_euclid(86_400).saturating_mul(86_400));
        Report {
            organization: sender.domain.ascii().to_owned(),
            begin,
            end: Timestamp::from_secs(begin.secs().saturating_add(86_399)),
            contact: format!("postmaster@{}", sender.domain.ascii()),
            id: format!("{}.{}@{}", day_of(within), subject.domain, sender.domain.ascii()),
            policies,
        }
    }

    fn compose<'a>(
        &self,
        sender: &'a ReportSigner,
        subject: &Subject<'_>,
        report: &Report,
        to: &'a [Address],
    ) -> Result<Outgoing<'a>, SendError> {
        let submitter = sender.domain.ascii();
        let from = Reporter::postmaster(&sender.domain)?;
        let message_id = self.reporter.message_id(&sender.domain);
        let envelope = Envelope {
            from: from.clone(),
            to: to.to_vec(),
            policy_domain: subject.domain,
            submitter,
            message_id: message_id.clone(),
            date: self.reporter.now(),
            user_agent: &self.reporter.settings.user_agent,
        };
        let composed = tlsrpt::message(report, &envelope, &*self.reporter.parts.random).map_err(|e| SendError::Compose(e.to_string()))?;
        Ok(Outgoing {
            kind: ReportKind::Tls,
            from,
            to,
            message_id,
            subject: format!("Report Domain: {} Submitter: {submitter} Report-ID: <{}>", subject.domain, report.id),
            composed,
            signer: Some(sender),
            // RFC 8689 §5: it says so itself.
            require_tls: Some(false),
        })
    }
}
