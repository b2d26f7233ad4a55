//! Objects that several methods share.

use crate::time::Time;
use std::collections::BTreeMap;

object! {
    /// An address with a name.
    pub struct NameAddress {
        /// Display name, decoded. No control characters in requests.
        "Name" name: String,
        /// `localpart@domain`. Requests may write an internationalised domain in either form; responses have it in Unicode.
        "Address" address: String,
    }

    /// A message as stored.
    pub struct Message {
        /// Authors.
        "From" from: Vec<NameAddress>,
        /// Recipients.
        "To" to: Vec<NameAddress>,
        /// Recipients of copies.
        "CC" cc: Vec<NameAddress>,
        /// Recipients that the others don't see; usually empty in received messages.
        "BCC" bcc: Vec<NameAddress>,
        /// Where replies go.
        "ReplyTo" reply_to: Vec<NameAddress>,
        /// The Message-ID, with `<>`; empty if the message has none.
        "MessageID" message_id: String,
        /// Message-IDs of earlier messages of the thread, with `<>`, oldest first. The message replied to is among them.
        "References" references: Vec<String>,
        /// The date in the header, null if there is none that can be read.
        "Date" date: Option<Time>,
        /// Decoded.
        "Subject" subject: String,
        /// The first plain text, with `\n` as line ending, at most 1 MiB.
        "Text" text: String,
        /// The first HTML, with `\n` as line ending, at most 1 MiB.
        "HTML" html: String,
    }

    /// A part of a message, with the parts within it. A path of indices into `Parts` selects a part for `MessagePartGet`.
    pub struct Structure {
        /// Lower-case `type/subtype`.
        "ContentType" content_type: String,
        /// Parameters of the content type: names in lower case, values as they are.
        "ContentTypeParams" content_type_params: BTreeMap<String, String>,
        /// With `<>`, or empty.
        "ContentID" content_id: String,
        /// Lower-case, without parameters, such as `attachment` or `inline`; or empty.
        "ContentDisposition" content_disposition: String,
        /// Name of the file, decoded, or empty.
        "Filename" filename: String,
        /// Bytes after decoding the transfer encoding. Text counts with CRLF, multiparts have 0.
        "DecodedSize" decoded_size: i64,
        /// Parts of a multipart. The parts of an embedded message are not listed.
        "Parts" parts: Vec<Structure>,
    }

    /// A file to send.
    pub struct File {
        /// Name of the file, optional.
        "Name" name: String,
        /// Media type. When empty, it is detected from the data.
        "ContentType" content_type: String,
        /// Content-ID with `<>`, by which HTML refers to the file as `cid:…`. Optional.
        "ContentID" content_id: String,
        /// The contents in base64, with padding. May be empty.
        "Data" data: String,
    }

    /// What is known of a stored message beside its contents.
    pub struct MessageMeta {
        /// Bytes of the message, including headers that were added on delivery.
        "Size" size: i64,
        /// Whether the message was recognised as a delivery status notification.
        "DSN" dsn: bool,
        /// Flags and keywords, lower-case.
        "Flags" flags: Vec<String>,
        /// SMTP MAIL FROM; empty for the null reverse-path and for messages that didn't arrive over SMTP.
        "MailFrom" mail_from: String,
        /// Whether SPF passed.
        "MailFromValidated" mail_from_validated: bool,
        /// SMTP RCPT TO, or empty.
        "RcptTo" rcpt_to: String,
        /// Address in the From header of a message that arrived over SMTP, or empty.
        "MsgFrom" msg_from: String,
        /// Whether the From address was verified, as with DMARC.
        "MsgFromValidated" msg_from_validated: bool,
        /// Domains of DKIM signatures that verified.
        "DKIMVerifiedDomains" dkim_verified_domains: Vec<String>,
        /// Address that the message came from, or empty.
        "RemoteIP" remote_ip: String,
        /// Mailbox that the message is in.
        "MailboxName" mailbox_name: String,
    }

    /// An address that the account doesn't send to.
    pub struct Suppression {
        /// Unique number.
        "ID" id: i64,
        /// When it was added.
        "Created" created: Time,
        /// Name of the account.
        "Account" account: String,
        /// The simplified address by which recipients are compared, unique in the account.
        "BaseAddress" base_address: String,
        /// The address that it was made from.
        "OriginalAddress" original_address: String,
        /// As given when it was added by a call; false when failed deliveries added it.
        "Manual" manual: bool,
        /// Free text.
        "Reason" reason: String,
    }
}
