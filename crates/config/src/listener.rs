//! Listeners: addresses, and the services that are offered on them.

use crate::choice::choices;
use crate::schema::Section;
use mox_base::{Domain, IpPrefix};
use std::net::IpAddr;
use std::time::Duration;

/// A group of addresses and their services.
#[derive(Clone, Debug, Default, PartialEq, Eq, Section)]
pub struct Listener {
    /// Addresses to listen on. 0.0.0.0 and :: are all addresses of their family. Explicit addresses are better: outgoing
    /// connections are made from them.
    #[config(name = "IPs")]
    pub ips: Vec<IpAddr>,
    /// Public addresses, when those in IPs are internal and NAT is in between. Used in checks and suggested DNS records.
    #[config(optional, name = "NATIPs")]
    pub nat_ips: Vec<IpAddr>,
    /// Deprecated, use NATIPs. The addresses are behind NAT and the public ones unknown: addresses aren't checked.
    #[config(optional, name = "IPsNATed")]
    pub ips_nated: bool,
    /// Host name of this listener, in greetings and certificates. Default: the global Hostname.
    #[config(optional)]
    pub hostname: Option<Domain>,
    /// Proxies in front of this listener: addresses, or ranges such as 10.0.0.0/8, from which every connection begins with a header of the
    /// PROXY protocol (version 1 or 2), which says who the client is. Connections from there without it are refused. Others can't
    /// say who they are.
    #[config(optional)]
    pub proxy_protocol_networks: Vec<IpPrefix>,
    /// Certificates. Needed for services with TLS and for STARTTLS.
    #[config(optional, name = "TLS")]
    pub tls: Option<ListenerTls>,
    /// Largest message in bytes that is accepted. Default 104857600 (100 MiB).
    #[config(optional, name = "SMTPMaxMessageSize")]
    pub smtp_max_message_size: u64,
    /// Mail from other servers, on port 25.
    #[config(optional, name = "SMTP")]
    pub smtp: Option<Smtp>,
    /// Mail from users who log in, with STARTTLS.
    #[config(optional)]
    pub submission: Option<Submission>,
    /// Mail from users who log in, with TLS from the start.
    #[config(optional)]
    pub submissions: Option<Submissions>,
    /// Reading mail, with STARTTLS.
    #[config(optional, name = "IMAP")]
    pub imap: Option<Imap>,
    /// Reading mail, with TLS from the start.
    #[config(optional, name = "IMAPS")]
    pub imaps: Option<Imaps>,
    /// Account pages for users, without TLS.
    #[config(optional, name = "AccountHTTP")]
    pub account_http: Option<WebService>,
    /// Account pages for users, with TLS.
    #[config(optional, name = "AccountHTTPS")]
    pub account_https: Option<WebService>,
    /// Admin pages, without TLS. Only for addresses that aren't public.
    #[config(optional, name = "AdminHTTP")]
    pub admin_http: Option<WebService>,
    /// Admin pages, with TLS. Only for addresses that aren't public.
    #[config(optional, name = "AdminHTTPS")]
    pub admin_https: Option<WebService>,
    /// Webmail, without TLS.
    #[config(optional, name = "WebmailHTTP")]
    pub webmail_http: Option<WebService>,
    /// Webmail, with TLS.
    #[config(optional, name = "WebmailHTTPS")]
    pub webmail_https: Option<WebService>,
    /// JSON API for sending and handling mail, without TLS.
    #[config(optional, name = "WebAPIHTTP")]
    pub webapi_http: Option<WebService>,
    /// JSON API for sending and handling mail, with TLS.
    #[config(optional, name = "WebAPIHTTPS")]
    pub webapi_https: Option<WebService>,
    /// Metrics for Prometheus, without TLS. Only for addresses that aren't public.
    #[config(optional, name = "MetricsHTTP")]
    pub metrics_http: Option<PlainService>,
    /// Profiling, without TLS. Only for addresses that aren't public, and on a port of its own.
    #[config(optional, name = "PprofHTTP")]
    pub pprof_http: Option<PlainService>,
    /// Settings for mail clients, on the autoconfig host names of domains.
    #[config(optional, name = "AutoconfigHTTPS")]
    pub autoconfig_https: Option<PolicyService>,
    /// MTA-STS policies, on the mta-sts host names of domains.
    #[config(optional, name = "MTASTSHTTPS")]
    pub mtasts_https: Option<PolicyService>,
    /// Web server for WebHandlers and WebDomainRedirects of domains.conf, without TLS.
    #[config(optional, name = "WebserverHTTP")]
    pub webserver_http: Option<WebServer>,
    /// Web server for WebHandlers and WebDomainRedirects of domains.conf, with TLS.
    #[config(optional, name = "WebserverHTTPS")]
    pub webserver_https: Option<WebServer>,
}

impl Listener {
    /// Largest message in bytes.
    pub const fn max_message_size(&self) -> u64 {
        if self.smtp_max_message_size == 0 { 100 * 1024 * 1024 } else { self.smtp_max_message_size }
    }

    /// The SMTP service, if it is enabled.
    pub fn enabled_smtp(&self) -> Option<&Smtp> {
        self.smtp.as_ref().filter(|s| s.enabled)
    }

    /// The submission service, if it is enabled.
    pub fn enabled_submission(&self) -> Option<&Submission> {
        self.submission.as_ref().filter(|s| s.enabled)
    }

    /// The submissions service, if it is enabled.
    pub fn enabled_submissions(&self) -> Option<&Submissions> {
        self.submissions.as_ref().filter(|s| s.enabled)
    }

    /// The IMAP service, if it is enabled.
    pub fn enabled_imap(&self) -> Option<&Imap> {
        self.imap.as_ref().filter(|s| s.enabled)
    }

    /// The IMAPS service, if it is enabled.
    pub fn enabled_imaps(&self) -> Option<&Imaps> {
        self.imaps.as_ref().filter(|s| s.enabled)
    }

    /// The metrics service, if it is enabled.
    pub fn enabled_metrics(&self) -> Option<&PlainService> {
        self.metrics_http.as_ref().filter(|s| s.enabled)
    }

    /// The service of MTA-STS policies, if it is enabled.
    pub fn enabled_mtasts(&self) -> Option<&PolicyService> {
        self.mtasts_https.as_ref().filter(|s| s.enabled)
    }

    /// The service of autoconfiguration, if it is enabled.
    pub fn enabled_autoconfig(&self) -> Option<&PolicyService> {
        self.autoconfig_https.as_ref().filter(|s| s.enabled)
    }

    /// The web server, without or with TLS, if it is enabled.
    pub fn enabled_webserver(&self, tls: bool) -> Option<&WebServer> {
        if tls { self.webserver_https.as_ref() } else { self.webserver_http.as_ref() }.filter(|s| s.enabled)
    }

    /// The web services with their field names and whether they have TLS.
    pub fn web_services(&self) -> [(&'static str, bool, Option<&WebService>); 8] {
        [
            ("AccountHTTP", false, self.account_http.as_ref()),
            ("AccountHTTPS", true, self.account_https.as_ref()),
            ("AdminHTTP", false, self.admin_http.as_ref()),
            ("AdminHTTPS", true, self.admin_https.as_ref()),
            ("WebmailHTTP", false, self.webmail_http.as_ref()),
            ("WebmailHTTPS", true, self.webmail_https.as_ref()),
            ("WebAPIHTTP", false, self.webapi_http.as_ref()),
            ("WebAPIHTTPS", true, self.webapi_https.as_ref()),
        ]
    }
}

/// A listener's certificates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Section)]
pub struct ListenerTls {
    /// Name of an entry in ACME, which gets the certificates. Either this or KeyCerts.
    #[config(optional, name = "ACME")]
    pub acme: String,
    /// Certificates with their keys. Read before privileges are dropped.
    #[config(optional)]
    pub key_certs: Vec<KeyCert>,
    /// Lowest version of TLS: TLSv1.0, TLSv1.1, TLSv1.2 or TLSv1.3. Default TLSv1.2.
    #[config(optional)]
    pub min_version: Option<TlsVersion>,
    /// Private keys that certificates for this host keep, so that DANE records stay valid: one RSA of 2048 bits and one
    /// ECDSA P-256, in PEM. Of several of a kind the first is used, and all have DNS records: to replace a key, add the
    /// new one behind it, publish its record, and some days later move it to the front and restart.
    #[config(optional)]
    pub host_private_key_files: Vec<String>,
    /// Don't ask clients for certificates.
    #[config(optional)]
    pub client_auth_disabled: bool,
}

impl ListenerTls {
    /// The lowest version of TLS.
    pub fn min_version(&self) -> TlsVersion {
        self.min_version.unwrap_or(TlsVersion::V1_2)
    }
}

choices! {
    /// A version of TLS.
    pub enum TlsVersion {
        /// RFC 2246.
        V1_0 = "TLSv1.0",
        /// RFC 4346.
        V1_1 = "TLSv1.1",
        /// RFC 5246.
        V1_2 = "TLSv1.2",
        /// RFC 8446.
        V1_3 = "TLSv1.3",
    }
}

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq, Section)]
pub struct KeyCert {
    /// File with the certificate and those of its issuers, the certificate first, in PEM.
    pub cert_file: String,
    /// File with the private key, in PEM.
    pub key_file: String,
}

/// Mail from other servers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Section)]
pub struct Smtp {
    /// Whether the service is offered.
    pub enabled: bool,
    /// Default 25.
    #[config(optional)]
    pub port: u16,
    /// Don't offer STARTTLS.
    #[config(optional, name = "NoSTARTTLS")]
    pub no_starttls: bool,
    /// Refuse mail without TLS, except for addresses that get TLS reports.
    #[config(optional, name = "RequireSTARTTLS")]
    pub require_starttls: bool,
    /// Don't offer REQUIRETLS, by which senders ask for verified TLS on the whole way.
    #[config(optional, name = "NoRequireTLS")]
    pub no_require_tls: bool,
    /// DNS block lists to ask when a sender isn't known well enough to decide, e.g. sbl.spamhaus.org.
    #[config(optional, name = "DNSBLs")]
    pub dnsbls: Vec<Domain>,
    /// How long to wait before accepting a message from a first-time sender. Default 15s; 0s is no delay.
    #[config(optional)]
    pub first_time_sender_delay: Option<Duration>,
    /// No TLS session tickets on this port. They are off unless this is set to false, as some servers fail with them.
    #[config(optional, name = "TLSSessionTicketsDisabled")]
    pub tls_session_tickets_disabled: Option<bool>,
}

impl Smtp {
    /// The port.
    pub const fn port(&self) -> u16 {
        if self.port == 0 { 25 } else { self.port }
    }

    /// How long to wait before accepting from a first-time sender.
    pub fn first_time_sender_delay(&self) -> Duration {
        self.first_time_sender_delay.unwrap_or(Duration::from_secs(15))
    }
}

/// Mail from users, with STARTTLS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Section)]
pub struct Submission {
    /// Whether the service is offered.
    pub enabled: bool,
    /// Default 587.
    #[config(optional)]
    pub port: u16,
    /// Allow logging in and sending without TLS. Passwords can then be read on the way.
    #[config(optional, name = "NoRequireSTARTTLS")]
    pub no_require_starttls: bool,
}

impl Submission {
    /// The port.
    pub const fn port(&self) -> u16 {
        if self.port == 0 { 587 } else { self.port }
    }
}

/// Mail from users, with TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Section)]
pub struct Submissions {
    /// Whether the service is offered.
    pub enabled: bool,
    /// Default 465.
    #[config(optional)]
    pub port: u16,
    /// Also serve clients on port 443 who ask for protocol smtp with ALPN.
    #[config(optional, name = "EnabledOnHTTPS")]
    pub enabled_on_https: bool,
}

impl Submissions {
    /// The port.
    pub const fn port(&self) -> u16 {
        if self.port == 0 { 465 } else { self.port }
    }
}

/// Reading mail, with STARTTLS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Section)]
pub struct Imap {
    /// Whether the service is offered.
    pub enabled: bool,
    /// Default 143.
    #[config(optional)]
    pub port: u16,
    /// Allow logging in without TLS. Passwords can then be read on the way.
    #[config(optional, name = "NoRequireSTARTTLS")]
    pub no_require_starttls: bool,
}

impl Imap {
    /// The port.
    pub const fn port(&self) -> u16 {
        if self.port == 0 { 143 } else { self.port }
    }
}

/// Reading mail, with TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Section)]
pub struct Imaps {
    /// Whether the service is offered.
    pub enabled: bool,
    /// Default 993.
    #[config(optional)]
    pub port: u16,
    /// Also serve clients on port 443 who ask for protocol imap with ALPN.
    #[config(optional, name = "EnabledOnHTTPS")]
    pub enabled_on_https: bool,
}

impl Imaps {
    /// The port.
    pub const fn port(&self) -> u16 {
        if self.port == 0 { 993 } else { self.port }
    }
}

/// Pages or an API of our own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Section)]
pub struct WebService {
    /// Whether the service is offered.
    pub enabled: bool,
    /// Default 80 without TLS and 443 with TLS.
    #[config(optional)]
    pub port: u16,
    /// Path below which the service is found, starting and ending with a slash.
    #[config(optional)]
    pub path: String,
    /// Requests come through a reverse proxy, whose X-Forwarded headers are to be believed.
    #[config(optional)]
    pub forwarded: bool,
}

impl WebService {
    /// The port.
    pub const fn port(&self, tls: bool) -> u16 {
        http_port(self.port, tls)
    }
}

/// A service for machines on internal addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Section)]
pub struct PlainService {
    /// Whether the service is offered.
    pub enabled: bool,
    /// Default 8010 for metrics and 8011 for profiling.
    #[config(optional)]
    pub port: u16,
}

impl PlainService {
    /// The port for metrics.
    pub const fn metrics_port(&self) -> u16 {
        if self.port == 0 { 8010 } else { self.port }
    }

    /// The port for profiling.
    pub const fn pprof_port(&self) -> u16 {
        if self.port == 0 { 8011 } else { self.port }
    }
}

/// Autoconfig or MTA-STS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Section)]
pub struct PolicyService {
    /// Whether the service is offered.
    pub enabled: bool,
    /// Default 443.
    #[config(optional)]
    pub port: u16,
    /// Serve plain HTTP, for a reverse proxy that does TLS.
    #[config(optional, name = "NonTLS")]
    pub non_tls: bool,
    /// Requests come through a reverse proxy, whose X-Forwarded headers are to be believed.
    #[config(optional)]
    pub forwarded: bool,
}

impl PolicyService {
    /// The port.
    pub const fn port(&self) -> u16 {
        http_port(self.port, true)
    }
}

/// Web server for the handlers in domains.conf.
#[derive(Clone, Debug, Default, PartialEq, Eq, Section)]
pub struct WebServer {
    /// Whether the service is offered.
    pub enabled: bool,
    /// Default 80 without TLS and 443 with TLS.
    #[config(optional)]
    pub port: u16,
    /// Don't limit the rate of requests.
    #[config(optional)]
    pub rate_limit_disabled: bool,
}

impl WebServer {
    /// The port.
    pub const fn port(&self, tls: bool) -> u16 {
        http_port(self.port, tls)
    }
}

const fn http_port(port: u16, tls: bool) -> u16 {
    match (port, tls) {
        (0, true) => 443,
        (0, false) => 80,
        _ => port,
    }
}
