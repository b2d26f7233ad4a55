//! The webapi: methods over HTTP with JSON, and their documentation.
//!
//! A call is authenticated, its form is read ([`form`]), its request parsed, its method run, and what comes of it is answered as JSON, or
//! as bytes for parts of messages. Methods run in tasks of their own: once one has begun, it ends as if the client still waited,
//! and a panic in it is an error of that call. What methods do is in a file per topic; what they are is in the crate `webapi`.

mod auth;
mod batch;
mod change;
mod compose;
mod form;
mod list;
mod metrics;
mod multipart;
mod once;
mod queue;
mod read;
mod send;
mod sniff;
mod suppression;
mod templates;

pub(crate) use form::Forms;
pub use metrics::Metrics;

use crate::body::Body;
use crate::request::Request;
use crate::router::{Answering, Handler, plain, secure, see_other};
use auth::Caller;
use form::{Form, FormError};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Response, StatusCode};
use mox_base::{Clock, Domain, Random};
use mox_delivery::spool::SpoolSettings;
use mox_delivery::submit::Submitter;
use mox_logins::Logins;
use mox_store::Store;
use mox_store::directory::SharedDirectory;
use mox_store::queue::Queue;
use mox_webapi::{Error, ErrorCode, Method as ApiMethod, Unknown, Wire};
use std::fmt;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

/// Large messages composed at once: each takes memory several times its size.
const LARGE_AT_ONCE: usize = 2;

/// Makes the id of a request as `Received` shows it.
#[derive(Clone)]
pub struct ReceivedId(pub Arc<dyn Fn(i64) -> String + Send + Sync>);

impl fmt::Debug for ReceivedId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReceivedId")
    }
}

/// What the webapi works with.
#[derive(Debug)]
pub struct Parts {
    /// Of this server, as in `User-Agent`.
    pub version: String,
    /// The server's name.
    pub hostname: Domain,
    /// Where uploaded files and large messages are spooled.
    pub spool: SpoolSettings,
    /// Accounts and their mail.
    pub store: Store,
    /// For suppression lists and repeated requests.
    pub queue: Queue,
    /// Who has which address.
    pub directory: SharedDirectory,
    /// Who may log in.
    pub logins: Logins,
    /// Into the queue.
    pub submitter: Submitter,
    /// For `Received`.
    pub received_id: ReceivedId,
    /// What is counted.
    pub metrics: Metrics,
    /// Owns the tasks of methods.
    pub tasks: TaskTracker,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
}

/// The webapi, for all listeners.
#[derive(Debug)]
pub struct Webapi {
    parts: Parts,
    forms: Forms,
    large: Semaphore,
}

/// The webapi at one listener.
#[derive(Debug)]
pub struct WebapiAt {
    webapi: Arc<Webapi>,
    max_message_size: u64,
}

impl Webapi {
    /// With these parts.
    pub fn new(parts: Parts) -> Arc<Self> {
        let forms = Forms::new(parts.spool.clone());
        Arc::new(Self { parts, forms, large: Semaphore::new(LARGE_AT_ONCE) })
    }

    /// For a listener with this limit on the size of messages.
    pub fn at(self: &Arc<Self>, max_message_size: u64) -> WebapiAt {
        WebapiAt { webapi: Arc::clone(self), max_message_size }
    }
}

/// What a call is about, beside its request.
#[derive(Debug)]
struct Call {
    webapi: Arc<Webapi>,
    caller: Caller,
    form: Form,
    max_message_size: u64,
    /// Of the HTTP request.
    id: i64,
    tls: Option<Arc<mox_net::TlsInfo>>,
    /// Header `Idempotency-Key`.
    key: Option<String>,
}

impl Handler for WebapiAt {
    fn answer(&self, request: Request) -> Answering<'_> {
        Box::pin(async move {
            let mut response = self.respond(request).await;
            secure(response.headers_mut());
            response
        })
    }
}

impl WebapiAt {
    async fn respond(&self, request: Request) -> Response<Body> {
        let get = request.method == Method::GET;
        if request.path == "/" {
            return if get {
                see_other(&format!("{}v0/", request.base))
            } else {
                plain(StatusCode::METHOD_NOT_ALLOWED, "405 - method not allowed")
            };
        }
        let Some(name) = request.path.strip_prefix("/v0/") else { return not_found() };
        match (name, ApiMethod::by_name(name)) {
            ("", _) => html(mox_webapi::pages::index()),
            (mox_webapi::openapi::FILE_NAME, _) if get => {
                json(StatusCode::OK, mox_webapi::openapi::document(&self.webapi.parts.version).to_string())
            }
            (_, None) => not_found(),
            (_, Some(method)) if get => html(mox_webapi::pages::method(method)),
            (_, Some(method)) if request.method == Method::POST => self.call(method, request).await,
            (_, Some(_)) => plain(StatusCode::METHOD_NOT_ALLOWED, "405 - method not allowed - use get or post"),
        }
    }

    async fn call(&self, method: &'static ApiMethod, request: Request) -> Response<Body> {
        let parts = &self.webapi.parts;
        let (start, id) = (parts.clock.monotonic(), request.id);
        let (result, response) = match self.authenticated(request).await {
            Ok((caller, request)) => self.run(method, caller, request).await,
            Err((result, response)) => (result, response),
        };
        let duration = parts.clock.monotonic().saturating_sub(start);
        parts.metrics.call(method.name, result, duration);
        tracing::debug!(target: "webapi", cid = id, method = method.name, result, ?duration, "webapi call");
        response
    }

    async fn run(&self, method: &'static ApiMethod, caller: Caller, mut request: Request) -> (&'static str, Response<Body>) {
        if let Err(error) = caller.may_call(method) {
            return failed(request.id, method.name, &error);
        }
        // A message isn't smaller than its files.
        let form = match self.webapi.forms.read(&mut request, self.max_message_size).await {
            Ok(form) => form,
            Err(error) => return failed(request.id, method.name, &form_error(request.id, error)),
        };
        let key = request.headers.get("idempotency-key").map(|key| String::from_utf8_lossy(key.as_bytes()).into_owned());
        let (id, tls) = (request.id, request.peer.tls);
        let call = Call { webapi: Arc::clone(&self.webapi), caller, form, max_message_size: self.max_message_size, id, tls, key };
        let task = self.webapi.parts.tasks.spawn(call.dispatch(method.name));
        match task.await {
            Ok(Ok(response)) => ("ok", response),
            Ok(Err(error)) => failed(id, method.name, &error),
            Err(panic) => {
                tracing::error!(target: "webapi", cid = id, method = method.name, %panic, "unhandled error");
                failed(id, method.name, &Error::new(ErrorCode::Server, "unhandled error"))
            }
        }
    }
}

impl Call {
    async fn dispatch(mut self, method: &'static str) -> Result<Response<Body>, Error> {
        let text = std::mem::take(&mut self.form.request);
        if text.is_empty() {
            return Err(Error::new(ErrorCode::Protocol, "missing/empty request"));
        }
        match method {
            "Send" => self.send(parsed(&text)?, &text).await.map(|answer| json(StatusCode::OK, answer)),
            "SendBatch" => Arc::new(self).send_batch(parsed(&text)?, &text).await.map(|r| answer(&r)),
            "SuppressionList" => self.suppression_list(parsed(&text)?).await.map(|r| answer(&r)),
            "SuppressionAdd" => self.suppression_add(parsed(&text)?).await.map(|r| answer(&r)),
            "SuppressionRemove" => self.suppression_remove(parsed(&text)?).await.map(|r| answer(&r)),
            "SuppressionPresent" => self.suppression_present(parsed(&text)?).await.map(|r| answer(&r)),
            "MessageGet" => self.message_get(parsed(&text)?).await.map(|r| answer(&r)),
            "MessageRawGet" => self.message_raw_get(parsed(&text)?).await,
            "MessagePartGet" => self.message_part_get(parsed(&text)?).await,
            "MessageDelete" => self.message_delete(parsed(&text)?).await.map(|r| answer(&r)),
            "MessageFlagsAdd" => self.message_flags(mox_store::FlagOp::Add, parsed(&text)?).await.map(|r| answer(&r)),
            "MessageFlagsRemove" => self.message_flags(mox_store::FlagOp::Remove, parsed(&text)?).await.map(|r| answer(&r)),
            "MessageMove" => self.message_move(parsed(&text)?).await.map(|r| answer(&r)),
            "MailboxList" => self.mailbox_list(parsed(&text)?).await.map(|r| answer(&r)),
            "MessageList" => self.message_list(parsed(&text)?).await.map(|r| answer(&r)),
            "QueueList" => self.queue_list(parsed(&text)?).await.map(|r| answer(&r)),
            "QueueCancel" => self.queue_cancel(parsed(&text)?).await.map(|r| answer(&r)),
            "QueueReschedule" => self.queue_reschedule(parsed(&text)?).await.map(|r| answer(&r)),
            "TemplateSet" => self.template_set(parsed(&text)?).await.map(|r| answer(&r)),
            "TemplateGet" => self.template_get(parsed(&text)?).await.map(|r| answer(&r)),
            "TemplateList" => self.template_list(parsed(&text)?).await.map(|r| answer(&r)),
            "TemplateRemove" => self.template_remove(parsed(&text)?).await.map(|r| answer(&r)),
            _ => Err(self.server("method without implementation", &method)),
        }
    }

    fn parts(&self) -> &Parts {
        &self.webapi.parts
    }

    /// The account's mail.
    async fn account(&self) -> Result<mox_store::Account, Error> {
        let settings = &self.caller.account;
        let account = self.parts().store.account(&settings.name).await.map_err(|e| self.server("opening account", &e))?;
        account.configure(settings);
        Ok(account)
    }

    /// An error of ours: the cause is for the log.
    fn server(&self, doing: &str, error: &dyn fmt::Display) -> Error {
        tracing::error!(target: "webapi", cid = self.id, account = self.caller.account.name, %error, doing, "webapi call failed");
        Error::new(ErrorCode::Server, format!("{doing} failed"))
    }
}

fn parsed<T: Wire>(text: &str) -> Result<T, Error> {
    mox_webapi::read(text, Unknown::Refuse).map_err(|e| Error::new(ErrorCode::Protocol, format!("parsing request: {e}")))
}

fn form_error(id: i64, error: FormError) -> Error {
    let text = error.to_string();
    match error {
        FormError::ContentType(_) | FormError::Form(_) => Error::new(ErrorCode::Protocol, text),
        FormError::Store(cause) => {
            tracing::error!(target: "webapi", cid = id, error = %cause, "storing uploaded file");
            Error::new(ErrorCode::Server, text)
        }
    }
}

/// The name under which a call is counted, and its answer.
fn failed(id: i64, method: &str, error: &Error) -> (&'static str, Response<Body>) {
    if error.code != ErrorCode::Server {
        tracing::info!(target: "webapi", cid = id, method, code = error.code.as_str(), message = error.message, "webapi call refused");
    }
    let status = if error.code == ErrorCode::OutOfScope { StatusCode::FORBIDDEN } else { StatusCode::BAD_REQUEST };
    (error.code.as_str(), json(status, mox_webapi::write(&error.body())))
}

fn answer<T: Wire>(value: &T) -> Response<Body> {
    json(StatusCode::OK, mox_webapi::write(value))
}

fn json(status: StatusCode, mut text: String) -> Response<Body> {
    text.push('\n');
    with_type(status, text, "application/json; charset=utf-8")
}

fn html(text: String) -> Response<Body> {
    with_type(StatusCode::OK, text, "text/html; charset=utf-8")
}

fn with_type(status: StatusCode, text: String, kind: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn not_found() -> Response<Body> {
    plain(StatusCode::NOT_FOUND, "404 page not found")
}
