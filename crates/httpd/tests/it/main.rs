//! Requests to a port.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use mox_base::{Clock, Timestamp};
use mox_httpd::{Class, Hosts, Limits, MTA_STS_PATH, Metrics, MtaSts, Route, Router, Scrape, ServedPolicy, Server, Site};
use mox_net::tls::{Certificates, KeyCert, ServerTlsOptions};
use mox_net::{ServerTls, Stream};
use mox_testkit::VirtualClock;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

fn site(metrics: &Arc<Metrics>) -> Arc<Site> {
    let mut router = Router::default();
    router.add(Route {
        class: Class::System,
        hosts: Hosts::Any,
        path: "/".to_owned(),
        label: "metrics",
        forwarded: false,
        handler: Arc::new(Scrape::new(Arc::clone(metrics))),
    });
    Arc::new(Site { router, tls: None, rate_limited: true })
}

fn server(metrics: &Arc<Metrics>) -> Arc<Server> {
    let clock: Arc<dyn Clock> = Arc::new(VirtualClock::at(Timestamp::from_secs(1_800_000_000)));
    Server::new(clock, Arc::clone(metrics), Limits::strangers(&[]), CancellationToken::new())
}

/// As [`ask`], also if the server doesn't take all of the request.
async fn answer(server: &Arc<Server>, site: &Arc<Site>, request: &str) -> String {
    let (client, end) = Stream::pair("192.0.2.9:40000".parse().unwrap(), "192.0.2.1:8010".parse().unwrap());
    let connection = Arc::clone(server).connection(Arc::clone(site), end);
    let (mut read, mut write) = tokio::io::split(client);
    let request = format!("{request}\r\nConnection: close\r\n\r\n");
    let mut answer = Vec::new();
    let (_, _sent, _read) = tokio::join!(connection, write.write_all(request.as_bytes()), read.read_to_end(&mut answer));
    String::from_utf8_lossy(&answer).into_owned()
}

async fn ask(server: &Arc<Server>, site: &Arc<Site>, request: &str) -> String {
    let (mut client, end) = Stream::pair("192.0.2.9:40000".parse().unwrap(), "192.0.2.1:8010".parse().unwrap());
    let connection = Arc::clone(server).connection(Arc::clone(site), end);
    let exchange = async {
        client.write_all(format!("{request}\r\nConnection: close\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    };
    tokio::join!(connection, exchange).1
}

#[tokio::test]
async fn answers_what_it_has() {
    let metrics = Arc::new(Metrics::new());
    let (server, site) = (server(&metrics), site(&metrics));
    for (request, status, part) in [
        ("GET /metrics", "200 OK", "mox_panic_total{pkg=\"queue\"} 0"),
        ("GET /metrics?x=y", "200 OK", "mox_panic_total{pkg=\"queue\"} 0"),
        ("GET //./metrics", "200 OK", "mox_panic_total{pkg=\"queue\"} 0"),
        ("GET /", "200 OK", "href=\"metrics\""),
        ("HEAD /", "200 OK", "x-frame-options: deny"),
        ("POST /", "405 Method Not Allowed", "allow: GET, HEAD"),
        ("GET /other", "404 Not Found", "not found"),
    ] {
        let answer = ask(&server, &site, &format!("{request} HTTP/1.1\r\nHost: localhost")).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")) && answer.contains(part), "{request}: {answer}");
    }
    let text = metrics.text().unwrap();
    let counted = "mox_httpserver_request_duration_seconds_count{handler=\"metrics\",proto=\"http\",method=\"get\",code=\"404\"} 1";
    assert!(text.contains(counted), "{text}");
}

#[tokio::test]
async fn compressed_when_asked() {
    let metrics = Arc::new(Metrics::new());
    let (server, site) = (server(&metrics), site(&metrics));
    let answer = ask(&server, &site, "GET /metrics HTTP/1.1\r\nHost: x\r\nAccept-Encoding: br, gzip").await;
    assert!(answer.contains("content-encoding: gzip\r\n") && answer.contains("vary: accept-encoding\r\n"), "{answer}");
    let plain = ask(&server, &site, "GET /metrics HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip;q=0").await;
    assert!(!plain.contains("content-encoding") && plain.contains("mox_panic_total"), "{plain}");
}

#[tokio::test]
async fn too_many_requests() {
    let metrics = Arc::new(Metrics::new());
    let (server, site) = (server(&metrics), site(&metrics));
    for _ in 0..1000 {
        assert!(ask(&server, &site, "GET / HTTP/1.1\r\nHost: x").await.starts_with("HTTP/1.1 200"));
    }
    let answer = ask(&server, &site, "GET / HTTP/1.1\r\nHost: x").await;
    assert!(answer.starts_with("HTTP/1.1 429 ") && answer.contains("retry-after: 60\r\n"), "{answer}");
    assert!(metrics.text().unwrap().contains("handler=\"(ratelimited)\""));
}

fn forwarded_site(metrics: &Arc<Metrics>) -> Arc<Site> {
    let mut router = Router::default();
    let handler = Arc::new(Scrape::new(Arc::clone(metrics)));
    router.add(Route { class: Class::System, hosts: Hosts::Any, path: "/".to_owned(), label: "metrics", forwarded: true, handler });
    Arc::new(Site { router, tls: None, rate_limited: true })
}

/// A connection that has been accepted, and says nothing.
struct Silent {
    client: Stream,
    task: tokio::task::JoinSet<()>,
}

fn silent(server: &Arc<Server>, site: &Arc<Site>, from: &str) -> Silent {
    let (client, end) = Stream::pair(from.parse().unwrap(), "192.0.2.1:8010".parse().unwrap());
    let mut task = tokio::task::JoinSet::new();
    task.spawn(Arc::clone(server).connection(Arc::clone(site), end));
    Silent { client, task }
}

impl Silent {
    /// What the server says when it is asked now.
    async fn ask(mut self, request: &str) -> String {
        // Who is refused needn't read it.
        drop(self.client.write_all(format!("{request}\r\nConnection: close\r\n\r\n").as_bytes()).await);
        let mut answer = Vec::new();
        drop(self.client.read_to_end(&mut answer).await);
        self.task.join_next().await.unwrap().unwrap();
        String::from_utf8(answer).unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn open_connections_have_a_number() {
    let metrics = Arc::new(Metrics::new());
    let (server, site) = (server(&metrics), site(&metrics));
    let request = "GET / HTTP/1.1\r\nHost: x";
    let mut open: Vec<_> = (0..100).map(|_| silent(&server, &site, "203.0.113.9:4000")).collect();
    tokio::task::yield_now().await;
    let refused = silent(&server, &site, "203.0.113.9:4001").ask(request).await;
    let (head, body) = refused.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 429 ") && head.contains("Retry-After: 60"), "{refused}");
    assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{refused}");
    // Others aren't troubled, until it is their network that has too many.
    assert!(silent(&server, &site, "203.0.113.10:4001").ask(request).await.starts_with("HTTP/1.1 200 "));
    open.extend((0..200).map(|n| silent(&server, &site, &format!("203.0.113.{}:4000", 10 + n % 10))));
    tokio::task::yield_now().await;
    assert!(silent(&server, &site, "203.0.113.40:4000").ask(request).await.starts_with("HTTP/1.1 429 "));
    assert!(silent(&server, &site, "203.0.113.140:4000").ask(request).await.starts_with("HTTP/1.1 200 "));
    // Those that are open are served; and there is room again once they end.
    assert!(open.remove(0).ask(request).await.starts_with("HTTP/1.1 200 "));
    assert!(silent(&server, &site, "203.0.113.9:4001").ask(request).await.starts_with("HTTP/1.1 200 "));
}

/// A proxy's connections are many; its clients' requests that are being answered are few.
#[tokio::test(start_paused = true)]
async fn proxies_have_as_many_connections_as_they_like() {
    let metrics = Arc::new(Metrics::new());
    let (server, site) = (server(&metrics), forwarded_site(&metrics));
    let open: Vec<_> = (0..150).map(|_| silent(&server, &site, "203.0.113.9:4000")).collect();
    tokio::task::yield_now().await;
    for silent in open {
        let answer = silent.ask("GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 198.51.100.1").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
}

#[tokio::test]
async fn handshakes_have_a_rate() {
    let (metrics, clock) = (Arc::new(Metrics::new()), Arc::new(VirtualClock::at(Timestamp::from_secs(1_800_000_000))));
    let moving: Arc<dyn Clock> = clock.clone();
    let server = Server::new(moving, Arc::clone(&metrics), Limits::strangers(&[]), CancellationToken::new());
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let pair = KeyCert::from_pem(made.cert.pem().as_bytes(), made.signing_key.serialize_pem().as_bytes()).unwrap();
    let tls = ServerTls::new(Arc::new(Certificates::new(vec![pair]).unwrap()), ServerTlsOptions::default()).unwrap();
    let mut site = site(&metrics);
    Arc::get_mut(&mut site).unwrap().tls = Some(tls);
    // Whether the server says anything to a client that begins with something else than a handshake.
    let heard = async |bytes: &[u8]| {
        let mut silent = silent(&server, &site, "203.0.113.9:4000");
        drop(silent.client.write_all(bytes).await);
        let mut answer = Vec::new();
        drop(silent.client.read_to_end(&mut answer).await);
        !answer.is_empty()
    };
    for number in 0..1000 {
        assert!(heard(b"GET / HTTP/1.1\r\n\r\n").await, "{number}: no alert");
    }
    assert!(!heard(b"GET / HTTP/1.1\r\n\r\n").await);
    clock.advance(Duration::from_secs(61));
    assert!(heard(b"GET / HTTP/1.1\r\n\r\n").await);
}

#[tokio::test(start_paused = true)]
async fn a_head_has_30_seconds() {
    let metrics = Arc::new(Metrics::new());
    let (server, site) = (server(&metrics), site(&metrics));
    let (mut client, end) = Stream::pair("192.0.2.9:40000".parse().unwrap(), "192.0.2.1:8010".parse().unwrap());
    let start = tokio::time::Instant::now();
    client.write_all(b"GET / HTTP/1.1\r\nHo").await.unwrap();
    server.connection(site, end).await;
    let took = start.elapsed().as_secs();
    assert!((29..=31).contains(&took), "{took}");
}

#[tokio::test]
async fn heads_have_a_size_and_a_number_of_fields() {
    let metrics = Arc::new(Metrics::new());
    let (server, site) = (server(&metrics), site(&metrics));
    let field = |size: usize| format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}", "y".repeat(size));
    let fields = |number: usize| format!("GET / HTTP/1.1\r\nHost: x{}", "\r\nX: y".repeat(number));
    for (request, code) in [(field(1_000_000), 200), (field(1_100_000), 431), (fields(190), 200), (fields(201), 431)] {
        // What is too long needn't be read to its end.
        let answer = answer(&server, &site, &request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {code} ")), "{} bytes: {answer}", request.len());
    }
}

#[tokio::test]
async fn policies_of_mta_sts() {
    let metrics = Arc::new(Metrics::new());
    let policies = MtaSts::default();
    let policy = ServedPolicy { id: "20261101".to_owned(), text: "version: STSv1\nmode: none\nmax_age: 60\n".to_owned() };
    policies.replace([("bücher.example".parse().unwrap(), policy)].into());
    let mut router = Router::default();
    let path = MTA_STS_PATH.to_owned();
    router.add(Route {
        class: Class::System,
        hosts: Hosts::MtaSts,
        path,
        label: "mtasts",
        forwarded: false,
        handler: Arc::new(policies.clone()),
    });
    let site = Arc::new(Site { router, tls: None, rate_limited: true });
    let server = server(&metrics);
    let get = async |host: &str, path: &str| ask(&server, &site, &format!("GET {path} HTTP/1.1\r\nHost: {host}")).await;
    // RFC 8461 §3.2 and §3.3.
    for host in ["mta-sts.xn--bcher-kva.example", "MTA-STS.xn--bcher-kva.example:443"] {
        let answer = get(host, MTA_STS_PATH).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("content-type: text/plain\r\n"), "{answer}");
        assert!(
            answer.contains("cache-control: no-cache, max-age=0\r\n") && answer.contains("x-content-type-options: nosniff\r\n"),
            "{answer}"
        );
        assert!(answer.contains("mta-sts-id: 20261101\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\nversion: STSv1\nmode: none\nmax_age: 60\n"), "{answer}");
    }
    for host in ["xn--bcher-kva.example", "mta-sts.other.example", "www.mta-sts.xn--bcher-kva.example", "192.0.2.1", "mta-sts."] {
        assert!(get(host, MTA_STS_PATH).await.starts_with("HTTP/1.1 404 "), "{host}");
    }
    let host = "mta-sts.xn--bcher-kva.example";
    assert!(get(host, "/.well-known/mta-sts.txt/").await.starts_with("HTTP/1.1 404 "));
    let post = ask(&server, &site, &format!("POST {MTA_STS_PATH} HTTP/1.1\r\nHost: {host}")).await;
    assert!(post.starts_with("HTTP/1.1 405 ") && post.contains("allow: GET, HEAD\r\n"), "{post}");
    policies.replace([].into());
    assert!(get(host, MTA_STS_PATH).await.starts_with("HTTP/1.1 404 "));
}
