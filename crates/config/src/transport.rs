//! Transports: ways for outgoing mail that routes choose from.

use crate::choice::choices;
use crate::schema::Section;
use crate::text::AsciiText;
use crate::value::UnicodeDomain;
use mox_base::{Domain, Secret};
use std::net::IpAddr;

/// A way for outgoing mail: at most one method, none is normal delivery.
#[derive(Clone, Debug, Default, PartialEq, Eq, Section)]
pub struct Transport {
    /// Hand messages to a server with TLS from the start, usually on port 465, usually logging in.
    #[config(optional)]
    pub submissions: Option<TransportSmtp>,
    /// Hand messages to a server with STARTTLS, usually on port 587, usually logging in.
    #[config(optional)]
    pub submission: Option<TransportSmtp>,
    /// Hand messages to a server with STARTTLS, usually on port 25, usually without logging in.
    #[config(optional, name = "SMTP")]
    pub smtp: Option<TransportSmtp>,
    /// Deliver directly, with connections through a SOCKS5 proxy.
    #[config(optional)]
    pub socks: Option<TransportSocks>,
    /// Deliver directly, with one family of IP addresses, or from certain addresses of this machine.
    #[config(optional)]
    pub direct: Option<TransportDirect>,
    /// Fail deliveries at once.
    #[config(optional)]
    pub fail: Option<TransportFail>,
}

/// The method of a transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method<'a> {
    /// Normal delivery.
    Normal,
    /// A smarthost with implicit TLS.
    Submissions(&'a TransportSmtp),
    /// A smarthost on the submission port.
    Submission(&'a TransportSmtp),
    /// A smarthost on the SMTP port.
    Smtp(&'a TransportSmtp),
    /// Normal delivery through a proxy.
    Socks(&'a TransportSocks),
    /// Normal delivery with one address family.
    Direct(&'a TransportDirect),
    /// Failure.
    Fail(&'a TransportFail),
}

impl Transport {
    /// The method; a valid transport has one.
    pub fn method(&self) -> Method<'_> {
        self.methods().into_iter().next().unwrap_or(Method::Normal)
    }

    /// All methods that are set; more than one is a mistake.
    pub fn methods(&self) -> Vec<Method<'_>> {
        let all = [
            self.submissions.as_ref().map(Method::Submissions),
            self.submission.as_ref().map(Method::Submission),
            self.smtp.as_ref().map(Method::Smtp),
            self.socks.as_ref().map(Method::Socks),
            self.direct.as_ref().map(Method::Direct),
            self.fail.as_ref().map(Method::Fail),
        ];
        all.into_iter().flatten().collect()
    }
}

/// A smarthost.
#[derive(Clone, Debug, PartialEq, Eq, Section)]
pub struct TransportSmtp {
    /// Host to connect to, whose certificate is verified against this name. If DNSSEC vouches for its addresses and it has TLSA
    /// records at the port, they decide about the certificate instead (DANE, RFC 7673). MTA-STS is for MX hosts only.
    pub host: Domain,
    /// Default 465 for Submissions, 587 for Submission, 25 for SMTP.
    #[config(optional)]
    pub port: u16,
    /// Host is a domain, e.g. that of your address, and the servers to connect to are found by its SRV records at
    /// _submissions._tcp or _submission._tcp (RFC 6186, RFC 8314). A server's certificate is verified against the server's name if
    /// DNSSEC vouches for the SRV records, else against Host. Not for SMTP, which has no such records.
    #[config(optional, name = "SRV")]
    pub srv: bool,
    /// Accept a certificate that can't be verified.
    #[config(optional, name = "STARTTLSInsecureSkipVerify")]
    pub starttls_insecure_skip_verify: bool,
    /// Don't use STARTTLS: everything can be read on the way.
    #[config(optional, name = "NoSTARTTLS")]
    pub no_starttls: bool,
    /// Log in.
    #[config(optional)]
    pub auth: Option<SmtpAuth>,
}

impl TransportSmtp {
    /// The port, given the method's default.
    pub const fn port_or(&self, default: u16) -> u16 {
        if self.port == 0 { default } else { self.port }
    }
}

/// How to log in at a smarthost.
#[derive(Clone, Debug, PartialEq, Eq, Section)]
pub struct SmtpAuth {
    /// Name to log in with.
    pub username: String,
    /// Password to log in with.
    pub password: Secret<String>,
    /// Mechanisms that may be used, the first that the server offers is taken: SCRAM-SHA-256-PLUS, SCRAM-SHA-256,
    /// SCRAM-SHA-1-PLUS, SCRAM-SHA-1, CRAM-MD5, PLAIN. Default: all but PLAIN, in this order.
    #[config(optional)]
    pub mechanisms: Vec<Mechanism>,
}

impl SmtpAuth {
    /// The mechanisms in order of preference.
    pub fn effective_mechanisms(&self) -> &[Mechanism] {
        const DEFAULT: &[Mechanism] =
            &[Mechanism::ScramSha256Plus, Mechanism::ScramSha256, Mechanism::ScramSha1Plus, Mechanism::ScramSha1, Mechanism::CramMd5];
        if self.mechanisms.is_empty() { DEFAULT } else { &self.mechanisms }
    }
}

choices! {
    /// A SASL mechanism for a smarthost.
    pub enum Mechanism {
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

/// Delivery through a proxy.
#[derive(Clone, Debug, PartialEq, Eq, Section)]
pub struct TransportSocks {
    /// The proxy, as host:port.
    pub address: String,
    /// Addresses that other servers see; part of suggested SPF records.
    #[config(name = "RemoteIPs")]
    pub remote_ips: Vec<IpAddr>,
    /// Host name in EHLO, to which the addresses should resolve.
    pub remote_hostname: Domain,
    /// Log in at the proxy with user name and password (RFC 1929), which are not encrypted.
    #[config(optional)]
    pub auth: Option<SocksAuth>,
}

/// How to log in at a proxy.
#[derive(Clone, Debug, PartialEq, Eq, Section)]
pub struct SocksAuth {
    /// Name to log in with, at most 255 bytes.
    pub username: String,
    /// Password to log in with, at most 255 bytes.
    pub password: Secret<String>,
}

/// Delivery with a choice of our addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Section)]
pub struct TransportDirect {
    /// Don't connect to IPv4 addresses.
    #[config(optional, name = "DisableIPv4")]
    pub disable_ipv4: bool,
    /// Don't connect to IPv6 addresses.
    #[config(optional, name = "DisableIPv6")]
    pub disable_ipv6: bool,
    /// Addresses of this machine to connect from, best first, instead of those for all mail; with routes of accounts and domains,
    /// each can have its own. A family without an address here isn't used. As with OutgoingIPs in general, one that is refused because
    /// of a block list is avoided for some hours.
    #[config(optional, name = "OutgoingIPs")]
    pub outgoing_ips: Vec<IpAddr>,
    /// Host name in EHLO, to which these addresses should resolve. Default: the host name of this machine.
    #[config(optional)]
    pub hostname: Option<UnicodeDomain>,
}

/// Failure on purpose.
#[derive(Clone, Debug, Default, PartialEq, Eq, Section)]
pub struct TransportFail {
    /// SMTP code, from 400 to 599. Default 554.
    #[config(optional, name = "SMTPCode")]
    pub smtp_code: u16,
    /// Text for the sender, in the DSN.
    #[config(optional, name = "SMTPMessage")]
    pub smtp_message: Option<AsciiText>,
}

impl TransportFail {
    /// The SMTP code.
    pub const fn code(&self) -> u16 {
        if self.smtp_code == 0 { 554 } else { self.smtp_code }
    }
}
