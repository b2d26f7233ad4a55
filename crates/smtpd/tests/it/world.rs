//! What a test needs: domains, accounts, a store, a queue, and clients.

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::Ed25519KeyPair;
use mox_base::RecordKind;
use mox_base::{Clock as _, Path, Random, Secret};
use mox_delivery::inbound::{ByPolicy, DecisionFuture, Inbound, InboundDecision, Incoming, Refusal, Verdict};
use mox_delivery::spool::SpoolSettings;
use mox_delivery::submit::Submitter;
use mox_logins::Logins;
use mox_mailauth::{Canonicalization, DkimSelector, SigningKey};
use mox_net::Stream;
use mox_smtp::Reply;
use mox_smtpd::{ConnectionIds, Listener, ListenerSettings, Metrics, Parts, Service, Settings, SharedSelectors};
use mox_store::credentials::{Credentials, LoginRecord};
use mox_store::directory::{
    AccountSettings, AliasSettings, Destination, DestinationKey, Directory, DomainSettings, HostTlsReports, LocalRecipient, MailboxOf,
    Settings as DirectorySettings, SharedDirectory, SmtpError,
};
use mox_store::queue::{Entry, Filter, Page, Queue, QueuedMessage, Sort};
use mox_store::{Columns, Error, Store};
use mox_testkit::{SeededRandom, VirtualClock, Zone};
use std::collections::VecDeque;
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) const PASSWORD: &str = "testtest";

/// Rejects what comes from `spam@…`.
#[derive(Debug)]
struct Decide(ByPolicy);

impl InboundDecision for Decide {
    fn decide<'a>(&'a self, incoming: &'a Incoming, rcpt_to: &'a Path, recipient: &'a LocalRecipient) -> DecisionFuture<'a> {
        if incoming.mail_from.as_ref().is_some_and(|m| m.localpart.as_str() == "spam") {
            let reply = Reply::new(451, (4, 3, 0), "error processing");
            return Box::pin(std::future::ready(Verdict::Reject(Refusal { reply, slow: true })));
        }
        self.0.decide(incoming, rcpt_to, recipient)
    }
}

pub(crate) struct World {
    pub(crate) service: Arc<Service>,
    pub(crate) logins: Logins,
    pub(crate) credentials: Credentials,
    records: TaskTracker,
    pub(crate) store: Store,
    pub(crate) queue: Queue,
    pub(crate) clock: VirtualClock,
    pub(crate) stop: CancellationToken,
    pub(crate) ids: Arc<ConnectionIds>,
    pub(crate) tasks: TaskTracker,
    _folder: TempDir,
}

fn directory(localserve: bool) -> Directory {
    let key = |a: &str| DestinationKey::Address(a.parse().unwrap());
    let plain = Destination::default;
    let refusing = |text: &str| Destination { smtp_error: SmtpError::parse(text), ..plain() };
    let alias = |localpart: &str, post_public, allow_msg_from| AliasSettings {
        localpart: localpart.parse().unwrap(),
        members: ["ann@mox.example", "cas@mox.example"].map(|m| m.parse().unwrap()).to_vec(),
        post_public,
        list_members: false,
        allow_msg_from,
    };
    Directory::new(DirectorySettings {
        hostname: "host.mox.example".parse().unwrap(),
        listener_hostnames: vec!["mx.mox.example".parse().unwrap()],
        postmaster: MailboxOf { account: "ann".to_owned(), mailbox: "Postmaster".to_owned() },
        host_tls_reports: Some(HostTlsReports {
            localpart: "tlsreports".parse().unwrap(),
            to: MailboxOf { account: "ann".to_owned(), mailbox: "TLS".to_owned() },
        }),
        domains: vec![
            DomainSettings {
                separators: vec!["+".to_owned()],
                aliases: vec![alias("public", true, false), alias("members", false, true)],
                ..DomainSettings::new("mox.example".parse().unwrap())
            },
            DomainSettings::new("catch.example".parse().unwrap()),
            DomainSettings::new("plain.example".parse().unwrap()),
            DomainSettings::new("localhost".parse().unwrap()),
            DomainSettings { disabled: true, ..DomainSettings::new("off.example".parse().unwrap()) },
        ],
        accounts: vec![
            (
                AccountSettings {
                    from_id_login_addresses: vec!["fromid@mox.example".parse().unwrap()],
                    max_outgoing_messages_per_day: 5,
                    max_first_time_recipients_per_day: 3,
                    queue_max_messages: 9,
                    ..AccountSettings::new("ann")
                },
                vec![
                    (key("ann@mox.example"), plain()),
                    (key("ann@localhost"), plain()),
                    (key("fromid@mox.example"), plain()),
                    (key("gone@mox.example"), refusing("550 moved away")),
                    (key("later@mox.example"), refusing("421")),
                    (key("ann@off.example"), plain()),
                    (key("ann@plain.example"), plain()),
                    (
                        key("proven@mox.example"),
                        Destination { message_auth_required: Some("only from those who prove who they are".to_owned()), ..plain() },
                    ),
                ],
            ),
            (
                AccountSettings::new("cas"),
                vec![(key("cas@mox.example"), plain()), (DestinationKey::CatchAll("catch.example".parse().unwrap()), plain())],
            ),
            (
                AccountSettings { login_disabled: Some("account is closed".to_owned()), ..AccountSettings::new("shut") },
                vec![(key("shut@mox.example"), plain())],
            ),
            (
                AccountSettings { no_first_time_sender_delay: true, ..AccountSettings::new("patient") },
                vec![(key("patient@mox.example"), plain())],
            ),
            (
                AccountSettings { quota: Some(mox_base::ByteSize(10)), ..AccountSettings::new("full") },
                vec![(key("full@mox.example"), plain())],
            ),
        ],
        everything: localserve.then(|| "ann@mox.example".parse().unwrap()),
    })
    .unwrap()
}

/// The key with which other servers sign.
pub(crate) fn sending_key() -> SigningKey {
    static KEY: LazyLock<SigningKey> = LazyLock::new(|| {
        let key = Ed25519KeyPair::generate().unwrap().to_pkcs8().unwrap();
        SigningKey::from_pkcs8(key.as_ref()).unwrap()
    });
    KEY.clone()
}

/// Our own key, in localserve.
fn selectors() -> SharedSelectors {
    let selector = DkimSelector {
        name: "sel".parse().unwrap(),
        key: sending_key(),
        header: Canonicalization::Relaxed,
        body: Canonicalization::Relaxed,
        headers: vec!["From".to_owned()],
        seal_headers: false,
        expiration: None,
    };
    SharedSelectors::new([("localhost".parse().unwrap(), Arc::from([selector]))].into())
}

/// The key with which our own domain signs and seals, of a kind that everybody knows.
pub(crate) fn list_key() -> SigningKey {
    static KEY: LazyLock<SigningKey> = LazyLock::new(|| {
        let key = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let der: Pkcs8V1Der<'_> = key.as_der().unwrap();
        SigningKey::from_pkcs8(der.as_ref()).unwrap()
    });
    KEY.clone()
}

fn list_selectors() -> SharedSelectors {
    let selector = DkimSelector {
        name: "list".parse().unwrap(),
        key: list_key(),
        header: Canonicalization::Relaxed,
        body: Canonicalization::Relaxed,
        headers: ["From", "To", "Subject"].map(str::to_owned).to_vec(),
        seal_headers: true,
        expiration: None,
    };
    SharedSelectors::new([("mox.example".parse().unwrap(), Arc::from([selector]))].into())
}

fn zone() -> Zone {
    Zone::new()
        .txt("list._domainkey.mox.example", &list_key().public_record().unwrap().to_text())
        .silent("silent.example")
        .mx("x.example", 10, "mx.x.example")
        .a("mx.x.example", "192.0.2.7")
        .ptr("192.0.2.7", "mx.x.example")
        .txt("x.example", "v=spf1 ip4:192.0.2.7 -all")
        .mx("strict.example", 10, "mx.x.example")
        .txt("strict.example", "v=spf1 ip4:192.0.2.7 -all")
        .txt("_dmarc.strict.example", "v=DMARC1; p=reject")
        .txt("sel._domainkey.strict.example", &sending_key().public_record().unwrap().to_text())
        .mx("careful.example", 10, "mx.x.example")
        .txt("_dmarc.careful.example", "v=DMARC1; p=quarantine")
        .txt("sel._domainkey.careful.example", &sending_key().public_record().unwrap().to_text())
        .mx("shaky.example", 10, "mx.x.example")
        .temporary("shaky.example", Some(RecordKind::Txt))
        .txt("_dmarc.shaky.example", "v=DMARC1; p=reject")
        .mx("careless.example", 10, "mx.x.example")
        .null_mx("null.example")
        .temporary("temp.example", None)
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(adjust: impl FnOnce(&mut Settings)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = VirtualClock::default();
        let random: Arc<dyn Random> = Arc::new(SeededRandom::default());
        let store = Store::open(mox_store::Settings::sqlite(folder.path()), Arc::new(clock.clone()), Arc::clone(&random)).await.unwrap();
        for name in ["ann", "cas", "shut", "full", "patient"] {
            store.ensure_account(name, &[]).await.unwrap();
        }
        let queue = store.queue().await.unwrap();
        let mut settings = Settings {
            hostname: "host.mox.example".parse().unwrap(),
            pedantic: false,
            localserve: false,
            spool: SpoolSettings { in_memory: 64 << 10, folder: folder.path().join("tmp") },
            remove_bcc: false,
            unlimited: Vec::new(),
        };
        adjust(&mut settings);
        let stop = CancellationToken::new();
        let shared = SharedDirectory::new(directory(settings.localserve));
        let credentials = Credentials::open(&store).await.unwrap();
        let records = TaskTracker::new();
        let logins = Logins::new(store.clone(), credentials.clone(), shared.clone(), mox_logins::Metrics::default(), records.clone());
        let ids = Arc::new(ConnectionIds::new(&[7; 24], clock.now()).unwrap());
        let localserve = settings.localserve;
        let service = Service::new(
            settings,
            Parts {
                clock: Arc::new(clock.clone()),
                random: Arc::clone(&random),
                lookup: Arc::new(zone()),
                directory: shared,
                logins: logins.clone(),
                inbound: Inbound::new(store.clone(), Arc::new(Decide(ByPolicy::new(store.clone())))).with_seals(list_selectors()),
                submitter: Submitter::new(queue.clone(), Arc::new(clock.clone()), random),
                selectors: if localserve { selectors() } else { SharedSelectors::default() },
                ids: Arc::clone(&ids),
                metrics: Metrics::default(),
                stop: stop.clone(),
            },
        );
        Self { service, logins, credentials, records, store, queue, clock, stop, ids, tasks: TaskTracker::new(), _folder: folder }
    }

    pub(crate) fn incoming(&self) -> Arc<Listener> {
        self.service.listener(ListenerSettings::incoming("public", "mx.mox.example".parse().unwrap()))
    }

    /// A submission listener that takes passwords in the clear.
    pub(crate) fn submission(&self) -> Arc<Listener> {
        let settings = ListenerSettings::submission("public", "mx.mox.example".parse().unwrap());
        self.service.listener(ListenerSettings { auth_without_tls: true, require_tls: false, ..settings })
    }

    pub(crate) fn connect(&self, listener: &Arc<Listener>) -> Client {
        self.connect_from(listener, "192.0.2.7:4000")
    }

    pub(crate) fn connect_from(&self, listener: &Arc<Listener>, address: &str) -> Client {
        let (client, server) = Stream::pair(address.parse().unwrap(), "198.51.100.2:25".parse().unwrap());
        self.tasks.spawn(Arc::clone(&self.service).connection(Arc::clone(listener), server));
        Client { stream: client, unread: Vec::new() }
    }

    /// Gives an account the password of all tests.
    pub(crate) async fn give_password(&self, account: &str) {
        let id = self.store.account(account).await.unwrap().id();
        self.credentials.set_password(id, &Secret::new(PASSWORD.to_owned())).await.unwrap();
    }

    /// The attempts to log in that were recorded, by mechanism; none are any more.
    pub(crate) async fn attempts(&self) -> Vec<LoginRecord> {
        self.logins.close();
        self.records.close();
        self.records.wait().await;
        let mut attempts = self.logins.attempts(None, 100).await.unwrap();
        attempts.sort_by(|a, b| a.attempt.mechanism.cmp(&b.attempt.mechanism));
        attempts
    }

    /// A client that has logged in.
    pub(crate) async fn logged_in(&self, user: &str) -> Client {
        let login = self.logins.find(user).unwrap();
        self.give_password(&login.account.name).await;
        let mut client = self.connect(&self.submission());
        client.skip("220").await;
        client.send("EHLO x.example").await;
        client.skip("250").await;
        let plain = mox_sasl::plain::message(user, PASSWORD);
        client.send(&format!("AUTH PLAIN {}", base64(&plain))).await;
        client.skip("235").await;
        client
    }

    /// The messages of a mailbox as text, in order.
    pub(crate) async fn mailbox(&self, account: &str, mailbox: &str) -> Vec<String> {
        let account = self.store.account(account).await.unwrap();
        let Some(found) = account.mailboxes().by_name(mailbox).map(|m| m.id) else { return Vec::new() };
        let uids = account.view(found).await.unwrap().uids();
        account
            .read(move |tx| {
                let mut ids = Vec::new();
                tx.fetch_rows(found, &uids, Columns::default(), |row| {
                    ids.push(row.id()?);
                    Ok::<_, Error>(true)
                })?;
                let mut texts = Vec::new();
                for id in ids {
                    let mut bytes = Vec::new();
                    tx.message_bytes(id, 0..u64::MAX, &mut bytes)?;
                    texts.push(String::from_utf8(bytes).unwrap());
                }
                Ok::<_, Error>(texts)
            })
            .await
            .unwrap()
    }

    /// What is queued: entries with their message and its whole text.
    pub(crate) async fn queued(&self) -> Vec<(Entry, QueuedMessage, String)> {
        let mut all = Vec::new();
        for listed in self.queue.list(Filter::default(), Sort::default(), Page::default()).await.unwrap() {
            let (entry, message) = self.queue.entry(listed.row.id).await.unwrap().unwrap();
            let mut body = self.queue.open_body(message.id).await.unwrap().unwrap();
            let mut text = message.prefix.clone();
            text.extend(body.read_up_to(1 << 20).await.unwrap());
            all.push((entry, message, String::from_utf8(text).unwrap()));
        }
        all.sort_by_key(|(entry, ..)| entry.id.0);
        all
    }

    /// All that was promised is kept; to be called last.
    pub(crate) async fn close(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.attempts().await;
        self.credentials.close().await;
        self.queue.close().await;
        self.store.close().await;
    }
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

pub(crate) struct Client {
    pub(crate) stream: Stream,
    unread: Vec<u8>,
}

impl Client {
    pub(crate) async fn send(&mut self, line: &str) {
        self.stream.write_all(format!("{line}\r\n").as_bytes()).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// The next line; none when the server has closed.
    pub(crate) async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.unread.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                return Some(String::from_utf8(line).unwrap().trim_end_matches("\r\n").to_owned());
            }
            let read = self.stream.read_buf(&mut self.unread);
            let n = tokio::time::timeout(Duration::from_secs(7200), read).await.expect("no reply").unwrap_or(0);
            if n == 0 {
                assert!(self.unread.is_empty(), "closed within a line");
                return None;
            }
        }
    }

    /// The last line of the next reply, which must have this code.
    pub(crate) async fn skip(&mut self, code: &str) -> String {
        loop {
            let line = self.line().await.expect("connection closed");
            assert!(line.starts_with(code), "wanted {code}, got {line}");
            if line.as_bytes().get(3) != Some(&b'-') {
                return line;
            }
        }
    }

    /// Plays a transcript. Lines that follow one another are sent together. `X:` stands for the end of the connection.
    pub(crate) async fn play(&mut self, transcript: &str) {
        let mut lines: VecDeque<&str> = transcript.lines().map(str::trim_start).filter(|l| !l.is_empty() && !l.starts_with('#')).collect();
        while let Some(line) = lines.pop_front() {
            let (kind, text) = line.split_at(2);
            let text = text.strip_prefix(' ').unwrap_or(text);
            match kind {
                "C:" => {
                    let mut together = format!("{text}\r\n");
                    while let Some(next) = lines.front().and_then(|l| l.strip_prefix("C:")) {
                        together.push_str(next.strip_prefix(' ').unwrap_or(next));
                        together.push_str("\r\n");
                        lines.pop_front();
                    }
                    self.stream.write_all(together.as_bytes()).await.unwrap();
                    self.stream.flush().await.unwrap();
                }
                "S:" => {
                    let got = self.line().await.unwrap_or_else(|| panic!("closed instead of {text}"));
                    assert_eq!(without_id(&got), text);
                }
                "X:" => assert_eq!(self.line().await, None),
                _ => panic!("unknown line {line}"),
            }
        }
    }
}

/// The line without the id of 22 characters in brackets at its end.
fn without_id(line: &str) -> &str {
    match line.rsplit_once(" (") {
        Some((before, id)) if id.len() == 23 && id.ends_with(')') => before,
        _ => line,
    }
}
