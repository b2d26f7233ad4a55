//! Handshakes, between our server's and our client's side.

use mox_base::Secret;
use mox_net::tls::{Certificates, KeyCert, MinVersion, ServerTlsOptions, TicketKeys, UnknownSni};
use mox_net::{ClientTls, HandshakeError, ServerTls, Stream};
use rcgen::{CertificateParams, KeyPair};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn key_cert(names: &[&str]) -> (KeyCert, String) {
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
    let cert = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    (KeyCert::from_pem(cert.pem().as_bytes(), key.serialize_pem().as_bytes()).unwrap(), cert.pem())
}

fn server(names: &[&[&str]], options: ServerTlsOptions) -> ServerTls {
    let certs = names.iter().map(|n| key_cert(n).0).collect();
    ServerTls::new(Arc::new(Certificates::new(certs).unwrap()), options).unwrap()
}

fn pair() -> (Stream, Stream) {
    Stream::pair("192.0.2.1:1024".parse().unwrap(), "192.0.2.2:25".parse().unwrap())
}

/// Shakes hands and gives both ends.
async fn handshake(server: &ServerTls, client: &ClientTls, name: &str) -> Result<(Stream, Stream), HandshakeError> {
    let (mut ours, mut theirs) = pair();
    let (a, b) = tokio::join!(ours.connect_tls(client, name), theirs.start_tls(server, &[]));
    b?;
    a?;
    Ok((ours, theirs))
}

#[tokio::test]
async fn agrees_and_carries_bytes() {
    let server = server(&[&["mx.example"]], ServerTlsOptions::default());
    let (mut ours, mut theirs) = handshake(&server, &ClientTls::opportunistic().unwrap(), "mx.example").await.unwrap();
    let info = theirs.tls().unwrap();
    assert_eq!((info.version, info.sni.as_str(), info.resumed), ("TLS1.3", "mx.example", false));
    assert!(info.to_string().starts_with("TLS1.3 TLS_"), "{info}");
    // The post-quantum key exchange.
    assert_eq!((info.group.as_str(), ours.tls().unwrap().group.as_str()), ("X25519MLKEM768", "X25519MLKEM768"));
    assert_eq!(ours.channel_binding().unwrap(), theirs.channel_binding().unwrap());

    ours.write_all(b"hello").await.unwrap();
    ours.flush().await.unwrap();
    theirs.readable().await.unwrap();
    let mut buf = [0; 5];
    theirs.read_exact(&mut buf).await.unwrap();
    assert_eq!(&buf, b"hello");
    let (_, got) = tokio::join!(ours.close(), async { theirs.read(&mut buf).await.unwrap() });
    assert_eq!(got, 0);
}

#[tokio::test]
async fn chooses_by_name_and_falls_back_or_refuses() {
    let names: &[&[&str]] = &[&["first.example"], &["*.wild.example", "second.example"]];
    let names_seen = |strict| async move {
        let unknown_sni = if strict { UnknownSni::Refuse } else { UnknownSni::Fallback };
        let server = server(names, ServerTlsOptions { unknown_sni, ..ServerTlsOptions::default() });
        let client = ClientTls::opportunistic().unwrap();
        let mut ok = Vec::new();
        for name in ["second.example", "a.wild.example", "a.b.wild.example", "192.0.2.1"] {
            ok.push(handshake(&server, &client, name).await.is_ok());
        }
        ok
    };
    assert_eq!(names_seen(false).await, [true, true, true, true]);
    assert_eq!(names_seen(true).await, [true, true, false, true]);
}

#[tokio::test]
async fn a_client_hears_that_its_name_is_unknown() {
    let server = server(&[&["first.example"]], ServerTlsOptions { unknown_sni: UnknownSni::Refuse, ..ServerTlsOptions::default() });
    let (mut ours, mut theirs) = pair();
    let client = ClientTls::opportunistic().unwrap();
    let (a, b) = tokio::join!(ours.connect_tls(&client, "other.example"), theirs.start_tls(&server, &[]));
    assert_eq!(a.unwrap_err().reason(), "alert-112-unrecognised-name");
    assert_eq!(b.unwrap_err().to_string(), "TLS handshake refused: unknown server name \"other.example\"");
}

#[tokio::test]
async fn verifies_against_roots() {
    let (cert, pem) = key_cert(&["mx.example"]);
    let server = ServerTls::new(Arc::new(Certificates::new(vec![cert]).unwrap()), ServerTlsOptions::default()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca.pem");
    std::fs::write(&path, pem).unwrap();
    let client = ClientTls::verified(mox_net::tls::read_roots(false, &[path]).unwrap()).unwrap();
    assert!(handshake(&server, &client, "mx.example").await.is_ok());
    assert!(handshake(&server, &client, "other.example").await.is_err());
    let stranger = self::server(&[&["mx.example"]], ServerTlsOptions::default());
    assert!(handshake(&stranger, &client, "mx.example").await.is_err());
}

#[tokio::test]
async fn resumes_unless_tickets_are_off() {
    for (tickets, want) in [(true, true), (false, false)] {
        let server = server(&[&["mx.example"]], ServerTlsOptions { tickets, ..ServerTlsOptions::default() });
        let client = ClientTls::opportunistic().unwrap();
        let (mut ours, mut theirs) = handshake(&server, &client, "mx.example").await.unwrap();
        // Tickets come with the first bytes.
        theirs.write_all(b"x").await.unwrap();
        theirs.flush().await.unwrap();
        ours.read_u8().await.unwrap();
        let (_, theirs) = handshake(&server, &client, "mx.example").await.unwrap();
        assert_eq!(theirs.tls().unwrap().resumed, want);
    }
}

/// Whether a client's session at the first server is resumed at the second.
async fn resumed(client: &ClientTls, first: &ServerTls, second: &ServerTls) -> bool {
    let (mut ours, mut theirs) = handshake(first, client, "mx.example").await.unwrap();
    theirs.write_all(b"x").await.unwrap();
    theirs.flush().await.unwrap();
    ours.read_u8().await.unwrap();
    let (_, theirs) = handshake(second, client, "mx.example").await.unwrap();
    theirs.tls().unwrap().resumed
}

#[tokio::test]
async fn sessions_outlive_a_restart_and_a_key() {
    let key = |n: u8| Secret::new([n; 32]);
    let at = |keys: &TicketKeys, service: &str| server(&[&["mx.example"]], ServerTlsOptions::default()).with_ticket_keys(keys, service);
    let keys = TicketKeys::new(&[key(1)]);
    let before = at(&keys, "public/imaps");
    let client = || ClientTls::opportunistic().unwrap();
    // As after a restart, or at another node; also with a newer key.
    assert!(resumed(&client(), &before, &at(&TicketKeys::new(&[key(1)]), "public/imaps")).await);
    assert!(resumed(&client(), &before, &at(&TicketKeys::new(&[key(2), key(1)]), "public/imaps")).await);
    // At another service, without the key, and without shared keys at all: a full handshake.
    assert!(!resumed(&client(), &before, &at(&keys, "public/submissions")).await);
    assert!(!resumed(&client(), &before, &at(&TicketKeys::new(&[key(2)]), "public/imaps")).await);
    assert!(!resumed(&client(), &before, &server(&[&["mx.example"]], ServerTlsOptions::default())).await);
    // While serving: a new key takes over, and the old one is good until it is gone.
    let client = client();
    assert!(resumed(&client, &before, &before).await);
    keys.replace(&[key(2), key(1)]);
    assert!(resumed(&client, &before, &before).await);
    // Off is off.
    let off = server(&[&["mx.example"]], ServerTlsOptions { tickets: false, ..ServerTlsOptions::default() });
    assert!(!resumed(&ClientTls::opportunistic().unwrap(), &off.clone().with_ticket_keys(&keys, "public/smtp"), &off).await);
}

#[tokio::test]
async fn commands_injected_before_the_handshake_end_it() {
    let server = server(&[&["mx.example"]], ServerTlsOptions { min_version: MinVersion::Tls13, ..ServerTlsOptions::default() });
    let (mut ours, mut theirs) = pair();
    let client = ClientTls::opportunistic().unwrap();
    let (_, refused) = tokio::join!(ours.connect_tls(&client, "mx.example"), async {
        let result = theirs.start_tls(&server, b"MAIL FROM:<evil@example.org>\r\n").await;
        drop(theirs);
        result
    });
    assert_eq!(refused.unwrap_err().reason(), "nottls");
}

#[test]
fn refuses_a_foreign_key() {
    let (a, b) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let cert = CertificateParams::new(vec!["mx.example".to_owned()]).unwrap().self_signed(&a).unwrap();
    assert!(KeyCert::from_pem(cert.pem().as_bytes(), b.serialize_pem().as_bytes()).is_err());
    assert!(KeyCert::from_pem(b"", b.serialize_pem().as_bytes()).is_err());
    assert!(KeyCert::from_pem(cert.pem().as_bytes(), b"nothing").is_err());
}
