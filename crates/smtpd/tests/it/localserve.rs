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
    let queued = world.queued().await;
    assert_eq!(queued.len(), 1, "a bounce for the recipient that was left out");
    assert_eq!(queued[0].0.recipient.to_string(), "bob451@localhost");
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

const MESSAGE: &str = "C: DATA
            S: 354 see you at the bare dot
            C: From: <ann@mox.example>
            C:
            C: .
            S: ";

fn transaction(to: &str, reply: &str) -> String {
    format!(
        "C: MAIL FROM:<bob@localhost>\nS: 250 2.1.0 looking good\nC: RCPT TO:<{to}@anywhere.example>\nS: 250 2.1.0 now on the list\n{MESSAGE}{reply}"
    )
}

#[tokio::test]
async fn enhanced_codes_and_greylisting() {
    let world = localserve().await;
    let mut client = world.connect(&world.incoming());
    client.skip("220").await;
    client.send("EHLO localhost").await;
    client.skip("250").await;
    let greylisted = |attempt| format!("451 4.7.1 greylisted due to special localpart, attempt {attempt} of 2 that fail");
    client
        .play(&format!(
            "{}
            {}
            C: MAIL FROM:<bob@localhost>
            S: 250 2.1.0 looking good
            C: RCPT TO:<rcptto-greylist2@anywhere.example>
            S: {}
            C: RCPT TO:<rcptto-greylist2@anywhere.example>
            S: {}
            C: RCPT TO:<rcptto-greylist2@anywhere.example>
            S: 250 2.1.0 now on the list
            {MESSAGE}250 2.2.0 it is done
            {}
            {}
            {}",
            transaction("permerror-5.7.1", "550 5.7.1 failure with code 550 due to special localpart"),
            transaction("queue452-4.2.2", "452 4.2.2 failure with code 452 due to special localpart"),
            greylisted(1),
            greylisted(2),
            transaction("x-greylist2", &greylisted(1)),
            transaction("x-greylist2", &greylisted(2)),
            transaction("x-greylist2", "250 2.2.0 it is done"),
        ))
        .await;
    drop(client);
    world.close().await;
}

#[tokio::test]
async fn a_bounce_after_acceptance() {
    let world = localserve().await;
    let mut client = world.connect(&world.incoming());
    client.skip("220").await;
    client.send("EHLO localhost").await;
    client.skip("250").await;
    client.play(&transaction("x-bounce-5.2.2", "250 2.2.0 it is done")).await;
    let queued = world.queued().await;
    assert_eq!(queued.len(), 1);
    let (entry, _, text) = &queued[0];
    assert_eq!(entry.recipient.to_string(), "bob@localhost");
    assert!(text.contains("Status: 5.2.2") && text.contains("x-bounce-5.2.2@anywhere.example"), "{text}");
    drop(client);
    world.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_delay_and_a_dropped_connection() {
    let world = localserve().await;
    let mut client = world.connect(&world.incoming());
    client.skip("220").await;
    client.send("EHLO localhost").await;
    client.skip("250").await;
    let before = tokio::time::Instant::now();
    client.play("C: MAIL FROM:<mailfrom-delay7@localhost>\nS: 250 2.1.0 looking good").await;
    assert_eq!(before.elapsed().as_secs(), 7);
    client.send("RCPT TO:<rcptto-drop@anywhere.example>").await;
    assert_eq!(client.line().await, None, "closed without a word");
    drop(client);
    world.close().await;
}
