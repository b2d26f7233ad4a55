//! TLS: STARTTLS, TLS from the start, what depends on it.

use crate::world::{Client, PASSWORD, World, base64};
use mox_base::Secret;
use mox_net::tls::{Certificates, KeyCert, ServerTlsOptions};
use mox_net::{ClientTls, ServerTls};
use mox_sasl::client::{Client as Sasl, Credentials};
use mox_sasl::scram::Hash;
use mox_sasl::{Bindings, Mechanism};
use mox_smtpd::{Listener, ListenerSettings};
use mox_testkit::SeededRandom;
use std::sync::Arc;

fn server_tls() -> ServerTls {
    let made = rcgen::generate_simple_self_signed(vec!["mx.mox.example".to_owned()]).unwrap();
    let pair = KeyCert::from_pem(made.cert.pem().as_bytes(), made.signing_key.serialize_pem().as_bytes()).unwrap();
    ServerTls::new(Arc::new(Certificates::new(vec![pair]).unwrap()), ServerTlsOptions::default()).unwrap()
}

fn listener(world: &World, adjust: impl FnOnce(&mut ListenerSettings)) -> Arc<Listener> {
    let mut settings = ListenerSettings::submission("public", "mx.mox.example".parse().unwrap());
    settings.tls = Some(server_tls());
    adjust(&mut settings);
    world.service.listener(settings)
}

async fn start_tls(client: &mut Client) {
    client.stream.connect_tls(&ClientTls::opportunistic().unwrap(), "mx.mox.example").await.unwrap();
}

#[tokio::test]
async fn submission_needs_tls_and_binds_to_it() {
    let world = World::new().await;
    let mut client = world.connect(&listener(&world, |_| {}));
    client.skip("220").await;
    client.send("EHLO x").await;
    client.skip("250").await;
    client.play("C: AUTH PLAIN AAAA\nS: 538 5.7.11 authentication requires tls").await;
    client.send("STARTTLS").await;
    assert!(client.skip("220").await.starts_with("220 2.0.0 go! ("));
    start_tls(&mut client).await;
    client.send("EHLO x").await;
    client.skip("250").await;
    let mechanism = Mechanism::Scram { hash: Hash::Sha256, plus: true };
    let credentials = Credentials { user: "ann@mox.example".to_owned(), password: Secret::new(PASSWORD.to_owned()) };
    let bindings = Bindings { exporter: client.stream.channel_binding().map(Vec::from), server_end_point: None };
    let mut sasl = Sasl::new(mechanism, credentials, &bindings, (&[], &[]), &SeededRandom::new(1)).unwrap();
    client.send(&format!("AUTH {mechanism} {}", base64(&sasl.initial().unwrap()))).await;
    for _ in 0..2 {
        use base64::Engine as _;
        let line = client.skip("334").await;
        let challenge = base64::engine::general_purpose::STANDARD.decode(&line[4..]).unwrap();
        client.send(&base64(&sasl.respond(&challenge).unwrap())).await;
    }
    client.skip("235").await;
    client
        .play(
            "C: MAIL FROM:<ann@mox.example> REQUIRETLS
            C: RCPT TO:<bob@x.example>
            C: DATA
            S: 250 2.1.0 looking good
            S: 250 2.1.0 now on the list
            S: 354 see you at the bare dot
            C: From: <ann@mox.example>
            C:
            C: .
            S: 250 2.2.0 it is done",
        )
        .await;
    let [(entry, _, text)] = &world.queued().await[..] else { panic!("not one entry") };
    assert_eq!(entry.require_tls, Some(true));
    assert!(text.replace("\r\n\t", " ").contains("with ESMTPSA (requiretls) id "), "{text}");
    assert!(text.contains("(TLS1.3"), "{text}");
    drop(client);
    world.close().await;
}

#[tokio::test]
async fn tls_from_the_start() {
    let world = World::new().await;
    let mut client = world.connect(&listener(&world, |settings| settings.implicit_tls = true));
    start_tls(&mut client).await;
    client.skip("220").await;
    client.send("EHLO x").await;
    client.skip("250").await;
    client.send(&format!("AUTH PLAIN {}", base64(&mox_sasl::plain::message("ann@mox.example", PASSWORD)))).await;
    client.skip("235").await;
    client.play("C: STARTTLS\nS: 503 5.5.1 already speaking tls").await;
    drop(client);
    world.close().await;
}

#[tokio::test]
async fn port_25_may_insist_on_tls_but_for_reports_about_it() {
    let world = World::new().await;
    let settings = ListenerSettings { tls: Some(server_tls()), require_tls: true, ..ListenerSettings::incoming("public", "mx.mox.example".parse().unwrap()) };
    let mut client = world.connect(&world.service.listener(settings));
    client.skip("220").await;
    client.send("EHLO mx.x.example").await;
    client.skip("250").await;
    client
        .play(
            "C: MAIL FROM:<bob@x.example>
            S: 250 2.1.0 looking good
            C: RCPT TO:<ann@mox.example>
            S: 530 5.7.0 starttls required
            C: RCPT TO:<tlsreports@host.mox.example>
            S: 250 2.1.0 now on the list",
        )
        .await;
    drop(client);
    world.close().await;
}
