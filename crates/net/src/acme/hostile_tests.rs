//! An authority whose answers are broken in every way: no panic, nothing but certificates that are ours, no hurry, and what there is stays
//! in use.

use super::provider::{Acme, Challenges, Ports, Settings};
use super::{Files, Metrics};
use crate::http::{AddressGuard, Client};
use crate::memory::World;
use crate::tls::{ClientTls, HostKey, KeyCert, KeyKind};
use crate::{Listener, Stream};
use mox_base::{Clock, Domain, Timestamp};
use mox_testkit::{Mutator, SeededRandom, VirtualClock, Zone};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const HOST: &str = "mx.acme.test";
const TOKEN: &str = "abcDEF_-123";
const URL: &str = "http://192.0.2.7";
const DAY: Duration = Duration::from_secs(24 * 3600);
const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

/// The host's key, and certificates of it.
struct Pki {
    key: HostKey,
    /// From 80 days ago, for 90 days.
    old: String,
    /// From now on.
    new: String,
    /// What nobody may serve as this host: of another key, for another host, and expired.
    others: [String; 3],
}

static PKI: LazyLock<Pki> = LazyLock::new(|| {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = HostKey::generate(KeyKind::EcdsaP256).unwrap();
    let of = |host: &str, pair: &KeyPair, from: Timestamp| {
        let system = |t: Timestamp| std::time::UNIX_EPOCH + Duration::from_secs(u64::try_from(t.secs()).unwrap());
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.use_authority_key_identifier_extension = true;
        (params.not_before, params.not_after) = (system(from).into(), system(from.after(90 * DAY)).into());
        params.signed_by(pair, &ca).unwrap().pem() + &ca.pem()
    };
    let ours = KeyPair::from_pem(&key.pkcs8_pem()).unwrap();
    Pki {
        old: of(HOST, &ours, NOW.before(80 * DAY)),
        new: of(HOST, &ours, NOW),
        others: [of(HOST, &KeyPair::generate().unwrap(), NOW), of("other.test", &ours, NOW), of(HOST, &ours, NOW.before(100 * DAY))],
        key,
    }
});

/// What an authority says.
#[derive(Clone, Debug)]
struct Said {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

/// Which of its answers are broken, and how.
type Spoil = Arc<dyn Fn(&str, &mut Said) + Send + Sync>;

#[derive(Default)]
struct Heard {
    orders: usize,
    finalized: bool,
}

/// An authority that issues the new certificate, by RFC 8555 and RFC 9773, but for what is spoiled.
struct Authority {
    heard: Arc<Mutex<Heard>>,
    _serving: JoinSet<()>,
}

impl Authority {
    fn start(world: &World, spoil: Spoil) -> Self {
        let heard = Arc::new(Mutex::new(Heard::default()));
        let mut serving = JoinSet::new();
        serving.spawn(Self::serve(world.listen("192.0.2.7:80".parse().unwrap()), Arc::clone(&heard), spoil));
        Self { heard, _serving: serving }
    }

    fn orders(&self) -> usize {
        self.heard.lock().unwrap().orders
    }

    async fn serve(mut listener: Listener, heard: Arc<Mutex<Heard>>, spoil: Spoil) {
        let mut connections = JoinSet::new();
        while let Ok(stream) = listener.accept().await {
            connections.spawn(Self::answer(stream, Arc::clone(&heard), Arc::clone(&spoil)));
        }
    }

    async fn answer(mut stream: Stream, heard: Arc<Mutex<Heard>>, spoil: Spoil) {
        let mut request = Vec::new();
        while !is_complete(&request) {
            // Who doesn't go on has seen enough.
            if !stream.read_buf(&mut request).await.is_ok_and(|n| n > 0) {
                return;
            }
        }
        let request = String::from_utf8_lossy(&request).into_owned();
        let path = request.split(' ').nth(1).unwrap_or_default();
        let mut said = say(path, &mut heard.lock().unwrap_or_else(PoisonError::into_inner));
        spoil(path, &mut said);
        let mut answer = format!("HTTP/1.1 {} x\r\nConnection: close\r\nContent-Length: {}\r\n", said.status, said.body.len()).into_bytes();
        for (name, value) in said.headers {
            answer.extend(format!("{name}: {value}\r\n").into_bytes());
        }
        answer.extend(b"\r\n");
        answer.extend(said.body);
        let _sent = stream.write_all(&answer).await;
        stream.close().await;
    }
}

fn is_complete(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|l| l.strip_prefix("content-length: ")).map_or(0, |n| n.parse().unwrap_or(0));
    body.len() >= length
}

fn say(path: &str, heard: &mut Heard) -> Said {
    let order = |status: &str| {
        let host = format!(r#"[{{"type": "dns", "value": "{HOST}"}}]"#);
        format!(
            r#"{{"status": "{status}", "expires": "2027-02-01T00:00:00Z", "identifiers": {host}, "authorizations": ["{URL}/authz/1"],
                "finalize": "{URL}/finalize/1", "certificate": "{URL}/cert/1"}}"#
        )
    };
    let challenge =
        |kind: &str| format!(r#"{{"type": "{kind}", "url": "{URL}/chall/1", "status": "pending", "token": "{TOKEN}", "error": null}}"#);
    let (status, more, body) = match path {
        "/dir" => {
            let at = |name: &str| format!(r#""{name}": "{URL}/{name}""#);
            let urls = ["newNonce", "newAccount", "newOrder", "revokeCert", "keyChange", "renewalInfo"].map(at).join(", ");
            (200, vec![], format!(r#"{{{urls}, "meta": {{"termsOfService": "{URL}/terms", "externalAccountRequired": false}}}}"#))
        }
        "/newAccount" => (200, vec![("Location", format!("{URL}/account/1"))], r#"{"status": "valid", "orders": "x"}"#.to_owned()),
        "/newOrder" => {
            (heard.orders, heard.finalized) = (heard.orders + 1, false);
            (201, vec![("Location", format!("{URL}/order/1"))], order("pending"))
        }
        "/authz/1" => {
            let challenges = format!("[{}, {}]", challenge("tls-alpn-01"), challenge("http-01"));
            let identifier = format!(r#"{{"type": "dns", "value": "{HOST}"}}"#);
            (200, vec![], format!(r#"{{"status": "pending", "identifier": {identifier}, "challenges": {challenges}}}"#))
        }
        "/chall/1" => (200, vec![], challenge("tls-alpn-01")),
        "/order/1" => (200, vec![], order(if heard.finalized { "valid" } else { "ready" })),
        "/finalize/1" => {
            heard.finalized = true;
            (200, vec![], order("processing"))
        }
        "/cert/1" => (200, vec![], PKI.new.clone()),
        _ if path.starts_with("/renewalInfo/") => {
            let window = r#"{"start": "2026-01-01T00:00:00Z", "end": "2026-01-02T00:00:00Z"}"#;
            (200, vec![("Retry-After", "21600".to_owned())], format!(r#"{{"suggestedWindow": {window}, "explanationURL": "{URL}/why"}}"#))
        }
        _ => (200, vec![], String::new()),
    };
    let headers = [vec![("Replay-Nonce", "nonce123".to_owned())], more].concat();
    Said { status, headers, body: body.into_bytes() }
}

/// Our side, with the old certificate, which is due.
struct Setup {
    acme: Acme,
    authority: Authority,
    clock: Arc<VirtualClock>,
    metrics: Metrics,
    files: Files,
    tasks: TaskTracker,
}

impl Setup {
    /// In a folder in which the account's key is already, after the first time.
    fn new(folder: &TempDir, spoil: Spoil) -> Self {
        let world = World::new();
        let authority = Authority::start(&world, spoil);
        let clock = Arc::new(VirtualClock::at(NOW));
        let files = Files::new(folder.path(), "test");
        let certs = folder.path().join("acme/keycerts/test");
        std::fs::create_dir_all(&certs).unwrap();
        std::fs::write(certs.join(HOST), PKI.key.traditional_pem() + &PKI.old).unwrap();
        let settings = Settings {
            name: "test".into(),
            directory_url: format!("{URL}/dir"),
            contact: "postmaster@acme.test".into(),
            renew_before: None,
            external_account: None,
            user_agent: "mox/test".into(),
            files: files.clone(),
            host_keys: BTreeMap::new(),
            challenges: Challenges { tls: true, http: true },
        };
        let (metrics, tasks) = (Metrics::default(), TaskTracker::new());
        let tls = ClientTls::opportunistic().unwrap();
        let ports = Ports {
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            random: Arc::new(SeededRandom::new(1)),
            client: Client::new(Arc::new(Zone::new()), Arc::new(world), tls, AddressGuard::anywhere()),
            metrics: metrics.clone(),
            tasks: tasks.clone(),
            stop: CancellationToken::new(),
        };
        let acme = Acme::open(settings, ports);
        acme.allow(&BTreeSet::from([HOST.parse::<Domain>().unwrap()]), &[]);
        Self { acme, authority, clock, metrics, files, tasks }
    }

    /// Does what is due, again and again for some hours, and checks what came of it. Gives whether there is the new certificate.
    async fn check(&self, what: &str) -> bool {
        self.acme.work().await;
        let [state] = &self.acme.certificates()[..] else { panic!("{what}: {:?}", self.acme.certificates()) };
        let renewed = self.metrics.puts.get() == 1;
        assert_eq!((state.host.as_str(), state.spki_digest), (HOST, Some(PKI.key.spki_digest())), "{what}");
        // An attempt that panicked would be neither.
        assert_eq!((renewed, !renewed), (state.last_error.is_none(), self.metrics.request_errors.get() == 1), "{what}: {state:?}");
        let from = state.validity.unwrap().0;
        assert!(from == if renewed { NOW } else { NOW.before(80 * DAY) }, "{what}: {state:?}");
        // What is kept is what is used, and is good after a restart.
        let kept = self.files.certificate(HOST, KeyKind::EcdsaP256).unwrap().unwrap();
        let cert = KeyCert::from_pem(kept.as_bytes(), kept.as_bytes()).unwrap();
        assert_eq!((cert.validity().0, cert.names()), (from, &[HOST.to_owned()][..]), "{what}");
        let host = HOST.parse::<Domain>().unwrap();
        assert!(self.acme.http_answer(Some(&host), TOKEN).is_err() && self.acme.tls_answer(HOST).is_none(), "{what}: still answering");
        // Authorities lock out who is in a hurry: in two hours a renewal is tried a few times, and each by two orders at most.
        let before = self.authority.orders();
        assert!(before <= 4, "{what}: {before} orders at once");
        for _ in 0..24 {
            self.clock.advance(Duration::from_secs(5 * 60));
            self.acme.work().await;
        }
        let orders = self.authority.orders().saturating_sub(before);
        assert!(orders <= if renewed { 0 } else { 4 * 4 }, "{what}: {orders} orders in two hours, renewed: {renewed}");
        self.tasks.close();
        self.tasks.wait().await;
        renewed
    }
}

/// Time passes when nobody has anything to do.
fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap().block_on(future)
}

const ANSWERS: [&str; 9] =
    ["/dir", "/newNonce", "/newAccount", "/newOrder", "/authz/1", "/chall/1", "/order/1", "/finalize/1", "/renewalInfo/"];

/// One answer is spoiled: its status, its headers, or its body.
fn spoiled(seed: u64) -> (Spoil, String) {
    let mutator = Mutator::new(seed);
    let path = *mutator.one_of(&ANSWERS);
    let how = mutator.below(8);
    let spoil = move |asked: &str, said: &mut Said| {
        if !asked.starts_with(path) {
            return;
        }
        let mutator = Mutator::new(seed.wrapping_mul(31));
        let body = String::from_utf8_lossy(&said.body).into_owned();
        match how {
            0 => said.status = *mutator.one_of(&[204, 301, 400, 403, 404, 429, 500, 503]),
            1 => {
                let values = ["", "x", "-1", "0", "18446744073709551615", "99999999999999999999", "Fri, 31 Dec 9999 23:59:59 GMT", "1.5"];
                said.headers.retain(|(name, _)| *name != "Retry-After");
                said.headers.push(("Retry-After", (*mutator.one_of(&values)).to_owned()));
            }
            2 => {
                let name = *mutator.one_of(&["Replay-Nonce", "Location"]);
                said.headers.retain(|(kept, _)| *kept != name);
                let values = ["", "/", "http://192.0.2.7:99999/", "http://", "\u{e4}", "a b"];
                said.headers.push((name, (*mutator.one_of(&values)).to_owned()));
            }
            _ => said.body = mutator.json(&body),
        }
    };
    (Arc::new(spoil), format!("seed {seed}, {path} spoiled in way {how}"))
}

#[test]
fn an_authority_without_faults_issues() {
    let folder = tempfile::tempdir().unwrap();
    assert!(run(async { Setup::new(&folder, Arc::new(|_, _| {})).check("nothing").await }));
}

#[test]
fn broken_answers() {
    let folder = tempfile::tempdir().unwrap();
    let renewed = (0..150).filter(|seed| {
        let (spoil, what) = spoiled(*seed);
        run(async { Setup::new(&folder, spoil).check(&what).await })
    });
    let renewed = renewed.count();
    // Some of the faults don't matter, others do.
    assert!((30..120).contains(&renewed), "{renewed}");
}

#[test]
fn broken_chains() {
    let folder = tempfile::tempdir().unwrap();
    for seed in 0..60 {
        let spoil = move |path: &str, said: &mut Said| {
            if path == "/cert/1" {
                said.body = Mutator::new(seed).bytes(&said.body);
            }
        };
        run(async { Setup::new(&folder, Arc::new(spoil)).check(&format!("chain {seed}")).await });
    }
    for other in &PKI.others {
        let spoil = |path: &str, said: &mut Said| {
            if path == "/cert/1" {
                said.body = other.clone().into_bytes();
            }
        };
        assert!(!run(async { Setup::new(&folder, Arc::new(spoil)).check(other).await }));
    }
}

/// RFC 9773 §4.3 has a time to ask again in each answer. A number that no clock can hold mustn't end renewals.
#[test]
fn times_to_ask_again() {
    let folder = tempfile::tempdir().unwrap();
    for (value, path) in [("18446744073709551615", "/renewalInfo/"), ("18446744073709551615", "/order/1"), ("", "/renewalInfo/")] {
        let spoil = move |asked: &str, said: &mut Said| {
            if asked.starts_with(path) {
                said.headers.retain(|(name, _)| *name != "Retry-After");
                said.headers.push(("Retry-After", value.to_owned()));
            }
        };
        assert!(run(async { Setup::new(&folder, Arc::new(spoil)).check(value).await }), "{path}: {value}");
    }
}

/// One that always gives the same certificate, which is due as soon as it is there, isn't asked for it all the time.
#[test]
fn a_certificate_that_is_old_when_it_comes() {
    let folder = tempfile::tempdir().unwrap();
    let spoil = |path: &str, said: &mut Said| {
        if path == "/cert/1" {
            said.body = PKI.old.clone().into_bytes();
        }
    };
    run(async {
        let setup = Setup::new(&folder, Arc::new(spoil));
        for _ in 0..24 {
            setup.acme.work().await;
            setup.clock.advance(Duration::from_secs(5 * 60));
        }
        // The first time also as a replacement.
        assert!((2..=3).contains(&setup.authority.orders()), "{} orders in two hours", setup.authority.orders());
    });
}
