//! Listening sockets, and the loop that accepts connections.
//!
//! [`Sockets`] hands out listeners: it binds them, or gives those bound earlier (by the privileged start of the
//! process). [`serve`] accepts until told to stop and runs a task per connection: a panic there ends that connection
//! only. Limits: the number of connections served at once; when it is reached, further ones wait in the backlog.

use crate::stream::Stream;
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Connections that the kernel keeps for us until they are accepted.
const BACKLOG: i32 = 4096;

/// Why an address can't be listened on.
#[derive(Debug, thiserror::Error)]
#[error("listening on {addr}: {source}")]
pub struct BindError {
    /// The address.
    pub addr: SocketAddr,
    /// In use, not ours, or not allowed.
    pub source: io::Error,
}

/// A socket that accepts connections.
#[derive(Debug)]
pub struct Listener {
    addr: SocketAddr,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Tcp(TcpListener),
    Memory(mpsc::Receiver<Stream>),
}

impl Listener {
    /// Binds an address, for its own family only: `0.0.0.0` and `::` can both be bound. Needs a tokio runtime.
    ///
    /// # Errors
    /// See [`BindError`].
    pub fn bind(addr: SocketAddr) -> Result<Self, BindError> {
        Self::from_std(bind(addr)?).map_err(|source| BindError { addr, source })
    }

    /// From a bound socket that listens already. Needs a tokio runtime.
    ///
    /// # Errors
    /// When the socket is of no use.
    pub fn from_std(socket: std::net::TcpListener) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let addr = socket.local_addr()?;
        Ok(Self { addr, source: Source::Tcp(TcpListener::from_std(socket)?) })
    }

    pub(crate) const fn memory(addr: SocketAddr, from: mpsc::Receiver<Stream>) -> Self {
        Self { addr, source: Source::Memory(from) }
    }

    /// The address bound, with the port chosen when 0 was asked for.
    pub const fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Waits for the next connection. Cancellation-safe.
    ///
    /// # Errors
    /// When out of descriptors or memory: wait a little and try again. Connections that broke before they were accepted are skipped.
    pub async fn accept(&mut self) -> io::Result<Stream> {
        match &mut self.source {
            Source::Tcp(listener) => loop {
                let (socket, _) = listener.accept().await?;
                set_options(&socket);
                // Fails when the peer has gone already.
                if let Ok(stream) = Stream::tcp(socket) {
                    return Ok(stream);
                }
            },
            Source::Memory(from) => match from.recv().await {
                Some(stream) => Ok(stream),
                // Its world is gone; nobody can dial any more.
                None => std::future::pending().await,
            },
        }
    }
}

/// Binds and listens, without a runtime.
///
/// # Errors
/// See [`BindError`].
pub fn bind(addr: SocketAddr) -> Result<std::net::TcpListener, BindError> {
    let open = || -> io::Result<std::net::TcpListener> {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
        if addr.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        // Without it, a restart would have to wait for the last connections' TIME_WAIT.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&addr.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    open().map_err(|source| BindError { addr, source })
}

/// No waiting for more bytes to send; dead peers noticed. Failing to set either is no reason to refuse a connection.
pub(crate) fn set_options(socket: &TcpStream) {
    drop(socket.set_nodelay(true));
    let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(120)).with_interval(Duration::from_secs(30));
    drop(socket2::SockRef::from(socket).set_tcp_keepalive(&keepalive));
}

/// Where listeners come from: bound on demand, or bound earlier, while we were privileged.
#[derive(Debug, Default)]
pub struct Sockets {
    bound: BTreeMap<SocketAddr, std::net::TcpListener>,
}

impl Sockets {
    /// Binds on demand only.
    pub fn new() -> Self {
        Self::default()
    }

    /// Binds an address now, for [`Self::listener`] to give out later. Needs no runtime.
    ///
    /// # Errors
    /// See [`BindError`].
    pub fn prepare(&mut self, addr: SocketAddr) -> Result<(), BindError> {
        let socket = bind(addr)?;
        self.bound.insert(addr, socket);
        Ok(())
    }

    /// The listener for an address: the prepared one, else one bound now. Needs a tokio runtime.
    ///
    /// # Errors
    /// See [`BindError`].
    pub fn listener(&mut self, addr: SocketAddr) -> Result<Listener, BindError> {
        match self.bound.remove(&addr) {
            Some(socket) => Listener::from_std(socket).map_err(|source| BindError { addr, source }),
            None => Listener::bind(addr),
        }
    }
}

/// What [`serve`] needs besides a listener.
#[derive(Clone, Debug)]
pub struct Serving {
    /// Owns the connections' tasks, so that shutdown can wait for them.
    pub tracker: TaskTracker,
    /// Ends accepting. Connections have to watch it themselves.
    pub stop: CancellationToken,
    /// One permit per connection, shared by as many listeners as are limited together.
    pub connections: Arc<Semaphore>,
}

/// Accepts connections and runs a task for each, until stopped. The listener is closed when this returns.
pub async fn serve<F>(mut listener: Listener, serving: Serving, handle: impl Fn(Stream) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let Serving { tracker, stop, connections } = serving;
    let mut pause = Duration::ZERO;
    loop {
        let next = async {
            // Not even for no time: tokio's timer would let a millisecond pass for each connection.
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            // Closed by nobody; were it, no connection could be served any more.
            let permit = Arc::clone(&connections).acquire_owned().await.map_err(io::Error::other)?;
            Ok::<_, io::Error>((permit, listener.accept().await?))
        };
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = next => accepted,
        };
        match accepted {
            Ok((permit, stream)) => {
                pause = Duration::ZERO;
                let connection = handle(stream);
                tracker.spawn(async move {
                    connection.await;
                    drop(permit);
                });
            }
            Err(error) => {
                // Out of descriptors: others will be closed, and accepting in a tight loop only makes it worse.
                pause = pause.saturating_mul(2).clamp(Duration::from_millis(10), Duration::from_secs(1));
                tracing::warn!(%error, addr = %listener.local_addr(), "accepting connection");
            }
        }
    }
}
