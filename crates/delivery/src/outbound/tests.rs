//! The queue against a next hop that fails, delays and disconnects at every step, in memory and without waiting.

mod chunks;
mod dmarc_reports;
mod held;
mod peer;
mod reaching;
mod relays;
mod reports;
mod scenarios;
mod signed;
mod tls;
mod wishes;

use super::*;
use crate::signing::SharedSelectors;
use crate::spool::Spool;
use crate::submit::{Submission, SubmissionRecipient, Submitter};
use crate::tls::{TlsMetrics, TlsPorts};
use mox_base::{Address, Path, QueueId};
use mox_net::memory::World;
use mox_smtp::grammar::RcptParameters;
use mox_store::Settings as StoreSettings;
use mox_store::directory::{
    AccountSettings, Destination, DestinationKey, Directory, DomainSettings, MailboxOf, OutgoingWebhook, Settings as DirectorySettings,
    WebhookTarget,
};
use mox_store::dmarc::DmarcStore;
use mox_store::queue::{Entry, Filter, Listed, Page, Reschedule, RetiredEntry, Sort};
use mox_store::tls::TlsStore;
use mox_testkit::{SeededRandom, VirtualClock, Zone};
use peer::Peer;
use std::collections::BTreeMap;
use std::time::Duration;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

const HOUR: Duration = Duration::from_secs(3600);
const HEADER: &str = "From: <ann@a.example>\r\nSubject: hi\r\n";
const BODY: &str = "hello\r\n.dot\r\n";

struct Fixture {
    runner: Runner,
    queue: Queue,
    store: Store,
    clock: VirtualClock,
    world: World,
    submitter: Submitter,
    metrics: Metrics,
    selectors: SharedSelectors,
    directory: SharedDirectory,
    routing: SharedRouting,
    policies: Arc<TlsPolicies>,
    dmarc: DmarcStore,
    accepted: usize,
    folder: TempDir,
}

fn directory() -> Directory {
    Directory::new(directory_settings()).unwrap()
}

fn directory_settings() -> DirectorySettings {
    let keep = Duration::from_secs(3600);
    let account = |name: &str| AccountSettings { keep_retired_messages: keep, ..AccountSettings::new(name) };
    let key = |a: &str| DestinationKey::Address(a.parse().unwrap());
    DirectorySettings {
        hostname: "mail.a.example".parse().unwrap(),
        listener_hostnames: vec![],
        postmaster: MailboxOf { account: "root".to_owned(), mailbox: "Postmaster".to_owned() },
        host_tls_reports: None,
        domains: vec![
            DomainSettings::new("a.example".parse().unwrap()),
            DomainSettings { disabled: true, ..DomainSettings::new("off.example".parse().unwrap()) },
        ],
        accounts: vec![
            (hooked(account("hooked")), vec![(key("hooked@a.example"), Destination::default())]),
            (account("ann"), vec![(key("ann@a.example"), Destination::default())]),
            (account("root"), vec![]),
        ],
        everything: None,
    }
}

/// The account with a webhook for all events.
fn hooked(account: AccountSettings) -> AccountSettings {
    let target = WebhookTarget { url: "http://hooks.example/".to_owned(), authorization: None, secret: None };
    AccountSettings { outgoing_webhook: Some(OutgoingWebhook { target, events: Vec::new() }), ..account }
}

/// One MX for `b.example` and `c.example`, two for `two.example`, null MX for `null.example`.
fn zone() -> Zone {
    Zone::new()
        .mx("b.example", 10, "mx.b.example")
        .a("mx.b.example", "192.0.2.1")
        .mx("c.example", 10, "mx.b.example")
        .mx("two.example", 10, "mx.b.example")
        .mx("two.example", 20, "mx2.b.example")
        .a("mx2.b.example", "192.0.2.2")
        .null_mx("null.example")
        .mx("dual.example", 10, "dual.b.example")
        .a("dual.b.example", "192.0.2.1")
        .aaaa("dual.b.example", "2001:db8::1")
        .temporary("temp.example", None)
}

impl Fixture {
    async fn new() -> Self {
        Self::with(zone(), |_| {}, Routing::default()).await
    }

    async fn with(zone: impl Lookup + 'static, adjust: impl FnOnce(&mut super::Settings), routing: Routing) -> Self {
        Self::with_policies(zone, adjust, routing, tls::Served::default(), ClientTls::opportunistic().unwrap()).await
    }

    /// With MTA-STS policies and roots.
    async fn with_policies(
        zone: impl Lookup + 'static,
        adjust: impl FnOnce(&mut super::Settings),
        routing: Routing,
        served: tls::Served,
        verified_tls: ClientTls,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = VirtualClock::default();
        let random: Arc<dyn Random> = Arc::new(SeededRandom::default());
        let store = Store::open(StoreSettings::sqlite(folder.path()), Arc::new(clock.clone()), Arc::clone(&random)).await.unwrap();
        for name in ["ann", "hooked", "root"] {
            store.ensure_account(name, &[]).await.unwrap();
        }
        let queue = store.queue().await.unwrap();
        let world = World::new();
        let lookup: Arc<dyn Lookup> = Arc::new(zone);
        let tls_ports =
            TlsPorts { clock: Arc::new(clock.clone()), random: Arc::clone(&random), lookup: Arc::clone(&lookup), source: Arc::new(served) };
        let tls_store = TlsStore::open(&store).await.unwrap();
        let dmarc = DmarcStore::open(&store).await.unwrap();
        let policies = Arc::new(TlsPolicies::new(tls_store, tls_ports, true, TlsMetrics::default()));
        let selectors = reports::selectors();
        let ports = Ports {
            clock: Arc::new(clock.clone()),
            random: Arc::clone(&random),
            lookup,
            dial: Arc::new(world.clone()),
            opportunistic_tls: ClientTls::opportunistic().unwrap(),
            verified_tls,
            policies: Some(Arc::clone(&policies)),
            dead_addresses: Some(DeadAddresses::new(&dmarc, policies.store(), Arc::new(clock.clone()))),
            selectors: selectors.clone(),
        };
        let mut settings = super::Settings::new("mail.a.example".parse().unwrap());
        adjust(&mut settings);
        let metrics = Metrics::default();
        let directory = SharedDirectory::new(directory());
        let routing = SharedRouting::new(routing);
        let runner = Runner::new(queue.clone(), store.clone(), directory.clone(), routing.clone(), settings, ports, metrics.clone());
        let submitter = Submitter::new(queue.clone(), Arc::new(clock.clone()), random);
        Self { runner, queue, store, clock, world, submitter, metrics, selectors, directory, routing, policies, dmarc, accepted: 0, folder }
    }

    /// Another runner, which knows what is written down and nothing else.
    fn restart(&mut self) {
        let super::Inner { queue, store, directory, routing, settings, ports, metrics, .. } = self.runner.inner();
        let (queue, store, directory, routing) = (queue.clone(), store.clone(), directory.clone(), routing.clone());
        self.runner = Runner::new(queue, store, directory, routing, settings.clone(), ports.clone(), metrics.clone());
    }

    fn peer(&self) -> Peer {
        Peer::listen(&self.world, "192.0.2.1:25")
    }

    async fn submit(&mut self, recipients: &[&str]) -> Vec<QueueId> {
        self.submit_from("ann@a.example", recipients, |_| {}).await
    }

    async fn submit_from(&mut self, from: &str, recipients: &[&str], adjust: impl FnOnce(&mut Submission)) -> Vec<QueueId> {
        let path = |text: &str| Path::from(text.parse::<Address>().unwrap());
        let to = recipients.iter().map(|r| SubmissionRecipient { path: path(r), parameters: RcptParameters::default() }).collect();
        let message = Spool::from(format!("{HEADER}\r\n{BODY}").into_bytes());
        let mut submission = Submission {
            prefix: b"Received: by us\r\n".to_vec(),
            message_id: "<1@a.example>".to_owned(),
            subject: "hi".to_owned(),
            ..Submission::new("ann".to_owned(), (!from.is_empty()).then(|| path(from)), to, message)
        };
        adjust(&mut submission);
        self.accepted += recipients.len();
        self.submitter.submit(submission).await.unwrap().into_iter().map(|s| s.id).collect()
    }

    async fn run(&self) -> usize {
        self.runner.run_due().await.unwrap()
    }

    async fn queued(&self) -> Vec<Listed<Entry>> {
        self.queue.list(Filter::default(), Sort { ascending: true, ..Sort::default() }, Page::default()).await.unwrap()
    }

    async fn retired(&self) -> Vec<Listed<RetiredEntry>> {
        self.queue.list_retired(Filter::default(), Sort { ascending: true, ..Sort::default() }, Page::default()).await.unwrap()
    }

    /// The last result of the only entry that is queued or retired: code, enhanced code, error.
    async fn last_result(&self) -> (u16, String, String) {
        let queued = self.queued().await.into_iter().map(|l| l.results);
        let retired = self.retired().await.into_iter().map(|l| l.results);
        let all: Vec<_> = queued.chain(retired).collect();
        assert_eq!(all.len(), 1);
        let last = all[0].last().unwrap();
        (last.code, last.secode.clone(), last.error.clone())
    }

    /// The DSNs in an account's mailbox, oldest first.
    async fn dsns(&self, account: &str, mailbox: &str) -> Vec<String> {
        let account = self.store.account(account).await.unwrap();
        let Some(mailbox) = account.mailboxes().by_name(mailbox).map(|m| m.id) else { return vec![] };
        let view = account.view(mailbox).await.unwrap();
        let uids = view.uids();
        let messages = account.read(move |tx| peer::whole_messages(tx, mailbox, &uids)).await.unwrap();
        messages.into_iter().map(|m| String::from_utf8(m).unwrap()).collect()
    }

    /// accepted = delivered + bounced + queued, and nothing is left half done.
    async fn check_conservation(&self) {
        let queued = self.queued().await.len();
        let retired = self.retired().await;
        assert_eq!(self.accepted, queued + retired.len());
        let failed = retired.iter().filter(|r| !r.row.success).count();
        let told: usize = self.dsns("ann", "Inbox").await.iter().map(|d| d.matches("\nAction: failed").count()).sum();
        assert_eq!(failed, told, "every failure is told once");
        for listed in self.queued().await {
            assert!(listed.results.last().is_none_or(|r| !r.is_delivering()));
            assert!(listed.row.next_attempt > self.clock.now() || listed.row.hold);
        }
        assert_eq!(self.queue.check().await.unwrap().problems, Vec::<String>::new());
        let files = std::fs::read_dir(self.folder.path().join("queue")).unwrap().count();
        assert_eq!(files, 0, "small messages have no files");
    }
}
