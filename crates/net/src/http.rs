//! A client for web servers: webhooks, MTA-STS policies, ACME.
//!
//! [`Client::send`] makes one request and gives the answer whatever its status; redirects are never followed. Everything has a
//! limit: the time for all of it, the answer's headers, and its body. Addresses are judged by an [`AddressGuard`] after the
//! lookup. Connections are kept for a few seconds, at most two idle ones per host. HTTP/1.1 over TCP or TLS, by the same [`Dial`]
//! and [`ClientTls`] as everything else; through [`Proxies`] if it is given some.

mod guard;
mod pool;
mod proxy;
mod url;

pub use guard::{AddressGuard, is_public};
pub use hyper::header;
pub use hyper::{HeaderMap, Method};
pub use proxy::{Proxies, ProxyError};
pub use url::{Url, UrlError, UrlHost};

use crate::dial::{Dial, DialError};
use crate::metrics::NetMetrics;
use crate::socks::SocksDial;
use crate::stream::Stream;
use crate::tls::{ClientTls, HandshakeError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{AUTHORIZATION, HOST, HeaderValue, PROXY_AUTHORIZATION};
use hyper_util::rt::TokioIo;
use mox_base::{Lookup, LookupError};
use pool::{Key, Pool};
use proxy::Proxy;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::task::TaskTracker;

/// The most bytes of an answer's headers.
const MAX_HEADERS: usize = 64 * 1024;

/// The most addresses of a name that are tried.
const MAX_ADDRESSES: usize = 8;

/// A request.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// Where to. User and password in it become an Authorization header, unless there is one.
    pub url: Url,
    /// Headers besides Host and those about the length.
    pub headers: HeaderMap,
    /// The body, empty for none.
    pub body: Bytes,
    /// How long all of it may take.
    pub timeout: Duration,
    /// How many bytes of the answer's body are kept.
    pub max_body: usize,
}

impl Request {
    /// A request without body and headers, that may take a minute and gives up to 64 KiB.
    #[must_use]
    pub fn new(method: Method, url: Url) -> Self {
        Self { method, url, headers: HeaderMap::new(), body: Bytes::new(), timeout: Duration::from_secs(60), max_body: 64 * 1024 }
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// Its status code.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, as far as the request wanted it.
    pub body: Vec<u8>,
    /// Whether there was more.
    pub truncated: bool,
}

impl Response {
    /// The text that registries give for the status; empty for one that isn't registered.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        hyper::StatusCode::from_u16(self.status).ok().and_then(|status| status.canonical_reason()).unwrap_or_default()
    }

    /// A header's value, if it is there once and readable.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Whether a status code is one of those that registries know.
#[must_use]
pub fn is_registered(status: u16) -> bool {
    hyper::StatusCode::from_u16(status).is_ok_and(|status| status.canonical_reason().is_some())
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The host's name leads nowhere.
    #[error("looking up {0}: {1}")]
    Lookup(String, LookupError),
    /// The host's addresses are ones to which requests don't go.
    #[error("{0} is not a public address, and not allowed by the configuration")]
    Forbidden(IpAddr),
    /// A proxy doesn't do what it is asked for.
    #[error("proxy {0}: {1}")]
    Proxy(String, std::io::Error),
    /// No connection.
    #[error("connecting: {0}")]
    Dial(#[from] DialError),
    /// No TLS.
    #[error("TLS: {0}")]
    Tls(#[from] HandshakeError),
    /// The connection broke, or what came over it isn't HTTP.
    #[error("http: {0}")]
    Protocol(#[from] hyper::Error),
    /// A header that can't be sent.
    #[error("bad request: {0}")]
    Request(#[from] hyper::http::Error),
    /// The time is over.
    #[error("timeout")]
    Timeout,
}

/// A client. Clones share its connections.
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<Inner>,
    counted: Option<(NetMetrics, &'static str)>,
}

#[derive(Debug)]
struct Inner {
    lookup: Arc<dyn Lookup>,
    dial: Arc<dyn Dial>,
    tls: ClientTls,
    guard: AddressGuard,
    proxies: Proxies,
    pool: Arc<Pool>,
    tasks: TaskTracker,
}

impl Client {
    /// A client that verifies certificates as `tls` does, and connects where `guard` permits.
    #[must_use]
    pub fn new(lookup: Arc<dyn Lookup>, dial: Arc<dyn Dial>, tls: ClientTls, guard: AddressGuard) -> Self {
        Self::through(lookup, dial, tls, guard, Proxies::default())
    }

    /// The same, through proxies. What a proxy connects to by name is its own to judge: the guard sees addresses in URLs only.
    #[must_use]
    pub fn through(lookup: Arc<dyn Lookup>, dial: Arc<dyn Dial>, tls: ClientTls, guard: AddressGuard, proxies: Proxies) -> Self {
        let (pool, tasks) = (Arc::new(Pool::default()), TaskTracker::new());
        Self { inner: Arc::new(Inner { lookup, dial, tls, guard, proxies, pool, tasks }), counted: None }
    }

    /// The same, its requests counted as somebody's.
    #[must_use]
    pub fn counted(self, metrics: &NetMetrics, pkg: &'static str) -> Self {
        Self { counted: Some((metrics.clone(), pkg)), ..self }
    }

    /// Makes a request.
    ///
    /// Not cancellation-safe: when the future is dropped, the server may have acted on the request.
    ///
    /// # Errors
    /// See [`HttpError`]; an answer with any status is none.
    pub async fn send(&self, request: Request) -> Result<Response, HttpError> {
        let timeout = request.timeout;
        let timer = self.counted.as_ref().map(|(metrics, pkg)| metrics.request(pkg, &request.method));
        let result = tokio::time::timeout(timeout, self.exchange(request)).await.unwrap_or(Err(HttpError::Timeout));
        match (timer, &result) {
            (None, _) => {}
            (Some(timer), Ok(answer)) => timer.answered(answer.status),
            (Some(timer), Err(HttpError::Timeout)) => timer.failed("timeout"),
            (Some(timer), Err(_)) => timer.failed("error"),
        }
        result
    }

    /// Closes idle connections. Requests that are being made end by themselves.
    pub fn close(&self) {
        self.inner.pool.clear();
    }

    async fn exchange(&self, request: Request) -> Result<Response, HttpError> {
        let (key, max_body) = (Key::of(&request.url), request.max_body);
        let url = request.url.clone();
        let proxy = self.inner.proxies.of(&url).filter(|proxy| !proxy.socks);
        let mut message = message(request, proxy.filter(|_| !url.https))?;
        // A kept connection may have been closed by the server. What surely wasn't sent can be sent again.
        while let Some(mut kept) = self.inner.pool.take(&key) {
            match kept.try_send_request(message).await {
                Ok(answer) => return self.answer(key, kept, answer, max_body).await,
                Err(mut e) => match e.take_message() {
                    Some(unsent) => message = unsent,
                    None => return Err(e.into_error().into()),
                },
            }
        }
        let mut connection = self.connect(&url).await?;
        let answer = connection.send_request(message).await?;
        self.answer(key, connection, answer, max_body).await
    }

    async fn answer(
        &self,
        key: Key,
        mut connection: SendRequest<Full<Bytes>>,
        answer: hyper::Response<Incoming>,
        max_body: usize,
    ) -> Result<Response, HttpError> {
        let (head, mut incoming) = answer.into_parts();
        let mut body = Vec::new();
        let mut truncated = false;
        while let Some(frame) = incoming.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            let room = max_body.saturating_sub(body.len());
            body.extend_from_slice(data.get(..room).unwrap_or(&data));
            if data.len() > room {
                truncated = true;
                break;
            }
        }
        // The connection is usable again only when all of the answer was read.
        if !truncated && connection.ready().await.is_ok() && self.inner.pool.give(key, connection) {
            let pool = Arc::clone(&self.inner.pool);
            self.inner.tasks.spawn(async move { pool.expire().await });
        }
        Ok(Response { status: head.status.as_u16(), headers: head.headers, body, truncated })
    }

    async fn connect(&self, url: &Url) -> Result<SendRequest<Full<Bytes>>, HttpError> {
        let Inner { lookup, dial, tls, tasks, proxies, guard, .. } = &*self.inner;
        let mut stream = match proxies.of(url) {
            None => self.open(url, &**dial, true).await?,
            Some(proxy) if proxy.socks => {
                let (through, lookup) = (Arc::clone(dial), Arc::clone(lookup));
                let dial = SocksDial { through, lookup, host: proxy.url.host.to_string(), port: proxy.url.port, login: None };
                self.open(url, &dial, true).await?
            }
            Some(proxy) => {
                if let UrlHost::Ip(ip) = &url.host
                    && !guard.permits(*ip)
                {
                    return Err(HttpError::Forbidden(*ip));
                }
                // Whoever set it up wants it, wherever it is.
                let mut stream = self.open(&proxy.url, &**dial, false).await?;
                if url.https {
                    proxy::tunnel(&mut stream, url, proxy).await.map_err(|e| HttpError::Proxy(proxy.url.authority(), e))?;
                }
                stream
            }
        };
        if url.https {
            stream.connect_tls(tls, &url.host.to_string()).await?;
        }
        let (sender, connection) = http1::Builder::new().max_buf_size(MAX_HEADERS).handshake(TokioIo::new(stream)).await?;
        tasks.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection of http client");
            }
        });
        Ok(sender)
    }

    /// A connection to the host of a URL.
    async fn open(&self, url: &Url, dial: &dyn Dial, guarded: bool) -> Result<Stream, HttpError> {
        let ips = match &url.host {
            UrlHost::Ip(ip) => vec![*ip],
            UrlHost::Name(name) => self.resolve(name).await?,
        };
        let permits = |ip: &IpAddr| !guarded || self.inner.guard.permits(*ip);
        let permitted: Vec<IpAddr> = ips.iter().copied().filter(permits).take(MAX_ADDRESSES).collect();
        if let (true, Some(ip)) = (permitted.is_empty(), ips.first()) {
            return Err(HttpError::Forbidden(*ip));
        }
        let mut failed = DialError::LocalAddress;
        for ip in permitted {
            match dial.dial(SocketAddr::new(ip, url.port), None).await {
                Ok(stream) => return Ok(stream),
                Err(e) => failed = e,
            }
        }
        Err(failed.into())
    }

    async fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, HttpError> {
        // RFC 6761 §6.3: never asked of the DNS.
        if name == "localhost" || name.ends_with(".localhost") {
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        let answer = self.inner.lookup.ips(name).await.map_err(|e| HttpError::Lookup(name.to_owned(), e))?;
        Ok(answer.records)
    }
}

/// The request as it is sent: with the whole URL to a proxy, RFC 9112 §3.2.2.
fn message(request: Request, proxy: Option<&Proxy>) -> Result<hyper::Request<Full<Bytes>>, HttpError> {
    let Request { method, url, headers, body, .. } = request;
    let target = if proxy.is_some() { format!("http://{}{}", url.authority(), url.path) } else { url.path.clone() };
    let mut message = hyper::Request::builder().method(method).uri(target).body(Full::new(body))?;
    *message.headers_mut() = headers;
    let host = HeaderValue::try_from(url.authority()).map_err(hyper::http::Error::from)?;
    message.headers_mut().insert(HOST, host);
    if let Some(value) = proxy.and_then(Proxy::authorization) {
        let mut value = HeaderValue::try_from(value).map_err(hyper::http::Error::from)?;
        value.set_sensitive(true);
        message.headers_mut().insert(PROXY_AUTHORIZATION, value);
    }
    if let Some((user, password)) = url.user.filter(|_| !message.headers().contains_key(AUTHORIZATION)) {
        let basic = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
        let mut basic = HeaderValue::try_from(basic).map_err(hyper::http::Error::from)?;
        basic.set_sensitive(true);
        message.headers_mut().insert(AUTHORIZATION, basic);
    }
    Ok(message)
}
