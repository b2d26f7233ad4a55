//! TLS reports, sent once a day to those who want them. RFC 8460 §4, §5.
//!
//! First the recipient domains, each with all that happened to sessions with its hosts; then hosts that want reports of their own,
//! about what their domains haven't been told. Results are marked as sent before a report is queued: a crash loses a report, it never
//! sends two. Results of a domain whose record can't be looked up now stay for the next round; after two and a half days they go.
//! A loop is impossible: the delivery of a report never asks for one (`collect`), and nobody hears of its failure.

use super::TlsPolicies;
use super::collect::day_of;
use crate::signing::{self, SharedSelectors};
use crate::spool::Spool;
use crate::submit::{Submission, SubmissionRecipient, Submitter};
use mox_base::{Address, Domain, Path, Timestamp};
use mox_mailauth::DkimSelector;
use mox_mailauth::tlsrpt::{self, Envelope, PolicyResult, RecordError, Report};
use mox_smtp::grammar::RcptParameters;
use mox_store::directory::SharedDirectory;
use mox_store::queue::ReportKind;
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
/// For looking up where reports go.
const LOOKUP: Duration = Duration::from_secs(60);

/// Who sends reports, and which.
#[derive(Clone, Debug)]
pub struct ReportSettings {
    /// Our name. Reports come from it, or from the nearest domain above it that is ours and signs.
    pub hostname: Domain,
    /// The account that they are queued for: the postmaster's.
    pub account: String,
    /// Also where nothing went wrong.
    pub all_success: bool,
    /// `mox/<version>`.
    pub user_agent: String,
}

/// Sends reports.
#[derive(Debug)]
pub struct ReportSender {
    policies: Arc<TlsPolicies>,
    submitter: Submitter,
    directory: SharedDirectory,
    selectors: SharedSelectors,
    settings: ReportSettings,
}

/// From whom reports come.
struct Sender {
    domain: Domain,
    selectors: Arc<[DkimSelector]>,
}

/// Why there is no report now.
#[derive(Debug, thiserror::Error)]
enum SendError {
    #[error(transparent)]
    Store(#[from] mox_store::Error),
    #[error("composing: {0}")]
    Compose(#[from] tlsrpt::ReadError),
    #[error("signing: {0}")]
    Sign(String),
    #[error(transparent)]
    Submit(#[from] crate::submit::SubmitError),
}

/// Where the reports of a domain go.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wanted {
    To(Vec<String>),
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
    /// With what it needs.
    pub const fn new(
        policies: Arc<TlsPolicies>,
        submitter: Submitter,
        directory: SharedDirectory,
        selectors: SharedSelectors,
        settings: ReportSettings,
    ) -> Self {
        Self { policies, submitter, directory, selectors, settings }
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
        self.policies.flush().await?;
        let now = self.policies.ports.clock.now();
        let store = self.policies.store();
        store.remove_results_before(day_of(now.before(KEPT))).await?;
        let Some(sender) = self.sender() else {
            tracing::debug!("no domain of ours above the hostname signs: no TLS reports");
            return Ok(0);
        };
        let mut queued = 0;
        for age in [2, 1] {
            queued += self.send_day(&sender, now.before(DAY * age), pace).await?;
        }
        Ok(queued)
    }

    /// The host's own name, or the nearest above it that is ours and signs.
    fn sender(&self) -> Option<Sender> {
        let directory = self.directory.current();
        let mut name = Some(self.settings.hostname.ascii());
        while let Some(text) = name {
            if let Ok(domain) = Domain::parse_lax(text)
                && let Some(settings) = directory.domain(&domain)
            {
                let selectors = self.selectors.of(&domain).filter(|_| !settings.disabled)?;
                return Some(Sender { domain, selectors: selectors.iter().map(with_report_fields).collect() });
            }
            name = text.split_once('.').map(|(_, parent)| parent);
        }
        None
    }

    async fn send_day(&self, sender: &Sender, within: Timestamp, pace: bool) -> Result<usize, mox_store::Error> {
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
                Wanted::To(addresses) => match self.send(sender, subject, &addresses, &wanted, within).await {
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
        match tokio::time::timeout(LOOKUP, looking).await {
            Ok(Ok(record)) => Wanted::To(record.addresses()),
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
        sender: &Sender,
        subject: &Subject<'_>,
        addresses: &[String],
        wanted: &BTreeMap<&str, Wanted>,
        within: Timestamp,
    ) -> Result<bool, SendError> {
        let store = self.policies.store();
        let now = self.policies.ports.clock.now();
        let rows = subject.rows.iter().filter(|row| if subject.is_recipient { !row.sent_recipient } else { !row.sent_policy });
        // Who got it as recipient domain doesn't get it again as host.
        let told = |row: &DayResults| {
            !subject.is_recipient
                && matches!(wanted.get(row.key.recipient_domain.as_str()), Some(Wanted::To(to)) if to.as_slice() == addresses)
        };
        let rows: Vec<&DayResults> = rows.copied().filter(|row| !told(row)).collect();
        let report = self.report(sender, subject, &rows, within);
        if report.policies.is_empty() || !(report.has_failures() || self.settings.all_success) {
            return Ok(false);
        }
        let suppressed: BTreeSet<String> = store.suppressed(now).await?.into_iter().map(|s| s.address).collect();
        let to: Vec<Address> = addresses.iter().filter(|a| !suppressed.contains(*a)).filter_map(|a| a.parse().ok()).collect();
        if to.is_empty() || !store.mark_sent(rows.iter().map(|r| r.key.clone()).collect(), subject.is_recipient).await? {
            return Ok(false);
        }
        let submission = self.compose(sender, subject, &report, &to).await?;
        let queued = self.submitter.submit_report(submission, ReportKind::Tls).await?;
        self.policies.metrics.reports_queued.inc();
        tracing::info!(domain = subject.domain, recipients = queued.len(), "TLS report queued");
        Ok(true)
    }

    fn report(&self, sender: &Sender, subject: &Subject<'_>, rows: &[&DayResults], within: Timestamp) -> Report {
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

    async fn compose(&self, sender: &Sender, subject: &Subject<'_>, report: &Report, to: &[Address]) -> Result<Submission, SendError> {
        let ports = &self.policies.ports;
        let now = ports.clock.now();
        let submitter = sender.domain.ascii();
        let from: Address = format!("postmaster@{submitter}").parse().map_err(|_| SendError::Sign("no address of ours".to_owned()))?;
        let message_id = format!("{:016x}{:016x}@{submitter}", ports.random.u64(), ports.random.u64());
        let envelope = Envelope {
            from: from.clone(),
            to: to.to_vec(),
            policy_domain: subject.domain,
            submitter,
            message_id: message_id.clone(),
            date: now,
            user_agent: &self.settings.user_agent,
        };
        let composed = tlsrpt::message(report, &envelope, &*ports.random)?;
        let message = Spool::from(composed.bytes);
        let signature = signing::sign(Arc::clone(&sender.selectors), &sender.domain, &[], &message, now).await.map_err(SendError::Sign)?;
        Ok(Submission {
            account: self.settings.account.clone(),
            reverse_path: Some(Path::from(from)),
            recipients: to
                .iter()
                .map(|a| SubmissionRecipient { path: Path::from(a.clone()), parameters: RcptParameters::default() })
                .collect(),
            unique_sender: None,
            prefix: signature.into_bytes(),
            message,
            has_8bit: composed.eight_bit,
            smtputf8: composed.smtputf8,
            message_utf8: None,
            // RFC 8689 §5: it says so itself.
            require_tls: Some(false),
            release: None,
            future_release: String::new(),
            message_id: format!("<{message_id}>"),
            subject: format!("Report Domain: {} Submitter: {submitter} Report-ID: <{}>", subject.domain, report.id),
            extra: BTreeMap::new(),
            envelope_id: None,
            return_full: false,
            limits: None,
            step: None,
        })
    }
}

/// The selector, also signing what RFC 8460 §5.3 adds to the header.
fn with_report_fields(selector: &DkimSelector) -> DkimSelector {
    let mut selector = selector.clone();
    selector.headers.extend(["TLS-Report-Domain", "TLS-Report-Submitter"].map(str::to_owned));
    selector
}
