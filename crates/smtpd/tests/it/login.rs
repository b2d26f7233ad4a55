//! Authentication over connections: all mechanisms, failures, delays, records.

use crate::world::{PASSWORD, World, base64};
use mox_base::Secret;
use mox_sasl::AuthResult;
use mox_sasl::client::{Client as Sasl, Credentials};
use mox_sasl::{Bindings, Mechanism};
use mox_testkit::SeededRandom;

#[tokio::test]
async fn all_mechanisms() {
    let world = World::new().await;
    for mechanism in Mechanism::ANNOUNCED {
        if mechanism.is_bound_to_tls() {
            continue;
        }
        let mut client = world.connect(&world.submission());
        client.skip("220").await;
        client.send("EHLO x").await;
        client.skip("250").await;
        let credentials = Credentials { user: "ann@mox.example".to_owned(), password: Secret::new(PASSWORD.to_owned()) };
        let none = Bindings::default();
        let mut sasl = Sasl::new(mechanism, credentials, &none, (&[], &[]), &SeededRandom::new(1)).unwrap();
        let initial = sasl.initial().map(|message| format!(" {}", base64(&message))).unwrap_or_default();
        client.send(&format!("AUTH {mechanism}{initial}")).await;
        loop {
            let line = client.line().await.unwrap();
            let Some(challenge) = line.strip_prefix("334 ") else {
                assert!(line.starts_with("235 2.7.0 nice"), "{mechanism}: {line}");
                break;
            };
            use base64::Engine as _;
            let challenge = base64::engine::general_purpose::STANDARD.decode(challenge).unwrap();
            client.send(&base64(&sasl.respond(&challenge).unwrap())).await;
        }
    }
    let attempts = world.book.attempts.lock().unwrap().clone();
    let names: Vec<&str> = attempts.iter().map(|a| a.mechanism).collect();
    assert_eq!(names, ["scram-sha-256", "scram-sha-1", "cram-md5", "plain", "login"]);
    assert!(
        attempts.iter().all(|a| a.result == AuthResult::Ok && a.account.as_deref() == Some("ann") && a.login_address == "ann@mox.example")
    );
    world.close().await;
}

#[tokio::test(start_paused = true)]
async fn guessing_gets_slow_and_then_shut_out() {
    let world = World::new().await;
    let plain = |user: &str, password: &str| format!("AUTH PLAIN {}", base64(&mox_sasl::plain::message(user, password)));
    let mut client = world.connect(&world.submission());
    client.skip("220").await;
    client.send("EHLO x").await;
    client.skip("250").await;
    let mut seconds = Vec::new();
    for user in ["ann@mox.example", "nobody@mox.example", "ann@mox.example", "ann@mox.example", "ann@mox.example"] {
        let before = tokio::time::Instant::now();
        client.send(&plain(user, "wrong")).await;
        client.skip("535").await;
        seconds.push(before.elapsed().as_secs());
    }
    // Slow replies from the third on; then a second before reading, and after the third failure another for each.
    assert!(seconds[..2] == [0, 0] && seconds[2] >= 20 && seconds[4] > seconds[2], "{seconds:?}");
    let results: Vec<AuthResult> = world.book.attempts.lock().unwrap().iter().map(|a| a.result).collect();
    assert_eq!(results[..2], [AuthResult::BadPassword, AuthResult::BadUser]);
    client.send(&plain("shut@mox.example", PASSWORD)).await;
    assert!(client.skip("525").await.starts_with("525 5.7.13 account is closed"));
    for _ in 0..5 {
        client.send(&plain("ann@mox.example", "wrong")).await;
        client.skip("535").await;
    }
    // Ten failures a minute from one address.
    let mut refused = world.connect(&world.submission());
    refused.play("S: 421 4.7.0 too many authentication failures\nX:").await;
    let mut incoming = world.connect(&world.incoming());
    incoming.skip("220").await;
    client.send(&plain("ann@mox.example", PASSWORD)).await;
    client.skip("235").await;
    let mut again = world.connect(&world.submission());
    again.skip("220").await;
    drop((client, refused, incoming, again));
    world.close().await;
}
