//! From the queue to other hosts: when, where to, what came of it, and what the sender is told.
//!
//! [`Runner::run`] claims what is due, at most one group per recipient domain and [`Settings::max_running`] at once, and
//! starts an attempt for each. An attempt (`attempt`) finds hosts (`hosts`), connects and hands over (`connection`), and
//! has a result for each recipient. `process` turns results into outcomes that the queue records, and `bounce` tells the
//! sender. Nothing is lost when an attempt panics or the server ends: the queue counted the attempt and scheduled the next
//! before it began.

mod admin;
mod aftermath;
mod attempt;
mod bounce;
mod connection;
mod earlier;
mod failure;
mod hosts;
mod policy;
mod pressure;
mod process;
mod routes;
mod runner;
mod schedule;
mod signatures;
mod sources;
#[cfg(test)]
mod tests;

pub use aftermath::AccountAftermath;
pub(crate) use aftermath::suppressed_until;
pub use failure::{Failure, REQUIRETLS_SECODE, Remote};
pub use hosts::{Destinations, HostAddresses, NoAddresses, addresses, destinations};
pub use routes::{DEFAULT_MECHANISMS, Direct, DomainPattern, Relay, RelayTls, Route, Routing, SharedRouting, Transport};
pub use runner::Runner;
pub use schedule::{Schedule, Variation};
pub use sources::SourceIps;

use self::pressure::Pressure;
use self::signatures::Signatures;
use self::sources::Refusals;
use crate::metrics::Metrics;
use crate::reports::DeadAddresses;
use crate::signing::SharedSelectors;
use crate::spool::SpoolSettings;
use crate::tls::TlsPolicies;
use mox_base::{Clock, Domain, Host, Lookup, Random, Timestamp};
use mox_net::{ClientTls, Dial};
use mox_store::Store;
use mox_store::directory::{Directory, SharedDirectory};
use mox_store::queue::{Aftermath, Owner, Queue};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// How mail is sent.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The name of this server, in EHLO and DSNs.
    pub hostname: Domain,
    /// To the world, or to ourselves.
    pub mode: Mode,
    /// Attempts at once.
    pub max_running: usize,
    /// Connections at once to one host: many domains have the same.
    pub max_per_host: usize,
    /// When it is tried again, for accounts without a schedule of their own.
    pub schedule: Schedule,
    /// Whether names and 8-bit mail are treated strictly.
    pub pedantic: bool,
    /// Our addresses for connections to recipients' hosts.
    pub sources: SourceIps,
    /// Where large messages are kept while they are copied.
    pub spool: SpoolSettings,
}

impl Settings {
    /// To the world, with defaults.
    pub const fn new(hostname: Domain) -> Self {
        Self {
            hostname,
            mode: Mode::World,
            max_running: 10,
            max_per_host: 5,
            schedule: Schedule::new(Vec::new()),
            pedantic: false,
            sources: SourceIps { ips: Vec::new(), only: false },
            spool: SpoolSettings { in_memory: 1 << 20, folder: PathBuf::new() },
        }
    }
}

/// Where mail goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// To the recipients' hosts.
    World,
    /// All of it to our own listener, as localserve does.
    Local(SocketAddr),
}

/// The outside world.
#[derive(Clone, Debug)]
pub struct Ports {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub random: Arc<dyn Random>,
    /// DNS.
    pub lookup: Arc<dyn Lookup>,
    /// Connections.
    pub dial: Arc<dyn Dial>,
    /// TLS that verifies nothing.
    pub opportunistic_tls: ClientTls,
    /// TLS that verifies names and certificates.
    pub verified_tls: ClientTls,
    /// Policies of recipient domains, and what came of TLS; without, there is no MTA-STS, and nothing is collected.
    pub policies: Option<Arc<TlsPolicies>>,
    /// Where it is remembered which addresses take no reports.
    pub dead_addresses: Option<DeadAddresses>,
    /// How domains sign.
    pub selectors: SharedSelectors,
}

/// What all parts of the queue's delivery share.
#[derive(Debug)]
struct Inner {
    queue: Queue,
    store: Store,
    directory: SharedDirectory,
    routing: SharedRouting,
    settings: Settings,
    ports: Ports,
    metrics: Metrics,
    owner: Owner,
    aftermath: Arc<dyn Aftermath>,
    pressure: Pressure,
    refusals: Refusals,
    signatures: Signatures,
    /// Claims made, for [`mox_store::queue::Claiming::turn`].
    turn: AtomicU64,
}

impl Inner {
    fn now(&self) -> Timestamp {
        self.ports.clock.now()
    }

    fn ehlo(&self) -> Host {
        Host::Domain(self.settings.hostname.clone())
    }

    /// When mail of an account is tried again.
    fn schedule(&self, account: &str) -> Schedule {
        schedule_of(&self.directory.current(), &self.settings.schedule, account)
    }

    /// By how much the next attempt is later, for claims.
    fn backoff(&self) -> impl Fn(&str, u32) -> Duration + Send + Sync + 'static {
        let (directory, default, variation) =
            (self.directory.current(), self.settings.schedule.clone(), Variation::random(&*self.ports.random));
        move |account, before| schedule_of(&directory, &default, account).backoff(variation, before)
    }

    fn aftermath(&self) -> Arc<dyn Aftermath> {
        Arc::clone(&self.aftermath)
    }
}

/// The account's own schedule, or the default.
fn schedule_of(directory: &Directory, default: &Schedule, account: &str) -> Schedule {
    let own = directory.account(account).map(|account| &account.queue_retry_intervals).filter(|intervals| !intervals.is_empty());
    own.map_or_else(|| default.clone(), |intervals| Schedule::new(intervals.clone()))
}
