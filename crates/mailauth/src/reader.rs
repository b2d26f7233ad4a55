//! A message on its way through: what its verification needs, kept in one pass.
//!
//! [`MessageReader`] is fed the message in pieces. It keeps the header section; when that is complete it knows from the signatures
//! there which hashes of the body are wanted, and makes each once, as the body streams by. [`ReadMessage`] is what it leaves.

use crate::arc::{Chain, ChainError};
use crate::dkim::{BodyHasher, Canonicalization, Flavor, Signature};
use crate::section::Section;
use crate::tags::TagError;
use mox_message::Headers;

/// The most signatures that are looked at; real mail has one to three.
pub const MAX_SIGNATURES: usize = 12;

/// Why nothing of a message can be verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderProblem {
    /// A line in the header section that is no field.
    #[error("malformed message header")]
    Malformed,
    /// More than 1 MiB.
    #[error("message header too large")]
    TooLarge,
}

/// Reads a message for verification.
#[derive(Debug)]
pub struct MessageReader {
    section: Section,
    found: Option<Found>,
    bodies: Vec<BodyHasher>,
}

/// What the header section says.
#[derive(Debug)]
struct Found {
    dkim: Vec<Candidate>,
    arc: Result<Option<Chain>, ChainError>,
    problem: Option<HeaderProblem>,
}

/// A signature field.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    /// The field as it stands.
    pub(crate) raw: Vec<u8>,
    pub(crate) signature: Result<Signature, TagError>,
}

/// What was kept of a message.
#[derive(Debug)]
pub struct ReadMessage {
    pub(crate) header: Vec<u8>,
    pub(crate) dkim: Vec<Candidate>,
    pub(crate) arc: Result<Option<Chain>, ChainError>,
    pub(crate) problem: Option<HeaderProblem>,
    hashes: Vec<(Canonicalization, Option<u64>, [u8; 32])>,
}

impl Default for MessageReader {
    fn default() -> Self {
        Self::new()
    }
}

impl MessageReader {
    /// At the start of a message.
    pub const fn new() -> Self {
        Self { section: Section::new(), found: None, bodies: Vec::new() }
    }

    /// At the start of a message that is going to be sealed.
    pub fn for_sealing() -> Self {
        let mut reader = Self::new();
        reader.expect_sealing();
        reader
    }

    /// Before the first piece: the message is going to be sealed, and is hashed for that too.
    pub fn expect_sealing(&mut self) {
        if self.bodies.is_empty() {
            self.bodies.push(BodyHasher::new(Canonicalization::Relaxed, None));
        }
    }

    /// Takes the next piece of the message, which has CRLF line breaks.
    pub fn push(&mut self, data: &[u8]) {
        let body = self.section.push(data);
        if self.found.is_none() && matches!(self.section, Section::Complete(_)) {
            self.found = Some(self.look());
        }
        self.bodies.iter_mut().for_each(|b| b.push(body));
    }

    /// The message is complete.
    pub fn finish(mut self) -> ReadMessage {
        let found = match self.found.take() {
            Some(found) => found,
            // Without an empty line, all there is is header.
            None => self.look(),
        };
        let header = match self.section {
            Section::Reading(header) | Section::Complete(header) => header,
            Section::TooLarge => Vec::new(),
        };
        let hashes = self.bodies.into_iter().map(|b| (b.canonicalization(), b.limit(), b.finish())).collect();
        ReadMessage { header, dkim: found.dkim, arc: found.arc, problem: found.problem, hashes }
    }

    fn look(&mut self) -> Found {
        let Some(header) = self.section.bytes() else {
            return Found { dkim: Vec::new(), arc: Ok(None), problem: Some(HeaderProblem::TooLarge) };
        };
        let headers = Headers::new(header);
        if headers.fields().any(|f| f.name.is_empty()) {
            return Found { dkim: Vec::new(), arc: Ok(None), problem: Some(HeaderProblem::Malformed) };
        }
        let dkim: Vec<Candidate> = headers
            .all("DKIM-Signature")
            .take(MAX_SIGNATURES)
            .map(|f| Candidate { raw: f.raw.to_vec(), signature: Signature::parse(&String::from_utf8_lossy(f.value), Flavor::Dkim) })
            .collect();
        let arc = Chain::find(&headers);
        let signatures = dkim.iter().filter_map(|c| c.signature.as_ref().ok());
        let newest = arc.as_ref().ok().and_then(Option::as_ref).and_then(Chain::newest_signature);
        let wanted: Vec<(Canonicalization, Option<u64>)> =
            signatures.chain(newest).filter_map(|s| s.canonicalization.map(|(_, body)| (body, s.length))).collect();
        for (canonicalization, limit) in wanted {
            if !self.bodies.iter().any(|b| (b.canonicalization(), b.limit()) == (canonicalization, limit)) {
                self.bodies.push(BodyHasher::new(canonicalization, limit));
            }
        }
        Found { dkim, arc, problem: None }
    }
}

impl ReadMessage {
    /// The header section, with the empty line that ends it if there is one.
    pub fn header(&self) -> &[u8] {
        &self.header
    }

    /// Whether it has any signature of DKIM.
    pub fn is_signed(&self) -> bool {
        !self.dkim.is_empty()
    }

    pub(crate) fn body_hash(&self, canonicalization: Canonicalization, limit: Option<u64>) -> Option<&[u8; 32]> {
        self.hashes.iter().find(|(c, l, _)| (*c, *l) == (canonicalization, limit)).map(|(_, _, hash)| hash)
    }
}
