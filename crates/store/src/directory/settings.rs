//! What a [`super::Directory`] is built from: the parts of the configuration that say who has which address and how
//! mail for it is treated, with names resolved and patterns compiled. Plain values without promises of their own.

use crate::webhook::Event;
use mox_base::{Address, ByteSize, Domain, Localpart, Secret};
use regex::Regex;
use std::time::Duration;

/// All of it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The name of the mail server.
    pub hostname: Domain,
    /// Names of listeners with SMTP, which have a postmaster too.
    pub listener_hostnames: Vec<Domain>,
    /// Where mail for the server's postmaster goes.
    pub postmaster: MailboxOf,
    /// Where TLS reports about the host go, RFC 8460.
    pub host_tls_reports: Option<HostTlsReports>,
    /// The domains.
    pub domains: Vec<DomainSettings>,
    /// The accounts, each with its addresses.
    pub accounts: Vec<(AccountSettings, Vec<(DestinationKey, Destination)>)>,
    /// For localserve: the address that gets the mail for all that are unknown, in any domain.
    pub everything: Option<Address>,
}

/// A mailbox of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailboxOf {
    /// The account's name.
    pub account: String,
    /// The mailbox' name.
    pub mailbox: String,
}

/// The address for TLS reports about this host, at its own name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostTlsReports {
    /// The localpart, at [`Settings::hostname`].
    pub localpart: Localpart,
    /// Where the reports go.
    pub to: MailboxOf,
}

/// A domain.
#[derive(Clone, Debug)]
pub struct DomainSettings {
    /// Its name.
    pub domain: Domain,
    /// Whether mail to and from it is refused for now.
    pub disabled: bool,
    /// What separates a localpart from a part that is ignored in delivery. The first is used when composing addresses.
    pub separators: Vec<String>,
    /// Whether upper and lower case differ in localparts.
    pub case_sensitive: bool,
    /// Where DMARC reports about the domain go.
    pub dmarc_reports: Option<ReportAddress>,
    /// Where TLS reports about the domain go.
    pub tls_reports: Option<ReportAddress>,
    /// Lists.
    pub aliases: Vec<AliasSettings>,
}

impl DomainSettings {
    /// A domain without further settings.
    #[must_use]
    pub const fn new(domain: Domain) -> Self {
        Self {
            domain,
            disabled: false,
            separators: Vec::new(),
            case_sensitive: false,
            dmarc_reports: None,
            tls_reports: None,
            aliases: Vec::new(),
        }
    }

    /// A localpart as this domain compares it.
    #[must_use]
    pub fn fold_case(&self, localpart: &Localpart) -> Localpart {
        if self.case_sensitive { localpart.clone() } else { localpart.to_lowercase() }
    }
}

/// An address for reports about a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportAddress {
    /// The localpart.
    pub localpart: Localpart,
    /// The domain of the address: the domain the reports are about, or another hosted one.
    pub domain: Domain,
    /// Where the reports go.
    pub to: MailboxOf,
}

/// What kind of reports a destination is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reports {
    /// DMARC aggregate reports, RFC 7489 §7.2.
    Dmarc,
    /// TLS reports about a domain, RFC 8460.
    DomainTls,
    /// TLS reports about this host, RFC 8460.
    HostTls,
}

/// An alias as configured.
#[derive(Clone, Debug)]
pub struct AliasSettings {
    /// The localpart, in its domain.
    pub localpart: Localpart,
    /// Addresses of local accounts.
    pub members: Vec<Address>,
    /// Whether anyone may post, not only members.
    pub post_public: bool,
    /// Whether members may see the members.
    pub list_members: bool,
    /// Whether members may send with the alias as sender.
    pub allow_msg_from: bool,
}

/// An account's settings, as far as moving and keeping its mail needs them.
#[derive(Clone, Debug)]
pub struct AccountSettings {
    /// Its name, which is also the name of its folder.
    pub name: String,
    /// Set when logging in is refused with this text, after correct credentials.
    pub login_disabled: Option<String>,
    /// The name in From, for what the server composes.
    pub full_name: Option<String>,
    /// The domain it belongs to by default.
    pub domain: Option<Domain>,
    /// The largest sum of message sizes, with the server's default applied; none for no limit.
    pub quota: Option<ByteSize>,
    /// Where copies of rejected mail go.
    pub rejects_mailbox: Option<String>,
    /// Whether the rejects mailbox isn't cleaned.
    pub keep_rejects: bool,
    /// Where mail from new correspondents goes instead of Inbox.
    pub introbox: Option<String>,
    /// Flags by mailbox name.
    pub automatic_junk_flags: Option<AutomaticJunkFlags>,
    /// Recipients per 24 hours.
    pub max_outgoing_messages_per_day: u32,
    /// Recipients never written to before, per 24 hours.
    pub max_first_time_recipients_per_day: u32,
    /// Recipients that may wait in the queue; 0 for no limit.
    pub queue_max_messages: u32,
    /// Bytes that may wait in the queue; 0 for no limit.
    pub queue_max_size: u64,
    /// Intervals between attempts to deliver; empty for the server's.
    pub queue_retry_intervals: Vec<Duration>,
    /// Where DSNs about mail in the queue go.
    pub queue_dsn_mailbox: String,
    /// How long addresses are suppressed to which delivery failed; zero for ever.
    pub suppression_period: Duration,
    /// Whether mail from new senders isn't delayed.
    pub no_first_time_sender_delay: bool,
    /// Whether the user can only have generated passwords.
    pub no_custom_password: bool,
    /// IMAP capabilities withheld after login, in upper case.
    pub imap_capabilities_disabled: Vec<String>,
    /// Login addresses for which outgoing mail gets a unique MAIL FROM.
    pub from_id_login_addresses: Vec<Address>,
    /// How long finished queue entries are kept; zero for not at all.
    pub keep_retired_messages: Duration,
    /// How long finished webhooks are kept; zero for not at all.
    pub keep_retired_webhooks: Duration,
    /// What is called about messages that the account sent.
    pub outgoing_webhook: Option<OutgoingWebhook>,
    /// What is called about messages that the account received.
    pub incoming_webhook: Option<WebhookTarget>,
}

impl AccountSettings {
    /// An account with default settings.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            login_disabled: None,
            full_name: None,
            domain: None,
            quota: None,
            rejects_mailbox: None,
            keep_rejects: false,
            introbox: None,
            automatic_junk_flags: None,
            max_outgoing_messages_per_day: 1000,
            max_first_time_recipients_per_day: 200,
            queue_max_messages: 0,
            queue_max_size: 0,
            queue_retry_intervals: Vec::new(),
            queue_dsn_mailbox: "Inbox".to_owned(),
            suppression_period: Duration::ZERO,
            no_first_time_sender_delay: false,
            no_custom_password: false,
            imap_capabilities_disabled: Vec::new(),
            from_id_login_addresses: Vec::new(),
            keep_retired_messages: Duration::ZERO,
            keep_retired_webhooks: Duration::ZERO,
            outgoing_webhook: None,
            incoming_webhook: None,
        }
    }
}

/// Where a webhook goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookTarget {
    /// Of http or https.
    pub url: String,
    /// Value of the Authorization header.
    pub authorization: Option<Secret<String>>,
    /// What bodies are signed with.
    pub secret: Option<Secret<String>>,
}

/// Calls about messages that an account sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutgoingWebhook {
    /// Where to.
    pub target: WebhookTarget,
    /// What is told; empty for everything.
    pub events: Vec<Event>,
}

impl OutgoingWebhook {
    /// Whether it is told of such an event.
    #[must_use]
    pub fn wants(&self, event: Event) -> bool {
        self.events.is_empty() || self.events.contains(&event)
    }
}

/// Patterns of lower-cased mailbox names, tried in this order, that set junk flags on messages arriving there.
#[derive(Clone, Debug)]
pub struct AutomaticJunkFlags {
    /// Sets `$Junk`.
    pub junk: Option<Regex>,
    /// Sets neither.
    pub neutral: Option<Regex>,
    /// Sets `$NotJunk`.
    pub not_junk: Option<Regex>,
}

/// For which addresses a destination is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DestinationKey {
    /// One address.
    Address(Address),
    /// All addresses of a domain that have no other.
    CatchAll(Domain),
}

/// Where mail for an address goes.
#[derive(Clone, Debug)]
pub struct Destination {
    /// The mailbox when no ruleset matches.
    pub mailbox: String,
    /// The first that matches decides.
    pub rulesets: Vec<Ruleset>,
    /// Set when mail is refused at RCPT.
    pub smtp_error: Option<SmtpError>,
    /// Set when mail without aligned SPF or DKIM pass is refused, with this text.
    pub message_auth_required: Option<String>,
    /// The name in From, instead of the account's.
    pub full_name: Option<String>,
    /// Set when the address is for reports, which must be reachable without TLS, RFC 8460 §3.
    pub reports: Option<Reports>,
}

/// To Inbox.
impl Default for Destination {
    fn default() -> Self {
        Self {
            mailbox: "Inbox".to_owned(),
            rulesets: Vec::new(),
            smtp_error: None,
            message_auth_required: None,
            full_name: None,
            reports: None,
        }
    }
}

/// A refusal at RCPT, as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmtpError {
    /// For now or for ever.
    pub kind: SmtpErrorKind,
    /// The text, none for the default.
    pub text: Option<String>,
}

/// How a destination refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmtpErrorKind {
    /// `421`: answered with 451 4.3.0, by default “error processing”.
    Temporary,
    /// `550`: answered with 550 5.1.1, by default “no such user(s)”.
    Permanent,
}

impl SmtpError {
    /// From the configured text: `421` or `550`, then optionally a text. None when it starts with anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (code, rest) = text.split_once(' ').unwrap_or((text, ""));
        let kind = match code {
            "421" => SmtpErrorKind::Temporary,
            "550" => SmtpErrorKind::Permanent,
            _ => return None,
        };
        Some(Self { kind, text: Some(rest.trim()).filter(|t| !t.is_empty()).map(str::to_owned) })
    }
}

/// Conditions on an incoming message, all of which must hold, and what then happens.
#[derive(Clone, Debug, Default)]
pub struct Ruleset {
    /// Searched for in the MAIL FROM address.
    pub smtp_mail_from: Option<Regex>,
    /// Searched for in the address of the single From header.
    pub msg_from: Option<Regex>,
    /// An SPF- or DKIM-verified domain is this or below it.
    pub verified_domain: Option<Domain>,
    /// Each must match some header.
    pub headers: Vec<HeaderPattern>,
    /// Whether such mail is forwarded, so that the sender isn't judged by the connection.
    pub is_forward: bool,
    /// A verified domain whose mail isn't judged as junk.
    pub list_allow_domain: Option<Domain>,
    /// Where mail that would be rejected goes instead.
    pub accept_rejects_to_mailbox: Option<String>,
    /// Where the mail goes.
    pub mailbox: String,
    /// For people.
    pub comment: String,
}

/// Patterns for a header's lower-cased name and lower-cased, trimmed value.
#[derive(Clone, Debug)]
pub struct HeaderPattern {
    /// Searched for in the name.
    pub name: Regex,
    /// Searched for in the value.
    pub value: Regex,
}
