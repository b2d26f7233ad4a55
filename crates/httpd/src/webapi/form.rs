//! The form of a call: the request and uploaded files, RFC 7578 and the URL standard's `application/x-www-form-urlencoded`.
//!
//! Fields are held in memory, within limits; files go to a spool as they come in. Large bodies are read by a few calls at a time, and a
//! client that is too slow is given up.

use super::multipart::{Event, Multipart, PartHead};
use crate::request::{Request, percent_decode_bytes};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::CONTENT_TYPE;
use mox_delivery::spool::{Spool, SpoolSettings, SpoolWriter};
use mox_message::{MediaType, param::param};
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout};

/// The most of an urlencoded form.
const MAX_URLENCODED: usize = 10 << 20;

/// The most of the fields of a multipart form that aren't files.
const MAX_FIELDS: usize = (10 << 20) + (200 << 10);

/// The most parts of a form: each file costs some memory beside its contents.
const MAX_PARTS: usize = 1000;

/// Bodies larger than this wait for their turn.
const SMALL: usize = 64 << 10;

/// Large bodies read at once: each may take as much memory as the limits above say.
const LARGE_AT_ONCE: usize = 16;

/// How long a client may send nothing.
const PAUSE: Duration = Duration::from_secs(30);

/// After this time, a client has to have sent this many bytes a second.
const PATIENCE: Duration = Duration::from_secs(30);
const MIN_RATE: f64 = 4096.0;

/// A file that was uploaded.
#[derive(Debug)]
pub(crate) struct Upload {
    /// What is known of it.
    pub(crate) head: PartHead,
    /// Its contents.
    pub(crate) data: Spool,
}

/// A form.
#[derive(Debug, Default)]
pub(crate) struct Form {
    /// The field `request`, or empty.
    pub(crate) request: String,
    /// Files, in order.
    pub(crate) files: Vec<Upload>,
    /// Whether the files are more than a message can have; they are then incomplete.
    pub(crate) too_large: bool,
}

/// Why a form can't be read; for the client.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FormError {
    /// No `Content-Type`, or none that can be read.
    #[error("unknown content-type {0:?}")]
    ContentType(String),
    /// The form is broken or too large.
    #[error("parsing form: {0}")]
    Form(String),
    /// The file system failed.
    #[error("storing uploaded file")]
    Store(#[from] std::io::Error),
}

fn broken(error: impl ToString) -> FormError {
    FormError::Form(error.to_string())
}

/// Reads forms.
#[derive(Debug)]
pub(crate) struct Forms {
    spool: SpoolSettings,
    large: Semaphore,
}

impl Forms {
    /// Spools files like this.
    pub(crate) fn new(spool: SpoolSettings) -> Self {
        Self { spool, large: Semaphore::new(LARGE_AT_ONCE) }
    }

    /// Reads the form of a request. Files together larger than `max_files` aren't kept.
    pub(crate) async fn read(&self, request: &mut Request, max_files: u64) -> Result<Form, FormError> {
        let header = request.headers.get(CONTENT_TYPE).map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned()).unwrap_or_default();
        let Some(kind) = MediaType::parse(header.as_bytes()) else { return Err(FormError::ContentType(header)) };
        let mut body = Reader { body: &mut request.body, forms: self, turn: None, read: 0, start: Instant::now() };
        match (kind.media_type.as_str(), kind.subtype.as_str()) {
            ("application", "x-www-form-urlencoded") => urlencoded(&mut body).await,
            ("multipart", "form-data") => {
                let form = Multipart::new(param(&kind.params, "boundary").unwrap_or_default()).map_err(broken)?;
                multipart(form, &mut body, &self.spool, max_files).await
            }
            // No fields in there, whatever it is.
            _ => Ok(Form::default()),
        }
    }
}

/// A body that is being read.
struct Reader<'r> {
    body: &'r mut Incoming,
    forms: &'r Forms,
    /// Held while a large body is read.
    turn: Option<SemaphorePermit<'r>>,
    read: usize,
    start: Instant,
}

impl Reader<'_> {
    async fn next(&mut self) -> Result<Option<Bytes>, FormError> {
        let announced = usize::try_from(self.body.size_hint().lower()).unwrap_or(usize::MAX);
        if self.turn.is_none() && self.read.max(announced) > SMALL {
            self.turn = self.forms.large.acquire().await.ok();
            self.start = Instant::now();
        }
        loop {
            let Some(frame) = timeout(PAUSE, self.body.frame()).await.map_err(|_| broken("client too slow"))? else { return Ok(None) };
            let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
            self.read = self.read.saturating_add(data.len());
            let seconds = self.start.elapsed().saturating_sub(PATIENCE).as_secs_f64();
            #[expect(clippy::cast_precision_loss, reason = "a rate needn't be exact")]
            if seconds > 0.0 && (self.read as f64) < MIN_RATE * seconds {
                return Err(broken("client too slow"));
            }
            return Ok(Some(data));
        }
    }
}

async fn urlencoded(body: &mut Reader<'_>) -> Result<Form, FormError> {
    let mut bytes = Vec::new();
    while let Some(piece) = body.next().await? {
        if bytes.len().saturating_add(piece.len()) > MAX_URLENCODED {
            return Err(broken("http: POST too large"));
        }
        bytes.extend_from_slice(&piece);
    }
    for pair in bytes.split(|b| *b == b'&') {
        let at = pair.iter().position(|b| *b == b'=').unwrap_or(pair.len());
        let (name, value) = pair.split_at(at);
        if percent_decode_bytes(name, true) == b"request" {
            let value = percent_decode_bytes(value.get(1..).unwrap_or_default(), true);
            return Ok(Form { request: into_text(value), ..Form::default() });
        }
    }
    Ok(Form::default())
}

fn into_text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
}

async fn multipart(mut parser: Multipart, body: &mut Reader<'_>, spool: &SpoolSettings, max_files: u64) -> Result<Form, FormError> {
    let mut form = Form::default();
    let mut file: Option<(PartHead, SpoolWriter)> = None;
    let mut field: Option<Vec<u8>> = None;
    let mut request: Option<Vec<u8>> = None;
    let (mut parts, mut field_bytes, mut file_bytes) = (0_usize, 0_usize, 0_u64);
    while let Some(piece) = body.next().await? {
        parser.push(&piece);
        while let Some(event) = parser.next().map_err(broken)? {
            match event {
                Event::Head(head) => {
                    parts = parts.saturating_add(1);
                    if parts > MAX_PARTS {
                        return Err(broken("multipart: too many parts"));
                    }
                    if head.file_name.is_some() {
                        file = Some((head, SpoolWriter::new(spool.clone())));
                    } else {
                        // Of several fields, the first counts. Others are counted, but not kept.
                        field = (head.name == "request" && request.is_none()).then(Vec::new);
                    }
                }
                Event::Body(bytes) => match &mut file {
                    Some((_, writer)) => {
                        file_bytes = file_bytes.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
                        // What no message can have is read, but not kept: the answer then says what is wrong.
                        if file_bytes <= max_files {
                            writer.write(&bytes).await?;
                        }
                    }
                    None => {
                        field_bytes = field_bytes.saturating_add(bytes.len());
                        if field_bytes > MAX_FIELDS {
                            return Err(broken("multipart: message too large"));
                        }
                        if let Some(field) = &mut field {
                            field.extend_from_slice(&bytes);
                        }
                    }
                },
                Event::End => {
                    if let Some((head, writer)) = file.take() {
                        form.files.push(Upload { head, data: writer.finish().await? });
                    }
                    request = request.or(field.take());
                }
            }
        }
    }
    parser.finish().map_err(broken)?;
    form.request = into_text(request.unwrap_or_default());
    form.too_large = file_bytes > max_files;
    Ok(form)
}
