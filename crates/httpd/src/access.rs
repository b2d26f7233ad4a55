//! The access log and the metrics of requests.

use crate::body::Body;
use crate::metrics::Metrics;
use crate::request::{Peer, text};
use hyper::body::{Bytes, Frame, SizeHint};
use hyper::header::{HOST, HeaderMap, REFERER, USER_AGENT};
use hyper::{Method, Uri, Version};
use mox_base::Clock;
use mox_net::limit::OpenGuard;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// Methods of the registry of HTTP methods, by which requests are counted.
const METHODS: [&str; 40] = [
    "acl",
    "baseline-control",
    "bind",
    "checkin",
    "checkout",
    "connect",
    "copy",
    "delete",
    "get",
    "head",
    "label",
    "link",
    "lock",
    "merge",
    "mkactivity",
    "mkcalendar",
    "mkcol",
    "mkredirectref",
    "mkworkspace",
    "move",
    "options",
    "orderpatch",
    "patch",
    "post",
    "pri",
    "propfind",
    "proppatch",
    "put",
    "rebind",
    "report",
    "search",
    "trace",
    "unbind",
    "uncheckout",
    "unlink",
    "unlock",
    "update",
    "updateredirectref",
    "version-control",
    "query",
];

/// A method's label: nobody can make us count under names of their own.
fn method_label(method: &Method) -> &'static str {
    METHODS.into_iter().find(|m| m.eq_ignore_ascii_case(method.as_str())).unwrap_or("(other)")
}

/// What is logged of a request, gathered when it arrives.
#[derive(Debug)]
pub(crate) struct Record {
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    start: Duration,
    handler: &'static str,
    method: &'static str,
    code: u16,
    url: String,
    host: String,
    proto: &'static str,
    peer: Peer,
    client_ip: Option<IpAddr>,
    user_agent: String,
    referer: String,
    id: i64,
    size: u64,
    uncompressed: Option<usize>,
    complete: bool,
    /// Behind a proxy, the request counts as a connection of its client.
    pub(crate) open: Option<OpenGuard>,
}

/// Where a request came from.
pub(crate) struct Origin<'a> {
    pub(crate) peer: &'a Peer,
    /// Where a proxy tells it.
    pub(crate) client_ip: Option<IpAddr>,
    pub(crate) id: i64,
}

impl Record {
    pub(crate) fn new(
        clock: &Arc<dyn Clock>,
        metrics: &Arc<Metrics>,
        (method, uri, version): (&Method, &Uri, Version),
        headers: &HeaderMap,
        origin: &Origin<'_>,
    ) -> Self {
        let logged = tracing::enabled!(target: "http", tracing::Level::DEBUG);
        let of = |text: &str| if logged { text.to_owned() } else { String::new() };
        Self {
            clock: Arc::clone(clock),
            metrics: Arc::clone(metrics),
            start: clock.monotonic(),
            handler: "(nomatch)",
            method: method_label(method),
            code: 0,
            url: if logged { uri.to_string() } else { String::new() },
            host: of(uri.authority().map_or_else(|| text(headers, &HOST), |a| a.as_str())),
            proto: match version {
                Version::HTTP_10 => "http/1.0",
                Version::HTTP_2 => "http/2.0",
                _ => "http/1.1",
            },
            peer: origin.peer.clone(),
            client_ip: origin.client_ip,
            user_agent: of(text(headers, &USER_AGENT)),
            referer: of(text(headers, &REFERER)),
            id: origin.id,
            size: 0,
            uncompressed: None,
            complete: false,
            open: None,
        }
    }

    /// The head of the response is there.
    pub(crate) fn answered(&mut self, handler: &'static str, code: u16, uncompressed: Option<usize>) {
        (self.handler, self.code, self.uncompressed) = (handler, code, uncompressed);
        self.metrics.http_request(self.handler, self.scheme(), self.method, code, self.elapsed());
    }

    const fn scheme(&self) -> &'static str {
        if self.peer.tls.is_some() { "https" } else { "http" }
    }

    fn elapsed(&self) -> Duration {
        self.clock.monotonic().saturating_sub(self.start)
    }

    fn tls(&self) -> &'static str {
        match self.peer.tls.as_deref().map(|tls| tls.version) {
            None => "plain",
            Some("TLS1.2") => "tls1.2",
            Some("TLS1.3") => "tls1.3",
            Some(_) => "(other)",
        }
    }
}

/// The end of a response, whole or cut off.
impl Drop for Record {
    fn drop(&mut self) {
        if self.code == 0 {
            return;
        }
        let duration = self.elapsed();
        self.metrics.http_response(self.handler, self.scheme(), self.method, self.code, duration);
        // A request that was refused for its rate isn't logged: that would be one more way to fill a disk.
        if self.handler == "(ratelimited)" {
            return;
        }
        tracing::debug!(
            target: "http",
            cid = self.id,
            httpaccess = "",
            handler = self.handler,
            method = self.method,
            url = self.url,
            host = self.host,
            ?duration,
            statuscode = self.code,
            proto = self.proto,
            remoteaddr = %self.peer.remote,
            tlsinfo = self.tls(),
            useragent = self.user_agent,
            referer = self.referer,
            clientip = self.client_ip.map(tracing::field::display),
            size = self.size,
            uncompressedsize = self.uncompressed,
            error = (!self.complete).then_some("connection ended before the response did"),
            "http request"
        );
    }
}

/// A body that is counted while it is sent.
#[derive(Debug)]
pub(crate) struct Counted {
    body: Body,
    record: Record,
}

impl Counted {
    pub(crate) const fn new(body: Body, record: Record) -> Self {
        Self { body, record }
    }
}

impl hyper::body::Body for Counted {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                self.record.size = self.record.size.saturating_add(u64::try_from(bytes).unwrap_or(0));
                self.record.complete = self.body.is_end_stream();
            }
            Poll::Ready(None) => self.record.complete = true,
            Poll::Ready(Some(Err(_))) | Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_known_or_other() {
        for (method, want) in [("GET", "get"), ("PROPFIND", "propfind"), ("get", "get"), ("X-MINE", "(other)")] {
            assert_eq!(method_label(&Method::from_bytes(method.as_bytes()).unwrap()), want);
        }
    }
}
