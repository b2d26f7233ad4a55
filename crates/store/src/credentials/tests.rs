use super::*;
use crate::testing::{self, on_both};
use mox_testkit::VirtualClock;
use std::time::Duration;
use tempfile::TempDir;

struct Fixture {
    store: Store,
    credentials: Credentials,
    clock: VirtualClock,
    _folder: TempDir,
}

impl testing::Fixture for Fixture {
    async fn on(folder: TempDir, postgres: Option<String>) -> Self {
        let (store, clock) = testing::store(&folder, postgres).await;
        let credentials = Credentials::open(&store).await.unwrap();
        Self { store, credentials, clock, _folder: folder }
    }
}

on_both!(
    set_and_verify,
    every_password_is_hashed,
    imported_hashes_are_verified_and_replaced,
    keys_with_few_iterations_are_replaced,
    a_failed_renewal_refuses_nobody,
    refused_passwords,
    login_attempts,
    verified_once_then_remembered,
    tls_keys,
    api_keys
);

fn secret(text: &str) -> Secret<String> {
    Secret::new(text.to_owned())
}

const ANN: AccountId = AccountId(1);

async fn set_and_verify(f: Fixture) {
    let c = &f.credentials;
    assert_eq!(c.verify_password(ANN, &secret("password one")).await.unwrap(), Verdict::Absent);
    c.set_password(ANN, &secret("password\u{a0}one")).await.unwrap();
    assert_eq!(c.verify_password(ANN, &secret("password one")).await.unwrap(), Verdict::Right);
    assert_eq!(c.verify_password(ANN, &secret("password two")).await.unwrap(), Verdict::Wrong);
    assert_eq!(c.verify_password(AccountId(2), &secret("password one")).await.unwrap(), Verdict::Absent);
    c.verify_nobodys(&secret("x")).await.unwrap();
    let scram = c.scram(ANN, ScramHash::Sha256).await.unwrap().unwrap();
    assert_eq!(scram, Scram::of(ScramHash::Sha256, b"password one", scram.salt.clone()));
    let scram = c.scram(ANN, ScramHash::Sha1).await.unwrap().unwrap();
    assert_eq!((scram.salt.len(), scram.iterations), (12, SCRAM_ITERATIONS));
    assert_eq!(c.verify_cram_md5(ANN, b"<challenge>", &[0; 16]).await.unwrap(), Verdict::Wrong);
    // A change takes effect at once, also on what is remembered.
    c.set_password(ANN, &secret("password two")).await.unwrap();
    assert_eq!(c.verify_password(ANN, &secret("password one")).await.unwrap(), Verdict::Wrong);
    assert_eq!(c.verify_password(ANN, &secret("password two")).await.unwrap(), Verdict::Right);
    c.remove(ANN, "ann").await.unwrap();
    assert_eq!(c.verify_password(ANN, &secret("password two")).await.unwrap(), Verdict::Absent);
    assert_eq!(c.scram(ANN, ScramHash::Sha1).await.unwrap(), None);
    // The installation's secret stays.
    let again = Credentials::open(&f.store).await.unwrap();
    assert_eq!(again.installation_secret(), c.installation_secret());
}

/// Time tells nobody whether an account exists, or has a password.
async fn every_password_is_hashed(f: Fixture) {
    let c = &f.credentials;
    c.set_password(ANN, &secret("password one")).await.unwrap();
    // Whoever needs a hash fails now.
    c.inner.hashers.close();
    assert!(c.verify_password(ANN, &secret("password two")).await.is_err());
    assert!(c.verify_password(AccountId(2), &secret("password two")).await.is_err());
    assert!(c.verify_nobodys(&secret("password two")).await.is_err());
}

async fn imported_hashes_are_verified_and_replaced(f: Fixture) {
    let c = &f.credentials;
    c.import_hash(ANN, "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW").await.unwrap();
    assert_eq!(c.verify_password(ANN, &secret("U*V")).await.unwrap(), Verdict::Wrong);
    assert_eq!(c.scram(ANN, ScramHash::Sha1).await.unwrap(), None);
    assert_eq!(c.verify_cram_md5(ANN, b"x", &[0; 16]).await.unwrap(), Verdict::Absent);
    // Once the password is seen, there is everything that can be made of it.
    assert_eq!(c.verify_password(ANN, &secret("U*U")).await.unwrap(), Verdict::Right);
    let scram = c.scram(ANN, ScramHash::Sha1).await.unwrap().unwrap();
    assert_eq!(scram, Scram::of(ScramHash::Sha1, b"U*U", scram.salt.clone()));
    assert_eq!(c.verify_cram_md5(ANN, b"x", &[0; 16]).await.unwrap(), Verdict::Wrong);
    let kept = c.kept(ANN).await.unwrap().unwrap();
    assert!(hash::is_current(&kept.hash), "{}", kept.hash);
    assert_eq!(c.verify_password(ANN, &secret("U*U")).await.unwrap(), Verdict::Right);
    assert_eq!(c.verify_password(ANN, &secret("U*V")).await.unwrap(), Verdict::Wrong);
}

/// Writes the keys of an older version.
async fn age(c: &Credentials, password: &'static str, iterations: u32) {
    let (old1, old256) = [ScramHash::Sha1, ScramHash::Sha256]
        .map(|hash| Scram::with_iterations(hash, password.as_bytes(), b"123456789012".to_vec(), iterations))
        .into();
    let write = c.inner.db.write(move |tx| {
        tx.exec(
            "UPDATE credential SET sha1_salt = $2, sha1_iterations = $3, sha1_stored = $4, sha1_server = $5, \
             sha256_salt = $2, sha256_iterations = $3, sha256_stored = $6, sha256_server = $7 WHERE account_id = $1",
            params![
                ANN,
                &old1.salt,
                iterations,
                old1.stored_key.expose(),
                old1.server_key.expose(),
                old256.stored_key.expose(),
                old256.server_key.expose(),
            ],
        )
    });
    write.await.unwrap();
}

async fn keys_with_few_iterations_are_replaced(f: Fixture) {
    let c = &f.credentials;
    c.set_password(ANN, &secret("password one")).await.unwrap();
    let hash = c.kept(ANN).await.unwrap().unwrap().hash;
    age(c, "password one", 4096).await;
    let of = async |hash| c.scram(ANN, hash).await.unwrap().unwrap();
    // They are good as they are, also after a wrong password.
    assert_eq!(c.verify_password(ANN, &secret("password two")).await.unwrap(), Verdict::Wrong);
    let old = of(ScramHash::Sha256).await;
    assert_eq!(old, Scram::with_iterations(ScramHash::Sha256, b"password one", old.salt.clone(), 4096));
    assert_eq!(c.verify_password(ANN, &secret("password one")).await.unwrap(), Verdict::Right);
    for kind in [ScramHash::Sha1, ScramHash::Sha256] {
        let new = of(kind).await;
        assert!(new.iterations == SCRAM_ITERATIONS && new.salt != old.salt, "{kind:?}");
        assert_eq!(new, Scram::of(kind, b"password one", new.salt.clone()));
    }
    // The hash was good: the password isn't forgotten for it, nor are the keys made again and again.
    let new = of(ScramHash::Sha256).await;
    let kept = c.kept(ANN).await.unwrap().unwrap();
    assert!(kept.hash == hash && kept.is_current());
    f.clock.advance(Duration::from_secs(16 * 60));
    assert_eq!(c.verify_password(ANN, &secret("password one")).await.unwrap(), Verdict::Right);
    assert_eq!(of(ScramHash::Sha256).await, new);
    // More than are made now, from a later version, stay.
    age(c, "password one", SCRAM_ITERATIONS + 1).await;
    f.clock.advance(Duration::from_secs(16 * 60));
    assert_eq!(c.verify_password(ANN, &secret("password one")).await.unwrap(), Verdict::Right);
    assert_eq!(of(ScramHash::Sha1).await.iterations, SCRAM_ITERATIONS + 1);
    // A password that was changed while keys of the one before were made keeps its own.
    let before = c.kept(ANN).await.unwrap().unwrap();
    c.set_password(ANN, &secret("password two")).await.unwrap();
    c.upgrade(ANN, before, Prepared::new("password one").unwrap()).await.unwrap();
    let keys = of(ScramHash::Sha256).await;
    assert_eq!(keys, Scram::of(ScramHash::Sha256, b"password two", keys.salt.clone()));
}

/// A disk may be full: who knows the password may read their mail.
async fn a_failed_renewal_refuses_nobody(f: Fixture) {
    let c = &f.credentials;
    c.import_hash(ANN, "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW").await.unwrap();
    // Both engines refuse to write through a view.
    let hide = |tx: &Tx<'_>| {
        tx.exec("ALTER TABLE credential RENAME TO credential_kept", &[])?;
        tx.exec("CREATE VIEW credential AS SELECT DISTINCT * FROM credential_kept", &[])
    };
    c.inner.db.write(hide).await.unwrap();
    assert_eq!(c.verify_password(ANN, &secret("U*U")).await.unwrap(), Verdict::Right);
    assert!(!c.kept(ANN).await.unwrap().unwrap().is_current());
}

async fn refused_passwords(f: Fixture) {
    for (password, want) in [("short", Refused::TooShort), ("", Refused::Characters), ("tab\tinside it", Refused::Characters)] {
        assert!(
            matches!(f.credentials.set_password(ANN, &secret(password)).await, Err(SetError::Refused(why)) if why == want),
            "{password}"
        );
    }
    f.credentials.set_password(ANN, &secret("good enough")).await.unwrap();
    assert_eq!(f.credentials.verify_password(ANN, &secret("\u{7}")).await.unwrap(), Verdict::Wrong);
}

async fn verified_once_then_remembered(f: Fixture) {
    let c = &f.credentials;
    c.set_password(ANN, &secret("password one")).await.unwrap();
    let token = {
        let kept = c.kept(ANN).await.unwrap().unwrap();
        c.remembered().token(ANN, kept.version, &kept.hash, &Prepared::new("password one").unwrap())
    };
    assert!(!c.remembered().contains(&token, f.clock.monotonic()));
    assert_eq!(c.verify_password(ANN, &secret("password one")).await.unwrap(), Verdict::Right);
    assert!(c.remembered().contains(&token, f.clock.monotonic()));
    f.clock.advance(Duration::from_secs(16 * 60));
    assert!(!c.remembered().contains(&token, f.clock.monotonic()));
    assert_eq!(c.verify_password(ANN, &secret("password one")).await.unwrap(), Verdict::Right);
}

async fn login_attempts(f: Fixture) {
    let (attempts, writer) = f.credentials.login_attempts();
    let task = tokio::runtime::Handle::current().spawn(writer.run());
    let attempt =
        LoginAttempt { account: "ann".to_owned(), protocol: "imap".to_owned(), result: "badcreds".to_owned(), ..LoginAttempt::default() };
    let first = f.clock.now();
    for _ in 0..3 {
        attempts.record(attempt.clone()).await;
        f.clock.advance(Duration::from_secs(1));
    }
    attempts
        .record(LoginAttempt {
            account: "bob".to_owned(),
            user_agent: "NUL\0".to_owned(),
            result: "ok".to_owned(),
            ..LoginAttempt::default()
        })
        .await;
    // Everything waiting is written before the writer ends.
    drop(attempts);
    task.await.unwrap();
    let listed = f.credentials.recorded_attempts(None, 10).await.unwrap();
    let [bob, ann] = listed.as_slice() else { panic!("{listed:?}") };
    assert_eq!((ann.count, ann.first, ann.last), (3, first, first.after(Duration::from_secs(2))));
    assert_eq!(ann.attempt, attempt);
    assert_eq!(bob.attempt.user_agent, "NUL ");
    let of_ann = f.credentials.recorded_attempts(Some("ann"), 10).await.unwrap();
    assert_eq!(of_ann.as_slice(), std::slice::from_ref(ann));
}

async fn tls_keys(f: Fixture) {
    let c = &f.credentials;
    let key = |fingerprint: &str, account| TlsKey {
        fingerprint: fingerprint.to_owned(),
        created: f.clock.now(),
        kind: "ed25519".to_owned(),
        name: "ann's phone".to_owned(),
        no_imap_preauth: account == ANN,
        cert: vec![0, 1, 255],
        account,
        login_address: "ann@mox.example".to_owned(),
    };
    let (ann, bob) = (key("b", ANN), key("a", AccountId(2)));
    assert!(c.add_tls_key(&ann).await.unwrap());
    assert!(!c.add_tls_key(&key("b", AccountId(2))).await.unwrap(), "it is ann's");
    f.clock.advance(Duration::from_secs(1));
    let bob = TlsKey { created: f.clock.now(), ..bob };
    assert!(c.add_tls_key(&bob).await.unwrap());
    assert_eq!(c.tls_keys().await.unwrap(), [ann.clone(), bob.clone()]);
    assert_eq!(c.tls_key("b").await.unwrap(), Some(ann));
    assert_eq!(c.tls_key("c").await.unwrap(), None);
    // They go with their account.
    c.remove(ANN, "ann").await.unwrap();
    assert_eq!(c.tls_keys().await.unwrap(), [bob]);
    assert!(c.remove_tls_key("a").await.unwrap());
    assert!(!c.remove_tls_key("a").await.unwrap());
}

async fn api_keys(f: Fixture) {
    let c = &f.credentials;
    let new = |account, name: &str| NewApiKey { account, name: name.to_owned(), scopes: Vec::new(), from: None, expires: None };
    let limited = NewApiKey {
        scopes: vec!["send".to_owned(), "QueueList".to_owned()],
        from: Some("shop@bücher.example".parse().unwrap()),
        expires: Some(f.clock.now().after(Duration::from_secs(60))),
        ..new(ANN, "the shop")
    };
    let (ann, text) = c.add_api_key(limited.clone()).await.unwrap().unwrap();
    assert!(text.expose().starts_with(&format!("moxkey_{}_", ann.id)) && text.expose().len() == 48, "{}", text.expose());
    assert_eq!((&ann.scopes, &ann.from, ann.expires, ann.used), (&limited.scopes, &limited.from, limited.expires, None));
    f.clock.advance(Duration::from_secs(1));
    let (bob, of_bob) = c.add_api_key(new(AccountId(2), "")).await.unwrap().unwrap();
    assert_eq!(c.api_keys().await.unwrap(), [ann.clone(), bob.clone()]);
    assert_eq!(c.api_key(&text).await.unwrap(), Some(ann.clone()));
    assert_eq!(c.api_key(&of_bob).await.unwrap(), Some(bob));
    // Somebody else's secret, and a text that isn't a key.
    let mixed = format!("moxkey_{}_{}", ann.id, of_bob.expose().rsplit('_').next().unwrap());
    for other in [mixed, text.expose().to_uppercase(), "password".to_owned()] {
        assert_eq!(c.api_key(&secret(&other)).await.unwrap(), None, "{other}");
    }
    // Nothing that is kept is the text.
    assert_eq!(c.verify_password(ANN, &text).await.unwrap(), Verdict::Absent);
    // Use is noted once a minute.
    let used = async || c.api_key(&text).await.unwrap().unwrap();
    let first = f.clock.now();
    for seconds in [0, 59, 1] {
        f.clock.advance(Duration::from_secs(seconds));
        c.note_api_key_use(&used().await).await.unwrap();
        let noted = if seconds == 1 { f.clock.now() } else { first };
        assert_eq!(used().await.used, Some(noted), "{seconds}");
    }
    for _ in 1..MAX_API_KEYS {
        assert!(c.add_api_key(new(ANN, "more")).await.unwrap().is_some());
    }
    assert!(c.add_api_key(new(ANN, "one too many")).await.unwrap().is_none());
    assert!(c.remove_api_key(&ann.id).await.unwrap());
    assert!(!c.remove_api_key(&ann.id).await.unwrap());
    assert_eq!(c.api_key(&text).await.unwrap(), None);
    // They go with their account.
    c.remove(ANN, "ann").await.unwrap();
    assert_eq!(c.api_keys().await.unwrap().len(), 1);
}
