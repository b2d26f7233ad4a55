//! Reports, sent and received: what other domains are told of their mail, and what they tell us of ours.

use super::services::Shared;
use super::{Life, Mode};
use crate::ctl::{Output, ReportTask};
use mox_base::{Domain, Lookup};
use mox_delivery::dmarc::{DmarcReportSender, DmarcSenderMetrics, Evaluations};
use mox_delivery::inbound::{ReceivedReports, ReportMetrics};
use mox_delivery::reports::{DeadAddresses, ReportSettings, Reporter, ReporterParts};
use mox_delivery::submit::Submitter;
use mox_delivery::tls::{ReportSender, TlsPolicies};
use mox_net::http::{AddressGuard, Client};
use mox_net::{ClientTls, TcpDial};
use mox_store::Store;
use mox_store::dmarc::DmarcStore;
use mox_store::reports::ReportFilter;
use mox_store::tls::TlsStore;
use std::fmt::Write as _;
use std::sync::{Arc, OnceLock};

/// What is kept, and what works on it.
pub(super) struct Reports {
    pub(super) dmarc: DmarcStore,
    pub(super) tls: TlsStore,
    pub(super) evaluations: Arc<Evaluations>,
    pub(super) received: ReceivedReports,
    pub(super) dead: DeadAddresses,
    dmarc_metrics: DmarcSenderMetrics,
    senders: OnceLock<(DmarcReportSender, ReportSender)>,
}

/// What is counted of reports.
#[derive(Clone, Default)]
pub(super) struct Metrics {
    received: ReportMetrics,
    dmarc: DmarcSenderMetrics,
}

impl Metrics {
    pub(super) fn register(&self, registry: &mut prometheus_client::registry::Registry) {
        self.received.register(registry);
        self.dmarc.register(registry);
    }
}

impl Reports {
    /// Opens the databases; none for localserve, which neither sends reports nor gets any.
    ///
    /// # Errors
    /// A text for the operator.
    pub(super) async fn open(store: &Store, mode: Mode, evaluate: bool, metrics: Metrics) -> Result<Option<Self>, String> {
        if mode != Mode::Serve {
            return Ok(None);
        }
        let dmarc = DmarcStore::open(store).await.map_err(|e| format!("opening database of DMARC reports: {e}"))?;
        let tls = TlsStore::open(store).await.map_err(|e| format!("opening database of TLS policies: {e}"))?;
        let clock = store.clock();
        Ok(Some(Self {
            evaluations: Arc::new(Evaluations::new(dmarc.clone(), Arc::clone(clock), evaluate)),
            received: ReceivedReports::new(dmarc.clone(), tls.clone(), Arc::clone(clock), metrics.received),
            dead: DeadAddresses::new(&dmarc, &tls, Arc::clone(clock)),
            dmarc,
            tls,
            dmarc_metrics: metrics.dmarc,
            senders: OnceLock::new(),
        }))
    }

    /// Starts what sends reports, as far as the configuration wants it.
    ///
    /// # Errors
    /// A text for the operator.
    pub(super) fn start(&self, shared: &Shared, lookup: &Arc<dyn Lookup>, policies: &Arc<TlsPolicies>, life: &Life) -> Result<(), String> {
        let fixed = shared.live.settings();
        let (clock, random) = (shared.store.clock(), shared.store.random());
        let parts = ReporterParts {
            submitter: Submitter::new(shared.queue.clone(), Arc::clone(clock), Arc::clone(random)),
            directory: shared.directory.clone(),
            selectors: shared.selectors.clone(),
            clock: Arc::clone(clock),
            random: Arc::clone(random),
        };
        let settings = ReportSettings {
            hostname: fixed.hostname.domain().clone(),
            account: fixed.postmaster.account.clone(),
            user_agent: concat!("mox/", env!("CARGO_PKG_VERSION")).to_owned(),
        };
        let reporter = Reporter::new(parts, settings);
        // RFC 8460 §3: a report about certificates must not need a valid one.
        let tls = ClientTls::opportunistic().map_err(|e| format!("setting up TLS: {e}"))?;
        let client = Client::new(Arc::clone(lookup), Arc::new(TcpDial::default()), tls, AddressGuard::public_only())
            .counted(&shared.net_metrics, "tlsrptsend");
        let tls_sender =
            ReportSender::new(Arc::clone(policies), reporter.clone(), fixed.outgoing_tls_reports_for_all_success).with_client(client);
        let dmarc_sender = DmarcReportSender::new(Arc::clone(&self.evaluations), reporter, Arc::clone(lookup), self.dmarc_metrics.clone());
        let (gathering, stop) = (Arc::clone(&self.evaluations), life.finish.clone());
        life.background.spawn(async move { gathering.run(stop).await });
        if !fixed.no_outgoing_dmarc_reports {
            let (sending, stop) = (dmarc_sender.clone(), life.finish.clone());
            life.background.spawn(async move { sending.run(stop).await });
        }
        if !fixed.no_outgoing_tls_reports {
            let (sending, stop) = (tls_sender.clone(), life.finish.clone());
            life.background.spawn(async move { sending.run(stop).await });
        }
        // Started once.
        let _first = self.senders.set((dmarc_sender, tls_sender));
        Ok(())
    }

    pub(super) async fn close(&self) {
        self.dmarc.close().await;
        self.tls.close().await;
    }
}

/// Does it and says what was done.
pub(super) async fn perform(shared: &Shared, task: ReportTask, out: &mut Output) -> Result<(), String> {
    let reports = shared.reports.as_ref().ok_or("localserve has no reports")?;
    let failed = |e: mox_store::Error| e.to_string();
    let directory = shared.directory.current();
    let mut text = String::new();
    let filter = |domain: &str| -> Result<ReportFilter, String> {
        let domain = Some(domain).filter(|d| !d.is_empty()).map(|d| d.parse::<Domain>().map_err(|e| format!("{d}: {e}"))).transpose()?;
        Ok(ReportFilter { domain: domain.map(|d| d.ascii().to_owned()), limit: 1000, ..ReportFilter::default() })
    };
    match task {
        ReportTask::AddDmarc { from_domain, message } => {
            let from: Domain = from_domain.parse().map_err(|e| format!("{from_domain}: {e}"))?;
            if !reports.received.add_dmarc(&directory, message.as_bytes(), &from).await? {
                text.push_str("the report is there already\n");
            }
        }
        ReportTask::AddTls { from_domain, message } => {
            let from: Domain = from_domain.parse().map_err(|e| format!("{from_domain}: {e}"))?;
            if reports.received.add_tls(&directory, message.as_bytes(), &from).await? == 0 {
                text.push_str("the report is there already\n");
            }
        }
        ReportTask::ListDmarc { domain } => {
            for found in reports.dmarc.reports(filter(&domain)?).await.map_err(failed)? {
                let (r, c) = (&found.report, &found.report.counts);
                // Writing to a String can't fail.
                let _written = writeln!(
                    text,
                    "{} {} from {} ({:?}) about {} to {}: {} messages, {} quarantined, {} rejected",
                    found.id,
                    r.domain,
                    r.from_domain,
                    r.organization,
                    r.begin.rfc3339(),
                    r.end.rfc3339(),
                    c.total,
                    c.quarantine,
                    c.reject
                );
            }
        }
        ReportTask::ListTls { domain } => {
            for found in reports.tls.reports(filter(&domain)?).await.map_err(failed)? {
                let r = &found.report;
                let kind = if r.host_report { "host " } else { "" };
                let _written = writeln!(
                    text,
                    "{} {kind}{} from {} about {} to {}: {} sessions, {} failed",
                    found.id,
                    r.domain,
                    r.from_domain,
                    r.begin.rfc3339(),
                    r.end.rfc3339(),
                    r.success.saturating_add(r.failure),
                    r.failure
                );
            }
        }
        ReportTask::SendDmarc => {
            let (dmarc, _) = reports.senders.get().ok_or("not started yet")?;
            let queued = dmarc.send_all().await.map_err(failed)?;
            let _written = writeln!(text, "{queued} report(s) queued");
        }
        ReportTask::SendTls => {
            let (_, tls) = reports.senders.get().ok_or("not started yet")?;
            let queued = tls.send_all().await.map_err(failed)?;
            let _written = writeln!(text, "{queued} report(s) queued");
        }
    }
    out.write(text.as_bytes()).await
}
