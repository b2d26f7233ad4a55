//! Webhooks: what is told to the programs of an account about its mail, and how they are called.
//!
//! [`outgoing`] makes the webhook of an event about a message that was sent; whoever records the event inserts it in
//! the same transaction. [`Arrivals`] tells of messages that arrived, or of what they say about earlier ones. [`Runner`] calls what is due; [`Call`] is one call, also for trying out.

#[cfg(test)]
mod arrival_tests;
mod arrivals;
mod call;
mod complaint;
mod incoming;
mod metrics;
mod outgoing;
mod returned;
mod runner;
mod schedule;
#[cfg(test)]
mod tests;

pub use arrivals::{ArrivalNote, Arrivals, ArrivalsParts};
pub use call::{Call, Called, signature};
pub use metrics::Metrics;
pub use outgoing::{Facts, outgoing};
pub use runner::{Parts, Runner};
pub use schedule::Schedule;

use mox_store::directory::AccountSettings;
use std::time::Duration;

/// How long retired webhooks of accounts that are gone are kept.
const KEEP_WITHOUT_ACCOUNT: Duration = Duration::from_secs(7 * 24 * 3600);

/// How long retired webhooks of an account are kept, none for not at all. Without the account, a while.
#[must_use]
pub fn keep_retired(account: Option<&AccountSettings>) -> Option<Duration> {
    let period = account.map_or(KEEP_WITHOUT_ACCOUNT, |account| account.keep_retired_webhooks);
    (!period.is_zero()).then_some(period)
}
