//! What is done with reports, as it crosses the control socket.

use serde::{Deserialize, Serialize};

/// Something to do with reports.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum ReportTask {
    /// Keep the DMARC report in a message.
    AddDmarc {
        /// Who sent it.
        from_domain: String,
        /// The message, which is ASCII.
        message: String,
    },
    /// Keep the TLS report in a message.
    AddTls {
        /// Who sent it.
        from_domain: String,
        /// The message, which is ASCII.
        message: String,
    },
    /// Print which DMARC reports came, about a domain or all.
    ListDmarc { domain: String },
    /// Print which TLS reports came, about a domain or all.
    ListTls { domain: String },
    /// Send DMARC reports now, of times that aren't over yet, too.
    SendDmarc,
    /// Send TLS reports now, of today, too.
    SendTls,
}

impl ReportTask {
    /// Its name, for the log.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::AddDmarc { .. } => "dmarcdbaddreport",
            Self::AddTls { .. } => "tlsrptdbaddreport",
            Self::ListDmarc { .. } => "dmarcdblist",
            Self::ListTls { .. } => "tlsrptdblist",
            Self::SendDmarc => "dmarcdbsend",
            Self::SendTls => "tlsrptdbsend",
        }
    }
}
