//! A provider: what it is set up with, and what it has.

use super::account::{self, ExternalAccount, blocking};
use super::answers::{Answers, NoAnswer};
use super::entry::{Entry, Held, Wanted};
use super::files::Files;
use super::metrics::Metrics;
use super::order::{self, Ordering};
use crate::http::Client;
use crate::tls::{HostKey, HostKeyError, KeyKind};
use instant_acme::{Account, CertificateIdentifier};
use mox_base::{Clock, Domain, Random, Timestamp};
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long an order may take.
const ORDER_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// In which ways the provider can ask us.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Challenges {
    /// tls-alpn-01: one of our sockets does TLS where the provider connects.
    pub tls: bool,
    /// http-01: one of them does HTTP.
    pub http: bool,
}

/// A provider of the configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its name there.
    pub name: String,
    /// The URL of its directory, RFC 8555 §7.1.1.
    pub directory_url: String,
    /// An email address for the account.
    pub contact: String,
    /// How long before its end a certificate is renewed, if configured.
    pub renew_before: Option<Duration>,
    /// Ties our account to another one.
    pub external_account: Option<ExternalAccount>,
    /// What we call ourselves: `mox/<version>`.
    pub user_agent: String,
    /// Where account and certificates are.
    pub files: Files,
    /// Keys for hosts, by A-labels; others get a new one.
    pub host_keys: BTreeMap<String, Vec<HostKey>>,
    /// How we can answer.
    pub challenges: Challenges,
}

impl Settings {
    /// Only to find an account.
    pub(super) fn for_lookup(files: Files, directory_url: &str, user_agent: &str) -> Self {
        Self {
            name: String::new(),
            directory_url: directory_url.to_owned(),
            contact: String::new(),
            renew_before: None,
            external_account: None,
            user_agent: user_agent.to_owned(),
            files,
            host_keys: BTreeMap::new(),
            challenges: Challenges::default(),
        }
    }
}

/// The world of a provider.
#[derive(Clone, Debug)]
pub struct Ports {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// For moments by chance.
    pub random: Arc<dyn Random>,
    /// Asks the provider.
    pub client: Client,
    /// Counts.
    pub metrics: Metrics,
    /// Orders go on when nobody waits for them.
    pub tasks: TaskTracker,
    /// No more orders.
    pub stop: CancellationToken,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum AcmeError {
    /// We are ending.
    #[error("shutting down, no new certificates")]
    Stopping,
    /// It failed, and is not tried again yet.
    #[error("failed recently, waiting before the next attempt: {0}")]
    Recently(Arc<str>),
    /// It took too long.
    #[error("timeout")]
    Timeout,
    /// The provider says no, or can't be reached.
    #[error("acme: {0}")]
    Provider(#[from] instant_acme::Error),
    /// The account's key can't be used.
    #[error("key of the acme account: {0}")]
    AccountKey(String),
    /// The provider asked, and didn't find our answer.
    #[error("acme: validation by {way} failed: {reason}")]
    Validation {
        /// How it asked.
        way: &'static str,
        /// What it says.
        reason: String,
    },
    /// The provider doesn't ask in this way.
    #[error("acme: the provider doesn't offer validation by {0}")]
    NotOffered(&'static str),
    /// We have no sockets that could answer.
    #[error("acme: no listener can answer the provider: it needs TLS on the provider's port, or a service over plain HTTP")]
    NoChallenge,
    /// Keys.
    #[error(transparent)]
    Key(#[from] HostKeyError),
    /// What we got isn't what we need.
    #[error("certificate: {0}")]
    Certificate(String),
    /// Files.
    #[error("files of acme: {0}")]
    Io(#[from] std::io::Error),
}

/// A certificate and its prospects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateState {
    /// The host, in A-labels.
    pub host: String,
    /// The kind of its key.
    pub kind: KeyKind,
    /// From when to when it is valid; none while there is none.
    pub validity: Option<(Timestamp, Timestamp)>,
    /// Digest of its key, as in TLSA records `3 1 1`.
    pub spki_digest: Option<[u8; 32]>,
    /// When it will be renewed.
    pub due: Option<Timestamp>,
    /// Why the last attempt failed, if it did.
    pub last_error: Option<Arc<str>>,
}

/// A provider. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Acme {
    pub(super) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) settings: Settings,
    pub(super) ports: Ports,
    allowed: RwLock<Arc<BTreeSet<String>>>,
    /// Those to have from the start on.
    pub(super) ensured: Mutex<Vec<String>>,
    entries: Mutex<BTreeMap<Wanted, Entry>>,
    answers: Arc<Answers>,
    account: tokio::sync::Mutex<Option<AccountHandle>>,
    pub(super) news: Notify,
}

/// An account, without a way to show it.
#[derive(Clone)]
struct AccountHandle(Account);

impl std::fmt::Debug for AccountHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.id())
    }
}

impl Acme {
    /// A provider with the certificates of its files. Blocks on them; what can't be read is logged.
    pub fn open(settings: Settings, ports: Ports) -> Self {
        let mut entries = BTreeMap::new();
        let found = settings.files.certificates().unwrap_or_else(|error| {
            tracing::error!(target: "autotls", %error, provider = settings.name, "reading certificates of acme");
            Vec::new()
        });
        for (host, kind, text) in found {
            let held = HostKey::from_pem(&text)
                .map_err(AcmeError::from)
                .and_then(|key| Held::new(&host, key, &text, settings.renew_before, ports.random.as_ref()));
            match held {
                Ok(held) if held.key.kind() == kind => {
                    entries.insert((host, kind), Entry { held: Some(held), ..Entry::default() });
                }
                Ok(_) => tracing::error!(target: "autotls", servername = host, "stored certificate is of another kind than its file"),
                Err(error) => tracing::error!(target: "autotls", %error, servername = host, "stored certificate is of no use"),
            }
        }
        let inner = Inner {
            settings,
            ports,
            allowed: RwLock::default(),
            ensured: Mutex::default(),
            entries: Mutex::new(entries),
            answers: Arc::default(),
            account: tokio::sync::Mutex::new(None),
            news: Notify::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Sets the hosts that may have certificates, and which of them get theirs without being asked for. Failures before are
    /// forgiven. Gives those that weren't allowed before.
    pub fn allow(&self, hosts: &BTreeSet<Domain>, ensured: &[Domain]) -> Vec<Domain> {
        let names: BTreeSet<String> = hosts.iter().map(|host| host.ascii().to_owned()).collect();
        let names = Arc::new(names);
        let before = std::mem::replace(&mut *self.inner.allowed.write().unwrap_or_else(PoisonError::into_inner), names);
        *self.inner.ensured.lock().unwrap_or_else(PoisonError::into_inner) = ensured.iter().map(|host| host.ascii().to_owned()).collect();
        for entry in self.entries().values_mut() {
            entry.retry_at = None;
            entry.failures = 0;
        }
        self.inner.news.notify_one();
        hosts.iter().filter(|host| !before.contains(host.ascii())).cloned().collect()
    }

    /// Whether a host may have a certificate.
    pub fn allows(&self, host: &str) -> bool {
        self.inner.allowed.read().unwrap_or_else(PoisonError::into_inner).contains(host)
    }

    /// What is counted.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.inner.ports.metrics
    }

    /// The answer to the provider's question over HTTP, RFC 8555 §8.3.
    ///
    /// # Errors
    /// When there is none.
    pub fn http_answer(&self, host: Option<&Domain>, token: &str) -> Result<String, NoAnswer> {
        if !host.is_some_and(|host| self.allows(host.ascii())) {
            return Err(NoAnswer::Host);
        }
        self.inner.answers.http(token).ok_or(NoAnswer::Token)
    }

    /// The certificate that answers the provider's question over TLS.
    pub(crate) fn tls_answer(&self, host: &str) -> Option<Arc<CertifiedKey>> {
        self.inner.answers.tls(host)
    }

    /// All certificates there are or should be.
    pub fn certificates(&self) -> Vec<CertificateState> {
        let configured = self.inner.settings.renew_before.is_some();
        let state = |((host, kind), entry): (&Wanted, &Entry)| CertificateState {
            host: host.clone(),
            kind: *kind,
            validity: entry.held.as_ref().map(|held| held.cert.validity()),
            spki_digest: entry.held.as_ref().map(|held| held.key.spki_digest()),
            due: entry.due(configured),
            last_error: entry.last_error.clone(),
        };
        self.entries().iter().map(state).collect()
    }

    /// The certificate of a host, which has to be allowed: the one there is, or a new one.
    ///
    /// # Errors
    /// When there is none, not even an expired one.
    pub(crate) async fn certificate(&self, host: &str, kind: KeyKind) -> Result<Arc<CertifiedKey>, AcmeError> {
        let wanted = (host.to_owned(), kind);
        let ordering = {
            let now = self.now();
            let mut entries = self.entries();
            let entry = entries.entry(wanted.clone()).or_default();
            if let Some(held) = entry.valid(now) {
                return Ok(held.cert.certified());
            }
            self.order(entry, &wanted, now)
        };
        if let Ok(mut ordering) = ordering {
            // True, or without its sender: it has ended.
            drop(ordering.wait_for(|ended| *ended).await);
        }
        let entries = self.entries();
        let entry = entries.get(&wanted);
        // An expired one is better than none: mail servers that only want encryption, or a key that DNS vouches for, take it.
        match entry.and_then(|entry| entry.held.as_ref()) {
            Some(held) => Ok(held.cert.certified()),
            None if self.inner.ports.stop.is_cancelled() => Err(AcmeError::Stopping),
            None => Err(AcmeError::Recently(entry.and_then(|entry| entry.last_error.clone()).unwrap_or_else(|| "unknown".into()))),
        }
    }

    /// Orders a certificate, unless that is going on already.
    ///
    /// # Errors
    /// When it is too early after a failure, or too late.
    pub(super) fn order(&self, entry: &mut Entry, wanted: &Wanted, now: Timestamp) -> Result<watch::Receiver<bool>, AcmeError> {
        if let Some(ordering) = entry.ordering() {
            return Ok(ordering);
        }
        if self.inner.ports.stop.is_cancelled() {
            return Err(AcmeError::Stopping);
        }
        if entry.is_pausing(now) {
            return Err(AcmeError::Recently(entry.last_error.clone().unwrap_or_else(|| "unknown".into())));
        }
        let (ended, ordering) = watch::channel(false);
        entry.ordering = Some(ordering.clone());
        let (acme, wanted) = (self.clone(), wanted.clone());
        self.inner.ports.tasks.spawn(async move {
            acme.fulfil(&wanted).await;
            ended.send_replace(true);
        });
        Ok(ordering)
    }

    /// Gets a certificate and takes it into use, or notes why not.
    async fn fulfil(&self, wanted: &Wanted) {
        let (host, kind) = wanted;
        let obtained = tokio::select! {
            () = self.inner.ports.stop.cancelled() => Err(AcmeError::Stopping),
            obtained = tokio::time::timeout(ORDER_TIMEOUT, self.obtain(wanted)) => obtained.unwrap_or(Err(AcmeError::Timeout)),
        };
        let now = self.now();
        let mut entries = self.entries();
        let entry = entries.entry(wanted.clone()).or_default();
        match obtained {
            Ok(held) => {
                let (_, until) = held.cert.validity();
                tracing::info!(target: "autotls", servername = host, key = %kind, until = until.rfc3339(), "new certificate");
                entry.succeeded(held, now);
            }
            Err(AcmeError::Stopping) => entry.ordering = None,
            Err(error) => {
                self.inner.ports.metrics.request_errors.inc();
                // Another account, or another state of this one, next time.
                if let Ok(mut account) = self.inner.account.try_lock() {
                    *account = None;
                }
                entry.failed(&error, now, self.inner.ports.random.as_ref());
                let kept = entry.held.is_some();
                let retry = entry.retry_at.map(Timestamp::rfc3339);
                tracing::error!(target: "autotls", %error, servername = host, key = %kind, kept, retry, "requesting certificate");
            }
        }
        drop(entries);
        self.inner.news.notify_one();
    }

    async fn obtain(&self, wanted: &Wanted) -> Result<Held, AcmeError> {
        let (host, kind) = wanted;
        let settings = &self.inner.settings;
        let before = self.entries().get(wanted).and_then(|entry| entry.held.clone());
        let suggests = self.entries().get(wanted).is_some_and(|entry| entry.suggestion.is_some());
        let key = self.key(wanted, before.as_ref()).await?;
        let request = key.request_for(host)?;
        let account = self.account().await?;
        let replaces = before.as_ref().filter(|_| suggests).and_then(|held| identifier(held));
        let ordering = Ordering {
            account: &account,
            host,
            request: &request,
            replaces,
            challenges: settings.challenges,
            answers: &self.inner.answers,
        };
        let chain = order::place(&ordering).await?;
        let text = format!("{}{}", key.traditional_pem(), without_blank_lines(&chain));
        let held = Held::new(host, key, &chain, settings.renew_before, self.inner.ports.random.as_ref())?;
        if !held.is_valid(self.now()) {
            return Err(AcmeError::Certificate("it isn't valid now".into()));
        }
        let (files, name, kind) = (settings.files.clone(), host.clone(), *kind);
        match blocking(move || files.write_certificate(&name, kind, &text)).await {
            Ok(()) => drop(self.inner.ports.metrics.puts.inc()),
            // It can be used until we end.
            Err(error) => tracing::error!(target: "autotls", %error, servername = host, "storing certificate"),
        }
        Ok(held)
    }

    /// The host's own key, else the one it had, else a new one.
    async fn key(&self, wanted: &Wanted, before: Option<&Held>) -> Result<HostKey, AcmeError> {
        let (host, kind) = wanted;
        if let Some(key) = self.pinned(host, *kind) {
            return Ok(key.clone());
        }
        if let Some(held) = before {
            return Ok(held.key.clone());
        }
        let kind = *kind;
        Ok(blocking(move || HostKey::generate(kind).map_err(std::io::Error::other)).await?)
    }

    /// The configured key of a host.
    pub(super) fn pinned(&self, host: &str, kind: KeyKind) -> Option<&HostKey> {
        self.inner.settings.host_keys.get(host)?.iter().find(|key| key.kind() == kind)
    }

    /// Our account, registered at the first use.
    pub(super) async fn account(&self) -> Result<Account, AcmeError> {
        let mut account = self.inner.account.lock().await;
        if let Some(AccountHandle(account)) = account.as_ref() {
            return Ok(account.clone());
        }
        let found = account::ensure(&self.inner.settings, &self.inner.ports.client).await?;
        Ok(account.insert(AccountHandle(found)).0.clone())
    }

    pub(super) fn now(&self) -> Timestamp {
        self.inner.ports.clock.now()
    }

    pub(super) fn entries(&self) -> MutexGuard<'_, BTreeMap<Wanted, Entry>> {
        self.inner.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How the provider knows a certificate, RFC 9773 §4.1; none if it lacks what that takes.
pub(super) fn identifier(held: &Held) -> Option<CertificateIdentifier<'static>> {
    let leaf = CertificateDer::from(held.cert.chain().next()?.to_vec());
    CertificateIdentifier::try_from(&leaf).ok().map(CertificateIdentifier::into_owned)
}

/// Providers like blank lines between certificates; Go's reader of the file doesn't mind, but its writer has none.
fn without_blank_lines(pem: &str) -> String {
    pem.lines().filter(|line| !line.trim().is_empty()).map(|line| format!("{line}\n")).collect()
}
