//! Why a recipient didn't get a message, as the queue records it and DSNs tell it.

use mox_smtp::client::{Error, ErrorKind, Stage};
use mox_store::queue::{HoldReason, suppression};
use std::net::IpAddr;

/// The other end of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// Its name.
    pub name: String,
    /// Its address, when connected.
    pub ip: Option<IpAddr>,
    /// TLS version and cipher suite, and whether the certificate was verified; empty in the clear.
    pub tls: String,
}

impl Remote {
    /// A host that isn't connected.
    pub const fn named(name: String) -> Self {
        Self { name, ip: None, tls: String::new() }
    }

    /// A host at an address, without TLS.
    pub const fn at(name: String, ip: IpAddr) -> Self {
        Self { name, ip: Some(ip), tls: String::new() }
    }
}

/// A failure for one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Whether trying again can't help.
    pub permanent: bool,
    /// Whether the fault is ours (a full disk, a shutdown): such a failure never uses up an attempt.
    pub ours: bool,
    /// Whether it is about the host rather than the message or a recipient, so that another host may do better.
    pub of_host: bool,
    /// Whether it wasn't tried, because the recipient is on the account's suppression list.
    pub suppressed: bool,
    /// Whether the next attempt comes from another address of ours, or goes to one of another family.
    pub elsewhere: bool,
    /// Set when it is no use to try before something has changed here: the entry is held.
    pub hold: Option<HoldReason>,
    /// The SMTP reply code, 0 without one.
    pub code: u16,
    /// The enhanced status code without its class; may be empty.
    pub secode: String,
    /// What happened, in one line.
    pub text: String,
    /// The lines of the remote's reply, if it was one.
    pub lines: Vec<String>,
    /// With whom.
    pub remote: Option<Remote>,
}

impl Failure {
    fn new(permanent: bool, text: String) -> Self {
        Self {
            permanent,
            ours: false,
            of_host: false,
            suppressed: false,
            elsewhere: false,
            hold: None,
            code: 0,
            secode: String::new(),
            text,
            lines: Vec::new(),
            remote: None,
        }
    }

    /// Trying again may help.
    pub fn temporary(text: impl Into<String>) -> Self {
        Self::new(false, text.into())
    }

    /// It won't.
    pub fn permanent(text: impl Into<String>) -> Self {
        Self::new(true, text.into())
    }

    /// The recipient is on the account's suppression list.
    pub fn suppressed() -> Self {
        Self { suppressed: true, ..Self::permanent("address is on the suppression list") }
    }

    /// It has to come back, because it is late.
    pub fn late() -> Self {
        Self { secode: LATE_SECODE.to_owned(), ..Self::permanent("not delivered within the time that the sender gave") }
    }

    /// Our own fault, and thus temporary.
    pub fn ours(text: impl Into<String>) -> Self {
        Self { ours: true, ..Self::temporary(text) }
    }

    /// What it needs isn't there; it waits until it is.
    pub fn held(reason: HoldReason, text: impl Into<String>) -> Self {
        Self { hold: Some(reason), ..Self::temporary(text) }
    }

    /// Whether a refusal is about our address or network, as lists of such addresses have it, rather than about the message or a recipient: a
    /// refusal by policy (RFC 3463 §3.8, X.7.X, or without an enhanced code) that speaks of such lists, or names the address as blocked.
    pub fn blames_sending_host(&self, address: Option<IpAddr>) -> bool {
        let may_be = self.secode.is_empty() || self.secode == "0.0" || self.secode.starts_with("7.");
        self.code >= 400 && may_be && !self.is_requiretls() && suppression::blames_sending_host(&self.lines.join(" "), address)
    }

    /// The same, with this remote.
    #[must_use]
    pub fn at(self, remote: &Remote) -> Self {
        Self { remote: Some(remote.clone()), ..self }
    }

    /// From what the client session says.
    pub fn of_session(error: &Error, remote: &Remote) -> Self {
        // RFC 8689 §5: what the whole attempt fails with if no host offers it.
        let secode = match error.kind {
            ErrorKind::RequireTlsUnsupported => REQUIRETLS_SECODE.to_owned(),
            ErrorKind::DeliverByUnsupported => LATE_SECODE.to_owned(),
            _ => error.secode(),
        };
        Self {
            permanent: error.permanent,
            ours: error.kind == ErrorKind::Message,
            of_host: is_of_host(error),
            suppressed: false,
            elsewhere: false,
            hold: None,
            code: error.code().unwrap_or(0),
            secode,
            text: error.to_string(),
            lines: error.lines(),
            remote: Some(remote.clone()),
        }
    }

    /// Whether this is about REQUIRETLS not being offered, so that another host may do better.
    pub fn is_requiretls(&self) -> bool {
        self.secode == REQUIRETLS_SECODE
    }

    /// Status for a DSN, RFC 3464 §2.3.4: class, subject, detail; `x.0.0` if unknown.
    pub fn status(&self, failed: bool) -> String {
        let detail = if self.secode.is_empty() { "0.0" } else { self.secode.as_str() };
        format!("{}.{detail}", if failed { 5 } else { 4 })
    }
}

/// A host that wants nobody's mail, RFC 7504 §4, takes only smaller messages, RFC 1870 §6.1, or promises no time, RFC 2852 §4.1.
fn is_of_host(error: &Error) -> bool {
    let too_large = error.kind == ErrorKind::Size || (error.stage == Stage::Mail && error.code() == Some(552));
    let in_time = error.kind != ErrorKind::DeliverByUnsupported;
    !in_time || too_large || matches!(error.stage, Stage::Greeting | Stage::Ehlo | Stage::Helo)
}

/// “Delivery time expired”, RFC 3463 §3.5.
pub(super) const LATE_SECODE: &str = "4.7";

/// “REQUIRETLS support required”, RFC 8689 §5.
pub const REQUIRETLS_SECODE: &str = "7.30";
