//! Connections that speak HTTP/2, RFC 9113: as many requests at once as its limits allow, each answered as any other.
//!
//! A connection without requests ends as one of HTTP/1.1 does: the first must be complete in 30 seconds, later ones may keep us
//! waiting for 65. It is then told to go, and gone 30 seconds later whatever it does. So is one whose client asks, and then leaves an
//! answer lying: a window of no octets, RFC 9113 §10.5, would keep up to a hundred of them in memory for ever.

use crate::access::Counted;
use crate::pace::{self, Paced};
use crate::request::Peer;
use crate::server::{MAX_HEAD, Server, Site};
use hyper::body::{Bytes, Frame, SizeHint};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use mox_net::Stream;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::TaskTracker;

/// The protocol's name in TLS.
pub(crate) const ALPN: &str = "h2";

/// Requests at once.
const MAX_STREAMS: u32 = 100;

/// Octets that a client may send ahead, of one request and of all.
const REQUEST_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;

/// Octets of a response that are kept until the client takes them.
const MAX_SEND: usize = 64 << 10;

/// Octets of an answer that are handed out at once, and for how long a client may leave them lying.
const PIECE: usize = 64 << 10;
const STUCK: Duration = Duration::from_secs(60);

/// Runs what hyper starts, in tasks that belong to the connection.
#[derive(Clone, Debug)]
struct Tasks(TaskTracker);

impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, task: F) {
        self.0.spawn(task);
    }
}

/// A request that is being answered.
#[derive(Debug)]
struct Active(watch::Sender<usize>);

impl Active {
    fn begin(count: &watch::Sender<usize>) -> Self {
        count.send_modify(|n| *n = n.saturating_add(1));
        Self(count.clone())
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.send_modify(|n| *n = n.saturating_sub(1));
    }
}

/// Since when each answer waits for its client to take some of it.
#[derive(Clone, Debug, Default)]
struct Waiting(Arc<Mutex<BTreeMap<u64, Instant>>>);

impl Waiting {
    fn locked(&self) -> MutexGuard<'_, BTreeMap<u64, Instant>> {
        // Whole between statements.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns once an answer has been waiting for too long.
    async fn too_long(&self) {
        while self.locked().values().all(|since| since.elapsed() < STUCK) {
            sleep(pace::WRITE).await;
        }
    }
}

/// A body whose request is active until it is sent. It is handed out in pieces, each when the client may be sent some more.
#[derive(Debug)]
struct Held {
    body: Counted,
    /// What is left of a piece that was larger.
    rest: Bytes,
    number: u64,
    waiting: Waiting,
    _active: Active,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.waiting.locked().remove(&self.number);
    }
}

impl hyper::body::Body for Held {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let number = self.number;
        if self.rest.is_empty() {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                Poll::Pending => {
                    // It isn't the client that we wait for.
                    self.waiting.locked().remove(&number);
                    return Poll::Pending;
                }
                ended => return ended,
            }
        }
        self.waiting.locked().insert(number, Instant::now());
        let piece = self.rest.len().min(PIECE);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (hint, rest) = (self.body.size_hint(), u64::try_from(self.rest.len()).unwrap_or(u64::MAX));
        hint.exact().map_or_else(SizeHint::default, |size| SizeHint::with_exact(size.saturating_add(rest)))
    }
}

/// Returns once there was no request for so long; after the first, the time between requests counts.
async fn idle(active: &mut watch::Receiver<usize>, mut patience: Duration) {
    loop {
        // The other end is dropped with the connection, which ends everything.
        let resting = active.wait_for(|n| *n == 0).await.is_ok();
        let begun = timeout(patience, active.wait_for(|n| *n > 0)).await.map(|begun| begun.is_ok());
        match (resting, begun) {
            (true, Ok(true)) => patience = pace::IDLE,
            (true, Err(_)) => return,
            (false, _) | (true, Ok(false)) => return std::future::pending().await,
        }
    }
}

impl Server {
    /// Serves a connection that speaks HTTP/2 until it ends.
    pub(crate) async fn multiplexed(self: Arc<Self>, site: Arc<Site>, peer: Peer, stream: Stream) {
        let (stop, remote, tasks) = (self.stop.clone(), peer.remote, TaskTracker::new());
        let (count, mut active) = watch::channel(0_usize);
        let (waiting, numbers) = (Waiting::default(), AtomicU64::new(0));
        let answers = waiting.clone();
        let service = service_fn(move |request| {
            let (server, site, peer, active) = (Arc::clone(&self), Arc::clone(&site), peer.clone(), Active::begin(&count));
            let (number, waiting) = (numbers.fetch_add(1, Ordering::Relaxed), answers.clone());
            async move {
                let response = server.respond(&site, peer, request).await;
                waiting.locked().insert(number, Instant::now());
                Ok::<_, Infallible>(response.map(|body| Held { body, rest: Bytes::new(), number, waiting, _active: active }))
            }
        });
        let mut http = http2::Builder::new(Tasks(tasks));
        http.timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(u32::try_from(MAX_HEAD).unwrap_or(u32::MAX))
            .initial_stream_window_size(REQUEST_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(MAX_SEND);
        let answering = pace::Answering::default();
        answering.begin();
        let mut connection = std::pin::pin!(http.serve_connection(TokioIo::new(Paced::new(stream, answering)), service));
        let ended = tokio::select! {
            ended = connection.as_mut() => Some(ended),
            () = waiting.too_long() => Some(Ok(())),
            () = stop.cancelled() => None,
            () = idle(&mut active, pace::HEADER) => None,
        };
        let ended = match ended {
            Some(ended) => ended,
            None => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = connection.as_mut() => ended,
                    () = waiting.too_long() => Ok(()),
                    // Whoever begins a request now, and doesn't end it, has had its time.
                    () = idle(&mut active, pace::HEADER) => Ok(()),
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(target: "net/http", %error, %remote, "http error");
        }
    }
}
