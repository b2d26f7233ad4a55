//! The services of a running server, and what they share.

use super::directory::directory;
use super::expiry::Expiry;
use super::http::{Http, client_names};
use super::listeners::{Endpoint, Service};
use super::lock::{DataLock, lock};
use super::reports::Reports;
use super::routing::{World, routing};
use super::schedules::Schedules;
use super::selectors::selectors;
use super::startup::{Mode, Startup};
use super::tls::{self, Sources};
use super::{Life, accounts, acme, dnsbl, imap, mtasts, queue, reports, smtp, tickets, tls_policies, webhooks};
use crate::log::Log;
use mox_base::{Address, Clock, Domain, IpPrefix, Lookup, Random};
use mox_config::{Live, Snapshot};
use mox_delivery::blocklists::{BlocklistMetrics, Blocklists};
use mox_delivery::outbound::{Runner, SharedRouting};
use mox_delivery::tls::TlsMetrics;
use mox_httpd::{ClientNames, ConnectionLabels, Metrics, MtaSts};
use mox_logins::Logins;
use mox_mailauth::DkimSelector;
use mox_net::acme::Acme;
use mox_net::listen::{self, Serving};
use mox_net::metrics::NetMetrics;
use mox_net::resolver::ResolverLimits;
use mox_net::{Listener, Resolver, Stream, TcpDial};
use mox_smtpd::SharedSelectors;
use mox_store::Store;
use mox_store::credentials::Credentials;
use mox_store::directory::SharedDirectory;
use mox_store::queue::Queue;
use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, Semaphore};

/// The most connections served at once, over all services.
const CONNECTIONS: usize = 20_000;

/// How long an account stays open that nobody uses.
const ACCOUNT_IDLE: Duration = Duration::from_secs(60);

/// What the services share.
pub(super) struct Shared {
    pub(super) live: Arc<Live>,
    pub(super) log: Log,
    pub(super) data_dir: PathBuf,
    _lock: DataLock,
    pub(super) store: Store,
    pub(super) queue: Queue,
    pub(super) directory: SharedDirectory,
    pub(super) logins: Logins,
    pub(super) routing: SharedRouting,
    pub(super) schedules: Schedules,
    /// How proxies of transports are reached.
    world: World,
    credentials: Credentials,
    /// Reports sent and received; none in localserve.
    pub(super) reports: Option<Reports>,
    pub(super) selectors: SharedSelectors,
    /// Names under which mail clients may reach us.
    pub(super) client_names: ClientNames,
    /// Policies that we serve.
    pub(super) mtasts: MtaSts,
    /// Providers of certificates, by their names in the configuration.
    pub(super) acme: BTreeMap<String, Acme>,
    lookup: Arc<dyn Lookup>,
    life: Life,
    pub(super) metrics: Arc<Metrics>,
    pub(super) net_metrics: NetMetrics,
    pub(super) smtp_metrics: mox_smtpd::Metrics,
    /// Asks for a look at domains.conf.
    pub(super) reload_now: Notify,
    /// For localserve: who gets what nobody else gets.
    everything: Option<Address>,
    applying: tokio::sync::Mutex<()>,
}

impl Shared {
    /// Takes the current dynamic configuration into use. Accounts come first, so that no address leads to one that isn't there.
    pub(super) async fn apply(&self) -> Result<(), String> {
        // One after the other, or an older configuration could come last.
        let _applying = self.applying.lock().await;
        let snapshot = &self.live.snapshot();
        let settings = self.live.settings();
        let directory = directory(settings, snapshot, self.everything.clone()).map_err(|e| e.to_string())?;
        accounts::ensure(&self.store, settings, &snapshot.dynamic).await?;
        self.directory.replace(directory);
        self.selectors.replace(signing_selectors(snapshot));
        self.routing.replace(routing(settings, &snapshot.dynamic, &self.world));
        self.client_names.replace(client_names(&snapshot.dynamic));
        self.mtasts.replace(mtasts::policies(settings, &snapshot.dynamic));
        self.apply_hosts(snapshot);
        Ok(())
    }

    /// Tells providers of certificates for which hosts.
    fn apply_hosts(&self, snapshot: &Snapshot) {
        acme::apply(&self.acme, self.live.settings(), &snapshot.dynamic, &self.lookup, &self.life);
    }
}

/// Everything that runs.
pub(super) struct Services {
    pub(super) shared: Arc<Shared>,
    pub(super) runner: Runner,
    pub(super) sockets: Vec<(Service, SocketAddr)>,
}

impl Services {
    /// Opens the store and starts what serves.
    pub(super) async fn start(startup: Startup, clock: Arc<dyn Clock>, random: Arc<dyn Random>, life: &Life) -> Result<Self, String> {
        let schedules = Schedules::new(startup.settings(), startup.retry.as_deref());
        let Startup {
            mode, live, log, pedantic, data_dir, storage, endpoints, mut sockets, certs, checks_ask, acme: acme_settings, ..
        } = startup;
        let mut metrics = Metrics::new();
        let queue_metrics = mox_delivery::metrics::Metrics::default();
        queue_metrics.register(metrics.registry_mut());
        let webhook_metrics = mox_delivery::webhook::Metrics::default();
        webhook_metrics.register(metrics.registry_mut());
        log.counts.register(metrics.registry_mut());
        let smtp_metrics = mox_smtpd::Metrics::default();
        smtp_metrics.register(metrics.registry_mut());
        let blocklist_metrics = BlocklistMetrics::default();
        blocklist_metrics.register(metrics.registry_mut());
        let login_metrics = mox_logins::Metrics::default();
        login_metrics.register(metrics.registry_mut());
        let tls_metrics = TlsMetrics::default();
        tls_metrics.register(metrics.registry_mut());
        let report_metrics = reports::Metrics::default();
        report_metrics.register(metrics.registry_mut());
        let webapi_metrics = mox_httpd::webapi::Metrics::default();
        webapi_metrics.register(metrics.registry_mut());
        let lookup = Resolver::system(ResolverLimits::default()).map_err(|e| format!("setting up DNS: {e}"))?;
        let lookup: Arc<dyn Lookup> = Arc::new(lookup);
        let net_metrics = NetMetrics::default();
        net_metrics.register(metrics.registry_mut());
        let expiry = Expiry::default();
        expiry.register(metrics.registry_mut());
        let lookup_of = |pkg| net_metrics.lookup_of(pkg, &lookup);
        let block_lists = mox_probe::dnsbl::Monitor::new(lookup_of("dnsbl"), metrics.registry_mut());
        let acme_metrics = acme::metrics(metrics.registry_mut());
        let metrics = Arc::new(metrics);

        let lock = lock(&data_dir).await?;
        let store = Store::open(storage, clock, random).await.map_err(|e| format!("opening store: {e}"))?;
        let queue = store.queue().await.map_err(|e| format!("opening queue: {e}"))?;
        let snapshot = live.snapshot();
        let everything = match mode {
            Mode::Serve => None,
            Mode::Localserve { .. } => "mox@localhost".parse::<Address>().ok(),
        };
        let directory = directory(live.settings(), &snapshot, everything.clone()).map_err(|e| e.to_string())?;
        accounts::ensure(&store, live.settings(), &snapshot.dynamic).await?;
        close_idle_accounts(store.clone(), life);
        let directory = SharedDirectory::new(directory);
        let credentials = Credentials::open(&store).await.map_err(|e| format!("opening credentials: {e}"))?;
        let spared = &live.settings().rate_limit_exempt_networks;
        let logins = Logins::sparing(spared, store.clone(), credentials.clone(), directory.clone(), login_metrics, life.background.clone());

        let evaluate = !live.settings().no_outgoing_dmarc_reports;
        let reports = Reports::open(&store, mode, evaluate, report_metrics).await?;
        let ticket_keys = match &reports {
            Some(reports) => Some(tickets::start(reports, store.clock(), life).await?),
            None => None,
        };
        let world = World { lookup: lookup_of("queue"), dial: Arc::new(TcpDial::default()) };
        let providers = acme::open(acme_settings, &live, &store, (&lookup_of("autotls"), &net_metrics), acme_metrics, life)?;
        expiry.watch(&certs, &providers);
        let shared = Arc::new(Shared {
            live: Arc::clone(&live),
            log,
            data_dir,
            _lock: lock,
            store,
            queue,
            directory,
            routing: SharedRouting::new(routing(live.settings(), &snapshot.dynamic, &world)),
            schedules,
            world,
            logins,
            credentials,
            reports,
            selectors: SharedSelectors::new(signing_selectors(&snapshot)),
            client_names: ClientNames::default(),
            mtasts: MtaSts::default(),
            acme: providers,
            lookup: lookup_of("autotls"),
            life: life.clone(),
            metrics: Arc::clone(&metrics),
            net_metrics: net_metrics.clone(),
            smtp_metrics,
            reload_now: Notify::new(),
            everything,
            applying: tokio::sync::Mutex::new(()),
        });
        shared.client_names.replace(client_names(&snapshot.dynamic));
        shared.mtasts.replace(mtasts::policies(live.settings(), &snapshot.dynamic));
        shared.apply_hosts(&snapshot);
        tls::watch_files(&shared, certs.clone(), life);
        let connections = Arc::new(Semaphore::new(CONNECTIONS));
        let serving = Serving { tracker: life.connections.clone(), stop: life.stop.clone(), connections };
        let imap = imap::service(&shared, mode, life.stop.clone());
        let arrivals = webhooks::arrivals(&shared);
        let (telling, finish) = (arrivals.clone(), life.finish.clone());
        life.background.spawn(async move { telling.run(finish).await });
        let checks_ask = checks_ask.map_or_else(|| lookup_of("smtpserver"), |offline| Arc::new(offline) as Arc<dyn Lookup>);
        let blocklists = Blocklists::new(lookup_of("dnsbl"), Arc::clone(shared.store.clock()), blocklist_metrics);
        let parts = smtp::Parts { blocklists, arrivals, lookup: checks_ask, stop: life.stop.clone() };
        let smtp = smtp::service(&shared, mode, pedantic, parts)?;
        let http = Http::new(&shared, mode, webapi_metrics, life)?;
        let mut listening = Vec::new();
        for endpoint in endpoints {
            let sources = Sources { files: &certs, providers: &shared.acme, tickets: ticket_keys.as_ref() };
            let tls = tls::of_socket(shared.live.settings(), sources, &endpoint).map_err(|e| e.to_string())?;
            let listener = sockets.listener(endpoint.addr).map_err(|e| e.to_string())?;
            let addr = listener.local_addr();
            tracing::info!(service = %endpoint.service, listener = endpoint.listener, %addr, "listening");
            listening.push((endpoint.service, addr));
            let proxies =
                shared.live.settings().listeners.get(&endpoint.listener).map(|l| l.proxy_protocol_networks.clone()).unwrap_or_default();
            match endpoint.service {
                Service::Smtp | Service::Submission | Service::Submissions => {
                    let socket = smtp.listener(smtp::listener(shared.live.settings(), &endpoint, tls));
                    let (smtp, metrics) = (Arc::clone(&smtp), Arc::clone(&metrics));
                    let kind = if endpoint.service == Service::Smtp { "smtp" } else { "submission" };
                    accept(listener, (&endpoint, &proxies), &serving, life, &shared.metrics, move |stream| {
                        metrics.smtp_connection(kind);
                        let guard = PanicGuard(Arc::clone(&metrics));
                        let connection = Arc::clone(&smtp).connection(Arc::clone(&socket), stream);
                        async move {
                            connection.await;
                            drop(guard);
                        }
                    });
                }
                Service::Imap | Service::Imaps => {
                    let socket = imap::listener(shared.live.settings(), &endpoint, tls);
                    let imap = Arc::clone(&imap);
                    accept(listener, (&endpoint, &proxies), &serving, life, &metrics, move |stream| {
                        mox_imapd::serve(stream, Arc::clone(&imap), Arc::clone(&socket), None)
                    });
                }
                Service::Http | Service::Https | Service::Metrics => {
                    let site = Arc::new(http.site(&shared, &endpoint, tls));
                    let server = Arc::clone(&http.server);
                    accept(listener, (&endpoint, &proxies), &serving, life, &metrics, move |stream| {
                        Arc::clone(&server).connection(Arc::clone(&site), stream)
                    });
                }
            }
        }
        for acme in shared.acme.values() {
            life.background.spawn(acme.clone().run());
        }
        let local = listening.iter().find(|(service, _)| *service == Service::Smtp).map(|(_, addr)| *addr);
        let webhooks = webhooks::runner(&shared, lookup_of("webhook"), mode, webhook_metrics)?;
        let finish = life.finish.clone();
        life.background.spawn(async move { webhooks.run(finish).await });
        dnsbl::watch(&shared, block_lists, mode, queue_metrics.clone(), life);
        let policies = tls_policies::start(&shared, lookup_of, tls_metrics, life)?;
        let runner = queue::runner(&shared, lookup_of("queue"), mode, local, pedantic, queue_metrics, policies)?;
        let (running, finish) = (runner.clone(), life.finish.clone());
        life.background.spawn(async move { running.run(finish).await });
        Ok(Self { shared, runner, sockets: listening })
    }

    /// Lets background work end that waits for us.
    pub(super) fn finish(&self) {
        self.shared.logins.close();
    }

    /// Ends what has a state of its own.
    pub(super) async fn close(self) {
        self.shared.queue.close().await;
        if let Some(reports) = &self.shared.reports {
            reports.close().await;
        }
        self.shared.credentials.close().await;
        self.shared.store.close().await;
    }
}

/// Counts panics of SMTP connections: each ends one connection, and no other.
struct PanicGuard(Arc<Metrics>);

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.panicked("smtpserver");
        }
    }
}

/// The DKIM keys of domains.
fn signing_selectors(snapshot: &Snapshot) -> BTreeMap<Domain, Arc<[DkimSelector]>> {
    let (selectors, problems) = selectors(snapshot);
    for problem in problems {
        tracing::warn!(problem, "configuration");
    }
    selectors
}

/// Lets go of accounts that nobody uses.
fn close_idle_accounts(store: Store, life: &Life) {
    let finish = life.finish.clone();
    life.background.spawn(async move {
        loop {
            tokio::select! {
                () = finish.cancelled() => return,
                () = tokio::time::sleep(ACCOUNT_IDLE) => store.close_idle(ACCOUNT_IDLE).await,
            }
        }
    });
}

/// Accepts connections of a service, each with a task that ends when it has served or when everything is cut off.
pub(super) fn accept<F>(
    listener: Listener,
    (endpoint, proxies): (&Endpoint, &[IpPrefix]),
    serving: &Serving,
    life: &Life,
    metrics: &Arc<Metrics>,
    serve: impl Fn(Stream) -> F + Send + Sync + 'static,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let labels = ConnectionLabels { protocol: endpoint.service.to_string(), listener: endpoint.listener.clone() };
    let (cut, metrics) = (life.cut.clone(), Arc::clone(metrics));
    let (serve, proxies): (_, Arc<[IpPrefix]>) = (Arc::new(serve), proxies.into());
    let handle = move |mut stream: Stream| {
        let (serve, cut, open) = (Arc::clone(&serve), cut.clone(), metrics.open_connection(&labels));
        let is_proxy = proxies.iter().any(|network| network.contains(stream.remote_addr().ip()));
        async move {
            if is_proxy {
                let proxy = stream.remote_addr();
                stream = match Box::pin(stream.proxied()).await {
                    Ok(stream) => stream,
                    Err(error) => {
                        tracing::info!(%error, %proxy, "connection of a proxy without a client");
                        return;
                    }
                };
            }
            tokio::select! {
                () = serve(stream) => {}
                () = cut.cancelled() => {}
            }
            drop(open);
        }
    };
    life.connections.spawn(listen::serve(listener, serving.clone(), handle));
}
