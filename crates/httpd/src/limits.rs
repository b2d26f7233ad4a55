//! What one client, or one network of clients, may have of the server: requests, TLS handshakes, connections at the same time.
//!
//! All ports share them. Where a reverse proxy tells who the client is, connections are the proxy's: there a client's requests that
//! are being answered count as its connections, and the proxy takes care of its own.

use mox_base::{IpPrefix, Timestamp};
use mox_net::limit::OpenGuard;
use mox_net::{OpenLimit, RateLimit};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Connections open at the same time: several browsers of a household, and pools of applications that send.
const OPEN: [u32; 3] = [100, 300, 900];

/// In a minute, as many as requests: nobody needs more than one for each.
const HANDSHAKES: [u32; 3] = [1000, 3000, 9000];

/// The limits of clients.
#[derive(Debug)]
pub struct Limits {
    pub(crate) requests: RateLimit,
    handshakes: RateLimit,
    open: Arc<OpenLimit>,
}

impl Limits {
    /// For strangers, some networks spared. Requests: 1000 a minute and 5000 an hour for an address, three and nine times that for
    /// its networks.
    pub fn strangers(spared: &[IpPrefix]) -> Self {
        let (minute, hour) = (Duration::from_secs(60), Duration::from_secs(3600));
        Self {
            requests: RateLimit::new([(minute, [1000, 3000, 9000]), (hour, [5000, 15_000, 45_000])]).sparing(spared),
            handshakes: RateLimit::new([(minute, HANDSHAKES)]).sparing(spared),
            open: Arc::new(OpenLimit::new(OPEN).sparing(spared)),
        }
    }

    /// No limits.
    pub fn none() -> Self {
        Self { requests: RateLimit::new([]), handshakes: RateLimit::new([]), open: Arc::new(OpenLimit::new([u32::MAX; 3])) }
    }

    /// One more connection that is open, if there may be; until the guard is dropped.
    pub(crate) fn open(&self, ip: IpAddr) -> Option<OpenGuard> {
        self.open.open(ip)
    }

    /// One more handshake, if there may be.
    pub(crate) fn handshake(&self, ip: IpAddr, now: Timestamp) -> bool {
        self.handshakes.add(ip, now)
    }
}
