//! What was found about messages at reception, gathered for reports. RFC 7489 §7.2.
//!
//! Gathered in memory, where what is the same counts up, and written to the store every few seconds: a delivery costs no transaction for
//! statistics. A crash loses those seconds' counts, never mail.

use crate::inbound::{Chosen, Incoming};
use mox_base::{Clock, Host, Timestamp};
use mox_mailauth::dmarc::report::{Disposition, Evaluated, Published, Reason, interval_hours};
use mox_mailauth::dmarc::{DmarcOutcome, DmarcRecord, Findings, Policy};
use mox_store::Error;
use mox_store::dmarc::{DmarcStore, EvaluationRow, NewEvaluation};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long evaluations stay in memory.
const FLUSH_EVERY: Duration = Duration::from_secs(5);

/// Rows gathered in memory; what is more isn't reported.
const MAX_ROWS: usize = 20_000;

/// Addresses of a record that are kept.
const MAX_ADDRESSES: usize = 20;

/// Gathers evaluations. Without a store, which is how localserve runs, it gathers none.
#[derive(Debug)]
pub struct Evaluations {
    store: DmarcStore,
    clock: Arc<dyn Clock>,
    enabled: bool,
    /// By row and hour: when the first was, and how many.
    pending: Mutex<BTreeMap<(EvaluationRow, i64), (Timestamp, u64)>>,
}

/// What became of a message for a recipient.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fate<'a> {
    /// The recipient's domain, in A-labels.
    pub(crate) envelope_to: &'a str,
    /// What its rules say.
    pub(crate) chosen: &'a Chosen,
    /// Whether it was refused.
    pub(crate) refused: bool,
    /// Whether it is no reason to send a report: reports must cause none.
    pub(crate) optional: bool,
}

impl Evaluations {
    /// For a store. Unless `enabled`, nothing is gathered.
    pub const fn new(store: DmarcStore, clock: Arc<dyn Clock>, enabled: bool) -> Self {
        Self { store, clock, enabled, pending: Mutex::new(BTreeMap::new()) }
    }

    /// Where they are kept.
    pub const fn store(&self) -> &DmarcStore {
        &self.store
    }

    /// The rows of a message: one for recipients of which the same is to be said, however many they are.
    pub(crate) fn note(&self, incoming: &Incoming, fates: &[Fate<'_>]) {
        if !self.enabled {
            return;
        }
        let mut rows: Vec<EvaluationRow> = fates.iter().filter_map(|fate| row(incoming, fate)).collect();
        rows.sort();
        rows.dedup();
        let now = self.clock.now();
        let hour = now.secs().div_euclid(3600);
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        for row in rows {
            let key = (row, hour);
            if pending.len() < MAX_ROWS || pending.contains_key(&key) {
                let entry = pending.entry(key).or_insert((now, 0));
                entry.1 = entry.1.saturating_add(1);
            }
        }
    }

    /// Writes what is in memory to the store.
    ///
    /// # Errors
    /// The database failed; what wasn't written is lost.
    pub async fn flush(&self) -> Result<(), Error> {
        let pending = std::mem::take(&mut *self.pending.lock().unwrap_or_else(PoisonError::into_inner));
        if pending.is_empty() {
            return Ok(());
        }
        let new = pending.into_iter().map(|((row, _), (at, count))| NewEvaluation { row, at, count });
        self.store.add_evaluations(new.collect()).await
    }

    /// Writes to the store now and then, and once more when stopped.
    pub async fn run(&self, stop: CancellationToken) {
        loop {
            let stopped = tokio::select! {
                () = stop.cancelled() => true,
                () = tokio::time::sleep(FLUSH_EVERY) => false,
            };
            if let Err(error) = self.flush().await {
                tracing::error!(%error, "keeping evaluations of DMARC");
            }
            if stopped {
                return;
            }
        }
    }
}

/// What is to be told, if anybody wants to be told and if it was DMARC that decided, or nobody did.
fn row(incoming: &Incoming, fate: &Fate<'_>) -> Option<EvaluationRow> {
    let outcome = incoming.authentication.dmarc.as_ref()?;
    let record = outcome.record.as_ref().filter(|record| !record.aggregate_reports.is_empty())?;
    let from = &incoming.msg_from.as_ref()?.domain;
    let (disposition, reasons) = disposition(outcome, record, fate)?;
    let evaluated = Evaluated {
        source_ip: incoming.remote_ip,
        findings: Findings { from, spf: incoming.authentication.spf.as_ref(), dkim: &incoming.authentication.dkim },
        outcome,
        disposition,
        reasons,
        envelope_to: fate.envelope_to.to_owned(),
        envelope_from: match incoming.mail_from.as_ref().map(|path| &path.host) {
            Some(Host::Domain(domain)) => domain.ascii().to_owned(),
            Some(host) => host.to_string(),
            None => String::new(),
        },
    };
    Some(EvaluationRow {
        policy_domain: outcome.domain.ascii().to_owned(),
        optional: fate.optional,
        interval_hours: interval_hours(record.report_interval),
        addresses: record.aggregate_reports.iter().take(MAX_ADDRESSES).map(ToString::to_string).collect(),
        published: Published::of(&outcome.domain, record).to_xml(),
        record: evaluated.row().to_xml(),
    })
}

/// What was done, and why it isn't what the policy wants; none for what was refused for other reasons.
fn disposition(outcome: &DmarcOutcome, record: &DmarcRecord, fate: &Fate<'_>) -> Option<(Disposition, Vec<Reason>)> {
    let Fate { chosen, refused, .. } = fate;
    let reason = |kind: &str, comment: &str| vec![Reason { kind: kind.to_owned(), comment: comment.to_owned() }];
    let overridden = |reasons: Vec<Reason>| (!refused).then_some((Disposition::None, reasons));
    if outcome.policy == Policy::None {
        return overridden(Vec::new());
    }
    if chosen.is_list {
        return overridden(reason("mailing_list", "verified as a list that the recipient reads"));
    }
    if chosen.is_forward {
        return overridden(reason("forwarded", "verified as a forwarder of the recipient"));
    }
    if !outcome.apply {
        return overridden(if record.testing { reason("policy_test_mode", "") } else { reason("sampled_out", "") });
    }
    match (outcome.policy, refused) {
        (Policy::Reject, true) => Some((Disposition::Reject, Vec::new())),
        (Policy::Quarantine, false) if chosen.ruleset.is_none() => Some((Disposition::Quarantine, Vec::new())),
        (_, false) => overridden(reason("local_policy", "the recipient wants it")),
        (_, true) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mox_mailauth::dmarc::timed_out;

    #[test]
    fn dispositions() {
        let from = "x.example".parse().unwrap();
        let plain = Chosen { mailbox: "Inbox".to_owned(), ruleset: None, is_forward: false, is_list: false };
        for (record, policy, apply, chosen, refused, want) in [
            ("p=none", Policy::None, true, plain.clone(), false, "none"),
            ("p=none", Policy::None, true, plain.clone(), true, "not told"),
            ("p=reject", Policy::Reject, true, plain.clone(), true, "reject"),
            ("p=reject", Policy::Reject, true, plain.clone(), false, "none local_policy"),
            ("p=quarantine", Policy::Quarantine, true, plain.clone(), false, "quarantine"),
            ("p=quarantine", Policy::Quarantine, true, plain.clone(), true, "not told"),
            ("p=quarantine", Policy::Quarantine, true, Chosen { ruleset: Some(0), ..plain.clone() }, false, "none local_policy"),
            ("p=reject", Policy::Reject, true, Chosen { is_list: true, ..plain.clone() }, false, "none mailing_list"),
            ("p=reject", Policy::Reject, true, Chosen { is_forward: true, ..plain.clone() }, false, "none forwarded"),
            ("p=reject", Policy::Reject, true, Chosen { is_forward: true, ..plain.clone() }, true, "not told"),
            ("p=reject;pct=10", Policy::Reject, false, plain.clone(), false, "none sampled_out"),
            ("p=reject;t=y", Policy::Reject, false, plain.clone(), false, "none policy_test_mode"),
        ] {
            let record = DmarcRecord::parse(&format!("v=DMARC1;{record}")).unwrap();
            let outcome = DmarcOutcome { policy, apply, ..timed_out(&from) };
            let fate = Fate { envelope_to: "a.example", chosen: &chosen, refused, optional: false };
            let got = disposition(&outcome, &record, &fate).map_or_else(
                || "not told".to_owned(),
                |(disposition, reasons)| {
                    let reasons: Vec<String> = reasons.into_iter().map(|r| format!(" {}", r.kind)).collect();
                    format!("{}{}", disposition.name(), reasons.concat())
                },
            );
            assert_eq!(got, want, "{record} {chosen:?} {refused}");
        }
    }
}
