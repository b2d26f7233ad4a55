//! Localserve: everything is taken, and addresses of special forms fail.

use crate::world::World;

async fn localserve() -> World {
    World::with(|settings| {
        settings.localserve = true;
        settings.pedantic = true;
    })
    .await
}

#[tokio::test]
async fn simulated_failures_of_incoming_mail() {
    let world = localserve().await;
    let mut client = world.connect(&world.incoming());
    client.skip("220").await;
    client.send("EHLO localhost").await;
    client.skip("250").await;
    client
        .play(
            "C: MAIL FROM:<mailfrom451@localhost>
            S: 451 4.0.0 failure with code 451 due to special localpart
            C: MAIL FROM:<mailfrompermerror@localhost>
            S: 550 5.0.0 failure with code 550 due to special localpart
            C: MAIL FROM:<bob451@localhost>
            S: 250 2.1.0 looking good
            C: RCPT TO:<rcptto551@anywhere.example>
            S: 551 5.0.0 failure with code 551 due to special localpart
            C: RCPT TO:<ann@[192.0.2.1]>
            S: 550 5.1.1 not accepting email for this domain
            C: RCPT TO:<anything@anywhere.example>
            S: 250 2.1.0 now on the list
            C: RCPT TO:<x550@anywhere.example>
            S: 250 2.1.0 now on the list
            C: DATA
            S: 354 see you at the bare dot
            C: Subject: x
            C:
            C: .
            S: 250 2.2.0 it is done
            C: MAIL FROM:<bob@localhost>
            C: RCPT TO:<queue550@anywhere.example>
            C: DATA
            S: 250 2.1.0 looking good
            S: 250 2.1.0 now on the list
            S: 354 see you at the bare dot
            C:
            C: .
            S: 550 5.0.0 failure with code 550 due to special localpart
            C: MAIL FROM:<bob@localhost>
            C: RCPT TO:<temperror@anywhere.example>
            C: RCPT TO:<permerror@anywhere.example>
            C: DATA
            S: 250 2.1.0 looking good
            S: 250 2.1.0 now on the list
            S: 250 2.1.0 now on the list
            S: 354 see you at the bare dot
            C:
            C: .
            S: 554-5.3.0 451 4.0.0 failure with code 451 due to special localpart
            S: 554-5.3.0 550 5.0.0 failure with code 550 due to special localpart
            S: 554 5.3.0 multiple errors
            C: MAIL FROM:<bob@localhost>
            C: RCPT TO:<ann@mox.example>
            C: DATA
            S: 250 2.1.0 looking good
            S: 250 2.1.0 now on the list
            S: 354 see you at the bare dot
            C: Content-Type: multipart/mixed
            C:
            C: .
            S: 554 5.6.0 malformed message",
        )
        .await;
    assert_eq!(world.mailbox("ann", "Inbox").await.len(), 1);
    assert!(world.queued().await.is_empty(), "no bounces of simulated failures");
    drop(client);
    world.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_timeout_is_an_hour_of_silence() {
    let world = localserve().await;
    let mut client = world.connect(&world.incoming());
    client.skip("220").await;
    client.send("EHLO localhost").await;
    client.skip("250").await;
    let before = tokio::time::Instant::now();
    client.play("C: MAIL FROM:<mailfromtimeout@localhost>\nS: 451 4.3.0 timeout due to special localpart").await;
    assert_eq!(before.elapsed().as_secs(), 3600);
    drop(client);
    world.close().await;
}

#[tokio::test]
async fn simulated_failures_of_submissions() {
    let world = localserve().await;
    let mut client = world.logged_in("ann@mox.example").await;
    for (recipient, reply) in [
        ("x451", "451 4.0.0 failure with code 451 due to special localpart"),
        ("queue451", "250 2.2.0 it is done"),
        ("anyone", "250 2.2.0 it is done"),
    ] {
        client
            .play(&format!(
                "C: MAIL FROM:<ann@mox.example>
                C: RCPT TO:<{recipient}@anywhere.example>
                C: DATA
                S: 250 2.1.0 looking good
                S: 250 2.1.0 now on the list
                S: 354 see you at the bare dot
                C: From: <ann@mox.example>
                C:
                C: .
                S: {reply}"
            ))
            .await;
    }
    assert_eq!(world.queued().await.len(), 2);
    drop(client);
    world.close().await;
}
