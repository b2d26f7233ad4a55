//! The mechanisms' names, and what they need from the connection.

use crate::scram::Hash;
use std::fmt;

/// A mechanism that both ends here speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mechanism {
    /// RFC 4616.
    Plain,
    /// draft-murchison-sasl-login.
    Login,
    /// RFC 2195.
    CramMd5,
    /// RFC 5802, or RFC 7677 with SHA-256.
    Scram {
        /// The hash function.
        hash: Hash,
        /// Whether channel binding is mandatory: the `-PLUS` variant.
        plus: bool,
    },
    /// RFC 4422 appendix A: the TLS client certificate says who it is.
    External,
}

impl Mechanism {
    /// All but EXTERNAL, in the order in which they are announced, best first.
    pub const ANNOUNCED: [Self; 7] = [
        Self::Scram { hash: Hash::Sha256, plus: true },
        Self::Scram { hash: Hash::Sha256, plus: false },
        Self::Scram { hash: Hash::Sha1, plus: true },
        Self::Scram { hash: Hash::Sha1, plus: false },
        Self::CramMd5,
        Self::Plain,
        Self::Login,
    ];

    /// The registered name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
            Self::CramMd5 => "CRAM-MD5",
            Self::Scram { hash: Hash::Sha1, plus: false } => "SCRAM-SHA-1",
            Self::Scram { hash: Hash::Sha1, plus: true } => "SCRAM-SHA-1-PLUS",
            Self::Scram { hash: Hash::Sha256, plus: false } => "SCRAM-SHA-256",
            Self::Scram { hash: Hash::Sha256, plus: true } => "SCRAM-SHA-256-PLUS",
            Self::External => "EXTERNAL",
        }
    }

    /// The name in lower case, as attempts are counted and recorded.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Login => "login",
            Self::CramMd5 => "cram-md5",
            Self::Scram { hash: Hash::Sha1, plus: false } => "scram-sha-1",
            Self::Scram { hash: Hash::Sha1, plus: true } => "scram-sha-1-plus",
            Self::Scram { hash: Hash::Sha256, plus: false } => "scram-sha-256",
            Self::Scram { hash: Hash::Sha256, plus: true } => "scram-sha-256-plus",
            Self::External => "external",
        }
    }

    /// The mechanism of a name in upper case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ANNOUNCED.into_iter().chain([Self::External]).find(|m| m.name() == name)
    }

    /// Whether the password itself crosses the wire, so that TLS has to protect it.
    pub const fn sends_password(self) -> bool {
        matches!(self, Self::Plain | Self::Login)
    }

    /// Whether the mechanism makes no sense without TLS.
    pub const fn is_bound_to_tls(self) -> bool {
        matches!(self, Self::External) || self.binds_channel()
    }

    /// Whether the mechanism needs something of the TLS connection to bind to.
    pub const fn binds_channel(self) -> bool {
        matches!(self, Self::Scram { plus: true, .. })
    }

    /// Whether the client speaks first, so that it can send its message with the command.
    pub const fn is_client_first(self) -> bool {
        !matches!(self, Self::CramMd5)
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The channel bindings that this TLS connection has; none on a plain one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bindings {
    /// `tls-exporter`, RFC 9266 §2: 32 bytes for the label `EXPORTER-Channel-Binding`. TLS 1.3 only.
    pub exporter: Option<Vec<u8>>,
    /// `tls-server-end-point`, RFC 5929 §4: hash of the server's certificate.
    pub server_end_point: Option<Vec<u8>>,
}

impl Bindings {
    /// Whether there is anything to bind to.
    pub const fn is_empty(&self) -> bool {
        self.exporter.is_none() && self.server_end_point.is_none()
    }

    /// The data for a registered binding name.
    pub fn named(&self, name: &str) -> Option<&[u8]> {
        match name {
            "tls-exporter" => self.exporter.as_deref(),
            "tls-server-end-point" => self.server_end_point.as_deref(),
            _ => None,
        }
    }

    /// The best binding for a client to use.
    pub fn preferred(&self) -> Option<(&'static str, &[u8])> {
        let exporter = self.exporter.as_deref().map(|data| ("tls-exporter", data));
        exporter.or_else(|| self.server_end_point.as_deref().map(|data| ("tls-server-end-point", data)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_upper_case_only() {
        for mechanism in Mechanism::ANNOUNCED {
            assert_eq!(Mechanism::from_name(mechanism.name()), Some(mechanism));
            assert_eq!(mechanism.label().to_ascii_uppercase(), mechanism.name());
        }
        assert_eq!(Mechanism::from_name("EXTERNAL"), Some(Mechanism::External));
        assert_eq!(Mechanism::from_name("plain"), None);
    }
}
