//! Limits on connections, time limits, shutdown.

use crate::world::{Client, World};
use mox_smtpd::ListenerSettings;
use tokio::io::AsyncReadExt as _;

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

#[tokio::test(start_paused = true)]
async fn each_phase_has_its_time() {
    let world = World::new().await;
    // Message data: three minutes without any.
    let mut client = world.connect(&world.incoming());
    client.skip("220").await;
    client.send("EHLO x.example\r\nMAIL FROM:<>\r\nRCPT TO:<ann@mox.example>\r\nDATA\r\nhalf a").await;
    for code in ["250", "250", "250", "354"] {
        client.skip(code).await;
    }
    let before = tokio::time::Instant::now();
    client.play("S: 421 4.4.2 timeout, closing connection\nX:").await;
    assert_eq!(before.elapsed().as_secs(), 180);
    // A chunk of BDAT likewise.
    let mut client = world.connect(&world.incoming());
    client.skip("220").await;
    client.send("EHLO x.example\r\nMAIL FROM:<>\r\nRCPT TO:<ann@mox.example>\r\nBDAT 1000 LAST\r\nhalf a").await;
    for code in ["250", "250", "250"] {
        client.skip(code).await;
    }
    let before = tokio::time::Instant::now();
    client.play("S: 421 4.4.2 timeout, closing connection\nX:").await;
    assert_eq!(before.elapsed().as_secs(), 180);
    // An exchange of SASL has that of a command.
    let mut client = world.connect(&world.submission());
    client.skip("220").await;
    client.send("EHLO x.example").await;
    client.skip("250").await;
    client.send("AUTH PLAIN").await;
    client.skip("334").await;
    let before = tokio::time::Instant::now();
    client.play("S: 421 4.4.2 timeout, closing connection\nX:").await;
    assert_eq!(before.elapsed().as_secs(), 300);
    drop(client);
    world.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_nothing_is_left() {
    let world = World::new().await;
    let mut client = world.connect(&world.incoming());
    client.skip("220").await;
    let commands = 900;
    client.send(&vec!["EHLO x.example"; commands].join("\r\n")).await;
    tokio::time::sleep(std::time::Duration::from_secs(301)).await;
    let mut got = Vec::new();
    client.stream.read_to_end(&mut got).await.unwrap();
    let replies = String::from_utf8_lossy(&got).matches("250 SMTPUTF8").count();
    assert!(replies > 0 && replies < commands, "{replies} replies, so the server waited");
    world.close().await;
}

#[tokio::test(start_paused = true)]
async fn connections_count_while_they_shake_hands() {
    let world = World::new().await;
    let implicit = crate::tls::listener(&world, |settings| settings.implicit_tls = true);
    // They say nothing: each handshake has a minute.
    let silent: Vec<_> = (0..30).map(|_| world.connect(&implicit)).collect();
    tokio::time::sleep(std::time::Duration::from_secs(59)).await;
    let before = tokio::time::Instant::now();
    assert_eq!(world.connect(&implicit).line().await, None);
    assert_eq!(before.elapsed().as_secs(), 0, "whoever is refused isn't worth a handshake");
    world.connect(&world.incoming()).play("S: 421 4.7.0 too many open connections from your ip or network\nX:").await;
    for mut client in silent {
        assert_eq!(client.line().await, None);
    }
    assert_eq!(before.elapsed().as_secs(), 1);
    world.connect(&world.incoming()).skip("220").await;
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

/// Seconds until a message is taken.
async fn seconds(client: &mut Client, mail_from: &str, author: &str, to: &[&str]) -> u64 {
    client.send(&format!("MAIL FROM:<{mail_from}>")).await;
    client.skip("250").await;
    for to in to {
        client.send(&format!("RCPT TO:<{to}@mox.example>")).await;
        client.skip("250").await;
    }
    client.send("DATA").await;
    client.skip("354").await;
    let before = tokio::time::Instant::now();
    client.send(&format!("From: <{author}>\r\n\r\nhi\r\n.")).await;
    client.skip("250").await;
    before.elapsed().as_secs()
}

#[tokio::test(start_paused = true)]
async fn strangers_wait_before_their_first_message_is_taken() {
    let world = World::new().await;
    let mut settings = ListenerSettings::incoming("public", "mx.mox.example".parse().unwrap());
    settings.first_time_sender_delay = std::time::Duration::from_secs(15);
    let listener = world.service.listener(settings);
    let mut client = world.connect(&listener);
    client.skip("220").await;
    client.send("EHLO mx.x.example").await;
    client.skip("250").await;
    let bob = "bob@x.example";
    assert_eq!(seconds(&mut client, bob, bob, &["ann"]).await, 15);
    assert_eq!(seconds(&mut client, bob, bob, &["ann"]).await, 0, "known");
    assert_eq!(seconds(&mut client, bob, bob, &["cas"]).await, 15, "another account");
    // SPF says that this isn't from x.example.
    assert_eq!(seconds(&mut client, "eve@careful.example", bob, &["ann"]).await, 15, "anyone can write that address");
    assert_eq!(seconds(&mut client, bob, "carl@x.example", &["ann", "cas"]).await, 15, "one wait for all");
    assert_eq!(seconds(&mut client, bob, "carl@x.example", &["cas"]).await, 0);
    assert_eq!(seconds(&mut client, bob, "dora@x.example", &["public"]).await, 15, "a list");
    assert_eq!(seconds(&mut client, bob, "dora@x.example", &["public"]).await, 0);
    assert_eq!(seconds(&mut client, bob, "dora@x.example", &["patient"]).await, 0, "an account that wants no delay");
    // Nobody waits once we stop.
    let queued = world.mailbox("ann", "Inbox").await.len();
    let mut last = world.connect(&listener);
    last.skip("220").await;
    last.send("EHLO mx.x.example\r\nMAIL FROM:<bob@x.example>\r\nRCPT TO:<ann@mox.example>\r\nDATA").await;
    for code in ["250", "250", "250", "354"] {
        last.skip(code).await;
    }
    last.send("From: <frank@x.example>\r\n\r\nhi\r\n.").await;
    let stop = async {
        tokio::time::sleep(std::time::Duration::from_secs(3)).await;
        world.stop.cancel();
    };
    let before = tokio::time::Instant::now();
    tokio::join!(stop, last.skip("250"));
    assert_eq!(before.elapsed().as_secs(), 3);
    assert_eq!(world.mailbox("ann", "Inbox").await.len(), queued + 1);
    drop((client, last));
    world.close().await;
}
