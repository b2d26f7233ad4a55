//! One call of a webhook: the request, and what comes of it.
//!
//! With a secret, a call has a header by which the receiver knows that it is from us, and not an old one repeated:
//! `X-Mox-Webhook-Signature: t=<time>,v1=<signature>`. The time is that of the attempt in seconds since 1970, in decimal. The signature
//! is HMAC-SHA256 in lower-case hex, keyed with the bytes of the secret, of the time as written, a dot, and the body.

use hmac::{Hmac, KeyInit as _, Mac as _};
use mox_base::{Clock, Secret, Timestamp};
use mox_net::http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, USER_AGENT};
use mox_net::http::{Client, HeaderMap, Method, Request, Response, Url};
use mox_store::webhook::{CallResult, WebhookId};
use sha2::Sha256;
use std::fmt::Write as _;
use std::time::Duration;

/// How long a call may take.
pub(super) const TIMEOUT: Duration = Duration::from_secs(60);

/// How much of an answer is remembered.
const RESPONSE: usize = 512;

/// How much of an answer is read, so that the connection can be used again.
const READ: usize = 64 * 1024;

/// A call.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    /// The webhook's number.
    pub id: WebhookId,
    /// Counted from 1.
    pub attempt: u32,
    /// Where to.
    pub url: &'a str,
    /// Value of the Authorization header.
    pub authorization: Option<&'a Secret<String>>,
    /// What the body is signed with.
    pub secret: Option<&'a Secret<String>>,
    /// The body.
    pub payload: &'a str,
}

/// What a call led to: the result to record, and the answer if there was one.
#[derive(Clone, Debug)]
pub struct Called {
    /// As recorded.
    pub result: CallResult,
    /// Value of the answer's Retry-After header.
    pub retry_after: Option<String>,
}

impl Call<'_> {
    /// Makes the call. `agent` is sent as User-Agent. Never fails: what went wrong is in the result.
    pub async fn make(&self, client: &Client, clock: &dyn Clock, agent: &str) -> Called {
        let (start, began) = (clock.now(), clock.monotonic());
        let sent = match self.request(start, agent) {
            Ok(request) => client.send(request).await.map_err(|e| e.to_string()),
            Err(e) => Err(e),
        };
        let duration = clock.monotonic().saturating_sub(began);
        let mut called = Called {
            result: CallResult {
                start,
                duration,
                url: self.url.to_owned(),
                success: false,
                code: 0,
                error: String::new(),
                response: String::new(),
            },
            retry_after: None,
        };
        match sent {
            Ok(response) => answered(&mut called, &response),
            Err(error) => called.result.error = error,
        }
        called
    }

    fn request(&self, now: Timestamp, agent: &str) -> Result<Request, String> {
        let url = Url::parse(self.url).map_err(|e| e.to_string())?;
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, HeaderValue::try_from(agent).map_err(|_| "bad user agent")?);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
        headers.insert(HeaderName::from_static("x-mox-webhook-id"), HeaderValue::from(self.id.0));
        headers.insert(HeaderName::from_static("x-mox-webhook-attempt"), HeaderValue::from(self.attempt));
        if let Some(authorization) = self.authorization {
            let mut value = HeaderValue::try_from(authorization.expose()).map_err(|_| "authorization has control characters")?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        if let Some(secret) = self.secret {
            let value = HeaderValue::try_from(signature(secret, now.secs(), self.payload)).map_err(|_| "bad signature")?;
            headers.insert(HeaderName::from_static("x-mox-webhook-signature"), value);
        }
        let mut request = Request::new(Method::POST, url);
        request.headers = headers;
        request.body = self.payload.to_owned().into();
        request.timeout = TIMEOUT;
        request.max_body = READ;
        Ok(request)
    }
}

fn answered(called: &mut Called, response: &Response) {
    let result = &mut called.result;
    result.code = response.status;
    // RFC 9110 §15.3. Redirects aren't followed: a POST that turns into a GET is no delivery.
    result.success = (200..300).contains(&response.status);
    if !result.success {
        let status = format!("{} {}", response.status, response.reason());
        result.error = format!("http status {:?}", status.trim_end());
    }
    result.response = String::from_utf8_lossy(response.body.get(..RESPONSE).unwrap_or(&response.body)).into_owned();
    called.retry_after = response.header("retry-after").map(str::to_owned);
}

/// The value of the signature header, see the module.
#[must_use]
pub fn signature(secret: &Secret<String>, time: i64, payload: &str) -> String {
    let mut text = format!("t={time},v1=");
    // HMAC takes keys of any length.
    if let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes()) {
        mac.update(time.to_string().as_bytes());
        mac.update(b".");
        mac.update(payload.as_bytes());
        for byte in mac.finalize().into_bytes() {
            // Writing to a String can't fail.
            let _written = write!(text, "{byte:02x}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signature_as_documented() {
        // printf '1795406400.{"a":1}' | openssl dgst -sha256 -hmac key
        let want = "t=1795406400,v1=17f5e60c43f3104314b17ba5a70e3c564abf03bbaebd129deeb567002ae59ac8";
        assert_eq!(signature(&Secret::new("key".to_owned()), 1_795_406_400, "{\"a\":1}"), want);
    }
}
