//! What the service is told by the configuration.

use mox_base::{ByteSize, Domain, IpPrefix};
use mox_delivery::spool::SpoolSettings;
use mox_net::ServerTls;
use mox_smtp::server::{Kind, Limits};
use std::sync::Arc;
use std::time::Duration;

/// Settings of the service, the same for all listeners.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The server's name, in header fields.
    pub hostname: Domain,
    /// By the letter of the RFCs.
    pub pedantic: bool,
    /// Simulate failures for addresses of special forms, take senders at `localhost`, and demand well-formed messages.
    pub localserve: bool,
    /// Where messages are kept while they come in.
    pub spool: SpoolSettings,
    /// Take `Bcc` out of submitted messages.
    pub remove_bcc: bool,
    /// Networks whose clients may connect as often as they like.
    pub unlimited: Vec<IpPrefix>,
}

/// Settings of one listening socket.
#[derive(Clone, Debug)]
pub struct ListenerSettings {
    /// Its name in the configuration, for logs.
    pub name: String,
    /// Who connects.
    pub kind: Kind,
    /// Our name, in the greeting and in the reply to EHLO.
    pub hostname: Domain,
    /// What TLS needs; none when there is none.
    pub tls: Option<ServerTls>,
    /// TLS from the start.
    pub implicit_tls: bool,
    /// Offer STARTTLS, where there is TLS.
    pub starttls: bool,
    /// AUTH is allowed without TLS: `NoRequireSTARTTLS`.
    pub auth_without_tls: bool,
    /// Recipients are refused without TLS.
    pub require_tls: bool,
    /// Offer REQUIRETLS, RFC 8689.
    pub requiretls: bool,
    /// How long mail of an author who is new to an account waits before it is stored.
    pub first_time_sender_delay: Duration,
    /// The largest message.
    pub max_size: ByteSize,
    /// Block lists to be asked about clients whose mail would be accepted.
    pub blocklists: Arc<[Domain]>,
    /// Limits of a session.
    pub limits: Limits,
}

impl ListenerSettings {
    /// A listener for mail from other servers, without TLS, with the defaults.
    pub fn incoming(name: &str, hostname: Domain) -> Self {
        Self {
            name: name.to_owned(),
            kind: Kind::Incoming,
            hostname,
            tls: None,
            implicit_tls: false,
            starttls: true,
            auth_without_tls: false,
            require_tls: false,
            requiretls: true,
            first_time_sender_delay: Duration::ZERO,
            max_size: ByteSize::mib(100),
            blocklists: Arc::from([]),
            limits: Limits::default(),
        }
    }

    /// A listener for mail from our users, without TLS, with the defaults: it takes nothing before there is TLS.
    pub fn submission(name: &str, hostname: Domain) -> Self {
        Self { kind: Kind::Submission, require_tls: true, ..Self::incoming(name, hostname) }
    }

    pub(crate) fn session(&self, pedantic: bool) -> mox_smtp::server::Settings {
        mox_smtp::server::Settings {
            hostname: self.hostname.clone(),
            kind: self.kind,
            strict: pedantic,
            max_size: self.max_size,
            starttls: self.starttls && self.tls.is_some(),
            auth_without_tls: self.auth_without_tls,
            requiretls: self.requiretls,
            // Other servers' wishes for DSNs end here: what comes in is delivered, and that is told by the reply.
            dsn: self.kind == Kind::Submission,
            limits: self.limits.clone(),
        }
    }
}
