//! `domains.conf`: what is reloaded when it changes, and rewritten by the server. The doc comments are the operator's
//! manual.

use crate::account::Account;
use crate::domain::DomainConfig;
use crate::schema::Section;
use crate::text::RouteDomain;
use crate::value::UnicodeDomain;
use crate::web::WebHandler;
use mox_base::Domain;
use std::collections::BTreeMap;

/// The dynamic configuration.
#[derive(Clone, Debug, Default, PartialEq, Section)]
pub struct Dynamic {
    /// NOTE: This is a file in the sconf format. Indent with tabs, one per level. Comments have a line of their own, they
    /// don't end a line. Values aren't quoted or escaped: a value is the rest of its line.
    ///
    ///
    /// Domains for which mail is accepted. International domains are written in Unicode.
    pub domains: BTreeMap<UnicodeDomain, DomainConfig>,
    /// Users, each with addresses and mailboxes. The name of an account is the name of a directory, and no address: users
    /// log in with an address.
    pub accounts: BTreeMap<String, Account>,
    /// Redirects of all requests for a domain to another domain, with HTTPS and the same path. They come before
    /// WebHandlers and need a listener with WebserverHTTP or WebserverHTTPS.
    #[config(optional)]
    pub web_domain_redirects: BTreeMap<Domain, Domain>,
    /// Handlers of web requests. The first that matches is used. They need a listener with WebserverHTTP or
    /// WebserverHTTPS.
    #[config(optional)]
    pub web_handlers: Vec<WebHandler>,
    /// Routes for outgoing messages, after those of the account and of the sender's domain. Without a route that matches,
    /// messages are delivered directly.
    #[config(optional)]
    pub routes: Vec<Route>,
    /// DNS block lists that are asked about our own addresses, without being used for incoming mail.
    #[config(optional, name = "MonitorDNSBLs")]
    pub monitor_dnsbls: Vec<Domain>,
}

/// Chooses a transport for outgoing messages.
#[derive(Clone, Debug, PartialEq, Eq, Section)]
pub struct Route {
    /// For senders of these domains: example.org, or .example.org for the domain and all below it. Without any: all.
    #[config(optional)]
    pub from_domain: Vec<RouteDomain>,
    /// For recipients of these domains, written as in FromDomain. Without any: all.
    #[config(optional)]
    pub to_domain: Vec<RouteDomain>,
    /// Only once this many attempts to deliver were made.
    #[config(optional)]
    pub minimum_attempts: u32,
    /// Name of a transport in mox.conf.
    pub transport: String,
}

impl Route {
    /// Whether this route is for a delivery. `from` is none for the null reverse-path; `attempts` were made before.
    pub fn matches(&self, from: Option<&Domain>, to: Option<&Domain>, attempts: u32) -> bool {
        let any = |domains: &[RouteDomain], domain| domains.is_empty() || domains.iter().any(|d| d.matches(domain));
        attempts >= self.minimum_attempts && any(&self.from_domain, from) && any(&self.to_domain, to)
    }
}
