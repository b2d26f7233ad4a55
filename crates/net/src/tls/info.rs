//! What a handshake agreed on, or why it failed.

use super::check::{Fault, NoMatch};
use super::client_cert::ClientCert;
use super::end_point::server_end_point;
use mox_mailauth::tlsrpt::ResultType;
use rustls::{AlertDescription, CertificateError, CipherSuite, CommonState, Error, HandshakeKind, PeerIncompatible, ProtocolVersion};
use std::fmt;
use std::io;

/// What TLS agreed on. Displays as in a `Received` header: `TLS1.3 TLS_AES_128_GCM_SHA256`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsInfo {
    /// `TLS1.2` or `TLS1.3`.
    pub version: &'static str,
    /// The cipher suite's name at IANA.
    pub cipher: String,
    /// The name the client asked for; empty when it didn't.
    pub sni: String,
    /// The application protocol; empty when none was negotiated.
    pub alpn: String,
    /// The key exchange, by its name at IANA as far as we know it, such as `X25519MLKEM768`.
    pub group: String,
    /// Whether an earlier session was resumed.
    pub resumed: bool,
    /// The client's certificate, at the server.
    pub client: Option<ClientCert>,
    /// The `tls-server-end-point` channel binding, RFC 5929 §4, if the server's certificate allows one.
    pub server_end_point: Option<Vec<u8>>,
}

impl TlsInfo {
    /// At the server, which sent this certificate.
    pub(crate) fn of_server(connection: &CommonState, sni: Option<&str>, own: Option<&[u8]>) -> Self {
        let client = connection.peer_certificates().and_then(<[_]>::first).and_then(|der| ClientCert::from_der(der).ok());
        Self { client, server_end_point: own.and_then(server_end_point), ..Self::of(connection, sni) }
    }

    /// At the client, which asked for this name.
    pub(crate) fn of_client(connection: &CommonState, sni: &str) -> Self {
        let server = connection.peer_certificates().and_then(<[_]>::first);
        Self { server_end_point: server.and_then(|der| server_end_point(der)), ..Self::of(connection, Some(sni)) }
    }

    fn of(connection: &CommonState, sni: Option<&str>) -> Self {
        let version = match connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "TLS1.3",
            _ => "TLS1.2",
        };
        Self {
            version,
            cipher: connection.negotiated_cipher_suite().map(|s| iana_name(s.suite())).unwrap_or_default(),
            sni: sni.unwrap_or_default().to_owned(),
            alpn: connection.alpn_protocol().map(|p| String::from_utf8_lossy(p).into_owned()).unwrap_or_default(),
            group: connection.negotiated_key_exchange_group().map(|g| format!("{:?}", g.name())).unwrap_or_default(),
            resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
            client: None,
            server_end_point: None,
        }
    }

    /// For records of login attempts: `version=… ciphersuite=… sni=… resumed=… alpn=…`.
    pub fn log_form(&self) -> String {
        let Self { version, cipher, sni, alpn, resumed, .. } = self;
        format!("version={version} ciphersuite={cipher} sni={sni} resumed={resumed} alpn={alpn}")
    }
}

impl fmt::Display for TlsInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.version, self.cipher)
    }
}

/// rustls names the suites of TLS 1.3 `TLS13_…`, IANA `TLS_…`.
pub(super) fn iana_name(suite: CipherSuite) -> String {
    let name = format!("{suite:?}");
    match name.strip_prefix("TLS13_") {
        Some(rest) => format!("TLS_{rest}"),
        None => name,
    }
}

/// Why there is no TLS. The connection can't be used any more.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The handshake took too long.
    #[error("TLS handshake timed out")]
    Timeout,
    /// TLS is active already, or the connection is closed.
    #[error("not a connection in the clear")]
    NotPlain,
    /// The server's name can't be in a certificate.
    #[error("bad server name for TLS: {0:?}")]
    BadName(String),
    /// The peer closed the connection.
    #[error("connection closed during TLS handshake")]
    Eof,
    /// TLS failed.
    #[error("TLS handshake: {0}")]
    Tls(Error),
    /// We have no certificate for the client.
    #[error("TLS handshake refused: {0}")]
    Refused(#[from] Refusal),
    /// The connection failed.
    #[error("TLS handshake: {0}")]
    Io(String),
}

/// Why we have no certificate for a client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It asks for no name, and there is no default.
    #[error("no server name")]
    NoName,
    /// It asks for a name that isn't ours.
    #[error("unknown server name {0:?}")]
    UnknownName(String),
    /// There should be one, but isn't.
    #[error("no certificate for {name}: {why}")]
    Unavailable {
        /// The name.
        name: String,
        /// What is wrong.
        why: String,
    },
}

impl Refusal {
    /// What the client is told, RFC 6066 §3 and RFC 8446 §6.2.
    pub(crate) fn alert(&self) -> AlertDescription {
        match self {
            Self::NoName | Self::UnknownName(_) => AlertDescription::UnrecognisedName,
            Self::Unavailable { .. } => AlertDescription::InternalError,
        }
    }
}

impl HandshakeError {
    pub(crate) fn from_io(e: &io::Error) -> Self {
        match e.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            Some(tls) => Self::Tls(tls.clone()),
            None if e.kind() == io::ErrorKind::UnexpectedEof => Self::Eof,
            None => Self::Io(e.to_string()),
        }
    }

    /// What a TLS report says, RFC 8460 §4.3.
    pub fn fault(&self) -> Fault {
        let failure = |reason: &str| Fault { result: ResultType::ValidationFailure, reason: reason.to_owned() };
        match self {
            Self::Tls(e) => fault_of(e),
            Self::Timeout => failure("io-timeout-during-handshake"),
            Self::Eof => failure("connection-closed-during-handshake"),
            Self::BadName(_) => failure("bad-server-name"),
            Self::NotPlain | Self::Refused(_) | Self::Io(_) => failure("connection-error-during-handshake"),
        }
    }

    /// For whoever has to find out what is wrong.
    pub fn describe(&self) -> String {
        match self {
            Self::Tls(Error::InvalidCertificate(CertificateError::Other(other))) if other.0.is::<NoMatch>() => {
                format!("certificate: {NoMatch}")
            }
            Self::Tls(Error::InvalidCertificate(why)) => format!("certificate: {why}"),
            other => other.to_string(),
        }
    }

    /// A label for metrics: `eof`, `unsupportedversions`, `nottls`, `alert-<number>-<name>` or `other`.
    pub fn reason(&self) -> String {
        match self {
            Self::Eof => "eof".into(),
            Self::Tls(Error::AlertReceived(alert)) => alert_label(*alert),
            Self::Tls(Error::InvalidMessage(_)) => "nottls".into(),
            Self::Tls(Error::PeerIncompatible(
                PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::Tls12NotOfferedOrEnabled
                | PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::SupportedVersionsExtensionRequired,
            )) => "unsupportedversions".into(),
            _ => "other".into(),
        }
    }
}

/// What a TLS report says of an error, RFC 8460 §4.3.
pub(super) fn fault_of(e: &Error) -> Fault {
    let (result, reason) = match e {
        Error::InvalidCertificate(why) => match why {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => (ResultType::CertificateExpired, String::new()),
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                (ResultType::CertificateHostMismatch, String::new())
            }
            CertificateError::UnknownIssuer => (ResultType::CertificateNotTrusted, String::new()),
            CertificateError::Other(other) if other.0.is::<NoMatch>() => (ResultType::TlsaInvalid, "dane-no-match".to_owned()),
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                (ResultType::CertificateNotTrusted, "not-yet-valid".to_owned())
            }
            CertificateError::BadEncoding => (ResultType::CertificateNotTrusted, "bad-encoding".to_owned()),
            CertificateError::BadSignature => (ResultType::CertificateNotTrusted, "bad-signature".to_owned()),
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                (ResultType::CertificateNotTrusted, "not-for-servers".to_owned())
            }
            _ => (ResultType::CertificateNotTrusted, "not-authorized-to-sign".to_owned()),
        },
        Error::AlertReceived(alert) => (ResultType::ValidationFailure, format!("tls-remote-{}", alert_label(*alert))),
        Error::InvalidMessage(_) => (ResultType::ValidationFailure, "tls-record-header-error".to_owned()),
        _ => (ResultType::ValidationFailure, "tls-handshake-error".to_owned()),
    };
    Fault { result, reason }
}

/// `alert-42-bad-certificate`.
fn alert_label(alert: AlertDescription) -> String {
    let mut label = format!("alert-{}", u8::from(alert));
    for c in format!("{alert:?}").chars().filter(char::is_ascii_alphanumeric) {
        if c.is_ascii_uppercase() {
            label.push('-');
        }
        label.push(c.to_ascii_lowercase());
    }
    label
}
