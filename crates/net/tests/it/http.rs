//! The HTTP client against a small server in memory.

use mox_net::http::{AddressGuard, Client, HttpError, Method, Proxies, Request, Url};
use mox_net::memory::World;
use mox_net::tls::{Certificates, KeyCert, ServerTlsOptions};
use mox_net::{ClientTls, ServerTls, Stream};
use mox_testkit::Zone;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A server that answers each request with the next of its answers, and remembers the requests.
struct Server {
    connections: Arc<AtomicUsize>,
    requests: tokio::sync::mpsc::Receiver<String>,
    _task: tokio::task::JoinSet<()>,
}

/// An answer after which the server closes ends with `close`.
fn serve(world: &World, addr: &str, tls: Option<Arc<ServerTls>>, answers: &'static [&'static str]) -> Server {
    let mut listener = world.listen(addr.parse().unwrap());
    let connections = Arc::new(AtomicUsize::new(0));
    let (seen, requests) = tokio::sync::mpsc::channel(10);
    let mut task = tokio::task::JoinSet::new();
    let count = Arc::clone(&connections);
    task.spawn(async move {
        let mut answers = answers.iter();
        'connections: while let Ok(mut stream) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            if let Some(tls) = &tls
                && stream.start_tls(tls, &[]).await.is_err()
            {
                continue;
            }
            while let Some(request) = read_request(&mut stream).await {
                seen.send(request).await.unwrap();
                let Some(answer) = answers.next() else { break 'connections };
                let (answer, close) = answer.strip_suffix("close").map_or((*answer, false), |a| (a, true));
                stream.write_all(answer.as_bytes()).await.unwrap();
                stream.flush().await.unwrap();
                if close {
                    break;
                }
            }
        }
    });
    Server { connections, requests, _task: task }
}

async fn read_request(stream: &mut Stream) -> Option<String> {
    let mut text = String::new();
    let mut chunk = [0; 4096];
    loop {
        let n = stream.read(&mut chunk).await.ok().filter(|n| *n > 0)?;
        text.push_str(std::str::from_utf8(&chunk[..n]).unwrap());
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|l| l.strip_prefix("content-length: ")).map_or(0, |n| n.parse().unwrap());
            if body.len() >= length {
                return Some(text);
            }
        }
    }
}

fn zone() -> Zone {
    Zone::new().a("web.example", "203.0.113.1").a("inside.example", "10.0.0.1").a("web2.example", "8.8.8.8").a("web2.example", "10.0.0.1")
}

fn client(world: &World, guard: AddressGuard) -> Client {
    Client::new(Arc::new(zone()), Arc::new(world.clone()), ClientTls::opportunistic().unwrap(), guard)
}

fn anywhere() -> AddressGuard {
    AddressGuard::public_and(vec!["0.0.0.0/0".parse().unwrap()])
}

fn get(url: &str) -> Request {
    Request { timeout: Duration::from_secs(5), ..Request::new(Method::GET, Url::parse(url).unwrap()) }
}

#[tokio::test]
async fn connections_are_reused_and_replaced() {
    let world = World::new();
    let answers = &[
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
        "HTTP/1.1 204 No Content\r\n\r\nclose",
        "HTTP/1.1 302 Found\r\nLocation: http://inside.example/\r\nContent-Length: 0\r\n\r\n",
    ];
    let mut server = serve(&world, "203.0.113.1:80", None, answers);
    let client = client(&world, anywhere());
    let mut request = get("http://me:secret@web.example/a?b#c");
    request.method = Method::POST;
    request.body = "body".into();
    request.headers.insert("x-own", "yes".parse().unwrap());
    let response = client.send(request).await.unwrap();
    assert_eq!((response.status, response.body.as_slice(), response.reason()), (200, b"hi".as_slice(), "OK"));
    let seen = server.requests.recv().await.unwrap();
    assert!(seen.starts_with("POST /a?b HTTP/1.1\r\n") && seen.ends_with("\r\n\r\nbody"), "{seen}");
    for header in ["host: web.example\r\n", "x-own: yes\r\n", "authorization: Basic bWU6c2VjcmV0\r\n"] {
        assert!(seen.contains(header), "{seen}");
    }
    assert_eq!(client.send(get("http://web.example/")).await.unwrap().status, 204);
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
    // The server closed: the next request takes a new connection. A redirect is an answer as any other.
    let response = client.send(get("http://web.example/")).await.unwrap();
    assert_eq!((response.status, response.header("location")), (302, Some("http://inside.example/")));
    assert_eq!(server.connections.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn idle_connections_are_closed() {
    let world = World::new();
    let answers = &["HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"; 3];
    let server = serve(&world, "203.0.113.1:80", None, answers);
    let client = client(&world, anywhere());
    client.send(get("http://web.example/")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(6)).await;
    client.send(get("http://web.example/")).await.unwrap();
    client.send(get("http://web.example/")).await.unwrap();
    assert_eq!(server.connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn only_permitted_addresses_are_called() {
    let world = World::new();
    let answer = &["HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"];
    let inside = serve(&world, "10.0.0.1:80", None, answer);
    let public = serve(&world, "8.8.8.8:80", None, answer);
    let loopback = serve(&world, "127.0.0.1:80", None, answer);
    let client_of = |guard| client(&world, guard);
    let strict = client_of(AddressGuard::public_only());
    for url in ["http://inside.example/", "http://10.0.0.1/", "http://[::ffff:10.0.0.1]/", "http://localhost/", "http://x.localhost/"] {
        let error = strict.send(get(url)).await.unwrap_err();
        assert!(matches!(error, HttpError::Forbidden(_)), "{url}: {error}");
    }
    // Of a name with several addresses, the permitted ones are used.
    assert_eq!(strict.send(get("http://web2.example/")).await.unwrap().status, 200);
    let local = client_of(AddressGuard::public_and_loopback());
    assert_eq!(local.send(get("http://localhost/")).await.unwrap().status, 200);
    assert!(matches!(local.send(get("http://inside.example/")).await, Err(HttpError::Forbidden(_))));
    let connections = [&inside, &public, &loopback].map(|server| server.connections.load(Ordering::SeqCst));
    assert_eq!(connections, [0, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn everything_has_a_limit() {
    let world = World::new();
    let answers = &["HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234"];
    let server = serve(&world, "203.0.113.1:80", None, answers);
    let client = client(&world, anywhere());
    let response = client.send(Request { max_body: 4, ..get("http://web.example/") }).await.unwrap();
    assert_eq!((response.body.as_slice(), response.truncated), (b"0123".as_slice(), true));
    // A body that doesn't end.
    assert!(matches!(client.send(get("http://web.example/")).await, Err(HttpError::Timeout)));
    assert_eq!(server.connections.load(Ordering::SeqCst), 2);
    drop(server);
    assert!(matches!(client.send(get("http://web.example:81/")).await, Err(HttpError::Dial(_))));
    assert!(matches!(client.send(get("http://absent.example/")).await, Err(HttpError::Lookup(..))));
    // Headers without end.
    let endless: &'static str = Box::leak(format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(1 << 20)).into_boxed_str());
    let _server = serve(&world, "203.0.113.1:80", None, Box::leak(Box::new([endless])));
    assert!(matches!(client.send(get("http://web.example/")).await, Err(HttpError::Protocol(_))));
    let _server = serve(&world, "203.0.113.1:80", None, &["220 mail.example ESMTP\r\n"]);
    assert!(matches!(client.send(get("http://web.example/")).await, Err(HttpError::Protocol(_))));
}

#[tokio::test]
async fn certificates_are_verified() {
    let key = rcgen::KeyPair::generate().unwrap();
    let cert = rcgen::CertificateParams::new(vec!["web.example".to_owned()]).unwrap().self_signed(&key).unwrap();
    let key_cert = KeyCert::from_pem(cert.pem().as_bytes(), key.serialize_pem().as_bytes()).unwrap();
    let tls = Arc::new(ServerTls::new(Arc::new(Certificates::new(vec![key_cert]).unwrap()), ServerTlsOptions::default()).unwrap());
    let world = World::new();
    let answers = &["HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"];
    let _server = serve(&world, "203.0.113.1:443", Some(tls), answers);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, cert.pem()).unwrap();
    let with_roots = |files: &[std::path::PathBuf]| {
        let tls = ClientTls::verified(mox_net::tls::read_roots(files.is_empty(), files).unwrap()).unwrap();
        Client::new(Arc::new(zone()), Arc::new(world.clone()), tls, anywhere())
    };
    assert!(matches!(with_roots(&[]).send(get("https://web.example/")).await, Err(HttpError::Tls(_))));
    let client = with_roots(&[file]);
    // The certificate isn't for the address.
    assert!(matches!(client.send(get("https://203.0.113.1/")).await, Err(HttpError::Tls(_))));
    assert_eq!(client.send(get("https://web.example/")).await.unwrap().body, b"ok");
}

fn through(world: &World, vars: &'static [(&'static str, &'static str)]) -> Client {
    let proxies = Proxies::from_vars(|name| vars.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())).unwrap();
    let tls = ClientTls::opportunistic().unwrap();
    Client::through(Arc::new(zone().a("proxy.example", "10.0.0.9")), Arc::new(world.clone()), tls, AddressGuard::public_only(), proxies)
}

#[tokio::test]
async fn plain_requests_go_to_a_proxy_whole() {
    let world = World::new();
    let mut proxy = serve(&world, "10.0.0.9:3128", None, &["HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"; 2]);
    let client = through(&world, &[("HTTP_PROXY", "http://me:pw@proxy.example:3128"), ("NO_PROXY", "web.example")]);
    // The proxy knows where that is; we needn't.
    for _ in 0..2 {
        assert_eq!(client.send(get("http://u:p@nowhere.example:81/a?b")).await.unwrap().body, b"hi");
        let seen = proxy.requests.recv().await.unwrap();
        assert!(seen.starts_with("GET http://nowhere.example:81/a?b HTTP/1.1\r\n"), "{seen}");
        for header in ["host: nowhere.example:81\r\n", "proxy-authorization: Basic bWU6cHc=\r\n", "authorization: Basic dTpw\r\n"] {
            assert!(seen.contains(header), "{seen}");
        }
    }
    assert_eq!(proxy.connections.load(Ordering::SeqCst), 1);
    // Not there, because it is asked directly.
    assert!(matches!(client.send(get("http://web.example/")).await, Err(HttpError::Dial(_) | HttpError::Forbidden(_))));
    assert!(matches!(client.send(get("http://10.0.0.1/")).await, Err(HttpError::Forbidden(_))));
}

#[tokio::test]
async fn a_proxy_passes_tls_on() {
    let made = rcgen::generate_simple_self_signed(vec!["web.example".to_owned()]).unwrap();
    let pair = KeyCert::from_pem(made.cert.pem().as_bytes(), made.signing_key.serialize_pem().as_bytes()).unwrap();
    let tls = ServerTls::new(Arc::new(Certificates::new(vec![pair]).unwrap()), ServerTlsOptions::default()).unwrap();
    let world = World::new();
    let mut listener = world.listen("10.0.0.9:80".parse().unwrap());
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        let mut heads = Vec::new();
        let mut stream = listener.accept().await.unwrap();
        heads.push(read_request(&mut stream).await.unwrap());
        stream.write_all(b"HTTP/1.1 200 connected\r\nX: y\r\n\r\n").await.unwrap();
        stream.flush().await.unwrap();
        stream.start_tls(&tls, &[]).await.unwrap();
        heads.push(read_request(&mut stream).await.unwrap());
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        stream.flush().await.unwrap();
        let mut stream = listener.accept().await.unwrap();
        heads.push(read_request(&mut stream).await.unwrap());
        stream.write_all(b"HTTP/1.1 403 not there\r\n\r\n").await.unwrap();
        stream.flush().await.unwrap();
        heads
    });
    let client = through(&world, &[("https_proxy", "proxy.example"), ("http_proxy", "proxy.example:1")]);
    assert_eq!(client.send(get("https://web.example/x")).await.unwrap().status, 204);
    let refused = client.send(get("https://8.8.8.8/")).await.unwrap_err();
    assert_eq!(refused.to_string(), "proxy proxy.example: \"HTTP/1.1 403 not there\" to CONNECT");
    let heads = tasks.join_next().await.unwrap().unwrap();
    assert!(heads[0].starts_with("CONNECT web.example:443 HTTP/1.1\r\nHost: web.example:443\r\n"), "{heads:?}");
    assert!(heads[1].starts_with("GET /x HTTP/1.1\r\n"), "{heads:?}");
    assert!(heads[2].starts_with("CONNECT 8.8.8.8:443 HTTP/1.1\r\n"), "{heads:?}");
}
