//! Making connections, behind a port so that tests dial within memory.

use crate::stream::Stream;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::time::Duration;
use tokio::net::TcpSocket;

/// Why there is no connection. All are worth another try later.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The peer didn't answer in time.
    #[error("timeout connecting")]
    Timeout,
    /// We have no address of the family of the peer's.
    #[error("no local address of the same family")]
    LocalAddress,
    /// Refused, unreachable, or out of resources.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// What [`Dial::dial`] returns.
pub type DialFuture<'a> = Pin<Box<dyn Future<Output = Result<Stream, DialError>> + Send + 'a>>;

/// Connects to peers.
pub trait Dial: Send + Sync + fmt::Debug {
    /// Connects to an address, from one of ours if given.
    fn dial(&self, to: SocketAddr, from: Option<IpAddr>) -> DialFuture<'_>;
}

/// Connects over TCP.
#[derive(Clone, Copy, Debug)]
pub struct TcpDial {
    /// How long connecting may take.
    pub timeout: Duration,
}

impl Default for TcpDial {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(30) }
    }
}

impl Dial for TcpDial {
    fn dial(&self, to: SocketAddr, from: Option<IpAddr>) -> DialFuture<'_> {
        Box::pin(async move {
            let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            if let Some(from) = from {
                if from.is_ipv4() != to.is_ipv4() {
                    return Err(DialError::LocalAddress);
                }
                socket.bind(SocketAddr::new(from, 0))?;
            }
            let connected = tokio::time::timeout(self.timeout, socket.connect(to)).await.map_err(|_| DialError::Timeout)??;
            crate::listen::set_options(&connected);
            Ok(Stream::tcp(connected)?)
        })
    }
}
