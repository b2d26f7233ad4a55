//! Requests and responses about several things at once: mailboxes, the messages in one, the entries of the queue.
//!
//! Lists come a page at a time. A page says where the next begins; after the last there is nothing.

use crate::time::Time;
use crate::types::{Message, MessageMeta};
use std::collections::BTreeMap;

object! {
    /// A page of the suppression list.
    pub struct SuppressionListRequest {
        /// The most entries to return, 0 for all of them.
        "Limit" limit: i64,
        /// Only entries after this base address: the last one of the page before. Empty for the first page.
        "After" after: String,
    }

    /// A mailbox.
    pub struct MailboxEntry {
        /// Full name, levels separated by slashes.
        "Name" name: String,
        /// What it is for, as in IMAP: `\Archive`, `\Drafts`, `\Junk`, `\Sent`, `\Trash`. Often empty.
        "SpecialUse" special_use: Vec<String>,
        /// Number of messages.
        "Total" total: i64,
        /// Messages without `\seen`.
        "Unseen" unseen: i64,
        /// Bytes of all messages.
        "Size" size: i64,
        /// The UID that the next message will get, as in IMAP.
        "UIDNext" uid_next: i64,
    }

    /// All mailboxes.
    pub struct MailboxListResponse {
        /// Ordered by name, the inbox first.
        "Mailboxes" mailboxes: Vec<MailboxEntry>,
    }

    /// A page of the messages in a mailbox.
    pub struct MessageListRequest {
        /// Name of the mailbox; empty for the inbox.
        "MailboxName" mailbox_name: String,
        /// Oldest first with false, newest first with true.
        "NewestFirst" newest_first: bool,
        /// Only messages beyond this UID, in the direction of the list. 0 for the first page.
        "AfterUID" after_uid: i64,
        /// Only messages that have all of these flags or keywords.
        "Flags" flags: Vec<String>,
        /// Only messages that have none of these flags or keywords, such as `\seen`.
        "NotFlags" not_flags: Vec<String>,
        /// The most messages to return, at most 500; 0 for 50.
        "Limit" limit: i64,
    }

    /// A message in a list.
    pub struct MessageEntry {
        /// Id of the message, for other methods.
        "MsgID" msg_id: i64,
        /// Its UID in the mailbox, as in IMAP. A message that is moved gets another.
        "UID" uid: i64,
        /// When it arrived.
        "Received" received: Time,
        /// What its header says; texts are left out.
        "Message" message: Message,
        /// What is known beside the contents.
        "Meta" meta: MessageMeta,
    }

    /// Messages of a mailbox.
    pub struct MessageListResponse {
        /// The messages.
        "Messages" messages: Vec<MessageEntry>,
        /// `AfterUID` for the next page; 0 if there is none.
        "NextUID" next_uid: i64,
    }

    /// A page of what the account sends or has sent.
    pub struct QueueListRequest {
        /// With false, messages that wait for delivery. With true, those that were delivered, failed, or were taken out, as long as
        /// they are kept: `KeepRetiredMessagePeriod` of the account.
        "Ended" ended: bool,
        /// Only these ids, as returned by `Send`, at most 1000. Empty for all.
        "QueueMsgIDs" queue_msg_ids: Vec<i64>,
        /// `Next` of the page before; empty for the first page.
        "After" after: String,
        /// The most entries to return, at most 1000; 0 for 100.
        "Limit" limit: i64,
    }

    /// An attempt to deliver.
    pub struct QueueAttempt {
        /// When it began.
        "Start" start: Time,
        /// Whether the next host accepted the message.
        "Success" success: bool,
        /// SMTP reply code, 0 if there was no reply.
        "SMTPCode" smtp_code: i64,
        /// Enhanced code, such as `5.1.1`, or empty.
        "SMTPEnhancedCode" smtp_enhanced_code: String,
        /// What went wrong, or empty.
        "Error" error: String,
        /// Host that answered, or empty.
        "Host" host: String,
        /// TLS version and cipher suite of the connection, or empty.
        "TLS" tls: String,
    }

    /// A message on its way to one recipient.
    pub struct QueueEntry {
        /// Id, as returned by `Send`.
        "QueueMsgID" queue_msg_id: i64,
        /// Id in the SMTP MAIL FROM, as returned by `Send`; often empty.
        "FromID" from_id: String,
        /// With `<>`.
        "MessageID" message_id: String,
        /// Decoded.
        "Subject" subject: String,
        /// Address of the recipient.
        "RcptTo" rcpt_to: String,
        /// When it was queued.
        "Queued" queued: Time,
        /// `waiting`, `held` until somebody releases it, or the event that ended it, as in webhooks: `delivered`, `failed`,
        /// `suppressed`, `canceled`.
        "State" state: String,
        /// When delivery will be tried next; null if it won't be.
        "NextAttempt" next_attempt: Option<Time>,
        /// When it ended; null while it waits.
        "EndedAt" ended_at: Option<Time>,
        /// The attempts made, oldest first.
        "Attempts" attempts: Vec<QueueAttempt>,
        /// As given with `Send`.
        "Extra" extra: BTreeMap<String, String>,
    }

    /// What the account sends or has sent.
    pub struct QueueListResponse {
        /// Newest first.
        "Entries" entries: Vec<QueueEntry>,
        /// `After` for the next page; empty if there is none.
        "Next" next: String,
    }

    /// Entries of the queue.
    pub struct QueueCancelRequest {
        /// Ids, as returned by `Send`; 1 to 1000.
        "QueueMsgIDs" queue_msg_ids: Vec<i64>,
    }

    /// When to try entries of the queue.
    pub struct QueueRescheduleRequest {
        /// Ids, as returned by `Send`; 1 to 1000.
        "QueueMsgIDs" queue_msg_ids: Vec<i64>,
        /// When delivery is tried next, at most 60 days ahead. Null or past: at once.
        "NextAttempt" next_attempt: Option<Time>,
    }

    /// What was rescheduled.
    pub struct QueueRescheduleResponse {
        /// How many entries were changed. Those that had ended are not among them; those that are held stay so.
        "Rescheduled" rescheduled: i64,
    }

    /// What was cancelled.
    pub struct QueueCancelResponse {
        /// How many entries were taken out of the queue. Those that were being delivered, or had ended, are not among them.
        "Canceled" canceled: i64,
    }
}
