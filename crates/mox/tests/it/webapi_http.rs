//! The webapi as HTTP: a small client for its tests, paths, headers, credentials, forms, and hostile requests.

use crate::server::{BINARY, PATIENCE, start};
use mox_testkit::peers::{Mox, Service};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

/// A response.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}\n{}", self.head, self.text()))
    }

    /// The error code of a call that failed.
    #[track_caller]
    pub(crate) fn code(&self) -> String {
        assert_eq!(self.status, 400, "{}\n{}", self.head, self.text());
        assert!(self.head.contains("content-type: application/json; charset=utf-8"), "{}", self.head);
        self.json()["Code"].as_str().unwrap().to_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

/// Sends a request as it is, and reads until the server closes.
pub(crate) fn raw(mox: &Mox, request: &[u8]) -> Reply {
    let mut stream = TcpStream::connect(("127.0.0.1", mox.port(Service::Http))).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // A server that refuses early may not read to the end.
    drop(stream.write_all(request));
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or_else(|| panic!("no response: {answer:?}"));
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let mut body = answer[end + 4..].to_vec();
    if head.contains("transfer-encoding: chunked") {
        body = unchunked(&body);
    }
    Reply { status, head, body }
}

fn unchunked(mut rest: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some(at) = rest.windows(2).position(|w| w == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..at]).unwrap(), 16).unwrap();
        out.extend_from_slice(&rest[at + 2..at + 2 + size]);
        rest = &rest[at + 2 + size + 2..];
    }
    out
}

/// Credentials of the account.
pub(crate) const BASIC: &str = "Authorization: Basic bW94QGxvY2FsaG9zdDptb3htb3htb3g=\r\n";

pub(crate) fn request(mox: &Mox, method: &str, path: &str, headers: &str, body: &[u8]) -> Reply {
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}{length}\r\n");
    raw(mox, &[head.as_bytes(), body].concat())
}

/// Calls a method with a form of one field, with further headers.
pub(crate) fn call_with(mox: &Mox, method: &str, headers: &str, json: &str) -> Reply {
    call_as(mox, BASIC, method, headers, json)
}

/// The same with other credentials: a whole header.
pub(crate) fn call_as(mox: &Mox, credentials: &str, method: &str, headers: &str, json: &str) -> Reply {
    let encoded: String =
        json.bytes().map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") }).collect();
    let headers = format!("{credentials}Content-Type: application/x-www-form-urlencoded\r\n{headers}");
    request(mox, "POST", &format!("/webapi/v0/{method}"), &headers, format!("request={encoded}").as_bytes())
}

pub(crate) fn call(mox: &Mox, method: &str, json: &str) -> Reply {
    call_with(mox, method, "", json)
}

/// A call that succeeds.
#[track_caller]
pub(crate) fn ok(mox: &Mox, method: &str, json: &str) -> Value {
    let reply = call(mox, method, json);
    assert_eq!(reply.status, 200, "{method} {json}: {}", reply.text());
    reply.json()
}

/// A multipart form: names with `; filename=…` where wanted, further headers, contents.
pub(crate) fn multipart(mox: &Mox, method: &str, parts: &[(&str, &str, &[u8])]) -> Reply {
    let mut body = Vec::new();
    for (name, headers, data) in parts {
        body.extend_from_slice(format!("--xyz\r\nContent-Disposition: form-data; name={name}\r\n{headers}\r\n").as_bytes());
        body.extend_from_slice(data);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--xyz--\r\n");
    let headers = format!("{BASIC}Content-Type: multipart/form-data; boundary=xyz\r\n");
    request(mox, "POST", &format!("/webapi/v0/{method}"), &headers, &body)
}

#[test]
fn paths_and_methods() {
    let mox = start();
    let html = "text/html; charset=utf-8";
    let plain = "text/plain; charset=utf-8";
    for (method, path, status, kind, part) in [
        ("GET", "/webapi", 303, plain, ""),
        ("GET", "/webapi/", 303, plain, ""),
        ("POST", "/webapi/", 405, plain, "405 - method not allow"),
        ("GET", "/webapi/v0/", 200, html, "<a href=\"MessageMove\">"),
        ("POST", "/webapi/v0/", 200, html, "<a href=\"Send\">"),
        ("GET", "/webapi/v0/Send", 200, html, "name=\"request\""),
        ("GET", "//webapi/./v0//Send", 200, html, "name=\"request\""),
        ("GET", "/webapi/v0/openapi.json", 200, "application/json; charset=utf-8", "\"openapi\":\"3.1.0\""),
        ("OPTIONS", "/webapi/v0/Send", 405, plain, "405 - method not allowed - use get or post"),
        ("PUT", "/webapi/v0/Send", 405, plain, "405 - method not allowed - use get or post"),
        ("GET", "/webapi/v0/send", 404, plain, "404 page not found"),
        ("POST", "/webapi/v0/Nothing", 404, plain, "404 page not found"),
        ("GET", "/webapi/v0", 404, plain, "404 page not found"),
        ("GET", "/webapi/v1/Send", 404, plain, "404 page not found"),
    ] {
        let reply = request(&mox, method, path, "", b"");
        assert_eq!((reply.status, reply.header("content-type")), (status, Some(kind)), "{method} {path}: {}", reply.head);
        assert!(reply.text().contains(part), "{method} {path}: {}", reply.text());
        for header in [
            "x-frame-options: deny",
            "x-content-type-options: nosniff",
            "content-security-policy: default-src 'self' 'unsafe-inline' data:",
            "referrer-policy: same-origin",
        ] {
            assert!(reply.head.contains(header), "{method} {path}: {}", reply.head);
        }
        assert!(!reply.head.contains("access-control") && !reply.head.contains("set-cookie"), "{}", reply.head);
        if status == 303 {
            assert_eq!(reply.header("location"), Some(if path == "/webapi" { "/webapi/" } else { "/webapi/v0/" }));
        }
    }
    assert_eq!(request(&mox, "HEAD", "/webapi/v0/Send", "", b"").status, 405);
    let other = raw(&mox, b"GET /webapi/v0/ HTTP/1.1\r\nHost: other.example\r\nConnection: close\r\n\r\n");
    assert_eq!(other.status, 404);
    let ip = raw(&mox, b"GET /webapi/v0/ HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
    assert_eq!(ip.status, 200);
    let gzip = request(&mox, "GET", "/webapi/v0/Send", "Accept-Encoding: gzip\r\n", b"");
    assert!(gzip.header("content-encoding") == Some("gzip") && gzip.body.starts_with(b"\x1f\x8b"), "{}", gzip.head);
    let refused = call_with(&mox, "Send", "Accept-Encoding: gzip\r\n", "{}");
    assert_eq!((refused.code().as_str(), refused.header("content-encoding")), ("missingBody", None));
}

#[test]
fn credentials() {
    let mox = start();
    let post = |headers: &str| request(&mox, "POST", "/webapi/v0/SuppressionList", headers, b"request={}");
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    for header in ["", "Authorization: Bearer x\r\n", "Authorization: Basic !\r\n", "Authorization: Basic bW94\r\n"] {
        let reply = post(&format!("{form}{header}"));
        assert_eq!(reply.status, 401);
        assert_eq!(reply.text(), "401 - unauthorized - use http basic auth with email address as username\n");
        assert_eq!(reply.header("www-authenticate"), Some("Basic realm=\"webapi\", charset=\"UTF-8\""));
    }
    // mox@localhost with another password: ten a minute are looked at.
    let wrong = format!("{form}Authorization: Basic bW94QGxvY2FsaG9zdDp3cm9uZ3dyb25n\r\n");
    let right = format!("{form}{BASIC}");
    for _ in 0..9 {
        assert_eq!(post(&wrong).status, 401);
    }
    assert_eq!(post(&right).status, 200, "which also forgets the failures");
    let mut limited = None;
    for _ in 0..25 {
        let reply = post(&wrong);
        if reply.status == 429 {
            limited = Some(reply);
            break;
        }
        assert_eq!(reply.status, 401);
    }
    let limited = limited.unwrap();
    assert_eq!(limited.text(), "429 - too many auth attempts\n");
    assert_eq!(limited.header("retry-after"), Some("60"));
}

#[test]
fn a_disabled_login() {
    let mox = Mox::start_with(Path::new(BINARY), |dir| {
        let path = dir.join("domains.conf");
        let text = std::fs::read_to_string(&path)?;
        std::fs::write(&path, text.replacen("\tmox:\n", "\tmox:\n\t\tLoginDisabled: closed\n", 1))
    })
    .unwrap();
    let reply = call(&mox, "SuppressionList", "{}");
    assert_eq!((reply.status, reply.text().as_str()), (401, "401 - unauthorized - login is disabled for this account\n"));
}

#[test]
fn forms() {
    let mox = start();
    let path = "/webapi/v0/SuppressionList";
    let post = |headers: &str, body: &[u8]| request(&mox, "POST", path, &format!("{BASIC}{headers}"), body);
    let urlencoded = "Content-Type: application/x-www-form-urlencoded\r\n";
    let mut message = String::new();
    let mut protocol = |headers: &str, body: &[u8], part: &str| {
        let reply = post(headers, body);
        assert_eq!(reply.code(), "protocol", "{headers} {}", String::from_utf8_lossy(body));
        message = reply.json()["Message"].as_str().unwrap().to_owned();
        assert!(message.contains(part), "{message}");
    };
    protocol("", b"request={}", "unknown content-type");
    protocol("Content-Type: x\r\n", b"request={}", "unknown content-type");
    protocol("Content-Type: application/json\r\n", b"{}", "missing/empty request");
    protocol(urlencoded, b"", "missing/empty request");
    protocol(urlencoded, b"Request={}", "missing/empty request");
    protocol(urlencoded, b"request=", "missing/empty request");
    protocol(urlencoded, b"request=%7b", "parsing request");
    protocol(urlencoded, b"request=%7b%22x%22%3a1%7d", "unknown field");
    protocol(urlencoded, b"request=[]", "parsing request");
    protocol("Content-Type: multipart/form-data\r\n", b"x", "parsing form");
    protocol("Content-Type: multipart/form-data; boundary=b\r\n", b"--b\r\n\r\nx", "parsing form");
    let too_large = [b"request=".as_slice(), &vec![b' '; 10 << 20]].concat();
    protocol(urlencoded, &too_large, "http: POST too large");
    for body in [b"request={}".as_slice(), b"request=null", b"x=y&request=%7B%7D%20and+more", b"request={}&request=x"] {
        assert_eq!(post(urlencoded, body).json()["Suppressions"], serde_json::json!([]));
    }
    // A parameter of the URL is no field of the form.
    let query = request(&mox, "POST", &format!("{path}?request={{}}"), &format!("{BASIC}{urlencoded}"), b"a=b");
    assert_eq!(query.code(), "protocol");
    assert_eq!(multipart(&mox, "SuppressionList", &[("request", "", b"{}")]).json()["Suppressions"], serde_json::json!([]));
    let as_file = multipart(&mox, "SuppressionList", &[("request; filename=request", "", b"{}")]);
    assert_eq!(as_file.code(), "protocol");
    let large = vec![b'x'; (10 << 20) + (201 << 10)];
    let reply = multipart(&mox, "SuppressionList", &[("other", "", &large), ("request", "", b"{}")]);
    assert!(reply.code() == "protocol" && reply.text().contains("multipart: message too large"), "{}", reply.text());
}

#[test]
fn a_slow_client_keeps_nobody_from_calling() {
    let mox = start();
    let mut slow: Vec<TcpStream> = Vec::new();
    for _ in 0..100 {
        let mut stream = TcpStream::connect(("127.0.0.1", mox.port(Service::Http))).unwrap();
        let head = format!(
            "POST /webapi/v0/Send HTTP/1.1\r\nHost: localhost\r\n{BASIC}Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 1000\r\n\r\nreq"
        );
        stream.write_all(head.as_bytes()).unwrap();
        slow.push(stream);
    }
    assert_eq!(ok(&mox, "SuppressionList", "{}")["Suppressions"], serde_json::json!([]));
    drop(slow);
}

#[test]
fn https_speaks_http_2_and_1_1() {
    let Some(curl) = mox_testkit::peers::require_program("curl") else { return };
    let mox = start();
    for (flag, version) in [("--http2", "2"), ("--http1.1", "1.1")] {
        let mut command = std::process::Command::new(&curl);
        command.args([flag, "-sk", "-u", "mox@localhost:moxmoxmox", "-d", "request={}", "-w", "%{http_version} %{http_code}"]);
        let output = command.arg(format!("https://localhost:{}/webapi/v0/SuppressionList", mox.port(Service::Https))).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{{\"Suppressions\":[]}}\n{version} 200"));
    }
    // Two requests at once on one connection, and both are in the access metrics.
    let url = format!("https://localhost:{}/webapi/v0/Send", mox.port(Service::Https));
    let output =
        std::process::Command::new(&curl).args(["-sk", "--http2", "-Z", "-o", "/dev/null", &url, "-o", "/dev/null", &url]).output();
    assert!(output.unwrap().status.success());
}

#[test]
fn a_proxy_in_front_tells_who_calls_and_by_which_name() {
    let mox = Mox::start_with(Path::new(BINARY), |dir| {
        let conf = dir.join("mox.conf");
        let text = std::fs::read_to_string(&conf)?;
        std::fs::write(&conf, text.replacen("\t\tWebAPIHTTP:\n", "\t\tWebAPIHTTP:\n\t\t\tForwarded: true\n", 1))?;
        let dynamic = dir.join("domains.conf");
        let text = std::fs::read_to_string(&dynamic)?;
        let named = "\tlocalhost:\n\t\tClientSettingsDomain: mail.clients.example\n";
        std::fs::write(&dynamic, text.replacen("\tlocalhost:\n", named, 1))
    })
    .unwrap();
    let call = |host: &str, from: &str, password: &str| {
        let form = "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 10\r\nConnection: close\r\n";
        let head = format!("POST /webapi/v0/SuppressionList HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-For: {from}\r\n{password}{form}\r\n");
        raw(&mox, format!("{head}request={{}}").as_bytes()).status
    };
    // The listener's name, any address, the domains' names for clients; and nobody else's.
    for (host, status) in [("localhost", 200), ("192.0.2.9:80", 200), ("mail.clients.example", 200), ("mail.other.example", 404)] {
        assert_eq!(call(host, "192.0.2.1", BASIC), status, "{host}");
    }
    // Failures count against the client, not against the proxy.
    let wrong = "Authorization: Basic bW94QGxvY2FsaG9zdDp3cm9uZ3dyb25n\r\n";
    let limited = (0..25).find(|_| call("localhost", "192.0.2.1, 127.0.0.1", wrong) == 429);
    assert!(limited.is_some());
    assert_eq!(call("localhost", "198.51.100.7", BASIC), 200);
    // Without an address, nothing is tried.
    assert_ne!(call("localhost", "unknown", BASIC), 200);
}
