//! Who calls: HTTP Basic, RFC 7617, with the account's password or an API key.

use super::{WebapiAt, failed};
use crate::body::Body;
use crate::request::{Request, text};
use crate::router::plain;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{AUTHORIZATION, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};
use mox_base::{Address, Secret};
use mox_logins::{Client, Refused};
use mox_net::TlsInfo;
use mox_store::credentials::ApiKey;
use mox_store::directory::AccountSettings;
use mox_webapi::{Error, ErrorCode, Method, scope};
use std::sync::Arc;

/// Somebody who logged in.
#[derive(Debug)]
pub(crate) struct Caller {
    /// The address given.
    pub(crate) address: Address,
    /// Its account.
    pub(crate) account: Arc<AccountSettings>,
    /// What limits what may be done; none with the account's password.
    pub(crate) key: Option<ApiKey>,
}

impl Caller {
    /// Whether the key that was used, if any, is for a method.
    pub(super) fn may_call(&self, method: &Method) -> Result<(), Error> {
        let allowed = self.key.as_ref().is_none_or(|key| scope::includes(&key.scopes, method));
        if allowed { Ok(()) } else { Err(Error::new(ErrorCode::OutOfScope, format!("this API key isn't for method {}", method.name))) }
    }

    /// Whether the key that was used, if any, may send as this author.
    pub(super) fn may_send_as(&self, from: &Address) -> Result<(), Error> {
        match self.key.as_ref().and_then(|key| key.from.as_ref()) {
            Some(only) if only != from => Err(Error::new(ErrorCode::OutOfScope, format!("this API key may only send as {only}"))),
            _ => Ok(()),
        }
    }
}

/// The name under which a refused call is counted, and the answer.
type Denied = (&'static str, Response<Body>);

impl WebapiAt {
    /// Logs the caller in.
    pub(super) async fn authenticated(&self, request: Request) -> Result<(Caller, Request), Denied> {
        let Some((user, password)) = credentials(text(&request.headers, &AUTHORIZATION)) else {
            return Err(unauthorized("use http basic auth with email address as username"));
        };
        let Some(remote_ip) = request.client_ip else {
            return Err(("internal", plain(StatusCode::INTERNAL_SERVER_ERROR, "500 - internal server error - cannot find remote ip")));
        };
        let client = Client {
            protocol: "webapi",
            mechanism: "httpbasic",
            remote_ip,
            local_ip: request.peer.local.ip(),
            tls: request.peer.tls.as_deref().map(TlsInfo::log_form),
            user_agent: request.user_agent().to_owned(),
        };
        let logins = &self.webapi.parts.logins;
        match logins.log_in_or_key(&client, &user, password).await {
            Ok((login, key)) => Ok((Caller { address: login.address, account: login.account, key }, request)),
            Err(Refused::Limited) => {
                let mut response = plain(StatusCode::TOO_MANY_REQUESTS, "429 - too many auth attempts");
                response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("60"));
                Err(("badauth", response))
            }
            Err(Refused::Wrong(_)) => Err(unauthorized("use http basic auth with email address as username")),
            Err(Refused::Disabled(_)) => {
                logins.failed(remote_ip);
                Err(unauthorized("login is disabled for this account"))
            }
            Err(Refused::Unavailable) => {
                logins.failed(remote_ip);
                Err(failed(request.id, "login", &Error::new(ErrorCode::Server, "error verifying credentials")))
            }
        }
    }
}

fn unauthorized(hint: &str) -> Denied {
    let mut response = plain(StatusCode::UNAUTHORIZED, &format!("401 - unauthorized - {hint}"));
    let challenge = HeaderValue::from_static("Basic realm=\"webapi\", charset=\"UTF-8\"");
    response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    ("badauth", response)
}

/// User and password of an `Authorization` header; none if it is absent or another scheme's.
fn credentials(header: &str) -> Option<(String, Secret<String>)> {
    let (scheme, value) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(value.trim()).ok()?).ok()?;
    // RFC 7617 §2: the first colon; passwords may have more.
    let (user, password) = decoded.split_once(':')?;
    Some((user.to_owned(), Secret::new(password.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_credentials() {
        let of = |header: &str| credentials(header).map(|(user, password)| (user, password.expose().clone()));
        let pair = |user: &str, password: &str| Some((user.to_owned(), password.to_owned()));
        assert_eq!(of("Basic bW94QGxvY2FsaG9zdDptb3htb3htb3g="), pair("mox@localhost", "moxmoxmox"));
        assert_eq!(of("basic  YTpiOmM="), pair("a", "b:c"));
        for header in ["", "Basic", "Basic x", "Basic YQ==", "Bearer YTpi", "Basic /w=="] {
            assert_eq!(of(header), None, "{header}");
        }
    }
}
