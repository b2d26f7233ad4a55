//! Requests to the metrics server.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use mox_httpd::{Metrics, serve};
use mox_net::Dial;
use mox_net::listen::Serving;
use mox_net::memory::World;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

async fn get(world: &World, addr: SocketAddr, request: &str) -> String {
    let mut stream = world.dial(addr, None).await.unwrap();
    stream.write_all(format!("{request} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn answers_what_it_has() {
    let world = World::new();
    let addr = "192.0.2.1:8010".parse().unwrap();
    let serving = Serving { tracker: TaskTracker::new(), stop: CancellationToken::new(), connections: Arc::new(Semaphore::new(8)) };
    let stop = serving.stop.clone();
    let mut server = JoinSet::new();
    server.spawn(serve(world.listen(addr), Arc::new(Metrics::new()), serving));
    for (request, status, part) in [
        ("GET /metrics", "200 OK", "mox_panic_total{pkg=\"queue\"} 0"),
        ("GET /", "200 OK", "href=\"metrics\""),
        ("POST /", "405 Method Not Allowed", "allow: GET, HEAD"),
        ("GET /other", "404 Not Found", "not found"),
    ] {
        let answer = get(&world, addr, request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")) && answer.contains(part), "{request}: {answer}");
    }
    stop.cancel();
    server.join_all().await;
}
