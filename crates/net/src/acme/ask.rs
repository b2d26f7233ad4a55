//! Requests to the provider, by our own HTTP client: with our resolver, and the authorities of the configuration.

use super::schedule;
use crate::http::{Client, HeaderMap, Method, Request, Url, header};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::http;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

/// The largest answer; chains of certificates are the largest.
const MAX_ANSWER: usize = 1 << 20;

/// How long a request may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Asks for the library.
pub(super) struct Asking {
    pub(super) client: Client,
    pub(super) user_agent: String,
}

impl HttpClient for Asking {
    fn request(&self, request: http::Request<BodyWrapper<Bytes>>) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let (client, user_agent) = (self.client.clone(), self.user_agent.clone());
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let body = match body.collect().await {
                Ok(body) => body.to_bytes(),
                Err(impossible) => match impossible {},
            };
            // All but the directory and suggestions of when to renew are POST, RFC 8555 §6.3, RFC 9773 §4.1.
            let is_get = head.method == Method::GET;
            let url = Url::parse(&head.uri.to_string()).map_err(|e| Error::Other(Box::new(e)))?;
            let mut headers: HeaderMap = head.headers;
            // RFC 8555 §6.1: the client's name and version.
            headers.insert(header::USER_AGENT, http::HeaderValue::try_from(user_agent).map_err(http::Error::from)?);
            let request = Request { method: head.method, url, headers, body, timeout: TIMEOUT, max_body: MAX_ANSWER };
            let answer = client.send(request).await.map_err(|e| Error::Other(Box::new(e)))?;
            if answer.truncated {
                return Err(Error::Str("the answer is too long"));
            }
            let mut response = http::Response::builder().status(answer.status).body(Full::new(Bytes::from(answer.body)))?;
            *response.headers_mut() = answer.headers;
            bound_retry_after(response.headers_mut(), is_get);
            Ok(BytesResponse::from(response))
        })
    }
}

/// The longest that a provider may tell us to wait for something.
const MAX_RETRY_AFTER: u64 = 24 * 3600;

/// Makes of a time to ask again one that the library can add to the time of day, where it panics for want of room; and gives one to
/// suggestions without, which it doesn't take otherwise.
fn bound_retry_after(headers: &mut HeaderMap, is_get: bool) {
    let text = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()).map(str::trim).unwrap_or_default();
    let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let seconds = if is_number {
        text.parse().map_or(MAX_RETRY_AFTER, |n: u64| n.min(MAX_RETRY_AFTER))
    } else if is_get && !text.ends_with("GMT") {
        schedule::ASK.as_secs()
    } else {
        return;
    };
    headers.insert(header::RETRY_AFTER, http::HeaderValue::from(seconds));
}
