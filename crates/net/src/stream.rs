//! One connection: plain or TLS, over TCP or in memory.
//!
//! Servers and clients read and write a [`Stream`] and upgrade it in place after STARTTLS. A plain stream is little more than its
//! socket, and the TLS half is boxed, so that ten thousand idle connections stay cheap. [`Stream::readable`] waits
//! without a buffer: a session that idles frees its own and waits there.
//!
//! Nothing here has timeouts but the handshake; callers put theirs around reads and writes.

use crate::tls::{ClientTls, HandshakeError, ServerTls, TlsInfo};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How long a TLS handshake may take, apart from the time for a certificate that isn't there yet.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a peer may take to accept our last bytes when we close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection to a peer.
#[derive(Debug)]
pub struct Stream {
    io: Io,
    local: SocketAddr,
    remote: SocketAddr,
    tls: Option<Box<TlsInfo>>,
}

#[derive(Debug)]
enum Io {
    Plain(Transport),
    Server(Box<tokio_rustls::server::TlsStream<Transport>>),
    Client(Box<tokio_rustls::client::TlsStream<Transport>>),
    /// During a handshake, and after a failed one.
    Closed,
}

/// What carries the bytes, before any TLS, with bytes that were read already in front.
#[derive(Debug)]
struct Transport {
    wire: Wire,
    unread: Option<Box<Unread>>,
}

#[derive(Debug)]
struct Unread {
    bytes: Vec<u8>,
    at: usize,
}

#[derive(Debug)]
enum Wire {
    Tcp(TcpStream),
    Memory(DuplexStream),
}

impl Stream {
    /// A connection over TCP.
    ///
    /// # Errors
    /// When the peer has gone already and its address isn't known any more.
    pub fn tcp(socket: TcpStream) -> io::Result<Self> {
        let (local, remote) = (socket.local_addr()?, socket.peer_addr()?);
        Ok(Self::new(Wire::Tcp(socket), canonical(local), canonical(remote)))
    }

    /// One end of a connection in memory.
    pub fn memory(pipe: DuplexStream, local: SocketAddr, remote: SocketAddr) -> Self {
        Self::new(Wire::Memory(pipe), local, remote)
    }

    /// Two connected ends in memory, each buffering up to 64 KiB; the first is the client's.
    pub fn pair(client: SocketAddr, server: SocketAddr) -> (Self, Self) {
        let (a, b) = tokio::io::duplex(64 * 1024);
        (Self::memory(a, client, server), Self::memory(b, server, client))
    }

    const fn new(wire: Wire, local: SocketAddr, remote: SocketAddr) -> Self {
        Self { io: Io::Plain(Transport { wire, unread: None }), local, remote, tls: None }
    }

    /// Our address.
    pub const fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The peer's address; IPv4 even if the socket is IPv6.
    pub const fn remote_addr(&self) -> SocketAddr {
        self.remote
    }

    /// What TLS agreed on, once it is active.
    pub fn tls(&self) -> Option<&TlsInfo> {
        self.tls.as_deref()
    }

    /// The server's side of a handshake. `unread` are bytes that came after the command that asked for TLS: they go to
    /// TLS, never to the protocol, so that commands injected in the clear end in a TLS error, RFC 3207 §6.
    ///
    /// # Errors
    /// See [`HandshakeError`]; the connection is then closed.
    pub async fn start_tls(&mut self, tls: &ServerTls, unread: &[u8]) -> Result<(), HandshakeError> {
        let transport = self.take_plain(unread)?;
        // Boxed, or every idle session would keep the room for a handshake.
        let (stream, certificate) = Box::pin(tls.accept(transport, HANDSHAKE_TIMEOUT)).await?;
        let (_, connection) = stream.get_ref();
        let leaf = certificate.cert.first().map(AsRef::as_ref);
        self.tls = Some(Box::new(TlsInfo::of_server(connection, connection.server_name(), leaf)));
        self.io = Io::Server(Box::new(stream));
        Ok(())
    }

    /// The client's side of a handshake, with the name the server is known by.
    ///
    /// # Errors
    /// See [`HandshakeError`]; the connection is then closed.
    pub async fn connect_tls(&mut self, tls: &ClientTls, name: &str) -> Result<(), HandshakeError> {
        let server = tls.server_name(name)?;
        let transport = self.take_plain(&[])?;
        let connect = TlsConnector::from(tls.config()).connect(server, transport);
        let stream = tokio::time::timeout(HANDSHAKE_TIMEOUT, connect)
            .await
            .map_err(|_| HandshakeError::Timeout)?
            .map_err(|e| HandshakeError::from_io(&e))?;
        let (_, connection) = stream.get_ref();
        self.tls = Some(Box::new(TlsInfo::of_client(connection, name)));
        self.io = Io::Client(Box::new(stream));
        Ok(())
    }

    /// Goes on as the connection of somebody else, before TLS, with bytes that were read too much.
    pub(crate) fn resume_as(&mut self, ends: Option<(SocketAddr, SocketAddr)>, unread: &[u8]) {
        if let Some((remote, local)) = ends {
            (self.remote, self.local) = (remote, local);
        }
        if let Io::Plain(transport) = &mut self.io {
            transport.put_back(unread);
        }
    }

    fn take_plain(&mut self, unread: &[u8]) -> Result<Transport, HandshakeError> {
        match std::mem::replace(&mut self.io, Io::Closed) {
            Io::Plain(mut transport) => {
                transport.put_back(unread);
                Ok(transport)
            }
            other => {
                self.io = other;
                Err(HandshakeError::NotPlain)
            }
        }
    }

    /// The `tls-server-end-point` channel binding of this connection, RFC 5929 §4; none if the server's certificate doesn't allow one.
    pub fn server_end_point(&self) -> Option<&[u8]> {
        self.tls.as_ref()?.server_end_point.as_deref()
    }

    /// The `tls-exporter` channel binding of this connection, RFC 9266; none below TLS 1.3, where it isn't defined by default.
    pub fn channel_binding(&self) -> Option<[u8; 32]> {
        // RFC 9266 §4: the label, an empty context, 32 bytes. Below TLS 1.3 it needs the extended master secret, which
        // can't be told from here, so it isn't offered.
        if self.tls.as_ref().is_none_or(|tls| tls.version != "TLS1.3") {
            return None;
        }
        let out = [0; 32];
        let label = b"EXPORTER-Channel-Binding";
        match &self.io {
            Io::Server(s) => s.get_ref().1.export_keying_material(out, label, Some(&[])).ok(),
            Io::Client(s) => s.get_ref().1.export_keying_material(out, label, Some(&[])).ok(),
            Io::Plain(_) | Io::Closed => None,
        }
    }

    /// Waits until a read would give bytes, the end or an error, without needing a buffer. May return early.
    /// Cancellation-safe: nothing is lost when dropped.
    ///
    /// # Errors
    /// When the connection failed.
    pub async fn readable(&mut self) -> io::Result<()> {
        poll_fn(|cx| match &mut self.io {
            Io::Plain(transport) => transport.poll_readable(cx),
            Io::Server(s) => Pin::new(s.as_mut()).poll_fill_buf(cx).map_ok(|_| ()),
            Io::Client(s) => Pin::new(s.as_mut()).poll_fill_buf(cx).map_ok(|_| ()),
            Io::Closed => Poll::Ready(Err(closed())),
        })
        .await
    }

    /// Sends what is buffered and ends the connection in good order, giving up on a peer that doesn't listen.
    pub async fn close(mut self) {
        // Whether the peer heard our goodbye changes nothing.
        drop(tokio::time::timeout(CLOSE_TIMEOUT, self.shutdown()).await);
    }
}

impl Transport {
    fn put_back(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let mut all = bytes.to_vec();
        if let Some(unread) = self.unread.take() {
            all.extend_from_slice(unread.bytes.get(unread.at..).unwrap_or_default());
        }
        self.unread = Some(Box::new(Unread { bytes: all, at: 0 }));
    }

    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.unread.is_some() {
            return Poll::Ready(Ok(()));
        }
        match &mut self.wire {
            Wire::Tcp(tcp) => tcp.poll_read_ready(cx),
            Wire::Memory(pipe) => {
                let mut few = [0; 64];
                let mut buf = ReadBuf::new(&mut few);
                ready!(Pin::new(pipe).poll_read(cx, &mut buf))?;
                let got = buf.filled().to_vec();
                self.put_back(&got);
                Poll::Ready(Ok(()))
            }
        }
    }
}

/// The IPv4 address in an IPv4-mapped one.
fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "connection closed by a failed TLS handshake")
}

impl AsyncRead for Transport {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(unread) = &mut self.unread {
            let rest = unread.bytes.get(unread.at..).unwrap_or_default();
            let n = rest.len().min(buf.remaining());
            buf.put_slice(rest.get(..n).unwrap_or_default());
            unread.at = unread.at.saturating_add(n);
            if unread.at >= unread.bytes.len() {
                self.unread = None;
            }
            return Poll::Ready(Ok(()));
        }
        match &mut self.wire {
            Wire::Tcp(s) => Pin::new(s).poll_read(cx, buf),
            Wire::Memory(s) => Pin::new(s).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.wire {
            Wire::Tcp(s) => Pin::new(s).poll_write(cx, buf),
            Wire::Memory(s) => Pin::new(s).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match &mut self.wire {
            Wire::Tcp(s) => Pin::new(s).poll_write_vectored(cx, bufs),
            Wire::Memory(s) => Pin::new(s).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.wire {
            Wire::Tcp(s) => s.is_write_vectored(),
            Wire::Memory(s) => s.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.wire {
            Wire::Tcp(s) => Pin::new(s).poll_flush(cx),
            Wire::Memory(s) => Pin::new(s).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.wire {
            Wire::Tcp(s) => Pin::new(s).poll_shutdown(cx),
            Wire::Memory(s) => Pin::new(s).poll_shutdown(cx),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(s) => Pin::new(s).poll_read(cx, buf),
            Io::Server(s) => Pin::new(s.as_mut()).poll_read(cx, buf),
            Io::Client(s) => Pin::new(s.as_mut()).poll_read(cx, buf),
            Io::Closed => Poll::Ready(Err(closed())),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.io {
            Io::Plain(s) => Pin::new(s).poll_write(cx, buf),
            Io::Server(s) => Pin::new(s.as_mut()).poll_write(cx, buf),
            Io::Client(s) => Pin::new(s.as_mut()).poll_write(cx, buf),
            Io::Closed => Poll::Ready(Err(closed())),
        }
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match &mut self.io {
            Io::Plain(s) => Pin::new(s).poll_write_vectored(cx, bufs),
            Io::Server(s) => Pin::new(s.as_mut()).poll_write_vectored(cx, bufs),
            Io::Client(s) => Pin::new(s.as_mut()).poll_write_vectored(cx, bufs),
            Io::Closed => Poll::Ready(Err(closed())),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.io {
            Io::Plain(s) => s.is_write_vectored(),
            Io::Server(s) => s.is_write_vectored(),
            Io::Client(s) => s.is_write_vectored(),
            Io::Closed => false,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(s) => Pin::new(s).poll_flush(cx),
            Io::Server(s) => Pin::new(s.as_mut()).poll_flush(cx),
            Io::Client(s) => Pin::new(s.as_mut()).poll_flush(cx),
            Io::Closed => Poll::Ready(Err(closed())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(s) => Pin::new(s).poll_shutdown(cx),
            Io::Server(s) => Pin::new(s.as_mut()).poll_shutdown(cx),
            Io::Client(s) => Pin::new(s.as_mut()).poll_shutdown(cx),
            Io::Closed => Poll::Ready(Ok(())),
        }
    }
}
