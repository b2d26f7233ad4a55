//! Authentication over connections: all mechanisms, failures, delays, records.

use crate::world::{PASSWORD, World, base64};
use mox_base::Secret;
use mox_sasl::client::{Client as Sasl, Credentials};
use mox_sasl::{Bindings, Mechanism};
use mox_store::credentials::LoginRecord;
use mox_testkit::SeededRandom;

#[tokio::test]
async fn all_mechanisms() {
    let world = World::new().await;
    world.give_password("ann").await;
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
    let attempts = world.attempts().await;
    let names: Vec<&str> = attempts.iter().map(|a| a.attempt.mechanism.as_str()).collect();
    assert_eq!(names, ["cram-md5", "login", "plain", "scram-sha-1", "scram-sha-256"]);
    for LoginRecord { attempt, .. } in attempts {
        let of = (attempt.result.as_str(), attempt.account.as_str(), attempt.login_address.as_str(), attempt.protocol.as_str());
        assert_eq!(of, ("ok", "ann", "ann@mox.example", "submission"));
    }
    world.close().await;
}

#[tokio::test(start_paused = true)]
async fn guessing_gets_slow_and_then_shut_out() {
    let world = World::new().await;
    world.give_password("ann").await;
    world.give_password("shut").await;
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
    let mut results: Vec<(String, String, i64)> =
        world.attempts().await.into_iter().map(|r| (r.attempt.login_address, r.attempt.result, r.count)).collect();
    results.sort();
    let results: Vec<(&str, &str, i64)> = results.iter().map(|(user, result, count)| (user.as_str(), result.as_str(), *count)).collect();
    assert_eq!(
        results,
        [
            ("ann@mox.example", "badpassword", 9),
            ("ann@mox.example", "ok", 1),
            ("nobody@mox.example", "baduser", 1),
            ("shut@mox.example", "logindisabled", 1),
        ]
    );
    world.close().await;
}
