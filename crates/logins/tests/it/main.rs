//! Logging in with passwords and certificates, against a real store.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail by panicking")]

mod world;

use mox_base::Secret;
use mox_logins::{AddKeyError, Client, Refused, WantedApiKey};
use mox_sasl::server::Wrong;
use mox_sasl::{Answer, Ask, scram};
use std::time::Duration;
use world::World;

fn secret(text: &str) -> Secret<String> {
    Secret::new(text.to_owned())
}

fn client(last: u8) -> Client {
    Client {
        protocol: "webapi",
        mechanism: "httpbasic",
        remote_ip: [192, 0, 2, last].into(),
        local_ip: [198, 51, 100, 1].into(),
        tls: None,
        user_agent: "tester".to_owned(),
    }
}

#[tokio::test]
async fn addresses_and_passwords() {
    let world = World::new().await;
    let logins = &world.logins;
    // With a suffix it is the same account; the address stays as it was given.
    let login = logins.log_in(&client(1), "ann+x@mox.example", secret("password")).await.unwrap();
    assert_eq!((login.account.name.as_str(), login.address.to_string().as_str()), ("ann", "ann+x@mox.example"));
    // Decomposed letters are the same letters.
    assert!(logins.log_in(&client(1), "a\u{308}nn@mox.example", secret("password")).await.is_ok());
    for (user, password, refused) in [
        ("ann@mox.example", "Password", Refused::Wrong(Wrong::Password)),
        ("cas@mox.example", "password", Refused::Wrong(Wrong::User)),
        ("ann", "password", Refused::Wrong(Wrong::User)),
        ("shut@mox.example", "password", Refused::Disabled("gone fishing".to_owned())),
        ("shut@mox.example", "wrong password", Refused::Wrong(Wrong::Password)),
    ] {
        assert_eq!(logins.log_in(&client(1), user, secret(password)).await.unwrap_err(), refused, "{user} {password}");
    }
    let metrics = world.metrics();
    assert!(metrics.contains("mox_authentication_total{kind=\"webapi\",variant=\"httpbasic\",result=\"baduser\"} 2"), "{metrics}");
    let records = world.records().await;
    let record = |user: &str, result: &str| {
        let found = records.iter().find(|r| r.attempt.login_address == user && r.attempt.result == result);
        found.map(|r| (r.attempt.account.clone(), r.count))
    };
    assert_eq!(record("ann+x@mox.example", "ok"), Some(("ann".to_owned(), 1)));
    assert_eq!(record("ann@mox.example", "badpassword"), Some(("ann".to_owned(), 1)));
    assert_eq!(record("cas@mox.example", "baduser"), Some(("-".to_owned(), 1)));
    assert_eq!(record("shut@mox.example", "logindisabled"), Some(("shut".to_owned(), 1)));
    assert!(records.iter().all(|r| r.attempt.user_agent == "tester" && r.attempt.remote_ip == "192.0.2.1"));
    world.close().await;
}

#[tokio::test]
async fn who_fails_too_often_is_not_even_looked_at() {
    let world = World::new().await;
    let logins = &world.logins;
    for _ in 0..10 {
        assert_eq!(logins.log_in(&client(1), "x@x.example", secret("x")).await.unwrap_err(), Refused::Wrong(Wrong::User));
    }
    assert_eq!(logins.log_in(&client(1), "ann@mox.example", secret("password")).await.unwrap_err(), Refused::Limited);
    assert!(logins.is_limited("imap", [192, 0, 2, 1].into()));
    // Others aren't concerned, and a minute later it isn't either; success is forgiven.
    assert!(logins.log_in(&client(2), "ann@mox.example", secret("password")).await.is_ok());
    world.clock.advance(Duration::from_secs(60));
    assert!(logins.log_in(&client(1), "ann@mox.example", secret("password")).await.is_ok());
    let metrics = world.metrics();
    for line in ["mox_authentication_ratelimited_total{kind=\"webapi\"} 1", "mox_authentication_ratelimited_total{kind=\"imap\"} 1"] {
        assert!(metrics.lines().any(|l| l == line), "{line} in\n{metrics}");
    }
    world.close().await;
}

#[tokio::test]
async fn unknown_users_look_like_known_ones() {
    let world = World::new().await;
    let ask = |user: &str| world.logins.verify(Ask::ScramKeys { user: user.to_owned(), hash: scram::Hash::Sha256 });
    let Answer::Keys(known) = ask("ann@mox.example").await else { panic!("no keys") };
    let Answer::FakeKeys(unknown, Wrong::User) = ask("nobody@mox.example").await else { panic!("no fake keys") };
    assert_eq!((known.salt.len(), known.iterations), (unknown.salt.len(), unknown.iterations));
    assert_eq!((known.iterations, unknown.iterations), (mox_store::credentials::SCRAM_ITERATIONS, scram::ITERATIONS));
    // However it is spelled, as it is with those who exist.
    for spelled in ["nobody@mox.example", "Nobody@MOX.example", "nobody+x@mox.example"] {
        assert_eq!(ask(spelled).await, Answer::FakeKeys(unknown.clone(), Wrong::User), "{spelled}");
        assert_eq!(ask(&spelled.to_lowercase().replace("nobody", "ann")).await, Answer::Keys(known.clone()), "{spelled}");
    }
    // So does an account without a password, or with one from before there were such keys.
    let Answer::FakeKeys(absent, Wrong::NoKeys) = ask("bare@mox.example").await else { panic!("no fake keys") };
    assert_eq!((known.salt.len(), known.iterations), (absent.salt.len(), absent.iterations));
    let cram = |user: &str| Ask::VerifyCramMd5 { user: user.to_owned(), challenge: "<1@x>".to_owned(), digest: [0; 16] };
    for (user, wrong) in [("ann@mox.example", Wrong::Password), ("nobody@mox.example", Wrong::User), ("bare@mox.example", Wrong::NoKeys)] {
        assert_eq!(world.logins.verify(cram(user)).await, Answer::Wrong(wrong), "{user}");
    }
    world.close().await;
}

#[tokio::test]
async fn certificates_stand_for_their_account() {
    let world = World::new().await;
    let logins = &world.logins;
    let made = rcgen::generate_simple_self_signed(vec!["phone".to_owned()]).unwrap();
    let der = made.cert.der();
    assert!(matches!(logins.add_tls_key("nobody@mox.example", "", false, der).await, Err(AddKeyError::Address)));
    assert!(matches!(logins.add_tls_key("ann@mox.example", "", false, b"x").await, Err(AddKeyError::Certificate(_))));
    let key = logins.add_tls_key("ann@mox.example", "my phone", true, der).await.unwrap();
    assert_eq!((key.kind.as_str(), key.name.as_str()), ("ecdsa-p256", "my phone"));
    assert!(matches!(logins.add_tls_key("shut@mox.example", "", false, der).await, Err(AddKeyError::Exists)));
    let ip = [192, 0, 2, 1].into();
    let owner = logins.certificate(&key.fingerprint, ip).await.unwrap();
    assert_eq!((owner.login.account.name.as_str(), owner.needs_external), ("ann", true));
    assert!(logins.certificate("unknown", ip).await.is_none());
    assert_eq!(logins.tls_keys(Some("ann")).await.unwrap(), [("ann".to_owned(), key.clone())]);
    assert_eq!(logins.tls_keys(Some("shut")).await.unwrap(), []);
    assert_eq!(logins.tls_key(&key.fingerprint).await.unwrap(), Some(("ann".to_owned(), key.clone())));
    // From an address that guesses, no certificate is looked at.
    for _ in 0..10 {
        logins.failed(ip);
    }
    assert!(logins.certificate(&key.fingerprint, ip).await.is_none());
    assert!(logins.remove_tls_key(&key.fingerprint).await.unwrap());
    assert!(logins.certificate(&key.fingerprint, [192, 0, 2, 200].into()).await.is_none());
    world.close().await;
}

#[tokio::test]
async fn api_keys() {
    let world = World::new().await;
    let logins = &world.logins;
    let wanted = |account: &str| WantedApiKey {
        account: account.to_owned(),
        name: "program".to_owned(),
        scopes: vec!["send".to_owned()],
        from: None,
        expires: None,
    };
    let now = world.store.clock().now();
    let ends = WantedApiKey { expires: Some(now.after(Duration::from_secs(60))), ..wanted("ann") };
    let (key, text) = logins.add_api_key(ends).await.unwrap();
    let (_, of_shut) = logins.add_api_key(wanted("shut")).await.unwrap();
    let (login, found) = logins.log_in_or_key(&client(3), "ann+x@mox.example", text.clone()).await.unwrap();
    assert_eq!((login.account.name.as_str(), login.address.to_string().as_str()), ("ann", "ann+x@mox.example"));
    assert_eq!(found.map(|found| found.id), Some(key.id.clone()));
    // Passwords are as good as ever, and without limits.
    let (_, none) = logins.log_in_or_key(&client(3), "ann@mox.example", secret("password")).await.unwrap();
    assert_eq!(none, None);
    let wrong = secret(&format!("{}0", &text.expose()[..47]));
    for (user, key, refused) in [
        ("bare@mox.example", &text, Refused::Wrong(Wrong::Credentials)),
        ("cas@mox.example", &text, Refused::Wrong(Wrong::User)),
        ("shut@mox.example", &of_shut, Refused::Disabled("gone fishing".to_owned())),
        ("ann@mox.example", &wrong, Refused::Wrong(Wrong::Password)),
    ] {
        assert_eq!(logins.log_in_or_key(&client(3), user, key.clone()).await.map(drop).unwrap_err(), refused, "{user}");
    }
    // Nothing else takes them.
    assert!(logins.log_in(&client(3), "ann@mox.example", text.clone()).await.is_err());
    let listed = logins.api_keys(Some("ann")).await.unwrap();
    assert_eq!(listed.iter().map(|(name, key)| (name.as_str(), key.id.as_str())).collect::<Vec<_>>(), [("ann", key.id.as_str())]);
    assert_eq!((logins.api_keys(None).await.unwrap().len(), listed[0].1.used.is_some()), (2, true));
    world.clock.advance(Duration::from_secs(60));
    assert_eq!(
        logins.log_in_or_key(&client(4), "ann@mox.example", text.clone()).await.map(drop).unwrap_err(),
        Refused::Wrong(Wrong::Credentials)
    );
    // Failures count against the client, whose keys then aren't looked at.
    for _ in 0..20 {
        drop(logins.log_in_or_key(&client(5), "bare@mox.example", text.clone()).await);
    }
    assert_eq!(logins.log_in_or_key(&client(5), "ann@mox.example", text).await.map(drop).unwrap_err(), Refused::Limited);
    assert!(logins.remove_api_key(&key.id).await.unwrap());
    let metrics = world.metrics();
    assert!(metrics.contains("variant=\"apikey\",result=\"ok\"} 1"), "{metrics}");
    let records = world.records().await;
    let recorded = |user: &str, result: &str| {
        records.iter().any(|r| r.attempt.login_address == user && r.attempt.mechanism == "apikey" && r.attempt.result == result)
    };
    assert!(
        recorded("ann+x@mox.example", "ok") && recorded("shut@mox.example", "logindisabled") && recorded("bare@mox.example", "badcreds")
    );
    world.close().await;
}

#[tokio::test]
async fn keys_that_are_not_made() {
    let world = World::new().await;
    let wanted = WantedApiKey { account: "ann".to_owned(), name: "n".to_owned(), scopes: Vec::new(), from: None, expires: None };
    let refused = async |wanted: WantedApiKey| world.logins.add_api_key(wanted).await.map(drop).unwrap_err().to_string();
    let text = refused(WantedApiKey { account: "nobody".to_owned(), ..wanted.clone() }).await;
    assert_eq!(text, "no such account");
    for name in ["", "a\nb", &"x".repeat(101)] {
        let text = refused(WantedApiKey { name: name.to_owned(), ..wanted.clone() }).await;
        assert_eq!(text, "a key needs a name, of at most 100 bytes", "{name}");
    }
    let text = refused(WantedApiKey { from: Some("shut@mox.example".parse().unwrap()), ..wanted.clone() }).await;
    assert_eq!(text, "the account may not send with this address");
    let text = refused(WantedApiKey { expires: Some(world.store.clock().now()), ..wanted }).await;
    assert_eq!(text, "the key would have ended already");
    world.close().await;
}
