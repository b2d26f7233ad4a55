//! Reaching one host: a connection to one of its addresses, TLS as its policy wants, and a session that is ready for messages.

use super::super::connection::{Connection, Tls, TlsFault};
use super::super::failure::{Failure, Remote};
use super::super::policy::{self, HostTls, Outcome};
use super::{Attempt, HostFailure, Manner};
use mox_net::{DialError, Stream};
use mox_smtp::client::{Auth, Error, ErrorKind, Settings, Stage, Timeouts, TlsMode};
use mox_store::tls::SeenTls;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// For looking up a host and connecting to it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// How to talk to a host.
pub(super) struct Hop<'a> {
    /// The name that is remembered, shown and verified.
    pub(super) name: String,
    pub(super) port: u16,
    pub(super) mode: TlsMode,
    /// Whether the certificate is verified.
    pub(super) verified: bool,
    /// Whether a failure of TLS leads to another connection without it.
    pub(super) fallback: bool,
    /// What the host's or its domain's policy makes of TLS; none for relays.
    pub(super) policy: Option<HostTls>,
    pub(super) auth: Option<&'a Auth>,
    pub(super) timeouts: Timeouts,
    /// For getting ready.
    pub(super) setup: Duration,
    pub(super) local_ips: bool,
    pub(super) manner: Manner,
}

impl Attempt<'_> {
    /// Connects to a host and hands over to all open recipients. With `Ok`, each of them has a result.
    pub(super) async fn host(&mut self, hop: &Hop<'_>, ips: Vec<IpAddr>) -> Result<(), HostFailure> {
        let pressure = &self.inner.pressure;
        let waiting = async { Ok(pressure.place(&format!("{}:{}", hop.name, hop.port)).await) };
        let mut place = self.unless_shutdown(waiting).await?;
        let mut mode = hop.mode;
        loop {
            self.tlsmode = mode_name(mode);
            let (stream, ip) = self.dial(hop, &ips).await?;
            let mut remote = Remote::at(hop.name.clone(), ip);
            let fault = TlsFault::default();
            let from = stream.local_addr().ip();
            let opened = self.ready(hop, mode, stream, fault.clone()).await?;
            if mode != TlsMode::Skip {
                self.note_session(hop, (from, ip), &opened, &fault);
            }
            match opened {
                Ok(mut connection) => {
                    remote.tls = connection.tls_in_words(hop.verified);
                    connection.keep(place.take());
                    return self.hand_over(hop.manner, connection, &remote, 0).await;
                }
                // RFC 7435: what can't be encrypted for sure goes in the clear, rather than not at all.
                Err(e) if e.kind == ErrorKind::Tls && hop.fallback && mode != TlsMode::Skip => {
                    tracing::debug!(host = hop.name, error = %e, "TLS failed, connecting again without");
                    self.inner.metrics.plaintext_fallback.inc();
                    mode = TlsMode::Skip;
                }
                Err(e) => {
                    let failure = self.other_family(Failure::of_session(&e, &remote), hop.manner.dual_stack);
                    // Who takes away STARTTLS on the way must not be able to make mail bounce, RFC 7672 §2.2.
                    let permanent = failure.permanent && !(e.kind == ErrorKind::Tls && hop.policy.is_some());
                    return Err(HostFailure::Failed(Failure { permanent, ..failure }));
                }
            }
        }
    }

    /// Notes what came of TLS on a connection.
    pub(super) fn note_session(
        &mut self,
        hop: &Hop<'_>,
        (from, to): (IpAddr, IpAddr),
        opened: &Result<Connection, Error>,
        fault: &TlsFault,
    ) {
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

    /// A policy rejection may be about our address: with another family left, the next attempt uses that.
    pub(super) fn other_family(&self, failure: Failure, dual_stack: bool) -> Failure {
        let first_attempt = self.first().is_some_and(|e| e.attempts <= 1);
        let permanent = failure.permanent && !(first_attempt && dual_stack && failure.secode.starts_with("7."));
        Failure { permanent, ..failure }
    }

    pub(super) async fn dial(&mut self, hop: &Hop<'_>, ips: &[IpAddr]) -> Result<(Stream, IpAddr), HostFailure> {
        let mut last = Failure::temporary(format!("no usable address of {}", hop.name));
        let share = CONNECT_TIMEOUT / u32::try_from(ips.len()).unwrap_or(u32::MAX).max(1);
        for ip in ips {
            let from = if hop.local_ips { self.inner.local_ip(*ip) } else { None };
            let dialing = self.dial.dial(SocketAddr::new(*ip, hop.port), from);
            let dialed = tokio::select! {
                biased;
                () = self.shutdown.cancelled() => {
                    self.inner.metrics.connected("canceled");
                    return Err(HostFailure::Shutdown);
                }
                dialed = tokio::time::timeout(share, dialing) => dialed.unwrap_or(Err(DialError::Timeout)),
            };
            match dialed {
                Ok(stream) => {
                    self.inner.metrics.connected("ok");
                    self.dialed.push((hop.name.clone(), *ip));
                    return Ok((stream, *ip));
                }
                Err(e) => {
                    self.inner.metrics.connected(if matches!(e, DialError::Timeout) { "timeout" } else { "error" });
                    let remote = Remote::at(hop.name.clone(), *ip);
                    last = Failure::temporary(format!("connecting to {ip}: {e}")).at(&remote);
                }
            }
        }
        Err(HostFailure::Failed(last))
    }

    pub(super) async fn ready(
        &self,
        hop: &Hop<'_>,
        mode: TlsMode,
        stream: Stream,
        fault: TlsFault,
    ) -> Result<Result<Connection, Error>, HostFailure> {
        let settings = Settings { ehlo: self.ehlo.clone(), tls: mode, auth: hop.auth.cloned(), timeouts: hop.timeouts };
        let tls = match &hop.policy {
            Some(policy) => Tls { config: policy.config.clone(), name: policy.sni.clone(), fault },
            None => {
                let config = if hop.verified { &self.inner.ports.verified_tls } else { &self.inner.ports.opportunistic_tls };
                Tls { config: config.clone(), name: hop.name.clone(), fault }
            }
        };
        let opening = Connection::open(stream, settings, tls, Arc::clone(&self.inner.ports.random), self.shutdown.clone());
        match tokio::time::timeout(hop.setup, opening).await {
            Ok(opened) => Ok(opened?),
            Err(_) => Ok(Err(timeout_error("getting the session ready took too long"))),
        }
    }
}

fn timeout_error(why: &str) -> Error {
    Error { permanent: false, kind: ErrorKind::Connection, stage: Stage::Greeting, reply: None, detail: why.to_owned() }
}
pub(super) const fn mode_name(mode: TlsMode) -> &'static str {
    match mode {
        TlsMode::Immediate => "immediate",
        TlsMode::Required => "requiredstarttls",
        TlsMode::Opportunistic => "opportunistic",
        TlsMode::Skip => "skip",
    }
}
