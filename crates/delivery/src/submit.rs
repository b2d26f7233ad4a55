//! From a submission into the queue: the one function through which mail to be sent passes.
//!
//! Whoever accepted a message for sending (SMTP submission, later the web) has checked that the account may use its
//! addresses, and has completed its headers. Here it becomes an entry per recipient, in one transaction.
//! When [`Submitter::submit`] returns, the mail is durable, and the scheduler has been woken.

use crate::spool::Spool;
use mox_base::{Clock, DeliverBy, Domain, Path, Priority, QueueId, Random, Timestamp};
use mox_message::Headers;
use mox_smtp::grammar::RcptParameters;
use mox_store::db;
use mox_store::directory::AccountSettings;
use mox_store::queue::{AddError, AddStep, NewEntry, NewMessage, Notify, Queue, QueueRoom, ReportKind, SendLimits, Urgency};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How often the delivery of a report is tried.
const REPORT_ATTEMPTS: u32 = 5;

/// A message to be sent.
#[derive(Clone, Debug)]
pub struct Submission {
    /// The account that sends, and gets the DSNs.
    pub account: String,
    /// MAIL FROM, none for the null reverse-path.
    pub reverse_path: Option<Path>,
    /// RCPT TO, at least one.
    pub recipients: Vec<SubmissionRecipient>,
    /// Set when each entry gets a reverse-path of its own, by which bounces are recognised.
    pub unique_sender: Option<UniqueSender>,
    /// Headers before the message: trace fields, those that were missing.
    pub prefix: Vec<u8>,
    /// The message.
    pub message: Spool,
    /// Whether there are bytes from 0x80.
    pub has_8bit: bool,
    /// Whether it needs SMTPUTF8.
    pub smtputf8: bool,
    /// Sent instead of the message to hosts with SMTPUTF8; of DSNs.
    pub message_utf8: Option<Vec<u8>>,
    /// With REQUIRETLS true, with `TLS-Required: No` false.
    pub require_tls: Option<bool>,
    /// Delivery isn't tried before, RFC 4865.
    pub release: Option<Timestamp>,
    /// How that was asked for: `for;<seconds>` or `until;<time>`; else empty.
    pub future_release: String,
    /// With angle brackets; may be empty.
    pub message_id: String,
    /// Decoded.
    pub subject: String,
    /// The submitter's own data.
    pub extra: BTreeMap<String, String>,
    /// ENVID, decoded, RFC 3461 §4.4.
    pub envelope_id: Option<String>,
    /// RET=FULL, RFC 3461 §4.3.
    pub return_full: bool,
    /// Whose DKIM keys sign it when it is sent: the author's domain.
    pub sign_domain: Option<Domain>,
    /// How soon it goes, compared with what else waits.
    pub urgency: Urgency,
    /// MT-PRIORITY, RFC 6710 §4.
    pub priority: Option<Priority>,
    /// By when it is to be delivered, RFC 2852.
    pub deliver_by: Option<DeliverBy>,
    /// How much the account may send; none for what the server sends by itself.
    pub limits: Option<SendLimits>,
    /// How much of the account may wait in the queue; none for what the server sends by itself.
    pub room: Option<QueueRoom>,
    /// What somebody else does in the transaction that queues: remembering the answer to a request, say.
    pub step: Option<Arc<dyn AddStep>>,
}

impl Submission {
    /// A message with defaults for everything else: nothing known about it, not signed, not limited.
    pub const fn new(account: String, reverse_path: Option<Path>, recipients: Vec<SubmissionRecipient>, message: Spool) -> Self {
        Self {
            account,
            reverse_path,
            recipients,
            unique_sender: None,
            prefix: Vec::new(),
            message,
            has_8bit: false,
            smtputf8: false,
            message_utf8: None,
            require_tls: None,
            release: None,
            future_release: String::new(),
            message_id: String::new(),
            subject: String::new(),
            extra: BTreeMap::new(),
            envelope_id: None,
            return_full: false,
            sign_domain: None,
            urgency: Urgency::Interactive,
            priority: None,
            deliver_by: None,
            limits: None,
            room: None,
            step: None,
        }
    }
}

/// A queued recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submitted {
    /// Its entry.
    pub id: QueueId,
    /// To whom.
    pub recipient: Path,
    /// What in the sender's address identifies the entry.
    pub from_id: Option<String>,
}

/// A recipient, with what RCPT said about DSNs.
#[derive(Clone, Debug)]
pub struct SubmissionRecipient {
    /// The address.
    pub path: Path,
    /// NOTIFY and ORCPT.
    pub parameters: RcptParameters,
}

/// How reverse-paths are made unique.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UniqueSender {
    /// A new id for each recipient goes behind this separator and the localpart, which has none yet.
    Generate {
        /// The separator of the sender's domain.
        separator: String,
    },
    /// The sender chose one: it is in the reverse-path already. For one recipient only.
    Chosen(String),
}

/// Why a submission isn't in the queue.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// No recipient.
    #[error("submission without recipients")]
    NoRecipients,
    /// The account has sent too much in 24 hours. Holds the limit.
    #[error("account may send to {0} recipients in 24 hours, see MaxOutgoingMessagesPerDay in its configuration")]
    MessageLimit(u32),
    /// The account has written to too many in 24 hours to whom it never wrote before. Holds the limit.
    #[error("account may send to {0} first-time recipients in 24 hours, see MaxFirstTimeRecipientsPerDay in its configuration")]
    FirstTimeLimit(u32),
    /// The account has too many messages in the queue. Holds the limit.
    #[error("account may have {0} messages in the queue, see QueueMaxMessages in its configuration")]
    QueuedMessages(u32),
    /// The account's messages in the queue are too large in all. Holds the limit.
    #[error("account may have {0} bytes in the queue, see QueueMaxSize in its configuration")]
    QueuedSize(u64),
    /// The sender chose an id that is in use.
    #[error("fromid not unique")]
    FromIdNotUnique,
    /// An id was chosen and there are several recipients.
    #[error("only one recipient possible with a chosen fromid")]
    FromIdRecipients,
    /// With the id, the localpart would be too long.
    #[error("localpart too long for a unique sender")]
    FromIdTooLong,
    /// The submission's [`AddStep`] had an answer, so that nothing was to be queued.
    #[error("submission was answered before")]
    Answered(Vec<u8>),
    /// The database or a file failed.
    #[error("queueing: {0}")]
    Store(#[from] db::Error),
}

/// Puts submissions into the queue.
#[derive(Clone, Debug)]
pub struct Submitter {
    queue: Queue,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

impl Submitter {
    /// For a queue.
    pub fn new(queue: Queue, clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Self {
        Self { queue, clock, random }
    }

    /// Queues a submission; its entries, in the order of the recipients.
    ///
    /// # Errors
    /// See [`SubmitError`]: nothing was queued.
    pub async fn submit(&self, submission: Submission) -> Result<Vec<Submitted>, SubmitError> {
        self.queue(submission, ReportKind::None).await
    }

    /// Queues a report that the server made by itself: tried a few times, and nobody hears if it fails.
    ///
    /// # Errors
    /// See [`SubmitError`]: nothing was queued.
    pub async fn submit_report(&self, submission: Submission, report: ReportKind) -> Result<Vec<Submitted>, SubmitError> {
        self.queue(submission, report).await
    }

    async fn queue(&self, submission: Submission, report: ReportKind) -> Result<Vec<Submitted>, SubmitError> {
        let now = self.clock.now();
        let mut entries = self.entries(&submission, now)?;
        if report != ReportKind::None {
            for entry in &mut entries {
                entry.max_attempts = REPORT_ATTEMPTS;
                entry.notify = Notify::NEVER;
            }
        }
        let mut submitted: Vec<_> =
            entries.iter().map(|e| Submitted { id: QueueId(0), recipient: e.recipient.clone(), from_id: e.from_id.clone() }).collect();
        let limits = submission.limits.unwrap_or(SendLimits { messages: 0, first_time: 0 });
        let room = submission.room.unwrap_or_default();
        let urgency = if report == ReportKind::None { submission.urgency } else { Urgency::Bulk };
        let message = NewMessage {
            account: submission.account,
            queued: now,
            prefix: submission.prefix,
            body: submission.message.body(),
            sign_domain: submission.sign_domain,
            urgency,
            priority: submission.priority,
            deliver_by: submission.deliver_by,
            room: submission.room,
            has_8bit: submission.has_8bit,
            smtputf8: submission.smtputf8,
            message_id: submission.message_id,
            subject: submission.subject,
            body_utf8: submission.message_utf8,
            report,
            future_release: submission.future_release,
            extra: submission.extra,
            envelope_id: submission.envelope_id,
            return_full: submission.return_full,
            limits: submission.limits,
            step: submission.step,
        };
        let ids = self.queue.add(message, entries).await.map_err(|e| match e {
            AddError::NoRecipients => SubmitError::NoRecipients,
            AddError::MessageLimit => SubmitError::MessageLimit(limits.messages),
            AddError::FirstTimeLimit => SubmitError::FirstTimeLimit(limits.first_time),
            AddError::QueuedMessages => SubmitError::QueuedMessages(room.messages),
            AddError::QueuedSize => SubmitError::QueuedSize(room.bytes),
            AddError::FromIdNotUnique => SubmitError::FromIdNotUnique,
            AddError::Answered(answer) => SubmitError::Answered(answer),
            AddError::Store(e) => SubmitError::Store(e),
        })?;
        for (entry, id) in submitted.iter_mut().zip(ids) {
            entry.id = id;
        }
        Ok(submitted)
    }

    fn entries(&self, submission: &Submission, now: Timestamp) -> Result<Vec<NewEntry>, SubmitError> {
        let single = submission.recipients.len() == 1;
        let mut entries = Vec::with_capacity(submission.recipients.len());
        for recipient in &submission.recipients {
            let (sender, from_id) = match (&submission.unique_sender, &submission.reverse_path) {
                (None, _) | (_, None) => (submission.reverse_path.clone(), None),
                (Some(UniqueSender::Chosen(_)), Some(_)) if !single => return Err(SubmitError::FromIdRecipients),
                (Some(UniqueSender::Chosen(id)), Some(path)) => (Some(path.clone()), Some(id.clone()).filter(|id| !id.is_empty())),
                (Some(UniqueSender::Generate { separator }), Some(path)) => {
                    let id = new_from_id(&*self.random);
                    let localpart = format!("{}{separator}{id}", path.localpart.as_str());
                    let localpart = mox_base::Localpart::from_decoded(&localpart).map_err(|_| SubmitError::FromIdTooLong)?;
                    (Some(Path { localpart, host: path.host.clone() }), Some(id))
                }
            };
            let parameters = &recipient.parameters;
            entries.push(NewEntry {
                from_id,
                next_attempt: submission.release.unwrap_or(now).max(now),
                require_tls: submission.require_tls,
                notify: parameters.notify.as_ref().map_or_else(Notify::default, |n| Notify {
                    success: n.success,
                    failure: n.failure,
                    delay: n.delay,
                }),
                original_recipient: parameters.orcpt.as_ref().map(|o| format!("{};{}", o.address_type, o.address)),
                ..NewEntry::new(sender, recipient.path.clone(), now)
            });
        }
        Ok(entries)
    }
}

/// How much an account may send.
#[must_use]
pub const fn limits_of(account: &AccountSettings) -> SendLimits {
    SendLimits { messages: account.max_outgoing_messages_per_day, first_time: account.max_first_time_recipients_per_day }
}

/// How much of an account may wait in the queue.
#[must_use]
pub const fn room_of(account: &AccountSettings) -> QueueRoom {
    QueueRoom { messages: account.queue_max_messages, bytes: account.queue_max_size }
}

/// From so many recipients on, a message is bulk mail.
const MANY: usize = 20;

/// How soon a message goes: by its priority, if that is one; else by what its header says and by the number of its recipients.
/// `Auto-Submitted` says nothing: somebody waits for the code to log in with that a program sends.
#[must_use]
pub fn urgency_of(headers: &Headers<'_>, recipients: usize, priority: Option<Priority>) -> Urgency {
    // RFC 6710 §3: 0 is what messages have without one. All above shares a level, and so does all below.
    match priority.map_or(0, Priority::get) {
        1.. => return Urgency::Interactive,
        0 => {}
        _ => return Urgency::Bulk,
    }
    // RFC 2919, RFC 2369, and what everybody does.
    let is_list = ["List-Id", "List-Unsubscribe"].iter().any(|name| headers.first(name).is_some());
    let precedence = headers.all("Precedence").map(|field| field.text().trim().to_ascii_lowercase());
    let is_bulk = precedence.into_iter().any(|word| matches!(word.as_str(), "bulk" | "list" | "junk"));
    if is_list || is_bulk || recipients >= MANY { Urgency::Bulk } else { Urgency::Interactive }
}

/// 16 random bytes in base64url without padding: 22 characters.
fn new_from_id(random: &dyn Random) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut bytes = [0; 16];
    random.fill(&mut bytes);
    let n = u128::from_be_bytes(bytes);
    // 128 bits: 21 times 6, and 2 that are left, padded with zeros.
    let character = |i: u32| {
        let bits = if i < 21 { n >> (128 - 6 * (i + 1)) } else { n << 4 };
        ALPHABET.get(usize::try_from(bits & 63).unwrap_or(0)).copied().map_or('A', char::from)
    };
    (0..22).map(character).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Fixed([u8; 16]);

    impl Random for Fixed {
        fn fill(&self, buf: &mut [u8]) {
            buf.copy_from_slice(&self.0);
        }
    }

    #[test]
    fn bulk_mail_says_so_or_has_many_recipients() {
        for (header, recipients, want) in [
            ("Subject: hi\r\n", 1, Urgency::Interactive),
            ("Subject: hi\r\n", 19, Urgency::Interactive),
            ("Subject: hi\r\n", 20, Urgency::Bulk),
            ("Precedence: Bulk\r\n", 1, Urgency::Bulk),
            ("precedence: first-class\r\n", 1, Urgency::Interactive),
            ("List-Id: <l.example>\r\n", 1, Urgency::Bulk),
            ("List-Unsubscribe: <mailto:x@x.example>\r\n", 1, Urgency::Bulk),
            ("Auto-Submitted: auto-generated\r\n", 1, Urgency::Interactive),
        ] {
            let of = |priority: Option<i8>| {
                urgency_of(&Headers::new(format!("{header}\r\n").as_bytes()), recipients, priority.and_then(Priority::new))
            };
            assert_eq!((of(None), of(Some(0))), (want, want), "{header}");
            assert_eq!((of(Some(1)), of(Some(-1))), (Urgency::Interactive, Urgency::Bulk), "{header}");
        }
    }

    #[test]
    fn from_ids_are_base64url() {
        // As `base64 | tr +/ -_ | tr -d =` gives it.
        assert_eq!(new_from_id(&Fixed([0; 16])), "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(new_from_id(&Fixed([255; 16])), "_____________________w");
        assert_eq!(new_from_id(&Fixed(*b"0123456789abcdef")), "MDEyMzQ1Njc4OWFiY2RlZg");
    }
}
