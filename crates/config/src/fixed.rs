//! `mox.conf`: what is read once, at start. The doc comments are the operator's manual.

use crate::listener::Listener;
use crate::schema::Section;
use crate::text::DurationText;
use crate::transport::Transport;
use crate::value::{AsciiLocalpart, LogLevel, MailboxName, UnicodeDomain};
use mox_base::{IpPrefix, Localpart};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// The static configuration.
#[derive(Clone, Debug, PartialEq, Section)]
pub struct Static {
    /// NOTE: This is a file in the sconf format. Indent with tabs, one per level. Comments have a line of their own, they
    /// don't end a line. Values aren't quoted or escaped: a value is the rest of its line.
    ///
    ///
    /// Directory for all data: accounts with their messages, the queue, certificates and keys from ACME. A relative path
    /// is relative to the directory of mox.conf.
    pub data_dir: String,
    /// Where accounts, their messages and the queue are kept. Default: in SQLite files in the data directory, which need no
    /// care. A change doesn't move what is there.
    #[config(optional)]
    pub storage: Option<Storage>,
    /// Default log level, one of: error, info, debug, trace, traceauth, tracedata. Trace logs the lines of SMTP and IMAP
    /// connections, traceauth also credentials in them, tracedata also messages.
    pub log_level: LogLevel,
    /// Log levels for parts of the server, e.g. queue, smtpclient, smtpserver, imapserver, spf, dkim, dmarc, store.
    #[config(optional)]
    pub package_log_levels: BTreeMap<String, LogLevel>,
    /// User to run as once ports are bound and keys are read. A name, or a number that is used as user and group id.
    /// Default: mox.
    #[config(optional)]
    pub user: String,
    /// Don't repair owner and mode of the directories of configuration and data at start.
    #[config(optional)]
    pub no_fix_permissions: bool,
    /// Full host name of this machine, as in mail.example.org. The name in SMTP greetings, the target of MX records, and
    /// the default for listeners.
    pub hostname: UnicodeDomain,
    /// Look once a day, with a DNS TXT record, whether a newer version is available. If so, its changelog is fetched,
    /// verified, and delivered to the postmaster.
    #[config(optional)]
    pub check_updates: bool,
    /// Be strict with protocols: deviations that are tolerated otherwise become errors. For testing other software.
    #[config(optional)]
    pub pedantic: bool,
    /// Trust in certificates of others, for outgoing SMTP and HTTPS.
    #[config(optional, name = "TLS")]
    pub tls: Option<Tls>,
    /// Providers of TLS certificates by ACME. The name of an entry is what a listener refers to, as in letsencrypt.
    #[config(optional, name = "ACME")]
    pub acme: BTreeMap<String, Acme>,
    /// File with the bcrypt hash of the password for the admin pages. It is read at each login.
    #[config(optional)]
    pub admin_password_file: String,
    /// Groups of addresses with the services that listen on them. A listener named public should be what is reachable from
    /// the internet: with it, DNS records and addresses are checked and suggested.
    pub listeners: BTreeMap<String, Listener>,
    /// Where mail to postmaster goes: without a domain, at this host, and at each domain without a postmaster of its own.
    pub postmaster: Postmaster,
    /// Where reports about TLS connections to this host go, see RFC 8460. Without it, no address accepts them and no DNS
    /// record is suggested.
    #[config(optional, name = "HostTLSRPT")]
    pub host_tlsrpt: Option<HostTlsRpt>,
    /// Mailboxes of a new account besides the Inbox. Without any here: Sent, Archive, Trash, Drafts and Junk.
    #[config(optional)]
    pub initial_mailboxes: Option<InitialMailboxes>,
    /// Deprecated, use InitialMailboxes. Mailboxes of a new account besides the Inbox; those that start with Archive,
    /// Drafts, Junk, Sent or Trash are marked for that use.
    #[config(optional)]
    pub default_mailboxes: Vec<MailboxName>,
    /// Ways for outgoing messages, for use by routes in domains.conf. A transport without a method delivers directly.
    #[config(optional)]
    pub transports: BTreeMap<String, Transport>,
    /// Addresses of this machine from which mail is sent directly, best first. If a receiver refuses mail from one because of a block
    /// list, another of the same family is used for that receiver for some hours, and for all after several such refusals. A family
    /// without an address here isn't used. Default: the addresses of listeners with SMTP, if they are no more than one of each
    /// family; else the system chooses.
    #[config(optional, name = "OutgoingIPs")]
    pub outgoing_ips: Vec<IpAddr>,
    /// How long after each failed attempt the next is made to deliver a message from the queue, e.g. 30m: one interval for each
    /// attempt but the last, after which the message fails. The sender is told of the delay once it has lasted an hour. Default: 7m30s,
    /// then each time twice as long, 8 attempts in about 16 hours. RFC 5321 advises at least 30m, and 4 to 5 days in all.
    #[config(optional)]
    pub queue_retry_intervals: Vec<DurationText>,
    /// How long after each failed call a webhook is called again, e.g. 5m: one interval for each attempt but the last. A receiver that
    /// answers with Retry-After decides itself. Default: 1m, 2m, 4m, 7m30s, 15m, 30m, 1h, 2h, 4h, 8h, 16h, which are 12 attempts in about
    /// 32 hours.
    #[config(optional)]
    pub webhook_retry_intervals: Vec<DurationText>,
    /// Don't send DMARC aggregate reports to domains that ask for them.
    #[config(optional, name = "NoOutgoingDMARCReports")]
    pub no_outgoing_dmarc_reports: bool,
    /// Don't send TLS reports to domains that ask for them.
    #[config(optional, name = "NoOutgoingTLSReports")]
    pub no_outgoing_tls_reports: bool,
    /// Send TLS reports also when all connections of a day went well.
    #[config(optional, name = "OutgoingTLSReportsForAllSuccess")]
    pub outgoing_tls_reports_for_all_success: bool,
    /// Default limit of the bytes of all messages in an account. 0 is no limit. Accounts can have their own limit.
    #[config(optional)]
    pub quota_message_size: i64,
    /// Networks, as 10.0.0.0/8 or 127.0.0.1, that webhooks may call although their addresses aren't public. Without any,
    /// webhooks only go to public addresses: users who configure a URL can't reach what trusts the machines around it. Localserve
    /// also allows its own machine.
    #[config(optional)]
    pub webhook_private_networks: Vec<IpPrefix>,
    /// Take the Bcc header out of messages that users submit over SMTP. Most clients leave it out themselves; what a client leaves
    /// in, all recipients see.
    #[config(optional)]
    pub remove_submitted_bcc: bool,
    /// Networks, as 10.0.0.0/8 or 127.0.0.1, whose clients may connect, ask over HTTP, and fail to log in as often as they like: for
    /// monitoring, a proxy in front, or an office behind one address.
    #[config(optional)]
    pub rate_limit_exempt_networks: Vec<IpPrefix>,
}

impl Static {
    /// The user to run as.
    pub fn user(&self) -> &str {
        if self.user.is_empty() { "mox" } else { &self.user }
    }
}

/// `Storage`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Section)]
pub struct Storage {
    /// Keep them in a PostgreSQL database.
    #[config(optional, name = "PostgreSQL")]
    pub postgresql: Option<Postgresql>,
}

/// `Storage.PostgreSQL`.
#[derive(Clone, Debug, PartialEq, Eq, Section)]
pub struct Postgresql {
    /// The database, e.g. postgres://mox@db.example.org/mox?sslmode=verify-full. Tables are made at the first start. With
    /// sslmode=disable connections aren't encrypted, with require they are, with verify-full the server's certificate is
    /// verified too. Default: disable for a server on this machine, verify-full for others.
    #[config(name = "URL")]
    pub url: String,
    /// File with the password, its first line, so that it need not be in the URL. Without a password in either, it is
    /// taken from the environment variable PGPASSWORD.
    #[config(optional)]
    pub password_file: String,
    /// Files with certificates of authorities, in PEM, one of which issued the server's certificate. Default: the
    /// system's authorities.
    #[config(optional, name = "CACertFiles")]
    pub ca_cert_files: Vec<String>,
    /// Directory for messages above 64 KiB, which are kept in files. A relative path is relative to the data directory.
    /// Servers that share the database must share this directory. Default: blobs.
    #[config(optional)]
    pub blob_dir: String,
}

impl Postgresql {
    /// The directory for large messages.
    pub fn blob_dir(&self) -> &str {
        if self.blob_dir.is_empty() { "blobs" } else { &self.blob_dir }
    }
}

/// `TLS`: trust for outgoing connections.
#[derive(Clone, Debug, Default, PartialEq, Eq, Section)]
pub struct Tls {
    /// Certificate authorities to use instead of the system's.
    #[config(optional, name = "CA")]
    pub ca: Option<Ca>,
}

/// `TLS.CA`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Section)]
pub struct Ca {
    /// Trust the system's authorities too.
    #[config(optional)]
    pub additional_to_system: bool,
    /// Files with certificates of authorities, in PEM.
    #[config(optional)]
    pub cert_files: Vec<String>,
}

/// A provider of certificates.
#[derive(Clone, Debug, PartialEq, Eq, Section)]
pub struct Acme {
    /// URL of the provider's directory, e.g. https://acme-v02.api.letsencrypt.org/directory.
    #[config(name = "DirectoryURL")]
    pub directory_url: String,
    /// How long before its end a certificate is renewed. Default: a third of its lifetime, at most 30 days.
    #[config(optional)]
    pub renew_before: Duration,
    /// Email address for the account with the provider, who may warn of problems.
    pub contact_email: String,
    /// Local port on which the provider's TLS validation is answered. Default 443. With another one, port 443 must be
    /// forwarded to it unmodified.
    #[config(optional)]
    pub port: u16,
    /// Domain of the provider in suggested CAA records. Known for Let's Encrypt.
    #[config(optional)]
    pub issuer_domain_name: String,
    /// Ties the account to one that exists with the provider, for those who ask for it.
    #[config(optional)]
    pub external_account_binding: Option<ExternalAccountBinding>,
}

impl Acme {
    /// The port for tls-alpn-01.
    pub const fn port(&self) -> u16 {
        if self.port == 0 { 443 } else { self.port }
    }
}

/// RFC 8555 §7.3.4.
#[derive(Clone, Debug, PartialEq, Eq, Section)]
pub struct ExternalAccountBinding {
    /// Key id, from the provider.
    #[config(name = "KeyID")]
    pub key_id: String,
    /// File with the key, in raw-url base64, from the provider.
    pub key_file: String,
}

/// Where postmaster mail goes.
#[derive(Clone, Debug, PartialEq, Eq, Section)]
pub struct Postmaster {
    /// Account that gets the mail.
    pub account: String,
    /// Mailbox in that account, e.g. Postmaster or Inbox.
    pub mailbox: MailboxName,
}

/// Where TLS reports about this host go.
#[derive(Clone, Debug, PartialEq, Eq, Section)]
pub struct HostTlsRpt {
    /// Account that gets the reports.
    pub account: String,
    /// Mailbox in that account, e.g. TLSRPT.
    pub mailbox: MailboxName,
    /// Localpart of the address at the host name, e.g. tlsreports. ASCII only.
    pub localpart: AsciiLocalpart,
}

impl HostTlsRpt {
    /// The localpart.
    pub const fn localpart(&self) -> &Localpart {
        self.localpart.localpart()
    }
}

/// Mailboxes of new accounts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Section)]
pub struct InitialMailboxes {
    /// Mailboxes with a special use.
    #[config(optional)]
    pub special_use: SpecialUseMailboxes,
    /// Other mailboxes.
    #[config(optional)]
    pub regular: Vec<MailboxName>,
}

/// Names of mailboxes by their use; without a name, there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Section)]
pub struct SpecialUseMailboxes {
    /// For messages that were sent.
    #[config(optional)]
    pub sent: Option<MailboxName>,
    /// For messages that are kept.
    #[config(optional)]
    pub archive: Option<MailboxName>,
    /// For messages that will be removed.
    #[config(optional)]
    pub trash: Option<MailboxName>,
    /// For messages being written.
    #[config(optional)]
    pub draft: Option<MailboxName>,
    /// For unwanted messages.
    #[config(optional)]
    pub junk: Option<MailboxName>,
}
