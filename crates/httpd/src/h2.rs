//! Connections that speak HTTP/2, RFC 9113: as many requests at once as its limits allow, each answered as any other.
//!
//! A connection without requests ends as one of HTTP/1.1 does: the first must be complete in 30 seconds, later ones may keep us
//! waiting for 65. It is then told to go, and gone 30 seconds later whatever it does.

use crate::access::Counted;
use crate::pace;
use crate::request::Peer;
use crate::server::{MAX_HEAD, Server, Site};
use hyper::body::{Bytes, Frame, SizeHint};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use mox_net::Stream;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;
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

/// A body whose request is active until it is sent.
#[derive(Debug)]
struct Held {
    body: Counted,
    _active: Active,
}

impl hyper::body::Body for Held {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
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
        let service = service_fn(move |request| {
            let (server, site, peer, active) = (Arc::clone(&self), Arc::clone(&site), peer.clone(), Active::begin(&count));
            async move {
                let response = server.respond(&site, peer, request).await;
                Ok::<_, Infallible>(response.map(|body| Held { body, _active: active }))
            }
        });
        let mut http = http2::Builder::new(Tasks(tasks));
        http.timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(u32::try_from(MAX_HEAD).unwrap_or(u32::MAX))
            .initial_stream_window_size(REQUEST_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(MAX_SEND);
        let mut connection = std::pin::pin!(http.serve_connection(TokioIo::new(stream), service));
        let ended = tokio::select! {
            ended = connection.as_mut() => Some(ended),
            () = stop.cancelled() => None,
            () = idle(&mut active, pace::HEADER) => None,
        };
        let ended = match ended {
            Some(ended) => ended,
            None => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = connection.as_mut() => ended,
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
