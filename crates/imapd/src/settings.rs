//! What the service is told by the binary: listeners, limits, and the services it drives.

use crate::metrics::Metrics;
use mox_base::{Clock, Random};
use mox_imap::reader;
use mox_logins::Logins;
use mox_net::{OpenLimit, RateLimit, ServerTls};
use mox_store::Store;
use mox_store::directory::SharedDirectory;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// All that connections share.
#[derive(Debug)]
pub struct Service {
    /// Shown in ID after login.
    pub version: String,
    /// The name in CRAM-MD5 challenges.
    pub hostname: String,
    /// Keeps the mail.
    pub store: Store,
    /// Who logs in with which address.
    pub directory: SharedDirectory,
    /// Whether they may.
    pub logins: Logins,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub random: Arc<dyn Random>,
    /// Counts what happens.
    pub metrics: Arc<dyn Metrics>,
    /// New connections.
    pub new_connections: Arc<RateLimit>,
    /// Open connections.
    pub open_connections: Arc<OpenLimit>,
    /// Ends all connections in good order.
    pub stop: CancellationToken,
    /// Sizes and times.
    pub limits: Limits,
}

/// Sizes and times.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Input before login.
    pub before_login: reader::Limits,
    /// Input after login.
    pub after_login: reader::Limits,
    /// Between lines before login.
    pub read_before_login: Duration,
    /// Between lines after login, and in IDLE. RFC 9051 §5.4 asks for 30 minutes at least.
    pub read: Duration,
    /// Without progress within a literal.
    pub read_literal: Duration,
    /// Without progress in writing.
    pub write: Duration,
    /// The unit of waiting after failed logins; zero in tests.
    pub penalty: Duration,
    /// Wrong commands in a row before login, and after.
    pub bad_commands: (u32, u32),
    /// Messages of one APPEND, RFC 3502.
    pub append_messages: usize,
    /// Bytes of one APPEND's messages that wait in memory for the last one; larger messages wait in files.
    pub append_waiting: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            before_login: reader::Limits::BEFORE_LOGIN,
            after_login: reader::Limits::AFTER_LOGIN,
            read_before_login: Duration::from_secs(30),
            read: Duration::from_secs(30 * 60),
            read_literal: Duration::from_secs(30),
            write: Duration::from_secs(30),
            penalty: Duration::from_secs(1),
            bad_commands: (10, 100),
            append_messages: 10_000,
            append_waiting: 64 << 20,
        }
    }
}

/// A place where connections come in.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Its name in the configuration.
    pub name: String,
    /// For STARTTLS, or from the beginning.
    pub tls: Option<ServerTls>,
    /// TLS from the beginning: port 993. False for connections whose TLS was done by the caller.
    pub implicit_tls: bool,
    /// Passwords may cross the wire in the clear.
    pub no_require_starttls: bool,
    /// Client certificates mean nothing here: disabled, or a connection through HTTPS's port.
    pub no_client_certificates: bool,
}
