//! Which hosts an attempt turns to: our own listener, a relay, or the hosts of the recipient's domain one after another.

use super::super::failure::{Failure, Remote};
use super::super::hosts::{Destinations, addresses, destinations};
use super::super::policy::{self, DomainTls};
use super::super::routes::{Relay, RelayTls, relay_patience};
use super::host::Hop;
use super::{Attempt, HostFailure, Manner, requiretls_failure};
use crate::tls::SessionResults;
use mox_base::Host;
use mox_smtp::client::{Timeouts, TlsMode};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

const SMTP_PORT: u16 = 25;

/// For all that is said on one connection.
const SESSION_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// For getting a connection to a relay ready.
const RELAY_SETUP: Duration = Duration::from_secs(60);

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
    pub(super) async fn relay(&mut self, name: &str, relay: &Relay) -> Result<(), HostFailure> {
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
        let finding = async { Ok(addresses(&*self.inner.ports.lookup, &relay.host, &dialed, false).await?) };
        let found = self.unless_shutdown(finding).await.map_err(|e| match e {
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
    pub(super) fn reopen(&mut self) -> Option<Failure> {
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

    pub(super) async fn direct_host(
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

    pub(super) fn dialed_before(&self, host: &str) -> Vec<IpAddr> {
        self.first().map(|e| e.dialed.of(host).to_vec()).unwrap_or_default()
    }
}

/// Of the failures of two hosts, the one that says how the attempt ended: the later, but a temporary one rather than a
/// permanent one.
fn more_hopeful(before: Option<Failure>, now: Failure) -> Failure {
    match before {
        Some(before) if now.permanent && !before.permanent => before,
        _ => now,
    }
}

fn host_ip(host: &Host) -> String {
    match host {
        Host::Ip(ip) => ip.to_string(),
        Host::Domain(domain) => domain.ascii().to_owned(),
    }
}
