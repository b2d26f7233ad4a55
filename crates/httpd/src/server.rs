//! Connections and requests: from a socket to the service that answers.
//!
//! What happens to a request, in this order: its client's rate is limited, its path is cleaned, a route is found by host and path,
//! the service answers, the answer is compressed, logged and counted. A panic in a service ends that connection only.

use crate::access::{Counted, Origin, Record};
use crate::body::Body;
use crate::compress::{accepts_gzip, compress};
use crate::h2;
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::pace::{self, Paced};
use crate::request::{Peer, Request, clean, forwarded_for, host};
use crate::router::{Router, plain};
use hyper::body::Incoming;
use hyper::header::{HeaderValue, RETRY_AFTER};
use hyper::service::service_fn;
use hyper::{Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use mox_base::Clock;
use mox_net::tls::ACME_ALPN;
use mox_net::{ServerTls, Stream};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use tokio::io::AsyncWriteExt as _;
use tokio_util::sync::CancellationToken;

/// The largest head of a request.
pub(crate) const MAX_HEAD: usize = 1 << 20;

/// The most header fields of a request.
const MAX_FIELDS: usize = 200;

/// What a client hears that has too many connections.
const TOO_MANY: &[u8] = b"HTTP/1.1 429 Too Many Requests\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 32\r\n\
    Retry-After: 60\r\nConnection: close\r\n\r\n429 - too many open connections\n";

/// What all ports share.
#[derive(Debug)]
pub struct Server {
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    limits: Limits,
    next_id: AtomicI64,
    pub(crate) stop: CancellationToken,
}

/// What a port serves.
#[derive(Debug)]
pub struct Site {
    /// Its services.
    pub router: Router,
    /// Set if connections begin with TLS.
    pub tls: Option<ServerTls>,
    /// Whether what a client may have is limited.
    pub rate_limited: bool,
}

impl Server {
    /// A server. When `stop` is cancelled, connections end after the request they are at.
    pub fn new(clock: Arc<dyn Clock>, metrics: Arc<Metrics>, limits: Limits, stop: CancellationToken) -> Arc<Self> {
        // Numbers go on after a restart.
        let next_id = AtomicI64::new(clock.now().micros().div_euclid(1000));
        Arc::new(Self { clock, metrics, limits, next_id, stop })
    }

    /// Serves a connection until it ends.
    pub async fn connection(self: Arc<Self>, site: Arc<Site>, stream: Stream) {
        let ip = stream.remote_addr().ip();
        // A proxy's connections aren't its clients'.
        let limited = site.rate_limited && !site.router.forwarded();
        let open = if limited { self.limits.open(ip) } else { None };
        if limited && open.is_none() {
            tracing::debug!(target: "net/http", remote = %stream.remote_addr(), "too many open connections");
            return if site.tls.is_some() { drop(stream) } else { refuse(stream).await };
        }
        // Before the handshake, which costs us more than the client.
        if limited && site.tls.is_some() && !self.limits.handshake(ip, self.clock.now()) {
            tracing::debug!(target: "net/http", remote = %stream.remote_addr(), "too many tls handshakes");
            return;
        }
        self.serve(site, stream).await;
        drop(open);
    }

    async fn serve(self: Arc<Self>, site: Arc<Site>, mut stream: Stream) {
        if let Some(tls) = &site.tls
            && let Err(error) = stream.start_tls(tls, &[]).await
        {
            tracing::info!(target: "net/http", %error, remote = %stream.remote_addr(), "https error");
            return;
        }
        if stream.tls().is_some_and(|tls| tls.alpn == ACME_ALPN) {
            // RFC 8737 §3: the handshake was all there is to say.
            tracing::debug!(target: "autotls", remote = %stream.remote_addr(), "answered a question of an acme provider");
            stream.close().await;
            return;
        }
        let peer = Peer { remote: stream.remote_addr(), local: stream.local_addr(), tls: stream.tls().cloned().map(Arc::new) };
        if peer.tls.as_ref().is_some_and(|tls| tls.alpn == h2::ALPN) {
            return self.multiplexed(site, peer, stream).await;
        }
        let remote = peer.remote;
        let answering = pace::Answering::default();
        let io = TokioIo::new(Paced::new(stream, answering.clone()));
        let stop = self.stop.clone();
        let service = service_fn(move |request| {
            let (server, site, peer, answering) = (Arc::clone(&self), Arc::clone(&site), peer.clone(), answering.clone());
            answering.begin();
            async move {
                let response = server.respond(&site, peer, request).await;
                answering.end();
                Ok::<_, Infallible>(response)
            }
        });
        let mut http = hyper::server::conn::http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(pace::IDLE).max_buf_size(MAX_HEAD).max_headers(MAX_FIELDS);
        let mut connection = std::pin::pin!(http.serve_connection(io, service));
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(target: "net/http", %error, %remote, "http error");
        }
    }

    pub(crate) async fn respond(self: Arc<Self>, site: &Site, peer: Peer, request: hyper::Request<Incoming>) -> Response<Counted> {
        let (head, body) = request.into_parts();
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let forwarded = site.router.forwarded();
        let client_ip = if forwarded { forwarded_for(&head.headers) } else { Some(peer.remote.ip()) };
        let origin = Origin { peer: &peer, client_ip: client_ip.filter(|_| forwarded), id };
        let mut record = Record::new(&self.clock, &self.metrics, (&head.method, &head.uri, head.version), &head.headers, &origin);
        let now = self.clock.now();
        let refused = match client_ip.filter(|_| site.rate_limited) {
            None => false,
            Some(ip) if forwarded => {
                record.open = self.limits.open(ip);
                record.open.is_none() || !self.limits.requests.add(ip, now)
            }
            Some(ip) => !self.limits.requests.add(ip, now),
        };
        if refused {
            let mut response = plain(StatusCode::TOO_MANY_REQUESTS, "429 - too many requests");
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("60"));
            return finish(record, "(ratelimited)", response, None);
        }
        let (host, path) = (host(&head.uri, &head.headers), clean(head.uri.path()));
        let Some(route) = site.router.find(&host, &path) else {
            return finish(record, "(nomatch)", plain(StatusCode::NOT_FOUND, "404 page not found"), None);
        };
        let gzip = accepts_gzip(&head.headers);
        let below = path.get(route.path.trim_end_matches('/').len()..).unwrap_or_default();
        let request = Request {
            method: head.method,
            headers: head.headers,
            body,
            host: host.into_name(),
            path: if below.is_empty() { "/".to_owned() } else { below.to_owned() },
            base: route.path.clone(),
            client_ip: if route.forwarded || !forwarded { client_ip } else { Some(peer.remote.ip()) },
            peer,
            id,
        };
        let guard = PanicGuard { metrics: &self.metrics, id };
        let response = route.handler.answer(request).await;
        drop(guard);
        let (response, uncompressed) = compress(response, gzip);
        record.answered(route.label, response.status().as_u16(), uncompressed);
        response.map(|body| Counted::new(body, record))
    }
}

/// Tells a client without TLS that it has too many connections. Nothing depends on whether it listens.
async fn refuse(mut stream: Stream) {
    drop(tokio::time::timeout(pace::WRITE, stream.write_all(TOO_MANY)).await);
    stream.close().await;
}

fn finish(mut record: Record, label: &'static str, response: Response<Body>, uncompressed: Option<usize>) -> Response<Counted> {
    record.answered(label, response.status().as_u16(), uncompressed);
    response.map(|body| Counted::new(body, record))
}

/// Counts a panic, which ends the connection and no other.
struct PanicGuard<'a> {
    metrics: &'a Metrics,
    id: i64,
}

impl Drop for PanicGuard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(cid = self.id, "panic while answering a request");
            self.metrics.panicked("http");
        }
    }
}
