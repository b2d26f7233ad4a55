//! Handlers of the web server in `domains.conf`.

use crate::choice::choices;
use crate::schema::Section;
use crate::value::Pattern;
use mox_base::Domain;
use std::collections::BTreeMap;

/// What answers certain requests: exactly one of the four Web fields is set.
#[derive(Clone, Debug, PartialEq, Eq, Section)]
pub struct WebHandler {
    /// Name in logs and metrics. Default: the position in the list.
    #[config(optional)]
    pub log_name: String,
    /// Host of the requests.
    pub domain: Domain,
    /// Path of the requests. Must start with ^.
    pub path_regexp: Pattern,
    /// Handle plain HTTP too. By default it is redirected to HTTPS.
    #[config(optional, name = "DontRedirectPlainHTTP")]
    pub dont_redirect_plain_http: bool,
    /// Compress responses, for clients that want it and content that becomes smaller.
    #[config(optional)]
    pub compress: bool,
    /// Serve files.
    #[config(optional)]
    pub web_static: Option<WebStatic>,
    /// Redirect to another URL.
    #[config(optional)]
    pub web_redirect: Option<WebRedirect>,
    /// Forward to another server.
    #[config(optional)]
    pub web_forward: Option<WebForward>,
    /// Pass to one of the server's own services.
    #[config(optional)]
    pub web_internal: Option<WebInternal>,
}

/// Serving files.
#[derive(Clone, Debug, PartialEq, Eq, Section)]
pub struct WebStatic {
    /// Path to remove from the request's path. Must start with a slash.
    #[config(optional)]
    pub strip_prefix: String,
    /// Directory with the files, relative to the working directory.
    pub root: String,
    /// List the files of directories without index.html.
    #[config(optional)]
    pub list_files: bool,
    /// Go on with the next handlers when a file doesn't exist.
    #[config(optional)]
    pub continue_not_found: bool,
    /// Header fields for responses.
    #[config(optional)]
    pub response_headers: BTreeMap<String, String>,
}

/// Redirecting.
#[derive(Clone, Debug, Default, PartialEq, Eq, Section)]
pub struct WebRedirect {
    /// Parts of the new URL: scheme, host, query and fragment, each optional, without a path. E.g. https: or
    /// //example.org?q=1#top.
    #[config(optional, name = "BaseURL")]
    pub base_url: String,
    /// Matches the request's path, which ReplacePath makes a new one of. Paths that don't match are not found.
    #[config(optional)]
    pub orig_path_regexp: Option<Pattern>,
    /// The new path, in which $1 or ${name} are parts of the old one.
    #[config(optional)]
    pub replace_path: String,
    /// From 300 to 399. Default 308, a permanent redirect.
    #[config(optional)]
    pub status_code: u16,
}

impl WebRedirect {
    /// The status code.
    pub const fn code(&self) -> u16 {
        if self.status_code == 0 { 308 } else { self.status_code }
    }
}

/// Forwarding.
#[derive(Clone, Debug, PartialEq, Eq, Section)]
pub struct WebForward {
    /// Remove what PathRegexp matched from the path.
    #[config(optional)]
    pub strip_path: bool,
    /// URL to forward to; its path comes before the request's path. No query, no fragment.
    #[config(name = "URL")]
    pub url: String,
    /// Header fields for responses.
    #[config(optional)]
    pub response_headers: BTreeMap<String, String>,
}

/// Passing to a service.
#[derive(Clone, Debug, PartialEq, Eq, Section)]
pub struct WebInternal {
    /// Path of the service, starting and ending with a slash.
    pub base_path: String,
    /// admin, account, webmail or webapi.
    pub service: InternalService,
}

choices! {
    /// One of our own web services.
    pub enum InternalService {
        /// Admin pages.
        Admin = "admin",
        /// Account pages.
        Account = "account",
        /// Webmail.
        Webmail = "webmail",
        /// JSON API.
        Webapi = "webapi",
    }
}
