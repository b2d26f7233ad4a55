//! Results of sessions, for reports. RFC 8460 §4.
//!
//! An attempt notes what came of its connections in [`SessionResults`]; they are gathered in memory and written to the store now and
//! then, so that a delivery costs no transaction for them. A crash loses some counts, never mail.

use super::TlsPolicies;
use mox_base::{Domain, Timestamp};
use mox_mailauth::tlsrpt::{self, PolicyResult};
use mox_store::tls::{ResultKey, SeenTls};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long results stay in memory.
const FLUSH_EVERY: Duration = Duration::from_secs(5);

/// Domains gathered in memory; results of more aren't reported.
const MAX_KEYS: usize = 20_000;

/// What came of the connections of an attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionResults {
    /// For the recipient domain.
    pub domain: Option<PolicyResult>,
    /// For each host.
    pub hosts: Vec<PolicyResult>,
    /// What the last host offered.
    pub seen: Option<SeenTls>,
}

impl SessionResults {
    /// Whether any session failed, or a fault was noticed.
    fn has_failure(&self) -> bool {
        self.domain.iter().chain(&self.hosts).any(|r| r.failure > 0 || !r.details.is_empty())
    }
}

#[derive(Debug)]
pub(super) struct Collected {
    enabled: bool,
    pending: Mutex<Pending>,
}

#[derive(Debug, Default)]
struct Pending {
    results: BTreeMap<ResultKey, (bool, bool, Vec<PolicyResult>)>,
    seen: BTreeMap<(String, String), SeenTls>,
}

impl Collected {
    pub(super) fn new(enabled: bool) -> Self {
        Self { enabled, pending: Mutex::default() }
    }
}

/// What an attempt delivered, as far as it matters for reports.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AboutAttempt<'a> {
    pub(crate) account: &'a str,
    pub(crate) recipient_domain: &'a Domain,
    pub(crate) is_tls_report: bool,
    pub(crate) is_dmarc_report: bool,
}

impl TlsPolicies {
    /// Notes what came of an attempt.
    pub(crate) fn collect(&self, about: AboutAttempt<'_>, results: SessionResults) {
        let now = self.ports.clock.now();
        let recipient = about.recipient_domain.ascii().to_owned();
        let mut pending = self.collected.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seen) = results.seen
            && pending.seen.len() < MAX_KEYS
        {
            pending.seen.insert((about.account.to_owned(), recipient.clone()), seen);
        }
        if !self.collected.enabled {
            return;
        }
        // A report about the delivery of a report would cause the next.
        let send_report = !about.is_tls_report && (!about.is_dmarc_report || results.has_failure());
        // A host that is the recipient domain itself says more than that the domain has no policy.
        let has_own = results.hosts.iter().any(|h| h.policy.domain == recipient && h.policy.kind == tlsrpt::PolicyKind::Tlsa);
        let domain = results.domain.filter(|d| !(has_own && d.policy.kind == tlsrpt::PolicyKind::NoPolicyFound));
        let day = day_of(now);
        for (is_host, result) in domain.into_iter().map(|d| (false, d)).chain(results.hosts.into_iter().map(|h| (true, h))) {
            if result.success == 0 && result.failure == 0 && result.details.is_empty() {
                continue;
            }
            let policy_domain = result.policy.domain.clone();
            let is_host = is_host && policy_domain != recipient;
            let key = ResultKey { policy_domain, day, recipient_domain: recipient.clone() };
            if pending.results.len() >= MAX_KEYS && !pending.results.contains_key(&key) {
                continue;
            }
            let entry = pending.results.entry(key).or_insert((is_host, false, Vec::new()));
            entry.1 |= send_report;
            tlsrpt::merge(&mut entry.2, [result]);
        }
    }

    /// Writes what is in memory to the store.
    ///
    /// # Errors
    /// The database failed; what wasn't written is lost.
    pub async fn flush(&self) -> Result<(), mox_store::Error> {
        let Pending { results, seen } = std::mem::take(&mut *self.collected.pending.lock().unwrap_or_else(PoisonError::into_inner));
        let now = self.ports.clock.now();
        for (key, (is_host, send_report, new)) in results {
            let merge = move |there: &str| {
                let mut all = tlsrpt::results_from_json(there).unwrap_or_default();
                tlsrpt::merge(&mut all, new.clone());
                tlsrpt::results_to_json(&all)
            };
            self.store.add_results(key, (is_host, send_report), now, merge).await?;
        }
        for ((account, domain), seen) in seen {
            self.store.note_seen(&account, &domain, seen).await?;
        }
        Ok(())
    }

    /// Writes to the store now and then, and once more when stopped.
    pub async fn run_collect(&self, stop: CancellationToken) {
        loop {
            let stopped = tokio::select! {
                () = stop.cancelled() => true,
                () = tokio::time::sleep(FLUSH_EVERY) => false,
            };
            if let Err(e) = self.flush().await {
                tracing::error!(error = %e, "keeping results of TLS sessions");
            }
            if stopped {
                return;
            }
        }
    }
}

/// `YYYYMMDD`, UTC.
pub(super) fn day_of(time: Timestamp) -> i64 {
    let (year, month, day) = time.date();
    i64::from(year) * 10_000 + i64::from(month) * 100 + i64::from(day)
}
