//! One delivery attempt of a claimed group: finding hosts, connecting, and handing over, with a result for each recipient.

use super::connection::{Cancelled, Connection, Outgoing, Tls, TlsFault};
use super::failure::{Failure, REQUIRETLS_SECODE, Remote};
use super::hosts::{Destinations, addresses, destinations};
use super::policy::{self, DomainTls, HostTls, Outcome};
use super::routes::{Relay, RelayTls, Transport, relay_patience};
use super::{Inner, Mode, earlier};
use crate::tls::{AboutAttempt, SessionResults};
use mox_base::Host;
use mox_net::{Dial, DialError, Stream};
use mox_smtp::client::{Auth, Error, ErrorKind, Settings, Stage, Timeouts, TlsMode, Transaction};
use mox_smtp::grammar::{Notify, OriginalRecipient, Rcpt, RcptParameters, Return};
use mox_store::queue::{Claim, Entry, Pause, ReportKind};
use mox_store::tls::SeenTls;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const SMTP_PORT: u16 = 25;

/// For looking up a host and connecting to it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// For all that is said on one connection.
const SESSION_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// For getting a connection to a relay ready.
const RELAY_SETUP: Duration = Duration::from_secs(60);

/// Messages over one connection at most, so that other domains have their turn.
const MAX_MESSAGES: u32 = 100;

/// The name of the own server in localserve, as DSNs show it.
const LOCAL_NAME: &str = "localhost";

/// A recipient's host took the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Delivered {
    pub(super) code: u16,
    pub(super) secode: String,
    pub(super) remote: Remote,
    /// The host sends DSNs as the sender wished, RFC 3461 §5.2.1; else we do.
    pub(super) dsn: bool,
}

pub(super) type RecipientResult = Result<Delivered, Failure>;

/// What came of an attempt.
#[derive(Debug)]
pub(super) struct Attempted {
    /// For each entry of the claim, in order.
    pub(super) results: Vec<RecipientResult>,
    /// Host and address of each connection.
    pub(super) dialed: Vec<(String, IpAddr)>,
    /// For metrics.
    pub(super) transport: String,
    /// For metrics.
    pub(super) tlsmode: &'static str,
    /// Where everybody was delivered, for the next message to the domain. To be told goodbye if there is none.
    pub(super) kept: Option<Kept>,
}

/// A connection after a delivery.
#[derive(Debug)]
pub(super) struct Kept {
    connection: Connection,
    remote: Remote,
    manner: Manner,
    /// Messages sent.
    sent: u32,
    transport: String,
    require_tls: Option<bool>,
    tlsmode: &'static str,
}

impl Kept {
    /// Says goodbye.
    pub(super) async fn quit(self) {
        self.connection.quit().await;
    }
}

/// How messages are handed over.
#[derive(Clone, Copy, Debug)]
struct Manner {
    /// 8-bit messages need a host that takes them.
    require_eight_bit_mime: bool,
    /// As many recipients in a transaction as the host says; else all.
    split: bool,
    /// For all that is said about a message.
    patience: Duration,
    /// Whether the host has addresses of both families.
    dual_stack: bool,
}

/// An attempt while it is going on.
struct Attempt<'a> {
    inner: &'a Inner,
    claim: &'a Claim,
    shutdown: &'a CancellationToken,
    results: Vec<Option<RecipientResult>>,
    dialed: Vec<(String, IpAddr)>,
    tlsmode: &'static str,
    kept: Option<Kept>,
    /// What came of TLS, for reports.
    sessions: SessionResults,
    /// Makes connections.
    dial: Arc<dyn Dial>,
    /// Who we say we are.
    ehlo: Host,
}

/// How to talk to a host.
struct Hop<'a> {
    /// The name that is remembered, shown and verified.
    name: String,
    port: u16,
    mode: TlsMode,
    /// Whether the certificate is verified.
    verified: bool,
    /// Whether a failure of TLS leads to another connection without it.
    fallback: bool,
    /// What the host's or its domain's policy makes of TLS; none for relays.
    policy: Option<HostTls>,
    auth: Option<&'a Auth>,
    timeouts: Timeouts,
    /// For getting ready.
    setup: Duration,
    local_ips: bool,
    manner: Manner,
}

/// What went wrong with a host as a whole.
enum HostFailure {
    Shutdown,
    /// Nothing was handed over; another host may do better.
    Failed(Failure),
    /// The connection from before was no longer any good, and nothing was handed over.
    Stale,
}

impl From<Cancelled> for HostFailure {
    fn from(_: Cancelled) -> Self {
        Self::Shutdown
    }
}

/// Delivers; none when the queue shut down meanwhile. Then nothing is known to have been delivered.
/// `kept` is used if it fits, and quit if not.
pub(super) async fn attempt(inner: &Inner, claim: &Claim, kept: Option<Kept>, shutdown: &CancellationToken) -> Option<Attempted> {
    let mut attempt = Attempt {
        inner,
        claim,
        shutdown,
        results: vec![None; claim.entries.len()],
        dialed: Vec::new(),
        tlsmode: mode_name(TlsMode::Skip),
        kept: None,
        sessions: SessionResults::default(),
        dial: Arc::clone(&inner.ports.dial),
        ehlo: inner.ehlo(),
    };
    let (transport, ran) = attempt.run(kept).await;
    attempt.collect();
    let missing = match ran {
        Ok(()) => Failure::ours("no result for recipient"),
        Err(HostFailure::Shutdown) if attempt.results.iter().all(Option::is_none) => return None,
        Err(HostFailure::Shutdown) => Failure::ours("interrupted by shutdown"),
        Err(HostFailure::Failed(failure)) => failure,
        Err(HostFailure::Stale) => Failure::temporary("connection lost"),
    };
    let results = attempt.results.into_iter().map(|r| r.unwrap_or_else(|| Err(missing.clone()))).collect();
    let kept = attempt.kept.map(|kept| Kept { transport: transport.clone(), ..kept });
    Some(Attempted { results, dialed: attempt.dialed, transport, tlsmode: attempt.tlsmode, kept })
}

impl<'a> Attempt<'a> {
    fn first(&self) -> Option<&'a Entry> {
        self.claim.entries.first()
    }

    /// The transport's name, and what came of using it; results that are there count before that.
    async fn run(&mut self, kept: Option<Kept>) -> (String, Result<(), HostFailure>) {
        self.notice_earlier().await;
        let Some(first) = self.first().filter(|_| !self.open().is_empty()) else { return (String::new(), Ok(())) };
        let sender_domain = first.sender.as_ref().and_then(|path| path.host.domain());
        let disabled = sender_domain.and_then(|d| self.inner.directory.current().domain(d).map(|s| s.disabled)) == Some(true);
        if disabled {
            return (String::new(), Err(HostFailure::Failed(Failure::temporary("domain of sender temporarily disabled"))));
        }
        for (index, _) in self.claim.entries.iter().enumerate().filter(|(_, entry)| entry.suppressed) {
            if self.results.get(index).is_some_and(Option::is_none) {
                self.set(index, Err(Failure::suppressed()));
            }
        }
        if self.open().is_empty() {
            return (String::new(), Ok(()));
        }
        let routing = self.inner.routing.current();
        let before = first.attempts.saturating_sub(1);
        let name = match first.transport.as_str() {
            "" => routing.choose(&first.account, before, sender_domain, self.claim.host.domain()).unwrap_or_default().to_owned(),
            forced => forced.to_owned(),
        };
        let transport = routing.transports.get(&name);
        if transport.is_none() && !name.is_empty() {
            let failure = Failure::temporary(format!("transport {name:?} is not configured"));
            return (name, Err(HostFailure::Failed(failure)));
        }
        let destination = match transport {
            Some(Transport::Relay(_)) => name.clone(),
            _ => format!("{name} {}", self.claim.domain()),
        };
        if let Some(reason) = self.paused(&destination) {
            return (name, Err(HostFailure::Failed(reason)));
        }
        if let Some(kept) = kept {
            match self.again(&name, kept).await {
                Err(HostFailure::Stale) => {}
                ran => return (name, ran),
            }
        }
        let ran = match (transport, &self.inner.settings.mode) {
            (Some(Transport::Fail { code, text }), _) => {
                let text = Transport::fail_text(text.as_deref());
                let failure = Failure { code: *code, secode: "7.0".to_owned(), permanent: *code >= 500, ..Failure::temporary(text) };
                Err(HostFailure::Failed(failure))
            }
            (_, Mode::Local(address)) => self.local(*address).await,
            (Some(Transport::Relay(relay)), _) => self.relay(&name, relay).await,
            (Some(Transport::Direct { ipv4, ipv6 }), _) => self.direct(*ipv4, *ipv6).await,
            (Some(Transport::Socks { dial, hostname }), _) => {
                self.dial = Arc::clone(dial);
                self.ehlo = Host::Domain(hostname.clone());
                self.direct(true, true).await
            }
            (None, _) => self.direct(true, true).await,
        };
        self.note_pressure(&destination, &ran).await;
        (name, ran)
    }

    /// What entries hear that become due during a pause.
    fn paused(&self, destination: &str) -> Option<Failure> {
        let last = self.first().is_some_and(|e| e.attempts >= self.inner.settings.schedule.attempts_allowed(e));
        let reason = self.inner.pressure.paused(destination, self.inner.ports.clock.monotonic()).filter(|_| !last)?;
        Some(Failure { code: 421, ..Failure::temporary(format!("not tried again yet, because of an earlier reply: {reason}")) })
    }

    /// Remembers whether the destination asked for a pause, or takes mail again.
    async fn note_pressure(&self, destination: &str, ran: &Result<(), HostFailure>) {
        // In localserve, all there is to be heard was asked for by addresses.
        if !matches!(self.inner.settings.mode, Mode::World) {
            return;
        }
        let failed = self.results.iter().flatten().filter_map(|r| r.as_ref().err());
        let failed = failed.chain(match ran {
            Err(HostFailure::Failed(failure)) => Some(failure),
            _ => None,
        });
        if let Some(failure) = failed.into_iter().find(|f| f.code == 421 && f.remote.is_some()) {
            let length = self.inner.pressure.pause(destination, &failure.text, self.inner.ports.clock.monotonic());
            let pause =
                Pause { destination: destination.to_owned(), until: self.inner.now().after(length), length, reason: failure.text.clone() };
            if let Err(e) = self.inner.queue.note_pause(pause).await {
                tracing::warn!(destination, error = %e, "noting a pause, which ends with the server");
            }
        } else if self.results.iter().flatten().any(Result::is_ok)
            && self.inner.pressure.eased(destination)
            && let Err(e) = self.inner.queue.end_pause(Some(destination.to_owned())).await
        {
            tracing::warn!(destination, error = %e, "forgetting a pause");
        }
    }

    /// Gives results to recipients who got the message in an attempt whose outcome wasn't recorded.
    async fn notice_earlier(&mut self) {
        for (index, entry) in self.claim.entries.iter().enumerate().filter(|(_, entry)| entry.unfinished) {
            match earlier::is_in_mailbox(self.inner, entry, &self.claim.message).await {
                Ok(true) => {
                    tracing::info!(id = entry.id.0, "an attempt that was cut short had delivered the message");
                    let remote = Remote::named(self.inner.settings.hostname.ascii().to_owned());
                    self.set(index, Ok(Delivered { code: 250, secode: String::new(), remote, dsn: false }));
                }
                Ok(false) => {}
                Err(e) => {
                    tracing::warn!(id = entry.id.0, error = %e, "looking whether an attempt that was cut short had delivered a message")
                }
            }
        }
    }

    /// Hands over what came of TLS.
    fn collect(&mut self) {
        let (Some(policies), Some(domain), Some(first)) = (&self.inner.ports.policies, self.claim.host.domain(), self.first()) else {
            return;
        };
        let report = self.claim.message.report;
        let about = AboutAttempt {
            account: &first.account,
            recipient_domain: domain,
            is_tls_report: report == ReportKind::Tls,
            is_dmarc_report: report == ReportKind::Dmarc,
        };
        policies.collect(about, std::mem::take(&mut self.sessions));
    }

    /// Waits for a lookup, but not when the queue shuts down.
    async fn unless_shutdown<T>(&self, lookup: impl Future<Output = Result<T, Failure>>) -> Result<T, HostFailure> {
        tokio::select! {
            biased;
            () = self.shutdown.cancelled() => Err(HostFailure::Shutdown),
            found = lookup => found.map_err(HostFailure::Failed),
        }
    }

    /// Recipients without a result, by their place in the claim.
    fn open(&self) -> Vec<usize> {
        self.results.iter().enumerate().filter(|(_, r)| r.is_none()).map(|(i, _)| i).collect()
    }

    fn set(&mut self, index: usize, result: RecipientResult) {
        if let Some(slot) = self.results.get_mut(index) {
            *slot = Some(result);
        }
    }

    /// Over the connection of the message before, if this one would have gone there too.
    async fn again(&mut self, transport: &str, kept: Kept) -> Result<(), HostFailure> {
        let limits = kept.connection.extensions().limits;
        let fits = self.first().is_some_and(|e| e.attempts <= 1 && e.require_tls == kept.require_tls)
            && kept.transport == transport
            && kept.sent < limits.mail_max.unwrap_or(MAX_MESSAGES).min(MAX_MESSAGES);
        if !fits {
            kept.quit().await;
            return Err(HostFailure::Stale);
        }
        self.tlsmode = kept.tlsmode;
        let Kept { connection, remote, manner, sent, .. } = kept;
        self.hand_over(manner, connection, &remote, sent).await
    }

    /// To our own listener, as localserve does.
    async fn local(&mut self, address: SocketAddr) -> Result<(), HostFailure> {
        let patience = Duration::from_secs(30);
        let hop = Hop {
            name: LOCAL_NAME.to_owned(),
            port: address.port(),
            mode: TlsMode::Opportunistic,
            verified: false,
            fallback: false,
            policy: None,
            auth: None,
            timeouts: Timeouts {
                command: patience,
                data_start: patience,
                data_block: patience,
                data_end: patience,
                quit: Duration::from_secs(5),
            },
            setup: RELAY_SETUP,
            local_ips: false,
            manner: Manner { require_eight_bit_mime: false, split: false, patience: RELAY_SETUP, dual_stack: false },
        };
        self.host(&hop, vec![address.ip()]).await
    }

    /// Through a relay.
    async fn relay(&mut self, name: &str, relay: &Relay) -> Result<(), HostFailure> {
        let prefixed = |failure: Failure| HostFailure::Failed(Failure { text: format!("transport {name}: {}", failure.text), ..failure });
        let (mode, verified) = match relay.tls {
            RelayTls::Immediate => (TlsMode::Immediate, true),
            RelayTls::Required => (TlsMode::Required, true),
            RelayTls::RequiredUnverified => (TlsMode::Required, false),
            RelayTls::Opportunistic => (TlsMode::Opportunistic, false),
            RelayTls::Plain => (TlsMode::Skip, false),
        };
        let require_tls = self.first().and_then(|e| e.require_tls);
        if require_tls == Some(true) && !verified {
            // RFC 8689 §4.2.1: no certainty about the next hop.
            return Err(prefixed(requiretls_failure(true, "the transport doesn't verify TLS, which the message requires")));
        }
        let dialed = self.dialed_before(&relay.host.to_string());
        let found = self.unless_shutdown(addresses(&*self.inner.ports.lookup, &relay.host, &dialed, false)).await.map_err(|e| match e {
            HostFailure::Failed(failure) => prefixed(failure),
            other => other,
        })?;
        let hop = Hop {
            name: relay.host.domain().map_or_else(|| host_ip(&relay.host), |d| d.ascii().to_owned()),
            port: relay.port,
            mode,
            verified,
            fallback: false,
            policy: None,
            auth: relay.auth.as_ref(),
            timeouts: Timeouts::default(),
            setup: RELAY_SETUP,
            local_ips: false,
            manner: Manner {
                require_eight_bit_mime: true,
                split: false,
                patience: relay_patience(self.claim.message.size),
                dual_stack: found.dual_stack,
            },
        };
        self.host(&hop, found.ips).await.map_err(|e| match e {
            HostFailure::Failed(failure) => prefixed(failure),
            other => other,
        })
    }

    /// To the recipient's own hosts.
    async fn direct(&mut self, ipv4: bool, ipv6: bool) -> Result<(), HostFailure> {
        let inner = self.inner;
        let ports = &inner.ports;
        let finding = destinations(&*ports.lookup, &*ports.random, &self.claim.host, inner.settings.pedantic);
        let found = self.unless_shutdown(finding).await?;
        let require_tls = self.first().and_then(|e| e.require_tls);
        let mut sessions = SessionResults::default();
        let looking = policy::of_domain(inner, &self.claim.host, require_tls, self.claim.message.report, &mut sessions);
        let domain_tls = self.unless_shutdown(looking).await;
        self.sessions = sessions;
        let domain_tls = domain_tls?;
        let mut last = None;
        let mut only_requiretls = true;
        for host in &found.hosts {
            match self.direct_host(host, &found, &domain_tls, (ipv4, ipv6)).await {
                Err(HostFailure::Failed(failure)) => {
                    tracing::debug!(host = %host, error = failure.text, "next hop failed");
                    only_requiretls &= failure.is_requiretls();
                    if failure.permanent && !failure.of_host {
                        return Err(HostFailure::Failed(failure));
                    }
                    last = Some(more_hopeful(last, failure));
                }
                Err(other) => return Err(other),
                // Who was refused for now by this host may have more luck with the next, unless somebody was delivered.
                Ok(()) => match self.reopen() {
                    Some(failure) => {
                        only_requiretls &= failure.is_requiretls();
                        last = Some(more_hopeful(last, failure));
                    }
                    None => return Ok(()),
                },
            }
        }
        let mut last = last.unwrap_or_else(|| Failure::temporary("no host to deliver to"));
        if only_requiretls && last.is_requiretls() {
            last = Failure { permanent: true, ..last };
        }
        Err(HostFailure::Failed(last))
    }

    /// When nobody was delivered, takes back results that another host may improve; the last of them.
    fn reopen(&mut self) -> Option<Failure> {
        if self.results.iter().any(|r| matches!(r, Some(Ok(_)))) {
            return None;
        }
        let mut last = None;
        for slot in &mut self.results {
            if matches!(slot, Some(Err(failure)) if !failure.suppressed && (!failure.permanent || failure.of_host))
                && let Some(Err(failure)) = slot.take()
            {
                last = Some(failure);
            }
        }
        last
    }

    async fn direct_host(
        &mut self,
        host: &Host,
        destinations: &Destinations,
        domain_tls: &DomainTls,
        (ipv4, ipv6): (bool, bool),
    ) -> Result<(), HostFailure> {
        let inner = self.inner;
        let name = host.domain().map_or_else(|| host_ip(host), |d| d.ascii().to_owned());
        let remote = Remote::named(name.clone());
        inner.metrics.destinations.inc();
        let dialed = self.dialed_before(&name);
        let aliases = policy::dane_is_possible(host, destinations);
        let finding = async { addresses(&*inner.ports.lookup, host, &dialed, aliases).await.map_err(|f| f.at(&remote)) };
        let found = self.unless_shutdown(finding).await?;
        if found.authentic {
            inner.metrics.destinations_authentic.inc();
        }
        let mut sessions = std::mem::take(&mut self.sessions);
        let names = (&self.claim.host, host);
        let looking =
            async { policy::of_host(inner, domain_tls, names, destinations, &found, &mut sessions).await.map_err(|f| f.at(&remote)) };
        let tls = self.unless_shutdown(looking).await;
        self.sessions = sessions;
        let tls = tls?;
        let ips: Vec<IpAddr> = found.ips.into_iter().filter(|ip| if ip.is_ipv4() { ipv4 } else { ipv6 }).collect();
        let hop = Hop {
            name,
            port: SMTP_PORT,
            mode: tls.mode,
            verified: tls.verified,
            fallback: tls.fallback,
            policy: Some(tls),
            auth: None,
            timeouts: Timeouts::default(),
            setup: SESSION_TIMEOUT,
            local_ips: true,
            manner: Manner {
                require_eight_bit_mime: self.inner.settings.pedantic,
                split: true,
                patience: SESSION_TIMEOUT,
                dual_stack: found.dual_stack,
            },
        };
        self.host(&hop, ips).await
    }

    fn dialed_before(&self, host: &str) -> Vec<IpAddr> {
        self.first().map(|e| e.dialed.of(host).to_vec()).unwrap_or_default()
    }

    /// Connects to a host and hands over to all open recipients. With `Ok`, each of them has a result.
    async fn host(&mut self, hop: &Hop<'_>, ips: Vec<IpAddr>) -> Result<(), HostFailure> {
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

    /// A policy rejection may be about our address: with another family left, the next attempt uses that.
    fn other_family(&self, failure: Failure, dual_stack: bool) -> Failure {
        let first_attempt = self.first().is_some_and(|e| e.attempts <= 1);
        let permanent = failure.permanent && !(first_attempt && dual_stack && failure.secode.starts_with("7."));
        Failure { permanent, ..failure }
    }

    async fn dial(&mut self, hop: &Hop<'_>, ips: &[IpAddr]) -> Result<(Stream, IpAddr), HostFailure> {
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

    async fn ready(&self, hop: &Hop<'_>, mode: TlsMode, stream: Stream, fault: TlsFault) -> Result<Result<Connection, Error>, HostFailure> {
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

    /// Hands over to all open recipients. With `Ok`, each of them has a result. `sent`: messages on this connection before.
    async fn hand_over(&mut self, manner: Manner, mut connection: Connection, remote: &Remote, sent: u32) -> Result<(), HostFailure> {
        let handed = tokio::time::timeout(manner.patience, self.transactions(manner, &mut connection, remote, sent > 0)).await;
        match handed {
            Ok(Ok(())) => {}
            Ok(Err(e)) => return Err(e),
            Err(_) => {
                self.fail_open(&Failure::temporary("the session took too long").at(remote));
                return Ok(());
            }
        }
        let require_tls = self.first().and_then(|e| e.require_tls);
        let kept = Kept {
            connection,
            remote: remote.clone(),
            manner,
            sent: sent.saturating_add(1),
            transport: String::new(),
            require_tls,
            tlsmode: self.tlsmode,
        };
        let all_delivered = self.results.iter().all(|r| matches!(r, Some(Ok(_))));
        if all_delivered && kept.connection.is_usable() {
            self.kept = Some(kept);
        } else {
            kept.quit().await;
        }
        Ok(())
    }

    /// Transactions until every open recipient has a result.
    async fn transactions(
        &mut self,
        manner: Manner,
        connection: &mut Connection,
        remote: &Remote,
        reused: bool,
    ) -> Result<(), HostFailure> {
        let rcpt_max = connection.extensions().limits.rcpt_max.filter(|_| manner.split);
        let dsn = connection.extensions().dsn;
        let mut first = true;
        loop {
            let mut batch = self.open();
            batch.truncate(rcpt_max.and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX).max(1));
            if batch.is_empty() {
                return Ok(());
            }
            let (transaction, mut message) = match self.prepare(manner, connection, &batch).await {
                Ok(prepared) => prepared,
                Err(failure) => {
                    self.fail_open(&failure);
                    return Ok(());
                }
            };
            let results = connection.transact(transaction, &mut message).await?;
            // A server may end a connection at any time between messages, RFC 5321 §3.8.
            if reused && first && !connection.is_usable() && results.iter().all(|r| r.as_ref().is_err_and(before_message)) {
                return Err(HostFailure::Stale);
            }
            first = false;
            // RFC 5321 §4.5.3.1.10: whoever was one too many goes into another transaction, while that gets us further.
            let again = manner.split && connection.is_usable() && results.iter().any(Result::is_ok);
            for (position, (index, result)) in batch.into_iter().zip(results).enumerate() {
                let result = match result {
                    Ok(reply) => {
                        let secode = reply.enhanced.map(mox_smtp::Enhanced::without_class).unwrap_or_default();
                        Ok(Delivered { code: reply.code, secode, remote: remote.clone(), dsn })
                    }
                    Err(e) if again && position > 0 && e.stage == Stage::Rcpt && matches!(e.code(), Some(452 | 552)) => continue,
                    Err(e) => {
                        if e.kind == ErrorKind::RequireTlsUnsupported {
                            let labels = crate::metrics::RequireTlsLabels { reason: "norequiretls" };
                            self.inner.metrics.requiretls_unsupported.get_or_create(&labels).inc();
                        }
                        Err(self.other_family(Failure::of_session(&e, remote), manner.dual_stack))
                    }
                };
                self.set(index, result);
            }
            if !connection.is_usable() {
                self.fail_open(&Failure::temporary("connection not usable for a further transaction").at(remote));
            }
        }
    }

    fn fail_open(&mut self, failure: &Failure) {
        for index in self.open() {
            self.set(index, Err(failure.clone()));
        }
    }

    /// The transaction for these recipients, and the message as this host gets it.
    async fn prepare(&self, manner: Manner, connection: &Connection, batch: &[usize]) -> Result<(Transaction, Outgoing), Failure> {
        let message = &self.claim.message;
        let entries: Vec<&Entry> = batch.iter().filter_map(|i| self.claim.entries.get(*i)).collect();
        let extensions = connection.extensions();
        let sender = entries.first().and_then(|e| e.sender.clone());
        let utf8_addresses = sender.iter().chain(entries.iter().map(|e| &e.recipient)).any(mox_base::Path::needs_smtputf8);
        // A DSN about a message in UTF-8 has a form for hosts that understand it, and one for those that don't.
        let utf8_body = message.body_utf8.as_ref().filter(|_| extensions.smtputf8 && extensions.eight_bit_mime);
        let (outgoing, size) = match utf8_body {
            Some(body) => {
                let size = body.len().saturating_add(message.prefix.len());
                let body = mox_store::queue::OpenBody::Memory(std::io::Cursor::new(body.clone()));
                (Outgoing::new(message.prefix.clone(), body), u64::try_from(size).unwrap_or(u64::MAX))
            }
            None => {
                let body = self.inner.queue.open_body(message.id).await.map_err(|e| Failure::ours(format!("opening message: {e}")))?;
                let body = body.ok_or_else(|| Failure::ours("message was removed from the queue"))?;
                (Outgoing::new(message.prefix.clone(), body), message.size.0)
            }
        };
        let transaction = Transaction {
            from: sender,
            recipients: entries.iter().map(|e| rcpt(e)).collect(),
            size,
            eight_bit: message.has_8bit || utf8_body.is_some(),
            require_eight_bit_mime: manner.require_eight_bit_mime,
            smtputf8: message.smtputf8 || utf8_addresses || utf8_body.is_some(),
            requiretls: entries.first().and_then(|e| e.require_tls) == Some(true),
            // RFC 3461 §5.2.1: passed on as given.
            ret: message.return_full.then_some(Return::Full),
            envid: message.envelope_id.clone(),
        };
        Ok((transaction, outgoing))
    }
}

fn rcpt(entry: &Entry) -> Rcpt {
    let notify = (entry.notify != mox_store::queue::Notify::default()).then_some(Notify {
        success: entry.notify.success,
        failure: entry.notify.failure,
        delay: entry.notify.delay,
    });
    let orcpt = entry
        .original_recipient
        .as_ref()
        .and_then(|o| o.split_once(';'))
        .map(|(address_type, address)| OriginalRecipient { address_type: address_type.to_owned(), address: address.to_owned() });
    Rcpt { to: Some(entry.recipient.clone()), parameters: RcptParameters { notify, orcpt } }
}

/// Of the failures of two hosts, the one that says how the attempt ended: the later, but a temporary one rather than a
/// permanent one.
fn more_hopeful(before: Option<Failure>, now: Failure) -> Failure {
    match before {
        Some(before) if now.permanent && !before.permanent => before,
        _ => now,
    }
}

/// “REQUIRETLS support required”, RFC 8689 §5.
pub(super) fn requiretls_failure(permanent: bool, text: &str) -> Failure {
    Failure { permanent, code: 554, secode: REQUIRETLS_SECODE.to_owned(), ..Failure::temporary(text) }
}

/// Whether it failed before the message was sent, because of the connection.
fn before_message(e: &Error) -> bool {
    matches!(e.stage, Stage::Mail | Stage::Rset) && (e.kind == ErrorKind::Connection || e.code() == Some(421))
}

fn timeout_error(why: &str) -> Error {
    Error { permanent: false, kind: ErrorKind::Connection, stage: Stage::Greeting, reply: None, detail: why.to_owned() }
}

fn host_ip(host: &Host) -> String {
    match host {
        Host::Ip(ip) => ip.to_string(),
        Host::Domain(domain) => domain.ascii().to_owned(),
    }
}

const fn mode_name(mode: TlsMode) -> &'static str {
    match mode {
        TlsMode::Immediate => "immediate",
        TlsMode::Required => "requiredstarttls",
        TlsMode::Opportunistic => "opportunistic",
        TlsMode::Skip => "skip",
    }
}
