//! DKIM keys by domain. Messages are signed when they are sent (`outbound`), however long they waited, with the keys of that moment.

use mox_base::{Domain, Timestamp};
use mox_mailauth::{DkimSelector, SignError, Signer};
use mox_store::queue::{OpenBody, ReportKind, Signature};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// The selectors of each domain that signs.
type Selectors = BTreeMap<Domain, Arc<[DkimSelector]>>;

/// The selectors with which domains sign, replaced as a whole when the configuration changes. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct SharedSelectors {
    current: Arc<RwLock<Arc<Selectors>>>,
}

impl SharedSelectors {
    /// Starts with these.
    pub fn new(selectors: BTreeMap<Domain, Arc<[DkimSelector]>>) -> Self {
        Self { current: Arc::new(RwLock::new(Arc::new(selectors))) }
    }

    /// Puts others into effect.
    pub fn replace(&self, selectors: BTreeMap<Domain, Arc<[DkimSelector]>>) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(selectors);
    }

    /// Of a domain.
    pub fn of(&self, domain: &Domain) -> Option<Arc<[DkimSelector]>> {
        let current = Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner));
        current.get(domain).filter(|selectors| !selectors.is_empty()).cloned()
    }
}

/// How a domain signs a message.
#[derive(Debug)]
pub(crate) struct Signing {
    domain: Domain,
    selectors: Arc<[DkimSelector]>,
    /// Tells these keys from others.
    by: String,
}

/// Why there is no signature.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SigningError {
    #[error("signing: {0}")]
    Sign(#[from] SignError),
    #[error("reading message to be signed: {0}")]
    Read(#[from] io::Error),
}

impl Signing {
    /// By the current keys of a domain; none if it doesn't sign.
    pub(crate) fn of(selectors: &SharedSelectors, domain: &Domain, report: ReportKind) -> Option<Self> {
        let mut selectors = selectors.of(domain)?;
        if report == ReportKind::Tls {
            selectors = selectors.iter().map(with_tls_report_fields).collect();
        }
        let mut digest = Sha256::new();
        digest.update(domain.ascii());
        for selector in &*selectors {
            let key = selector.key.public_record().map(|record| record.to_text()).unwrap_or_default();
            digest.update(format!("\n{} {key}", selector.name.ascii()));
        }
        let by = digest.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        Some(Self { domain: domain.clone(), selectors, by })
    }

    /// Whether a signature is by the same keys, and is valid for long enough.
    pub(crate) fn is_good(&self, signature: &Signature, now: Timestamp) -> bool {
        signature.by == self.by && signature.again.is_none_or(|again| again > now)
    }

    /// The algorithms, one for each signature.
    pub(crate) fn algorithms(&self) -> impl Iterator<Item = &'static str> {
        self.selectors.iter().map(|selector| selector.key.algorithm())
    }

    /// Signs a message: its prefix, then its body. A message that can't be signed, whoever tries, gets no fields: it may still arrive.
    pub(crate) async fn sign(&self, prefix: &[u8], mut body: OpenBody, now: Timestamp) -> Result<Signature, SigningError> {
        let mut signer = Signer::new(&self.domain, None, &self.selectors);
        signer.push(prefix);
        loop {
            let chunk = body.next_chunk().await?;
            if chunk.is_empty() {
                break;
            }
            signer.push(&chunk);
        }
        let fields = match signer.finish(now) {
            Ok(fields) => fields.into_bytes(),
            Err(e @ (SignError::From | SignError::HeaderTooLarge | SignError::MalformedHeader)) => {
                tracing::warn!(error = %e, domain = %self.domain, "message is sent without dkim signature");
                Vec::new()
            }
            Err(e @ (SignError::Selector | SignError::Key)) => return Err(e.into()),
        };
        // Half of its time is for the recipients: relays, forwards and readers verify later, RFC 6376 §3.5 (x=).
        let shortest = self.selectors.iter().filter_map(|selector| selector.expiration).min();
        Ok(Signature { fields, by: self.by.clone(), again: shortest.map(|time: Duration| now.after(time / 2)) })
    }
}

/// The selector, also signing what RFC 8460 §5.3 adds to the header of TLS reports.
fn with_tls_report_fields(selector: &DkimSelector) -> DkimSelector {
    let mut selector = selector.clone();
    selector.headers.extend(["TLS-Report-Domain", "TLS-Report-Submitter"].map(str::to_owned));
    selector
}
