//! Requests for metrics.

use crate::body::Body;
use crate::metrics::Metrics;
use crate::request::Request;
use crate::router::{Answering, Handler, plain, secure};
use hyper::header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Response, StatusCode};
use std::sync::Arc;

const PAGE: &str = "<!doctype html>\n<html><body>see <a href=\"metrics\">metrics</a></body></html>\n";

/// Answers `GET /metrics`, and `GET /` with a page that points there. Nobody is authenticated: this belongs on addresses that
/// only monitoring reaches.
#[derive(Debug)]
pub struct Scrape {
    metrics: Arc<Metrics>,
}

impl Scrape {
    /// Shows these.
    pub const fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics }
    }

    fn metrics(&self, request: &Request) -> Response<Body> {
        let _answering = self.metrics.scraping();
        let accepts = |kind| request.headers.get_all(ACCEPT).iter().any(|v| v.to_str().is_ok_and(|v| v.contains(kind)));
        let (text, kind) = if accepts("application/openmetrics-text") {
            (self.metrics.open_metrics(), "application/openmetrics-text; version=1.0.0; charset=utf-8")
        } else {
            (self.metrics.text(), "text/plain; version=0.0.4; charset=utf-8")
        };
        let (status, text) = text.map_or_else(|e| (StatusCode::INTERNAL_SERVER_ERROR, e.to_string()), |text| (StatusCode::OK, text));
        self.metrics.scraped(status.as_u16());
        response(status, kind, text)
    }
}

impl Handler for Scrape {
    fn answer(&self, request: Request) -> Answering<'_> {
        let get = matches!(request.method, Method::GET | Method::HEAD);
        let mut answer = match (request.path.as_str(), get) {
            ("/metrics", true) => self.metrics(&request),
            ("/", true) => response(StatusCode::OK, "text/html; charset=utf-8", PAGE.to_owned()),
            ("/" | "/metrics", false) => {
                let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "method not allowed");
                response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
                response
            }
            _ => plain(StatusCode::NOT_FOUND, "404 page not found"),
        };
        secure(answer.headers_mut());
        Box::pin(std::future::ready(answer))
    }
}

fn response(status: StatusCode, kind: &'static str, body: String) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
