//! Reading stored messages. Flags stay as they are.

use super::Call;
use super::change::FLAGS;
use crate::body::Body;
use hyper::Response;
use hyper::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue};
use mox_base::MessageId;
use mox_delivery::content::{PartDecoder, content, message, pieces};
use mox_message::Structure;
use mox_store::account::MessageFacts;
use mox_store::{Account, Error as StoreError, Flags};
use mox_webapi::{Error, ErrorCode, MessageGetResponse, MessageMeta, MessagePartRequest, MessageRequest};
use std::io;
use std::ops::Range;
use tokio::sync::mpsc;

/// The largest header section that is looked at.
pub(super) const MAX_HEADER: u64 = 1 << 20;

/// Bytes read at once for a response.
const PIECE: u64 = 256 << 10;

/// Pieces read ahead of a client.
const AHEAD: usize = 2;

impl Call {
    pub(super) async fn message_get(&self, request: MessageRequest) -> Result<MessageGetResponse, Error> {
        let account = self.account().await?;
        let id = MessageId(request.msg_id);
        let read = account.read(move |tx| {
            let facts = tx.facts(id)?;
            let structure = tx.structure(id)?;
            let bytes = |range: Range<u64>| {
                let mut bytes = Vec::new();
                tx.message_bytes(id, range, &mut bytes)?;
                Ok::<_, StoreError>(bytes)
            };
            let header = structure.root().header.clone();
            let header = bytes(header.start..header.end.min(MAX_HEADER))?;
            let content = content(&structure, bytes)?;
            Ok::<_, StoreError>((facts, message(&header, &structure, &content), content.structure))
        });
        let (facts, message, structure) = read.await.map_err(|e| self.message_error("reading message", &e))?;
        let meta = self.meta(&account, facts).await?;
        Ok(MessageGetResponse { message, structure, meta })
    }

    pub(super) async fn meta(&self, account: &Account, facts: MessageFacts) -> Result<MessageMeta, Error> {
        let view = account.view(facts.mailbox).await.map_err(|e| self.message_error("reading mailbox", &e))?;
        let gone = || Error::new(ErrorCode::MessageNotFound, "message not found");
        let (flags, keywords) = view.flags(facts.uid).ok_or_else(gone)?;
        let mut keywords: Vec<String> = view.keyword_names(&keywords).map(ToString::to_string).collect();
        keywords.sort_unstable();
        Ok(MessageMeta {
            size: i64::try_from(facts.size.0).unwrap_or(i64::MAX),
            dsn: facts.dsn,
            flags: flag_names(flags).chain(keywords).collect(),
            // The author is only said of what came from outside.
            msg_from: facts.msg_from.filter(|_| facts.remote_ip.is_some()).unwrap_or_default(),
            mail_from: facts.mail_from.unwrap_or_default(),
            mail_from_validated: facts.mail_from_validated,
            rcpt_to: facts.rcpt_to.unwrap_or_default(),
            msg_from_validated: facts.msg_from_validated,
            dkim_verified_domains: facts.dkim_domains,
            remote_ip: facts.remote_ip.unwrap_or_default(),
            mailbox_name: view.mailbox().name.to_string(),
        })
    }

    pub(super) async fn message_raw_get(&self, request: MessageRequest) -> Result<Response<Body>, Error> {
        let account = self.account().await?;
        let id = MessageId(request.msg_id);
        let first = read_range(&account, id, 0..PIECE).await.map_err(|e| self.message_error("reading message", &e))?;
        let (sender, body) = mpsc::channel(AHEAD);
        let cid = self.id;
        let (mut piece, size) = first;
        self.parts().tasks.spawn(async move {
            let mut at = 0;
            while !piece.is_empty() {
                at += u64::try_from(piece.len()).unwrap_or(u64::MAX);
                if sender.send(Ok(piece.into())).await.is_err() || at >= size {
                    return;
                }
                piece = match read_range(&account, id, at..at.saturating_add(PIECE)).await {
                    Ok((piece, _)) => piece,
                    Err(error) => {
                        tracing::error!(target: "webapi", cid, %error, "reading message");
                        return drop(sender.send(Err(io::Error::other("reading message"))).await);
                    }
                };
            }
        });
        let mut response = Response::new(Body::pieces(body));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        response.headers_mut().insert(CONTENT_LENGTH, size.into());
        Ok(response)
    }

    pub(super) async fn message_part_get(&self, request: MessagePartRequest) -> Result<Response<Body>, Error> {
        let account = self.account().await?;
        let id = MessageId(request.msg_id);
        let read = account.read(move |tx| {
            tx.facts(id)?;
            tx.structure(id)
        });
        let structure = read.await.map_err(|e| self.message_error("reading message", &e))?;
        let Some(index) = part_at(&structure, &request.part_path) else {
            return Err(Error::new(ErrorCode::PartNotFound, "message has no part with this path"));
        };
        let part = structure.part(index).cloned().ok_or_else(|| Error::new(ErrorCode::PartNotFound, "no such part"))?;
        let media_type =
            if part.is_multipart() { "application/octet-stream".to_owned() } else { format!("{}/{}", part.media_type, part.subtype) };
        let charset = part.param("charset").filter(|_| part.is_text()).map(|c| format!("; charset=\"{c}\""));
        let (sender, body) = mpsc::channel(AHEAD);
        let cid = self.id;
        self.parts().tasks.spawn(async move {
            let mut decoder = PartDecoder::new(&part);
            for range in pieces(&part.body) {
                let piece = match read_range(&account, id, range).await {
                    Ok((piece, _)) => decoder.push(&piece),
                    Err(error) => {
                        tracing::error!(target: "webapi", cid, %error, "reading part of message");
                        return drop(sender.send(Err(io::Error::other("reading part"))).await);
                    }
                };
                if !piece.is_empty() && sender.send(Ok(piece.into())).await.is_err() {
                    return;
                }
            }
            let rest = decoder.finish();
            if !rest.is_empty() {
                drop(sender.send(Ok(rest.into())).await);
            }
        });
        let mut response = Response::new(Body::pieces(body));
        let headers = response.headers_mut();
        let kind = HeaderValue::from_str(&format!("{media_type}{}", charset.unwrap_or_default()));
        headers.insert(CONTENT_TYPE, kind.unwrap_or(HeaderValue::from_static("application/octet-stream")));
        // Other people's HTML mustn't run with our origin.
        headers.insert(CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; sandbox"));
        Ok(response)
    }
}

/// A range of a message's bytes, and its size. Each is read by itself: a slow client doesn't keep a snapshot open.
async fn read_range(account: &Account, id: MessageId, range: Range<u64>) -> Result<(Vec<u8>, u64), StoreError> {
    account
        .read(move |tx| {
            // At the start only: what is being read stays, even if it is removed meanwhile.
            if range.start == 0 {
                tx.facts(id)?;
            }
            let mut bytes = Vec::new();
            let size = tx.message_bytes(id, range, &mut bytes)?;
            Ok((bytes, size.0))
        })
        .await
}

/// The index of a part by a path of indices from zero.
fn part_at(structure: &Structure, path: &[i64]) -> Option<usize> {
    let mut at = 0;
    for index in path {
        at = *structure.part(at)?.children.get(usize::try_from(*index).ok()?)?;
    }
    Some(at)
}

fn flag_names(flags: Flags) -> impl Iterator<Item = String> {
    FLAGS.into_iter().filter(move |(_, flag)| flags.has(*flag)).map(|(name, _)| name.to_owned())
}
