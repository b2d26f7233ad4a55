//! Limits on connections, time limits, shutdown.

use crate::world::World;

#[tokio::test]
async fn open_connections_and_their_rate() {
    let world = World::new().await;
    let listener = world.incoming();
    let mut open = Vec::new();
    for _ in 0..30 {
        let mut client = world.connect(&listener);
        client.skip("220").await;
        open.push(client);
    }
    world.connect(&listener).play("S: 421 4.7.0 too many open connections from your ip or network\nX:").await;
    open.clear();
    // 31 so far.
    for _ in 31..300 {
        let mut client = world.connect(&listener);
        client.play("S: 220 mx.mox.example ESMTP mox\nC: QUIT\nS: 221 2.0.0 okay thanks bye\nX:").await;
    }
    world.connect(&listener).play("S: 421 4.7.0 connection rate from your ip or network too high, slow down please\nX:").await;
    world.clock.advance(std::time::Duration::from_secs(60));
    world.connect(&listener).skip("220").await;
    world.close().await;
}

#[tokio::test(start_paused = true)]
async fn silent_clients_are_told_to_go() {
    let world = World::new().await;
    let mut client = world.connect(&world.incoming());
    client.skip("220").await;
    let before = tokio::time::Instant::now();
    client.play("S: 421 4.4.2 timeout, closing connection\nX:").await;
    assert_eq!(before.elapsed().as_secs(), 300);
    // A message that drips in: 30 minutes in all.
    let mut client = world.connect(&world.incoming());
    client.skip("220").await;
    client.send("EHLO x.example\r\nMAIL FROM:<>\r\nRCPT TO:<ann@mox.example>\r\nDATA").await;
    client.skip("250").await;
    client.skip("250").await;
    client.skip("250").await;
    client.skip("354").await;
    let before = tokio::time::Instant::now();
    for _ in 0..15 {
        client.send("x").await;
        tokio::time::sleep(std::time::Duration::from_secs(119)).await;
    }
    client.play("S: 421 4.4.2 timeout, closing connection\nX:").await;
    assert_eq!(before.elapsed().as_secs(), 1800);
    world.close().await;
}

#[tokio::test]
async fn shutdown_is_told() {
    let world = World::new().await;
    let mut idle = world.connect(&world.incoming());
    idle.skip("220").await;
    let mut busy = world.connect(&world.incoming());
    busy.skip("220").await;
    busy.send("EHLO x.example\r\nMAIL FROM:<>\r\nRCPT TO:<ann@mox.example>\r\nDATA\r\nhalf a").await;
    busy.skip("250").await;
    busy.skip("250").await;
    busy.skip("250").await;
    busy.skip("354").await;
    world.stop.cancel();
    idle.play("S: 421 4.3.2 shutting down\nX:").await;
    busy.play("S: 421 4.3.2 shutting down\nX:").await;
    world.connect(&world.incoming()).play("S: 421 4.3.2 shutting down\nX:").await;
    assert!(world.mailbox("ann", "Inbox").await.is_empty());
    world.close().await;
}
