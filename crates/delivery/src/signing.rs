//! DKIM keys by domain, and signing a message that is to be sent, however it was submitted.

use crate::spool::Spool;
use mox_base::{Domain, Timestamp};
use mox_mailauth::{DkimSelector, Signer};
use std::collections::BTreeMap;
use std::io::{self, Read as _, Seek as _};
use std::sync::{Arc, PoisonError, RwLock};

/// Bytes of a spooled message read at once.
const PIECE: usize = 64 << 10;

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

/// The fields to put in front of a message whose header section starts with `added`.
///
/// # Errors
/// Why it can't be signed.
pub async fn sign(
    selectors: Arc<[DkimSelector]>,
    domain: &Domain,
    added: &[u8],
    message: &Spool,
    now: Timestamp,
) -> Result<String, String> {
    match message {
        // Hashing what fits in memory takes microseconds.
        Spool::Memory(bytes) => {
            let mut signer = Signer::new(domain, None, &selectors);
            signer.push(added);
            signer.push(bytes);
            signer.finish(now).map_err(|e| e.to_string())
        }
        Spool::File { file, .. } => {
            let (file, domain, added) = (Arc::clone(file), domain.clone(), added.to_vec());
            let signed = tokio::task::spawn_blocking(move || {
                let mut signer = Signer::new(&domain, None, &selectors);
                signer.push(&added);
                read_all(&file, |piece| signer.push(piece)).map_err(|e| e.to_string())?;
                signer.finish(now).map_err(|e| e.to_string())
            });
            signed.await.map_err(|e| e.to_string())?
        }
    }
}

fn read_all(file: &std::fs::File, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let mut file = file;
    file.rewind()?;
    let mut buffer = vec![0; PIECE];
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            return Ok(());
        }
        each(buffer.get(..n).unwrap_or_default());
    }
}
