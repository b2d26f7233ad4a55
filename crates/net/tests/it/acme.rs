//! Certificates from a real authority: Pebble.

use mox_base::{Clock, Domain, Lookup, Random, Secret, Timestamp};
use mox_net::acme::{Acme, Challenges, ExternalAccount, Files, Metrics, NoAnswer, Ports, Settings, account_url};
use mox_net::http::{AddressGuard, Client};
use mox_net::tls::{AcmeFallback, HostKey, KeyKind, ServerTlsOptions, read_roots};
use mox_net::{ClientTls, Listener, ServerTls, Stream, TcpDial};
use mox_testkit::peers::{Pebble, PebbleOptions, free_port};
use mox_testkit::{SeededRandom, VirtualClock, Zone};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const DAY: Duration = Duration::from_secs(24 * 3600);
const HOST: &str = "mx.acme.test";

/// A provider of ours, with sockets that answer, and its Pebble.
struct Setup {
    acme: Acme,
    clock: Arc<VirtualClock>,
    metrics: Metrics,
    settings: Settings,
    ports: Ports,
    tls_port: u16,
    answering: JoinSet<()>,
    pebble: Pebble,
    folder: TempDir,
}

/// The real time, for Pebble's certificates are valid in it.
#[expect(clippy::disallowed_methods, reason = "another program runs in real time")]
fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Timestamp::from_secs(i64::try_from(since.as_secs()).unwrap())
}

impl Setup {
    async fn start(challenges: Challenges, edit: impl FnOnce(&mut PebbleOptions, &mut Settings)) -> Option<Self> {
        let (http_port, tls_port) = (free_port(), free_port());
        let folder = tempfile::tempdir().unwrap();
        let mut options = PebbleOptions::new(http_port, tls_port);
        let mut settings = Settings {
            name: "test".into(),
            directory_url: String::new(),
            contact: "postmaster@acme.test".into(),
            renew_before: None,
            external_account: None,
            user_agent: "mox/test".into(),
            files: Files::new(folder.path(), "test"),
            host_keys: BTreeMap::new(),
            challenges,
        };
        edit(&mut options, &mut settings);
        let pebble = Pebble::require(&options)?;
        settings.directory_url = pebble.directory_url();
        let clock = Arc::new(VirtualClock::at(now()));
        let random: Arc<dyn Random> = Arc::new(SeededRandom::new(1));
        let metrics = Metrics::default();
        let ports = Ports {
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            random,
            client: client(&pebble.ca_file()),
            metrics: metrics.clone(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        };
        let acme = Acme::open(settings.clone(), ports.clone());
        acme.allow(&BTreeSet::from([domain(HOST)]), &[]);
        let mut answering = JoinSet::new();
        answering.spawn(answer_http(Listener::bind(loopback(http_port)).unwrap(), acme.clone()));
        let https = ServerTls::with_acme(acme.clone(), AcmeFallback::Nothing, ServerTlsOptions::default()).unwrap();
        answering.spawn(serve(Listener::bind(loopback(tls_port)).unwrap(), https));
        Some(Self { acme, clock, metrics, settings, ports, tls_port, answering, pebble, folder })
    }

    fn sni(&self, fallback: AcmeFallback) -> ServerTls {
        ServerTls::with_acme(self.acme.clone(), fallback, ServerTlsOptions::default()).unwrap()
    }

    /// Trusts Pebble's certificates.
    fn trusting(&self) -> ClientTls {
        let root = self.folder.path().join("root.pem");
        std::fs::write(&root, self.pebble.root().unwrap()).unwrap();
        ClientTls::verified(read_roots(false, &[root]).unwrap()).unwrap()
    }

    fn count(&self, name: &str) -> u64 {
        let mut registry = prometheus_client::registry::Registry::default();
        self.metrics.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let line = text.lines().find(|l| l.starts_with(&format!("mox_autotls_{name}_total "))).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }
}

fn client(ca: &Path) -> Client {
    let lookup: Arc<dyn Lookup> = Arc::new(Zone::new());
    let tls = ClientTls::verified(read_roots(false, &[ca.to_owned()]).unwrap()).unwrap();
    Client::new(lookup, Arc::new(TcpDial::default()), tls, AddressGuard::anywhere())
}

fn domain(name: &str) -> Domain {
    name.parse().unwrap()
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// A web server that only answers the provider.
async fn answer_http(mut listener: Listener, acme: Acme) {
    loop {
        let mut stream = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") && stream.read_buf(&mut request).await.unwrap() > 0 {}
        let request = String::from_utf8(request).unwrap();
        let token = request.split(' ').nth(1).unwrap().strip_prefix("/.well-known/acme-challenge/").unwrap();
        let host = request.lines().find_map(|l| l.strip_prefix("Host: ")).unwrap().split(':').next().unwrap();
        let body = acme.http_answer(Some(&domain(host)), token).unwrap_or_default();
        let answer = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(answer.as_bytes()).await.unwrap();
        stream.close().await;
    }
}

/// A server that only shakes hands.
async fn serve(mut listener: Listener, tls: ServerTls) {
    let mut connections = JoinSet::new();
    loop {
        let mut stream = listener.accept().await.unwrap();
        let tls = tls.clone();
        connections.spawn(async move {
            if stream.start_tls(&tls, &[]).await.is_ok() {
                stream.close().await;
            }
        });
    }
}

/// Shakes hands and gives both ends.
async fn handshake(server: &ServerTls, client: &ClientTls, name: &str) -> Result<(Stream, Stream), String> {
    let (mut ours, mut theirs) = Stream::pair("192.0.2.1:1024".parse().unwrap(), "192.0.2.2:25".parse().unwrap());
    let (a, b) = tokio::join!(ours.connect_tls(client, name), theirs.start_tls(server, &[]));
    b.map_err(|e| e.to_string())?;
    a.map_err(|e| e.to_string())?;
    Ok((ours, theirs))
}

/// A client's handshake failed, with what the client saw.
async fn alert(server: &ServerTls, client: &ClientTls, name: &str) -> String {
    let (mut ours, mut theirs) = Stream::pair("192.0.2.1:1024".parse().unwrap(), "192.0.2.2:25".parse().unwrap());
    let (a, b) = tokio::join!(ours.connect_tls(client, name), theirs.start_tls(server, &[]));
    assert!(b.is_err());
    a.unwrap_err().reason()
}

async fn validated_by(challenges: Challenges) {
    let Some(setup) = Setup::start(challenges, |_, _| {}).await else { return };
    let tls = setup.sni(AcmeFallback::Always(domain(HOST)));
    // Many at once wait for one order.
    let trusting = setup.trusting();
    let shake = || async { handshake(&tls, &trusting, HOST).await };
    let (a, b, c) = tokio::join!(shake(), shake(), shake());
    for result in [a, b, c] {
        result.unwrap();
    }
    assert_eq!((setup.count("certput"), setup.count("cert_request_errors")), (1, 0), "{}", setup.pebble.log());
    let [state] = &setup.acme.certificates()[..] else { panic!() };
    assert_eq!((state.host.as_str(), state.kind, &state.last_error), (HOST, KeyKind::EcdsaP256, &None));

    // It survives a restart, in the form that Go writes.
    let text = setup.settings.files.certificate(HOST, KeyKind::EcdsaP256).unwrap().unwrap();
    assert!(text.starts_with("-----BEGIN EC PRIVATE KEY-----\n") && text.contains("-----BEGIN CERTIFICATE-----\n"), "{text}");
    let again = Acme::open(setup.settings.clone(), setup.ports.clone());
    assert_eq!(again.certificates()[0].spki_digest, state.spki_digest);
    // The account is there, and is found by its key.
    let client = client(&setup.pebble.ca_file());
    let url = account_url(setup.settings.files.clone(), &setup.settings.directory_url, "mox/test", &client).await.unwrap().unwrap();
    assert!(url.starts_with("https://localhost:"), "{url}");
    let key = std::fs::read_to_string(setup.folder.path().join("acme/test.key")).unwrap();
    assert!(key.starts_with("-----BEGIN PRIVATE KEY-----\nNote: "), "{key}");
}

#[tokio::test]
async fn validated_over_tls() {
    validated_by(Challenges { tls: true, http: false }).await;
}

#[tokio::test]
async fn validated_over_http() {
    validated_by(Challenges { tls: false, http: true }).await;
}

#[tokio::test]
async fn validated_over_http_when_tls_fails() {
    // Nobody listens where it asks over TLS.
    let edit = |options: &mut PebbleOptions, _: &mut Settings| options.tls_port = free_port();
    let Some(setup) = Setup::start(Challenges { tls: true, http: true }, edit).await else { return };
    handshake(&setup.sni(AcmeFallback::Always(domain(HOST))), &setup.trusting(), HOST).await.unwrap();
    assert!(setup.tls_port > 0);
}

#[tokio::test]
async fn renewed_with_the_same_key_and_served_at_once() {
    let Some(setup) = Setup::start(Challenges { tls: true, http: false }, |_, _| {}).await else { return };
    let tls = setup.sni(AcmeFallback::WithoutName(domain(HOST)));
    let trusting = setup.trusting();
    let (ours, _) = handshake(&tls, &trusting, HOST).await.unwrap();
    let first = ours.server_end_point().unwrap().to_vec();
    let before = setup.acme.certificates()[0].clone();
    // Nothing is due yet.
    setup.acme.work().await;
    assert_eq!(setup.count("certput"), 1);
    let left = before.validity.unwrap().1.since(before.due.unwrap());
    assert!(left <= 30 * DAY && left > 29 * DAY, "{left:?}");

    setup.clock.set(before.due.unwrap());
    setup.acme.work().await;
    assert_eq!(setup.count("certput"), 2, "{}", setup.pebble.log());
    let after = setup.acme.certificates()[0].clone();
    assert_eq!(after.spki_digest, before.spki_digest);
    let (ours, _) = handshake(&tls, &trusting, HOST).await.unwrap();
    assert_ne!(ours.server_end_point().unwrap(), first, "the old certificate is still served");
}

#[tokio::test]
async fn a_failing_authority_leaves_the_old_certificate() {
    let Some(mut setup) = Setup::start(Challenges { tls: true, http: false }, |_, _| {}).await else { return };
    let tls = setup.sni(AcmeFallback::Always(domain(HOST)));
    let any = ClientTls::opportunistic().unwrap();
    let (ours, _) = handshake(&tls, &any, HOST).await.unwrap();
    let first = ours.server_end_point().unwrap().to_vec();
    let before = setup.acme.certificates()[0].clone();
    setup.pebble.stop().unwrap();
    setup.clock.set(before.due.unwrap());
    setup.acme.work().await;
    assert_eq!(setup.count("cert_request_errors"), 1);
    let state = setup.acme.certificates()[0].clone();
    assert_eq!(state.validity, before.validity);
    let (error, due) = (state.last_error.unwrap(), state.due.unwrap().since(setup.clock.now()));
    assert!(error.starts_with("acme: ") && due >= DAY / 48 && due <= DAY / 24, "{error} {due:?}");
    // Not again at once.
    setup.acme.work().await;
    assert_eq!(setup.count("cert_request_errors"), 1);
    // Even once it has expired it is served: encryption and TLSA records don't depend on that.
    setup.clock.set(before.validity.unwrap().1.after(DAY));
    let (ours, _) = handshake(&tls, &any, HOST).await.unwrap();
    assert_eq!(ours.server_end_point().unwrap(), first);

    // The authority is back, and has forgotten our account: there is a new one, and the old key is kept.
    setup.pebble.resume().unwrap();
    setup.clock.set(before.due.unwrap());
    setup.acme.allow(&BTreeSet::from([domain(HOST)]), &[]);
    setup.acme.work().await;
    assert_eq!(setup.count("certput"), 2, "{}", setup.pebble.log());
    assert!(setup.folder.path().join("acme/test.key.old").exists());
}

#[tokio::test]
async fn failures_pause() {
    let edit = |options: &mut PebbleOptions, _: &mut Settings| options.blocked = Some("acme.test".into());
    let Some(setup) = Setup::start(Challenges { tls: true, http: false }, edit).await else { return };
    let tls = setup.sni(AcmeFallback::Always(domain(HOST)));
    let any = ClientTls::opportunistic().unwrap();
    let refused = handshake(&tls, &any, HOST).await.unwrap_err();
    assert!(refused.contains(HOST) && refused.contains("blocked by policy") || refused.contains("rejectedIdentifier"), "{refused}");
    assert_eq!(alert(&tls, &any, HOST).await, "alert-80-internal-error");
    assert_eq!(setup.count("cert_request_errors"), 1);
    setup.clock.advance(Duration::from_secs(61));
    assert!(handshake(&tls, &any, HOST).await.is_err());
    assert_eq!(setup.count("cert_request_errors"), 2);
    // Twice as long now.
    setup.clock.advance(Duration::from_secs(61));
    assert!(handshake(&tls, &any, HOST).await.is_err());
    assert_eq!(setup.count("cert_request_errors"), 2);
    // When we end, nothing new is asked for.
    setup.ports.stop.cancel();
    setup.clock.advance(DAY);
    let refused = handshake(&tls, &any, HOST).await.unwrap_err();
    assert!(refused.contains("shutting down"), "{refused}");
    assert_eq!(setup.count("cert_request_errors"), 2);
}

/// As an administrator may have put it in place of the one that Go's server makes.
#[tokio::test]
async fn an_account_key_of_rsa_is_put_away() {
    let Some(setup) = Setup::start(Challenges { tls: true, http: false }, |_, _| {}).await else { return };
    let file = setup.folder.path().join("acme/test.key");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    let key = HostKey::generate(KeyKind::Rsa2048).unwrap().pkcs8_pem();
    std::fs::write(&file, &key).unwrap();
    handshake(&setup.sni(AcmeFallback::Always(domain(HOST))), &setup.trusting(), HOST).await.unwrap();
    assert_eq!(std::fs::read_to_string(setup.folder.path().join("acme/test.key.old")).unwrap(), key);
    assert_ne!(std::fs::read_to_string(&file).unwrap(), key);
}

#[tokio::test]
async fn tied_to_an_external_account() {
    let key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(key).unwrap();
    let bind = |right: bool| {
        let mut bytes = bytes.clone();
        bytes[0] ^= u8::from(!right);
        move |options: &mut PebbleOptions, settings: &mut Settings| {
            options.external_account = Some(("kid-1".into(), key.into()));
            settings.external_account = Some(ExternalAccount { key_id: "kid-1".into(), key: Secret::new(bytes) });
        }
    };
    let Some(setup) = Setup::start(Challenges { tls: true, http: false }, bind(true)).await else { return };
    handshake(&setup.sni(AcmeFallback::Always(domain(HOST))), &setup.trusting(), HOST).await.unwrap();
    let wrong = Setup::start(Challenges { tls: true, http: false }, bind(false)).await.unwrap();
    let any = ClientTls::opportunistic().unwrap();
    assert!(handshake(&wrong.sni(AcmeFallback::Always(domain(HOST))), &any, HOST).await.is_err());
    assert!(!wrong.folder.path().join("acme/test.key").exists(), "a key without an account");
}

#[tokio::test]
async fn keys_of_the_host_are_used_for_both_kinds() {
    let keys: Vec<HostKey> = KeyKind::ALL.into_iter().map(|kind| HostKey::generate(kind).unwrap()).collect();
    let edit = |_: &mut PebbleOptions, settings: &mut Settings| drop(settings.host_keys.insert(HOST.into(), keys.clone()));
    let Some(mut setup) = Setup::start(Challenges { tls: true, http: false }, edit).await else { return };
    let listener = Listener::bind(loopback(0)).unwrap();
    let port = listener.local_addr().port();
    let mut serving = JoinSet::new();
    serving.spawn(serve(listener, setup.sni(AcmeFallback::Always(domain(HOST)))));
    let Some(openssl) = mox_testkit::peers::require_program("openssl") else { return };
    // Clients that know only one kind of signatures get it.
    for (signatures, kind) in [("ECDSA+SHA256", KeyKind::EcdsaP256), ("rsa_pss_rsae_sha256", KeyKind::Rsa2048)] {
        let mut command = std::process::Command::new(&openssl);
        command.args(["s_client", "-connect", &format!("127.0.0.1:{port}"), "-servername", HOST, "-sigalgs", signatures]);
        command.stdin(std::process::Stdio::null());
        let shown = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        let text = String::from_utf8_lossy(&shown.stdout);
        assert!(text.contains("BEGIN CERTIFICATE"), "{text}{}", String::from_utf8_lossy(&shown.stderr));
        let digests: Vec<_> = setup.acme.certificates().into_iter().filter(|s| s.kind == kind).map(|s| s.spki_digest).collect();
        let key = keys.iter().find(|key| key.kind() == kind).unwrap();
        assert_eq!(digests, [Some(key.spki_digest())]);
    }
    let rsa = setup.settings.files.certificate(HOST, KeyKind::Rsa2048).unwrap().unwrap();
    assert!(rsa.starts_with("-----BEGIN RSA PRIVATE KEY-----\n"), "{rsa}");

    // Another key in the configuration: the certificate is replaced without waiting for its end.
    setup.answering.shutdown().await;
    let new = HostKey::generate(KeyKind::EcdsaP256).unwrap();
    let settings =
        Settings { host_keys: BTreeMap::from([(HOST.to_owned(), vec![new.clone(), keys[1].clone()])]), ..setup.settings.clone() };
    let again = Acme::open(settings, setup.ports.clone());
    again.allow(&BTreeSet::from([domain(HOST)]), &[]);
    let https = ServerTls::with_acme(again.clone(), AcmeFallback::Nothing, ServerTlsOptions::default()).unwrap();
    setup.answering.spawn(serve(Listener::bind(loopback(setup.tls_port)).unwrap(), https));
    let digests = || again.certificates().iter().map(|state| state.spki_digest.unwrap()).collect::<Vec<_>>();
    assert_eq!(digests(), [keys[0].spki_digest(), keys[1].spki_digest()]);
    again.work().await;
    assert_eq!(digests(), [new.spki_digest(), keys[1].spki_digest()], "{:?}", again.certificates());
}

#[tokio::test]
async fn questions_over_http_without_an_answer() {
    let Some(setup) = Setup::start(Challenges::default(), |_, _| {}).await else { return };
    let answer = |host: Option<&str>| setup.acme.http_answer(host.map(domain).as_ref(), "token");
    assert_eq!(answer(Some(HOST)), Err(NoAnswer::Token));
    assert_eq!(answer(Some("other.test")), Err(NoAnswer::Host));
    assert_eq!(answer(None), Err(NoAnswer::Host));
    // Without a socket that could answer, nothing is ordered.
    let refused = handshake(&setup.sni(AcmeFallback::Always(domain(HOST))), &ClientTls::opportunistic().unwrap(), HOST).await.unwrap_err();
    assert!(refused.contains("no listener can answer"), "{refused}");
}

#[tokio::test]
async fn names_that_arent_ours() {
    let Some(setup) = Setup::start(Challenges { tls: true, http: false }, |_, _| {}).await else { return };
    let any = ClientTls::opportunistic().unwrap();
    let (mail, mx, https) = (
        setup.sni(AcmeFallback::WithoutName(domain(HOST))),
        setup.sni(AcmeFallback::Always(domain(HOST))),
        setup.sni(AcmeFallback::Nothing),
    );
    // A client that asks for an address sends no name.
    const NO_NAME: &str = "192.0.2.2";
    const UNRECOGNIZED: &str = "alert-112-unrecognised-name";
    for name in [HOST, NO_NAME, "other.test", "nodot"] {
        handshake(&mx, &any, name).await.unwrap();
    }
    handshake(&mail, &any, HOST).await.unwrap();
    handshake(&mail, &any, NO_NAME).await.unwrap();
    handshake(&https, &any, HOST).await.unwrap();
    for (tls, name) in [(&mail, "other.test"), (&mail, "nodot"), (&https, "other.test"), (&https, NO_NAME)] {
        assert_eq!(alert(tls, &any, name).await, UNRECOGNIZED, "{name}");
    }
    assert_eq!((setup.count("missing_servername"), setup.count("unknown_servername")), (1, 3));
    // One certificate was enough for all.
    assert_eq!(setup.count("certput"), 1);
}

/// An authority that knows when certificates should be renewed, RFC 9773, and issues none. Gives what was ordered.
struct Suggesting {
    url: String,
    ordered: tokio::sync::mpsc::Receiver<serde_json::Value>,
    _serving: JoinSet<()>,
}

impl Suggesting {
    fn start(window: (Timestamp, Timestamp)) -> Self {
        let listener = Listener::bind(loopback(0)).unwrap();
        let url = format!("http://{}", listener.local_addr());
        let (orders, ordered) = tokio::sync::mpsc::channel(10);
        let mut serving = JoinSet::new();
        serving.spawn(Self::serve(listener, url.clone(), window, orders));
        Self { url, ordered, _serving: serving }
    }

    async fn serve(
        mut listener: Listener,
        url: String,
        window: (Timestamp, Timestamp),
        orders: tokio::sync::mpsc::Sender<serde_json::Value>,
    ) {
        loop {
            let mut stream = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !is_complete(&request) && stream.read_buf(&mut request).await.unwrap() > 0 {}
            let request = String::from_utf8(request).unwrap();
            let (head, body) = request.split_once("\r\n\r\n").unwrap();
            assert!(head.contains("user-agent: mox/test"), "{head}");
            let path = head.split(' ').nth(1).unwrap();
            let (status, more, answer) = match path {
                "/dir" => {
                    let at = |name: &str| format!("\"{name}\": \"{url}/{name}\"");
                    (200, String::new(), format!("{{{}}}", ["newNonce", "newAccount", "newOrder", "renewalInfo"].map(at).join(", ")))
                }
                "/newNonce" => (200, String::new(), String::new()),
                "/newAccount" => (201, format!("Location: {url}/account/1\r\n"), "{\"status\": \"valid\"}".into()),
                "/newOrder" => {
                    orders.send(payload(body)).await.unwrap();
                    (403, String::new(), "{\"type\": \"urn:ietf:params:acme:error:unauthorized\", \"detail\": \"not today\"}".into())
                }
                _ => {
                    assert!(path.starts_with("/renewalInfo/") && path.contains('.'), "{path}");
                    let window = format!("{{\"start\": \"{}\", \"end\": \"{}\"}}", window.0.rfc3339(), window.1.rfc3339());
                    (200, "Retry-After: 21600\r\n".into(), format!("{{\"suggestedWindow\": {window}}}"))
                }
            };
            let head =
                format!("HTTP/1.1 {status} x\r\nConnection: close\r\nReplay-Nonce: abc\r\n{more}Content-Length: {}\r\n\r\n", answer.len());
            stream.write_all((head + &answer).as_bytes()).await.unwrap();
            stream.close().await;
        }
    }
}

fn is_complete(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|l| l.strip_prefix("content-length: ")).map_or(0, |n| n.parse().unwrap());
    body.len() >= length
}

/// What is signed, RFC 8555 §6.2.
fn payload(body: &str) -> serde_json::Value {
    use base64::Engine as _;
    let signed: serde_json::Value = serde_json::from_str(body).unwrap();
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(signed["payload"].as_str().unwrap()).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

#[tokio::test]
async fn the_authority_suggests_when() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(VirtualClock::at(now()));
    let window = (clock.now().after(DAY), clock.now().after(2 * DAY));
    let mut authority = Suggesting::start(window);
    // A certificate for 90 days, with what the authority knows it by.
    let issuer_key = rcgen::KeyPair::generate().unwrap();
    let mut issuer = rcgen::CertificateParams::new(Vec::new()).unwrap();
    issuer.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = HostKey::generate(KeyKind::EcdsaP256).unwrap();
    let mut params = rcgen::CertificateParams::new(vec![HOST.to_owned()]).unwrap();
    params.use_authority_key_identifier_extension = true;
    let system = |t: Timestamp| std::time::UNIX_EPOCH + Duration::from_secs(u64::try_from(t.secs()).unwrap());
    (params.not_before, params.not_after) = (system(clock.now()).into(), system(clock.now().after(90 * DAY)).into());
    let pair = rcgen::KeyPair::from_pem(&key.pkcs8_pem()).unwrap();
    let cert = params.signed_by(&pair, &rcgen::Issuer::new(issuer, issuer_key)).unwrap();
    let certs = folder.path().join("acme/keycerts/test");
    std::fs::create_dir_all(&certs).unwrap();
    std::fs::write(certs.join(HOST), key.pkcs8_pem() + &cert.pem()).unwrap();

    let settings = Settings {
        name: "test".into(),
        directory_url: format!("{}/dir", authority.url),
        contact: "postmaster@acme.test".into(),
        renew_before: None,
        external_account: None,
        user_agent: "mox/test".into(),
        files: Files::new(folder.path(), "test"),
        host_keys: BTreeMap::new(),
        challenges: Challenges { tls: true, http: false },
    };
    let ports = Ports {
        clock: Arc::clone(&clock) as Arc<dyn Clock>,
        random: Arc::new(SeededRandom::new(1)),
        client: Client::new(
            Arc::new(Zone::new()),
            Arc::new(TcpDial::default()),
            ClientTls::opportunistic().unwrap(),
            AddressGuard::anywhere(),
        ),
        metrics: Metrics::default(),
        tasks: TaskTracker::new(),
        stop: CancellationToken::new(),
    };
    let acme = Acme::open(settings, ports);
    let due = || acme.certificates()[0].due.unwrap();
    assert!(due() > clock.now().after(50 * DAY));
    acme.allow(&BTreeSet::from([domain(HOST)]), &[]);
    acme.work().await;
    let suggested = due();
    assert!(window.0 <= suggested && suggested <= window.1, "{suggested:?} {window:?}");
    // It doesn't change while the window doesn't.
    clock.advance(DAY / 2);
    acme.work().await;
    assert_eq!(due(), suggested);
    assert!(authority.ordered.try_recv().is_err(), "ordered too early");
    // The order names the certificate it is to replace; an authority that doesn't like that is asked without.
    clock.set(suggested);
    acme.work().await;
    let (first, second) = (authority.ordered.recv().await.unwrap(), authority.ordered.recv().await.unwrap());
    assert!(first["replaces"].as_str().unwrap().contains('.') && second.get("replaces").is_none(), "{first} {second}");
    let state = acme.certificates()[0].clone();
    assert!(state.last_error.unwrap().contains("not today") && state.spki_digest == Some(key.spki_digest()));
}
