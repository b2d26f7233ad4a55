//! From a message in an account to the webhook that tells of it, not lost in between.
//!
//! Accounts and the queue are databases of their own. Filing a message writes an [`ArrivalNote`] in its transaction; here the notes of an
//! account are taken in order, each is told of in one transaction of the queue, which also remembers that it was, and then
//! the notes go. After a crash they are found again at the start, and nothing is told twice.

use super::complaint::Scope;
use super::incoming::{Read, incoming};
use super::returned::{Returned, find, returned};
use crate::inbound::Incoming;
use crate::reports::DeadAddresses;
use mox_base::{Clock, Domain, MessageId, Path};
use mox_store::directory::{Directory, LocalRecipient, SharedDirectory};
use mox_store::queue::{Queue, parse_path};
use mox_store::webhook::{NewWebhook, insert};
use mox_store::{Delivery, Error, Store};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;

/// Accounts that wait for their turn; when there are more, all accounts are looked at.
const WAITING: usize = 1024;

/// How long until all accounts are looked at again after something failed.
const PAUSE: Duration = Duration::from_secs(60);

/// What is known of a message only while it is delivered, kept with it until it was told of.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ArrivalNote {
    pub(super) rcpt_to: String,
    pub(super) mail_from: String,
    pub(super) mail_from_validated: bool,
    pub(super) msg_from_validated: bool,
    pub(super) dkim_domains: Vec<String>,
    pub(super) remote_ip: String,
    /// RFC 3339.
    pub(super) received: String,
    pub(super) mailbox: String,
}

impl ArrivalNote {
    /// The note about a message, as text; none if nobody would be told of it.
    #[must_use]
    pub(crate) fn of(incoming: &Incoming, rcpt_to: &Path, recipient: &LocalRecipient, facts: &Delivery, mailbox: &str) -> Option<String> {
        let report = || incoming.structure.as_ref().is_some_and(|structure| structure.root().is("multipart", "report"));
        if recipient.account.incoming_webhook.is_none() && from_id(&incoming.directory, rcpt_to).is_none() && !report() {
            return None;
        }
        let note = Self {
            rcpt_to: rcpt_to.to_string(),
            mail_from: incoming.mail_from.as_ref().map(Path::to_string).unwrap_or_default(),
            // 4 is pass; 1 to 3 are the ways in which the author's domain can be verified.
            mail_from_validated: facts.mail_from_validation == Some(4),
            msg_from_validated: facts.msg_from_validation.is_some_and(|how| (1..=3).contains(&how)),
            dkim_domains: facts.dkim_domains.clone(),
            remote_ip: incoming.remote_ip.to_string(),
            received: incoming.received.rfc3339(),
            mailbox: mailbox.to_owned(),
        };
        serde_json::to_string(&note).ok()
    }
}

/// What may identify an earlier message in the address that this one came to: what is behind the domain's first separator.
pub(super) fn from_id<'p>(directory: &Directory, rcpt_to: &'p Path) -> Option<&'p str> {
    if let Some(id) = directory.postmaster_id(rcpt_to) {
        return Some(id);
    }
    let separator = directory.domain(rcpt_to.host.domain()?)?.separators.first()?;
    rcpt_to.localpart.as_str().split_once(separator.as_str()).map(|(_, id)| id).filter(|id| !id.is_empty())
}

/// What [`Arrivals`] needs.
#[derive(Clone, Debug)]
pub struct ArrivalsParts {
    /// The accounts.
    pub store: Store,
    /// The queue and its webhooks.
    pub queue: Queue,
    /// How accounts are configured.
    pub directory: SharedDirectory,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Where it is remembered which addresses take no reports.
    pub dead_addresses: Option<DeadAddresses>,
}

/// Tells of messages that arrived. Clones share it.
#[derive(Clone)]
pub struct Arrivals {
    inner: Arc<Inner>,
}

struct Inner {
    parts: ArrivalsParts,
    accounts: mpsc::Sender<String>,
    waiting: Mutex<mpsc::Receiver<String>>,
    all: AtomicBool,
}

impl fmt::Debug for Arrivals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arrivals").finish_non_exhaustive()
    }
}

impl Arrivals {
    /// For a store and its queue.
    #[must_use]
    pub fn new(parts: ArrivalsParts) -> Self {
        let (accounts, waiting) = mpsc::channel(WAITING);
        // What an earlier run left behind.
        let all = AtomicBool::new(true);
        Self { inner: Arc::new(Inner { parts, accounts, waiting: Mutex::new(waiting), all }) }
    }

    /// Has the notes of an account taken.
    pub fn wake(&self, account: &str) {
        if self.inner.accounts.try_send(account.to_owned()).is_err() {
            self.inner.all.store(true, Ordering::Release);
        }
    }

    /// Runs until `shutdown`.
    pub async fn run(&self, shutdown: CancellationToken) {
        let mut waiting = self.inner.waiting.lock().await;
        loop {
            if self.inner.all.swap(false, Ordering::AcqRel) {
                self.tell_all(&shutdown).await;
            }
            let pause = tokio::time::sleep(PAUSE);
            tokio::select! {
                () = shutdown.cancelled() => return,
                account = waiting.recv() => match account {
                    Some(account) => self.tell_or_log(&account).await,
                    None => return,
                },
                () = pause, if self.inner.all.load(Ordering::Acquire) => {}
            }
        }
    }

    async fn tell_all(&self, shutdown: &CancellationToken) {
        let directory = self.inner.parts.directory.current();
        for account in directory.accounts() {
            if shutdown.is_cancelled() {
                return;
            }
            self.tell_or_log(&account.name).await;
        }
    }

    async fn tell_or_log(&self, account: &str) {
        if let Err(error) = self.tell(account).await {
            tracing::error!(account, %error, "telling of messages that arrived");
            self.inner.all.store(true, Ordering::Release);
        }
    }

    /// Tells of all messages of an account that nobody was told of yet.
    ///
    /// # Errors
    /// Database or file system failed: the rest stays for later.
    pub async fn tell(&self, name: &str) -> Result<(), Error> {
        let account = match self.inner.parts.store.account(name).await {
            Err(Error::NoAccount) => return Ok(()),
            account => account?,
        };
        loop {
            let notes = account.arrivals().await?;
            let Some((last, _)) = notes.last().map(|(id, note)| (*id, note)) else { return Ok(()) };
            for (id, note) in notes {
                self.tell_one(&account, id, &note).await?;
            }
            account.forget_arrivals(last).await?;
        }
    }

    async fn tell_one(&self, account: &mox_store::Account, id: MessageId, note: &str) -> Result<(), Error> {
        let Ok(note) = serde_json::from_str::<ArrivalNote>(note) else {
            tracing::error!(account = account.name(), message = id.0, "note about a message that arrived is unreadable");
            return Ok(());
        };
        let read = match Read::of(account, id).await {
            Ok(read) => read,
            // Removed since, or damaged: nothing can be told, and others mustn't wait.
            Err(error @ (Error::NoMessage | Error::Blob(..))) => {
                tracing::error!(account = account.name(), message = id.0, %error, "message that arrived can't be told of");
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let directory = self.inner.parts.directory.current();
        let Some(settings) = directory.account(account.name()).cloned() else { return Ok(()) };
        let now = self.inner.parts.clock.now();
        let rcpt_to = parse_path(&note.rcpt_to);
        let from_id = rcpt_to.as_ref().and_then(|path| from_id(&directory, path)).map(str::to_owned);
        let dsn = read.status.clone();
        let null_sender = note.mail_from.is_empty();
        let complaint = read.complaint.clone();
        let vouching: Vec<Domain> = note.dkim_domains.iter().filter_map(|domain| domain.parse().ok()).collect();
        let regular: Option<NewWebhook> = incoming(&settings, id, &note, read, now);
        let webhooks = self.inner.parts.queue.webhooks();
        let told = webhooks.tell(account.id(), id, move |tx| {
            if let Some(complaint) = &complaint {
                let scope = Scope { account: &settings.name, vouching: &vouching, directory: &directory };
                if let Some(entry) = complaint.find(tx, &scope)? {
                    tracing::info!(account = entry.account, entry = entry.id.0, kind = complaint.report.kind, "recipient complained");
                    complaint.heed(tx, &directory, &entry, now)?;
                    return Ok(Vec::new());
                }
            }
            let about = find(tx, &settings.name, from_id.as_deref(), dsn.as_ref().filter(|_| null_sender))?;
            if about.is_empty() {
                if let Some(webhook) = &regular {
                    insert(tx, webhook)?;
                }
                return Ok(Vec::new());
            }
            about.iter().map(|entry| returned(tx, &settings, &Returned { entry, dsn: dsn.as_ref(), now })).collect()
        });
        let about = told.await?.unwrap_or_default();
        if !about.is_empty() {
            tracing::info!(account = account.name(), message = id.0, about = about.len(), "message is about earlier ones");
        }
        // In a database of its own: a crash in between costs one more report that bounces.
        for (failed, dead) in about.into_iter().flatten().filter_map(|failed| Some((failed, self.inner.parts.dead_addresses.as_ref()?))) {
            dead.note(failed.report, &failed.recipient, failed.refused, &failed.error).await;
        }
        Ok(())
    }
}
