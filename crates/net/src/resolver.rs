//! The resolver: [`Lookup`] on the system's name servers, knowing of each answer whether DNSSEC vouches for it.
//!
//! Two back ends. Where the administrator trusts the name servers (`options trust-ad` in resolv.conf, or all of them on this
//! machine) and they validate, they are believed: they may know roots and zones that nobody else does. Otherwise we
//! validate ourselves, from the root's keys. A failed validation is an error, never "no such record".
//!
//! Where name servers neither validate nor pass DNSSEC records on, not even for the root, nothing could be resolved that way:
//! then answers are taken as they come, none of them authentic, and that is logged. This is probed again from time to time.
//! A resolv.conf that changes is heeded after 5 seconds.
//!
//! An answer that isn't believed, or not given, comes with its reason (RFC 8914) where a trusted resolver gives it or the answer shows
//! it; that is logged here.
//!
//! Limits: a query takes 5 s per try and 15 s in all; the cache holds a number of answers, each for a day at most.

#[cfg(test)]
mod hostile_tests;
pub(crate) mod record;
mod system;
mod trusted;
mod validating;
mod wildcard;

use hickory_resolver::proto::rr::Name;
use mox_base::{Answer, Lookup, LookupError, LookupFuture, Record, RecordKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use system::{Anchors, RESOLV_CONF, System};
use tokio::sync::Mutex;
use tokio::time::Instant;
use trusted::Trusted;
use validating::Hickory;

/// How long we stay without validation before looking whether it has become possible.
const PROBE_INTERVAL: Duration = Duration::from_secs(600);

/// How often resolv.conf is looked at.
const RELOAD_INTERVAL: Duration = Duration::from_secs(5);

/// What a query finds.
type Found = Result<Answer<Vec<Record>>, LookupError>;

/// Limits of a [`Resolver`].
#[derive(Clone, Copy, Debug)]
pub struct ResolverLimits {
    /// For one try at one server.
    pub attempt: Duration,
    /// For a whole lookup, validation included.
    pub total: Duration,
    /// Answers kept.
    pub cache_entries: u64,
    /// The longest that an answer is kept.
    pub positive_ttl: Duration,
    /// The longest that a negative answer is kept.
    pub negative_ttl: Duration,
}

impl Default for ResolverLimits {
    fn default() -> Self {
        Self {
            attempt: Duration::from_secs(5),
            total: Duration::from_secs(15),
            cache_entries: 4096,
            // RFC 8767 §4 would allow a week; whoever moves a domain thinks of a day.
            positive_ttl: Duration::from_secs(86_400),
            // RFC 2308 §5 suggests one to three hours; operators who fix their records wait less.
            negative_ttl: Duration::from_secs(900),
        }
    }
}

/// Resolves names with the system's name servers.
#[derive(Debug)]
pub struct Resolver {
    limits: ResolverLimits,
    anchors: Option<Anchors>,
    source: Option<Mutex<Source>>,
    servers: std::sync::RwLock<Arc<Servers>>,
}

/// When the system's configuration was read.
#[derive(Debug)]
struct Source {
    looked: Instant,
    modified: Option<SystemTime>,
}

/// The name servers of one configuration.
#[derive(Debug)]
struct Servers {
    trusted: Option<Trusted>,
    validating: Hickory,
    plain: Hickory,
    manner: Mutex<Manner>,
}

/// What the name servers are good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    Unknown,
    Trusting,
    Validating,
    PlainUntil(Instant),
}

impl Resolver {
    /// A resolver with the name servers of `/etc/resolv.conf`; those on this machine when it names none.
    ///
    /// The environment variable `MOX_DNS_ANCHORS` can name a file of DNSKEY records that our own validation starts from instead
    /// of the root's keys.
    ///
    /// # Errors
    /// When hickory refuses its configuration, or the keys can't be read.
    pub fn system(limits: ResolverLimits) -> Result<Self, LookupError> {
        let anchors = system::anchors()?;
        let (modified, system) = read(anchors.clone());
        let source = Source { looked: Instant::now(), modified };
        Ok(Self {
            servers: std::sync::RwLock::new(Arc::new(Servers::new(&system, &limits)?)),
            source: Some(Mutex::new(source)),
            limits,
            anchors,
        })
    }

    /// A resolver with these name servers, asked over UDP and TCP, and not trusted.
    ///
    /// # Errors
    /// When hickory refuses its configuration.
    pub fn with_servers(servers: &[SocketAddr], limits: ResolverLimits) -> Result<Self, LookupError> {
        Self::fixed(&System::servers(servers, false), limits)
    }

    /// A resolver with these name servers, which are believed about DNSSEC if they validate.
    ///
    /// # Errors
    /// When hickory refuses its configuration.
    pub fn with_trusted_servers(servers: &[SocketAddr], limits: ResolverLimits) -> Result<Self, LookupError> {
        Self::fixed(&System::servers(servers, true), limits)
    }

    fn fixed(system: &System, limits: ResolverLimits) -> Result<Self, LookupError> {
        let servers = Servers::new(system, &limits)?;
        Ok(Self { limits, anchors: None, source: None, servers: std::sync::RwLock::new(Arc::new(servers)) })
    }

    /// The name servers as they are configured now.
    async fn current(&self) -> Arc<Servers> {
        if let Some(source) = &self.source
            && let Ok(mut source) = source.try_lock()
            && source.looked.elapsed() >= RELOAD_INTERVAL
        {
            source.looked = Instant::now();
            let before = source.modified;
            let anchors = self.anchors.clone();
            let looking = tokio::task::spawn_blocking(move || (modified() != before).then(|| read(anchors)));
            if let Ok(Some((modified, system))) = looking.await {
                match Servers::new(&system, &self.limits) {
                    Ok(servers) => {
                        tracing::info!(servers = ?system.addresses(), "resolv.conf has changed");
                        *self.servers.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Arc::new(servers);
                        source.modified = modified;
                    }
                    Err(error) => tracing::error!(%error, "resolv.conf has changed, but can't be used"),
                }
            }
        }
        Arc::clone(&self.servers.read().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

fn modified() -> Option<SystemTime> {
    std::fs::metadata(RESOLV_CONF).and_then(|m| m.modified()).ok()
}

/// The system's configuration, and of when it is.
fn read(anchors: Option<Anchors>) -> (Option<SystemTime>, System) {
    // In this order: a change in between is noticed the next time.
    let modified = modified();
    let text = std::fs::read(RESOLV_CONF).unwrap_or_default();
    (modified, System { anchors, ..System::parse(&String::from_utf8_lossy(&text)) })
}

impl Servers {
    fn new(system: &System, limits: &ResolverLimits) -> Result<Self, LookupError> {
        Ok(Self {
            trusted: system.trusted.then(|| Trusted::new(system, limits.attempt)),
            validating: Hickory::validating(system, limits)?,
            plain: Hickory::plain(system, limits)?,
            manner: Mutex::new(Manner::Unknown),
        })
    }

    /// What the name servers are good for, probed at first and then now and again while it is little.
    async fn manner(&self) -> Result<Manner, LookupError> {
        let mut manner = self.manner.lock().await;
        match *manner {
            Manner::Trusting | Manner::Validating => return Ok(*manner),
            Manner::PlainUntil(until) if Instant::now() < until => return Ok(*manner),
            Manner::PlainUntil(_) | Manner::Unknown => {}
        }
        *manner = match &self.trusted {
            Some(trusted) if trusted.validates().await? => Manner::Trusting,
            _ if self.validating.is_possible().await? => Manner::Validating,
            _ => {
                tracing::warn!("the name servers neither validate nor pass on DNSSEC records: answers aren't validated, no DANE");
                Manner::PlainUntil(Instant::now() + PROBE_INTERVAL)
            }
        };
        Ok(*manner)
    }

    async fn query(&self, name: &str, kind: RecordKind) -> Found {
        let mut fqdn = Name::from_ascii(name).map_err(|e| LookupError::BadName(format!("{name:?}: {e}")))?;
        fqdn.set_fqdn(true);
        match (self.manner().await?, &self.trusted) {
            (Manner::Trusting, Some(trusted)) => trusted.query(fqdn, kind).await,
            (Manner::Validating, _) => self.validating.query(fqdn, kind).await,
            _ => self.plain.query(fqdn, kind).await,
        }
    }
}

impl Lookup for Resolver {
    fn query<'a>(&'a self, name: &'a str, kind: RecordKind) -> LookupFuture<'a> {
        Box::pin(async move {
            let answer = tokio::time::timeout(self.limits.total, async { self.current().await.query(name, kind).await });
            let found = answer.await.unwrap_or_else(|_| Err(LookupError::timeout()));
            if let Err(error) = &found
                && let Some(extended) = error.extended()
            {
                // Whoever asked may keep the reason to itself: a zone that is signed wrongly looks like one that is down.
                tracing::info!(name, ?kind, code = extended.code, %error, "DNS doesn't answer, and says why");
            }
            found
        })
    }
}
