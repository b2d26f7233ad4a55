//! The resolver: [`Lookup`] on hickory, validating DNSSEC itself from the root's keys.
//!
//! Whether an answer is authentic comes from the proof of each of its records, the aliases followed included, never from
//! a reply's AD flag. A failed validation is an error, never "no such record". Where the configured name servers don't pass DNSSEC
//! records on, not even for the root, nothing could be resolved that way: then answers are taken as they come, none of them
//! authentic, and that is logged. This is probed again from time to time.
//!
//! Limits: a query takes 5 s per try and 15 s in all; the cache holds a number of answers.

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::dnssec::Proof;
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{self, Name, RData, RecordType};
use mox_base::{Answer, Lookup, LookupError, LookupFuture, Mx, Record, RecordKind, Srv, Tlsa};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// How long we stay without validation before looking whether it has become possible.
const PROBE_INTERVAL: Duration = Duration::from_secs(600);

/// Limits of a [`Resolver`].
#[derive(Clone, Copy, Debug)]
pub struct ResolverLimits {
    /// For one try at one server.
    pub attempt: Duration,
    /// For a whole lookup, validation included.
    pub total: Duration,
    /// Answers kept.
    pub cache_entries: u64,
    /// The longest that a negative answer is kept.
    pub negative_ttl: Duration,
}

impl Default for ResolverLimits {
    fn default() -> Self {
        Self {
            attempt: Duration::from_secs(5),
            total: Duration::from_secs(15),
            cache_entries: 4096,
            // RFC 2308 §5 suggests one to three hours; operators who fix their records wait less.
            negative_ttl: Duration::from_secs(900),
        }
    }
}

/// Resolves names with the system's name servers.
#[derive(Debug)]
pub struct Resolver {
    validating: TokioResolver,
    plain: TokioResolver,
    limits: ResolverLimits,
    plain_until: Mutex<Validation>,
}

/// Whether the name servers give us what validation needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Validation {
    Unknown,
    Possible,
    ImpossibleUntil(Instant),
}

impl Resolver {
    /// A resolver with the name servers of `/etc/resolv.conf`; those on this machine when it names none.
    ///
    /// # Errors
    /// When hickory refuses its configuration.
    pub fn system(limits: ResolverLimits) -> Result<Self, LookupError> {
        let (config, options) = hickory_resolver::system_conf::read_system_conf().unwrap_or_else(|error| {
            tracing::info!(%error, "no usable resolv.conf, asking name servers on this machine");
            let local = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
            let servers = local.into_iter().map(NameServerConfig::udp_and_tcp).collect();
            (ResolverConfig::from_parts(None, Vec::new(), servers), ResolverOpts::default())
        });
        Self::with_config(config, options, limits)
    }

    /// A resolver with these name servers, asked over UDP and TCP.
    ///
    /// # Errors
    /// When hickory refuses its configuration.
    pub fn with_servers(servers: &[SocketAddr], limits: ResolverLimits) -> Result<Self, LookupError> {
        let servers = servers.iter().map(|addr| {
            let mut server = NameServerConfig::udp_and_tcp(addr.ip());
            server.connections.iter_mut().for_each(|c| c.port = addr.port());
            server
        });
        Self::with_config(ResolverConfig::from_parts(None, Vec::new(), servers.collect()), ResolverOpts::default(), limits)
    }

    fn with_config(config: ResolverConfig, mut options: ResolverOpts, limits: ResolverLimits) -> Result<Self, LookupError> {
        options.timeout = options.timeout.min(limits.attempt);
        options.cache_size = limits.cache_entries;
        options.negative_max_ttl = Some(limits.negative_ttl);
        options.edns0 = true;
        options.preserve_intermediates = true;
        let build = |validate: bool| {
            let mut builder = TokioResolver::builder_with_config(config.clone(), TokioRuntimeProvider::default());
            *builder.options_mut() = options.clone();
            builder.options_mut().validate = validate;
            builder.build().map_err(|e| LookupError::Temporary(e.to_string()))
        };
        Ok(Self { validating: build(true)?, plain: build(false)?, limits, plain_until: Mutex::new(Validation::Unknown) })
    }

    /// Whether validation is possible, probed at first and then now and again while it isn't.
    async fn validates(&self) -> Result<bool, LookupError> {
        let mut state = self.plain_until.lock().await;
        match *state {
            Validation::Possible => return Ok(true),
            Validation::ImpossibleUntil(until) if Instant::now() < until => return Ok(false),
            Validation::ImpossibleUntil(_) | Validation::Unknown => {}
        }
        // The root is signed for certain: without a proof for it, there won't be one for anything.
        match self.validating.lookup(Name::root(), RecordType::NS).await {
            Ok(answer) if authentic(answer.answers()) => {
                *state = Validation::Possible;
                Ok(true)
            }
            Ok(_) | Err(NetError::Dns(_)) => {
                tracing::warn!("the name servers don't pass on DNSSEC records: answers aren't validated, no DANE");
                *state = Validation::ImpossibleUntil(Instant::now() + PROBE_INTERVAL);
                Ok(false)
            }
            Err(e) => Err(error(e)),
        }
    }

    async fn resolve(&self, name: &str, kind: RecordKind) -> Result<Answer<Vec<Record>>, LookupError> {
        let mut fqdn = Name::from_ascii(name).map_err(|e| LookupError::BadName(format!("{name:?}: {e}")))?;
        fqdn.set_fqdn(true);
        let validate = self.validates().await?;
        let resolver = if validate { &self.validating } else { &self.plain };
        let found = resolver.lookup(fqdn, record_type(kind)).await.map_err(error)?;
        let answers = found.answers();
        let records: Vec<Record> =
            answers.iter().filter(|r| r.record_type() == record_type(kind)).filter_map(|r| record(&r.data)).collect();
        let authentic = validate && authentic(answers);
        if records.is_empty() {
            return Err(LookupError::NotFound { authentic });
        }
        let ttl = answers.iter().map(|r| r.ttl).min().unwrap_or(0);
        Ok(Answer { records, authentic, ttl: Duration::from_secs(u64::from(ttl)) })
    }
}

impl Lookup for Resolver {
    fn query<'a>(&'a self, name: &'a str, kind: RecordKind) -> LookupFuture<'a> {
        Box::pin(async move {
            let answer = tokio::time::timeout(self.limits.total, self.resolve(name, kind));
            answer.await.unwrap_or_else(|_| Err(LookupError::Temporary("timeout".into())))
        })
    }
}

/// Whether every record has been validated; signatures themselves don't count.
fn authentic(answers: &[rr::Record]) -> bool {
    let mut records = answers.iter().filter(|r| r.record_type() != RecordType::RRSIG).peekable();
    records.peek().is_some() && records.all(|r| r.proof == Proof::Secure)
}

fn error(e: NetError) -> LookupError {
    match e {
        NetError::Dns(DnsError::NoRecordsFound(none)) => match none.response_code {
            ResponseCode::NXDomain | ResponseCode::NoError => LookupError::NotFound { authentic: false },
            code => LookupError::Temporary(code.to_string()),
        },
        NetError::Dns(DnsError::Nsec { response, proof, .. }) => {
            let denied = matches!(response.response_code, ResponseCode::NXDomain | ResponseCode::NoError);
            match proof {
                _ if !denied => LookupError::Temporary(response.response_code.to_string()),
                // A denial through aliases is proven only if the aliases are.
                Proof::Secure => {
                    let aliases = response.answers.iter().filter(|r| r.record_type() != RecordType::RRSIG);
                    LookupError::NotFound { authentic: aliases.into_iter().all(|r| r.proof == Proof::Secure) }
                }
                Proof::Insecure => LookupError::NotFound { authentic: false },
                Proof::Bogus => LookupError::Bogus("denial of existence".into()),
                Proof::Indeterminate => LookupError::Temporary("denial of existence can't be validated".into()),
            }
        }
        NetError::Dns(DnsError::DnssecBogus) => LookupError::Bogus("signatures".into()),
        NetError::Timeout => LookupError::Temporary("timeout".into()),
        e => LookupError::Temporary(e.to_string()),
    }
}

const fn record_type(kind: RecordKind) -> RecordType {
    match kind {
        RecordKind::A => RecordType::A,
        RecordKind::Aaaa => RecordType::AAAA,
        RecordKind::Cname => RecordType::CNAME,
        RecordKind::Mx => RecordType::MX,
        RecordKind::Ns => RecordType::NS,
        RecordKind::Ptr => RecordType::PTR,
        RecordKind::Txt => RecordType::TXT,
        RecordKind::Tlsa => RecordType::TLSA,
        RecordKind::Srv => RecordType::SRV,
    }
}

fn record(data: &RData) -> Option<Record> {
    Some(match data {
        RData::A(a) => Record::A(a.0),
        RData::AAAA(a) => Record::Aaaa(a.0),
        RData::CNAME(name) => Record::Cname(text(&name.0)),
        RData::MX(mx) => Record::Mx(Mx { preference: mx.preference, host: text(&mx.exchange) }),
        RData::NS(name) => Record::Ns(text(&name.0)),
        RData::PTR(name) => Record::Ptr(text(&name.0)),
        RData::TXT(txt) => Record::Txt(txt.txt_data.concat()),
        RData::SRV(srv) => Record::Srv(Srv { priority: srv.priority, weight: srv.weight, port: srv.port, target: text(&srv.target) }),
        RData::TLSA(tlsa) => Record::Tlsa(Tlsa {
            usage: tlsa.cert_usage.into(),
            selector: tlsa.selector.into(),
            matching: tlsa.matching.into(),
            data: tlsa.cert_data.clone(),
        }),
        _ => return None,
    })
}

/// A name without its trailing dot; the root is empty.
fn text(name: &Name) -> String {
    let mut text = name.to_ascii();
    if text.ends_with('.') {
        text.pop();
    }
    text
}
