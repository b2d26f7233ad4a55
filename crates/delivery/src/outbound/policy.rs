//! What TLS a next hop must offer.
//!
//! Without a policy of the recipient's domain, TLS is opportunistic: used when offered, never required, RFC 7435. This is
//! where DANE (RFC 7672) and MTA-STS (RFC 8461) will say more.

use super::attempt::requiretls_failure;
use super::failure::Failure;
use mox_smtp::client::TlsMode;

/// The requirements for one host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TlsPolicy {
    /// How TLS is used.
    pub(super) mode: TlsMode,
    /// Whether a failure of TLS leads to another connection without it.
    pub(super) fallback: bool,
}

impl TlsPolicy {
    /// For a message that requires TLS (`Some(true)`), doesn't care (`Some(false)`), or leaves it to the domain.
    ///
    /// # Errors
    /// RFC 8689 §4.2.1: a message that requires TLS goes only to hosts that are known for sure.
    pub(super) fn of(require_tls: Option<bool>) -> Result<Self, Failure> {
        if require_tls == Some(true) {
            return Err(requiretls_failure(false, "next hop has neither DANE nor enforced MTA-STS, which the message requires"));
        }
        Ok(Self { mode: TlsMode::Opportunistic, fallback: true })
    }
}
