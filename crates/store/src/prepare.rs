//! A message made ready for the writer: parsed, compressed, and if large already in a durable file.
//!
//! All of it happens outside the account's transaction, on as many threads as there are deliveries, so that the writer
//! only inserts rows.

use crate::blob::{BLOCK, BlobStore, Pending, encode_block};
use crate::error::Error;
use crate::wire;
use mox_base::{ByteSize, Random};
use mox_message::{Headers, Limits, Structure, StructureBuilder, ident};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Bytes of a header section that are looked at, as in [`Limits`].
const MAX_HEADER: u64 = 1 << 20;

/// Addresses of a sent message that are remembered as written to.
const MAX_RECIPIENTS: usize = 1000;

/// Ids of `References` that are considered for threading, the nearest ones.
const MAX_REFERENCES: usize = 100;

/// Bytes of a Message-ID or base subject that are compared.
const MAX_KEY: usize = 1000;

/// Where a message's bytes are.
#[derive(Debug)]
pub enum Content {
    /// In memory.
    Bytes(Vec<u8>),
    /// In a file, from its start to its end.
    File(File),
}

/// A message to be stored.
#[derive(Debug)]
pub struct Message {
    /// Complete header fields in front of the content, and, if that has no header section at all, an empty line.
    pub prefix: Vec<u8>,
    /// The message as received, lines ending in CRLF.
    pub content: Content,
    /// The structure of `content`, if it was built while it came in.
    pub structure: Option<Structure>,
    /// SHA-256 of the content, where duplicates are to be found, as among rejects.
    pub hash: Option<[u8; 32]>,
}

impl Message {
    /// A message in memory.
    pub fn new(content: Vec<u8>) -> Self {
        Self { prefix: Vec::new(), content: Content::Bytes(content), structure: None, hash: None }
    }
}

/// A message ready to be added. If it isn't, dropping it removes its file.
#[derive(Clone, Debug)]
pub struct Prepared(pub(crate) Arc<Parts>);

impl Prepared {
    /// Its size, with the prefix.
    pub fn size(&self) -> ByteSize {
        self.0.size
    }

    /// Its structure, with the prefix.
    pub fn structure(&self) -> &Structure {
        &self.0.structure
    }
}

#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) size: ByteSize,
    pub(crate) prefix_size: usize,
    pub(crate) structure: Structure,
    pub(crate) encoded: Vec<u8>,
    pub(crate) envelope: Vec<u8>,
    pub(crate) bodystructure: Vec<u8>,
    pub(crate) headers: Option<Vec<u8>>,
    pub(crate) message_id: Option<String>,
    pub(crate) references: Vec<String>,
    /// The base subject and whether it was that of a reply.
    pub(crate) subject: (String, bool),
    pub(crate) dsn: bool,
    pub(crate) recipients: Vec<(String, String)>,
    pub(crate) sent: Option<i64>,
    pub(crate) msg_from: Option<String>,
    pub(crate) preview: Option<String>,
    pub(crate) hash: Option<[u8; 32]>,
    pub(crate) blob: Blob,
}

#[derive(Debug)]
pub(crate) enum Blob {
    Inline(Vec<u8>),
    File { name: String, blocks: Vec<u8>, pending: Pending },
}

pub(crate) fn prepare(message: Message, blobs: &Arc<dyn BlobStore>, random: &dyn Random) -> Result<Prepared, Error> {
    let Message { prefix, mut content, structure, hash } = message;
    let structure = match structure {
        Some(structure) => structure,
        None => parse(&mut content)?,
    };
    let structure = structure.with_prefix(&prefix);
    let header = header(&prefix, &mut content, &structure)?;
    let preview = preview(&prefix, &mut content, &structure)?;
    let length = match &content {
        Content::Bytes(bytes) => u64::try_from(bytes.len()).unwrap_or(u64::MAX),
        Content::File(file) => file.metadata()?.len(),
    };
    let size = length.saturating_add(u64::try_from(prefix.len()).unwrap_or(0));
    let blob = store(&prefix, content, size, blobs, random)?;
    let mut parts = describe(size, prefix.len(), structure, &header, hash, blob);
    parts.preview = preview;
    Ok(Prepared(Arc::new(parts)))
}

fn parse(content: &mut Content) -> Result<Structure, Error> {
    match content {
        Content::Bytes(bytes) => Ok(Structure::of(bytes)),
        Content::File(file) => {
            let mut builder = StructureBuilder::new(Limits::default());
            let mut buffer = vec![0; BLOCK];
            file.seek(SeekFrom::Start(0))?;
            loop {
                let n = file.read(&mut buffer)?;
                if n == 0 {
                    return Ok(builder.finish());
                }
                builder.push(buffer.get(..n).unwrap_or_default());
            }
        }
    }
}

/// The header section, prefix included.
fn header(prefix: &[u8], content: &mut Content, structure: &Structure) -> Result<Vec<u8>, Error> {
    let end = structure.root().header.end.min(MAX_HEADER);
    let own = end.saturating_sub(u64::try_from(prefix.len()).unwrap_or(0));
    let mut header = prefix.to_vec();
    match content {
        Content::Bytes(bytes) => {
            let own = usize::try_from(own).unwrap_or(usize::MAX).min(bytes.len());
            header.extend_from_slice(bytes.get(..own).unwrap_or_default());
        }
        Content::File(file) => {
            file.seek(SeekFrom::Start(0))?;
            file.take(own).read_to_end(&mut header)?;
        }
    }
    Ok(header)
}

/// The first words of the message. None if making them fails: that mustn't keep anyone's mail from being stored.
fn preview(prefix: &[u8], content: &mut Content, structure: &Structure) -> Result<Option<String>, Error> {
    let before = u64::try_from(prefix.len()).unwrap_or(0);
    let made = catch_unwind(AssertUnwindSafe(|| {
        mox_message::decode::preview(structure, |range| {
            let (start, end) = (range.start.saturating_sub(before), range.end.saturating_sub(before));
            match content {
                Content::Bytes(bytes) => {
                    let at = |n: u64| usize::try_from(n).unwrap_or(usize::MAX).min(bytes.len());
                    Ok(bytes.get(at(start)..at(end)).unwrap_or_default().to_vec())
                }
                Content::File(file) => {
                    let mut bytes = Vec::new();
                    file.seek(SeekFrom::Start(start))?;
                    file.take(end.saturating_sub(start)).read_to_end(&mut bytes)?;
                    Ok(bytes)
                }
            }
        })
    }));
    match made {
        Ok(preview) => Ok(Some(text(preview.map_err(|e: std::io::Error| Error::from(e))?))),
        Err(_panic) => {
            tracing::error!("making a preview panicked");
            Ok(None)
        }
    }
}

/// PostgreSQL's texts can't have NUL.
fn text(s: String) -> String {
    if s.contains('\0') { s.replace('\0', "") } else { s }
}

/// At most [`MAX_KEY`] bytes, cut between characters.
fn key(mut s: String) -> String {
    let mut end = MAX_KEY.min(s.len());
    while !s.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    s.truncate(end);
    text(s)
}

fn describe(size: u64, prefix_size: usize, structure: Structure, header: &[u8], hash: Option<[u8; 32]>, blob: Blob) -> Parts {
    let headers = Headers::new(header);
    let root = structure.root();
    let parsed = root.envelope.as_deref().cloned().unwrap_or_default();
    let mut envelope = Vec::new();
    wire::envelope(&mut envelope, &parsed);
    let mut bodystructure = Vec::new();
    wire::body(&mut bodystructure, &structure, wire::Form::Extensible);
    let mut references: Vec<String> = ident::references(&headers).into_iter().map(key).collect();
    references.drain(..references.len().saturating_sub(MAX_REFERENCES));
    let (subject, response) = parsed.subject().map(|s| ident::base_subject(&s)).unwrap_or_default();
    let recipients = [&parsed.to, &parsed.cc, &parsed.bcc]
        .into_iter()
        .flat_map(|list| list.mailboxes())
        .filter_map(mox_message::Mailbox::address)
        .map(|a| (text(a.localpart.as_str().to_owned()), text(a.domain.unicode().to_owned())))
        .take(MAX_RECIPIENTS)
        .collect();
    // RFC 3464 §2: the second part of a report says what happened.
    let dsn = root.is("multipart", "report")
        && structure.children(root).nth(1).is_some_and(|p| p.is("message", "delivery-status") || p.is("message", "global-delivery-status"));
    let mut from = parsed.from.mailboxes();
    let msg_from = from.next().and_then(mox_message::Mailbox::address).filter(|_| from.next().is_none()).map(|a| text(a.to_string()));
    Parts {
        size: ByteSize(size),
        prefix_size,
        encoded: structure.encode(),
        envelope,
        bodystructure,
        headers: wire::common_headers(header),
        message_id: parsed.message_id.as_deref().and_then(|id| ident::canonical_message_id(id).ok()).map(key),
        references,
        subject: (key(subject), response),
        dsn,
        recipients,
        sent: parsed.date().map(|d| d.timestamp.micros()),
        msg_from,
        preview: None,
        hash,
        blob,
        structure,
    }
}

/// Compresses, and writes the file of a large message.
fn store(prefix: &[u8], content: Content, size: u64, blobs: &Arc<dyn BlobStore>, random: &dyn Random) -> Result<Blob, Error> {
    let inline = size <= u64::try_from(BLOCK).unwrap_or(0);
    if let (true, Content::Bytes(bytes)) = (inline, &content) {
        return Ok(Blob::Inline(if prefix.is_empty() { encode_block(bytes)? } else { encode_block(&[prefix, bytes].concat())? }));
    }
    let mut reader: Box<dyn Read> = match content {
        Content::Bytes(bytes) => Box::new(std::io::Cursor::new(bytes)),
        Content::File(mut file) => {
            file.seek(SeekFrom::Start(0))?;
            Box::new(file)
        }
    };
    let mut reader = prefix.chain(&mut reader);
    let mut left = size;
    let mut buffer = Vec::new();
    let mut next = |buffer: &mut Vec<u8>| -> Result<bool, Error> {
        buffer.clear();
        reader.by_ref().take(u64::try_from(BLOCK).unwrap_or(u64::MAX).min(left)).read_to_end(buffer)?;
        let read = u64::try_from(buffer.len()).unwrap_or(0);
        if read == 0 && left > 0 {
            return Err(Error::Blob("spool".to_owned(), "shorter than it was"));
        }
        left = left.saturating_sub(read);
        Ok(left > 0)
    };
    if inline {
        next(&mut buffer)?;
        return Ok(Blob::Inline(encode_block(&buffer)?));
    }
    let mut id = [0; 16];
    random.fill(&mut id);
    let name = id.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let mut blocks = Vec::new();
    blobs.put(&name, &mut |out| {
        let more = next(&mut buffer)?;
        let frame = encode_block(&buffer)?;
        blocks.extend_from_slice(&u32::try_from(frame.len()).unwrap_or(u32::MAX).to_le_bytes());
        out.extend_from_slice(&frame);
        Ok(more)
    })?;
    let pending = Pending::new(Arc::clone(blobs), name.clone());
    Ok(Blob::File { name, blocks, pending })
}
