//! Two services at well-known paths: policies of MTA-STS, RFC 8461, and answers to a provider of certificates, RFC 8555 §8.3.

use crate::body::Body;
use crate::request::Request;
use crate::router::{Answering, Handler, plain, secure};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Method, Response, StatusCode};
use mox_base::Domain;
use mox_net::acme::{Acme, NoAnswer};
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

/// Where a policy is, at the host `mta-sts` of a domain.
pub const MTA_STS_PATH: &str = "/.well-known/mta-sts.txt";

/// Below it, a provider asks for tokens.
pub const ACME_PATH: &str = "/.well-known/acme-challenge/";

/// The label of the host that has a domain's policy.
pub(crate) const MTA_STS_HOST: &str = "mta-sts.";

/// Says which of a domain's policies it is: the id that DNS has for it, RFC 8461 §3.1. Only people who look for a fault read it.
const MTA_STS_ID: HeaderName = HeaderName::from_static("mta-sts-id");

/// A policy of MTA-STS as it is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServedPolicy {
    /// Its id.
    pub id: String,
    /// The body of the answer.
    pub text: String,
}

/// The policies of all domains that have one, as they are served; replaced when the configuration changes. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct MtaSts(Arc<RwLock<Arc<BTreeMap<Domain, ServedPolicy>>>>);

impl MtaSts {
    /// Puts others into effect.
    pub fn replace(&self, policies: BTreeMap<Domain, ServedPolicy>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(policies);
    }

    fn policy(&self, host: Option<&Domain>) -> Option<ServedPolicy> {
        let domain = Domain::parse_lax(host?.ascii().strip_prefix(MTA_STS_HOST)?).ok()?;
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&domain).cloned()
    }
}

impl Handler for MtaSts {
    fn answer(&self, request: Request) -> Answering<'_> {
        let answer = reading(&request, || match self.policy(request.host.as_ref()) {
            Some(policy) => {
                let mut response = Response::new(Body::from(policy.text));
                if let Ok(id) = HeaderValue::try_from(policy.id) {
                    response.headers_mut().insert(MTA_STS_ID, id);
                }
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
                response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, max-age=0"));
                response
            }
            None => plain(StatusCode::NOT_FOUND, "404 - no policy for this domain"),
        });
        Box::pin(std::future::ready(answer))
    }
}

/// Answers a provider of certificates, when it asks over plain HTTP.
#[derive(Debug)]
pub struct AcmeHttp(Acme);

impl AcmeHttp {
    /// For a provider.
    pub const fn new(acme: Acme) -> Self {
        Self(acme)
    }
}

impl Handler for AcmeHttp {
    fn answer(&self, request: Request) -> Answering<'_> {
        let token = request.path.strip_prefix('/').unwrap_or(&request.path);
        let answer = reading(&request, || match self.0.http_answer(request.host.as_ref(), token) {
            Ok(authorization) => {
                let mut response = Response::new(Body::from(authorization));
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
                response
            }
            Err(NoAnswer::Host) => plain(StatusCode::FORBIDDEN, "403 - no certificates for this host"),
            Err(NoAnswer::Token) => plain(StatusCode::NOT_FOUND, "404 - unknown token"),
        });
        Box::pin(std::future::ready(answer))
    }
}

/// The answer to a request that only reads.
fn reading(request: &Request, answer: impl FnOnce() -> Response<Body>) -> Response<Body> {
    let mut response = if matches!(request.method, Method::GET | Method::HEAD) {
        answer()
    } else {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "405 - method not allowed");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        response
    };
    secure(response.headers_mut());
    response
}
