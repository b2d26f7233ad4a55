//! MTA-STS, RFC 8461: the record in DNS, the policy behind HTTPS, and which hosts it allows.
//!
//! Nothing here keeps or fetches policies: `delivery` does, with a cache in the store.

mod policy;
mod record;

pub use policy::{MAX_POLICY, Mode, Pattern, Policy, PolicyError};
pub use record::{Record, RecordError, lookup, parse_record};
