//! What is done with registered keys of TLS client certificates, as it crosses the control socket.

use serde::{Deserialize, Serialize};

/// Something to do with the registered keys.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum TlsKeyTask {
    /// Print those of an account; empty for all.
    List { account: String },
    /// Print one with its certificate.
    Get { fingerprint: String },
    /// Register one.
    Add {
        /// Whom it stands for.
        address: String,
        /// What to call it; empty for the certificate's name.
        name: String,
        /// Whether IMAP connections with it begin without a login.
        no_imap_preauth: bool,
        /// The certificate.
        pem: String,
    },
    /// Forget one.
    Remove { fingerprint: String },
}

impl TlsKeyTask {
    /// Its name, for the log.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::List { .. } => "tlspubkeylist",
            Self::Get { .. } => "tlspubkeyget",
            Self::Add { .. } => "tlspubkeyadd",
            Self::Remove { .. } => "tlspubkeyrm",
        }
    }
}
