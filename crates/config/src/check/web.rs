//! Checks of the web server's handlers and redirects.

use super::Checker;
use crate::dynamic::Dynamic;
use crate::fixed::Static;
use crate::problem::FieldPath;
use crate::text::HttpUrl;
use crate::web::{WebForward, WebHandler, WebInternal, WebRedirect, WebStatic};
use std::collections::BTreeMap;

pub(super) fn check_web(c: &mut Checker<'_>, fixed: &Static, dynamic: &Dynamic) {
    let served =
        fixed.listeners.values().any(|l| [&l.webserver_http, &l.webserver_https].into_iter().flatten().any(|server| server.enabled));
    for (field, used) in
        [("WebDomainRedirects", !dynamic.web_domain_redirects.is_empty()), ("WebHandlers", !dynamic.web_handlers.is_empty())]
    {
        if used && !served {
            c.error(&FieldPath::root(field), format!("{field}: no listener of mox.conf has WebserverHTTP or WebserverHTTPS enabled"));
        }
    }
    for (from, to) in &dynamic.web_domain_redirects {
        if from == to {
            let at = FieldPath::root("WebDomainRedirects").key(&from.to_string());
            c.error(&at, format!("web redirect {from} to {to}: a redirect to itself"));
        }
    }
    for (i, handler) in dynamic.web_handlers.iter().enumerate() {
        check_handler(c, &FieldPath::root("WebHandlers").item(i), handler);
    }
}

fn check_handler(c: &mut Checker<'_>, at: &FieldPath, handler: &WebHandler) {
    let who = format!("webhandler {} {}", handler.domain, handler.path_regexp.as_str());
    if !handler.path_regexp.as_str().starts_with('^') {
        c.error(&at.field("PathRegexp"), format!("{who}: PathRegexp must start with ^"));
    }
    let set = [handler.web_static.is_some(), handler.web_redirect.is_some(), handler.web_forward.is_some(), handler.web_internal.is_some()];
    if set.iter().filter(|set| **set).count() != 1 {
        c.error(at, format!("{who}: exactly one of WebStatic, WebRedirect, WebForward and WebInternal must be set"));
    }
    if let Some(files) = &handler.web_static {
        check_static_files(c, &at.field("WebStatic"), &who, files);
    }
    if let Some(redirect) = &handler.web_redirect {
        check_redirect(c, &at.field("WebRedirect"), &who, redirect);
    }
    if let Some(forward) = &handler.web_forward {
        check_forward(c, &at.field("WebForward"), &who, forward);
    }
    if let Some(internal) = &handler.web_internal {
        check_internal(c, &at.field("WebInternal"), &who, internal);
    }
}

fn check_static_files(c: &mut Checker<'_>, at: &FieldPath, who: &str, files: &WebStatic) {
    if !files.strip_prefix.is_empty() && !files.strip_prefix.starts_with('/') {
        c.error(&at.field("StripPrefix"), format!("{who}: StripPrefix must start with a slash"));
    }
    if files.root.is_empty() {
        c.error(&at.field("Root"), format!("{who}: Root is empty"));
    }
    check_headers(c, at, who, &files.response_headers);
}

fn check_redirect(c: &mut Checker<'_>, at: &FieldPath, who: &str, redirect: &WebRedirect) {
    if redirect.base_url.is_empty() && redirect.orig_path_regexp.is_none() {
        c.error(at, format!("{who}: BaseURL or OrigPathRegexp with ReplacePath is needed"));
    }
    if redirect.orig_path_regexp.is_some() == redirect.replace_path.is_empty() {
        c.error(&at.field("ReplacePath"), format!("{who}: OrigPathRegexp and ReplacePath must be set together"));
    }
    if !matches!(url_path(&redirect.base_url), Some("" | "/")) {
        c.error(&at.field("BaseURL"), format!("{who}: BaseURL {:?} must be a URL without path", redirect.base_url));
    }
    if !(300..400).contains(&redirect.code()) {
        c.error(&at.field("StatusCode"), format!("{who}: StatusCode {} is not from 300 to 399", redirect.code()));
    }
}

/// The path of a URL reference of which scheme and authority may be missing, RFC 3986 §4.1.
fn url_path(url: &str) -> Option<&str> {
    if url.chars().any(|ch| ch.is_control() || ch == ' ') {
        return None;
    }
    let rest = url.split_once('#').map_or(url, |(before, _)| before);
    let rest = rest.split_once('?').map_or(rest, |(before, _)| before);
    let rest = match rest.split_once(':') {
        Some((scheme, after)) if is_scheme(scheme) => after,
        _ => rest,
    };
    match rest.strip_prefix("//") {
        Some(authority) => Some(authority.find('/').and_then(|at| authority.get(at..)).unwrap_or("")),
        None => Some(rest),
    }
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|ch: char| ch.is_ascii_alphabetic())
        && text.chars().all(|ch| ch.is_ascii_alphanumeric() || matches!(ch, '+' | '-' | '.'))
}

fn check_forward(c: &mut Checker<'_>, at: &FieldPath, who: &str, forward: &WebForward) {
    match HttpUrl::new(&forward.url) {
        Err(message) => c.error(&at.field("URL"), format!("{who}: {message}")),
        Ok(_) if forward.url.contains(['?', '#']) => {
            c.error(&at.field("URL"), format!("{who}: url {:?} can't have a query or fragment", forward.url));
        }
        Ok(_) => {}
    }
    check_headers(c, at, who, &forward.response_headers);
}

fn check_internal(c: &mut Checker<'_>, at: &FieldPath, who: &str, internal: &WebInternal) {
    if !internal.base_path.starts_with('/') || !internal.base_path.ends_with('/') {
        c.error(&at.field("BasePath"), format!("{who}: BasePath must start and end with a slash"));
    }
}

fn check_headers(c: &mut Checker<'_>, at: &FieldPath, who: &str, headers: &BTreeMap<String, String>) {
    for name in headers.keys() {
        // RFC 9110 §5.1: a field name is a token.
        let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if !name.bytes().all(is_token) {
            c.error(&at.field("ResponseHeaders").key(name), format!("{who}: bad name of response header {name:?}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::url_path;

    #[test]
    fn paths_of_references() {
        for (url, path) in [
            ("", Some("")),
            ("https:", Some("")),
            ("https://example.org", Some("")),
            ("https://example.org/", Some("/")),
            ("//example.org:8080?q=/x#/y", Some("")),
            ("https://example.org/x", Some("/x")),
            ("/x", Some("/x")),
            ("a b", None),
        ] {
            assert_eq!(url_path(url), path, "{url}");
        }
    }
}
