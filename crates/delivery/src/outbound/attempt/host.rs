//! Reaching one host: a connection to one of its addresses, TLS as its policy wants, and a session that is ready for messages.

use super::super::connection::{Connection, Tls, TlsFault};
use super::super::failure::{Failure, Remote};
use super::super::policy::{self, HostTls, Outcome};
use super::super::sources::SourceIps;
use super::{Attempt, HostFailure, Manner};
use mox_net::race::{Target, race};
use mox_net::{ClientTls, DialError, Stream};
use mox_smtp::client::{Auth, Error, ErrorKind, Settings, Stage, Timeouts, TlsMode};
use mox_store::tls::SeenTls;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// For looking up a host and connecting to it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Addresses of one host that are asked in one attempt, if those before want no mail for now.
const MAX_ADDRESSES: usize = 4;

/// Connections to one host in one attempt: those after the first because the host takes few messages by each, or because of chunks or TLS.
const MAX_CONNECTIONS: usize = 50;

/// How to talk to a host.
pub(super) struct Hop<'a> {
    /// The name that is remembered and shown.
    pub(super) name: String,
    pub(super) port: u16,
    pub(super) mode: TlsMode,
    /// Judges the certificate.
    pub(super) tls: ClientTls,
    /// The name for SNI and, unless `tls` has another, for verification.
    pub(super) sni: String,
    /// Whether the certificate is verified.
    pub(super) verified: bool,
    /// Whether a failure of TLS leads to another connection without it.
    pub(super) fallback: bool,
    /// What the host's or its domain's policy makes of TLS; none for relays.
    pub(super) policy: Option<HostTls>,
    pub(super) auth: Option<&'a Auth>,
    pub(super) timeouts: Timeouts,
    /// Our addresses.
    pub(super) sources: SourceIps,
    pub(super) manner: Manner,
}

impl Attempt<'_> {
    /// Connects to a host and hands over to all open recipients. With `Ok`, each of them has a result.
    pub(super) async fn host(&mut self, hop: &Hop<'_>, mut ips: Vec<IpAddr>) -> Result<(), HostFailure> {
        let mut mode = hop.mode;
        let mut asked: usize = 1;
        let mut refused = None;
        for _ in 0..MAX_CONNECTIONS {
            let pressure = &self.inner.pressure;
            let waiting = async { Ok(pressure.place(&format!("{}:{}", hop.name, hop.port)).await) };
            let place = self.unless_shutdown(waiting).await?;
            self.tlsmode = mode_name(mode, hop.policy.as_ref().map_or((false, false), |policy| policy.enforced));
            let (stream, ip) = match self.dial(hop, &mut ips).await {
                // What the host said tells more than that it has another address where nobody answers.
                Err(HostFailure::Failed(failure)) => return Err(HostFailure::Failed(refused.unwrap_or(failure))),
                dialed => dialed?,
            };
            let mut remote = Remote::at(hop.name.clone(), ip);
            let fault = TlsFault::default();
            let from = stream.local_addr().ip();
            let manner = self.manner_from(hop, from, ip);
            let opened = self.ready(hop, mode, stream, fault.clone()).await?;
            if mode != TlsMode::Skip {
                self.note_session(hop, (from, ip), &opened, &fault);
            }
            match opened {
                Ok(mut connection) => {
                    remote.tls = connection.tls_in_words(hop.verified);
                    connection.keep(place);
                    match self.hand_over(manner, connection, &remote, 0).await {
                        Err(HostFailure::Stale) => ips.insert(0, ip),
                        ended => return ended,
                    }
                }
                // RFC 7435: what can't be encrypted for sure goes in the clear, rather than not at all.
                Err(e) if e.kind == ErrorKind::Tls && hop.fallback && mode != TlsMode::Skip => {
                    tracing::debug!(host = hop.name, error = %e, "TLS failed, connecting again without");
                    self.inner.metrics.plaintext_fallback.inc();
                    mode = TlsMode::Skip;
                    ips.insert(0, ip);
                }
                // Another machine may be behind another address.
                Err(e) if !e.permanent && is_before_session(&e) && !ips.is_empty() && asked < MAX_ADDRESSES => {
                    tracing::debug!(host = hop.name, %ip, error = %e, "not now, trying another address of the host");
                    refused = Some(self.judge(Failure::of_session(&e, &remote), manner));
                    asked = asked.saturating_add(1);
                    mode = hop.mode;
                }
                Err(e) => {
                    let failure = self.judge(Failure::of_session(&e, &remote), manner);
                    // Who takes away STARTTLS on the way must not be able to make mail bounce, RFC 7672 §2.2.
                    let permanent = failure.permanent && e.kind != ErrorKind::Tls;
                    return Err(HostFailure::Failed(Failure { permanent, ..failure }));
                }
            }
        }
        Err(HostFailure::Failed(Failure::temporary(format!("too many connections to {}", hop.name))))
    }

    /// The manner, with the address of ours that a connection comes from.
    fn manner_from(&self, hop: &Hop<'_>, from: IpAddr, to: IpAddr) -> Manner {
        let now = self.inner.ports.clock.monotonic();
        let chosen = self.inner.refusals.choose(&hop.sources, to, &self.claim.domain(), now);
        Manner { source: chosen.filter(|source| source.ip == from), ..hop.manner }
    }

    /// Notes what came of TLS on a connection.
    fn note_session(&mut self, hop: &Hop<'_>, (from, to): (IpAddr, IpAddr), opened: &Result<Connection, Error>, fault: &TlsFault) {
        let Some(tls) = &hop.policy else { return };
        let (fault, greeted) = fault.take();
        let (outcome, greeting) = match (opened, fault) {
            (_, Some(fault)) => (Outcome::Failed(fault), greeted.as_str()),
            (Ok(connection), None) => {
                let extensions = connection.extensions();
                self.sessions.seen = Some(SeenTls {
                    updated: self.inner.now(),
                    starttls: connection.is_tls() || extensions.starttls,
                    requiretls: extensions.requiretls,
                });
                let outcome = if connection.is_tls() { Outcome::Encrypted } else { Outcome::NotOffered };
                (outcome, connection.greeting())
            }
            (Err(e), None) if e.kind == ErrorKind::Tls => (Outcome::NotOffered, greeted.as_str()),
            // Whatever it was, it wasn't TLS.
            (Err(_), None) => return,
        };
        let session = policy::Session { from, to, host: &hop.name, greeting };
        policy::note_session(self.inner, &mut self.sessions, tls, &session, &outcome);
    }

    /// What follows from a refusal: one by policy may be about our address. With another family left, the next attempt uses that; with another address
    /// left when it is about block lists, that one.
    pub(super) fn judge(&self, failure: Failure, manner: Manner) -> Failure {
        let first_attempt = self.first().is_some_and(|e| e.attempts <= 1);
        let mut elsewhere = failure.permanent && first_attempt && manner.dual_stack && failure.secode.starts_with("7.");
        if let Some(source) = manner.source
            && failure.blames_sending_host(Some(source.ip))
        {
            self.inner.metrics.source_refused.inc();
            let (domain, now) = (self.claim.domain(), self.inner.ports.clock.monotonic());
            self.inner.refusals.note(source.ip, &domain, now);
            tracing::warn!(ip = %source.ip, domain, reply = failure.text, replaced = source.replaceable, "mail refused because of our address");
            elsewhere |= source.replaceable;
        }
        Failure { permanent: failure.permanent && !elsewhere, elsewhere, ..failure }
    }

    /// A connection to the first address that answers. `ips` keeps those that weren't tried, or had no time to answer.
    async fn dial(&mut self, hop: &Hop<'_>, ips: &mut Vec<IpAddr>) -> Result<(Stream, IpAddr), HostFailure> {
        let now = self.inner.ports.clock.monotonic();
        let domain = self.claim.domain();
        let targets: Vec<Target> = ips
            .iter()
            .filter(|ip| hop.sources.has_family_of(**ip))
            .map(|ip| {
                let source = self.inner.refusals.choose(&hop.sources, *ip, &domain, now);
                Target { to: SocketAddr::new(*ip, hop.port), from: source.map(|source| source.ip) }
            })
            .collect();
        let raced = tokio::select! {
            biased;
            () = self.shutdown.cancelled() => {
                self.inner.metrics.connected("canceled");
                return Err(HostFailure::Shutdown);
            }
            raced = tokio::time::timeout(CONNECT_TIMEOUT, race(&*self.dial, &targets)) => raced,
        };
        let (won, failed) = match raced {
            Ok(raced) => (raced.won, raced.failed),
            Err(_) => (None, targets.first().map(|_| (0, DialError::Timeout)).into_iter().collect()),
        };
        let address = |place: usize| targets.get(place).map(|target| target.to.ip());
        let mut last = Failure::temporary(format!("no usable address of {}", hop.name));
        for (place, error) in failed {
            let Some(ip) = address(place) else { continue };
            self.inner.metrics.connected(if matches!(error, DialError::Timeout) { "timeout" } else { "error" });
            last = Failure::temporary(format!("connecting to {ip}: {error}")).at(&Remote::at(hop.name.clone(), ip));
            ips.retain(|left| *left != ip);
        }
        let connected = won.and_then(|(place, stream)| Some((stream, address(place)?)));
        let (stream, ip) = connected.ok_or(HostFailure::Failed(last))?;
        self.inner.metrics.connected("ok");
        self.dialed.push((hop.name.clone(), ip));
        ips.retain(|left| *left != ip);
        Ok((stream, ip))
    }

    async fn ready(&self, hop: &Hop<'_>, mode: TlsMode, stream: Stream, fault: TlsFault) -> Result<Result<Connection, Error>, HostFailure> {
        let chunking = !self.without_chunks;
        let settings = Settings { ehlo: self.ehlo.clone(), tls: mode, auth: hop.auth.cloned(), chunking, timeouts: hop.timeouts };
        let tls = Tls { config: hop.tls.clone(), name: hop.sni.clone(), fault };
        let commands = self.inner.metrics.commands.clone();
        let opening = Connection::open(stream, settings, tls, Arc::clone(&self.inner.ports.random), commands, self.shutdown.clone());
        match tokio::time::timeout(hop.manner.patience, opening).await {
            Ok(opened) => Ok(opened?),
            Err(_) => Ok(Err(timeout_error("getting the session ready took too long"))),
        }
    }
}

/// Whether it went wrong before anything was said about who we are or what we have.
fn is_before_session(e: &Error) -> bool {
    matches!(e.stage, Stage::Greeting | Stage::Ehlo | Stage::Helo) && e.kind != ErrorKind::Tls
}

fn timeout_error(why: &str) -> Error {
    Error { permanent: false, kind: ErrorKind::Connection, stage: Stage::Greeting, reply: None, detail: why.to_owned() }
}

/// How a metric calls it: what is done about TLS, and by which policies, MTA-STS and DANE.
pub(super) const fn mode_name(mode: TlsMode, enforced: (bool, bool)) -> &'static str {
    match (mode, enforced) {
        (TlsMode::Immediate, _) => "immediate",
        (TlsMode::Required, (false, false)) => "requiredstarttls",
        (TlsMode::Required, (true, false)) => "requiredstarttls+mtasts",
        (TlsMode::Required, (false, true)) => "requiredstarttls+dane",
        (TlsMode::Required, (true, true)) => "requiredstarttls+mtasts+dane",
        // For mail with TLS-Required: No.
        (TlsMode::Opportunistic, (_, true)) => "opportunistic+dane",
        (TlsMode::Opportunistic, _) => "opportunistic",
        (TlsMode::Skip, _) => "skip",
    }
}
