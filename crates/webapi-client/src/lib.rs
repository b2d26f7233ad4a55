//! A client of the webapi.
//!
//! [`Client`] has a function for each method, with the types of the crate `webapi`, and [`Client::call`] for any. An answer with status
//! 400 is the [`mox_webapi::error::ErrorBody`] in [`CallError::Refused`]; its code is one of [`mox_webapi::ErrorCode`]. Responses may
//! have fields that this version doesn't know: they are ignored.
//!
//! Large attachments go as [`Upload`]s, as they are instead of in base64. Proxies are those of the environment: `HTTP_PROXY`,
//! `HTTPS_PROXY`, `NO_PROXY`.
//!
//! Limits: a call takes at most five minutes, an answer has at most 3 MiB, raw messages and parts 256 MiB.

mod upload;

pub use upload::{Place, Upload};

use bytes::Bytes;
use mox_base::IpPrefix;
use mox_net::http::header::{CONTENT_TYPE, HeaderValue};
use mox_net::http::{AddressGuard, Client as HttpClient, HttpError, Method, Proxies, ProxyError, Request, Url, UrlError};
use mox_net::resolver::ResolverLimits;
use mox_net::tls::read_roots;
use mox_net::{ClientTls, Resolver, TcpDial};
use mox_webapi::error::ErrorBody;
use mox_webapi::listing::{
    MailboxListResponse, MessageListRequest, MessageListResponse, QueueCancelRequest, QueueCancelResponse, QueueListRequest,
    QueueListResponse, QueueRescheduleRequest, QueueRescheduleResponse, SuppressionListRequest,
};
use mox_webapi::send::{SendBatchRequest, SendBatchResponse};
use mox_webapi::template::{TemplateGetResponse, TemplateListRequest, TemplateListResponse, TemplateRequest, TemplateSetRequest};
use mox_webapi::{
    Empty, MessageFlagsRequest, MessageGetResponse, MessageMoveRequest, MessagePartRequest, MessageRequest, SendRequest, SendResponse,
    SuppressionAddRequest, SuppressionListResponse, SuppressionPresentResponse, SuppressionRequest, Unknown, Wire,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

/// How long a call may take.
const TIMEOUT: Duration = Duration::from_secs(300);

/// The most of an answer in JSON.
const MAX_JSON: usize = 3 << 20;

/// The most of a message or part.
const MAX_BYTES: usize = 256 << 20;

/// Why a client can't be made.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The base URL isn't one.
    #[error("base url: {0}")]
    Url(#[from] UrlError),
    /// The environment names a proxy that isn't one.
    #[error("environment: {0}")]
    Proxy(#[from] ProxyError),
    /// The system's resolver or certificates can't be used.
    #[error("setting up: {0}")]
    System(String),
}

/// Why a call didn't succeed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The method said no: the code is for programs, the message for people.
    #[error("{}: {}", .0.code, .0.message)]
    Refused(ErrorBody),
    /// An answer that isn't the method's: wrong credentials (401), too many requests (429), or not the webapi at all.
    #[error("http status {status}: {text}")]
    Status {
        /// The status.
        status: u16,
        /// The start of the answer.
        text: String,
    },
    /// No answer. Whether the call was made isn't known: repeat it with the same idempotency key.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// An answer that can't be read.
    #[error("reading answer: {0}")]
    Answer(String),
}

/// A client for one account. Clones share its connections.
#[derive(Clone, Debug)]
pub struct Client {
    http: HttpClient,
    /// Ends in a slash.
    base: Url,
}

impl Client {
    /// A client for a base URL such as `http://mox%40localhost:moxmoxmox@localhost:1080/webapi/v0/`, with user and password in it. Uses
    /// the system's resolver and root certificates, and the environment's proxies.
    ///
    /// # Errors
    /// See [`SetupError`].
    pub fn new(base: &str) -> Result<Self, SetupError> {
        let lookup = Resolver::system(ResolverLimits::default()).map_err(|e| SetupError::System(e.to_string()))?;
        let roots = read_roots(true, &[]).map_err(|e| SetupError::System(e.to_string()))?;
        let tls = ClientTls::verified(roots).map_err(|e| SetupError::System(e.to_string()))?;
        // Its user says where to connect: nowhere is forbidden.
        let everywhere = [IpAddr::from(Ipv4Addr::UNSPECIFIED), Ipv6Addr::UNSPECIFIED.into()];
        let guard = AddressGuard::public_only().with(everywhere.into_iter().filter_map(|ip| IpPrefix::new(ip, 0)));
        let proxies = Proxies::from_vars(|name| std::env::var(name).ok())?;
        let http = HttpClient::through(Arc::new(lookup), Arc::new(TcpDial::default()), tls, guard, proxies);
        Self::with(http, base)
    }

    /// A client that makes its calls with another's connections, guards and certificates.
    ///
    /// # Errors
    /// When the base URL isn't one.
    pub fn with(http: HttpClient, base: &str) -> Result<Self, SetupError> {
        let base = if base.ends_with('/') { Url::parse(base)? } else { Url::parse(&format!("{base}/"))? };
        Ok(Self { http, base })
    }

    /// Calls a method with JSON, and gives its JSON.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn call<Q: Wire, A: Wire>(&self, method: &str, request: &Q) -> Result<A, CallError> {
        let answer = self.post(method, &mox_webapi::write(request), None, MAX_JSON).await?;
        read(&answer)
    }

    /// Calls a method with JSON, and gives the bytes that it answers.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn call_for_bytes<Q: Wire>(&self, method: &str, request: &Q) -> Result<Vec<u8>, CallError> {
        self.post(method, &mox_webapi::write(request), None, MAX_BYTES).await
    }

    /// Calls a method with the text of a request, and gives what it answers.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn call_raw(&self, method: &str, request: &str) -> Result<Vec<u8>, CallError> {
        self.post(method, request, None, MAX_BYTES).await
    }

    async fn post(&self, method: &str, json: &str, key: Option<&str>, max_body: usize) -> Result<Vec<u8>, CallError> {
        let form = Bytes::from(format!("request={}", percent_encode(json)));
        self.post_form(method, (HeaderValue::from_static("application/x-www-form-urlencoded"), form), key, max_body).await
    }

    /// Posts a form, given as its type and text.
    async fn post_form(
        &self,
        method: &str,
        (kind, form): (HeaderValue, Bytes),
        key: Option<&str>,
        max_body: usize,
    ) -> Result<Vec<u8>, CallError> {
        let mut url = self.base.clone();
        url.path.push_str(method);
        let mut request = Request::new(Method::POST, url);
        request.headers.insert(CONTENT_TYPE, kind);
        if let Some(key) = key {
            let value = HeaderValue::from_str(key).map_err(|e| CallError::Answer(format!("idempotency key: {e}")))?;
            request.headers.insert("idempotency-key", value);
        }
        request.body = form;
        (request.timeout, request.max_body) = (TIMEOUT, max_body);
        let answer = self.http.send(request).await?;
        match answer.status {
            200 if answer.truncated => Err(CallError::Answer("it is too large".to_owned())),
            200 => Ok(answer.body),
            // 403 is for what the key that was used isn't for.
            400 | 403 => Err(CallError::Refused(read(&answer.body)?)),
            status => {
                let text = String::from_utf8_lossy(&answer.body);
                Err(CallError::Status { status, text: text.chars().take(500).collect::<String>().trim_end().to_owned() })
            }
        }
    }

    /// Composes and queues a message.
    ///
    /// # Errors
    /// See [`CallError`]; so below.
    pub async fn send(&self, request: &SendRequest) -> Result<SendResponse, CallError> {
        self.call("Send", request).await
    }

    /// As [`Self::send`], but can be repeated with the same key for a day: it is sent once, and answered the same.
    ///
    /// # Errors
    /// As above.
    pub async fn send_once(&self, request: &SendRequest, key: &str) -> Result<SendResponse, CallError> {
        read(&self.post("Send", &mox_webapi::write(request), Some(key), MAX_JSON).await?)
    }

    /// As [`Self::send`], with further files, which come after those in the request. With a key as [`Self::send_once`].
    ///
    /// # Errors
    /// As above.
    pub async fn send_with(&self, request: &SendRequest, files: &[Upload], key: Option<&str>) -> Result<SendResponse, CallError> {
        let (boundary, form) = upload::form(&mox_webapi::write(request), files);
        let kind = HeaderValue::from_str(&format!("multipart/form-data; boundary={boundary}"));
        let kind = kind.map_err(|e| CallError::Answer(format!("form: {e}")))?;
        read(&self.post_form("Send", (kind, form.into()), key, MAX_JSON).await?)
    }

    /// Composes and queues several messages. With a key as [`Self::send_once`].
    ///
    /// # Errors
    /// As above; what became of each message is in the answer.
    pub async fn send_batch(&self, request: &SendBatchRequest, key: Option<&str>) -> Result<SendBatchResponse, CallError> {
        read(&self.post("SendBatch", &mox_webapi::write(request), key, MAX_JSON).await?)
    }

    /// The account's suppression list.
    ///
    /// # Errors
    /// As above.
    pub async fn suppression_list(&self) -> Result<SuppressionListResponse, CallError> {
        self.call("SuppressionList", &Empty {}).await
    }

    /// Adds an address to the suppression list.
    ///
    /// # Errors
    /// As above.
    pub async fn suppression_add(&self, request: &SuppressionAddRequest) -> Result<Empty, CallError> {
        self.call("SuppressionAdd", request).await
    }

    /// Removes an address from the suppression list.
    ///
    /// # Errors
    /// As above.
    pub async fn suppression_remove(&self, request: &SuppressionRequest) -> Result<Empty, CallError> {
        self.call("SuppressionRemove", request).await
    }

    /// Whether an address is on the suppression list.
    ///
    /// # Errors
    /// As above.
    pub async fn suppression_present(&self, request: &SuppressionRequest) -> Result<SuppressionPresentResponse, CallError> {
        self.call("SuppressionPresent", request).await
    }

    /// A message, parsed.
    ///
    /// # Errors
    /// As above.
    pub async fn message_get(&self, request: &MessageRequest) -> Result<MessageGetResponse, CallError> {
        self.call("MessageGet", request).await
    }

    /// A message as stored.
    ///
    /// # Errors
    /// As above.
    pub async fn message_raw_get(&self, request: &MessageRequest) -> Result<Vec<u8>, CallError> {
        self.call_for_bytes("MessageRawGet", request).await
    }

    /// A part of a message, decoded.
    ///
    /// # Errors
    /// As above.
    pub async fn message_part_get(&self, request: &MessagePartRequest) -> Result<Vec<u8>, CallError> {
        self.call_for_bytes("MessagePartGet", request).await
    }

    /// Removes a message.
    ///
    /// # Errors
    /// As above.
    pub async fn message_delete(&self, request: &MessageRequest) -> Result<Empty, CallError> {
        self.call("MessageDelete", request).await
    }

    /// Sets flags.
    ///
    /// # Errors
    /// As above.
    pub async fn message_flags_add(&self, request: &MessageFlagsRequest) -> Result<Empty, CallError> {
        self.call("MessageFlagsAdd", request).await
    }

    /// Clears flags.
    ///
    /// # Errors
    /// As above.
    pub async fn message_flags_remove(&self, request: &MessageFlagsRequest) -> Result<Empty, CallError> {
        self.call("MessageFlagsRemove", request).await
    }

    /// Moves a message to another mailbox.
    ///
    /// # Errors
    /// As above.
    pub async fn message_move(&self, request: &MessageMoveRequest) -> Result<Empty, CallError> {
        self.call("MessageMove", request).await
    }

    /// A page of the account's suppression list.
    ///
    /// # Errors
    /// As above.
    pub async fn suppression_page(&self, request: &SuppressionListRequest) -> Result<SuppressionListResponse, CallError> {
        self.call("SuppressionList", request).await
    }

    /// The mailboxes.
    ///
    /// # Errors
    /// As above.
    pub async fn mailbox_list(&self) -> Result<MailboxListResponse, CallError> {
        self.call("MailboxList", &Empty {}).await
    }

    /// A page of the messages in a mailbox.
    ///
    /// # Errors
    /// As above.
    pub async fn message_list(&self, request: &MessageListRequest) -> Result<MessageListResponse, CallError> {
        self.call("MessageList", request).await
    }

    /// A page of what is being sent, or was.
    ///
    /// # Errors
    /// As above.
    pub async fn queue_list(&self, request: &QueueListRequest) -> Result<QueueListResponse, CallError> {
        self.call("QueueList", request).await
    }

    /// Takes messages out of the queue.
    ///
    /// # Errors
    /// As above.
    pub async fn queue_cancel(&self, request: &QueueCancelRequest) -> Result<QueueCancelResponse, CallError> {
        self.call("QueueCancel", request).await
    }

    /// Changes when messages are tried next.
    ///
    /// # Errors
    /// As above.
    pub async fn queue_reschedule(&self, request: &QueueRescheduleRequest) -> Result<QueueRescheduleResponse, CallError> {
        self.call("QueueReschedule", request).await
    }

    /// Keeps a template.
    ///
    /// # Errors
    /// As above.
    pub async fn template_set(&self, request: &TemplateSetRequest) -> Result<Empty, CallError> {
        self.call("TemplateSet", request).await
    }

    /// A template.
    ///
    /// # Errors
    /// As above.
    pub async fn template_get(&self, request: &TemplateRequest) -> Result<TemplateGetResponse, CallError> {
        self.call("TemplateGet", request).await
    }

    /// A page of the templates.
    ///
    /// # Errors
    /// As above.
    pub async fn template_list(&self, request: &TemplateListRequest) -> Result<TemplateListResponse, CallError> {
        self.call("TemplateList", request).await
    }

    /// Removes a template.
    ///
    /// # Errors
    /// As above.
    pub async fn template_remove(&self, request: &TemplateRequest) -> Result<Empty, CallError> {
        self.call("TemplateRemove", request).await
    }
}

fn read<T: Wire>(json: &[u8]) -> Result<T, CallError> {
    let text = std::str::from_utf8(json).map_err(|e| CallError::Answer(e.to_string()))?;
    mox_webapi::read(text, Unknown::Ignore).map_err(|e| CallError::Answer(e.to_string()))
}

/// As the value of a form's field.
fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len().saturating_mul(2));
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            for digit in [byte >> 4, byte & 15] {
                out.push(char::from_digit(digit.into(), 16).unwrap_or('0').to_ascii_uppercase());
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_forms() {
        assert_eq!(percent_encode("{\"a\": \"ä&b=c+d\"}"), "%7B%22a%22%3A%20%22%C3%A4%26b%3Dc%2Bd%22%7D");
    }
}
