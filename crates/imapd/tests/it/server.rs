//! A server for a test: a store in a temporary folder, one account, connections in memory.

use crate::transcript::Pace;
use mox_base::{Address, Clock, Random, Timestamp};
use mox_imapd::{Limits, Listener, NoMetrics, Preauthenticated, Service, serve};
use mox_logins::Logins;
use mox_net::{OpenLimit, RateLimit, Stream};
use mox_store::credentials::Credentials;
use mox_store::directory::{AccountSettings, Destination, DestinationKey, Directory, DomainSettings, MailboxOf, Settings, SharedDirectory};
use mox_store::{MailboxName, SpecialUse, Store};
use mox_testkit::{SeededRandom, VirtualClock};
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long a server may take for a line.
const PATIENCE: Duration = Duration::from_secs(20);

/// Of the password, once for all tests. Keys for SCRAM can't be made from it.
static PASSWORD_HASH: LazyLock<String> = LazyLock::new(|| mox_store::credentials::hash_password(b"testtest1234", &SeededRandom::new(1)));

pub(crate) struct Server {
    pub(crate) service: Arc<Service>,
    tracker: TaskTracker,
    credentials: Credentials,
    _folder: tempfile::TempDir,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::start_with(Limits { penalty: Duration::ZERO, ..Limits::default() }).await
    }

    pub(crate) async fn start_with(limits: Limits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(VirtualClock::at(Timestamp::from_secs(1_750_000_000)));
        let random: Arc<dyn Random> = Arc::new(SeededRandom::new(1));
        let store = Store::open(mox_store::Settings::sqlite(folder.path()), Arc::clone(&clock), Arc::clone(&random)).await.unwrap();
        let initial: Vec<(MailboxName, SpecialUse)> = [
            ("Archive", SpecialUse::ARCHIVE),
            ("Drafts", SpecialUse::DRAFTS),
            ("Junk", SpecialUse::JUNK),
            ("Sent", SpecialUse::SENT),
            ("Trash", SpecialUse::TRASH),
        ]
        .map(|(name, role)| (MailboxName::parse(name).unwrap(), role))
        .to_vec();
        store.ensure_account("mjl", &initial).await.unwrap();
        let credentials = Credentials::open(&store).await.unwrap();
        let id = store.account("mjl").await.unwrap().id();
        credentials.import_hash(id, &PASSWORD_HASH).await.unwrap();
        let (directory, tracker) = (SharedDirectory::new(directory()), TaskTracker::new());
        let metrics = mox_logins::Metrics::default();
        let logins = Logins::new(store.clone(), credentials.clone(), directory.clone(), metrics, tracker.clone());
        let service = Service {
            version: "0.0.0-test".into(),
            hostname: "mox.example".into(),
            store,
            directory,
            logins,
            clock,
            random,
            metrics: Arc::new(NoMetrics),
            new_connections: Arc::new(RateLimit::new_connections()),
            open_connections: Arc::new(OpenLimit::new([30, 90, 270])),
            stop: CancellationToken::new(),
            limits,
        };
        Self { service: Arc::new(service), tracker, credentials, _folder: folder }
    }

    /// A connection that is logged in, as those from the control socket are.
    pub(crate) fn logged_in(&self, pace: Pace) -> TestClient {
        self.open(pace, listener(), Some(Preauthenticated { account: "mjl".into(), address: "mjl@mox.example".into() }))
    }

    pub(crate) fn connect(&self, pace: Pace) -> TestClient {
        self.open(pace, listener(), None)
    }

    /// A connection to a listener of another kind.
    pub(crate) fn connect_at(&self, listener: Listener) -> TestClient {
        self.open(Pace::Lines, Arc::new(listener), None)
    }

    /// Serves TCP on a port of the loopback interface.
    pub(crate) fn listen(&self) -> u16 {
        let mut sockets = mox_net::Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let port = sockets.local_addr().port();
        let (service, tracker) = (Arc::clone(&self.service), self.tracker.clone());
        self.tracker.spawn(async move {
            loop {
                let stream = tokio::select! {
                    () = service.stop.cancelled() => return,
                    stream = sockets.accept() => stream.unwrap(),
                };
                tracker.spawn(serve(stream, Arc::clone(&service), listener(), None));
            }
        });
        port
    }

    fn open(&self, pace: Pace, listener: Arc<Listener>, preauthenticated: Option<Preauthenticated>) -> TestClient {
        let (client, server) = Self::pair();
        self.tracker.spawn(serve(server, Arc::clone(&self.service), listener, preauthenticated));
        TestClient { stream: client, input: Vec::new(), pace }
    }

    fn pair() -> (Stream, Stream) {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        Stream::pair(address("192.0.2.10:40000"), address("192.0.2.1:143"))
    }

    /// Bytes of the task of a connection that waits.
    pub(crate) fn size_of_connection(&self) -> usize {
        let (_client, server) = Self::pair();
        std::mem::size_of_val(&serve(server, Arc::clone(&self.service), listener(), None))
    }

    /// Waits for all connections to end, and closes the store.
    pub(crate) async fn stop(self) {
        self.service.stop.cancel();
        self.service.logins.close();
        self.tracker.close();
        tokio::time::timeout(PATIENCE, self.tracker.wait()).await.expect("connections end");
        let report = self.service.store.account("mjl").await.unwrap().check().await.unwrap();
        assert!(report.is_clean(), "{report:?}");
        self.credentials.close().await;
        self.service.store.close().await;
    }
}

fn listener() -> Arc<Listener> {
    Arc::new(Listener { name: "test".into(), tls: None, implicit_tls: false, no_require_starttls: true, no_client_certificates: false })
}

fn directory() -> Directory {
    let domain = "mox.example".parse::<mox_base::Domain>().unwrap();
    let address: Address = "mjl@mox.example".parse().unwrap();
    Directory::new(Settings {
        hostname: domain.clone(),
        listener_hostnames: Vec::new(),
        postmaster: MailboxOf { account: "mjl".into(), mailbox: "Inbox".into() },
        host_tls_reports: None,
        domains: vec![DomainSettings::new(domain)],
        accounts: vec![(AccountSettings::new("mjl"), vec![(DestinationKey::Address(address), Destination::default())])],
        everything: None,
    })
    .unwrap()
}

/// A client's end.
pub(crate) struct TestClient {
    pub(crate) stream: Stream,
    input: Vec<u8>,
    pace: Pace,
}

impl TestClient {
    pub(crate) async fn send(&mut self, line: &str, place: &str) {
        let bytes = format!("{line}\r\n").into_bytes();
        match self.pace {
            Pace::Lines => self.stream.write_all(&bytes).await.expect(place),
            Pace::Bytes => {
                for byte in bytes {
                    self.stream.write_all(&[byte]).await.expect(place);
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        // The server may have to be read from before it takes more.
        self.stream.write_all(bytes).await.expect("server reads");
    }

    /// All bytes up to and with the line that starts with this tag.
    pub(crate) async fn until(&mut self, tag: &str) -> Vec<u8> {
        let marker = format!("\r\n{tag}");
        let mut from = 0;
        loop {
            let at = if self.input.starts_with(tag.as_bytes()) {
                Some(0)
            } else {
                let found = self.input[from..].windows(marker.len()).position(|w| w == marker.as_bytes());
                found.map(|i| from + i + 2)
            };
            if let Some(at) = at
                && let Some(end) = self.input[at..].windows(2).position(|w| w == b"\r\n")
            {
                return self.input.drain(..at + end + 2).collect();
            }
            if at.is_none() {
                from = self.input.len().saturating_sub(marker.len());
            }
            let read = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.input)).await;
            assert!(matches!(read, Ok(Ok(n)) if n > 0), "no answer to {tag}");
        }
    }

    /// The next line, without its end.
    pub(crate) async fn line(&mut self, place: &str) -> String {
        let line = tokio::time::timeout(PATIENCE, self.next_line()).await;
        line.unwrap_or_else(|_| panic!("{place}\n nothing came, only {:?}", String::from_utf8_lossy(&self.input)))
            .unwrap_or_else(|| panic!("{place}\n the server closed"))
    }

    /// The next line, or none when the server closed.
    pub(crate) async fn next_line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.input.windows(2).position(|w| w == b"\r\n") {
                let line = self.input.drain(..end + 2).take(end).collect::<Vec<u8>>();
                return Some(String::from_utf8_lossy(&line).into_owned());
            }
            match self.stream.read_buf(&mut self.input).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }
}
