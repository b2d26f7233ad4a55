//! Compression of responses.

use crate::body::Body;
use hyper::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue, VARY};
use hyper::{Response, StatusCode};

/// Media types beside `text/*`, `*+json` and `*+xml`.
const COMPRESSIBLE: [&str; 11] = [
    "application/csv",
    "application/javascript",
    "application/json",
    "application/x-javascript",
    "application/xml",
    "image/vnd.microsoft.icon",
    "image/x-icon",
    "font/ttf",
    "font/eot",
    "font/otf",
    "font/opentype",
];

/// Whether a client takes gzip, RFC 9110 §12.5.3.
pub(crate) fn accepts_gzip(headers: &HeaderMap) -> bool {
    let mut any = None;
    for value in headers.get_all(ACCEPT_ENCODING) {
        for element in value.to_str().unwrap_or_default().split(',') {
            let mut parts = element.split(';').map(str::trim);
            let coding = parts.next().unwrap_or_default();
            let weight = parts.find_map(|p| p.strip_prefix("q=").or_else(|| p.strip_prefix("Q=")));
            // A weight that can't be read is one all the same.
            let wanted = weight.is_none_or(|q| q.trim().parse::<f32>().map_or(true, |q| q > 0.0));
            if coding.eq_ignore_ascii_case("gzip") || coding.eq_ignore_ascii_case("x-gzip") {
                return wanted;
            }
            if coding == "*" {
                any = Some(wanted);
            }
        }
    }
    any.unwrap_or(false)
}

/// The response, compressed if it is one that gets smaller; and the size before, if it was known.
pub(crate) fn compress(response: Response<Body>, accepted: bool) -> (Response<Body>, Option<usize>) {
    let (mut parts, body) = response.into_parts();
    let eligible = parts.status == StatusCode::OK && !parts.headers.contains_key(CONTENT_ENCODING) && compressible(&parts.headers);
    if !eligible {
        return (Response::from_parts(parts, body), None);
    }
    parts.headers.append(VARY, HeaderValue::from_static("accept-encoding"));
    if !accepted {
        return (Response::from_parts(parts, body), None);
    }
    parts.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    parts.headers.remove(CONTENT_LENGTH);
    let (body, before) = body.gzip();
    (Response::from_parts(parts, body), before)
}

fn compressible(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let media_type = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media_type.starts_with("text/")
        || media_type.ends_with("+json")
        || media_type.ends_with("+xml")
        || COMPRESSIBLE.contains(&media_type.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::body::Body as _;

    #[test]
    fn what_clients_accept() {
        for (value, want) in [
            ("", false),
            ("gzip", true),
            ("deflate, GZIP;q=0.5", true),
            ("gzip;q=0", false),
            ("gzip; q=0.0, *", false),
            ("*", true),
            ("*;q=0", false),
            ("br, zstd", false),
            ("identity", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, value.parse().unwrap());
            assert_eq!(accepts_gzip(&headers), want, "{value:?}");
        }
        assert!(!accepts_gzip(&HeaderMap::new()));
    }

    #[test]
    fn what_is_compressed() {
        let of = |status: u16, kind: &str, encoding: Option<&str>| {
            let mut response = Response::new(Body::from("x".repeat(1000)));
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            response.headers_mut().insert(CONTENT_TYPE, kind.parse().unwrap());
            if let Some(encoding) = encoding {
                response.headers_mut().insert(CONTENT_ENCODING, encoding.parse().unwrap());
            }
            let (response, before) = compress(response, true);
            before == Some(1000) && response.body().size_hint().exact().unwrap() < 100
        };
        assert!(of(200, "text/html; charset=utf-8", None));
        assert!(of(200, "Application/JSON", None));
        assert!(of(200, "application/problem+json", None));
        assert!(!of(400, "application/json", None));
        assert!(!of(200, "application/octet-stream", None));
        assert!(!of(200, "text/plain", Some("identity")));
    }
}
