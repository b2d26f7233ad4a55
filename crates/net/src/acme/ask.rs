//! Requests to the provider, by our own HTTP client: with our resolver, and the authorities of the configuration.

use crate::http::{Client, HeaderMap, Request, Url, header};
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
            Ok(BytesResponse::from(response))
        })
    }
}
