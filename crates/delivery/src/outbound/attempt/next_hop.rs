//! Which hosts an attempt turns to: our own listener, a relay, or the hosts of the recipient's domain one after another.

use super::super::failure::{Failure, Remote};
use super::super::hosts::{Destinations, Server, addresses, destinations, servers};
use super::super::policy::{self, DomainTls};
use super::super::routes::{Relay, RelayTls};
use super::super::sources::SourceIps;
use super::host::Hop;
use super::{Attempt, HostFailure, Manner, requiretls_failure};
use crate::tls::SessionResults;
use mox_base::Host;
use mox_smtp::client::{Timeouts, TlsMode};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

const SMTP_PORT: u16 = 25;

/// For getting a connection ready, and then for all that is said on it but the reply to a complete message. More than enough for one wait that is as
/// long as RFC 5321 §4.5.3.2 allows.
const SESSION_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// The same with our own listener.
const LOCAL_TIMEOUT: Duration = Duration::from_secs(60);

/// The name of the own server in localserve, as DSNs show it.
const LOCAL_NAME: &str = "localhost";

impl Attempt<'_> {
    /// To our own listener, as localserve does.
    pub(super) async fn local(&mut self, address: SocketAddr) -> Result<(), HostFailure> {
        let patience = Duration::from_secs(30);
        let hop = Hop {
            name: LOCAL_NAME.to_owned(),
            port: address.port(),
            mode: TlsMode::Opportunistic,
            tls: self.inner.ports.opportunistic_tls.clone(),
            sni: LOCAL_NAME.to_owned(),
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
            sources: SourceIps::default(),
            manner: Manner { require_eight_bit_mime: false, split: false, patience: LOCAL_TIMEOUT, dual_stack: false, source: None },
        };
        self.host(&hop, vec![address.ip()]).await
    }

    /// Through a relay.
    pub(super) async fn relay(&mut self, name: &str, relay: &Relay) -> Result<(), HostFailure> {
        self.through(relay).await.map_err(|e| match e {
            HostFailure::Failed(failure) => HostFailure::Failed(Failure { text: format!("transport {name}: {}", failure.text), ..failure }),
            other => other,
        })
    }

    async fn through(&mut self, relay: &Relay) -> Result<(), HostFailure> {
        let require_tls = self.first().and_then(|e| e.require_tls);
        if require_tls == Some(true) && !relay.tls.is_verified() {
            // RFC 8689 §4.2.1: no certainty about the next hop.
            return Err(HostFailure::Failed(requiretls_failure(true, "the transport doesn't verify TLS, which the message requires")));
        }
        let (service, Host::Domain(domain)) = (relay.srv, &relay.host) else {
            return self.relay_host(relay, &relay.host, relay.port, true).await;
        };
        let Some(service) = service else { return self.relay_host(relay, &relay.host, relay.port, true).await };
        let ports = &self.inner.ports;
        let (found, authentic) = self.unless_shutdown(servers(&*ports.lookup, &*ports.random, domain, service)).await?;
        let mut last = None;
        for Server { host, port } in found {
            let ended = self.relay_host(relay, &Host::Domain(host), port, authentic).await;
            if self.is_over(ended, &mut last)? {
                return Ok(());
            }
        }
        Err(HostFailure::Failed(self.none_left(last)))
    }

    /// Through one server of a relay. `authentic`: DNSSEC vouches for its name, or the configuration has it.
    async fn relay_host(&mut self, relay: &Relay, host: &Host, port: u16, authentic: bool) -> Result<(), HostFailure> {
        let inner = self.inner;
        // RFC 8689 §3: delivered whatever is wrong with TLS. But who can read what we log in with could send in our name.
        let lenient = relay.auth.is_none() && self.first().and_then(|e| e.require_tls) == Some(false);
        let (mode, verified) = match relay.tls {
            RelayTls::Immediate if lenient => (TlsMode::Immediate, false),
            RelayTls::Required | RelayTls::RequiredUnverified if lenient => (TlsMode::Opportunistic, false),
            RelayTls::Immediate => (TlsMode::Immediate, true),
            RelayTls::Required => (TlsMode::Required, true),
            RelayTls::RequiredUnverified => (TlsMode::Required, false),
            RelayTls::Opportunistic => (TlsMode::Opportunistic, false),
            RelayTls::Plain => (TlsMode::Skip, false),
        };
        let name = host_name(host);
        let remote = Remote::named(name.clone());
        let dialed = self.dialed_before(&name);
        let looking = addresses(&*inner.ports.lookup, host, &dialed, verified && authentic);
        let finding = async { looking.await.map_err(|none| none.failure.at(&remote)) };
        let found = self.unless_shutdown(finding).await?;
        // RFC 6186 §6: a name that anybody could have put into DNS proves nothing.
        let expected = if authentic { host } else { &relay.host };
        let (tls, sni) = if verified {
            let names = (host.domain().filter(|_| authentic && found.authentic), expected, relay.host.domain());
            let looking = async { policy::of_relay(inner, names, port, found.expanded.as_ref()).await.map_err(|f| f.at(&remote)) };
            self.unless_shutdown(looking).await?
        } else {
            (inner.ports.opportunistic_tls.clone(), host_name(expected))
        };
        let hop = Hop {
            name,
            port,
            mode,
            tls,
            sni,
            verified,
            fallback: lenient && mode == TlsMode::Opportunistic,
            policy: None,
            auth: relay.auth.as_ref(),
            timeouts: Timeouts::default(),
            sources: SourceIps::default(),
            manner: Manner {
                require_eight_bit_mime: true,
                split: true,
                patience: SESSION_TIMEOUT,
                dual_stack: found.dual_stack,
                source: None,
            },
        };
        self.host(&hop, found.ips).await
    }

    /// To the recipient's own hosts.
    pub(super) async fn direct(&mut self, ipv4: bool, ipv6: bool) -> Result<(), HostFailure> {
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
        for host in &found.hosts {
            let ended = self.direct_host(host, &found, &domain_tls, (ipv4, ipv6)).await;
            if self.is_over(ended, &mut last)? {
                return Ok(());
            }
        }
        Err(HostFailure::Failed(self.none_left(last)))
    }

    /// Whether the attempt is over after a host: there, results are final. If not, `last` is what the next host may improve.
    fn is_over(&mut self, ended: Result<(), HostFailure>, last: &mut Option<Failure>) -> Result<bool, HostFailure> {
        let failure = match ended {
            // Who was refused for now by this host may have more luck with the next, unless somebody was delivered.
            Ok(()) => match self.reopen() {
                Some(failure) => failure,
                None => return Ok(true),
            },
            Err(HostFailure::Failed(failure)) if failure.permanent && !failure.of_host => return Err(HostFailure::Failed(failure)),
            Err(HostFailure::Failed(failure)) => {
                tracing::debug!(error = failure.text, "next hop failed");
                failure
            }
            Err(other) => return Err(other),
        };
        *last = Some(more_hopeful(last.take(), failure));
        Ok(false)
    }

    /// The failure of an attempt in which no host delivered. Recipients that a host refused for reasons of their own get those.
    fn none_left(&mut self, last: Option<Failure>) -> Failure {
        let last = last.unwrap_or_else(|| Failure::temporary("no host to deliver to"));
        if last.is_requiretls() {
            // Whatever else happened was less hopeful: all hosts lack it.
            return Failure { permanent: true, ..last };
        }
        for (index, failure) in std::mem::take(&mut self.reopened).into_iter().enumerate() {
            // A host that takes no such mail isn't the last word while another may take it later.
            let counts = |failure: &Failure| !failure.permanent || last.permanent;
            if let Some(failure) = failure.filter(counts).filter(|_| self.results.get(index).is_some_and(Option::is_none)) {
                self.set(index, Err(failure));
            }
        }
        last
    }

    /// When nobody was delivered, takes back results that another host may improve; the last of them.
    fn reopen(&mut self) -> Option<Failure> {
        if self.results.iter().any(|r| matches!(r, Some(Ok(_)))) {
            return None;
        }
        let mut last = None;
        for (slot, reopened) in self.results.iter_mut().zip(&mut self.reopened) {
            if matches!(slot, Some(Err(failure)) if !failure.suppressed && (!failure.permanent || failure.of_host))
                && let Some(Err(failure)) = slot.take()
            {
                *reopened = Some(failure.clone());
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
        let name = host_name(host);
        let remote = Remote::named(name.clone());
        inner.metrics.destinations.inc();
        let dialed = self.dialed_before(&name);
        let aliases = policy::dane_is_possible(host, destinations);
        let mut bogus = None;
        let finding = async {
            addresses(&*inner.ports.lookup, host, &dialed, aliases).await.map_err(|none| {
                bogus = none.bogus;
                none.failure.at(&remote)
            })
        };
        let found = self.unless_shutdown(finding).await;
        if let Some(error) = bogus {
            policy::note_bogus(&mut self.sessions, host, &error);
        }
        let found = found?;
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
            tls: tls.config.clone(),
            sni: tls.sni.clone(),
            verified: tls.verified,
            fallback: tls.fallback,
            policy: Some(tls),
            auth: None,
            timeouts: Timeouts::default(),
            sources: self.sources.clone(),
            manner: Manner {
                require_eight_bit_mime: self.inner.settings.pedantic,
                split: true,
                patience: SESSION_TIMEOUT,
                dual_stack: found.dual_stack,
                source: None,
            },
        };
        self.host(&hop, ips).await
    }

    fn dialed_before(&self, host: &str) -> Vec<IpAddr> {
        self.first().map(|e| e.dialed.of(host).to_vec()).unwrap_or_default()
    }
}

/// Of the failures of two hosts, the one that says how the attempt ended: the later, but a temporary one rather than a
/// permanent one, and any rather than a lack of REQUIRETLS, which counts only if all lack it.
fn more_hopeful(before: Option<Failure>, now: Failure) -> Failure {
    match before {
        Some(before) if before.is_requiretls() != now.is_requiretls() => {
            if now.is_requiretls() {
                before
            } else {
                now
            }
        }
        Some(before) if now.permanent && !before.permanent => before,
        _ => now,
    }
}

fn host_name(host: &Host) -> String {
    match host {
        Host::Ip(ip) => ip.to_string(),
        Host::Domain(domain) => domain.ascii().to_owned(),
    }
}
