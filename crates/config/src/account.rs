//! Accounts in `domains.conf`: addresses, rules, limits, spam handling.

use crate::choice::choices;
use crate::dynamic::Route;
use crate::schema::Section;
use crate::text::{AsciiText, DestinationKey, DurationText, HttpUrl, SmtpError};
use crate::value::{MailboxName, Pattern};
use mox_base::{Address, Domain, Secret};
use std::collections::BTreeMap;
use std::time::Duration;

/// A user.
#[derive(Clone, Debug, Default, PartialEq, Section)]
pub struct Account {
    /// Calls to a URL about the delivery of messages that the account sent.
    #[config(optional)]
    pub outgoing_webhook: Option<OutgoingWebhook>,
    /// Calls to a URL about messages that the account received.
    #[config(optional)]
    pub incoming_webhook: Option<IncomingWebhook>,
    /// Logging in with one of these addresses gives outgoing messages unique reverse-paths, so that bounces can be tied to
    /// their message. Their domain needs a LocalpartCatchallSeparator.
    #[config(optional, name = "FromIDLoginAddresses")]
    pub from_id_login_addresses: Vec<Address>,
    /// How long messages are kept in the list of retired ones after they left the queue. 0 is not at all.
    #[config(optional)]
    pub keep_retired_message_period: Duration,
    /// How long webhook calls are kept in the list of retired ones. 0 is not at all.
    #[config(optional)]
    pub keep_retired_webhook_period: Duration,
    /// If not empty, logging in fails with this text. Mail is still received and sent from the queue. ASCII only.
    #[config(optional)]
    pub login_disabled: Option<AsciiText>,
    /// Default domain of the account. Used for destinations that are a localpart only, which is deprecated.
    pub domain: Option<Domain>,
    /// Free text.
    #[config(optional)]
    pub description: String,
    /// Name for outgoing messages in webmail.
    #[config(optional)]
    pub full_name: String,
    /// Addresses of the account, with which it can also log in. @example.org takes all of a domain's mail that no other
    /// address takes.
    #[config(optional)]
    pub destinations: BTreeMap<DestinationKey, Destination>,
    /// Messages that look a bit like spam are rejected with a word that, put into the subject, lets them through.
    #[config(optional)]
    pub subject_pass: Option<SubjectPass>,
    /// Limit of the bytes of all messages in the account. 0 is the global limit, a negative number no limit.
    #[config(optional)]
    pub quota_message_size: i64,
    /// Mailbox for copies of messages that were rejected as spam, e.g. Rejects. It is cleaned by itself.
    #[config(optional)]
    pub rejects_mailbox: Option<MailboxName>,
    /// Don't clean the mailbox for rejects.
    #[config(optional)]
    pub keep_rejects: bool,
    /// Mailbox for accepted messages from senders who aren't known yet, instead of the Inbox.
    #[config(optional)]
    pub introbox: Option<MailboxName>,
    /// Marks messages as junk or not junk when they are moved to certain mailboxes, which trains the junk filter.
    #[config(optional)]
    pub automatic_junk_flags: Option<AutomaticJunkFlags>,
    /// Filter for messages from senders who aren't known yet, by their words. Without it, they are accepted.
    #[config(optional)]
    pub junk_filter: Option<JunkFilter>,
    /// Most messages that can be sent in 24 hours, which limits the damage of a stolen password. Default 1000.
    #[config(optional)]
    pub max_outgoing_messages_per_day: u32,
    /// Most recipients who never got a message before in 24 hours. Default 200.
    #[config(optional)]
    pub max_first_time_recipients_per_day: u32,
    /// Most messages of the account that may wait in the queue, counted by recipients. More are refused for now. 0 is no limit.
    #[config(optional)]
    pub queue_max_messages: u32,
    /// Limit of the bytes of all messages of the account that wait in the queue. More are refused for now. 0 is no limit.
    #[config(optional)]
    pub queue_max_size: u64,
    /// How long after each failed attempt the next is made to deliver a message of this account from the queue. Default: the
    /// global QueueRetryIntervals of mox.conf.
    #[config(optional)]
    pub queue_retry_intervals: Vec<DurationText>,
    /// Mailbox for notices about messages of this account that couldn't be delivered from the queue, or not yet. Default: the Inbox.
    #[config(optional, name = "QueueDSNMailbox")]
    pub queue_dsn_mailbox: Option<MailboxName>,
    /// How long an address stays on the account's suppression list that was put there because mail to it failed. 0 is for ever.
    /// Addresses that somebody put there stay until somebody removes them.
    #[config(optional)]
    pub suppression_period: Duration,
    /// Don't wait before accepting messages from first-time senders.
    #[config(optional)]
    pub no_first_time_sender_delay: bool,
    /// The user can only have generated passwords. Admins can set any.
    #[config(optional)]
    pub no_custom_password: bool,
    /// IMAP capabilities that aren't announced to this account, for clients that have trouble with them. In upper case.
    #[config(optional, name = "IMAPCapabilitiesDisabled")]
    pub imap_capabilities_disabled: Vec<String>,
    /// Routes for messages sent by this account, before those of the domain and the global ones.
    #[config(optional)]
    pub routes: Vec<Route>,
}

impl Account {
    /// Most messages in 24 hours.
    pub const fn max_outgoing_messages_per_day(&self) -> u32 {
        if self.max_outgoing_messages_per_day == 0 { 1000 } else { self.max_outgoing_messages_per_day }
    }

    /// Most new recipients in 24 hours.
    pub const fn max_first_time_recipients_per_day(&self) -> u32 {
        if self.max_first_time_recipients_per_day == 0 { 200 } else { self.max_first_time_recipients_per_day }
    }

    /// The limit of the account's bytes, given the global limit.
    pub fn quota(&self, global: i64) -> Option<u64> {
        let quota = if self.quota_message_size == 0 { global } else { self.quota_message_size };
        u64::try_from(quota).ok().filter(|q| *q > 0)
    }
}

/// Calls about sent messages.
#[derive(Clone, Debug, PartialEq, Eq, Section)]
pub struct OutgoingWebhook {
    /// Where to POST to.
    #[config(name = "URL")]
    pub url: HttpUrl,
    /// Value of the Authorization header.
    #[config(optional)]
    pub authorization: Option<Secret<String>>,
    /// Key for the signature of calls. With it, calls have the header X-Mox-Webhook-Signature: t=<time>,v1=<hex>, where the
    /// time is in seconds since 1970, and the hex is HMAC-SHA256, with this key, of the time, a dot, and the body.
    #[config(optional)]
    pub secret: Option<Secret<String>>,
    /// Events to call for: delivered, suppressed, delayed, failed, relayed, expanded, canceled, unrecognized. Default: all.
    #[config(optional)]
    pub events: Vec<OutgoingEvent>,
}

choices! {
    /// What can happen to a message in the queue.
    pub enum OutgoingEvent {
        /// Accepted by the next host.
        Delivered = "delivered",
        /// Not tried, the recipient is on the suppression list.
        Suppressed = "suppressed",
        /// Failed for now.
        Delayed = "delayed",
        /// Failed for good.
        Failed = "failed",
        /// Passed on to a system without DSNs.
        Relayed = "relayed",
        /// Delivered to several recipients.
        Expanded = "expanded",
        /// Removed by an admin.
        Canceled = "canceled",
        /// A DSN that isn't understood.
        Unrecognized = "unrecognized",
    }
}

/// Calls about received messages.
#[derive(Clone, Debug, PartialEq, Eq, Section)]
pub struct IncomingWebhook {
    /// Where to POST to.
    #[config(name = "URL")]
    pub url: HttpUrl,
    /// Value of the Authorization header.
    #[config(optional)]
    pub authorization: Option<Secret<String>>,
    /// Key for the signature of calls. With it, calls have the header X-Mox-Webhook-Signature: t=<time>,v1=<hex>, where the
    /// time is in seconds since 1970, and the hex is HMAC-SHA256, with this key, of the time, a dot, and the body.
    #[config(optional)]
    pub secret: Option<Secret<String>>,
}

/// An address of an account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Section)]
pub struct Destination {
    /// Mailbox for messages that no ruleset takes. Default: Inbox.
    #[config(optional)]
    pub mailbox: Option<MailboxName>,
    /// Rules for messages, e.g. of mailing lists. The first that matches is used.
    #[config(optional)]
    pub rulesets: Vec<Ruleset>,
    /// Don't accept messages: 421 or 550, and optionally a text. For exceptions from a catchall address. ASCII only.
    #[config(optional, name = "SMTPError")]
    pub smtp_error: Option<SmtpError>,
    /// If not empty, messages that aren't verified by SPF or DKIM for their From domain are rejected with this text. ASCII
    /// only.
    #[config(optional, name = "MessageAuthRequiredSMTPError")]
    pub message_auth_required_smtp_error: Option<AsciiText>,
    /// Name for outgoing messages with this address. Default: that of the account.
    #[config(optional)]
    pub full_name: String,
}

impl Destination {
    /// The name of the mailbox when no ruleset matches.
    pub fn mailbox(&self) -> &str {
        self.mailbox.as_ref().map_or("Inbox", MailboxName::as_str)
    }
}

/// What happens to certain messages. All of its conditions must hold.
#[derive(Clone, Debug, PartialEq, Eq, Section)]
pub struct Ruleset {
    /// Matches the SMTP MAIL FROM address, e.g. ^user@example\.org$.
    #[config(optional, name = "SMTPMailFromRegexp")]
    pub smtp_mail_from_regexp: Option<Pattern>,
    /// Matches the address in the From header.
    #[config(optional)]
    pub msg_from_regexp: Option<Pattern>,
    /// Matches if SPF or DKIM verified this domain or one below it.
    #[config(optional)]
    pub verified_domain: Option<Domain>,
    /// Matches if for each entry, a header field has a name and a value that match, both in lower case, e.g. ^list-id$ and
    /// <name\.example\.org>.
    #[config(optional)]
    pub headers_regexp: BTreeMap<Pattern, Pattern>,
    /// Messages are forwarded by a server of our user: DMARC doesn't apply, and the forwarding host isn't judged by what it
    /// forwards. Needs SMTPMailFromRegexp and VerifiedDomain.
    #[config(optional)]
    pub is_forward: bool,
    /// If SPF or DKIM verified this domain, messages are accepted without further checks. For mailing lists.
    #[config(optional)]
    pub list_allow_domain: Option<Domain>,
    /// Spam is accepted into this mailbox instead of being rejected.
    #[config(optional)]
    pub accept_rejects_to_mailbox: Option<MailboxName>,
    /// Mailbox for the messages.
    pub mailbox: MailboxName,
    /// Free text.
    #[config(optional)]
    pub comment: String,
}

/// The word in the subject that lets a message through.
#[derive(Clone, Debug, Default, PartialEq, Eq, Section)]
pub struct SubjectPass {
    /// How long a word is valid, e.g. 12h.
    pub period: Duration,
}

/// Junk flags by mailbox.
#[derive(Clone, Debug, Default, PartialEq, Eq, Section)]
pub struct AutomaticJunkFlags {
    /// Whether flags are set.
    pub enabled: bool,
    /// Mailboxes, by their name in lower case, that make messages junk, e.g. ^(junk|spam).
    #[config(optional)]
    pub junk_mailbox_regexp: Option<Pattern>,
    /// Mailboxes that make messages neither, e.g. ^(inbox|neutral|postmaster|dmarc|tlsrpt|rejects).
    #[config(optional)]
    pub neutral_mailbox_regexp: Option<Pattern>,
    /// Mailboxes that make messages not junk, e.g. .* or an empty text. If two of the three are set, other mailboxes have
    /// the third meaning.
    #[config(optional)]
    pub not_junk_mailbox_regexp: Option<Pattern>,
}

/// Filter by words.
#[derive(Clone, Debug, Default, PartialEq, Section)]
pub struct JunkFilter {
    /// Probability from which a message is spam, e.g. 0.95.
    pub threshold: f64,
    /// How words are weighed.
    pub params: JunkParams,
}

/// Parameters of the filter by words.
#[derive(Clone, Debug, Default, PartialEq, Section)]
pub struct JunkParams {
    /// Look at single words.
    #[config(optional)]
    pub onegrams: bool,
    /// Look at two words in a row.
    #[config(optional)]
    pub twograms: bool,
    /// Look at three words in a row.
    #[config(optional)]
    pub threegrams: bool,
    /// How far a single word can go: with 0.1, from 0.1 to 0.9. From 0 to 0.5.
    pub max_power: f64,
    /// How many of the strongest words on either side are used.
    pub top_words: u32,
    /// Words this near to 0.5 are ignored. From 0 to 0.5.
    #[config(optional)]
    pub ignore_words: f64,
    /// Words that occur at most this often are rare, and count less.
    #[config(optional)]
    pub rare_words: u32,
}
