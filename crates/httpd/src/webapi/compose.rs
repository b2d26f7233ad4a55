//! From a request to a message: checks of what is in it, header, and MIME structure.
//!
//! Everything that goes into the header passes through types that can't hold line breaks or other control characters.

use super::sniff;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mox_base::{Address, Random, Timestamp};
use mox_message::compose::{Composed, Composer, Entity, NamedAddress};
use mox_message::{DateTime, HeaderName, HeaderValue};
use mox_webapi::{Error, ErrorCode, NameAddress, Time};
use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::sync::Arc;

/// Lines of a header that are written as they are, RFC 5322 §2.1.1.
const MAX_LINE: usize = 998;

/// The contents of a file, before they are needed.
#[derive(Clone, Debug)]
pub(super) enum FileData {
    /// In base64, from the request.
    Base64(String),
    /// Uploaded, in memory.
    Memory(Arc<[u8]>),
    /// Uploaded, spooled.
    Spooled(Arc<File>, u64),
}

impl FileData {
    /// About how many bytes it is.
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Base64(text) => u64::try_from(text.len() / 4 * 3).unwrap_or(u64::MAX),
            Self::Memory(bytes) => u64::try_from(bytes.len()).unwrap_or(u64::MAX),
            Self::Spooled(_, len) => *len,
        }
    }

    /// Reads or decodes it.
    fn bytes(&self) -> Result<Vec<u8>, ComposeError> {
        match self {
            Self::Base64(text) => {
                let clean = if text.contains(['\r', '\n']) { &text.replace(['\r', '\n'], "") } else { text };
                STANDARD.decode(clean).map_err(|e| ComposeError::Refused(Error::user(format!("data of file isn't base64: {e}"))))
            }
            Self::Memory(bytes) => Ok(bytes.to_vec()),
            Self::Spooled(file, _) => {
                let (mut bytes, mut file) = (Vec::new(), &**file);
                file.rewind()?;
                file.read_to_end(&mut bytes)?;
                Ok(bytes)
            }
        }
    }
}

/// A file for a message.
#[derive(Clone, Debug)]
pub(super) struct DraftFile {
    pub(super) name: String,
    /// Detected if empty.
    pub(super) content_type: String,
    pub(super) content_id: String,
    pub(super) data: FileData,
}

/// A message that is about to be composed.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub(super) from: NamedAddress,
    pub(super) to: Vec<NamedAddress>,
    pub(super) cc: Vec<NamedAddress>,
    pub(super) bcc: Vec<NamedAddress>,
    pub(super) reply_to: Vec<NamedAddress>,
    /// With brackets.
    pub(super) message_id: String,
    pub(super) references: Vec<String>,
    pub(super) date: Option<Time>,
    pub(super) subject: String,
    pub(super) text: String,
    pub(super) html: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) alternative: Vec<DraftFile>,
    pub(super) inline: Vec<DraftFile>,
    pub(super) attached: Vec<DraftFile>,
    /// Adds `TLS-Required: No`, RFC 8689 §3.
    pub(super) tls_optional: bool,
    pub(super) user_agent: String,
    pub(super) max_size: u64,
}

/// Why there is no message.
#[derive(Debug, thiserror::Error)]
pub(super) enum ComposeError {
    /// For the client.
    #[error(transparent)]
    Refused(#[from] Error),
    /// An uploaded file can't be read.
    #[error("reading uploaded file: {0}")]
    File(#[from] io::Error),
}

/// Addresses of a request.
pub(super) fn addresses(list: &[NameAddress]) -> Result<Vec<NamedAddress>, Error> {
    list.iter().map(address).collect()
}

fn address(given: &NameAddress) -> Result<NamedAddress, Error> {
    no_controls("name of address", &given.name)?;
    let address: Address =
        given.address.parse().map_err(|e| Error::new(ErrorCode::BadAddress, format!("address {:?}: {e}", given.address)))?;
    Ok(NamedAddress { name: given.name.clone(), address })
}

fn no_controls(what: &str, text: &str) -> Result<(), Error> {
    if text.chars().any(char::is_control) { Err(Error::user(format!("{what} has control characters"))) } else { Ok(()) }
}

impl Draft {
    /// Whether it needs SMTPUTF8: only localparts can't be written otherwise, RFC 6531 §3.2.
    pub(super) fn smtputf8(&self) -> bool {
        let lists = [&self.to, &self.cc, &self.bcc, &self.reply_to];
        self.from.address.needs_smtputf8() || lists.into_iter().flatten().any(|a| a.address.needs_smtputf8())
    }

    /// About the bytes of its files.
    pub(super) fn files_size(&self) -> u64 {
        let files = [&self.alternative, &self.inline, &self.attached].into_iter().flatten();
        files.fold(0, |sum: u64, file| sum.saturating_add(file.data.len()))
    }

    /// The `Bcc` field, for the sender's own copy.
    pub(super) fn bcc_field(&self) -> Vec<u8> {
        let mut composer = Composer::new(self.smtputf8());
        composer.addresses(&HeaderName::from_static("Bcc"), &self.bcc);
        composer.finish().map(|c| c.bytes).unwrap_or_default()
    }

    /// Composes the message.
    pub(super) fn compose(&self, now: Timestamp, random: &dyn Random) -> Result<Composed, ComposeError> {
        let smtputf8 = self.smtputf8();
        no_controls("Subject", &self.subject)?;
        self.check_ids(smtputf8)?;
        let headers = self.checked_headers()?;
        // Four characters of base64 for three bytes, without the line breaks: certainly too large.
        if self.files_size().saturating_mul(4) / 3 > self.max_size {
            return Err(too_large().into());
        }
        let mut composer = Composer::new(smtputf8).max_size(usize::try_from(self.max_size).unwrap_or(usize::MAX));
        let name = HeaderName::from_static;
        composer.addresses(&name("From"), std::slice::from_ref(&self.from));
        composer.addresses(&name("Reply-To"), &self.reply_to);
        composer.addresses(&name("To"), &self.to).addresses(&name("Cc"), &self.cc);
        if !self.subject.is_empty() {
            composer.subject(&self.subject);
        }
        composer.date(self.date.map_or_else(|| DateTime::utc(now), date));
        composer.raw_fields(format!("Message-Id: {}\r\n", self.message_id).as_bytes());
        if let Some(last) = self.references.last() {
            composer.raw_fields(format!("References: {}\r\nIn-Reply-To: {last}\r\n", self.references.join("\r\n\t")).as_bytes());
        }
        composer.raw_fields(b"MIME-Version: 1.0\r\n");
        for (name, value) in &headers {
            if value.as_str().is_ascii() && name.as_str().len() + value.as_str().len() + 2 <= MAX_LINE {
                composer.raw_fields(format!("{name}: {value}\r\n").as_bytes());
            } else {
                composer.field(name, value);
            }
        }
        if self.tls_optional {
            composer.raw_fields(b"TLS-Required: No\r\n");
        }
        if !self.has_header("User-Agent") && !self.has_header("X-Mailer") {
            composer.field(&name("User-Agent"), &HeaderValue::cleaned(&self.user_agent));
        }
        composer.content(&self.body()?, random);
        composer.finish().map_err(|_| too_large().into())
    }

    fn check_ids(&self, smtputf8: bool) -> Result<(), Error> {
        let id = &self.message_id;
        if id.len() < 3 || !id.starts_with('<') || !id.ends_with('>') {
            return Err(Error::new(ErrorCode::MalformedMessageId, "message id must start with < and end with >"));
        }
        for id in self.references.iter().chain([id]) {
            no_controls("message id", id)?;
            if !smtputf8 && !id.is_ascii() {
                return Err(Error::user("message id isn't ASCII"));
            }
            if id.len() > MAX_LINE - 20 {
                return Err(Error::user("message id too long"));
            }
        }
        Ok(())
    }

    fn has_header(&self, name: &str) -> bool {
        self.headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name))
    }

    fn checked_headers(&self) -> Result<Vec<(HeaderName, HeaderValue)>, Error> {
        // Those that we write in any case, or that are for servers to write; and those that we write for this message.
        const OURS: [&str; 13] = [
            "From",
            "To",
            "Cc",
            "Bcc",
            "Date",
            "Message-Id",
            "MIME-Version",
            "Content-Type",
            "Content-Transfer-Encoding",
            "Content-Disposition",
            "DKIM-Signature",
            "Received",
            "Return-Path",
        ];
        let conditional = [
            ("Reply-To", !self.reply_to.is_empty()),
            ("Subject", !self.subject.is_empty()),
            ("References", !self.references.is_empty()),
            ("In-Reply-To", !self.references.is_empty()),
            ("TLS-Required", self.tls_optional),
        ];
        let mut checked = Vec::with_capacity(self.headers.len());
        for (name, value) in &self.headers {
            let written = conditional.iter().any(|(n, written)| *written && n.eq_ignore_ascii_case(name));
            if written || OURS.iter().any(|n| n.eq_ignore_ascii_case(name)) {
                return Err(Error::user(format!("header {name:?} is written by the server")));
            }
            let field = HeaderName::new(name).map_err(|_| Error::user(format!("{name:?} is no name of a header")))?;
            let text = HeaderValue::new(value).map_err(|_| Error::user(format!("value of header {name:?} has control characters")))?;
            checked.push((field, text));
        }
        Ok(checked)
    }

    /// The tree of parts, with as few levels as will do.
    fn body(&self) -> Result<Entity, ComposeError> {
        let alone = (self.text.is_empty() || self.html.is_empty())
            && self.alternative.is_empty()
            && self.inline.is_empty()
            && self.attached.is_empty();
        let text = |subtype: &str, text: &str| {
            // In a multipart, the last line break belongs to the boundary, RFC 2046 §5.1.1.
            let ending = match (alone, text.ends_with('\n')) {
                (true, _) => "",
                (false, true) => "\n",
                (false, false) => "\n\n",
            };
            Entity::Text { subtype: HeaderValue::cleaned(subtype), text: format!("{text}{ending}") }
        };
        let mut representations = Vec::new();
        if !self.text.is_empty() {
            representations.push(text("plain", &self.text));
        }
        if !self.html.is_empty() {
            representations.push(text("html", &self.html));
        }
        representations.extend(files(&self.alternative, true)?);
        let mut body = one_or(representations, "alternative");
        if !self.inline.is_empty() {
            body = Entity::Multipart { subtype: HeaderValue::cleaned("related"), parts: with_first(body, files(&self.inline, true)?) };
        }
        if !self.attached.is_empty() {
            body = Entity::Multipart { subtype: HeaderValue::cleaned("mixed"), parts: with_first(body, files(&self.attached, false)?) };
        }
        Ok(body)
    }
}

fn one_or(mut parts: Vec<Entity>, subtype: &str) -> Entity {
    match (parts.pop(), parts.is_empty()) {
        (Some(only), true) => only,
        (last, _) => {
            parts.extend(last);
            Entity::Multipart { subtype: HeaderValue::cleaned(subtype), parts }
        }
    }
}

fn with_first(first: Entity, others: Vec<Entity>) -> Vec<Entity> {
    std::iter::once(first).chain(others).collect()
}

fn files(files: &[DraftFile], inline: bool) -> Result<Vec<Entity>, ComposeError> {
    files.iter().map(|file| attachment(file, inline)).collect()
}

fn attachment(file: &DraftFile, inline: bool) -> Result<Entity, ComposeError> {
    let data = file.data.bytes()?;
    let kind = if file.content_type.is_empty() { sniff::media_type(&data) } else { &file.content_type };
    let safe = |what: &str, text: &str| {
        let value = HeaderValue::new(text).ok().filter(|_| text.is_ascii() && text.len() < MAX_LINE - 20);
        value.ok_or_else(|| Error::user(format!("{what} of file can't be in a header")))
    };
    no_controls("name of file", &file.name)?;
    let id = file.content_id.trim();
    let id = id.strip_prefix('<').and_then(|id| id.strip_suffix('>')).unwrap_or(id);
    Ok(Entity::Attachment {
        media_type: safe("content type", kind)?,
        file_name: file.name.clone(),
        inline,
        id: if id.is_empty() { None } else { Some(safe("content id", id)?) },
        data,
    })
}

fn date(time: Time) -> DateTime {
    DateTime { timestamp: time.at, offset_minutes: i16::try_from(time.offset_minutes).unwrap_or(0) }
}

fn too_large() -> Error {
    Error::new(ErrorCode::MessageTooLarge, "message is larger than the server takes")
}
