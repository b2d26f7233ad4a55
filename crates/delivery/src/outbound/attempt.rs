//! One delivery attempt of a claimed group: what it is about, which transport it takes, and a result for each recipient.
//!
//! `next_hop` turns to hosts, `host` gets a connection to one of them ready, `hand_over` sends the message.

mod hand_over;
mod host;
mod next_hop;

use self::host::mode_name;
use super::connection::{Cancelled, Connection};
use super::failure::{Failure, REQUIRETLS_SECODE, Remote};
use super::pressure::{BLOCKED_PAUSE, PAUSE};
use super::routes::Transport;
use super::sources::{Source, SourceIps};
use super::{Inner, Mode, earlier};
use crate::tls::{AboutAttempt, SessionResults};
use mox_base::{Host, WhenLate};
use mox_net::Dial;
use mox_smtp::client::TlsMode;
use mox_store::queue::{Claim, Entry, HoldReason, Pause, ReportKind, Signature};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Messages over one connection at most, so that other domains have their turn.
const MAX_MESSAGES: u32 = 100;

/// A recipient's host took the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Delivered {
    pub(super) code: u16,
    pub(super) secode: String,
    pub(super) remote: Remote,
    /// The host sends DSNs as the sender wished, RFC 3461 §5.2.1; else we do.
    pub(super) dsn: bool,
    /// The host sees to it that the message is delivered in time, RFC 2852; or it is delivered.
    pub(super) in_time: bool,
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
    /// With what the message was signed, if it was handed over.
    pub(super) signature: Option<Arc<Signature>>,
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
    /// For all that is said before messages, and then about a message.
    patience: Duration,
    /// Whether the host has addresses of both families.
    dual_stack: bool,
    /// Our address, if it was chosen by us.
    source: Option<Source>,
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
    /// With what the message was signed.
    signature: Option<Arc<Signature>>,
    /// What came of TLS, for reports.
    sessions: SessionResults,
    /// Makes connections.
    dial: Arc<dyn Dial>,
    /// Who we say we are.
    ehlo: Host,
    /// Our addresses.
    sources: SourceIps,
    /// Failures of hosts that others may improve, by the recipient's place in the claim.
    reopened: Vec<Option<Failure>>,
    /// The host doesn't know BDAT, though it says so.
    without_chunks: bool,
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
        tlsmode: mode_name(TlsMode::Skip, (false, false)),
        kept: None,
        signature: None,
        sessions: SessionResults::default(),
        dial: Arc::clone(&inner.ports.dial),
        ehlo: inner.ehlo(),
        sources: inner.settings.sources.clone(),
        reopened: vec![None; claim.entries.len()],
        without_chunks: false,
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
    Some(Attempted { results, dialed: attempt.dialed, transport, tlsmode: attempt.tlsmode, signature: attempt.signature, kept })
}

impl<'a> Attempt<'a> {
    fn first(&self) -> Option<&'a Entry> {
        self.claim.entries.first()
    }

    /// The transport's name, and what came of using it; results that are there count before that.
    async fn run(&mut self, kept: Option<Kept>) -> (String, Result<(), HostFailure>) {
        self.notice_earlier().await;
        let Some(first) = self.first().filter(|_| !self.open().is_empty()) else { return (String::new(), Ok(())) };
        let late = self.claim.message.deliver_by.filter(|by| by.late == WhenLate::Return && by.at <= self.inner.now());
        if late.is_some() {
            return (String::new(), Err(HostFailure::Failed(Failure::late())));
        }
        let sender_domain = first.sender.as_ref().and_then(|path| path.host.domain());
        let disabled = sender_domain.and_then(|d| self.inner.directory.current().domain(d).map(|s| s.disabled)) == Some(true);
        if disabled {
            let failure = Failure::held(HoldReason::SenderDomain, "domain of sender temporarily disabled");
            return (String::new(), Err(HostFailure::Failed(failure)));
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
            let text = format!("transport {name:?} is not configured");
            // Routes only have transports that there are.
            let failure = if first.transport.is_empty() { Failure::temporary(text) } else { Failure::held(HoldReason::Transport, text) };
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
            (Some(Transport::Direct(direct)), _) => {
                if !direct.from.is_empty() {
                    self.sources = SourceIps { ips: direct.from.clone(), only: true };
                }
                if let Some(hostname) = &direct.hostname {
                    self.ehlo = Host::Domain(hostname.clone());
                }
                self.direct(direct.ipv4, direct.ipv6).await
            }
            (Some(Transport::Socks { dial, hostname }), _) => {
                self.dial = Arc::clone(dial);
                self.ehlo = Host::Domain(hostname.clone());
                self.sources = SourceIps::default();
                self.direct(true, true).await
            }
            (None, _) => self.direct(true, true).await,
        };
        self.note_pressure(&destination, &ran).await;
        (name, ran)
    }

    /// What entries hear that become due during a pause.
    fn paused(&self, destination: &str) -> Option<Failure> {
        let last = self.first().is_some_and(|e| e.attempts >= self.inner.schedule(&e.account).attempts_allowed(e));
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
        let pressed = |f: &&Failure| f.remote.is_some() && !f.elsewhere && (f.code == 421 || f.blames_sending_host(None));
        if let Some(failure) = failed.into_iter().find(pressed) {
            let mut least = PAUSE;
            if failure.blames_sending_host(None) {
                // Each further refusal makes it worse.
                least = BLOCKED_PAUSE;
                self.inner.metrics.blocked.inc();
                let remote = failure.remote.as_ref().map(|remote| remote.name.as_str());
                tracing::error!(destination, remote, reply = failure.text, "our address isn't welcome there: pausing");
            }
            let length = self.inner.pressure.pause(destination, &failure.text, least, self.inner.ports.clock.monotonic());
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
                    self.set(index, Ok(Delivered { code: 250, secode: String::new(), remote, dsn: false, in_time: true }));
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
        // Another host may promise what this one doesn't.
        let picky = self.claim.message.deliver_by.is_some_and(|by| by.late == WhenLate::Return);
        let fits = !picky
            && self.first().is_some_and(|e| e.attempts <= 1 && e.require_tls == kept.require_tls)
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
}

/// “REQUIRETLS support required”, RFC 8689 §5.
pub(super) fn requiretls_failure(permanent: bool, text: &str) -> Failure {
    Failure { permanent, code: 554, secode: REQUIRETLS_SECODE.to_owned(), ..Failure::temporary(text) }
}
