//! Errors of methods: a code for programs, a text for people.

use crate::object::{Describe, Object};

object! {
    /// What a call that failed answers, with HTTP status 400, or 403 for code `outOfScope`.
    pub struct ErrorBody {
        /// For programs; see the table of codes.
        "Code" code: String,
        /// For people. The texts are not part of the API.
        "Message" message: String,
    }
}

words! {
    /// Why a method failed.
    pub enum ErrorCode {
        /// Content type, form or JSON of the request can't be read, a field is unknown, or `request` is missing.
        Protocol = "protocol",
        /// Something failed in the server, such as its storage. Trying again later may help.
        Server = "server",
        /// Something in the request isn't possible; the message says what.
        User = "user",
        /// The API key that was used isn't for this method, or not for this author. The HTTP status is 403 instead of 400.
        OutOfScope = "outOfScope",
        /// The address is on the suppression list already, or isn't there to be removed.
        Error = "error",
        /// An address isn't of the form `localpart@domain`.
        BadAddress = "badAddress",
        /// Neither `Text` nor `HTML` has content.
        MissingBody = "missingBody",
        /// `From` has more than one address.
        MultipleFrom = "multipleFrom",
        /// The account may not use the address in `From`.
        BadFrom = "badFrom",
        /// The domain of the address in `From` is disabled for now.
        DomainDisabled = "domainDisabled",
        /// `To`, `CC` and `BCC` are all empty.
        NoRecipients = "noRecipients",
        /// The account would send more messages in 24 hours than it may.
        MessageLimitReached = "messageLimitReached",
        /// The account would write to more new recipients in 24 hours than it may.
        RecipientLimitReached = "recipientLimitReached",
        /// The message, with its files encoded, is larger than the server takes.
        MessageTooLarge = "messageTooLarge",
        /// `MessageID` doesn't start with `<` and end with `>`, with something in between.
        MalformedMessageId = "malformedMessageID",
        /// The message is queued and will be sent, but the copy for the Sent mailbox doesn't fit the account's quota. Do not send again.
        SentOverQuota = "sentOverQuota",
        /// The account has no message with this id.
        MessageNotFound = "messageNotFound",
        /// The account has no template of this name.
        TemplateNotFound = "templateNotFound",
        /// An index in `PartPath` doesn't exist.
        PartNotFound = "partNotFound",
    }
}

/// An error that is the answer to a call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", code.as_str())]
pub struct Error {
    /// For programs.
    pub code: ErrorCode,
    /// For people; never the cause of an error of ours.
    pub message: String,
}

/// The longest text: error bodies stay below the 10 KiB that clients read.
const MAX_MESSAGE: usize = 4096;

impl Error {
    /// An error with its text, which is cut when it is very long. Control characters become question marks.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        let mut message = message.into().replace(char::is_control, "?");
        message.truncate(message.floor_char_boundary(MAX_MESSAGE));
        Self { code, message }
    }

    /// An error of the kind `user`.
    pub fn user(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::User, message)
    }

    /// The object that is answered.
    pub fn body(&self) -> ErrorBody {
        ErrorBody { code: self.code.as_str().to_owned(), message: self.message.clone() }
    }
}

/// The description of the object that is answered.
pub fn body_object() -> &'static Object {
    ErrorBody::object()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::write;

    #[test]
    fn as_on_the_wire() {
        let error = Error::new(ErrorCode::MessageNotFound, "message not found");
        assert_eq!(write(&error.body()), r#"{"Code":"messageNotFound","Message":"message not found"}"#);
    }

    #[test]
    fn bodies_stay_small() {
        for text in ["\u{1}", "é", "\"", "\\", "😀"] {
            assert!(write(&Error::user(text.repeat(100_000)).body()).len() < 10 * 1024, "{text}");
        }
    }
}
