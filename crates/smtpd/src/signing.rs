//! Signing a submitted message.

use crate::spool::Received;
use mox_base::{Address, Timestamp};
use mox_delivery::signing;
use mox_mailauth::DkimSelector;
use std::sync::Arc;

pub use mox_delivery::signing::SharedSelectors;

/// The fields to put in front of a message whose header section starts with `added`.
///
/// # Errors
/// Why it can't be signed.
pub(crate) async fn sign(
    selectors: Arc<[DkimSelector]>,
    author: &Address,
    added: &[u8],
    message: &Received,
    now: Timestamp,
) -> Result<String, String> {
    signing::sign(selectors, &author.domain, added, &message.content, now).await
}
