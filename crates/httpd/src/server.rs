//! Requests for metrics.

use crate::metrics::Metrics;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use mox_net::listen::{self, Serving};
use mox_net::{Listener, Stream};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long a client may take for the head of a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

const PAGE: &str = "<!doctype html>\n<html><body>see <a href=\"metrics\">metrics</a></body></html>\n";

/// Serves metrics until stopped. Requests that are being answered then are finished.
pub async fn serve(listener: Listener, metrics: Arc<Metrics>, serving: Serving) {
    let stop = serving.stop.clone();
    listen::serve(listener, serving, move |stream| connection(stream, Arc::clone(&metrics), stop.clone())).await;
}

async fn connection(stream: Stream, metrics: Arc<Metrics>, stop: CancellationToken) {
    let service = service_fn(move |request| {
        let answer = answer(&request, &metrics);
        async move { Ok::<_, Infallible>(answer) }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    let connection = http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "metrics connection");
    }
}

fn answer(request: &Request<Incoming>, metrics: &Metrics) -> Response<Full<Bytes>> {
    let get = matches!(*request.method(), Method::GET | Method::HEAD);
    match (request.uri().path(), get) {
        ("/metrics", true) => {
            let accepts = |kind| request.headers().get_all(ACCEPT).iter().any(|v| v.to_str().is_ok_and(|v| v.contains(kind)));
            let (text, kind) = if accepts("application/openmetrics-text") {
                (metrics.open_metrics(), "application/openmetrics-text; version=1.0.0; charset=utf-8")
            } else {
                (metrics.text(), "text/plain; version=0.0.4; charset=utf-8")
            };
            let (status, text) = text.map_or_else(|e| (StatusCode::INTERNAL_SERVER_ERROR, e.to_string()), |text| (StatusCode::OK, text));
            metrics.scraped(status.as_u16());
            response(status, kind, text)
        }
        ("/", true) => response(StatusCode::OK, "text/html; charset=utf-8", PAGE.to_owned()),
        ("/" | "/metrics", false) => {
            let mut response = response(StatusCode::METHOD_NOT_ALLOWED, "text/plain; charset=utf-8", "method not allowed\n".to_owned());
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            response
        }
        _ => response(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", "404 page not found\n".to_owned()),
    }
}

fn response(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
