//! STARTTLS and implicit TLS.

use crate::server::{Server, TestClient};
use mox_imapd::Listener;
use mox_net::tls::{Certificates, KeyCert, ServerTlsOptions};
use mox_net::{ClientTls, ServerTls};
use rcgen::{CertificateParams, KeyPair};
use std::sync::Arc;

fn tls() -> ServerTls {
    let key = KeyPair::generate().unwrap();
    let cert = CertificateParams::new(vec!["mox.example".to_owned()]).unwrap().self_signed(&key).unwrap();
    let cert = KeyCert::from_pem(cert.pem().as_bytes(), key.serialize_pem().as_bytes()).unwrap();
    ServerTls::new(Arc::new(Certificates::new(vec![cert]).unwrap()), ServerTlsOptions::default()).unwrap()
}

pub(crate) fn listener(implicit_tls: bool) -> Listener {
    Listener { name: "test".into(), tls: Some(tls()), implicit_tls, no_require_starttls: false, no_client_certificates: false }
}

async fn log_in(client: &mut TestClient) {
    client.send("a capability", "").await;
    let capabilities = client.line("capability").await;
    assert!(
        capabilities.contains(" AUTH=PLAIN") && !capabilities.contains("LOGINDISABLED") && !capabilities.contains("STARTTLS"),
        "{capabilities}"
    );
    assert!(client.line("capability").await.starts_with("a OK "));
    client.send("b login mjl@mox.example testtest1234", "").await;
    assert!(client.line("login").await.starts_with("b OK [CAPABILITY "));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passwords_wait_for_tls() {
    let server = Server::start().await;
    let mut client = server.connect_at(listener(false));
    let greeting = client.line("greeting").await;
    assert!(greeting.contains(" STARTTLS LOGINDISABLED]"), "{greeting}");
    client.send("a login mjl@mox.example testtest1234", "").await;
    assert!(client.line("login").await.starts_with("a NO [PRIVACYREQUIRED] "));
    client.send("b authenticate plain", "").await;
    assert!(client.line("authenticate").await.starts_with("b NO [PRIVACYREQUIRED] "));
    client.send("c starttls", "").await;
    assert!(client.line("starttls").await.starts_with("c OK "));
    client.stream.connect_tls(&ClientTls::opportunistic().unwrap(), "mox.example").await.unwrap();
    log_in(&mut client).await;
    client.send("d starttls", "").await;
    assert!(client.line("starttls").await.starts_with("d NO "));
    drop(client);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sent_behind_starttls_is_no_command() {
    let server = Server::start().await;
    let mut client = server.connect_at(listener(false));
    client.line("greeting").await;
    client.send("a starttls\r\nb noop", "").await;
    assert!(client.line("starttls").await.starts_with("a OK "));
    // What came in the clear isn't TLS: the handshake fails, and nothing was answered.
    assert!(client.stream.connect_tls(&ClientTls::opportunistic().unwrap(), "mox.example").await.is_err());
    drop(client);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_from_the_beginning() {
    let server = Server::start().await;
    let mut client = server.connect_at(listener(true));
    client.stream.connect_tls(&ClientTls::opportunistic().unwrap(), "mox.example").await.unwrap();
    client.line("greeting").await;
    log_in(&mut client).await;
    drop(client);
    server.stop().await;
}
