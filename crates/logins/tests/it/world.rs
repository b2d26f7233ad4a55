//! Accounts with passwords in a store in a temporary folder.

use mox_base::{Random, Secret};
use mox_logins::{Logins, Metrics};
use mox_store::Store;
use mox_store::credentials::{Credentials, LoginRecord};
use mox_store::directory::{AccountSettings, Destination, DestinationKey, Directory, DomainSettings, MailboxOf, Settings, SharedDirectory};
use mox_testkit::{SeededRandom, VirtualClock};
use prometheus_client::registry::Registry;
use std::sync::Arc;
use tokio_util::task::TaskTracker;

pub(crate) struct World {
    pub(crate) logins: Logins,
    pub(crate) clock: VirtualClock,
    pub(crate) store: Store,
    credentials: Credentials,
    registry: Registry,
    tasks: TaskTracker,
    _folder: tempfile::TempDir,
}

impl World {
    /// `ann` and `shut`, who may not log in, with the password `password`; `bare` without one.
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = VirtualClock::default();
        let random: Arc<dyn Random> = Arc::new(SeededRandom::default());
        let store = Store::open(mox_store::Settings::sqlite(folder.path()), Arc::new(clock.clone()), random).await.unwrap();
        let credentials = Credentials::open(&store).await.unwrap();
        for name in ["ann", "shut", "bare"] {
            let id = store.ensure_account(name, &[]).await.unwrap().id();
            if name != "bare" {
                credentials.set_password(id, &Secret::new("password".to_owned())).await.unwrap();
            }
        }
        let (metrics, mut registry, tasks) = (Metrics::default(), Registry::default(), TaskTracker::new());
        metrics.register(&mut registry);
        let directory = SharedDirectory::new(directory());
        let logins = Logins::new(store.clone(), credentials.clone(), directory, metrics, tasks.clone());
        Self { logins, clock, store, credentials, registry, tasks, _folder: folder }
    }

    pub(crate) fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text
    }

    /// What was recorded; nothing is any more.
    pub(crate) async fn records(&self) -> Vec<LoginRecord> {
        self.logins.close();
        self.tasks.close();
        self.tasks.wait().await;
        self.logins.attempts(None, 100).await.unwrap()
    }

    pub(crate) async fn close(self) {
        self.records().await;
        self.credentials.close().await;
        self.store.close().await;
    }
}

fn directory() -> Directory {
    let domain = "mox.example".parse::<mox_base::Domain>().unwrap();
    let account = |settings: AccountSettings, addresses: &[&str]| {
        let key = |address: &&str| (DestinationKey::Address(address.parse().unwrap()), Destination::default());
        (settings, addresses.iter().map(key).collect::<Vec<_>>())
    };
    Directory::new(Settings {
        hostname: domain.clone(),
        listener_hostnames: Vec::new(),
        postmaster: MailboxOf { account: "ann".into(), mailbox: "Inbox".into() },
        host_tls_reports: None,
        domains: vec![DomainSettings { separators: vec!["+".to_owned()], ..DomainSettings::new(domain) }],
        accounts: vec![
            account(AccountSettings::new("ann"), &["ann@mox.example", "änn@mox.example"]),
            account(
                AccountSettings { login_disabled: Some("gone fishing".to_owned()), ..AccountSettings::new("shut") },
                &["shut@mox.example"],
            ),
            account(AccountSettings::new("bare"), &["bare@mox.example"]),
        ],
        everything: None,
    })
    .unwrap()
}
