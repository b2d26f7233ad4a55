//! How long clients may take: for the head of a request, and between requests.
//!
//! hyper knows one time for both. Here a connection may be idle for [`IDLE`], but a head that has begun must be complete within
//! [`HEADER`].

use mox_net::Stream;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// For the head of a request.
pub(crate) const HEADER: Duration = Duration::from_secs(30);

/// Between requests: longer than browsers keep idle connections, so that they close them and not we.
pub(crate) const IDLE: Duration = Duration::from_secs(65);

/// Whether a request is being answered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answering(Arc<AtomicBool>);

impl Answering {
    /// A head is complete.
    pub(crate) fn begin(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// The next head may come.
    pub(crate) fn end(&self) {
        self.0.store(false, Ordering::Release);
    }
}

/// A connection that ends when a head takes too long.
#[derive(Debug)]
pub(crate) struct Paced {
    stream: Stream,
    answering: Answering,
    /// Runs while a head is incomplete.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl Paced {
    pub(crate) const fn new(stream: Stream, answering: Answering) -> Self {
        Self { stream, answering, deadline: None }
    }
}

impl AsyncRead for Paced {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if self.answering.0.load(Ordering::Acquire) {
            self.deadline = None;
            return polled;
        }
        if polled.is_ready() && buf.filled().len() > before && self.deadline.is_none() {
            self.deadline = Some(Box::pin(sleep(HEADER)));
        }
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        polled
    }
}

impl AsyncWrite for Paced {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
