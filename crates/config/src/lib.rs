//! The configuration files as typed, the settings as resolved, their documentation.
//!
//! `mox.conf` ([`Static`]) is read once, `domains.conf` ([`Dynamic`]) whenever it changes. Their types are the only
//! definition: parser, writer, validation of single values and manual come from them. [`sconf`] is the format, [`schema`]
//! what ties types to it. [`load`] reads and checks both files, [`Live`] keeps them for a running server.

mod account;
mod check;
mod choice;
mod client_settings;
mod dkim_key;
mod dns;
mod domain;
pub mod duration;
mod dynamic;
pub mod edit;
pub mod examples;
mod fixed;
mod inactive;
mod listener;
mod live;
mod paths;
mod pem;
mod problem;
mod re2;
mod rewrite;
pub mod schema;
pub mod sconf;
mod submit;
mod text;
mod transport;
mod value;
mod web;

pub use account::{
    Account, AutomaticJunkFlags, Destination, IncomingWebhook, JunkFilter, JunkParams, OutgoingEvent, OutgoingWebhook, Ruleset, SubjectPass,
};
pub use check::{AddressTable, DkimKeys, Outside, Owner};
pub use client_settings::{ClientProtocol, ClientService, ClientTlsUse, client_services};
pub use dkim_key::{DkimAlgorithm, DkimKey, DkimKeyError};
pub use dns::{DkimPublicKey, DnsInput, DnsLine, DnsRecord, dns_lines, dns_records, sending_ips};
pub use domain::{
    Alias, Canonicalization, DEFAULT_DKIM_HEADERS, Dkim, DkimHash, DomainConfig, MtaSts, MtaStsMode, ReportAddress, Selector,
};
pub use dynamic::{Dynamic, Route};
pub use fixed::{
    Acme, Ca, ExternalAccountBinding, HostTlsRpt, InitialMailboxes, Postgresql, Postmaster, SpecialUseMailboxes, Static, Storage, Tls,
};
pub use inactive::inactive_features;
pub use listener::{
    Imap, Imaps, KeyCert, Listener, ListenerTls, PlainService, PolicyService, Smtp, Submission, Submissions, TlsVersion, WebServer,
    WebService,
};
pub use live::{EditError, Fixed, Live, Reload, Snapshot, check_text, load, load_static};
pub use paths::Paths;
pub use pem::PemError;
pub use problem::{FieldPath, Lines, Problem, Problems};
pub use submit::{AuthMethod, RequireTls, Submit};
pub use text::{AsciiText, DestinationKey, DurationText, HttpUrl, MxPattern, RouteDomain, SmtpError};
pub use transport::{Mechanism, Method, SmtpAuth, SocksAuth, Transport, TransportDirect, TransportFail, TransportSmtp, TransportSocks};
pub use value::{AsciiLocalpart, LogLevel, MailboxName, Pattern, UnicodeDomain};
pub use web::{InternalService, WebForward, WebHandler, WebInternal, WebRedirect, WebStatic};
