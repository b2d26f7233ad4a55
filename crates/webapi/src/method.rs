//! The methods: names, requests, responses, errors.

use crate::error::ErrorCode;
use crate::listing::{
    MailboxListResponse, MessageListRequest, MessageListResponse, QueueCancelRequest, QueueCancelResponse, QueueListRequest,
    QueueListResponse, QueueRescheduleRequest, QueueRescheduleResponse, SuppressionListRequest,
};
use crate::object::{Describe, Object};
use crate::scope::Scope;
use crate::send::{SendBatchRequest, SendBatchResponse, SendRequest, SendResponse};
use crate::template::{TemplateGetResponse, TemplateListRequest, TemplateListResponse, TemplateRequest, TemplateSetRequest};
use crate::types::{Message, MessageMeta, Structure, Suppression};
use crate::wire::{ReadError, Unknown, Wire, read};

object! {
    /// Nothing.
    pub struct Empty {}

    /// The suppression list.
    pub struct SuppressionListResponse {
        /// Entries, ordered by base address.
        "Suppressions" suppressions: Vec<Suppression>,
    }

    /// An address to suppress.
    pub struct SuppressionAddRequest {
        /// The address; entries are compared by its simplified form.
        "EmailAddress" email_address: String,
        /// Whether a person asked for it; kept as given.
        "Manual" manual: bool,
        /// Free text.
        "Reason" reason: String,
    }

    /// An address.
    pub struct SuppressionRequest {
        /// The address; entries are compared by its simplified form.
        "EmailAddress" email_address: String,
    }

    /// Whether an address is suppressed.
    pub struct SuppressionPresentResponse {
        /// Whether it is on the list.
        "Present" present: bool,
    }

    /// A stored message.
    pub struct MessageRequest {
        /// Id of the message, as in the incoming webhook. It stays the same when the message is moved.
        "MsgID" msg_id: i64,
    }

    /// A stored message, read.
    pub struct MessageGetResponse {
        /// Headers and text.
        "Message" message: Message,
        /// The parts.
        "Structure" structure: Structure,
        /// What is known beside the contents.
        "Meta" meta: MessageMeta,
    }

    /// A part of a stored message.
    pub struct MessagePartRequest {
        /// Id of the message.
        "MsgID" msg_id: i64,
        /// Indices from zero, from the message down. Empty selects the body of the message itself.
        "PartPath" part_path: Vec<i64>,
    }

    /// Flags of a stored message.
    pub struct MessageFlagsRequest {
        /// Id of the message.
        "MsgID" msg_id: i64,
        /// Flags in any case: `\answered`, `\flagged`, `\deleted`, `\seen`, `\draft`, `$forwarded`, `$junk`, `$notjunk`,
        /// `$phishing`, `$mdnsent`, or keywords.
        "Flags" flags: Vec<String>,
    }

    /// Where to move a stored message.
    pub struct MessageMoveRequest {
        /// Id of the message.
        "MsgID" msg_id: i64,
        /// Name of an existing mailbox, such as `Archive`; the inbox is `Inbox`.
        "DestMailboxName" dest_mailbox_name: String,
    }
}

/// What a method answers.
#[derive(Clone, Copy, Debug)]
pub enum ResponseKind {
    /// A JSON object.
    Json(fn() -> &'static Object),
    /// Bytes.
    Bytes {
        /// The media type.
        media_type: &'static str,
        /// What they are.
        about: &'static str,
    },
}

/// A method as documented.
#[derive(Debug)]
pub struct Method {
    /// Its name, in paths.
    pub name: &'static str,
    /// The group it belongs to, for keys that may do some things only.
    pub scope: Scope,
    /// In a few words.
    pub summary: &'static str,
    /// In full, a paragraph a line.
    pub about: &'static str,
    /// What it takes.
    pub request: fn() -> &'static Object,
    /// Reads a request as the server does, to see whether it can be read.
    pub check: fn(&str) -> Result<(), ReadError>,
    /// What it answers.
    pub response: ResponseKind,
    /// Errors beside `protocol`, `server`, `user` and `outOfScope`.
    pub errors: &'static [ErrorCode],
}

impl Method {
    /// The method with this name; case matters.
    pub fn by_name(name: &str) -> Option<&'static Self> {
        METHODS.iter().find(|method| method.name == name)
    }

    /// All errors that it can give.
    pub fn all_errors(&self) -> impl Iterator<Item = ErrorCode> {
        [ErrorCode::Protocol, ErrorCode::Server, ErrorCode::User, ErrorCode::OutOfScope].into_iter().chain(self.errors.iter().copied())
    }
}

fn check<T: Wire>(json: &str) -> Result<(), ReadError> {
    read::<T>(json, Unknown::Refuse).map(drop)
}

/// Errors of sending.
const SEND_ERRORS: [ErrorCode; 12] = [
    ErrorCode::BadAddress,
    ErrorCode::MissingBody,
    ErrorCode::MultipleFrom,
    ErrorCode::BadFrom,
    ErrorCode::DomainDisabled,
    ErrorCode::NoRecipients,
    ErrorCode::MessageLimitReached,
    ErrorCode::RecipientLimitReached,
    ErrorCode::MessageTooLarge,
    ErrorCode::MalformedMessageId,
    ErrorCode::SentOverQuota,
    ErrorCode::TemplateNotFound,
];

/// All methods of version 0.
pub static METHODS: [Method; 22] = [
    Method {
        name: "Send",
        scope: Scope::Send,
        summary: "Compose a message and queue it for delivery",
        about: "Makes a message of the fields given, signs it, and adds an entry to the queue for each recipient. When the call \
                succeeds, the message is stored durably and will be sent, whatever happens to the connection. What becomes of each \
                recipient is told by webhooks.\n\
                Files can be given in the JSON, or be uploaded with `multipart/form-data` as form files named `alternativefile`, \
                `inlinefile` and `attachedfile`, each as often as needed; headers `Content-Type` and `Content-ID` of the form part are \
                kept.\n\
                With a request header `Idempotency-Key`, a key that you choose, a call can be repeated safely for 24 hours: the same \
                request with the same key gets the same answer, and is sent once. Another request with the same key fails with code \
                `user`.",
        request: SendRequest::object,
        check: check::<SendRequest>,
        response: ResponseKind::Json(SendResponse::object),
        errors: &SEND_ERRORS,
    },
    Method {
        name: "SendBatch",
        scope: Scope::Send,
        summary: "Compose several messages and queue them for delivery",
        about: "Does for each message what `Send` does, and tells of each what came of it. The call itself only fails if nothing was sent.\n\
                With a request header `Idempotency-Key`, a call can be repeated for 24 hours, as with `Send`: messages that were sent aren't \
                sent again and have the same response, those that failed are tried again. Another request with the same key fails with \
                code `user`, also if nothing was sent for the first. Files can't be uploaded: they are given in the JSON.",
        request: SendBatchRequest::object,
        check: check::<SendBatchRequest>,
        response: ResponseKind::Json(SendBatchResponse::object),
        errors: &[],
    },
    Method {
        name: "SuppressionList",
        scope: Scope::Suppressions,
        summary: "List the suppressed addresses",
        about: "Returns the addresses that the account doesn't send to: all of them, or a page. Messages to them fail in the queue, \
                with event `suppressed`.",
        request: SuppressionListRequest::object,
        check: check::<SuppressionListRequest>,
        response: ResponseKind::Json(SuppressionListResponse::object),
        errors: &[],
    },
    Method {
        name: "SuppressionAdd",
        scope: Scope::Suppressions,
        summary: "Suppress an address",
        about: "Adds an address to the account's suppression list. The server adds addresses by itself when deliveries to them fail \
                for good or again and again.",
        request: SuppressionAddRequest::object,
        check: check::<SuppressionAddRequest>,
        response: ResponseKind::Json(Empty::object),
        errors: &[ErrorCode::BadAddress, ErrorCode::Error],
    },
    Method {
        name: "SuppressionRemove",
        scope: Scope::Suppressions,
        summary: "Stop suppressing an address",
        about: "Removes an address from the account's suppression list.",
        request: SuppressionRequest::object,
        check: check::<SuppressionRequest>,
        response: ResponseKind::Json(Empty::object),
        errors: &[ErrorCode::BadAddress, ErrorCode::Error],
    },
    Method {
        name: "SuppressionPresent",
        scope: Scope::Suppressions,
        summary: "Check whether an address is suppressed",
        about: "Tells whether an address is on the account's suppression list.",
        request: SuppressionRequest::object,
        check: check::<SuppressionRequest>,
        response: ResponseKind::Json(SuppressionPresentResponse::object),
        errors: &[ErrorCode::BadAddress],
    },
    Method {
        name: "MessageGet",
        scope: Scope::Read,
        summary: "Get a message, parsed",
        about: "Returns headers, texts and structure of a stored message, and what is known of how it arrived. Flags stay as they are.",
        request: MessageRequest::object,
        check: check::<MessageRequest>,
        response: ResponseKind::Json(MessageGetResponse::object),
        errors: &[ErrorCode::MessageNotFound],
    },
    Method {
        name: "MessageRawGet",
        scope: Scope::Read,
        summary: "Get a message as stored",
        about: "Returns the whole message, including headers that were added on delivery. Flags stay as they are.",
        request: MessageRequest::object,
        check: check::<MessageRequest>,
        response: ResponseKind::Bytes { media_type: "text/plain", about: "The message, with CRLF line endings." },
        errors: &[ErrorCode::MessageNotFound],
    },
    Method {
        name: "MessagePartGet",
        scope: Scope::Read,
        summary: "Get a part of a message, decoded",
        about: "Returns the body of a part without its transfer encoding. The character set of texts is not converted. The response \
                has the part's own media type and is marked as a download.",
        request: MessagePartRequest::object,
        check: check::<MessagePartRequest>,
        response: ResponseKind::Bytes { media_type: "application/octet-stream", about: "The decoded body of the part." },
        errors: &[ErrorCode::MessageNotFound, ErrorCode::PartNotFound],
    },
    Method {
        name: "MessageDelete",
        scope: Scope::Change,
        summary: "Remove a message for good",
        about: "Removes a message. It is not kept in a Trash mailbox.",
        request: MessageRequest::object,
        check: check::<MessageRequest>,
        response: ResponseKind::Json(Empty::object),
        errors: &[ErrorCode::MessageNotFound],
    },
    Method {
        name: "MessageFlagsAdd",
        scope: Scope::Change,
        summary: "Set flags on a message",
        about: "Sets flags and leaves others as they are. Marking a message `$junk` or `$notjunk` teaches the account's junk filter.",
        request: MessageFlagsRequest::object,
        check: check::<MessageFlagsRequest>,
        response: ResponseKind::Json(Empty::object),
        errors: &[ErrorCode::MessageNotFound],
    },
    Method {
        name: "MessageFlagsRemove",
        scope: Scope::Change,
        summary: "Clear flags of a message",
        about: "Clears flags and leaves others as they are.",
        request: MessageFlagsRequest::object,
        check: check::<MessageFlagsRequest>,
        response: ResponseKind::Json(Empty::object),
        errors: &[ErrorCode::MessageNotFound],
    },
    Method {
        name: "MessageMove",
        scope: Scope::Change,
        summary: "Move a message to another mailbox",
        about: "Moves a message to a mailbox that exists. Its id stays the same.",
        request: MessageMoveRequest::object,
        check: check::<MessageMoveRequest>,
        response: ResponseKind::Json(Empty::object),
        errors: &[ErrorCode::MessageNotFound],
    },
    Method {
        name: "MailboxList",
        scope: Scope::Read,
        summary: "List the mailboxes",
        about: "Returns all mailboxes of the account, with the number of messages in each.",
        request: Empty::object,
        check: check::<Empty>,
        response: ResponseKind::Json(MailboxListResponse::object),
        errors: &[],
    },
    Method {
        name: "MessageList",
        scope: Scope::Read,
        summary: "List the messages in a mailbox",
        about: "Returns a page of the messages in a mailbox, without their texts. To see what is new, ask again with the last UID that you \
                have seen. Flags stay as they are.",
        request: MessageListRequest::object,
        check: check::<MessageListRequest>,
        response: ResponseKind::Json(MessageListResponse::object),
        errors: &[],
    },
    Method {
        name: "QueueList",
        scope: Scope::Queue,
        summary: "List messages that are being sent, or were sent",
        about: "Returns a page of the account's entries in the queue, or of those that have ended, with all attempts to deliver them. \
                There is an entry for each recipient.",
        request: QueueListRequest::object,
        check: check::<QueueListRequest>,
        response: ResponseKind::Json(QueueListResponse::object),
        errors: &[],
    },
    Method {
        name: "QueueCancel",
        scope: Scope::Queue,
        summary: "Take messages out of the queue",
        about: "Cancels the delivery of entries that still wait, also of those that are held. Nobody gets a bounce; webhooks tell of the \
                event `canceled`.",
        request: QueueCancelRequest::object,
        check: check::<QueueCancelRequest>,
        response: ResponseKind::Json(QueueCancelResponse::object),
        errors: &[],
    },
    Method {
        name: "QueueReschedule",
        scope: Scope::Queue,
        summary: "Change when messages are tried next",
        about: "Sets when the delivery of entries is tried next: at once, or at a time.",
        request: QueueRescheduleRequest::object,
        check: check::<QueueRescheduleRequest>,
        response: ResponseKind::Json(QueueRescheduleResponse::object),
        errors: &[],
    },
    Method {
        name: "TemplateSet",
        scope: Scope::Templates,
        summary: "Keep a template for messages",
        about: "Keeps a subject and texts with places such as `{{name}}`, for messages that are sent with `Template` and `TemplateData`. \
                An account has up to 1000 templates; a subject or a text has up to 1 MiB, also when it is filled in.",
        request: TemplateSetRequest::object,
        check: check::<TemplateSetRequest>,
        response: ResponseKind::Json(Empty::object),
        errors: &[ErrorCode::MissingBody],
    },
    Method {
        name: "TemplateGet",
        scope: Scope::Templates,
        summary: "Get a template",
        about: "Returns a template as it was set.",
        request: TemplateRequest::object,
        check: check::<TemplateRequest>,
        response: ResponseKind::Json(TemplateGetResponse::object),
        errors: &[ErrorCode::TemplateNotFound],
    },
    Method {
        name: "TemplateList",
        scope: Scope::Templates,
        summary: "List the templates",
        about: "Returns a page of the account's templates, without their texts.",
        request: TemplateListRequest::object,
        check: check::<TemplateListRequest>,
        response: ResponseKind::Json(TemplateListResponse::object),
        errors: &[],
    },
    Method {
        name: "TemplateRemove",
        scope: Scope::Templates,
        summary: "Remove a template",
        about: "Removes a template. Messages that were made from it are sent as they are.",
        request: TemplateRequest::object,
        check: check::<TemplateRequest>,
        response: ResponseKind::Json(Empty::object),
        errors: &[ErrorCode::TemplateNotFound],
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::write;

    #[test]
    fn found_by_exact_name() {
        assert_eq!(Method::by_name("Send").map(|m| m.name), Some("Send"));
        assert!(Method::by_name("send").is_none());
    }

    #[test]
    fn empty_responses() {
        assert_eq!(write(&Empty::default()), "{}");
        assert_eq!(write(&SuppressionListResponse::default()), r#"{"Suppressions":[]}"#);
        assert!(read::<Empty>("null", Unknown::Refuse).is_ok());
        assert!(read::<Empty>(r#"{"x":1}"#, Unknown::Refuse).is_err());
    }

    #[test]
    fn ids_are_integers() {
        for (text, id) in
            [(r#"{"MsgID":-1}"#, Some(-1)), (r#"{"msgid":9007199254740993}"#, Some(9_007_199_254_740_993)), (r#"{"MsgID":1.5}"#, None)]
        {
            assert_eq!(read::<MessageRequest>(text, Unknown::Refuse).ok().map(|r| r.msg_id), id, "{text}");
        }
    }

    #[test]
    fn everything_is_documented() {
        for method in &METHODS {
            for text in [method.summary, method.about, (method.request)().doc] {
                assert!(!text.trim().is_empty(), "{}", method.name);
            }
        }
    }
}
