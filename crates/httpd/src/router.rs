//! Which service answers: by host and path, in three classes, as configured for a port.
//!
//! System routes come first, then (not there yet) the operator's own web handlers, then our services; in a class, the longest
//! path wins. A path that ends in a slash stands for all below it, another only for itself.

use crate::body::Body;
use crate::request::{Request, RequestHost};
use crate::wellknown::MTA_STS_HOST;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION};
use hyper::{Response, StatusCode};
use mox_base::Domain;
use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};

/// An answer on its way.
pub type Answering<'a> = Pin<Box<dyn Future<Output = Response<Body>> + Send + 'a>>;

/// Answers requests.
pub trait Handler: Send + Sync + fmt::Debug {
    /// Answers one.
    fn answer(&self, request: Request) -> Answering<'_>;
}

/// In which order routes are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Before anything the operator configures: metrics, ACME and the like.
    System,
    /// After it.
    Service,
}

/// Names that mail clients may be configured with, of all domains; replaced when the configuration changes. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct ClientNames(Arc<RwLock<Arc<BTreeSet<Domain>>>>);

impl ClientNames {
    /// Puts others into effect.
    pub fn replace(&self, names: BTreeSet<Domain>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(names);
    }

    fn contains(&self, name: &Domain) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains(name)
    }
}

/// Which hosts a route is for.
#[derive(Clone, Debug)]
pub enum Hosts {
    /// Any, also none.
    Any,
    /// Those of policies of MTA-STS.
    MtaSts,
    /// Addresses, `localhost` (for tunnels), this name, and those for mail clients.
    Ours {
        /// The listener's name.
        hostname: Domain,
        /// Further names.
        clients: ClientNames,
    },
}

impl Hosts {
    fn matches(&self, host: &RequestHost) -> bool {
        match (self, host) {
            (Self::Any, _) | (Self::Ours { .. }, RequestHost::Ip) => true,
            (Self::MtaSts, RequestHost::Name(name)) => name.ascii().starts_with(MTA_STS_HOST),
            (Self::MtaSts, RequestHost::Ip | RequestHost::None) | (Self::Ours { .. }, RequestHost::None) => false,
            (Self::Ours { hostname, clients }, RequestHost::Name(name)) => {
                name == hostname || name.ascii() == "localhost" || clients.contains(name)
            }
        }
    }
}

/// A service at a path.
#[derive(Clone, Debug)]
pub struct Route {
    /// When it is looked at.
    pub class: Class,
    /// For which hosts.
    pub hosts: Hosts,
    /// Ending in a slash: with all below.
    pub path: String,
    /// Its name in the access log and in metrics.
    pub label: &'static str,
    /// Whether a reverse proxy is in front, whose `X-Forwarded-For` tells the client.
    pub forwarded: bool,
    /// The service.
    pub handler: Arc<dyn Handler>,
}

impl Route {
    fn matches(&self, path: &str) -> bool {
        if self.path.ends_with('/') { path.starts_with(&self.path) } else { path == self.path }
    }
}

/// The routes of a port.
#[derive(Clone, Debug, Default)]
pub struct Router {
    routes: Vec<Route>,
}

impl Router {
    /// Adds a route; for a path that ends in a slash also a redirect from the path without.
    pub fn add(&mut self, route: Route) {
        if let Some(without) = route.path.strip_suffix('/').filter(|p| !p.is_empty()) {
            let handler = Arc::new(Redirect(route.path.clone()));
            self.insert(Route { path: without.to_owned(), handler, ..route.clone() });
        }
        self.insert(route);
    }

    fn insert(&mut self, route: Route) {
        self.routes.push(route);
        self.routes.sort_by(|a, b| (a.class, b.path.len(), &a.path).cmp(&(b.class, a.path.len(), &b.path)));
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    /// Whether any service is behind a reverse proxy: then the whole port is, for limits and logs.
    pub(crate) fn forwarded(&self) -> bool {
        self.routes.iter().any(|r| r.forwarded)
    }

    pub(crate) fn find(&self, host: &RequestHost, path: &str) -> Option<&Route> {
        self.routes.iter().find(|route| route.matches(path) && route.hosts.matches(host))
    }
}

/// To a path with its slash.
#[derive(Debug)]
struct Redirect(String);

impl Handler for Redirect {
    fn answer(&self, _: Request) -> Answering<'_> {
        Box::pin(std::future::ready(see_other(&self.0)))
    }
}

/// 303 to a path.
pub(crate) fn see_other(path: &str) -> Response<Body> {
    let mut response = plain(StatusCode::SEE_OTHER, "see other");
    let location: String =
        path.bytes().map(|b| if b.is_ascii_graphic() && b != b'%' { char::from(b).to_string() } else { format!("%{b:02X}") }).collect();
    if let Ok(location) = HeaderValue::from_str(&location) {
        response.headers_mut().insert(LOCATION, location);
    }
    secure(response.headers_mut());
    response
}

/// A line of text.
pub(crate) fn plain(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = Response::new(Body::from(format!("{text}\n")));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// The headers that keep browsers from doing with our pages what they shouldn't.
pub(crate) fn secure(headers: &mut HeaderMap) {
    for (name, value) in [
        ("x-frame-options", "deny"),
        ("x-content-type-options", "nosniff"),
        ("content-security-policy", "default-src 'self' 'unsafe-inline' data:"),
        ("referrer-policy", "same-origin"),
    ] {
        headers.entry(HeaderName::from_static(name)).or_insert(HeaderValue::from_static(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(class: Class, path: &str, hosts: Hosts) -> Route {
        Route { class, hosts, path: path.to_owned(), label: "x", forwarded: false, handler: Arc::new(Redirect(path.to_owned())) }
    }

    fn name(text: &str) -> RequestHost {
        RequestHost::Name(text.parse().unwrap())
    }

    #[test]
    fn longest_path_of_the_first_class() {
        let ours = Hosts::Ours { hostname: "mail.example".parse().unwrap(), clients: ClientNames::default() };
        let mut router = Router::default();
        router.add(route(Class::Service, "/", ours.clone()));
        router.add(route(Class::Service, "/webapi/", ours));
        router.add(route(Class::System, "/webapi/metrics", Hosts::Any));
        let found = |host: &RequestHost, path: &str| router.find(host, path).map(|r| r.path.clone());
        let host = name("mail.example");
        assert_eq!(found(&host, "/webapi/v0/").as_deref(), Some("/webapi/"));
        assert_eq!(found(&host, "/webapi").as_deref(), Some("/webapi"), "the redirect");
        assert_eq!(found(&host, "/webapi/metrics").as_deref(), Some("/webapi/metrics"));
        assert_eq!(found(&host, "/webapix").as_deref(), Some("/"));
        assert_eq!(found(&RequestHost::None, "/"), None);
        assert_eq!(found(&RequestHost::None, "/webapi/metrics").as_deref(), Some("/webapi/metrics"));
    }

    #[test]
    fn hosts_that_are_ours() {
        let clients = ClientNames::default();
        clients.replace([Domain::parse("imap.customer.example").unwrap()].into());
        let ours = Hosts::Ours { hostname: "mail.example".parse().unwrap(), clients };
        for host in ["mail.example", "localhost", "imap.customer.example"] {
            assert!(ours.matches(&name(host)), "{host}");
        }
        assert!(ours.matches(&RequestHost::Ip));
        assert!(!ours.matches(&name("other.example")));
        assert!(!ours.matches(&name("mail.example.evil.example")));
    }
}
