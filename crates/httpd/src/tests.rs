//! Connections: slow ones, idle ones, and those with several requests at once.

use crate::webapi::Forms;
use crate::{Answering, Body, Class, Handler, Hosts, Limits, Metrics, Peer, Request, Route, Router, Server, Site};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::{Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use mox_delivery::spool::SpoolSettings;
use mox_net::Stream;
use mox_testkit::VirtualClock;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Reads a form, after so many milliseconds as the path says, and tells whether it could.
#[derive(Debug)]
struct Echo(Forms);

impl Handler for Echo {
    fn answer(&self, mut request: Request) -> Answering<'_> {
        Box::pin(async move {
            let wait = request.path.trim_start_matches('/').parse().unwrap_or(0);
            sleep(Duration::from_millis(wait)).await;
            let (status, text) = match self.0.read(&mut request, 1 << 30).await {
                Ok(form) => (StatusCode::OK, form.request),
                Err(error) => (StatusCode::BAD_REQUEST, error.to_string()),
            };
            let mut response = Response::new(Body::from(text));
            *response.status_mut() = status;
            response
        })
    }
}

struct World {
    server: Arc<Server>,
    site: Arc<Site>,
    stop: CancellationToken,
    tasks: TaskTracker,
    _folder: TempDir,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let forms = Forms::new(SpoolSettings { in_memory: 1 << 20, folder: folder.path().to_owned() });
        let mut router = Router::default();
        router.add(Route {
            class: Class::Service,
            hosts: Hosts::Any,
            path: "/".to_owned(),
            label: "echo",
            forwarded: false,
            handler: Arc::new(Echo(forms)),
        });
        let stop = CancellationToken::new();
        let server = Server::new(Arc::new(VirtualClock::default()), Arc::new(Metrics::new()), Limits::none(), stop.clone());
        let site = Arc::new(Site { router, tls: None, rate_limited: true });
        Self { server, site, stop, tasks: TaskTracker::new(), _folder: folder }
    }

    fn connect(&self) -> Stream {
        let (client, server) = Stream::pair("192.0.2.1:4000".parse().unwrap(), "198.51.100.2:80".parse().unwrap());
        self.tasks.spawn(Arc::clone(&self.server).connection(Arc::clone(&self.site), server));
        client
    }

    /// As after TLS with the protocol agreed on.
    fn connect_h2(&self) -> Stream {
        let (client, server) = Stream::pair("192.0.2.1:4000".parse().unwrap(), "198.51.100.2:443".parse().unwrap());
        let peer = Peer { remote: server.remote_addr(), local: server.local_addr(), tls: None };
        self.tasks.spawn(Arc::clone(&self.server).multiplexed(Arc::clone(&self.site), peer, server));
        client
    }
}

/// Seconds until the server closes, and what it said.
async fn until_closed(stream: &mut Stream) -> (u64, String) {
    let (start, mut said) = (Instant::now(), Vec::new());
    // Reset is as good as closed.
    drop(tokio::time::timeout(Duration::from_secs(1000), stream.read_to_end(&mut said)).await.expect("never closed"));
    (start.elapsed().as_secs(), String::from_utf8(said).unwrap())
}

#[tokio::test(start_paused = true)]
async fn heads_have_half_a_minute() {
    let world = World::new();
    // Nothing at all.
    assert_eq!(until_closed(&mut world.connect()).await, (65, String::new()));
    // A part, and a part in drops.
    let mut client = world.connect();
    client.write_all(b"GET / HTTP/1.1\r\nHost: x").await.unwrap();
    assert_eq!(until_closed(&mut client).await.0, 30);
    let mut client = world.connect();
    for _ in 0..5 {
        client.write_all(b"G").await.unwrap();
        sleep(Duration::from_secs(5)).await;
    }
    assert_eq!(until_closed(&mut client).await.0, 5);
    // After a response, as before the first.
    let mut client = world.connect();
    client.write_all(b"GET /40000 HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let (seconds, said) = until_closed(&mut client).await;
    assert!(seconds == 105 && said.starts_with("HTTP/1.1 "), "{seconds} s: {said}");
}

const FORM: &str = "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 1000000\r\n\r\n";

#[tokio::test(start_paused = true)]
async fn bodies_must_go_on_and_arrive() {
    let world = World::new();
    let mut client = world.connect();
    client.write_all(FORM.as_bytes()).await.unwrap();
    let begin = Instant::now();
    let mut answer = vec![0; 15];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!((begin.elapsed().as_secs(), answer.as_slice()), (30, b"HTTP/1.1 400 Ba".as_slice()));
    // Never silent for long, but slower than anybody's line.
    let mut client = world.connect();
    client.write_all(FORM.as_bytes()).await.unwrap();
    let begin = Instant::now();
    let (mut read, mut write) = tokio::io::split(client);
    let drip = async {
        while write.write_all(&[b'x'; 1000]).await.is_ok() {
            sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::select! {
        () = drip => panic!("closed without an answer"),
        n = read.read_exact(&mut answer) => assert_eq!(n.unwrap(), 15),
    }
    assert!(begin.elapsed().as_secs() < 60 && answer.starts_with(b"HTTP/1.1 400"), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn forms_have_so_many_parts() {
    let world = World::new();
    for (parts, status) in [(1000, 200), (1001, 400)] {
        let body = format!("{}--b--\r\n", "--b\r\nContent-Disposition: form-data; name=x\r\n\r\n\r\n".repeat(parts));
        let mut client = world.connect();
        let head = format!(
            "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        client.write_all(head.as_bytes()).await.unwrap();
        client.write_all(body.as_bytes()).await.unwrap();
        let mut answer = vec![0; 12];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&answer), format!("HTTP/1.1 {status}"), "{parts} parts");
    }
}

#[tokio::test(start_paused = true)]
async fn shutdown_waits_for_the_request_in_hand() {
    let world = World::new();
    let mut busy = world.connect();
    let mut idle = world.connect();
    busy.write_all(b"GET /2000 HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    sleep(Duration::from_millis(100)).await;
    world.stop.cancel();
    assert_eq!(until_closed(&mut idle).await.0, 0);
    let (seconds, said) = until_closed(&mut busy).await;
    assert!(seconds < 3 && said.starts_with("HTTP/1.1 "), "{seconds} s: {said}");
}

type Sender = hyper::client::conn::http2::SendRequest<Full<Bytes>>;

async fn h2(world: &World) -> (Sender, tokio::task::JoinHandle<hyper::Result<()>>) {
    let io = TokioIo::new(world.connect_h2());
    let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    (sender, world.tasks.spawn(connection))
}

async fn post(sender: &mut Sender, path: &str, form: &str) -> (u16, String) {
    let request = hyper::Request::post(format!("https://x{path}")).header("content-type", "application/x-www-form-urlencoded");
    let response = sender.send_request(request.body(Full::new(Bytes::from(form.to_owned()))).unwrap()).await.unwrap();
    let status = response.status().as_u16();
    (status, String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap())
}

#[tokio::test(start_paused = true)]
async fn several_requests_at_once() {
    let world = World::new();
    let (mut sender, connection) = h2(&world).await;
    let begin = Instant::now();
    let (mut second, mut third) = (sender.clone(), sender.clone());
    let answers = tokio::join!(
        post(&mut sender, "/3000", "request=a"),
        post(&mut second, "/1000", "request=b"),
        post(&mut third, "/2000", "request=c")
    );
    assert_eq!(begin.elapsed().as_secs(), 3);
    assert_eq!(answers, ((200, "a".to_owned()), (200, "b".to_owned()), (200, "c".to_owned())));
    // Kept for as long as browsers do, and then closed.
    let begin = Instant::now();
    connection.await.unwrap().unwrap();
    assert_eq!(begin.elapsed().as_secs(), 65);
    // One that never asks for anything.
    let (_sender, connection) = h2(&world).await;
    let begin = Instant::now();
    connection.await.unwrap().unwrap();
    assert_eq!(begin.elapsed().as_secs(), 30);
    // Shutdown.
    let (mut sender, connection) = h2(&world).await;
    let busy = post(&mut sender, "/2000", "request=d");
    let stop = async {
        sleep(Duration::from_secs(1)).await;
        world.stop.cancel();
    };
    assert_eq!(tokio::join!(busy, stop).0, (200, "d".to_owned()));
    connection.await.unwrap().unwrap();
}

/// Whoever asks for something and doesn't take it keeps it in memory for a while, and no longer.
#[tokio::test(start_paused = true)]
async fn clients_that_take_nothing_are_left() {
    let form = format!("request={}", "x".repeat(500_000));
    let world = World::new();
    let mut client = world.connect();
    let begin = Instant::now();
    client.write_all(FORM.replace("1000000", &form.len().to_string()).as_bytes()).await.unwrap();
    client.write_all(form.as_bytes()).await.unwrap();
    world.tasks.close();
    world.tasks.wait().await;
    assert_eq!(begin.elapsed().as_secs(), 30);
    // One that takes a little now and then isn't left.
    let world = World::new();
    let mut client = world.connect();
    client.write_all(FORM.replace("1000000", &form.len().to_string()).as_bytes()).await.unwrap();
    client.write_all(form.as_bytes()).await.unwrap();
    let (mut some, mut taken) = (vec![0; 50_000], 0);
    while taken < form.len() {
        sleep(Duration::from_secs(25)).await;
        taken += client.read(&mut some).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn clients_without_a_window_are_left() {
    let world = World::new();
    let mut http = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    http.initial_stream_window_size(0);
    let (mut sender, connection) = http.handshake(TokioIo::new(world.connect_h2())).await.unwrap();
    let connection = world.tasks.spawn(connection);
    let begin = Instant::now();
    let request = hyper::Request::post("https://x/").header("content-type", "application/x-www-form-urlencoded");
    let response = sender.send_request(request.body(Full::new(Bytes::from_static(b"request=x"))).unwrap()).await.unwrap();
    assert_eq!(response.status(), 200);
    drop(connection.await.unwrap());
    let seconds = begin.elapsed().as_secs();
    assert!((60..=90).contains(&seconds), "{seconds}");
}

#[tokio::test(start_paused = true)]
async fn large_answers_over_h2_are_whole() {
    let world = World::new();
    let (mut sender, _connection) = h2(&world).await;
    let text: String = (0..30_000).map(|n| format!("{n} ")).collect();
    assert_eq!(post(&mut sender, "/", &format!("request={text}")).await, (200, text));
}
