//! `moxsubmit.conf`: how the program sends when it is called as `sendmail`.

use crate::choice::choices;
use crate::schema::Section;
use mox_base::{Domain, Secret};

/// Configuration of the sendmail role.
#[derive(Clone, Debug, PartialEq, Eq, Section)]
pub struct Submit {
    /// NOTE: This is a file in the sconf format. Indent with tabs, one per level. Comments have a line of their own, they
    /// don't end a line. Values aren't quoted or escaped: a value is the rest of its line.
    ///
    ///
    /// Host name of this machine, for EHLO.
    pub local_hostname: Domain,
    /// Server to send through: host name or IP address.
    pub host: String,
    /// Port of the server: 465 with TLS, 587 with STARTTLS, or 25.
    pub port: u16,
    /// TLS from the start, with a certificate that verifies.
    #[config(name = "TLS")]
    pub tls: bool,
    /// STARTTLS, with a certificate that verifies. Used when TLS is false.
    #[config(name = "STARTTLS")]
    pub starttls: bool,
    /// Don't verify the certificate.
    #[config(optional, name = "TLSInsecureSkipVerify")]
    pub tls_insecure_skip_verify: bool,
    /// Name to log in with.
    pub username: String,
    /// Password to log in with. One of this and the next two is needed.
    #[config(optional)]
    pub password: Option<Secret<String>>,
    /// Ed25519 key for a TLS client certificate: the seed of 32 bytes in raw-url base64.
    #[config(optional)]
    pub client_auth_ed25519_private_key: Option<Secret<String>>,
    /// File with a TLS client certificate and its key, in PEM.
    #[config(optional, name = "ClientAuthCertPrivateKeyPEMFile")]
    pub client_auth_cert_private_key_pem_file: String,
    /// How to log in: EXTERNAL, SCRAM-SHA-256-PLUS, SCRAM-SHA-256, SCRAM-SHA-1-PLUS, SCRAM-SHA-1, CRAM-MD5 or PLAIN. Empty:
    /// the first of these that the server offers.
    pub auth_method: Option<AuthMethod>,
    /// Address for MAIL FROM and for the From header.
    pub from: String,
    /// Recipient in place of names without a domain, as cron uses them.
    #[config(optional)]
    pub default_destination: String,
    /// yes: only deliver with verified TLS on the whole way (REQUIRETLS). no: deliver even where policies ask for verified
    /// TLS. Empty: as policies say.
    #[config(optional, name = "RequireTLS")]
    pub require_tls: Option<RequireTls>,
}

choices! {
    /// How to log in.
    pub enum AuthMethod {
        /// With the client certificate.
        External = "EXTERNAL",
        /// RFC 7677, with channel binding.
        ScramSha256Plus = "SCRAM-SHA-256-PLUS",
        /// RFC 7677.
        ScramSha256 = "SCRAM-SHA-256",
        /// RFC 5802, with channel binding.
        ScramSha1Plus = "SCRAM-SHA-1-PLUS",
        /// RFC 5802.
        ScramSha1 = "SCRAM-SHA-1",
        /// RFC 2195.
        CramMd5 = "CRAM-MD5",
        /// RFC 4616.
        Plain = "PLAIN",
    }
}

choices! {
    /// RFC 8689.
    pub enum RequireTls {
        /// REQUIRETLS.
        Yes = "yes",
        /// `TLS-Required: No`.
        No = "no",
    }
}
