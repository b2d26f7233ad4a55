//! TLS: STARTTLS, TLS from the start, what depends on it.

use crate::world::{Client, PASSWORD, World, base64};
use mox_base::Secret;
use mox_net::tls::{Certificates, KeyCert, ServerTlsOptions};
use mox_net::{ClientTls, ServerTls};
use mox_sasl::client::{Client as Sasl, Credentials};
use mox_sasl::scram::Hash;
use mox_sasl::{Bindings, Mechanism};
use mox_smtpd::{Listener, ListenerSettings};
use mox_store::credentials::TlsKey;
use mox_testkit::SeededRandom;
use std::sync::Arc;

fn server_tls() -> ServerTls {
    server_tls_with(ServerTlsOptions::default())
}

fn server_tls_with(options: ServerTlsOptions) -> ServerTls {
    let made = rcgen::generate_simple_self_signed(vec!["mx.mox.example".to_owned()]).unwrap();
    let pair = KeyCert::from_pem(made.cert.pem().as_bytes(), made.signing_key.serialize_pem().as_bytes()).unwrap();
    ServerTls::new(Arc::new(Certificates::new(vec![pair]).unwrap()), options).unwrap()
}

pub(crate) fn listener(world: &World, adjust: impl FnOnce(&mut ListenerSettings)) -> Arc<Listener> {
    let mut settings = ListenerSettings::submission("public", "mx.mox.example".parse().unwrap());
    settings.tls = Some(server_tls());
    adjust(&mut settings);
    world.service.listener(settings)
}

/// A submission listener that takes nothing before there is TLS.
pub(crate) fn starting_tls(world: &World) -> Arc<Listener> {
    listener(world, |_| {})
}

async fn start_tls(client: &mut Client) {
    client.stream.connect_tls(&ClientTls::opportunistic().unwrap(), "mx.mox.example").await.unwrap();
}

#[tokio::test]
async fn submission_needs_tls_and_binds_to_it() {
    let world = World::new().await;
    world.give_password("ann").await;
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
    assert!(text.replace("\r\n\t", " ").contains(" X25519MLKEM768) for <"), "{text}");
    drop(client);
    world.close().await;
}

#[tokio::test]
async fn another_connection_s_binding_is_refused() {
    let world = World::new().await;
    world.give_password("ann").await;
    let mut client = world.connect(&starting_tls(&world));
    client.skip("220").await;
    client.send("EHLO x\r\nSTARTTLS").await;
    client.skip("250").await;
    client.skip("220").await;
    start_tls(&mut client).await;
    client.send("EHLO x").await;
    client.skip("250").await;
    let mechanism = Mechanism::Scram { hash: Hash::Sha256, plus: true };
    let credentials = Credentials { user: "ann@mox.example".to_owned(), password: Secret::new(PASSWORD.to_owned()) };
    // As someone in between would have, with a connection to each side.
    let bindings = Bindings { exporter: Some(vec![7; 32]), server_end_point: None };
    let mut sasl = Sasl::new(mechanism, credentials, &bindings, (&[], &[]), &SeededRandom::new(1)).unwrap();
    client.send(&format!("AUTH {mechanism} {}", base64(&sasl.initial().unwrap()))).await;
    use base64::Engine as _;
    let line = client.skip("334").await;
    let challenge = base64::engine::general_purpose::STANDARD.decode(&line[4..]).unwrap();
    client.send(&base64(&sasl.respond(&challenge).unwrap())).await;
    // RFC 5802 §7: the error is told as a challenge, which the client gives up.
    let mut line = client.line().await.unwrap();
    if line.starts_with("334 ") {
        client.send("*").await;
        line = client.line().await.unwrap();
    }
    assert!(line.starts_with("535 5.7.7 "), "{line}");
    drop(client);
    assert_eq!(world.attempts().await[0].attempt.result, "badchanbind");
    world.close().await;
}

#[tokio::test]
async fn tls_from_the_start() {
    let world = World::new().await;
    world.give_password("ann").await;
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
    let settings = ListenerSettings {
        tls: Some(server_tls()),
        require_tls: true,
        ..ListenerSettings::incoming("public", "mx.mox.example".parse().unwrap())
    };
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

/// A client with a certificate, and its fingerprint.
struct WithCertificate {
    config: Arc<rustls::ClientConfig>,
    der: Vec<u8>,
}

/// Takes any server.
#[derive(Debug)]
struct Anyone;

impl rustls::client::danger::ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

impl WithCertificate {
    fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["ann".to_owned()]).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anyone))
            .with_client_auth_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        Self { config: Arc::new(config), der: made.cert.der().to_vec() }
    }

    /// Says what must be answered like this, over TLS from the start.
    async fn check(&self, world: &World, dialogue: &[(&str, &str)]) {
        use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _};
        let options = ServerTlsOptions { client_auth: true, ..ServerTlsOptions::default() };
        let listener = listener(world, |settings| {
            settings.implicit_tls = true;
            settings.tls = Some(server_tls_with(options));
        });
        let (client, server) = tokio::io::duplex(64 * 1024);
        let server = mox_net::Stream::memory(server, "198.51.100.2:465".parse().unwrap(), "192.0.2.7:4000".parse().unwrap());
        world.tasks.spawn(Arc::clone(&world.service).connection(listener, server));
        let name = "mx.mox.example".try_into().unwrap();
        let stream = tokio_rustls::TlsConnector::from(Arc::clone(&self.config)).connect(name, client).await.unwrap();
        let mut stream = tokio::io::BufReader::new(stream);
        for (said, answered) in [("", "220 ")].iter().chain(dialogue) {
            if !said.is_empty() {
                stream.write_all(format!("{said}\r\n").as_bytes()).await.unwrap();
            }
            let mut line = String::new();
            while line.is_empty() || line.as_bytes().get(3) == Some(&b'-') {
                line.clear();
                stream.read_line(&mut line).await.unwrap();
            }
            assert!(line.starts_with(answered), "{said}: {line}");
        }
    }
}

/// Registers the client's certificate for an address, and for no other.
async fn own(world: &World, client: &WithCertificate, address: &str, needs_external: bool) -> TlsKey {
    for (_, key) in world.logins.tls_keys(None).await.unwrap() {
        assert!(world.logins.remove_tls_key(&key.fingerprint).await.unwrap());
    }
    world.logins.add_tls_key(address, "", needs_external, &client.der).await.unwrap()
}

#[tokio::test]
async fn client_certificates() {
    let world = World::new().await;
    world.give_password("ann").await;
    world.give_password("cas").await;
    let client = WithCertificate::new();
    // Nobody's: as good as none.
    let hello = ("EHLO x", "250 ");
    client.check(&world, &[hello, ("MAIL FROM:<ann@mox.example>", "530 5.7.0"), ("AUTH EXTERNAL =", "535 5.7.8")]).await;
    // A login by itself, if it may be.
    own(&world, &client, "ann@mox.example", false).await;
    client.check(&world, &[hello, ("MAIL FROM:<ann@mox.example>", "250 2.1.0")]).await;
    own(&world, &client, "ann@mox.example", true).await;
    client
        .check(
            &world,
            &[
                hello,
                ("MAIL FROM:<ann@mox.example>", "530 5.7.0"),
                ("AUTH EXTERNAL =", "235 2.7.0"),
                ("MAIL FROM:<ann@mox.example>", "250 2.1.0"),
            ],
        )
        .await;
    // For its account, with any address of it, and no other.
    let named = |user: &str| format!("AUTH EXTERNAL {}", base64(user.as_bytes()));
    let plain = |user: &str| format!("AUTH PLAIN {}", base64(&mox_sasl::plain::message(user, PASSWORD)));
    client
        .check(
            &world,
            &[
                hello,
                (&named("cas@mox.example"), "535 5.7.8"),
                (&named("nobody@mox.example"), "535 5.7.8"),
                (&named("fromid@mox.example"), "235 "),
            ],
        )
        .await;
    client.check(&world, &[hello, (&plain("cas@mox.example"), "535 5.7.8"), (&plain("ann@mox.example"), "235 ")]).await;
    // An owner who may not log in, and one who isn't there.
    own(&world, &client, "shut@mox.example", false).await;
    client.check(&world, &[hello, ("MAIL FROM:<shut@mox.example>", "530 5.7.0"), ("AUTH EXTERNAL =", "525 5.7.13")]).await;
    let key = own(&world, &client, "cas@mox.example", false).await;
    let moved = TlsKey { login_address: "ann@mox.example".to_owned(), ..key };
    world.credentials.remove_tls_key(&moved.fingerprint).await.unwrap();
    assert!(world.credentials.add_tls_key(&moved).await.unwrap());
    client.check(&world, &[hello, ("MAIL FROM:<ann@mox.example>", "530 5.7.0")]).await;
    world.close().await;
}
