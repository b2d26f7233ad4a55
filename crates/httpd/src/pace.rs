//! How long clients may take: for the head of a request, between requests, and for taking some of an answer.
//!
//! hyper knows one time for the first two, and none for the last. Here a connection may be idle for [`IDLE`], but a head that has
//! begun must be complete within [`HEADER`]; and what we write must get on within [`WRITE`].

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

/// For taking some of what we write.
pub(crate) const WRITE: Duration = Duration::from_secs(30);

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

/// A connection that ends when a head takes too long, or its client takes nothing of what it asked for.
#[derive(Debug)]
pub(crate) struct Paced {
    stream: Stream,
    answering: Answering,
    /// Runs while a head is incomplete.
    deadline: Option<Pin<Box<Sleep>>>,
    /// Runs while the client takes nothing.
    stuck: Option<Pin<Box<Sleep>>>,
}

impl Paced {
    pub(crate) const fn new(stream: Stream, answering: Answering) -> Self {
        Self { stream, answering, deadline: None, stuck: None }
    }

    /// What came of writing, unless it has been stuck for too long.
    fn written<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.stuck = None;
            return polled;
        }
        match self.stuck.get_or_insert_with(|| Box::pin(sleep(WRITE))).as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
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
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.written(cx, polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        self.written(cx, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.written(cx, polled)
    }
}
