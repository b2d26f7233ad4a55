//! Signatures of messages that are being sent: one for all recipients, whatever their domains, and for all attempts.
//!
//! A message is signed when it is first handed over; the signature is remembered here for its other recipients, and the queue keeps it
//! for further attempts ([`mox_store::queue::Queue::keep_signature`]). Another is made when it has got half as old as it may get, or when
//! the keys have changed.

use super::Inner;
use super::failure::Failure;
use crate::metrics::SignLabels;
use crate::signing::Signing;
use mox_store::queue::{OpenBody, QueueMessageId, QueuedMessage, Signature};
use std::collections::BTreeMap;
use std::io::Cursor;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::OnceCell;

/// Signatures remembered: of the latest messages.
const REMEMBERED: usize = 256;

/// Which of a message's bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Form {
    /// The one that everybody can read.
    Plain,
    /// That of a DSN for hosts with SMTPUTF8.
    Utf8,
}

type Cell = Arc<OnceCell<Arc<Signature>>>;

/// Signatures of recent messages.
#[derive(Debug, Default)]
pub(super) struct Signatures(Mutex<BTreeMap<(QueueMessageId, Form), Cell>>);

impl Signatures {
    /// Where a message's signature is, or will be. One that isn't good any more makes place for another.
    fn cell(&self, message: QueueMessageId, form: Form, is_good: impl Fn(&Signature) -> bool) -> Cell {
        let mut cells = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let cell = cells.entry((message, form)).or_default();
        if cell.get().is_some_and(|signature| !is_good(signature)) {
            *cell = Cell::default();
        }
        let cell = Arc::clone(cell);
        if cells.len() > REMEMBERED {
            cells.pop_first();
        }
        cell
    }
}

/// The fields with which a message is sent; none if its domain doesn't sign.
pub(super) async fn signature(inner: &Inner, message: &QueuedMessage, form: Form) -> Result<Option<Arc<Signature>>, Failure> {
    let Some(domain) = &message.sign_domain else { return Ok(None) };
    let Some(signing) = Signing::of(&inner.ports.selectors, domain, message.report) else { return Ok(None) };
    let now = inner.now();
    let is_good = |signature: &Signature| signing.is_good(signature, now);
    if form == Form::Plain
        && let Some(kept) = message.signature.as_ref().filter(|s| is_good(s))
    {
        return Ok(Some(Arc::new(kept.clone())));
    }
    let make = async || {
        let body = match (form, &message.body_utf8) {
            (Form::Utf8, Some(body)) => OpenBody::Memory(Cursor::new(body.clone())),
            _ => open(inner, message.id).await?,
        };
        // Of a key that fails, the operator hears; the mail waits.
        let signature = signing.sign(&message.prefix, body, now).await.map_err(|e| Failure::ours(e.to_string()))?;
        for algorithm in signing.algorithms().filter(|_| !signature.fields.is_empty()) {
            let key = algorithm.split('-').next().unwrap_or(algorithm);
            inner.metrics.signed.get_or_create(&SignLabels { key }).inc();
        }
        Ok::<_, Failure>(Arc::new(signature))
    };
    let cell = inner.signatures.cell(message.id, form, is_good);
    cell.get_or_try_init(make).await.cloned().map(Some)
}

/// The body that everybody can read.
pub(super) async fn open(inner: &Inner, message: QueueMessageId) -> Result<OpenBody, Failure> {
    let body = inner.queue.open_body(message).await.map_err(|e| Failure::ours(format!("opening message: {e}")))?;
    body.ok_or_else(|| Failure::ours("message was removed from the queue"))
}
