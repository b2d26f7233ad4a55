//! Listening, accepting, dialling.

use mox_net::listen::{Serving, serve};
use mox_net::memory::World;
use mox_net::{Dial, Listener, Sockets, TcpDial};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Serves an echo, dials twice, stops.
async fn echo(listener: Listener, dial: &dyn Dial) {
    let addr = listener.local_addr();
    let serving = Serving { tracker: TaskTracker::new(), stop: CancellationToken::new(), connections: Arc::new(Semaphore::new(1)) };
    let (tracker, stop) = (serving.tracker.clone(), serving.stop.clone());
    let mut accepting = JoinSet::new();
    accepting.spawn(serve(listener, serving, |mut stream| async move {
        stream.readable().await.unwrap();
        let mut buf = Vec::new();
        stream.read_to_end(&mut buf).await.unwrap();
        stream.write_all(&buf).await.unwrap();
        stream.close().await;
    }));
    for text in ["one", "two"] {
        let mut stream = dial.dial(addr, None).await.unwrap();
        assert_eq!(stream.remote_addr(), addr);
        stream.write_all(text.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, text);
    }
    stop.cancel();
    accepting.join_all().await;
    tracker.close();
    tracker.wait().await;
    assert!(dial.dial(addr, None).await.is_err(), "still listening after it stopped");
}

#[tokio::test]
async fn over_tcp() {
    for addr in ["127.0.0.1:0", "[::1]:0"] {
        echo(Listener::bind(addr.parse().unwrap()).unwrap(), &TcpDial::default()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn in_memory() {
    let world = World::new();
    // Timers fire at whole milliseconds.
    tokio::time::advance(std::time::Duration::from_micros(500)).await;
    let start = tokio::time::Instant::now();
    echo(world.listen("192.0.2.1:25".parse().unwrap()), &world).await;
    // Time passes only when everybody waits for a timer.
    assert_eq!(start.elapsed(), std::time::Duration::ZERO, "connections had to wait to be accepted");
}

#[tokio::test]
async fn both_families_at_one_port() {
    let mut sockets = Sockets::new();
    let v4 = sockets.listener("0.0.0.0:0".parse().unwrap()).unwrap();
    let port = v4.local_addr().port();
    assert!(sockets.listener(format!("[::]:{port}").parse().unwrap()).is_ok());
    assert!(sockets.listener(format!("0.0.0.0:{port}").parse().unwrap()).is_err(), "bound twice");
}
