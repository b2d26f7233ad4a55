//! Complaints of recipients about mail that an account sent: they get no more of it.
//!
//! Whoever knows the id in a message's reverse-path got the message, or carried it. Its Message-ID, which other recipients, replies and lists
//! spread, is believed only in a report that the recipient's own domain vouches for: nobody is to be able to keep mail from others. A report
//! counts for the account that receives it; one that the postmaster's account receives counts for all, because that is where providers are
//! told to send them.

use super::arrivals::from_id;
use super::outgoing::{Facts, outgoing};
use crate::outbound::suppressed_until;
use mox_base::{Domain, Path, Timestamp};
use mox_mailauth::suffix::organizational_domain;
use mox_message::feedback::FeedbackReport;
use mox_store::db::{Error, Tx};
use mox_store::directory::Directory;
use mox_store::queue::suppression::{self, after_complaint};
use mox_store::queue::{AttemptResult, EventEntry, ReportKind, by_from_id, by_message_id, note_returned, only_by_message_id, parse_path};
use mox_store::webhook::{Event, insert};

/// The longest text of a reason.
const MAX_REASON: usize = 200;

/// A complaint that arrived.
#[derive(Clone, Debug)]
pub(super) struct Complaint {
    /// What it says.
    pub(super) report: FeedbackReport,
    /// Message-ID of the message it is about, with angle brackets.
    pub(super) message_id: Option<String>,
    /// `Return-Path` of that.
    pub(super) return_path: Option<String>,
}

/// Whose messages may be meant, and for whom what isn't secret is believed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scope<'a> {
    /// The account that received the report.
    pub(super) account: &'a str,
    /// The domains that signed the report.
    pub(super) vouching: &'a [Domain],
    /// Domains and accounts.
    pub(super) directory: &'a Directory,
}

impl Scope<'_> {
    /// Only messages of this account; none for all.
    fn only(&self) -> Option<&str> {
        (self.account != self.directory.postmaster().account.name).then_some(self.account)
    }

    /// Whether the report comes from the organization of a recipient.
    fn is_of(&self, recipient: &Path) -> bool {
        let Some(theirs) = recipient.host.domain().map(organizational_domain) else { return false };
        self.vouching.iter().any(|domain| organizational_domain(domain) == theirs)
    }
}

impl Complaint {
    /// The message that somebody complains of.
    pub(super) fn find(&self, tx: &Tx<'_>, scope: &Scope<'_>) -> Result<Option<EventEntry>, Error> {
        let is_ours = |entry: &EventEntry| scope.only().is_none_or(|account| entry.account == account);
        let senders = [self.report.mail_from.as_deref(), self.return_path.as_deref()];
        for path in senders.into_iter().flatten().filter_map(|text| parse_path(text.trim_matches(['<', '>']))) {
            if let Some(id) = from_id(scope.directory, &path)
                && let Some(entry) = by_from_id(tx, id)?.filter(is_ours)
            {
                return Ok(Some(entry));
            }
        }
        let Some(message_id) = self.message_id.as_deref() else { return Ok(None) };
        for recipient in self.report.recipients.iter().filter_map(|text| parse_path(text)).filter(|path| scope.is_of(path)) {
            if let Some(entry) = by_message_id(tx, scope.only(), message_id, &recipient)? {
                return Ok(Some(entry));
            }
        }
        // Most providers don't say who complained: who if not the only recipient.
        let only = if self.report.recipients.is_empty() { only_by_message_id(tx, scope.only(), message_id)? } else { None };
        Ok(only.filter(|entry| scope.is_of(&entry.recipient)))
    }

    /// Suppresses who complained, notes it with the message, and tells of it.
    pub(super) fn heed(&self, tx: &Tx<'_>, directory: &Directory, entry: &EventEntry, now: Timestamp) -> Result<(), Error> {
        let reason = self.reason();
        let account = directory.account(&entry.account);
        let mut suppressing = false;
        if entry.report == ReportKind::None {
            let recipient: &Path = &entry.recipient;
            let expires = account.and_then(|account| suppressed_until(account, now));
            let complaint = suppression::Complaint { account: &entry.account, recipient, reason: reason.clone(), now, expires };
            suppressing = after_complaint(tx, &complaint)?;
        }
        note_returned(tx, entry.id, &AttemptResult::failed(now, reason.clone()), now)?;
        // webapi.md has no event of its own for it.
        let facts = Facts {
            event: Event::Unrecognized,
            dsn: false,
            suppressing,
            queue_id: entry.id,
            from_id: entry.from_id.as_deref(),
            message_id: &entry.message_id,
            subject: &entry.subject,
            extra: &entry.extra,
            code: 0,
            secode: "",
            error: &reason,
            now,
        };
        if let Some(webhook) = account.and_then(|account| outgoing(account, &facts)) {
            insert(tx, &webhook)?;
        }
        Ok(())
    }

    fn reason(&self) -> String {
        let FeedbackReport { kind, user_agent, .. } = &self.report;
        let by = if user_agent.is_empty() { String::new() } else { format!(", reported by {user_agent}") };
        format!("complaint of type {kind} from recipient{by}").chars().filter(|c| !c.is_control()).take(MAX_REASON).collect()
    }
}
